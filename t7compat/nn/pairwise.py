"""Losses on pairs: what is similar should be close, what is not should be far apart."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.criterion import Criterion, reduced, reduction
from t7compat.nn.shapes import describe, expect, expect_fit, expect_table, expect_targets, like
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor
Pair = tuple[Tensor, Tensor]
Native = functools.partial[Any]


def as_tensor(target: Any, input: Tensor) -> Tensor:
    """A target of the input's type; a number as one element."""
    return target.to(input) if isinstance(target, Tensor) else input.new_full((1,), target)


class Pairwise(Criterion, typename=""):
    """The base of losses that compare two tensors of as many elements."""

    margin: float

    def prepare(self, input: Any, target: Any) -> None:
        expect_table(input, 2)
        expect(input[0])
        expect_fit("second entry", input[1], input[0])


class HingeEmbeddingCriterion(Criterion):
    """x for the target 1, max(0, margin - x) for -1, where x is a distance; averaged or summed.

    any shape, and a target of as many elements; or one element and a number
    """

    sizeAverage = True
    margin: float

    def __init__(self, margin: float = 1) -> None:
        super().__init__(margin=margin, sizeAverage=True)

    def compute(self, input: Tensor, target: Any) -> Tensor:
        y = like(as_tensor(target, input), input)
        losses = F.hinge_embedding_loss(input, y, self.margin, reduction="none")
        # Torch7's gradient is the target, other ones than 1 and -1 included
        other = losses.detach() + y * (input - input.detach())
        return reduced(self, torch.where(y.abs() == 1, losses, other))

    def prepare(self, input: Any, target: Any) -> None:
        expect(input)
        if isinstance(target, Tensor):
            expect_fit("target", target.to(input), input)
        else:
            expect_targets(target, input.numel())

    def native(self) -> Native:
        return functools.partial(torch.nn.HingeEmbeddingLoss, self.margin, reduction=reduction(self))


class L1HingeEmbeddingCriterion(Pairwise):
    """d, the sum of |x1 - x2|, for the target 1, and max(0, margin - d) for -1.

    {(...), (...)} and a number
    """

    def __init__(self, margin: float = 1) -> None:
        super().__init__(margin=margin, gradInput=Table(new_tensor(), new_tensor()))

    def compute(self, input: Pair, target: float) -> Tensor:
        first, second = input[:2]
        distance = (first - like(second, first)).abs().sum()
        return torch.relu(self.margin - distance) if target == -1 else distance

    def updateGradInput(self, input: Any, target: Any = None) -> Any:
        """By hand, since Torch7 draws the slopes of |0| anew at each call."""
        first, second = (entry.data for entry in self._record(input, target).input[:2])
        difference = first - like(second, first)
        slope = difference.sign()
        equal = slope == 0
        slope[equal] = 2 * mersenne.random_(slope[equal], 1, 2) - 3
        if target == -1:
            slope *= -1 if difference.abs().sum() <= self.margin else 0
        self.gradInput = Table(slope, like(-slope, second))
        return self.gradInput

    def prepare(self, input: Any, target: Any) -> None:
        super().prepare(input, target)
        if not isinstance(target, int | float):
            raise InputError(f"expected the number 1 or -1 as target, got {describe(target)}")


class CosineEmbeddingCriterion(Pairwise):
    """1 - cos(x1, x2) for the target 1, max(0, cos(x1, x2) - margin) for -1.

    {(n), (n)} and a number, or {(batch, n), (batch, n)} and targets (batch).  Averaged over the batch
    (`sizeAverage`), or summed.
    """

    sizeAverage = False  # for old files without the field
    eps = 1e-12

    def __init__(self, margin: float = 0) -> None:
        gradInput = Table(new_tensor(), new_tensor())
        super().__init__(margin=margin, sizeAverage=True, gradInput=gradInput)

    def compute(self, input: Pair, target: Any) -> Tensor:
        first, second = (entry.reshape(-1, entry.shape[-1]) for entry in input[:2])
        lengths = ((x.square().sum(1) + self.eps).rsqrt() for x in (first, second))
        cosine = functools.reduce(torch.mul, lengths, (first * second).sum(1))
        y = as_tensor(target, cosine).reshape(-1)
        losses = torch.where(y == -1, torch.relu(cosine - self.margin), cosine)
        losses = torch.where(y == 1, 1 - cosine, losses)
        losses = torch.where(losses > 0, losses, losses.detach())  # Torch7 has no gradient below zero
        return losses.sum() / (len(target) if self.sizeAverage and isinstance(target, Tensor) else 1)

    def prepare(self, input: Any, target: Any) -> None:
        super().prepare(input, target)
        expect(input[0], 1, 2)
        if input[0].shape != input[1].shape:
            raise InputError(f"expected two tensors of one size, got {describe(input)}")
        samples = 1 if input[0].dim() == 1 else len(input[0])
        expect_targets(target.reshape(-1) if isinstance(target, Tensor) else target, samples)

    def native(self) -> Native:
        return functools.partial(torch.nn.CosineEmbeddingLoss, self.margin, reduction=reduction(self))


class MarginRankingCriterion(Pairwise):
    """max(0, margin - y (x1 - x2)): x1 should be above x2 for the target y = 1, and below it for -1.

    {(1), (1)} and a number, or {(batch), (batch)} and targets (batch).  Averaged over the batch
    (`sizeAverage`), or summed.
    """

    sizeAverage = False  # for old files without the field

    def __init__(self, margin: float = 1) -> None:
        gradInput = Table(new_tensor(1), new_tensor(1))
        super().__init__(margin=margin, sizeAverage=True, gradInput=gradInput)

    def compute(self, input: Pair, target: Any) -> Tensor:
        first, second = input[:2]
        y = like(as_tensor(target, first), first)
        losses = (self.margin - y * (first - like(second, first))).clamp(min=0)  # of slope 1 at zero
        return losses.sum() / (len(target) if self.sizeAverage and isinstance(target, Tensor) else 1)

    def prepare(self, input: Any, target: Any) -> None:
        super().prepare(input, target)
        if isinstance(target, Tensor):
            expect_fit("target", target, input[0])
        else:
            expect(input[0], 1)
            expect_targets(target, len(input[0]))

    def native(self) -> Native:
        return functools.partial(torch.nn.MarginRankingLoss, self.margin, reduction=reduction(self))


class DistanceRatioCriterion(Pairwise):
    """-log(exp(-x1) / (exp(-x1) + exp(-x2))), without a target.

    {(batch), (batch)}: the distances of a sample from a similar one and from another one.  Averaged over the
    batch (`sizeAverage`), or summed.  Exact for large distances too, where Torch7 gives -inf.  Reference:
    Lu et al., 2016, https://arxiv.org/abs/1610.00243.
    """

    sizeAverage = False  # for old files without the field

    def __init__(self, sizeAverage: bool = True) -> None:
        super().__init__(sizeAverage=sizeAverage)

    def compute(self, input: Pair, target: Any) -> Tensor:
        first, second = input
        loss = -F.logsigmoid(like(second, first) - first).sum()
        return loss / len(first) if self.sizeAverage else loss

    def prepare(self, input: Any, target: Any) -> None:
        super().prepare(input, target)
        if len(input) != 2 or not input[0].dim() or len(input[0]) != len(input[1]):
            raise InputError(f"expected two tensors of distances, got {describe(input)}")
