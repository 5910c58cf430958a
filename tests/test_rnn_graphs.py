"""FastLSTM with its switches: networks that are graphs of nngraph, with batch normalisation or without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden import cases

import t7compat
from t7compat import InputError, nn

CASES = [case for case in cases("rnn") if case.stem == "FastLSTM" and case.content.setters is not None]
# By switch, for a cell made after manualSeed(7): the sums of its parameters, the outputs' of two steps
OF_TORCH7 = {
    "usenngraph": (
        [-0.4503402798436582, -0.1247041178867221, 0.2171531443730379],
        [-1.436177179125978, -2.226938003986423],
    ),
    "bn": (
        [
            -0.4503402798436582, -0.1247041178867221, 1.2, 0, 0.2171531443730379, 1.2, 0,
            0.2460310265846105, 0.3, 0,
        ],
        [-0.01254544909053411, 0.002295510244116124],
    ),
}  # fmt: skip


@pytest.fixture
def switched(monkeypatch: pytest.MonkeyPatch) -> Any:
    def cell(switch: str, *arguments: Any) -> Any:
        with monkeypatch.context() as context:
            context.setattr(nn.FastLSTM, switch, True)
            return nn.FastLSTM(*arguments)

    return cell


def nodes(cell: Any) -> list[tuple[int, str, Any]]:
    return [
        (node.id, str(node.data.module), node.annotations.name) for node in cell.recurrentModule.forwardnodes
    ]


@pytest.mark.parametrize("case", [case for case in CASES if case.content.setters[1][1] == "static"], ids=str)
def test_network_is_that_of_torch7(case: Any, switched: Any) -> None:
    data = case.load()
    built = switched(data.setters[1][2], *data.args)
    assert str(built) == data.tostring
    assert nodes(built) == nodes(data.module)
    assert set(vars(built)) == set(vars(data.module))
    for mine, theirs in zip(built.recurrentModule.modules, data.module.recurrentModule.modules, strict=True):
        assert set(vars(mine)) == set(vars(theirs))
        assert mine.eps == theirs.eps if isinstance(theirs, nn.BatchNormalization) else True


@pytest.mark.parametrize("switch", OF_TORCH7)
def test_random_numbers_are_those_of_torch7(switch: str, switched: Any) -> None:
    sums, outputs = OF_TORCH7[switch]
    t7compat.manualSeed(7)
    cell = switched(switch, 4, 3)
    x = torch.arange(20, dtype=torch.float64).view(5, 4) / 10
    assert [p.sum().item() for p in cell.parameters()[0]] == pytest.approx(sums, rel=1e-12)
    assert [cell.forward(x).sum().item() for _ in outputs] == pytest.approx(outputs, rel=1e-10)


def test_a_switch_counts_when_a_cell_is_made(switched: Any) -> None:
    assert isinstance(switched("usenngraph", 3, 2).recurrentModule, nn.gModule)
    assert isinstance(nn.FastLSTM(3, 2).recurrentModule, nn.Sequential)


def test_normalisation_without_weights(switched: Any) -> None:
    cell = switched("bn", 4, 3, None, 1e-3, 0.5, False)
    layers = [m for m in cell.recurrentModule.modules if isinstance(m, nn.BatchNormalization)]
    assert [(m.weight, m.eps, m.momentum) for m in layers] == [(None, 1e-3, 0.5)] * 3
    assert cell.forward(torch.randn(5, 4, dtype=torch.float64)).shape == (5, 3)


def test_other_wiring_of_the_same_modules_goes_step_by_step(switched: Any) -> None:
    net = nn.Sequencer(switched("usenngraph", 3, 3))
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    net.forward(x)
    assert net.whole is not None
    node = next(n for n in net.modules[1].recurrentModule.forwardnodes if n.annotations.name == "next_c")
    first, second = node.data.mapindex[1], node.data.mapindex[2]
    node.data.mapindex[first], node.data.mapindex[second] = 2, 1
    rewired = nn.Sequencer(net.modules[1].clone())
    assert same_as_before(rewired.forward(x), net.forward(x))
    assert rewired.whole is None


def same_as_before(got: Any, want: Any) -> bool:
    return torch.allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("switch", OF_TORCH7)
def test_takes_batches_only(switch: str, switched: Any) -> None:
    net = nn.Sequencer(switched(switch, 3, 2))
    with pytest.raises(InputError):
        net.forward(torch.zeros(4, 3, dtype=torch.float64))
