"""Layers with weights that act on vectors: products, sums, look-ups."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect, like, sizes
from t7compat.t7file.objects import LongStorage, Storage
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


def spread(stdv: float | None, fan_in: int) -> float:
    """The half width of the uniform distribution from which a layer's `reset(stdv)` draws."""
    return stdv * math.sqrt(3) if stdv else 1 / math.sqrt(fan_in)


class Linear(Module):
    """y = W x + b.  (inputSize) or (batch, inputSize) -> (outputSize) or (batch, outputSize)"""

    parameter_names = ("weight", "bias")
    scratch = ("addBuffer",)
    updates_when_shared = True
    bias: Tensor | None = None

    def __init__(self, inputSize: int, outputSize: int, bias: bool | None = True) -> None:
        super().__init__(
            weight=new_tensor(outputSize, inputSize), gradWeight=new_tensor(outputSize, inputSize)
        )
        if bias or bias is None:
            self.bias, self.gradBias = new_tensor(outputSize), new_tensor(outputSize)
        self.reset()

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(input, weight, bias)

    def native(self) -> functools.partial[Any]:
        outputs, inputs = self.weight.shape
        return functools.partial(torch.nn.Linear, inputs, outputs, bias=self.bias is not None)

    def prepare(self, input: Any) -> None:
        expect(input, 1, 2, size=self.weight.shape[1])

    def noBias(self) -> Any:
        """Remove the bias."""
        for name in ("bias", "gradBias"):
            vars(self).pop(name, None)
        return self

    def reset(self, stdv: float | None = None) -> Any:
        bound = spread(stdv, self.weight.shape[1])
        mersenne.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            mersenne.uniform_(self.bias, -bound, bound)
        return self

    def __str__(self) -> str:
        outputs, inputs = self.weight.shape
        return f"{self.__typename__}({inputs} -> {outputs}){'' if self.bias is not None else ' without bias'}"


class LinearNoBias(Linear):
    """y = W x, of the rnn package.  Shapes as for Linear."""

    def __init__(self, inputSize: int, outputSize: int) -> None:
        super().__init__(inputSize, outputSize, bias=False)


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
        if input.shape == bias.shape:
            return input + bias
        return like(input.flatten(1) + bias.flatten(), input)

    def prepare(self, input: Any) -> None:
        expect(input, like=self.bias)
        size = self.bias.numel()
        if not (self.scalar or input.shape == self.bias.shape or input.numel() == len(input) * size):
            raise InputError(f"expected samples of {size} elements, got {describe(input)}")

    def reset(self, stdv: float | None = None) -> None:
        bound = spread(stdv, self.bias.shape[0])
        mersenne.uniform_(self.bias, -bound, bound)


class Mul(Module):
    """y = w x with one number w.  any shape -> same shape"""

    parameter_names = ("weight",)

    def __init__(self) -> None:
        super().__init__(weight=new_tensor(1), gradWeight=new_tensor(1))
        self.reset()

    def compute(self, input: Tensor, weight: Tensor) -> Tensor:
        return input * weight

    def prepare(self, input: Any) -> None:
        expect(input, like=self.weight)

    def reset(self, stdv: float | None = None) -> None:
        bound = spread(stdv, 1)
        mersenne.uniform_(self.weight, -bound, bound)


class CMul(Module):
    """y = w * x, element by element.  any shape -> same shape

    w is expanded over the batch, or over its dimensions of size 1 if it has as many as the input.
    """

    parameter_names = ("weight",)
    scratch = ("_input", "_output", "_weight", "_gradWeight", "_expand", "_repeat", "_sum")

    def __init__(self, *size: int | Storage) -> None:
        shape = sizes(*size)
        super().__init__(size=LongStorage(shape), weight=new_tensor(*shape), gradWeight=new_tensor(*shape))
        self.output = new_tensor(*shape)
        self.reset()

    def compute(self, input: Tensor, weight: Tensor) -> Tensor:
        if input.numel() == weight.numel():
            return input * like(weight, input)
        if input.dim() == weight.dim():
            return input * weight.expand_as(input)
        return like(input.flatten(1) * weight.flatten(), input)

    def prepare(self, input: Any) -> None:
        expect(input, like=self.weight)

    def explain(self, input: Any) -> None:
        weight = f"the weight, {describe(self.weight)}, can be expanded"
        raise InputError(f"expected a size to which {weight}, got {describe(input)}")

    def reset(self, stdv: float | None = None) -> None:
        bound = spread(stdv, self.weight.numel())
        mersenne.uniform_(self.weight, -bound, bound)


class LookupTable(Module):
    """Row i of the weight for each index i of 1..nIndex.  (n) or (batch, n) -> (..., nOutput)

    The gradient of the row `paddingValue` stays zero; with `maxNorm`, the rows in use are scaled down to that
    norm (of type `normType`) at each forward.
    """

    __version__ = 4
    parameter_names = ("weight",)
    scratch = ("_count", "_input")
    updates_when_shared = True
    paddingValue: int = 0
    maxNorm: float | None = None
    normType: float | None = None
    shouldScaleGradByFreq: bool | None = None

    def __init__(
        self,
        nIndex: int,
        nOutput: int,
        paddingValue: int = 0,
        maxNorm: float | None = None,
        normType: float | None = None,
    ) -> None:
        super().__init__(
            weight=new_tensor(nIndex, nOutput),
            gradWeight=new_tensor(nIndex, nOutput),
            paddingValue=paddingValue or 0,
            maxNorm=maxNorm,
            normType=normType,
        )
        self.reset()

    def compute(self, input: Tensor, weight: Tensor) -> Tensor:
        padding = self.paddingValue - 1 if self.paddingValue else None
        norm, by_frequency = self.normType or 2, bool(self.shouldScaleGradByFreq)
        return F.embedding(input.long() - 1, weight, padding, self.maxNorm or None, norm, by_frequency)

    def prepare(self, input: Any) -> None:
        expect(input, 1, 2)

    def explain(self, input: Any) -> None:
        wrong = input[(input < 1) | (input > len(self.weight))]
        if wrong.numel():
            raise InputError(f"expected indices from 1 to {len(self.weight)}, got {wrong[0].item():g}")

    def accUpdateOnly(self) -> Any:
        """Do without gradWeight: the table is trained by accUpdateGradParameters only."""
        vars(self).pop("gradWeight", None)
        return self

    def setPadding(self, paddingValue: int) -> Any:
        """Choose the index whose row gets no gradient (0: none)."""
        self.paddingValue = paddingValue
        return self

    def setMaxNorm(self, maxNorm: float) -> Any:
        """Limit the norm of the rows."""
        self.maxNorm = maxNorm
        return self

    def setNormType(self, normType: float) -> Any:
        """Choose the norm (2 is the Euclidean one) that maxNorm limits."""
        self.normType = normType
        return self

    def scaleGradByFreq(self) -> Any:
        """Divide the gradient of a row by the number of times it occurs in the input."""
        self.shouldScaleGradByFreq = True
        return self

    def reset(self, stdv: float | None = None) -> None:
        mersenne.normal_(self.weight, 0, stdv or 1)

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        result = super().type(type, tensorCache)
        if type is not None:  # these scratch tensors of Torch7 are not converted, except for CUDA
            vars(self).update(
                _count=torch.empty(0, dtype=torch.int32), _input=torch.empty(0, dtype=torch.int64)
            )
        return result
