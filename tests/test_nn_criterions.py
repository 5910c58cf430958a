"""Losses: what golden data do not have.  The numbers were printed by Torch7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import same
from torch7 import gives, wave

import t7compat
from t7compat import InputError, Table, nn
from t7compat.table import leaves

Tensor = torch.Tensor
Make = Callable[[], Any]


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def classes(*values: int) -> Tensor:
    return torch.tensor(values)


def pair(*size: int, add: float = 0.1) -> Table:
    """Two tensors of this size."""
    return Table(wave(*size), wave(*size) * 2 + add)


def parallel(*criterions: Any, repeatTarget: bool | None = None) -> Any:
    """A ParallelCriterion with the weights 1, 2, ..."""
    result = nn.ParallelCriterion(repeatTarget)
    for weight, criterion in enumerate(criterions, 1):
        result.add(criterion, weight)
    return result


MSE = nn.MSECriterion
COSINE, RANKING = nn.CosineEmbeddingCriterion, nn.MarginRankingCriterion
HINGE, L1HINGE = nn.HingeEmbeddingCriterion, nn.L1HingeEmbeddingCriterion
MULTILABEL, SPATIAL = nn.MultiLabelMarginCriterion, nn.SpatialClassNLLCriterion
INF = torch.inf

# The criterion, its input and target; the loss that Torch7 gives, and the gradient.
EDGES: list[tuple[Make, Any, Any, str]] = [
    (HINGE, row(1, 1, 0.5, 2, -3), row(-1, 0, 0.5, 3, -2), "1 -.2 0 .1 .6 -.4"),
    (HINGE, row(1, 1, 0.5, 2, -3), classes(-1, 1, 1, 1, -1), "1.5 -.2 .2 .2 .2 -.2"),
    (HINGE, row(INF, 1), classes(-1, 1), "0.5 0 0.5"),
    (
        COSINE,
        pair(3, 3),
        row(0.5, 0, 2),
        "0.998588 0.00182089 -0.00112777 -7.14644e-05 0.0227037 0.0120116 0.00389179 -0.00194731 0.00338273 "
        "0.0132188 -0.000855871 0.000539095 3.93727e-05 -0.0114561 -0.00661872 -0.00294513 0.000734767 "
        "-0.00198319 -0.00699891",
    ),
    (
        COSINE,
        Table(wave(2, 3), wave(2, 3) + 1),
        row(1, -1).reshape(1, 2),
        "0.0765247 -0.0530798 0.032875 0.00208323 0.873877 0.462334 0.149797 0.023107 -0.0167912 -0.00249835 "
        "0.181887 -0.257181 -0.590621",
    ),
    (COSINE, Table(row(1, 0), row(0, 1)), -1, "0 0 0 0 0"),
    (COSINE, Table(wave(1, 3) * 0, wave(1, 3)), row(1), "1 -441280 -675020 -591287 -0 -0 -0"),
    (RANKING, Table(row(1), row(0)), 1, "0 -1 1"),
    (RANKING, Table(row(1), row(0)), torch.tensor(1), "0 -1 1"),
    (RANKING, pair(2, 3, add=0), torch.ones(2, 3).double(), "3.80275" + " -.5" * 6 + " .5" * 6),
    (RANKING, pair(2, add=0), row(0.5, 0), "1.16105 -.25 0 .25 0"),
    (lambda: L1HINGE(2), Table(row(1, 2), row(2, 1)), -1, "0 1 -1 -1 1"),
    (lambda: L1HINGE(4), Table(row(1, 2), row(2, 1)), 0, "2 -1 1 1 -1"),
    (nn.SoftMarginCriterion, row(800, 40, -40), row(1, 1, 1), f"{40 / 3} 0 0 {-1 / 3}"),
    (nn.MarginCriterion, row(1, -1, 0.5, 0.2), row(1, -1, 2, 1), "0.2 0 0 0 -.25"),
    (nn.DistKLDivCriterion, wave(2, 3), wave(2, 3), "-0.505756 -0.10737 -0.164242 -0.143868 -0.0558314 0 0"),
    (nn.DistKLDivCriterion, row(-INF, -1), row(0, 1), "0.5 0 -.5"),
    (nn.AbsCriterion, row(1, 2, 3), row(1, 1, 4), "0.666667 0.333333 0.333333 -0.333333"),
    (nn.SmoothL1Criterion, row(1, 2, 3), row(1, 1, 4.5), "0.5 0 0.333333 -0.333333"),
    (
        lambda: nn.MultiLabelSoftMarginCriterion(row(2, 2, 2, 2, 2, 2)),
        wave(2, 3),
        wave(6),
        "0.73833 0.00382952 -0.0857538 -0.0532929 0.0826615 0.254659 0.388834",
    ),
    (MULTILABEL, wave(4), classes(2, 2, 0, 0), "0.943033 0.5 -1.5 0.5 0.5"),
    (MULTILABEL, wave(4), classes(0, 1, 2, 0), "0 0 0 0 0"),
    (MULTILABEL, row(1, 0), classes(1, 0), "0 0 0"),
    (nn.MultiMarginCriterion, wave(4), 2.7, "0.471517 0.25 -0.75 0.25 0.25"),
    (nn.MultiMarginCriterion, wave(1, 4), 2, "0.471517 0.25 -0.75 0.25 0.25"),
    (lambda: nn.MultiMarginCriterion(2), row(1, 0), 1, "0 0 0"),
    (lambda: nn.MultiMarginCriterion(1, None, -0.5), row(1, 1, 2), 1, "0.166667 -0.333333 0 0.333333"),
    (lambda: nn.ClassSimplexCriterion(4), wave(4), 2.5, "0.453693 0.488776 0.0213203 0.431605 0.167494"),
    (
        lambda: nn.ClassSimplexCriterion(4),
        wave(8),
        classes(2, 3),
        "0.701241 0.244388 0.0106602 0.215802 0.083747 -0.00436247 -0.100043 -0.449737 -0.157817",
    ),
    (
        lambda: nn.WeightedMSECriterion(wave(3)),
        wave(2, 3),
        torch.full((2, 3), 2),
        "2.53002 -0.214739 -0.328483 -0.287736 -0.317816 -0.773894 -0.865998",
    ),
    (
        lambda: nn.WeightedMSECriterion(wave(2, 3)),
        wave(2, 3, 2),
        wave(12) * 2,
        "1.35449 -0.0309692 -0.159462 -0.104509 0.0184257 -0.0994802 -0.398477 0.047229 0.102149 -0.00203566 "
        "0.0361369 0.280239 0.390716",
    ),
    (SPATIAL, wave(1, 3, 1, 2), torch.full((1, 1, 2), 1.5), "-0.814834 -.5 -.5 0 0 0 0"),
    (lambda: SPATIAL(row(0, 1, 1)), wave(1, 3, 1, 2), torch.full((1, 1, 2), 1), "0 0 0 0 0 0 0"),
    (lambda: nn.ClassNLLCriterion(row(0, 1, 1)), wave(2, 3), classes(1, 1), "0 0 0 0 0 0 0"),
    (nn.ClassNLLCriterion, wave(2, 3), classes(-100, -100), "0 0 0 0 0 0 0"),
    (lambda: nn.ClassNLLCriterion(row(2, 1, 1), False), wave(3), 1, "-1.28844 -2 0 0"),
    (nn.MultiCriterion, wave(2, 3), wave(2, 3), "0 0 0 0 0 0 0"),
    (
        lambda: parallel(MSE()),
        Table(wave(2, 3), Table(wave(2), wave(3))),
        Table(wave(2, 3) * 2),
        "0.521028 -0.214739 -0.328483 -0.287736 -0.111663 0.116928 0.290525 0 0 0 0 0",
    ),
    (
        lambda: parallel(MSE(), nn.AbsCriterion()),
        wave(2, 3),
        wave(2, 3) * 2,
        "1.74865 -0.429478 -0.656966 -0.575473 -0.666667 0.666667 0.666667",
    ),
    (
        lambda: parallel(nn.ClassNLLCriterion(), nn.ClassNLLCriterion()),
        wave(2, 3),
        classes(3, 1),
        "-1.53319 0 0 -1 -2 0 0",
    ),
    (
        lambda: parallel(parallel(MSE()), repeatTarget=True),
        Table(Table(wave(2))),
        Table(wave(2) * 2),
        "0.693064 -0.644218 -0.98545",
    ),
    (
        lambda: nn.BCECriterion(row(1, 2, 3, 4)),
        wave(2, 2).abs(),
        wave(4).abs() / 2,
        "2.70554 0.351338 17.1818 2.74142 0.751866",
    ),
    (
        lambda: nn.BCECriterion(row(1, 2)),
        wave(4).abs(),
        wave(2, 2).abs() / 2,
        "1.84703 0.351338 17.1818 0.913805 0.375933",
    ),
    (
        nn.CrossEntropyCriterion,
        wave(2, 3, 1, 1),
        classes(2, 1),
        "0.771658 0.13693 -0.307383 0.170453 -0.222673 0.13969 0.0829828",
    ),
    (nn.CrossEntropyCriterion, wave(1, 3), 2, "0.953906 0.27386 -0.614767 0.340907"),
]


@pytest.mark.parametrize(
    ("make", "input", "target", "printed"), EDGES, ids=[f"{i} {edge[0]()}" for i, edge in enumerate(EDGES)]
)
def test_edges(make: Make, input: Any, target: Any, printed: str) -> None:
    criterion = make()
    loss = criterion.forward(input, target)
    assert isinstance(loss, int | float)
    gives(Table(row(loss), criterion.backward(input, target)), printed)
    sizes = [[x.shape for x in leaves(value)] for value in (criterion.gradInput, input)]
    assert sizes[0] == sizes[1]


# ---- files without later fields, and fields that the user sets

# The criterion, the fields changed (None: absent from the file), input, target, the loss of Torch7.
FIELDS: list[tuple[Make, dict[str, Any], Any, Any, str]] = [
    (RANKING, {"sizeAverage": None}, pair(2, add=0), row(1, -1), "1.65877 -1 1 1 -1"),
    (HINGE, {"sizeAverage": None}, wave(2), row(1, -1), "0.329384 0.5 -0.5"),
    (
        nn.MultiLabelSoftMarginCriterion,
        {"sizeAverage": None},
        wave(2),
        row(1, 0),
        "1.72469 -0.344294 0.728188",
    ),
    (
        nn.CrossEntropyCriterion,
        {"sizeAverage": None, "oldSizeAverage": None},
        wave(2, 3),
        classes(1, 2),
        "1.28516 -0.36307 0.192617 0.170453 0.277327 -0.36031 0.0829828",
    ),
    (
        nn.CrossEntropyCriterion,
        {"sizeAverage": False},
        wave(2, 3),
        classes(1, 2),
        "2.57032 -0.72614 0.385233 0.340907 0.554654 -0.72062 0.165966",
    ),
    (
        nn.MultiMarginCriterion,
        {"p": None, "margin": None},
        wave(2, 3),
        classes(1, 2),
        "0.787534 -0.333333 0.166667 0.166667 0.166667 -0.333333 0.166667",
    ),
    (
        nn.ClassNLLCriterion,
        {"ignoreIndex": None, "output_tensor": None, "total_weight_tensor": None, "target": None},
        wave(3),
        1,
        "-0.644218 -1 0 0",
    ),
]


@pytest.mark.parametrize(("make", "fields", "input", "target", "printed"), FIELDS)
def test_fields(make: Make, fields: dict[str, Any], input: Any, target: Any, printed: str) -> None:
    criterion = make()
    for name, value in fields.items():
        if value is None:
            del vars(criterion)[name]
        else:
            setattr(criterion, name, value)
    criterion = t7compat.loads(t7compat.dumps(criterion))
    gives(Table(row(criterion.forward(input, target)), criterion.backward(input, target)), printed)


def test_fields_that_programs_read() -> None:
    criterion = nn.CrossEntropyCriterion(row(1, 2, 3))
    assert criterion.forward(wave(2, 3), classes(2, 1)) == criterion.nll.output
    torch.testing.assert_close(criterion.lsm.output, torch.log_softmax(wave(2, 3), 1))
    assert criterion.nll.total_weight_tensor.tolist() == [3]
    criterion = nn.ClassNLLCriterion(None, True, 2)
    criterion.forward(wave(2, 3), classes(2, 1))
    assert criterion.total_weight_tensor.tolist() == [1]


# ---- single classes


class Distance(nn.Criterion):
    """The first entry's sum less the second's, in the old style."""

    def updateOutput(self, input: Table, target: float) -> Any:
        return (input[1] - input[2]).sum().item() - target

    def updateGradInput(self, input: Table, target: float) -> Any:
        return Table(torch.ones_like(input[1]), -torch.ones_like(input[2]))


@pytest.mark.parametrize(
    ("seed", "margin", "target", "printed", "next"),
    [
        (3, 1, 1, "2 -1 1 -1 1 -1 1", 738),
        (3, 1, -1, "0 0 0 0 0 0 0", 738),
        (4, 4, -1, "2 1 -1 1 -1 1 -1", 632),
    ],
)
def test_slopes_are_drawn(seed: int, margin: float, target: int, printed: str, next: int) -> None:
    criterion, input = L1HINGE(margin), Table(row(1, 2, 3), row(1, 0, 3))
    t7compat.manualSeed(seed)
    gives(Table(row(criterion.forward(input, target)), criterion.backward(input, target)), printed)
    assert t7compat.mersenne.random(1000) == next


def test_simplex() -> None:
    criterion = nn.ClassSimplexCriterion(4)
    gives(
        criterion.simplex,
        "1 0 0 0 -.333333 .942809 0 0 -.333333 -.471405 .816497 0 -.333333 -.471405 -.816497 0",
    )
    gives(criterion.getPredictions(wave(4)), "0.6442177 0.7143517 0.02552281 -1.384092")
    assert criterion.getTopPrediction(wave(2, 4)).tolist() == [2, 4]
    with pytest.raises(InputError, match="with 4 elements"):
        criterion.getPredictions(wave(2, 3))


def test_large_distances() -> None:
    """Torch7 gives -inf for the first one."""
    distances = Table(row(800, 1, 30), row(900, 800, 1))
    gives(row(nn.DistanceRatioCriterion(False).forward(distances)), "29")


def test_uncropped_target_in_backward() -> None:
    criterion, x, y = nn.SpatialAutoCropMSECriterion(), wave(1, 2, 3), wave(1, 5, 4)
    criterion.forward(x, y)
    same(criterion.backward(x, y), MSE().backward(x, y[:, 1:3, :3].contiguous()))


def test_weights_of_a_multi_criterion() -> None:
    criterion = nn.MultiCriterion().add(MSE(), 3).float().add(nn.AbsCriterion(), 0.5)
    assert repr(criterion.weights) == "DoubleStorage([3.0, 0.5])"
    x, y = wave(4).float(), wave(4).float() * 2
    assert criterion.forward(x, y) == pytest.approx(
        3 * MSE().forward(x, y) + 0.5 * (x - y).abs().mean().item()
    )


def test_combinations_of_own_criterions() -> None:
    criterion, both = parallel(MSE(), Distance()), Table(wave(2), pair(2, add=0))
    target = [wave(2), 4]
    gives(row(criterion.forward(both, target)), "-11.259335")
    gives(row(nn.CriterionTable(criterion).forward([both, target])), "-11.259335")
    gives(criterion.backward(both, target), "0 0 2 2 -2 -2")


def test_module_criterion() -> None:
    with pytest.warns(UserWarning, match="parameter updates"):
        criterion = nn.ModuleCriterion(MSE(), nn.Linear(2, 2), nn.Linear(2, 2), False)
    assert "output" not in vars(criterion)
    assert criterion.float().targetModule.weight.dtype == torch.float32
    criterion = nn.ModuleCriterion(nn.ClassNLLCriterion(), nn.LogSoftMax(), nn.Identity())
    expected = nn.CrossEntropyCriterion()
    x, y = wave(2, 3), classes(3, 1)
    assert criterion.forward(x, y) == expected.forward(x, y)
    same(criterion.backward(x, y), expected.backward(x, y))


def test_criterion_as_a_module() -> None:
    module = nn.CriterionTable(parallel(COSINE()))
    input = Table(Table(pair(2, 3)), Table(row(1, -1)))
    assert module.forward(input) == module.criterion.output
    same(module.backward(input, 1), Table(module.criterion.gradInput))
    with pytest.raises(InputError, match=r"nn.CriterionTable: expected a table"):
        module.forward(wave(2))
