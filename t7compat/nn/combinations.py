"""Criterions made of criterions, or of criterions and modules."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.criterion import Criterion
from t7compat.nn.gradients import fitted, matched
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe
from t7compat.t7file.objects import Storage
from t7compat.table import Table, map_leaves, to_tuples
from t7compat.tensortypes import BY_STORAGE

Tensor = torch.Tensor
# A criterion with its weight, its input and target, and the place for the gradient of that input
Term = tuple[Criterion, float, Any, Any, Any]


class WeightedSum(Criterion, typename=""):
    """The base of weighted sums of criterions; `terms` says what each of them gets."""

    criterions: Table
    weights: Any

    def add(self, criterion: Criterion, weight: float = 1) -> Any:
        """Append a criterion."""
        if not isinstance(criterion, Criterion):
            raise InputError(f"{self}: expected a criterion, got {describe(criterion)}")
        self.criterions.insert(criterion)
        self.append_weight(weight)
        return self

    def append_weight(self, weight: float) -> None:
        """Put a weight after the others."""
        self.weights.insert(weight)

    def terms(self, input: Any, target: Any, gradient: Any) -> Iterator[Term]:
        """The criterions with what belongs to them."""
        raise NotImplementedError

    def updateOutput(self, input: Any, target: Any = None) -> Any:
        self.output = sum(
            weight * self._call(number, criterion.updateOutput, x, t)
            for number, (criterion, weight, x, t, _) in enumerate(self.terms(input, target, input), 1)
        )
        return self.output

    def updateGradInput(self, input: Any, target: Any = None) -> Any:
        total = to_tuples(lambda x: torch.zeros_like(x) if isinstance(x, Tensor) else x, input)
        for number, (criterion, weight, x, t, place) in enumerate(self.terms(input, target, total), 1):
            found = self._call(number, criterion.updateGradInput, x, t)
            for path, tensor, gradient in matched(("gradInput",), to_tuples(lambda x: x, place), found):
                if gradient is not None:
                    tensor.add_(fitted(path, tensor, gradient), alpha=weight)
        self.gradInput = map_leaves(lambda x: x, total)
        return self.gradInput

    def _call(self, number: int, method: Any, input: Any, target: Any) -> Any:
        try:
            return method(input, target)
        except InputError as error:
            error.within(f"in criterion {number} of {self}")
            raise


class MultiCriterion(WeightedSum):
    """The weighted sum of criterions, all of which get the same input and target."""

    def __init__(self) -> None:
        row = BY_STORAGE["torch.DoubleStorage"]
        super().__init__(criterions=Table(), weights=Storage(row, torch.zeros(0, dtype=row.dtype)))

    def append_weight(self, weight: float) -> None:
        before = self.weights.data
        self.weights = Storage(self.weights.type, torch.cat([before, before.new_tensor([weight])]))

    def terms(self, input: Any, target: Any, gradient: Any) -> Iterator[Term]:
        for criterion, weight in zip(self.criterions, self.weights, strict=False):
            yield criterion, weight, input, target, gradient


class ParallelCriterion(WeightedSum):
    """The weighted sum of criterions, each of which gets its entry of the input and of the target.

    Tables, or tensors that are taken apart along the first dimension.  With `repeatTarget` all get the same
    target.
    """

    repeatTarget: bool | None = None

    def __init__(self, repeatTarget: bool | None = None) -> None:
        super().__init__(criterions=Table(), weights=Table(), repeatTarget=repeatTarget)
        self.gradInput = Table()

    def terms(self, input: Any, target: Any, gradient: Any) -> Iterator[Term]:
        count = len(self.criterions)
        targets = [target] * count if self.repeatTarget else parts(target, count, "target")
        inputs, gradients = (parts(value, count, "input") for value in (input, gradient))
        yield from zip(self.criterions, self.weights, inputs, targets, gradients, strict=False)

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        self.gradInput = Table()
        return super().type(type, tensorCache)


def parts(value: Any, count: int, name: str) -> list[Any]:
    """The first entries of a table, or slices of a tensor, of which there must be so many."""
    found = Table.from_python(value)
    if isinstance(found, Tensor) and found.dim():
        found = Table(*(found if found.dim() > 1 else found.tolist()))
    if not isinstance(found, Table) or len(found) < count:
        raise InputError(f"expected a table of {count} as {name}, got {describe(value)}")
    return list(found)[:count]


class ModuleCriterion(Criterion):
    """A criterion on the output of `inputModule` for the input and of `targetModule` for the target.

    Either may be missing.  The parameters of the modules get no updates.  `castTarget` is only kept: `type`
    converts the targetModule in any case, as it does in Torch7.
    """

    inputModule: Module | None = None
    targetModule: Module | None = None
    input: Any = None
    target: Any = None

    def __init__(
        self,
        criterion: Criterion,
        inputModule: Module | None = None,
        targetModule: Module | None = None,
        castTarget: bool = True,
    ) -> None:
        if inputModule is not None and (inputModule.parameters() or ((),))[0]:
            warnings.warn("nn.ModuleCriterion doesn't support parameter updates", stacklevel=2)
        fields = {"inputModule": inputModule, "targetModule": targetModule, "castTarget": castTarget}
        vars(self).update((name, value) for name, value in fields.items() if value is not None)
        self.criterion = criterion

    def updateOutput(self, input: Any, target: Any = None) -> Any:
        if self.inputModule is not None:
            self.input = self.inputModule.forward(input)
        if self.targetModule is not None:
            self.target = self.targetModule.forward(target)
        self.output = self.criterion.forward(*self._made(input, target))
        return self.output

    def updateGradInput(self, input: Any, target: Any = None) -> Any:
        self.gradInput = self.criterion.backward(*self._made(input, target))
        if self.inputModule is not None:
            self.gradInput = self.inputModule.backward(input, self.gradInput)
        return self.gradInput

    def _made(self, input: Any, target: Any) -> tuple[Any, Any]:
        """What the modules have made of the input and the target."""
        return (
            input if self.inputModule is None else self.input,
            target if self.targetModule is None else self.target,
        )


class CriterionTable(Module):
    """A criterion as a module.  {input, target} -> the loss, a number

    The gradient is that of the criterion, whatever comes from above.
    """

    def __init__(self, criterion: Criterion) -> None:
        super().__init__(criterion=criterion, gradInput=Table(criterion.gradInput))

    def updateOutput(self, input: Any) -> Any:
        self.output = self.criterion.updateOutput(*self._pair(input))
        return self.output

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        self.gradInput = Table(self.criterion.updateGradInput(*self._pair(input)))
        return self.gradInput

    def _pair(self, input: Any) -> tuple[Any, Any]:
        entries = Table.from_python(input)
        if not isinstance(entries, Table):
            raise InputError(f"{self}: expected a table of input and target, got {describe(input)}")
        return entries[1], entries[2]
