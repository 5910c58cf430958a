"""Pooling."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect, window

Tensor = torch.Tensor


class SpatialMaxPooling(Module):
    """The maximum of each window.  (n, h, w) or (batch, n, h, w) -> (..., h', w')

    with h' = floor((h + 2 padH - kH) / dH) + 1, rounded up instead after `ceil()`.  `indices` keeps where in
    its plane, counted from 1, each maximum was.
    """

    axes = "HW"
    scratch = ("indices",)
    padW = padH = 0
    ceil_mode = False

    def __init__(
        self, kW: int, kH: int, dW: int | None = None, dH: int | None = None, padW: int = 0, padH: int = 0
    ) -> None:  # fmt: skip
        super().__init__(kW=kW, kH=kH, dW=dW or kW, dH=dH or kH, padW=padW, padH=padH, ceil_mode=False)
        self.indices = torch.empty(0, dtype=torch.int64)

    def compute(self, input: Tensor) -> Tensor:
        size, stride, padding = (window(self, name) for name in ("k", "d", "pad"))
        output, where = F.max_pool2d(input, size, stride, padding, 1, self.ceil_mode, return_indices=True)
        self.indices = where + 1
        self.iheight, self.iwidth = input.shape[-2:]
        return output

    def native(self) -> functools.partial[Any]:
        size, stride, padding = (window(self, name) for name in ("k", "d", "pad"))
        return functools.partial(torch.nn.MaxPool2d, size, stride, padding, ceil_mode=self.ceil_mode)

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4)

    def ceil(self) -> Any:
        """Round the size of the output up."""
        self.ceil_mode = True
        return self

    def floor(self) -> Any:
        """Round the size of the output down."""
        self.ceil_mode = False
        return self

    def __str__(self) -> str:
        padding = f", {self.padW},{self.padH}" if self.padW or self.padH else ""
        return f"{self.__typename__}({self.kW}x{self.kH}, {self.dW},{self.dH}{padding})"


class SpatialMaxUnpooling(Module):
    """The inverse of a max pooling: each value where the maximum was, zeros elsewhere.

    From the shape of the pooling's output to that of its input.
    """

    def __init__(self, poolingModule: SpatialMaxPooling) -> None:
        is_pooling = isinstance(poolingModule, SpatialMaxPooling)
        if not is_pooling or window(poolingModule, "k") != window(poolingModule, "d"):
            wanted = "a SpatialMaxPooling with the stride of its window"
            raise InputError(f"{self.__typename__}: expected {wanted}, got {describe(poolingModule)}")
        super().__init__(pooling=poolingModule)

    def compute(self, input: Tensor) -> Tensor:
        pooling = self.pooling
        self.indices, self.oheight, self.owidth = pooling.indices, pooling.iheight, pooling.iwidth
        planes = input.new_zeros(*input.shape[:-2], self.oheight * self.owidth)
        planes = planes.scatter(-1, (self.indices - 1).flatten(-2), input.flatten(-2))
        return planes.reshape(*input.shape[:-2], self.oheight, self.owidth)

    def __str__(self) -> str:
        return f"{self.__typename__} associated to {self.pooling}"
