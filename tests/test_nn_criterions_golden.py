"""Losses: what holds for every golden case."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden import Case, cases, same

from t7compat import Table, nn
from t7compat.nn.criterion import Classifying
from t7compat.nn.shapes import zero_based
from t7compat.table import leaves, map_leaves

Tensor = torch.Tensor


def losses() -> list[Case]:
    """The golden cases of criterions."""
    found = [(case, case.content) for case in cases("nn")]
    return [case for case, data in found if data.loss is not None and data.module is None]


every_loss = pytest.mark.parametrize("case", losses(), ids=str)
COUNT_CLASSES = (Classifying, nn.CrossEntropyCriterion)


def in_64_bits(data: Table) -> None:
    if any(x.dtype != torch.float64 for x in leaves(data.input)):
        pytest.skip("in 32 bits")


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@every_loss
def test_native_form(data: Table) -> None:
    criterion = data.criterion
    make = criterion.native()
    if make is None:
        pytest.skip("torch.nn has no equal")
    inputs = list(data.input) if isinstance(data.input, Table) else [data.input]
    target = data.target
    if isinstance(criterion, COUNT_CLASSES):
        target = torch.as_tensor(zero_based(target))
    elif not isinstance(target, Tensor):
        target = (
            inputs[0]
            .new_tensor(target)
            .reshape(() if isinstance(criterion, nn.CosineEmbeddingCriterion) else 1)
        )
    if isinstance(criterion, nn.ClassNLLCriterion | nn.CrossEntropyCriterion):
        inputs = [x.reshape(x.shape[:2]) for x in inputs]  # torch.nn ignores no dimensions of size 1
        target = target.reshape(inputs[0].shape[:-1])
    loss = make()(*inputs, target)
    assert loss.item() == pytest.approx(data.loss, rel=1e-5 if inputs[0].dtype == torch.float32 else 1e-9)


@pytest.mark.cuda
@every_loss
def test_on_cuda(data: Table) -> None:
    in_64_bits(data)
    criterion = data.criterion.cudaDouble()
    input, target, want = (to_cuda(data[name]) for name in ("input", "target", "gradInput"))
    same(criterion.forward(input, target), data.loss, "loss")
    if data.backwardTarget is None:
        same(criterion.backward(input, target), map_leaves(torch.Tensor.cpu, want), "gradInput")


def to_cuda(value: Any) -> Any:
    def moved(x: Any) -> Any:
        if isinstance(x, Tensor):
            return (x.double() if x.is_floating_point() else x).cuda()
        return x

    return map_leaves(moved, value)
