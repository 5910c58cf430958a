"""Small layers of the rnn package."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from t7compat.nn.embedding import LookupTable
from t7compat.nn.module import Module
from t7compat.nn.shapes import expect_pair, one_based, zero_based
from t7compat.nn.shaping import Identity
from t7compat.nn.stepping import ANY_DIMS
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class SAdd(Module):
    """x + addend, or (`negate`) -(x + addend).  any shape -> same shape"""

    row_dims = ANY_DIMS
    negate: bool | None = None

    def __init__(self, addend: float, negate: bool | None = None) -> None:
        super().__init__(addend=addend, negate=negate)

    def compute(self, input: Tensor) -> Any:
        output = input + self.addend
        return -output if self.negate else output


class CopyGrad(Identity):
    """y = x; the gradient that goes back is a copy.  For anything."""


class ExpandAs(Module):
    """{x, y} -> {x, y expanded to the shape of x}"""

    scratch = ("sum1", "sum2")

    def __init__(self) -> None:
        super().__init__(sum1=new_tensor(), sum2=new_tensor())
        self.output, self.gradInput = Table(), Table()

    def compute(self, input: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = input
        return x, y.expand_as(x)

    def prepare(self, input: Any) -> None:
        expect_pair(input)


class LookupTableMaskZero(LookupTable):
    """LookupTable of nIndex rows for the indices 0..nIndex; the row for 0 is all zeros.

    It is row 1 of the weight, and set to zero before each forward; it gets a gradient all the same.
    """

    row_dims = LookupTable.row_dims

    def __init__(self, nIndex: int, nOutput: int) -> None:
        super().__init__(nIndex + 1, nOutput)

    def compute(self, input: Tensor, weight: Tensor) -> Tensor:
        padding = zero_based(self.paddingValue) if 0 < self.paddingValue <= len(weight) else None
        norm, by_frequency = self.normType or 2, bool(self.shouldScaleGradByFreq)
        return F.embedding(input.long(), weight, padding, self.maxNorm, norm, by_frequency)

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        self.weight[:1] = 0

    def explain(self, input: Any) -> None:
        super().explain(one_based(input))
