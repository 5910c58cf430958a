"""Unpooling: the way back through a max pooling."""

from __future__ import annotations

import math
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.pooling import SIDES, MaxPooling, SpatialMaxPooling, VolumetricMaxPooling, unpacked
from t7compat.nn.shapes import describe, expect

Tensor = torch.Tensor


class MaxUnpooling(Module, typename=""):
    """The inverse of a max pooling: each value where the maximum was, zeros elsewhere."""

    pooling_class: type[MaxPooling]
    empty = MaxPooling.empty

    def __init__(self, poolingModule: MaxPooling) -> None:
        wanted = self.pooling_class
        if type(poolingModule) is not wanted or poolingModule.kernel != poolingModule.strides:
            text = f"a {wanted.__typename__} with the stride of its window"
            raise InputError(f"{self.__typename__}: expected {text}, got {describe(poolingModule)}")
        super().__init__(pooling=poolingModule)

    def where(self, sides: tuple[int, ...]) -> Tensor:
        """Where in an output plane each value goes, counted from 0."""
        raise NotImplementedError

    def compute(self, input: Tensor) -> Tensor:
        axes = self.pooling_class.axes
        sides = tuple(getattr(self, f"o{SIDES[axis]}") for axis in axes)
        planes = input.new_zeros(*input.shape[: -len(axes)], math.prod(sides))
        planes = planes.scatter_(-1, self.where(sides).flatten(-len(axes)), input.flatten(-len(axes)))
        return planes.view(*input.shape[: -len(axes)], *sides)

    def prepare(self, input: Any) -> None:
        count = len(self.pooling_class.axes)
        expect(input, count + 1, count + 2)
        self.take_places()
        if input.shape != self.indices.shape:
            raise InputError(
                f"expected the size of the indices {describe(self.indices)}, got {describe(input)}"
            )

    def take_places(self) -> None:
        """Take over where the pooling found its maxima."""
        self.indices = self.pooling.indices
        for axis in self.pooling_class.axes:
            vars(self)[f"o{SIDES[axis]}"] = getattr(self.pooling, f"i{SIDES[axis]}")

    def explain(self, input: Any) -> None:
        raise InputError(f"expected a forward of {self.pooling} before, with an output of the input's size")

    def __str__(self) -> str:
        return f"{self.__typename__} associated to {self.pooling}"


class SpatialMaxUnpooling(MaxUnpooling):
    """The inverse of a SpatialMaxPooling: each value where the maximum was, zeros elsewhere.

    From the shape of the pooling's output to that of its input.
    """

    pooling_class = SpatialMaxPooling

    def where(self, sides: tuple[int, ...]) -> Tensor:
        return self.indices.long() - 1


class VolumetricMaxUnpooling(MaxUnpooling):
    """The inverse of a VolumetricMaxPooling: each value where the maximum was, zeros elsewhere.

    From the shape of the pooling's output to that of its input.
    """

    pooling_class = VolumetricMaxPooling

    def where(self, sides: tuple[int, ...]) -> Tensor:
        return unpacked(self.indices.long(), sides, self.pooling.strides, self.pooling.paddings)

    def take_places(self) -> None:
        super().take_places()
        for name in ("dT", "dH", "dW", "padT", "padH", "padW"):
            vars(self)[name] = getattr(self.pooling, name)
