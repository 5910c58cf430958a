"""Layers that learn the direction and the length of their weights apart.  Salimans and Kingma, 2016."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.containers import Decorator
from t7compat.nn.gradients import gradient_name
from t7compat.nn.linear import Linear, spread
from t7compat.nn.module import Module
from t7compat.nn.shapes import axis, describe, expect, like
from t7compat.t7file.objects import LongStorage
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


def split_gradient(gradient: Tensor, v: Tensor, norm: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients with respect to v and g, given that with respect to the weight v * scale.

    The columns are `norm`, the lengths of the rows of v, and scale = g / norm.
    """
    gradG = (gradient * v / norm).sum(1, keepdim=True)
    return (gradient - v * (gradG / norm)) * scale, gradG


class LinearWeightNorm(Linear):
    """Linear, with the weight g * v / |v| for each row.  Shapes as for Linear

    As in Torch7, accGradParameters projects what is in gradV already once more, and replaces gradG.  The
    field `weight` is only up to date in evaluation mode.
    """

    parameter_names = ("v", "g", "bias")
    scratch = ("addBuffer", "weight", "norm", "scale")

    def __init__(
        self, inputSize: int, outputSize: int, bias: bool | None = True, eps: float | None = None
    ) -> None:
        Module.__init__(self, eps=eps or 1e-16, outputSize=outputSize, inputSize=inputSize)
        for name in ("v", "gradV", "weight"):
            setattr(self, name, new_tensor(outputSize, inputSize))
        for name in ("g", "gradG", "norm", "scale"):
            setattr(self, name, new_tensor(outputSize, 1))
        if bias or bias is None:
            self.bias, self.gradBias = new_tensor(outputSize), new_tensor(outputSize)
        self.reset()

    def compute(  # type: ignore[override]
        self, input: Tensor, v: Tensor, g: Tensor, bias: Tensor | None
    ) -> Tensor:
        norm = torch.linalg.vector_norm(v, 2, 1, True).clamp(self.eps)
        return F.linear(input, v * (g / norm), bias)

    def prepare(self, input: Any) -> None:
        expect(input, 1, 2, size=self.inputSize)

    def native(self) -> functools.partial[Any]:
        bias = self.bias is not None
        return functools.partial(torch.nn.Linear, self.inputSize, self.outputSize, bias=bias)

    def native_state(self) -> dict[str, Tensor]:
        weight = self.v * self._norm_and_scale()[1]
        return {"weight": weight} | ({} if self.bias is None else {"bias": self.bias})

    def accumulate(self, name: str, gradient: Tensor, scale: float) -> None:
        if name == "v":
            gradV, gradG = split_gradient(self.gradV, self.v, *self._norm_and_scale())
            self.gradV.copy_(gradV)
            self.gradG.copy_(gradG)
        super().accumulate(name, gradient, scale)

    def _norm_and_scale(self) -> tuple[Tensor, Tensor]:
        norm = torch.linalg.vector_norm(self.v, 2, 1, True).clamp(self.eps)
        return norm, self.g / norm

    def updateWeightMatrix(self) -> None:
        """Set `weight` to what v and g make of it."""
        self.norm, self.scale = self._norm_and_scale()
        self.weight = self.v * self.scale

    def evaluate(self) -> None:
        if self.train is not False:
            self.updateWeightMatrix()
        super().evaluate()

    def initFromWeight(self, weight: Tensor | None = None) -> Any:
        """Choose v and g such that the weight is the given one (without it, the one in the field)."""
        weight = self.weight if weight is None else weight
        self.g.copy_(torch.linalg.vector_norm(weight, 2, 1, True).clamp(self.eps))
        self.v.copy_(weight)
        return self

    @staticmethod
    def fromLinear(linear: Linear) -> LinearWeightNorm:
        """A layer that is equal to a Linear."""
        outputs, inputs = linear.weight.shape
        module = LinearWeightNorm(inputs, outputs, linear.bias is not None)
        module.weight.copy_(linear.weight)
        if module.bias is not None and linear.bias is not None:
            module.bias.copy_(linear.bias)
        return module.initFromWeight()  # type: ignore[no-any-return]

    def toLinear(self) -> Linear:
        """A Linear that is equal to this layer."""
        self.updateWeightMatrix()
        linear = Linear(self.inputSize, self.outputSize, self.bias is not None)
        linear.weight.copy_(self.weight)
        if linear.bias is not None and self.bias is not None:
            linear.bias.copy_(self.bias)
        return linear

    def reset(self, stdv: float | None = None) -> None:
        bound = spread(stdv, self.inputSize)
        self.weight = mersenne.uniform_(torch.empty_like(self.v), -bound, bound)
        self.initFromWeight()
        if self.bias is not None:
            mersenne.uniform_(self.bias, -bound, bound)

    def __str__(self) -> str:
        without = "" if self.bias is not None else " without bias"
        return f"{self.__typename__}({self.inputSize} -> {self.outputSize}){without}"


class WeightNorm(Decorator):
    """A module whose weight is g * v / sqrt(|v|^2 + 1e-4) for each index of dimension `outputDim`.

    v has these as rows, all else as columns; the weight is made anew at each forward in training, and when
    evaluation begins.  As in Torch7, accGradParameters projects what is in gradWeight already once more, and
    replaces gradV and gradG.
    """

    weight: Any = None
    bias: Tensor | None = None
    weightSize: Any = None
    viewOut: Any
    gradV: Tensor
    gradG: Tensor

    def __init__(self, module: Module, outputDim: int | None = None) -> None:
        super().__init__(self._expected(module))
        weight = vars(module).get("weight")
        if weight is None:
            raise InputError(f"{self.__typename__}: expected a module with a weight, got {describe(module)}")
        for name in ("bias", "gradBias", "weight", "gradWeight"):
            if vars(module).get(name) is not None:
                setattr(self, name, vars(module)[name])
        self.outputDim = outputDim or 1
        first = self.permuteIn(weight)
        count, self.otherDims = len(first), first[0].numel()
        self.viewIn, self.viewOut = LongStorage((count, self.otherDims)), LongStorage(first.shape)
        self.weightSize = LongStorage(weight.shape)
        for name in ("v", "gradV"):
            setattr(self, name, new_tensor(count, self.otherDims))
        for name in ("gradG", "_norm", "_scale"):
            setattr(self, name, new_tensor(count))
        self.g = new_tensor(count, 1)
        self.resetInit()

    def permuteIn(self, inpt: Tensor) -> Tensor:
        """A tensor like the weight, with the dimension `outputDim` moved to the front."""
        return inpt.movedim(axis(self.outputDim, inpt.dim()), 0)

    def permuteOut(self, inpt: Tensor) -> Tensor:
        """The inverse of `permuteIn`."""
        return inpt.movedim(0, axis(self.outputDim, inpt.dim()))

    def native(self) -> functools.partial[Any]:
        if self.train is not False:
            self.updateWeight()
        return super().native()

    def resetInit(self, inputSize: Any = None, outputSize: Any = None) -> None:
        """Draw v anew, with g = |v|; the bias becomes zero."""
        mersenne.normal_(self.v, 0, math.sqrt(2 / self.otherDims))
        self.g.copy_(like(torch.linalg.vector_norm(self.v, 2, 1), self.g))
        if self.bias is not None:
            self.bias.zero_()

    def _columns(self) -> tuple[Tensor, Tensor]:
        norm = (self.v.square().sum(1, True) + 1e-4).sqrt()
        return norm, self.g.reshape(-1, 1) / norm

    def _to_weight(self, value: Tensor) -> Tensor:
        """A tensor like v in the shape of the weight."""
        return self.permuteOut(value.reshape(tuple(self.viewOut)))

    def updateWeight(self) -> None:
        """Set the weight to what v and g make of it."""
        self._norm, scale = self._columns()
        self._scale = scale[:, 0]
        self.weight.copy_(self._to_weight(self.v * scale))

    def evaluate(self) -> None:
        if self.train is not False:
            self.updateWeight()
        super().evaluate()

    # The weight is no variable of its own: the gradients with respect to v and g follow from gradWeight

    def updateOutput(self, input: Any) -> Any:
        if self.train is not False:
            self.updateWeight()
        self.output = self.modules[1].updateOutput(input)
        return self.output

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        self.gradInput = self.modules[1].updateGradInput(input, gradOutput)
        return self.gradInput

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        self.modules[1].accGradParameters(input, gradOutput, scale)
        self._split_gradient()

    def backward(self, input: Any, gradOutput: Any, scale: float = 1) -> Any:
        self.gradInput = self.modules[1].backward(input, gradOutput, scale)
        self._split_gradient()
        return self.gradInput

    def accUpdateGradParameters(self, input: Any, gradOutput: Any, lr: float) -> None:
        self.modules[1].accUpdateGradParameters(input, gradOutput, lr)

    def _split_gradient(self) -> None:
        gradient = self.permuteIn(self.gradWeight).reshape(self.v.shape)
        norm, scale = self._norm.reshape(-1, 1), self._scale.reshape(-1, 1)
        gradV, gradG = split_gradient(gradient, self.v, norm, scale)
        self.gradV, self.gradG = self.gradV.view(tuple(self.viewOut)), self.gradG.view(-1, 1)
        self.gradV.copy_(like(gradV, self.gradV))
        self.gradG.copy_(gradG)
        self.gradWeight.copy_(self._to_weight(gradV))

    def zeroGradParameters(self) -> None:
        self.modules[1].zeroGradParameters()
        self.gradV.zero_()
        self.gradG.zero_()

    def updateParameters(self, learningRate: float) -> None:
        self.modules[1].updateParameters(learningRate)
        self.g.add_(like(self.gradG, self.g), alpha=-learningRate)
        self.v.add_(like(self.gradV, self.v), alpha=-learningRate)

    def parameters(self) -> tuple[Table, Table]:
        names = ["v", "g"] + ["bias"] * (self.bias is not None)
        weights = [getattr(self, name) for name in names]
        return Table(*weights), Table(*[getattr(self, gradient_name(name)) for name in names])

    def read(self, file: Any) -> None:
        """The fields; weight and gradWeight, which are not among them, follow from v, g and gradV."""
        vars(self).update(file.readObject().items())
        if self.weight is None:
            child, size = self.modules[1], tuple(self.weightSize)
            self.weight = child.weight = self.v.new_empty(size)
            self.gradWeight = child.gradWeight = self.v.new_empty(size)
            self.weight.copy_(self._to_weight(self.v * self._columns()[1]))
            self.gradWeight.copy_(self._to_weight(self.gradV))

    def write(self, file: Any) -> None:
        """What `read` reads."""
        if self.weightSize is None:
            self.weightSize = LongStorage(self.weight.shape)
        hidden = [
            (vars(module), name, vars(module).get(name))
            for module in (self, self.modules[1])
            for name in ("weight", "gradWeight")
        ]
        for fields, name, _ in hidden:
            fields[name] = None
        try:
            file.writeObject(Table.from_items(vars(self).items()))
        finally:
            for fields, name, value in hidden:
                fields[name] = value
