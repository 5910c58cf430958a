"""Losses."""

from __future__ import annotations

import functools
import operator
from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.criterion import Criterion
from t7compat.nn.shapes import describe, expect, expect_fit, like
from t7compat.nn.transfer import LogSoftMax
from t7compat.table import Table, map_leaves
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class Pointwise(Criterion, typename=""):
    """The base of losses that compare element by element: the target must have as many as the input."""

    def prepare(self, input: Any, target: Any) -> None:
        expect(input)
        expect_fit("target", target, input)


class MSECriterion(Pointwise):
    """(x - t)^2, averaged (`sizeAverage`) or summed.  any shape, and a target of as many elements"""

    def __init__(self, sizeAverage: bool = True) -> None:
        super().__init__(sizeAverage=sizeAverage)

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, like(target, input), reduction="mean" if self.sizeAverage else "sum")


class AbsCriterion(Pointwise):
    """|x - t|, averaged (`sizeAverage`) or summed.  any shape, and a target of as many elements"""

    def __init__(self, sizeAverage: bool = True) -> None:
        super().__init__(sizeAverage=sizeAverage)

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        difference = input - like(target, input)
        loss = torch.where(difference >= 0, difference, -difference)  # of slope 1 at zero
        return loss.mean() if self.sizeAverage else loss.sum()


class BCECriterion(Pointwise):
    """-(t log x + (1 - t) log(1 - x)) for x in [0, 1], times a weight for each column; averaged or summed.

    (n) or (batch, n), target alike.  As in Torch7, 1e-12 is added inside the logarithms.
    """

    eps = 1e-12
    weights: Tensor | None = None

    def __init__(self, weights: Tensor | None = None, sizeAverage: bool = True) -> None:
        if weights is not None:
            expect(weights, 1)
        super().__init__(sizeAverage=sizeAverage, weights=weights)

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        x, target = input.detach(), like(target, input)
        loss = -(torch.log(x + self.eps) * target + torch.log(1 - x + self.eps) * (1 - target))
        # Torch7's own slope: that of the derivative, except where x is 0 or 1 and equals t, where it is 0
        slope = (x - target) / ((1 - x + self.eps) * (x + self.eps))
        loss = loss + slope * (input - x)
        loss = loss if self.weights is None else loss * self.weights
        return loss.mean() if self.sizeAverage else loss.sum()

    def prepare(self, input: Tensor, target: Tensor) -> None:
        super().prepare(input, target)
        if self.weights is not None:
            expect(input, 1, 2, size=self.weights.numel())
        if not ((input >= 0) & (input <= 1)).all():
            raise InputError(f"expected input between 0 and 1, got {input.min():g} to {input.max():g}")


class ClassNLLCriterion(Criterion):
    """-x[t] for the target class t, times its weight.

    (n) with target 1..n, or (batch, n) with targets (batch), for log-probabilities x.  Averaged over the
    weights in the batch (`sizeAverage`), or summed.  A target `ignoreIndex` counts for nothing.
    """

    ignoreIndex: int = -100
    weights: Tensor | None = None

    def __init__(
        self, weights: Tensor | None = None, sizeAverage: bool = True, ignoreIndex: int = -100
    ) -> None:
        if weights is not None:
            expect(weights, 1)
        super().__init__(
            sizeAverage=sizeAverage,
            ignoreIndex=ignoreIndex,
            weights=weights,
            output_tensor=new_tensor(1),
            total_weight_tensor=new_tensor(1).fill_(1),
            target=torch.zeros(1, dtype=torch.int64),
        )

    def compute(self, input: Tensor, target: Any) -> Tensor:
        classes = torch.as_tensor(target, device=input.device).reshape(-1).long() - 1
        scores, ignored = input.reshape(-1, input.shape[-1]), self.ignoreIndex - 1
        loss = F.nll_loss(scores, classes, self.weights, ignore_index=ignored, reduction="sum")
        if not self.sizeAverage:
            return loss
        counted = classes[classes != ignored]
        total = len(counted) if self.weights is None else self.weights[counted].sum()
        return loss / total if total else loss

    def prepare(self, input: Tensor, target: Any) -> None:
        expect(input, 1, 2)
        batch = 1 if input.dim() == 1 else len(input)
        if isinstance(target, Tensor):
            expect(target, 1, size=batch)
        elif batch != 1 or not isinstance(target, int | float):
            raise InputError(f"expected a target for each of {batch} samples, got {describe(target)}")

    def explain(self, input: Tensor, target: Any) -> None:
        classes, count = torch.as_tensor(target).reshape(-1), input.shape[-1]
        if self.weights is not None and self.weights.numel() != count:
            raise InputError(f"expected {count} weights, one for each class, got {self.weights.numel()}")
        wrong = classes[((classes < 1) | (classes > count)) & (classes != self.ignoreIndex)]
        if wrong.numel():
            raise InputError(f"expected target classes from 1 to {count}, got {wrong[0].item():g}")


class CrossEntropyCriterion(Criterion):
    """LogSoftMax and ClassNLLCriterion in one.

    (n) with target 1..n, or (batch, n) with targets (batch).  Dimensions of size 1 are ignored, in the input
    and in the target.
    """

    oldSizeAverage: bool

    def __init__(self, weights: Tensor | None = None, sizeAverage: bool = True) -> None:
        super().__init__(
            lsm=LogSoftMax(),
            nll=ClassNLLCriterion(weights, sizeAverage),
            sizeAverage=sizeAverage,
            oldSizeAverage=sizeAverage,
        )

    def compute(self, input: Tensor, target: Any) -> Tensor:
        return self.nll.compute(self.lsm.compute(squeezed(input)), squeezed(target))

    def prepare(self, input: Tensor, target: Any) -> None:
        if self.sizeAverage != self.oldSizeAverage:  # the user has changed it, and not that of nll
            self.nll.sizeAverage = self.oldSizeAverage = self.sizeAverage
        self.nll.prepare(squeezed(input), squeezed(target))

    def explain(self, input: Tensor, target: Any) -> None:
        self.nll.explain(squeezed(input), squeezed(target))


class ParallelCriterion(Criterion):
    """The weighted sum of criterions, each of which gets its entry of the input and of the target.

    With `repeatTarget` all get the same target.
    """

    repeatTarget: bool | None = None

    def __init__(self, repeatTarget: bool | None = None) -> None:
        super().__init__(criterions=Table(), weights=Table(), repeatTarget=repeatTarget)
        self.gradInput = Table()

    def add(self, criterion: Criterion, weight: float = 1) -> Any:
        """Append a criterion."""
        self.criterions.insert(criterion)
        self.weights.insert(weight)
        return self

    def updateOutput(self, input: Any, target: Any) -> Any:
        self.output = sum(
            w * criterion.updateOutput(x, t) for w, criterion, x, t in self._terms(input, target)
        )
        return self.output

    def updateGradInput(self, input: Any, target: Any) -> Any:
        self.gradInput = Table(
            *[
                map_leaves(functools.partial(operator.mul, w), criterion.updateGradInput(x, t))
                for w, criterion, x, t in self._terms(input, target)
            ]
        )
        return self.gradInput

    def _terms(self, input: Any, target: Any) -> list[tuple[float, Criterion, Any, Any]]:
        inputs = Table.from_python(input)
        targets = Table(*[target] * len(self.criterions)) if self.repeatTarget else Table.from_python(target)
        for name, table in (("input", inputs), ("target", targets)):
            if not isinstance(table, Table) or len(table) < len(self.criterions):
                count = len(self.criterions)
                raise InputError(f"{self}: expected a table of {count} as {name}, got {describe(table)}")
        return list(zip(self.weights, self.criterions, inputs, targets, strict=False))


def squeezed(value: Any) -> Any:
    """Without the dimensions of size 1; a single element keeps one dimension."""
    if not isinstance(value, Tensor):
        return value
    return value.reshape(1) if value.numel() == 1 else value.squeeze()
