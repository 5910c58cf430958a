"""Layers for the classes of t7compat.contrib: plain PyTorch, copied into the written file."""

# mypy: disable-error-code="no-untyped-call, override"
from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from converters.emitted_states import Recurrence


class StartedRNN(Recurrence, nn.RNN):
    """nn.RNN whose input may also be (output before, input)."""

    def forward(self, input: Any, state: Any = None) -> Any:
        if isinstance(input, tuple):
            output, input = input
            state = output[None]
        return super().forward(input, state)


class NormOfRows(nn.BatchNorm1d):
    """Batch normalization of the last dimension: those before it are the batch."""

    def forward(self, input: Any) -> Any:
        return super().forward(input.flatten(0, -2)).view_as(input)


class FixedInstanceNorm(nn.Module):
    """Instance normalization that takes 0 for the means and 1 for the variances."""

    def __init__(self, planes: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(planes))
        self.bias = nn.Parameter(torch.zeros(planes))
        self.eps = eps

    def forward(self, input: Any) -> Any:
        output = input / math.sqrt(1 + self.eps)
        return output * self.weight[:, None, None] + self.bias[:, None, None]
