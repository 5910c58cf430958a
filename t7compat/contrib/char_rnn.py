"""karpathy/char-rnn, and the projects that took over its OneHot: neuraltalk2, word-rnn, ..."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.formats import Cast
from t7compat.nn.shapes import expect, zero_based
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class OneHot(Cast, typename="OneHot"):
    """For each index i of 1..outputSize, a row with 1 at place i.  (n) -> (n, outputSize)

    The indices may be a tensor of any type.  There is no gradient: gradInput stays empty.
    """

    ends_gradient = True

    def __init__(self, outputSize: int) -> None:
        super().__init__(outputSize=outputSize, _eye=torch.eye(outputSize, out=new_tensor()))

    def compute(self, input: Tensor) -> Tensor:
        return F.one_hot(zero_based(input), self.outputSize).to(self.kind)

    def prepare(self, input: Any) -> None:
        expect(input, 1)

    def explain(self, input: Tensor) -> None:
        wrong = input[(input < 1) | (input > self.outputSize)]
        if wrong.numel():
            raise InputError(f"expected indices from 1 to {self.outputSize}, got {wrong[0].item():g}")
