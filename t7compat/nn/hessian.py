"""nn.hessian: second derivatives, as far as they are needed to choose learning rates.

`enable()` gives modules three methods: `initDiagHessianParameters()`, and, after a forward,
`updateDiagHessianInput(input, diagHessianOutput)` and `accDiagHessianParameters(input, diagHessianOutput)`.
They propagate the diagonal of the Hessian as LeCun et al., 1989, do: the second derivatives of the layers
themselves are neglected, so that every derivative in the chain rule is squared.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch

from t7compat import registry
from t7compat.errors import InputError
from t7compat.nn.criterion import Criterion
from t7compat.nn.flatten import flatten
from t7compat.nn.module import Module

Tensor = torch.Tensor

_GRADIENTS = {"gradWeight": "diagHessianWeight", "gradBias": "diagHessianBias"}


def stand_in(module: Any, **fields: Any) -> Any:
    """The same module with other tensors in some fields; what it computes leaves the module as it is."""
    other = copy.copy(module)
    other.tape = None
    vars(other).update(fields)
    return other


# ---- methods of modules


class Methods:
    """Those of every module."""

    def updateDiagHessianInput(self: Any, input: Any, diagHessianOutput: Any) -> Any:
        """Compute and set `diagHessianInput`, the second derivatives with respect to the input."""
        raise InputError(f"{self.__typename__}: updateDiagHessianInput is not defined for it")

    def accDiagHessianParameters(self: Any, input: Any, diagHessianOutput: Any) -> None:
        """Add the second derivatives with respect to the parameters to `diagHessianWeight`, ..."""

    def initDiagHessianParameters(self: Any) -> None:
        """Make the tensors for the second derivatives with respect to the parameters."""


class Weighted:
    """Those of layers that are linear in the input and in the weight."""

    def updateDiagHessianInput(self: Any, input: Tensor, diagHessianOutput: Tensor) -> Tensor:
        squared = stand_in(self, weight=self.weight.square())
        self.diagHessianInput = squared.updateGradInput(input, diagHessianOutput)
        return self.diagHessianInput

    def accDiagHessianParameters(self: Any, input: Tensor, diagHessianOutput: Tensor) -> None:
        self.initDiagHessianParameters()
        sums = {gradient: vars(self).get(name) for gradient, name in _GRADIENTS.items()}
        stand_in(self, **sums).accGradParameters(input.square(), diagHessianOutput, 1)

    def initDiagHessianParameters(self: Any) -> None:
        vars(self).setdefault("diagHessianInput", self.gradInput.new_empty(0))
        for gradient, name in _GRADIENTS.items():
            if vars(self).get(gradient) is not None:
                vars(self).setdefault(name, torch.zeros_like(getattr(self, gradient)))


class Pointwise:
    """Those of functions of each element."""

    def updateDiagHessianInput(self: Any, input: Tensor, diagHessianOutput: Tensor) -> Tensor:
        slope = stand_in(self).updateGradInput(input, torch.ones_like(diagHessianOutput))
        self.diagHessianInput = slope.square() * diagHessianOutput
        return self.diagHessianInput


class OfTanhShrink:
    """Those of x - tanh x; Torch7 adds the squares of the slopes of x and tanh x."""

    def updateDiagHessianInput(self: Any, input: Tensor, diagHessianOutput: Tensor) -> Tensor:
        slope = 1 - torch.tanh(input).square()
        self.diagHessianInput = (1 + slope.square()) * diagHessianOutput
        return self.diagHessianInput


class OfReshape:
    """Those of a layer that changes the shape."""

    def updateDiagHessianInput(self: Any, input: Tensor, diagHessianOutput: Tensor) -> Tensor:
        self.diagHessianInput = diagHessianOutput.reshape(input.shape)
        return self.diagHessianInput


class OfSequential:
    """Those of a chain of modules."""

    def updateDiagHessianInput(self: Any, input: Any, diagHessianOutput: Any) -> Any:
        for module, given in backwards(self, input):
            diagHessianOutput = module.updateDiagHessianInput(given, diagHessianOutput)
        self.diagHessianInput = diagHessianOutput
        return diagHessianOutput

    def accDiagHessianParameters(self: Any, input: Any, diagHessianOutput: Any) -> None:
        for module, given in backwards(self, input):
            module.accDiagHessianParameters(given, diagHessianOutput)
            diagHessianOutput = vars(module).get("diagHessianInput")

    def initDiagHessianParameters(self: Any) -> None:
        for module in self.modules:
            module.initDiagHessianParameters()


def backwards(chain: Any, input: Any) -> Iterator[tuple[Any, Any]]:
    """The modules of a Sequential from last to first, each with what it was given in the last forward."""
    modules = list(chain.modules)
    inputs = [input, *(module.output for module in modules[:-1])]
    return reversed(list(zip(modules, inputs, strict=True)))


# ---- methods of criterions


class OfCriterion:
    """That of every criterion."""

    def updateDiagHessianInput(self: Any, input: Any, target: Any = None) -> Any:
        """Compute and set `diagHessianInput`, the second derivatives of the loss."""
        raise InputError(f"{self.__typename__}: updateDiagHessianInput is not defined for it")


class OfSquares:
    """That of the squared distance."""

    def updateDiagHessianInput(self: Any, input: Tensor, target: Any = None) -> Tensor:
        self.diagHessianInput = torch.full_like(input, 2 / (input.numel() if self.sizeAverage else 1))
        return self.diagHessianInput


class OfAbsoluteValues:
    """That of the L1 norm, which Torch7 takes for one."""

    def updateDiagHessianInput(self: Any, input: Tensor, target: Any = None) -> Tensor:
        self.diagHessianInput = (input != 0).to(input)
        return self.diagHessianInput


# ---- switching them on

_CLASSES: dict[str, type] = {
    "nn.Linear": Weighted,
    "nn.SpatialConvolution": Weighted,
    "nn.SpatialConvolutionLocal": Weighted,
    "nn.SpatialConvolutionMap": Weighted,
    "nn.SpatialFullConvolution": Weighted,
    "nn.SpatialFullConvolutionMap": Weighted,
    "nn.Sqrt": Pointwise,
    "nn.Square": Pointwise,
    "nn.Tanh": Pointwise,
    "nn.TanhShrink": OfTanhShrink,
    "nn.Reshape": OfReshape,
    "nn.Sequential": OfSequential,
    "nn.MSECriterion": OfSquares,
    "nn.WeightedMSECriterion": OfSquares,
    "nn.L1Cost": OfAbsoluteValues,
}


def enable() -> None:
    """Give the classes their methods.

    From then on, `getParameters` has a third result for a network with second derivatives of parameters: all
    of them in one flat tensor.
    """
    if hasattr(Module, "updateDiagHessianInput"):
        return
    classes = {registry.lookup(typename): methods for typename, methods in _CLASSES.items()}
    for cls, methods in {Module: Methods, Criterion: OfCriterion, **classes}.items():
        for name, method in vars(methods).items():
            if cls is not None and inspect.isfunction(method):
                setattr(cls, name, method)
    Module.getParameters = _with_hessians(Module.getParameters)  # type: ignore[method-assign, assignment]


def _with_hessians(getParameters: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`getParameters` that gathers the second derivatives, too."""

    @functools.wraps(getParameters)
    def wrapped(self: Module) -> Any:
        found = getParameters(self)
        names = _GRADIENTS.values()
        fields = [vars(module) for module in self.listModules()]
        hessians = [one[name] for one in fields for name in names if one.get(name) is not None]
        return (*found, flatten(hessians, [])) if hessians else found

    return wrapped
