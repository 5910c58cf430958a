"""Layers that take one dimension away."""

from __future__ import annotations

import torch

from t7compat.nn.module import Module
from t7compat.nn.shapes import axis

Tensor = torch.Tensor


class Sum(Module):
    """The sum along a dimension, or (`sizeAverage`) the mean.  (..., n, ...) -> (..., ...), or (n) -> (1)

    `nInputDims` is the number of dimensions of a sample: with one more, the dimension is counted from the
    second.  With `squeeze` false the dimension stays, of size 1.
    """

    scratch = ("_gradOutput",)
    nInputDims: int | None = None
    sizeAverage = False
    squeeze: bool = True

    def __init__(
        self,
        dimension: int = 1,
        nInputDims: int | None = None,
        sizeAverage: bool | None = False,
        squeeze: bool = True,
    ) -> None:
        super().__init__(
            dimension=dimension, nInputDims=nInputDims, sizeAverage=bool(sizeAverage), squeeze=squeeze
        )

    def compute(self, input: Tensor) -> Tensor:
        along = axis(self.dimension, input.dim(), self.nInputDims)
        keep = not self.squeeze or input.dim() == 1
        return input.mean(along, keep) if self.sizeAverage else input.sum(along, keep)


class Mean(Sum):
    """The mean along a dimension.  Shapes as for Sum."""

    def __init__(self, dimension: int = 1, nInputDims: int | None = None) -> None:
        super().__init__(dimension, nInputDims, True)
