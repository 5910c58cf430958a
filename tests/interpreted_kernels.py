"""Runs recurrences by Triton's kernels and by PyTorch's operations; fails unless the numbers are the same.

A program of its own because TRITON_INTERPRET=1, by which kernels run without a GPU, is for a whole process.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any
from unittest.mock import patch

import torch

from t7compat.rnn import kernels, unrolled

STEPS, BATCH, INPUTS = 3, 3, 4
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-2}


def random(*size: int) -> torch.Tensor:
    return torch.randn(size, dtype=torch.float64)


def padding() -> torch.Tensor:
    """Where a step is no part of a sequence; as of a batch whose first dimension is not time."""
    mask = torch.zeros(BATCH, STEPS, 1, dtype=torch.bool)
    mask[0, 0] = mask[2, 1] = mask[:, 2] = True
    return mask.transpose(0, 1)


def sweep(function: Any, values: list[torch.Tensor]) -> list[torch.Tensor]:
    """The results, and the gradients of a sum of them."""
    leaves = [value.detach().requires_grad_() for value in values]
    results = [part for part in function(*leaves) if part.requires_grad]
    weighted = [(part * torch.linspace(-1, 1, part.numel()).to(part).view_as(part)).sum() for part in results]
    return [*results, *torch.autograd.grad(sum(weighted), leaves)]


def compare(dtypes: Iterable[torch.dtype], function: Any, *values: torch.Tensor) -> None:
    for dtype in dtypes:
        tensors = [value.to(dtype) for value in values]
        usual = sweep(function, tensors)
        with patch.object(unrolled, "best", lambda step, x: getattr(kernels, step.__name__)):
            found = sweep(function, tensors)
        torch.testing.assert_close(found, usual, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])


def compare_gru(dtypes: Iterable[torch.dtype], size: int, mask: torch.Tensor | None) -> None:
    weight, bias = random(INPUTS + size, 3 * size) / 5, random(3 * size)
    compare(
        dtypes,
        lambda *values: unrolled.GRU.apply(*values, mask),
        random(STEPS, BATCH, INPUTS), random(size, BATCH).t(), weight, bias,
    )  # fmt: skip


def compare_lstm(
    dtypes: Iterable[torch.dtype], size: int, mask: torch.Tensor | None, sees: bool, outputs: int | None
) -> None:
    weight, bias = random(INPUTS + (outputs or size), 4 * size) / 5, random(4 * size)
    optional = [random(3, size) if sees else None, random(size, outputs) if outputs else None]

    def lstm(*values: torch.Tensor) -> Any:
        given = iter(values[5:])
        peepholes, project = (None if value is None else next(given) for value in optional)
        return unrolled.LSTM.apply(*values[:5], peepholes, project, mask)

    compare(
        dtypes, lstm, random(STEPS, BATCH, INPUTS), random(BATCH, outputs or size), random(size, BATCH).t(),
        weight, bias, *[value for value in optional if value is not None],
    )  # fmt: skip


torch.manual_seed(0)
for size, mask in itertools.product((1, 7, 150), (None, padding())):
    dtypes = TOLERANCES if size == 7 else [torch.float64]
    compare_gru(dtypes, size, mask)
    for sees, outputs in itertools.product((False, True), (None, 6)):
        compare_lstm(dtypes, size, mask, sees, outputs)
