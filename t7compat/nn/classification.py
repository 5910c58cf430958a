"""Losses for decisions: which class, or yes and no."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.criterion import Classifying, Criterion, Pointwise, reduced, reduction
from t7compat.nn.shapes import expect, expect_targets, like, zero_based
from t7compat.nn.transfer import LogSoftMax, Sigmoid
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor
Native = functools.partial[Any]

_MEAN, _SUM = 1, 2  # the reductions of PyTorch's kernels


# ---- one of several classes


class LogLikelihood(Classifying, typename=""):
    """The base of losses that are -x[t] for the target class t, times its weight.

    `total_weight_tensor` keeps the sum of the weights that were counted.
    """

    ignoreIndex = -(2**62)  # what no target is

    def __init__(self, weights: Tensor | None, sizeAverage: bool, **fields: Any) -> None:
        if weights is not None:
            expect(weights, 1)
        super().__init__(
            sizeAverage=sizeAverage,
            weights=weights,
            output_tensor=new_tensor(1),
            total_weight_tensor=new_tensor(1).fill_(1),
            target=torch.zeros(1, dtype=torch.int64),
            **fields,
        )

    def loss_by(self, kernel: Callable[..., tuple[Tensor, Tensor]], input: Tensor, target: Any) -> Tensor:
        """The loss, computed by one of PyTorch's kernels, which give the total weight as well."""
        classes = zero_based(target)
        if not isinstance(classes, Tensor) or not classes.dim() or classes.device != input.device:
            classes = torch.as_tensor(classes, device=input.device).reshape(-1)
        ignored = zero_based(self.ignoreIndex)
        loss, total = kernel(input, classes, self.weights, _MEAN if self.sizeAverage else _SUM, ignored)
        self.total_weight_tensor = total.reshape(1)
        if self.sizeAverage and not total:  # 0, as in Torch7, not 0 / 0
            loss, _ = kernel(input, classes, self.weights, _SUM, ignored)
        return loss

    def native(self) -> Native:
        ignored = zero_based(self.ignoreIndex)
        return functools.partial(
            torch.nn.NLLLoss, self.weights, ignore_index=ignored, reduction=reduction(self)
        )


class ClassNLLCriterion(LogLikelihood):
    """-x[t] for the target class t, times its weight.

    (n) with target 1..n, or (batch, n) with targets (batch), for log-probabilities x.  Averaged over the
    weights in the batch (`sizeAverage`), or summed.  A target `ignoreIndex` counts for nothing.
    """

    ignoreIndex = -100

    def __init__(
        self, weights: Tensor | None = None, sizeAverage: bool = True, ignoreIndex: int = -100
    ) -> None:
        super().__init__(weights, sizeAverage, ignoreIndex=ignoreIndex)

    def compute(self, input: Tensor, target: Any) -> Tensor:
        rows = input if input.dim() == 2 else input[None]
        return self.loss_by(torch.ops.aten.nll_loss_forward.default, rows, target)

    def prepare(self, input: Any, target: Any) -> None:
        expect(input, 1, 2)
        expect_targets(target, 1 if input.dim() == 1 else len(input))
        super().prepare(input, target)

    def adds_samples(self, target: Any) -> bool:
        return self.weights is None and not (target == self.ignoreIndex).any()

    def beside(self) -> tuple[int, ...]:
        return (self.ignoreIndex,)


class SpatialClassNLLCriterion(LogLikelihood):
    """-x[t] for the target class t of each pixel, times its weight.

    (batch, n, h, w) with targets (batch, h, w), for log-probabilities x.  Averaged over the weights of all
    pixels (`sizeAverage`), or summed.
    """

    dimension = 1

    def __init__(self, weights: Tensor | None = None, sizeAverage: bool = True) -> None:
        super().__init__(weights, sizeAverage)

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        return self.loss_by(torch.ops.aten.nll_loss2d_forward.default, input, target)

    def prepare(self, input: Any, target: Any) -> None:
        expect(input, 4)
        expect(target, 3)
        for at, size in enumerate((input.shape[0], *input.shape[2:])):
            expect(target, 3, size=size, at=at)
        super().prepare(input, target)


class CrossEntropyCriterion(Criterion):
    """LogSoftMax and ClassNLLCriterion in one.

    (n) with target 1..n, or (batch, n) with targets (batch).  Dimensions of size 1 are ignored, in the input
    and in the target.  `lsm.output` keeps the log-probabilities.
    """

    sizeAverage: bool | None = None
    oldSizeAverage: bool | None = None

    def __init__(self, weights: Tensor | None = None, sizeAverage: bool = True) -> None:
        super().__init__(
            lsm=LogSoftMax(),
            nll=ClassNLLCriterion(weights, sizeAverage),
            sizeAverage=sizeAverage,
            oldSizeAverage=sizeAverage,
        )

    def compute(self, input: Tensor, target: Any) -> Tensor:
        scores = self.lsm.compute(squeezed(input))
        self.lsm.output = scores.data
        return self.nll.compute(scores, squeezed(target))

    def prepare(self, input: Any, target: Any) -> None:
        if self.sizeAverage != self.oldSizeAverage:  # the user has changed it, and not that of nll
            self.nll.sizeAverage = self.oldSizeAverage = self.sizeAverage
        self.nll.prepare(squeezed(input), squeezed(target))

    def explain(self, input: Tensor, target: Any) -> None:
        self.nll.explain(squeezed(input), squeezed(target))

    def updateOutput(self, input: Any, target: Any = None) -> Any:
        self.nll.output = super().updateOutput(input, target)
        return self.output

    def adds_samples(self, target: Any) -> bool:
        return self.nll.adds_samples(target)

    def native(self) -> Native:
        likelihood = self.nll.native()
        return functools.partial(torch.nn.CrossEntropyLoss, *likelihood.args, **likelihood.keywords)


def squeezed(value: Any) -> Any:
    """Without the dimensions of size 1; a single element keeps one dimension."""
    if not isinstance(value, Tensor):
        return value
    return value.reshape(1) if value.numel() == 1 else value.squeeze()


class MultiMarginCriterion(Classifying):
    """w[t] max(0, margin - x[t] + x[i])^p over all classes i but the target class t, divided by n.

    (n) with target 1..n, or (batch, n) with targets (batch).  p is 1 or 2; averaged over the batch
    (`sizeAverage`), or summed.
    """

    p = 1
    margin: float = 1

    def __init__(self, p: int = 1, weights: Tensor | None = None, margin: float = 1) -> None:
        if p not in (1, 2):
            raise InputError(f"{self}: expected 1 or 2 as p, got {p}")
        if weights is not None:
            expect(weights, 1)
        super().__init__(p=p, margin=margin, sizeAverage=True, weights=weights)

    def compute(self, input: Tensor, target: Any) -> Tensor:
        classes = torch.as_tensor(zero_based(target), device=input.device).reshape(-1)
        options = self.p, self.margin, self.weights
        return F.multi_margin_loss(input, classes, *options, reduction=reduction(self))

    def prepare(self, input: Any, target: Any) -> None:
        expect(input, 1, 2)
        expect_targets(target, 1 if input.dim() == 1 else len(input))
        super().prepare(input, target)

    def native(self) -> Native:
        options = self.p, self.margin, self.weights
        return functools.partial(torch.nn.MultiMarginLoss, *options, reduction=reduction(self))


# ---- several of several classes


class MultiLabelMarginCriterion(Classifying):
    """max(0, 1 - x[t] + x[i]) over the target classes t and all other classes i, divided by n.

    (n) or (batch, n), and a target of that size: the classes of each sample, and after them zeros.  Averaged
    over the batch (`sizeAverage`), or summed.
    """

    def __init__(self) -> None:
        super().__init__(sizeAverage=True, isTarget=new_tensor())

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        classes = torch.as_tensor(zero_based(target), device=input.device)
        return F.multilabel_margin_loss(input, classes, reduction=reduction(self))

    def prepare(self, input: Any, target: Any) -> None:
        expect(input, 1, 2)
        expect(target, input.dim(), size=input.shape[-1])
        expect(target, size=len(input), at=0)
        super().prepare(input, target)

    def beside(self) -> tuple[int, ...]:
        return (0,)

    def native(self) -> Native:
        return functools.partial(torch.nn.MultiLabelMarginLoss, reduction=reduction(self))


class Binary(Pointwise, typename=""):
    """The base of losses for targets from 0 to 1, with a weight for each column."""

    weights: Tensor | None = None

    def __init__(self, weights: Tensor | None = None, sizeAverage: bool = True) -> None:
        if weights is not None:
            expect(weights, 1)
        super().__init__(sizeAverage)
        if weights is not None:
            self.weights = weights

    def spread_weights(self, input: Tensor, target: Tensor) -> Tensor | None:
        """The weights in the shape of the input; the target tells what a column is."""
        return None if self.weights is None else like(self.weights.expand(target.shape), input)

    def prepare(self, input: Any, target: Any) -> None:
        super().prepare(input, target)
        if self.weights is not None:
            expect(target, 1, 2, size=self.weights.numel())


class BCECriterion(Binary):
    """-(t log x + (1 - t) log(1 - x)) for x in [0, 1], times a weight for each column; averaged or summed.

    (n) or (batch, n), target alike; any shape without weights.  As in Torch7, 1e-12 is added inside the
    logarithms; torch.nn.BCELoss bounds them instead, and differs where x is 0 or 1.
    """

    eps = 1e-12

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        weights = self.spread_weights(input, target)
        x, target = input.detach(), like(target, input)
        loss = -(torch.log(x + self.eps) * target + torch.log(1 - x + self.eps) * (1 - target))
        # Torch7's own slope: that of the derivative, except where x is 0 or 1 and equals t, where it is 0
        slope = (x - target) / ((1 - x + self.eps) * (x + self.eps))
        loss = loss + slope * (input - x)
        return reduced(self, loss if weights is None else loss * weights)

    def prepare(self, input: Any, target: Any) -> None:
        super().prepare(input, target)
        if not ((input >= 0) & (input <= 1)).all():
            raise InputError(f"expected input between 0 and 1, got {input.min():g} to {input.max():g}")

    def adds_samples(self, target: Any) -> bool:
        return self.weights is None

    def native(self) -> Native:
        return functools.partial(torch.nn.BCELoss, self.weights, reduction=reduction(self))


class MultiLabelSoftMarginCriterion(Binary):
    """-(t log s(x) + (1 - t) log(1 - s(x))), s the sigmoid, times a weight for each column.

    (n) or (batch, n), target alike; any shape without weights.  Averaged over all elements (`sizeAverage`),
    or summed.  Unlike BCECriterion after a Sigmoid, it is exact for large x.
    """

    sizeAverage = False  # for old files without the field

    def __init__(self, weights: Tensor | None = None, sizeAverage: bool = True) -> None:
        super().__init__(weights, sizeAverage)
        self.sigmoid = Sigmoid()

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        weights = self.spread_weights(input, target)
        return F.binary_cross_entropy_with_logits(
            input, like(target, input), weights, reduction=reduction(self)
        )

    def native(self) -> Native:
        """Not MultiLabelSoftMarginLoss, which takes the mean over the classes even when it sums."""
        return functools.partial(torch.nn.BCEWithLogitsLoss, self.weights, reduction=reduction(self))


# ---- yes or no


class MarginCriterion(Pointwise):
    """max(0, margin - t x) for targets 1 and -1, averaged (`sizeAverage`) or summed.

    any shape, and a target of as many elements
    """

    def __init__(self, margin: float = 1) -> None:
        super().__init__()
        self.margin = margin

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        return reduced(self, torch.relu(self.margin - like(target, input) * input))


class SoftMarginCriterion(Pointwise):
    """log(1 + exp(-t x)) for targets 1 and -1, averaged (`sizeAverage`) or summed.

    any shape, and a target of as many elements
    """

    def __init__(self) -> None:
        super().__init__()

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        return F.soft_margin_loss(input, like(target, input), reduction=reduction(self))

    def native(self) -> Native:
        return functools.partial(torch.nn.SoftMarginLoss, reduction=reduction(self))
