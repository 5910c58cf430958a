"""Layers that take one dimension away, or make vectors equally long."""

from __future__ import annotations

import math
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.module import TensorLayer
from t7compat.nn.shapes import axis, like

Tensor = torch.Tensor


class Reduction(TensorLayer, typename=""):
    """The base of the reductions along a dimension.  (..., n, ...) -> (..., ...), or (n) -> (1)

    `nInputDims` is the number of dimensions of a sample: with one more, the dimension is counted from the
    second.
    """

    nInputDims: int | None = None

    def __init__(self, dimension: int = 1, nInputDims: int | None = None, **fields: Any) -> None:
        super().__init__(dimension=dimension, nInputDims=nInputDims, **fields)


class Sum(Reduction):
    """The sum along a dimension, or (`sizeAverage`) the mean.  (..., n, ...) -> (..., ...), or (n) -> (1)

    `nInputDims` is the number of dimensions of a sample: with one more, the dimension is counted from the
    second.  With `squeeze` false the dimension stays, of size 1.
    """

    scratch = ("_gradOutput",)
    sizeAverage = False
    squeeze: bool = True

    def __init__(
        self,
        dimension: int = 1,
        nInputDims: int | None = None,
        sizeAverage: bool = False,
        squeeze: bool = True,
    ) -> None:
        super().__init__(dimension, nInputDims, sizeAverage=bool(sizeAverage), squeeze=squeeze)

    def compute(self, input: Tensor) -> Tensor:
        along = axis(self.dimension, input.dim(), self.nInputDims)
        keep = not self.squeeze or input.dim() == 1
        return input.mean(along, keep) if self.sizeAverage else input.sum(along, keep)


class Mean(Sum):
    """The mean along a dimension.  Shapes as for Sum."""

    # Files of 2015 and before lack the field; Torch7 itself now takes the sum for them, which they never were
    sizeAverage = True

    def __init__(self, dimension: int = 1, nInputDims: int | None = None) -> None:
        super().__init__(dimension, nInputDims, True)


class Extreme(Reduction, typename=""):
    """The base of Max and Min, which leave in `_indices` where, counted from 1, they found their values."""

    scratch = ("_indices", "_output")

    def __init__(self, dimension: int = 1, nInputDims: int | None = None) -> None:
        super().__init__(dimension, nInputDims)

    def before_type(self) -> None:
        vars(self).pop("_indices", None)


class Max(Extreme):
    """The maximum along a dimension; of equal ones, the first gets the gradient.  Shapes as for Sum."""

    def compute(self, input: Tensor) -> Tensor:
        along = axis(self.dimension, input.dim(), self.nInputDims)
        output, where = input.max(along, True)
        self._indices = where + 1
        return output if input.dim() == 1 else output.squeeze(along)


class Min(Extreme):
    """The minimum along a dimension; of equal ones, the first gets the gradient.  Shapes as for Sum."""

    def compute(self, input: Tensor) -> Tensor:
        along = axis(self.dimension, input.dim(), self.nInputDims)
        output, where = input.min(along, True)
        self._indices = where + 1
        return output if input.dim() == 1 else output.squeeze(along)


class Normalize(TensorLayer):
    """x / (sum(|x|^p) + eps)^(1/p); for p = inf, x / (max(|x|) + eps).  (n) or (batch, n) -> same shape

    `norm` keeps what was divided by.  The slope of the norm is Torch7's, which is finite at 0 for p < 2 too.
    """

    dims = 1, 2
    scratch = ("_output", "_indices", "_gradInput", "buffer", "norm", "normp", "cross")

    def __init__(self, p: float, eps: float = 1e-10) -> None:
        if not p > 0:
            raise InputError(f"nn.Normalize: expected p above 0, got {p}")
        super().__init__(p=p, eps=eps)

    def compute(self, input: Tensor) -> Tensor:
        x = input if input.dim() == 2 else input[None]
        if 2 <= self.p < math.inf:
            norm = torch.linalg.vector_norm(x, self.p, 1, True).pow(self.p).add(self.eps).pow(1 / self.p)
        else:
            fixed = x.detach()
            size = fixed.abs()
            if self.p < 2:
                total = size.pow(self.p).sum(1, True) + self.eps
                norm = total.pow(1 / self.p)
                slope = (size + self.eps).pow(self.p - 2) * fixed * (norm / total)
            else:
                norm, where = size.max(1, True)
                norm = norm + self.eps
                slope = torch.zeros_like(size).scatter(1, where, fixed.gather(1, where) / norm)
            norm = norm + ((x - fixed) * slope).sum(1, True)  # adds 0, and the slope
        self.norm = norm.detach()
        return like(x / norm, input)

    def before_type(self) -> None:
        vars(self).pop("_indices", None)

    def __str__(self) -> str:
        return f"{self.__typename__}({int(self.p) if self.p % 1 == 0 else format(self.p, 'f')})"
