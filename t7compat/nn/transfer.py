"""Smooth transfer functions: the same function of every element, or of every column."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.module import TensorLayer
from t7compat.nn.shapes import axis, describe, expect, plane_axis, zero_based
from t7compat.nn.stepping import ANY_DIMS

Tensor = torch.Tensor
Native = functools.partial[Any]


def flag(inplace: bool | None) -> bool:
    """The flag `inplace` of a layer.

    Torch7 then overwrites the input; here the flag is kept, and the input is left alone.
    """
    if not isinstance(inplace, bool | None):
        raise InputError(f"expected true or false as in-place flag, got {describe(inplace)}")
    return bool(inplace)


# ---- sigmoids


class Sigmoid(TensorLayer):
    """1 / (1 + exp(-x)).  any shape -> same shape"""

    row_dims = ANY_DIMS

    def compute(self, input: Tensor) -> Tensor:
        return torch.sigmoid(input)

    def native(self) -> Native:
        return functools.partial(torch.nn.Sigmoid)


class LogSigmoid(TensorLayer):
    """log(1 / (1 + exp(-x))).  any shape -> same shape"""

    row_dims = ANY_DIMS
    scratch = ("buffer",)

    def compute(self, input: Tensor) -> Tensor:
        return F.logsigmoid(input)

    def native(self) -> Native:
        return functools.partial(torch.nn.LogSigmoid)


class GatedLinearUnit(TensorLayer):
    """a / (1 + exp(-b)) for the halves a and b of dimension `dim`.  (..., 2 n, ...) -> (..., n, ...)

    `dim` counts from 1, the batch included; without it, the last one is halved.  Dauphin et al., 2016.
    """

    dim: int | None = None

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)

    def compute(self, input: Tensor) -> Tensor:
        return F.glu(input, -1 if self.dim is None else axis(self.dim, input.dim()))

    def explain(self, input: Any) -> None:
        which = input.dim() if self.dim is None else self.dim
        if input.shape[axis(which, input.dim())] % 2:
            raise InputError(f"expected an even size of dimension {which}, got {describe(input)}")

    def native(self) -> Native:
        dim = self.dim or -1
        return functools.partial(torch.nn.GLU, dim if dim < 0 else zero_based(dim))


class Tanh(TensorLayer):
    """tanh x.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def compute(self, input: Tensor) -> Tensor:
        return torch.tanh(input)

    def native(self) -> Native:
        return functools.partial(torch.nn.Tanh)


class TanhShrink(TensorLayer):
    """x - tanh x.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def __init__(self) -> None:
        super().__init__(tanh=Tanh())

    def compute(self, input: Tensor) -> Tensor:
        return F.tanhshrink(input)

    def native(self) -> Native:
        return functools.partial(torch.nn.Tanhshrink)


class SoftSign(TensorLayer):
    """x / (1 + |x|).  any shape -> same shape"""

    row_dims = ANY_DIMS
    scratch = ("temp", "tempgrad")

    def compute(self, input: Tensor) -> Tensor:
        return F.softsign(input)

    def native(self) -> Native:
        return functools.partial(torch.nn.Softsign)


class SoftPlus(TensorLayer):
    """log(1 + exp(beta x)) / beta; x where beta x is above `threshold`.  any shape -> same shape"""

    row_dims = ANY_DIMS
    threshold: float = 20

    def __init__(self, beta: float = 1) -> None:
        super().__init__(beta=beta, threshold=20)

    def compute(self, input: Tensor) -> Tensor:
        return F.softplus(input, self.beta, self.threshold)

    def native(self) -> Native:
        return functools.partial(torch.nn.Softplus, self.beta, self.threshold)


# ---- powers, logarithms, products and sums


class Exp(TensorLayer):
    """exp x.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def compute(self, input: Tensor) -> Tensor:
        return torch.exp(input)


class Log(TensorLayer):
    """log x.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def compute(self, input: Tensor) -> Tensor:
        return torch.log(input)


class Power(TensorLayer):
    """x to the power `pow`.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def __init__(self, pow: float) -> None:
        super().__init__(pow=pow)

    def compute(self, input: Tensor) -> Tensor:
        return torch.pow(input, self.pow)


class Square(TensorLayer):
    """x^2.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def compute(self, input: Tensor) -> Tensor:
        return torch.square(input)


class Sqrt(TensorLayer):
    """The square root of x, of slope 0 at 0.  any shape -> same shape

    As in Torch7, `eps` is kept but has no effect.
    """

    row_dims = ANY_DIMS
    eps: float = 0

    def __init__(self, eps: float = 0) -> None:
        super().__init__(eps=eps)

    def compute(self, input: Tensor) -> Tensor:
        zero = input == 0
        return torch.sqrt(input.masked_fill(zero, 1)).masked_fill(zero, 0)


class AddConstant(TensorLayer):
    """x + c.  any shape -> same shape, or (n) and (batch, n) for a vector c of n elements"""

    row_dims = ANY_DIMS

    def __init__(self, constant_scalar: float | Tensor, inplace: bool = False) -> None:
        super().__init__(constant_scalar=constant_scalar, inplace=flag(inplace))

    def compute(self, input: Tensor) -> Tensor:
        return input + self.constant_scalar

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        if isinstance(self.constant_scalar, Tensor):
            expect(input, 1, 2, size=len(self.constant_scalar), like=self.constant_scalar)


class MulConstant(TensorLayer):
    """c x.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def __init__(self, constant_scalar: float, inplace: bool = False) -> None:
        if not isinstance(constant_scalar, int | float):
            raise InputError(f"nn.MulConstant: expected a number, got {describe(constant_scalar)}")
        super().__init__(constant_scalar=constant_scalar, inplace=flag(inplace))

    def compute(self, input: Tensor) -> Tensor:
        return input * self.constant_scalar


# ---- functions of columns


class Columns(TensorLayer, typename=""):
    """The base of the functions of columns.  (n), (batch, n), (n, h, w) or (batch, n, h, w) -> same shape"""

    dims = 1, 2, 3, 4


class SoftMax(Columns):
    """exp(x) / sum(exp(x)), along n.  (n), (batch, n), (n, h, w) or (batch, n, h, w) -> same shape"""

    row_dims = 1, 3

    def compute(self, input: Tensor) -> Tensor:
        return torch.softmax(input, plane_axis(input.dim()))

    def native(self) -> Native:
        return functools.partial(torch.nn.Softmax, dim=1)


class SpatialSoftMax(SoftMax):
    """SoftMax over the planes at each place: the same as nn.SoftMax, which takes planes, too."""


class SoftMin(Columns):
    """SoftMax(-x).  (n), (batch, n), (n, h, w) or (batch, n, h, w) -> same shape"""

    row_dims = 1, 3
    scratch = ("mininput",)

    def compute(self, input: Tensor) -> Tensor:
        return F.softmin(input, plane_axis(input.dim()))

    def native(self) -> Native:
        return functools.partial(torch.nn.Softmin, dim=1)


class LogSoftMax(Columns):
    """log SoftMax(x).  (n), (batch, n), (n, h, w) or (batch, n, h, w) -> same shape"""

    row_dims = 1, 3

    def compute(self, input: Tensor) -> Tensor:
        return torch.log_softmax(input, plane_axis(input.dim()))

    def native(self) -> Native:
        return functools.partial(torch.nn.LogSoftmax, dim=1)


class SpatialLogSoftMax(LogSoftMax):
    """LogSoftMax over the planes at each place: the same as nn.LogSoftMax, which takes planes, too."""
