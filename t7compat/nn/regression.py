"""Losses that measure how far numbers are from others."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.criterion import Criterion, Pointwise, reduced, reduction
from t7compat.nn.shapes import describe, expect, expect_classes, expect_fit, expect_targets, like, zero_based
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor
Native = functools.partial[Any]


class MSECriterion(Pointwise):
    """(x - t)^2, averaged (`sizeAverage`) or summed.  any shape, and a target of as many elements"""

    def compute(self, input: Tensor, target: Any) -> Tensor:
        return F.mse_loss(input, like(target, input), reduction=reduction(self))

    def adds_samples(self, target: Any) -> bool:
        return True

    def native(self) -> Native | None:
        return functools.partial(torch.nn.MSELoss, reduction=reduction(self))


class WeightedMSECriterion(MSECriterion):
    """(x - w t)^2, averaged (`sizeAverage`) or summed, with the given weights w for the target.

    any shape, and a target of as many elements.  The weight is for a sample if it has one dimension less than
    the input.
    """

    def __init__(self, w: Tensor) -> None:
        expect(w)
        super().__init__()
        self.weight = w.clone()

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        weighted = like(target, input).to(input) * like(self.weight, self._weighted(input))
        return super().compute(input, weighted)

    def prepare(self, input: Any, target: Any) -> None:
        expect(input, like=self.weight)
        expect_fit("weight", self.weight, self._weighted(input))
        expect_fit("target", target.to(input) if isinstance(target, Tensor) else target, input)

    def _weighted(self, input: Tensor) -> Tensor:
        """What the weights are for: a sample of the batch, or all of the input."""
        return input[0] if input.dim() == self.weight.dim() + 1 else input

    def native(self) -> None:
        return None


class SpatialAutoCropMSECriterion(MSECriterion):
    """The MSECriterion of the input and the middle of the target.

    (n, h, w) or (batch, n, h, w), and a target of that size or with greater h and w.
    """

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        return super().compute(input, cropped(target, input))

    def prepare(self, input: Any, target: Any) -> None:
        expect(input, 3, 4)
        expect(target, input.dim())
        if any(n > least for n, least in zip(input.shape[-2:], target.shape[-2:], strict=True)):
            raise InputError(f"expected a target as high and wide as the input, got {describe(target)}")
        expect_fit("middle of the target", cropped(target, input), input)

    def native(self) -> None:
        return None


def cropped(target: Tensor, input: Tensor) -> Tensor:
    """The middle of the target, as high and wide as the input."""
    height, width = input.shape[-2:]
    top, left = (target.shape[-2] - height) // 2, (target.shape[-1] - width) // 2
    return target[..., top : top + height, left : left + width]


class ClassSimplexCriterion(MSECriterion):
    """The MSECriterion of the input and the corner of a regular simplex that stands for the target class.

    (nClasses) with target 1..nClasses, or (batch, nClasses) with targets (batch).  All corners have length 1
    and the same distance from each other.  Mroueh et al., 2012, and http://arxiv.org/abs/1506.08230.
    """

    def __init__(self, nClasses: int) -> None:
        if not isinstance(nClasses, int | float) or nClasses <= 1 or nClasses != int(nClasses):
            raise InputError(f"{self}: expected a whole number of classes above 1, got {describe(nClasses)}")
        super().__init__()
        self.nClasses = int(nClasses)
        self._target, self.simplex = new_tensor(self.nClasses), simplex(self.nClasses)

    def compute(self, input: Tensor, target: Any) -> Tensor:
        classes = torch.as_tensor(zero_based(target), device=input.device).reshape(-1)
        return super().compute(input, self.simplex.index_select(0, classes))

    def prepare(self, input: Any, target: Any) -> None:
        expect(input, like=self.simplex)
        if input.numel() == 0 or input.numel() % self.nClasses:
            raise InputError(f"expected {self.nClasses} numbers for each sample, got {describe(input)}")
        expect_targets(target, input.numel() // self.nClasses)
        if input.is_cuda:  # where a wrong class would end the whole process
            self.explain(input, target)

    def explain(self, input: Tensor, target: Any) -> None:
        expect_classes(target, self.nClasses)

    def native(self) -> None:
        return None

    def getPredictions(self, input: Tensor) -> Tensor:
        """The products with all corners.  (nClasses) or (batch, nClasses) -> (1 or batch, nClasses)"""
        expect(input, 1, 2, size=self.nClasses)
        return input.reshape(-1, self.nClasses) @ self.simplex.t()

    def getTopPrediction(self, input: Tensor) -> Tensor:
        """The nearest class of each sample, counted from 1."""
        return self.getPredictions(input).argmax(1) + 1


def simplex(corners: int) -> Tensor:
    """The corners of a regular simplex around the origin, one in each row; the last column is zero.

    A column is zero below its first entries but for the last corners, which agree in it.
    """
    rows = new_tensor(corners, corners)
    for k in range(corners - 1):
        rows[k, k] = height = math.sqrt(1 - rows[k, :k].square().sum().item())
        rows[k + 1 :, k] = (height**2 - 1 - 1 / (corners - 1)) / height
    return rows


class AbsCriterion(Pointwise):
    """|x - t|, averaged (`sizeAverage`) or summed.  any shape, and a target of as many elements"""

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        difference = input - like(target, input)
        return reduced(self, torch.where(difference >= 0, difference, -difference))  # of slope 1 at zero

    def adds_samples(self, target: Any) -> bool:
        return True

    def native(self) -> Native:
        return functools.partial(torch.nn.L1Loss, reduction=reduction(self))


class SmoothL1Criterion(Pointwise):
    """(x - t)^2 / 2 up to a distance of 1, then |x - t| - 1/2; averaged (`sizeAverage`) or summed.

    any shape, and a target of as many elements
    """

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(input, like(target, input), reduction=reduction(self))

    def adds_samples(self, target: Any) -> bool:
        return True

    def native(self) -> Native:
        return functools.partial(torch.nn.SmoothL1Loss, reduction=reduction(self))


class L1Cost(Criterion):
    """The sum of |x|; there is no target.  any shape"""

    def compute(self, input: Tensor, target: Any) -> Tensor:
        return input.abs().sum()

    def prepare(self, input: Any, target: Any) -> None:
        expect(input)


class DistKLDivCriterion(Pointwise):
    """t (log t - x) where t > 0, else 0, for log-probabilities x; averaged (`sizeAverage`) or summed.

    any shape, and a target of that shape.  The mean is over all elements, as of any other loss.
    """

    def __init__(self) -> None:
        super().__init__()

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        losses = torch.xlogy(target, target) - target * input
        return reduced(self, torch.where(target > 0, losses, 0))

    def prepare(self, input: Any, target: Any) -> None:
        super().prepare(input, target)
        if input.shape != target.shape:
            raise InputError(f"expected a target of the size of the input, got {describe((input, target))}")

    def adds_samples(self, target: Any) -> bool:
        return True

    def native(self) -> Native:
        return functools.partial(torch.nn.KLDivLoss, reduction=reduction(self))
