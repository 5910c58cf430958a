"""Layers for the classes of t7compat.contrib: plain PyTorch, copied into the written file."""

# mypy: disable-error-code="no-untyped-call, override"
from __future__ import annotations

from typing import Any

import torch
from torch import nn


class StartedRNN(nn.RNN):
    """nn.RNN over a tensor, which gives the outputs alone.  The input may be (output before, tensor)."""

    def forward(self, input: Any) -> Any:
        if isinstance(input, torch.Tensor):
            return super().forward(input)[0]
        output, x = input
        return super().forward(x, output[None])[0]


class NormOfRows(nn.BatchNorm1d):
    """Batch normalization of the last dimension: those before it are the batch."""

    def forward(self, input: Any) -> Any:
        return super().forward(input.flatten(0, -2)).view_as(input)
