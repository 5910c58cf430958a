"""Layers for the classes of t7compat.contrib: plain PyTorch, copied into the written file."""

# mypy: disable-error-code="no-untyped-call, override"
from __future__ import annotations

from typing import Any

from torch import nn


class StartedRNN(nn.RNN):
    """nn.RNN over a tensor, which gives the outputs alone.  The input may be (output before, tensor).

    `run` goes on from a state, the last output, and gives that after the sequence, too.
    """

    def run(self, input: Any, state: Any = None) -> Any:
        if isinstance(input, tuple):
            output, input = input
            state = output[None]
        return super().forward(input, state)

    def forward(self, input: Any) -> Any:
        return self.run(input)[0]


class NormOfRows(nn.BatchNorm1d):
    """Batch normalization of the last dimension: those before it are the batch."""

    def forward(self, input: Any) -> Any:
        return super().forward(input.flatten(0, -2)).view_as(input)
