"""Layers that add weights to each element, or multiply by them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.gradients import gradient_name
from t7compat.nn.linear import draw
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect, like, sizes
from t7compat.nn.stepping import ANY_DIMS
from t7compat.t7file.objects import LongStorage, Storage
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class Add(Module):
    """y = x + b, with one b for each element of a sample, or (`scalar`) one for all.  Same shape out."""

    parameter_names = ("bias",)
    scalar: bool | None = None

    def __init__(self, inputSize: int | Storage, scalar: bool | None = None) -> None:
        size = (1,) if scalar else sizes(inputSize)
        super().__init__(
            scalar=scalar, bias=new_tensor(*size), gradBias=new_tensor(*size), _ones=new_tensor(1).fill_(1)
        )
        self.reset()

    def compute(self, input: Tensor, bias: Tensor) -> Tensor:
        if self.scalar:
            return input + bias[0]
        if input.dim() == bias.dim() and input.shape == bias.shape:
            return input + bias
        return like(input.flatten(1) + bias.flatten(), input)

    @property
    def row_dims(self) -> Collection[int]:  # type: ignore[override]
        return (1,) if self.bias.dim() == 1 else ()

    def prepare(self, input: Any) -> None:
        expect(input, like=self.bias)
        size = self.bias.numel()
        if not (self.scalar or input.shape == self.bias.shape or input.numel() == len(input) * size):
            raise InputError(f"expected samples of {size} elements, got {describe(input)}")

    def reset(self, stdv: float | None = None) -> None:
        draw(stdv, self.bias.shape[0], self.bias)


class Mul(Module):
    """y = w x with one number w.  any shape -> same shape"""

    row_dims = ANY_DIMS
    parameter_names = ("weight",)

    def __init__(self) -> None:
        super().__init__(weight=new_tensor(1), gradWeight=new_tensor(1))
        self.reset()

    def compute(self, input: Tensor, weight: Tensor) -> Tensor:
        return input * weight

    def prepare(self, input: Any) -> None:
        expect(input, like=self.weight)

    def reset(self, stdv: float | None = None) -> None:
        draw(stdv, 1, self.weight)


def over(parameter: Tensor, input: Tensor) -> Tensor:
    """A parameter in a shape that broadcasts to that of the input.

    It is expanded over the dimensions in which its size is 1 if it has as many as the input, else over the
    batch.
    """
    if parameter.numel() == input.numel():
        return like(parameter, input)
    if parameter.dim() == input.dim():
        return parameter.expand_as(input)
    return parameter.flatten() if parameter.numel() == 1 else parameter.reshape(input.shape[1:])


class Elementwise(Module, typename=""):
    """The base of layers with one parameter, which is expanded over the input as `over` says."""

    def __init__(self, *size: int | Storage) -> None:
        shape = sizes(*size)
        (name,) = self.parameter_names
        tensors = {name: new_tensor(*shape), gradient_name(name): new_tensor(*shape)}
        super().__init__(size=LongStorage(shape), output=new_tensor(*shape), **tensors)
        self.reset()

    def before_type(self) -> None:
        self.clearState()

    @property
    def row_dims(self) -> Collection[int]:  # type: ignore[override]
        shape = getattr(self, *self.parameter_names).shape
        return (1,) if len(shape) == 1 or shape[0] == 1 else ()

    def prepare(self, input: Any) -> None:
        expect(input, like=getattr(self, *self.parameter_names))

    def explain(self, input: Any) -> None:
        (name,) = self.parameter_names
        wanted = f"a size to which the {name}, {describe(getattr(self, name))}, can be expanded"
        raise InputError(f"expected {wanted}, got {describe(input)}")

    def reset(self, stdv: float | None = None) -> None:
        parameter = getattr(self, *self.parameter_names)
        draw(stdv, parameter.numel(), parameter)


class CMul(Elementwise):
    """y = w * x, element by element.  any shape -> same shape

    w is expanded over the batch, or over its dimensions of size 1 if it has as many as the input.
    """

    parameter_names = ("weight",)
    row_dims = Elementwise.row_dims
    scratch = ("_input", "_output", "_weight", "_gradWeight", "_expand", "_repeat", "_sum")

    def compute(self, input: Tensor, weight: Tensor) -> Tensor:
        return input * over(weight, input)


class CAdd(Elementwise):
    """y = x + b, element by element.  any shape -> same shape

    b is expanded over the batch, or over its dimensions of size 1 if it has as many as the input.
    """

    parameter_names = ("bias",)
    row_dims = Elementwise.row_dims
    scratch = ("_gradBias", "_output", "_bias", "_expand", "_repeat")

    def compute(self, input: Tensor, bias: Tensor) -> Tensor:
        return input + over(bias, input)
