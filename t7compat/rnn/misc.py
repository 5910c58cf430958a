"""Small layers of the rnn package."""

from __future__ import annotations

from typing import Any

import torch

from t7compat.nn.module import Module


class SAdd(Module):
    """x + addend, or (`negate`) -(x + addend).  any shape -> same shape"""

    negate: bool | None = None

    def __init__(self, addend: float, negate: bool | None = None) -> None:
        super().__init__(addend=addend, negate=negate)

    def compute(self, input: torch.Tensor) -> Any:
        output = input + self.addend
        return -output if self.negate else output
