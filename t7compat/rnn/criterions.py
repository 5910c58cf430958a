"""Criterions over sequences, and on a part of a batch."""

from __future__ import annotations

from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.combinations import ModuleCriterion
from t7compat.nn.criterion import Criterion, Recorded
from t7compat.nn.gradients import same
from t7compat.nn.shapes import describe, expect, flattened
from t7compat.rnn.masking import is_number, rows, zero_rows
from t7compat.rnn.sequencer import matched, steps_of
from t7compat.rnn.whole import joined, versions
from t7compat.table import Table, map_leaves, to_tuples

Tensor = torch.Tensor
METHODS = frozenset(("forward", "backward", "updateOutput", "updateGradInput"))


class AbstractSequencerCriterion(Criterion):
    """The base of criterions on sequences: the sum over all steps, or (`sizeAverage`) the mean.

    Each step has a clone of the criterion, unless the losses of all of them follow from one.
    """

    __slots__ = ("given",)
    has_targets = True  # one for each step
    given: Any  # what is `recorded`
    sizeAverage = False

    def __init__(self, criterion: Criterion, **fields: Any) -> None:
        if not isinstance(criterion, Criterion) or isinstance(criterion, ModuleCriterion):
            kind = "a criterion (and a ModuleCriterion around this one, not inside it)"
            raise InputError(f"{self.__typename__}: expected {kind}, got {describe(criterion)}")
        super().__init__(criterion=criterion, clones=Table(), **fields)
        self.gradInput = Table()

    def getStepCriterion(self, step: int) -> Criterion:
        """The criterion of a step."""
        if self.clones[step] is None:
            self.clones[step] = self.criterion.clone()
        return self.clones[step]

    def steps(self, input: Any, target: Any) -> list[tuple[int, Any, Any]]:
        """The numbers of the steps, each with its input and target."""
        raise NotImplementedError

    def updateOutput(self, input: Any, target: Any = None) -> Any:
        steps = self.steps(input, target)
        self.recorded = self._as_one(input, target, steps)
        self.given = input, target, versions((input, target))
        if self.recorded is not None:
            self.output = self.recorded.loss.item()
        else:
            losses = [self._step(t, "forward", x, y) for t, x, y in steps]
            self.output = sum(losses) / (len(losses) if self.sizeAverage else 1)
        return self.output

    def updateGradInput(self, input: Any, target: Any = None) -> Any:
        steps = self.steps(input, target)
        if self.recorded is not None and not self._is_recorded(input, target):
            with torch.enable_grad():
                self.updateOutput(input, target)
        if self.recorded is not None:
            gradient = self.recorded.gradient().unflatten(0, (len(steps), -1))
            self.gradInput = gradient if isinstance(input, Tensor) else Table(*gradient.unbind())
            return self.gradInput
        gradients = [self._step(t, "backward", x, y) for t, x, y in steps]
        if self.sizeAverage:
            gradients = [map_leaves(lambda gradient: gradient / len(gradients), g) for g in gradients]
        self.gradInput = torch.stack(gradients) if isinstance(input, Tensor) else Table(*gradients)
        return self.gradInput

    def _is_recorded(self, input: Any, target: Any) -> bool:
        """Whether the recorded loss is that of these tensors, which have not changed since."""
        return (
            self.recorded is not None
            and self.recorded.loss.requires_grad
            and same(self.given, (input, target, versions((input, target))))
        )

    def _as_one(self, input: Any, target: Any, steps: list[tuple[int, Any, Any]]) -> Recorded | None:
        """The loss of all steps as that of one batch of all their samples; None where it is not."""
        criterion = self.criterion
        says_so = "adds_samples" in vars(type(criterion)) and METHODS.isdisjoint(vars(criterion))
        if not steps or not says_so:
            return None
        _, inputs, targets = zip(*steps, strict=True)
        x, y = joined(input, inputs, True), joined(target if self.has_targets else None, targets, True)
        is_batch = isinstance(x, Tensor) and x.dim() > 1 and isinstance(y, Tensor) and len(x) == len(y)
        if not is_batch or not criterion.adds_samples(y):
            return None
        try:
            recorded = criterion._record(x, y)
        except InputError:
            return None
        factor = (len(steps) if criterion.sizeAverage else 1) / (len(steps) if self.sizeAverage else 1)
        return recorded._replace(loss=recorded.loss * factor)

    def _step(self, t: int, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self.getStepCriterion(t), method)(*arguments)
        except InputError as error:
            error.within(f"in step {t} of {self.__typename__}")
            raise

    def setZeroMask(self, zeroMask: Any) -> None:
        if zeroMask is False:
            for criterion in self.clones.values():
                criterion.setZeroMask(False)
        else:
            expect(zeroMask, *range(2, 9))
            for t, mask in enumerate(zeroMask, 1):
                self.getStepCriterion(t).setZeroMask(mask)

    def upgrade(self, version: int) -> None:
        """In the later fork of rnn the criterion is the first of the clones."""
        vars(self).setdefault("criterion", self.clones[1])


class SequencerCriterion(AbstractSequencerCriterion):
    """The sum of a criterion's losses over the steps of a sequence, or (`sizeAverage`) their mean.

    Tables of T steps, or tensors (T, ...), for the input and the target.
    """

    def __init__(self, criterion: Criterion, sizeAverage: bool | None = False) -> None:
        super().__init__(criterion, sizeAverage=bool(sizeAverage))

    def steps(self, input: Any, target: Any) -> list[tuple[int, Any, Any]]:
        return matched(input, target, "target")


class RepeaterCriterion(AbstractSequencerCriterion):
    """The sum of a criterion's losses over the steps of a sequence, all of which have the same target.

    A table of T steps, or a tensor (T, ...), for the input.  `sizeAverage` is of the later fork.
    """

    has_targets = False

    def __init__(self, criterion: Criterion, sizeAverage: bool | None = None) -> None:
        super().__init__(criterion, sizeAverage=sizeAverage)

    def steps(self, input: Any, target: Any) -> list[tuple[int, Any, Any]]:
        return [(t, x, target) for t, x in enumerate(steps_of(input, "input"), 1)]


class MaskZeroCriterion(Criterion):
    """A criterion on the samples of a batch whose input is not all zeros.

    With a table of inputs the first one counts.  `nInputDim` is the number of dimensions of one sample.  The
    loss without any samples is 0.

    Of the later fork of rnn is `MaskZeroCriterion(criterion, v1)`: the samples that are left out are those
    that `setZeroMask` tells, or (`v1`) those whose input is all zeros.
    """

    nInputDim: int | None = None
    v2: bool | None = None
    zeroMask: Any = None
    input: Any = None
    target: Any = None

    def __init__(self, criterion: Criterion, nInputDim: Any = None) -> None:
        if not isinstance(criterion, Criterion):
            raise InputError(f"{self.__typename__}: expected a criterion, got {describe(criterion)}")
        super().__init__(criterion=criterion)
        if is_number(nInputDim):
            self.nInputDim = nInputDim
        else:
            self.v2 = not nInputDim

    def kept(self, input: Any) -> Tensor:
        """Which samples count, as positions from 0."""
        first = flattened(input)[0]
        if not self.v2:
            expect(first, *([self.nInputDim + 1] if self.nInputDim is not None else range(1, 9)))
            return (~zero_rows(first, first.dim() - 1)).nonzero().flatten()
        if self.zeroMask is None:
            raise InputError(f"{self}: expected setZeroMask before forward, with a mask or False")
        expect(first, size=None if self.zeroMask is False else len(self.zeroMask), at=0)
        mask = first.new_zeros(len(first)) if self.zeroMask is False else self.zeroMask.to(first.device)
        return (mask == 0).nonzero().flatten()

    def updateOutput(self, input: Any, target: Any = None) -> Any:
        inputs, targets = to_tuples(lambda x: x, input), to_tuples(lambda x: x, target)
        kept = self.kept(inputs)
        count = len(flattened(inputs)[0])
        for leaf in (*flattened(inputs), *flattened(targets)):
            expect(leaf, size=count, at=0)
        self.input, self.target = (map_leaves(lambda x: x, rows(x, kept)) for x in (inputs, targets))
        self.output = self.criterion.updateOutput(self.input, self.target) if len(kept) else 0
        return self.output

    def updateGradInput(self, input: Any, target: Any = None) -> Any:
        inputs = to_tuples(lambda x: x, input)
        kept = self.kept(inputs)
        total = to_tuples(torch.zeros_like, inputs)
        if len(kept):
            found = to_tuples(lambda x: x, self.criterion.updateGradInput(self.input, self.target))
            for place, gradient in zip(flattened(total), flattened(found), strict=True):
                place.index_copy_(0, kept, gradient)
        self.gradInput = map_leaves(lambda x: x, total)
        return self.gradInput

    def setZeroMask(self, zeroMask: Any) -> None:
        self.zeroMask = zeroMask

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        if type is not None:
            for name in ("zeroMask", "_zeroMask", "__zeroMask", "input", "target", "_gradInput"):
                vars(self).pop(name, None)
        return super().type(type, tensorCache)
