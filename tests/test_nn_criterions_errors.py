"""Losses: the targets and arguments that Torch7 refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_nn_criterions import (
    COSINE,
    HINGE,
    L1HINGE,
    MSE,
    MULTILABEL,
    RANKING,
    SPATIAL,
    Make,
    classes,
    pair,
    parallel,
    row,
)
from torch7 import wave

from t7compat import InputError, Table, nn

# The criterion, its input and a target that Torch7 refuses, and what is said about it.
REFUSED: list[tuple[Make, Any, Any, str]] = [
    (HINGE, wave(3), 1, "target for each of 3"),
    (HINGE, wave(2, 3), row(1, -1), "target: expected"),
    (COSINE, pair(2, 3), 1, "target for each of 2"),
    (COSINE, pair(2, 3), row(1, -1, 1), "with 2 elements"),
    (COSINE, pair(2, 3, 2), row(1, -1), "1-D or 2-D"),
    (COSINE, Table(wave(2, 3)), row(1, -1), "table with 2 entries"),
    (COSINE, Table(wave(2, 3), wave(3, 2)), row(1, -1), "of one size"),
    (RANKING, pair(3), 1, "target for each of 3"),
    (RANKING, pair(2, 3), row(1, 1), "target: expected"),
    (RANKING, pair(2), classes(1, 1), "target: expected"),
    (RANKING, pair(1, 1), 1, "1-D"),
    (L1HINGE, Table(wave(2, 3), wave(5)), 1, "second entry: expected"),
    (L1HINGE, pair(2), row(-1, 1), "number 1 or -1"),
    (nn.DistanceRatioCriterion, Table(wave(2), wave(2), wave(2)), None, "two tensors"),
    (nn.DistanceRatioCriterion, Table(wave(2), wave(2, 1, 1).reshape(1, 2)), None, "two tensors"),
    (nn.SmoothL1Criterion, wave(2, 3), wave(5), "target: expected"),
    (nn.SoftMarginCriterion, wave(4), wave(1), "target: expected"),
    (nn.MarginCriterion, wave(4), wave(4).float(), "target: expected"),
    (nn.DistKLDivCriterion, wave(2, 3), wave(6), "of the size of the input"),
    (lambda: nn.MultiLabelSoftMarginCriterion(row(1, 1, 1, 1)), wave(2, 3), wave(2, 3), "with 4 elements"),
    (lambda: nn.MultiLabelSoftMarginCriterion(row(1, 1)), wave(2, 2, 1), wave(2, 2, 1), "1-D or 2-D"),
    (MULTILABEL, wave(4), classes(1, -1, 2, 0), "from 1 to 4, got -1"),
    (MULTILABEL, wave(4), classes(1, 0, 5, 0), "from 1 to 4, got 5"),
    (MULTILABEL, wave(1, 4), classes(1, 0, 2, 0), "2-D"),
    (MULTILABEL, wave(1), 1, "1-D"),
    (nn.MultiMarginCriterion, wave(2, 4), 2, "target for each of 2"),
    (nn.MultiMarginCriterion, wave(2, 4), classes(5, 1), "from 1 to 4, got 5"),
    (nn.MultiMarginCriterion, wave(2, 4), classes(2, 1).reshape(2, 1), "1-D"),
    (lambda: nn.MultiMarginCriterion(1, row(1, 1)), wave(2, 4), classes(2, 1), "expected 4 weights"),
    (lambda: nn.ClassSimplexCriterion(4), wave(2, 4), classes(5, 1), "from 1 to 4, got 5"),
    (lambda: nn.ClassSimplexCriterion(4), wave(2, 4), classes(0, 1), "from 1 to 4, got 0"),
    (lambda: nn.ClassSimplexCriterion(4), wave(2, 5), classes(2, 3), "4 numbers for each sample"),
    (lambda: nn.ClassSimplexCriterion(4), wave(2, 4), classes(2, 3).reshape(2, 1), "1-D"),
    (nn.SpatialAutoCropMSECriterion, wave(1, 2, 2), wave(2, 4, 4), "middle of the target"),
    (nn.SpatialAutoCropMSECriterion, wave(1, 5, 2), wave(1, 4, 4), "as high and wide"),
    (nn.SpatialAutoCropMSECriterion, wave(2, 2), wave(4, 4), "3-D or 4-D"),
    (nn.SpatialAutoCropMSECriterion, wave(2, 2, 2), wave(1, 2, 4, 4), "3-D"),
    (lambda: nn.WeightedMSECriterion(wave(6)), wave(2, 3), wave(2, 3), "weight: expected"),
    (lambda: nn.WeightedMSECriterion(wave(1)), wave(2, 3), wave(2, 3), "weight: expected"),
    (SPATIAL, wave(3, 2, 2), torch.ones(2, 2), "4-D"),
    (SPATIAL, wave(1, 3, 1, 1), 2, "3-D"),
    (SPATIAL, wave(1, 3, 2, 2), torch.full((1, 2, 2), 4), "from 1 to 3, got 4"),
    (SPATIAL, wave(1, 3, 2, 2), torch.full((1, 2, 2), -99), "from 1 to 3, got -99"),
    (SPATIAL, wave(1, 3, 2, 2), torch.ones(1, 4, 1), "with 2 elements in dimension 2"),
    (lambda: SPATIAL(row(1, 1)), wave(1, 3, 1, 2), torch.ones(1, 1, 2), "expected 3 weights"),
    (lambda: parallel(MSE(), MSE()), Table(wave(2)), Table(wave(2), wave(2)), "table of 2 as input"),
    (lambda: parallel(MSE(), MSE()), pair(2), Table(wave(2)), "table of 2 as target"),
    (lambda: parallel(MSE()), 3, Table(wave(2)), "table of 1 as input"),
    (lambda: parallel(MSE()), wave(1)[0], Table(wave(2)), "table of 1 as input"),
    (lambda: parallel(MSE()), Table(wave(2)), Table(wave(3)), "in criterion 1 of nn.ParallelCriterion"),
    (lambda: nn.MultiCriterion().add(MSE()), wave(2), wave(3), "in criterion 1 of nn.MultiCriterion"),
]


@pytest.mark.parametrize(
    ("make", "input", "target", "said"), REFUSED, ids=[f"{i} {r[0]()}" for i, r in enumerate(REFUSED)]
)
def test_refused(make: Make, input: Any, target: Any, said: str) -> None:
    criterion = make()
    for method in (criterion.forward, criterion.backward):
        with pytest.raises(InputError, match=said):
            method(input, target)


ARGUMENTS: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (nn.MultiMarginCriterion, (3,)),
    (nn.MultiMarginCriterion, (1, wave(2, 2))),
    (nn.MultiLabelSoftMarginCriterion, (wave(2, 2),)),
    (SPATIAL, (wave(2, 2),)),
    (nn.ClassSimplexCriterion, (1,)),
    (nn.ClassSimplexCriterion, (2.5,)),
    (nn.ClassSimplexCriterion, (None,)),
    (nn.WeightedMSECriterion, (None,)),
    (nn.MultiCriterion().add, (None,)),
    (nn.ParallelCriterion().add, (nn.Linear(1, 1),)),
]


@pytest.mark.parametrize(("make", "arguments"), ARGUMENTS)
def test_refused_arguments(make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match="expected"):
        make(*arguments)


def test_integer_input() -> None:
    with pytest.raises(InputError, match="floating point"):
        nn.L1Cost().backward(classes(1, 2))
