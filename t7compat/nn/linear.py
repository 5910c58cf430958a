"""Products with a matrix of weights."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.shapes import expect
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


def spread(stdv: float | None, fan_in: int) -> float:
    """The half width of the uniform distribution from which a layer's `reset(stdv)` draws."""
    if fan_in < 1:
        raise InputError("expected one input or more")
    return stdv * math.sqrt(3) if stdv else 1 / math.sqrt(fan_in)


def draw(stdv: float | None, fan_in: int, *parameters: Tensor | None) -> None:
    """Draw parameters anew, as a layer's `reset(stdv)` does; None stands for one that is not there."""
    bound = spread(stdv, fan_in)
    for parameter in parameters:
        if parameter is not None:
            mersenne.uniform_(parameter, -bound, bound)


class Linear(Module):
    """y = W x + b.  (inputSize) or (batch, inputSize) -> (outputSize) or (batch, outputSize)"""

    row_dims = (1,)
    parameter_names: tuple[str, ...] = ("weight", "bias")
    scratch: tuple[str, ...] = ("addBuffer",)
    updates_when_shared = True
    checks_only = True
    _is_product = True  # whether `add_gradients` speaks for the `compute` of the class
    bias: Tensor | None = None

    def __init__(self, inputSize: int, outputSize: int, bias: bool = True) -> None:
        super().__init__(
            weight=new_tensor(outputSize, inputSize), gradWeight=new_tensor(outputSize, inputSize)
        )
        if bias:
            self.bias, self.gradBias = new_tensor(outputSize), new_tensor(outputSize)
        self.reset()

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(input, weight, bias)

    @property
    def adds_gradients(self) -> bool:  # type: ignore[override]
        return self._is_product and "compute" not in vars(self)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._is_product = cls.compute is Linear.compute and not cls.has_own_accumulation

    def add_gradients(self, input: Tensor, gradOutput: Tensor, scale: float, *sums: Any) -> None:
        weight, bias = sums
        rows, slopes = (input, gradOutput) if input.dim() == 2 else (input[None], gradOutput[None])
        if weight.dtype == slopes.dtype:
            weight.addmm_(slopes.t(), rows, alpha=scale)
        else:
            weight.add_(slopes.t() @ rows, alpha=scale)
        if bias is not None:
            bias.add_(slopes.sum(0), alpha=scale)

    def native(self) -> functools.partial[Any]:
        outputs, inputs = self.weight.shape
        return functools.partial(torch.nn.Linear, inputs, outputs, bias=self.bias is not None)

    def prepare(self, input: Any) -> None:
        expect(input, 1, 2, size=self.weight.shape[1])

    def noBias(self: Any) -> Any:
        """Remove the bias."""
        for name in ("bias", "gradBias"):
            vars(self).pop(name, None)
        return self

    def reset(self, stdv: float | None = None) -> Any:
        draw(stdv, self.weight.shape[1], self.weight, self.bias)
        return self

    def __str__(self) -> str:
        outputs, inputs = self.weight.shape
        return f"{self.__typename__}({inputs} -> {outputs}){'' if self.bias is not None else ' without bias'}"


class LinearNoBias(Linear):
    """y = W x, of the rnn package.  Shapes as for Linear."""

    def __init__(self, inputSize: int, outputSize: int) -> None:
        super().__init__(inputSize, outputSize, bias=False)
