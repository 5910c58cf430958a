"""The gradients of the golden cases of nn beside finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from golden import cases, gradients, one_pass, parameters

from t7compat import Table
from t7compat.table import leaves

STEP = 1e-5
TOLERANCE = 1e-6


def tensors(value: Any) -> list[torch.Tensor]:
    """Those of a nested value that have a gradient, in 64 bits."""
    return [x for x in leaves(value) if isinstance(x, torch.Tensor) and x.dtype == torch.float64]


found = [(case, case.content) for case in cases("nn")]
found = [(case, data) for case, data in found if data.gradInput is not None and data.type is None]
modules = [case for case, data in found if one_pass(data) and data.seed is None and tensors(data.gradOutput)]
criterions = [case for case, data in found if data.criterion is not None]


def product(ones: Iterable[torch.Tensor], others: Iterable[torch.Tensor]) -> float:
    """The inner product of two lists of tensors."""
    return sum(float(a.flatten() @ b.flatten()) for a, b in zip(ones, others, strict=True))


def agree(loss: Callable[[], float], variables: list[torch.Tensor], found: list[torch.Tensor]) -> None:
    """Raise AssertionError unless the gradient `found` is the slope of a loss along a random direction."""
    generator = torch.Generator().manual_seed(1)
    along = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in variables]

    def after(step: float) -> float:
        for x, direction in zip(variables, along, strict=True):
            x.add_(direction, alpha=step)
        return loss()

    here, right, left = after(0), after(STEP), after(-2 * STEP)
    if right - here != pytest.approx(here - left, rel=1e-2, abs=1e-2 * STEP):
        pytest.skip("at a kink")
    assert (right - left) / (2 * STEP) == pytest.approx(product(found, along), rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize("case", modules, ids=str)
def test_slope(data: Table) -> None:
    module, input = data.module, data.input
    if module.is_sparse:
        pytest.skip("its input lists places and values")
    if data.train is False:
        module.evaluate()
    module.zeroGradParameters()
    module.forward(input)
    inputs, gradInputs = leaves(input), leaves(module.backward(input, data.gradOutput))
    pairs = [pair for pair in zip(inputs, gradInputs, strict=False) if len(tensors(pair)) == 2]
    pairs += zip(parameters(module), gradients(module), strict=True)
    variables, found = zip(*pairs, strict=True) if pairs else ([], [])
    agree(lambda: product(tensors(module.forward(input)), tensors(data.gradOutput)), variables, found)


@pytest.mark.parametrize("case", criterions, ids=str)
def test_slope_of_a_loss(data: Table) -> None:
    criterion = data.criterion
    criterion.forward(data.input, data.target)
    found = tensors(criterion.backward(data.input, data.target))
    agree(lambda: criterion.forward(data.input, data.target), tensors(data.input), found)
