"""Classes of a written file, as in emitted.py: of recurrent modules other than cells, and of masks."""

# mypy: disable-error-code="no-untyped-call, override"
from __future__ import annotations

from typing import Any

import torch
from torch import nn


class MaskZero(nn.Sequential):
    """Zeroes the output of its layers for the samples whose input, or the first of it, is all zeros.

    A sample has `dims` dimensions (None: all but the first).
    """

    def __init__(self, *children: nn.Module, dims: int | None) -> None:
        super().__init__(*children)
        self.dims = dims

    def masked(self, value: Any, mask: torch.Tensor) -> Any:
        if isinstance(value, tuple):
            return tuple([self.masked(part, mask) for part in value])
        return value.masked_fill(mask.reshape(mask.shape + (1,) * (value.dim() - mask.dim())), 0)

    def forward(self, input: Any) -> Any:
        first = input
        while isinstance(first, tuple):
            first = first[0]
        samples = first.shape[:1] if self.dims is None else first.shape[: first.dim() - self.dims]
        mask = (first == 0).reshape(*samples, -1).all(-1)
        return self.masked(super().forward(input), mask)


class Recurrent(nn.Sequential):
    """Runs one layer on the first step of a sequence, and another one on {x, last output} for the others."""

    def forward(self, input: Any) -> Any:
        first, later = self
        outputs: list[Any] = []
        for x in input:
            outputs.append(later((x, outputs[-1])) if outputs else first(x))
        return torch.stack(outputs) if isinstance(input, torch.Tensor) else tuple(outputs)


class Repeated(nn.Sequential):
    """Runs layers over sequences on one that has the same input at each of its `steps`."""

    def __init__(self, *children: nn.Module, steps: int) -> None:
        super().__init__(*children)
        self.steps = steps

    def forward(self, input: Any) -> Any:
        return super().forward((input,) * self.steps)
