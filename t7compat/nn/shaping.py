"""Layers that hand their input on in another shape, or as it is."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, sizes
from t7compat.t7file.objects import LongStorage, Storage

Tensor = torch.Tensor


class Identity(Module):
    """y = x, for anything."""

    def compute(self, input: Any) -> Any:
        return input

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Identity)


class Reshape(Module):
    """The elements in the given size.  (batch, ...) -> (batch, *size), or (...) -> (*size)

    `batchMode` (the last argument) says whether the first dimension is a batch.  Without it, it is one unless
    the number of elements is that of `size`; a first dimension of 1 is taken for a batch.
    """

    scratch = ("_input", "_gradOutput")
    batchMode: bool | None = None

    def __init__(self, *size: int | bool | Storage) -> None:
        *dims, last = size
        shape = sizes(*dims) if isinstance(last, bool) else sizes(*size)
        super().__init__(
            size=LongStorage(shape), batchsize=LongStorage((0, *shape)), nelement=math.prod(shape),
            batchMode=last if isinstance(last, bool) else None,
        )  # fmt: skip

    def compute(self, input: Tensor) -> Tensor:
        fits = input.numel() == self.nelement and input.shape[0] != 1
        if self.batchMode is False or (self.batchMode is None and fits):
            return input.reshape(*self.size)
        return input.reshape(len(input), *self.size)

    def explain(self, input: Any) -> None:
        super().explain(input)
        raise InputError(f"expected samples of {self.nelement} elements, got {describe(input)}")

    def __str__(self) -> str:
        return f"{self.__typename__}({'x'.join(map(str, self.size))})"


class View(Module):
    """The elements in the given size.  (batch, ...) -> (batch, *size), or (...) -> (*size)

    One of the sizes may be -1: what is left for it.


        `setNumInputDims(n)` says that a sample has n dimensions; without it, what is left over is the batch.
    """

    numInputDims: int | None = None

    def __init__(self, *size: int | Storage) -> None:
        super().__init__()
        self.resetSize(*size)

    def resetSize(self, *size: int | Storage) -> Any:
        """Choose another size."""
        shape = sizes(*size)
        if min(shape) < -1 or shape.count(-1) > 1:
            raise InputError(
                f"expected positive sizes, one of which may be -1, got {', '.join(map(str, shape))}"
            )
        self.size, self.numElements = LongStorage(shape), math.prod(n for n in shape if n >= 0)
        return self

    def setNumInputDims(self, numInputDims: int) -> Any:
        """Say how many dimensions a sample has: more of them are a batch."""
        self.numInputDims = numInputDims
        return self

    def compute(self, input: Tensor) -> Tensor:
        first = max(0, input.dim() - (self.numInputDims or input.dim()))  # dimension of a sample
        size = tuple(map(int, self.size))
        batch = 1 if -1 in size else input.shape[first:].numel() // self.numElements
        batch *= input.shape[:first].numel()
        if batch == 1 and first == 0:
            return input.reshape(size)
        return input.reshape(batch, *size)

    def prepare(self, input: Any) -> None:
        sample = input.shape[max(0, input.dim() - (self.numInputDims or input.dim())) :]
        if sample.numel() % self.numElements:
            raise InputError(f"expected a multiple of {self.numElements} elements, got {describe(input)}")

    def __str__(self) -> str:
        return f"{self.__typename__}({', '.join(map(str, self.size))})"
