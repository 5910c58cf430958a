"""Modules that nngraph puts into graphs by itself."""

from __future__ import annotations

from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.criterion import Criterion
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe
from t7compat.table import Table, map_leaves
from t7compat.tensortypes import new_tensor


class JustElement(Module, typename="nngraph.JustElement"):
    """{x} -> x"""

    def __init__(self) -> None:
        self.gradInput = Table()

    def compute(self, input: Any) -> Any:
        return input[0]

    def prepare(self, input: Any) -> None:
        if not isinstance(input, tuple) or len(input) != 1:
            raise InputError(f"expected a table of one element, got {describe(input)}")


class JustTable(Module, typename="nngraph.JustTable"):
    """x -> {x}"""

    def __init__(self) -> None:
        self.output = Table()

    def compute(self, input: Any) -> Any:
        return (input,)


class ModuleFromCriterion(Module):
    """A criterion as a module: {prediction, target} -> a tensor of one number.

    The gradient with respect to the target is zero.
    """

    criterion: Criterion

    def __init__(self, criterion: Criterion) -> None:
        if not isinstance(criterion, Criterion):
            raise InputError(f"{self.__typename__}: expected a criterion, got {describe(criterion)}")
        self.criterion, self.output = criterion, new_tensor(1)
        self.gradInput = Table(new_tensor(), new_tensor())

    def updateOutput(self, input: Any) -> torch.Tensor:
        prediction, target = self._pair(input)
        self.output = self.output.new_tensor([self.criterion.forward(prediction, target)])
        return self.output

    def updateGradInput(self, input: Any, gradOutput: Any) -> Table:
        prediction, target = self._pair(input)
        gradient = self.criterion.backward(prediction, target)
        zeros = map_leaves(lambda x: self.output.new_zeros(x.shape), target)
        self.gradInput = Table(map_leaves(lambda x: x * gradOutput[0], gradient), zeros)
        return self.gradInput

    def _pair(self, input: Any) -> Table:
        pair = Table.from_python(input)
        if not isinstance(pair, Table) or len(pair) != 2:
            raise InputError(f"{self}: expected a table of prediction and target, got {describe(input)}")
        return pair
