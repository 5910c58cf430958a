"""How far two results are apart, and how far they may be."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from t7compat.nn.shapes import describe
from t7compat.table import to_tuples

# Relative to the largest number of the result (of an output: or to 1, if that is larger)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 1e-1}


class Difference(NamedTuple):
    """The largest difference between two results, how large it may be, and what else is wrong."""

    largest: float = 0.0
    allowed: float = 0.0
    problem: str = ""

    @property
    def within(self) -> bool:
        return not self.problem and self.largest <= self.allowed

    @property
    def excess(self) -> float:
        """How many times the largest difference is what it may be."""
        return self.largest / self.allowed if self.allowed else math.inf if self.largest else 0.0

    def __str__(self) -> str:
        return self.problem or f"{self.largest:.2g}"


def difference(got: Any, want: Any, least: float = 1.0) -> Difference:
    """The difference between two nested values; Torch's tables count as tuples.

    What is allowed is relative to the largest number of a tensor, or to `least`, if that is larger.
    """
    pairs: list[tuple[Any, Any]] = []
    if not _pair(to_tuples(lambda x: x, got), to_tuples(lambda x: x, want), pairs):
        return Difference(math.inf, problem=f"{describe(got)} instead of {describe(want)}")
    found = [_between(*pair, least) for pair in pairs]
    return max(found, key=lambda one: (one.largest - one.allowed, one.largest), default=Difference())


def _pair(got: Any, want: Any, pairs: list[tuple[Any, Any]]) -> bool:
    """Collect the leaves of two nested values side by side; False if they are not built alike."""
    if isinstance(want, tuple | dict):
        if type(got) is not type(want) or len(got) != len(want):
            return False
        keys: Any = want.keys() if isinstance(want, dict) else range(len(want))
        return keys == getattr(got, "keys", lambda: keys)() and all(
            _pair(got[k], want[k], pairs) for k in keys
        )
    pairs.append((got, want))
    if not isinstance(got, torch.Tensor) or not isinstance(want, torch.Tensor):
        return type(got) is type(want)
    return got.dtype == want.dtype and (got.shape == want.shape or got.numel() == want.numel() == 0)


def _between(got: Any, want: Any, least: float) -> Difference:
    if not isinstance(want, torch.Tensor):
        return Difference() if got == want else Difference(math.inf, problem=f"{got!r} instead of {want!r}")
    got, ours = got.detach().double(), want.detach().double()
    apart = (got - ours).abs()
    apart[(got == ours) | (got.isnan() & ours.isnan())] = 0  # infinities and NaNs in the same places
    finite = ours[ours.isfinite()].abs()
    scale = max(least, finite.max().item() if finite.numel() else 0.0)
    largest = apart.nan_to_num(nan=math.inf, posinf=math.inf).max().item() if apart.numel() else 0.0
    return Difference(largest, TOLERANCE.get(want.dtype, 0.0) * scale)
