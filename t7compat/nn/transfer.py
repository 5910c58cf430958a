"""Transfer functions: the same function of every element, or of every column."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.shapes import expect
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor
Native = functools.partial[Any]


class Transfer(Module, typename=""):
    """The base of the transfer functions: they take a tensor of their own type."""

    def prepare(self, input: Any) -> None:
        expect(input, like=self.output)


class Sigmoid(Transfer):
    """1 / (1 + exp(-x)).  any shape -> same shape"""

    def compute(self, input: Tensor) -> Tensor:
        return torch.sigmoid(input)

    def native(self) -> Native:
        return functools.partial(torch.nn.Sigmoid)


class Tanh(Transfer):
    """tanh x.  any shape -> same shape"""

    def compute(self, input: Tensor) -> Tensor:
        return torch.tanh(input)

    def native(self) -> Native:
        return functools.partial(torch.nn.Tanh)


class HardTanh(Transfer):
    """x, but at least min_val and at most max_val.  any shape -> same shape

    Torch7 can overwrite the input (`inplace`); here the flag is kept, and the input is left alone.
    """

    min_val: float = -1
    max_val: float = 1

    def __init__(self, min_value: float = -1, max_value: float = 1, inplace: bool = False) -> None:
        if max_value <= min_value:
            raise InputError(
                f"nn.HardTanh: expected max_value above min_value, got {min_value} and {max_value}"
            )
        super().__init__(min_val=min_value, max_val=max_value, inplace=bool(inplace))

    def compute(self, input: Tensor) -> Tensor:
        return F.hardtanh(input, self.min_val, self.max_val)

    def native(self) -> Native:
        return functools.partial(torch.nn.Hardtanh, self.min_val, self.max_val)


class Threshold(Transfer):
    """x where it is above `threshold`, else `val`.  any shape -> same shape"""

    def __init__(self, threshold: float = 1e-6, value: float = 0, inplace: bool = False) -> None:
        if inplace and value > threshold:
            raise InputError(
                f"nn.Threshold: expected a value up to the threshold ({threshold:g}) in place, got {value:g}"
            )
        super().__init__(threshold=threshold, val=value, inplace=bool(inplace))

    def compute(self, input: Tensor) -> Tensor:
        return F.threshold(input, self.threshold, self.val)

    def native(self) -> Native:
        return functools.partial(torch.nn.Threshold, self.threshold, self.val)


class ReLU(Threshold):
    """max(x, 0).  any shape -> same shape"""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0, 0, inplace)

    def compute(self, input: Tensor) -> Tensor:
        return torch.relu(input)

    def native(self) -> Native:
        return functools.partial(torch.nn.ReLU)


class PReLU(Module):
    """x where it is positive, else w x.  any shape -> same shape

    There is one w for each plane, or (nOutputPlane 0) one for all.  The planes are along dimension 1 of a
    vector, and along dimension 2 of anything else.  He et al., 2015.
    """

    parameter_names = ("weight",)
    scratch = ("gradWeightBuf", "gradWeightBuf2")

    def __init__(self, nOutputPlane: int | None = None) -> None:
        count = nOutputPlane or 1
        super().__init__(
            nOutputPlane=nOutputPlane or 0, weight=new_tensor(count).fill_(0.25), gradWeight=new_tensor(count)
        )

    def compute(self, input: Tensor, weight: Tensor) -> Tensor:
        batch = input if input.dim() > 1 else input[None]
        return F.prelu(batch, weight).reshape(input.shape)

    def prepare(self, input: Any) -> None:
        expect(input, like=self.weight)
        if self.nOutputPlane:
            expect(input, size=self.nOutputPlane, at=min(1, input.dim() - 1))

    def native(self) -> Native:
        return functools.partial(torch.nn.PReLU, self.weight.numel())


class SoftMax(Module):
    """exp(x) / sum(exp(x)), along n.  (n), (batch, n), (n, h, w) or (batch, n, h, w) -> same shape"""

    def compute(self, input: Tensor) -> Tensor:
        return torch.softmax(input, (input.dim() + 1) % 2)

    def prepare(self, input: Tensor) -> None:
        expect(input, 1, 2, 3, 4, like=self.output)

    def native(self) -> Native:
        return functools.partial(torch.nn.Softmax, dim=1)


class LogSoftMax(Module):
    """log SoftMax(x).  (n), (batch, n), (n, h, w) or (batch, n, h, w) -> same shape"""

    def compute(self, input: Tensor) -> Tensor:
        return torch.log_softmax(input, (input.dim() + 1) % 2)

    def prepare(self, input: Tensor) -> None:
        expect(input, 1, 2, 3, 4, like=self.output)

    def native(self) -> Native:
        return functools.partial(torch.nn.LogSoftmax, dim=1)
