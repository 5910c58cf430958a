"""Whole sequences in one graph: what runs so, what does not, and what happens around it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from wholes import LAYERS, SIZE, compare, graph_cell, network, step_by_step

import t7compat
from t7compat import InputError, Table, mersenne, nn
from t7compat.table import leaves

# ---- what runs as a whole


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_known_layers_run_whole(name: str) -> None:
    net = network([name])
    net.forward(torch.randn(4, 2, SIZE, dtype=torch.float64))
    assert net.whole is not None


class Centered(nn.Linear, typename="test.Centered"):
    """A layer of the user's that is no Linear."""

    def compute(self, input: Any, weight: Any, bias: Any) -> Any:
        return 2 * super().compute(input, weight, bias) - input.mean()


class Biased(nn.FastLSTM, typename="test.Biased"):
    """A cell of the user's."""

    def buildModel(self) -> Any:
        return nn.Sequential().add(super().buildModel())


def changed(cell: Any) -> Any:
    cell.recurrentModule.replace(lambda module: nn.ReLU() if type(module) is nn.Tanh else module)
    return cell


def hooked(cell: Any) -> Any:
    """The old idiom to leave a layer as it is in training."""
    cell.o2g.accGradParameters = lambda *_: None
    return cell


def twice(module: Any) -> Any:
    return nn.Sequential().add(module).add(module)


def recurrent(transfer: Any) -> Any:
    return nn.Recurrent(SIZE, nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE), transfer)


@pytest.mark.parametrize(
    "module",
    [
        Centered(SIZE, SIZE),
        hooked(nn.FastLSTM(SIZE, SIZE)),
        twice(nn.Tanh()),
        twice(nn.Dropout(0.5)),
        recurrent(nn.Sequential().add(nn.Tanh())),
        recurrent(nn.Dropout(0.5)),
        recurrent(nn.Mul()),
        nn.CMul(2, SIZE),
        Biased(SIZE, SIZE),
        changed(nn.FastLSTM(SIZE, SIZE)),
        changed(nn.GRU(SIZE, SIZE)),
        graph_cell("bn"),
        nn.BatchNormalization(SIZE),
        nn.LSTM(SIZE, SIZE, None, True, 0.5),
        nn.JoinTable(1),
        nn.Sequential().add(nn.Linear(SIZE, SIZE)).add(nn.Reshape(SIZE)),
    ],
    ids=lambda module: module.__typename__,
)
def test_anything_else_goes_step_by_step(module: Any) -> None:
    net = nn.Sequencer(module)
    x = torch.randn(4, 2, SIZE, dtype=torch.float64)
    net.forward([Table(*step) for step in x] if isinstance(module, nn.JoinTable) else x)
    assert net.whole is None


def test_a_method_of_the_instance_counts() -> None:
    net = network(["linear", "FastLSTM"])
    net.module.module.modules[1].updateOutput = lambda input: input
    net.forward(torch.randn(4, 2, SIZE, dtype=torch.float64))
    assert net.whole is None


def test_steps_of_several_sizes_go_step_by_step() -> None:
    net = network(["linear", "FastLSTM"])
    outputs = net.forward([torch.randn(2, SIZE, dtype=torch.float64) for _ in range(3)])
    assert net.whole is not None
    assert outputs[3].shape == (2, SIZE)
    with pytest.raises(InputError, match=r"in step 2 of nn\.Sequencer: .*expected a 1-D or 2-D"):
        net.forward([torch.randn(2, SIZE, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)])


# ---- what the random examples do not have


@pytest.mark.parametrize("names", [["dropout", "FastLSTM", "dropout", "linear", "dropout"], ["dropout"]])
def test_random_numbers_are_drawn_in_turn(names: list[str]) -> None:
    """The first forward of several goes step by step, to learn their sizes."""
    net, x = network(names), torch.randn(5, 2, SIZE, dtype=torch.float64)

    def outputs() -> list[Any]:
        t7compat.manualSeed(3)
        return [net.forward(x), mersenne.getRNGState()]

    outputs()
    found = outputs()
    assert net.whole is not None
    with step_by_step():
        compare(found, outputs(), "noise")


def trained(net: Any, change: Any) -> list[Any]:
    """What follows when something is changed between a forward and its backward."""
    random = torch.Generator().manual_seed(4)
    x, gradient = torch.randn(2, 5, 2, SIZE, dtype=torch.float64, generator=random)
    steps = Table(*x.clone().unbind())
    output = net.forward(steps)
    change(net, steps, output)
    return [net.backward(steps, Table(*gradient)), net.parameters()]


CHANGES = {
    "parameters": lambda net, *_: [parameter.mul_(2) for parameter in net.parameters()[0]],
    "input": lambda net, steps, _: [step.mul_(2) for step in steps],
}


@pytest.mark.parametrize("names", [["linear", "LSTM"], ["FastLSTM", "linear"], ["GRU"], ["Recurrent"]])
@pytest.mark.parametrize("change", ["parameters", "input"])
def test_changes_before_backward_count(change: str, names: list[str]) -> None:
    found = trained(network(names), CHANGES[change])
    with step_by_step():
        compare(found, trained(network(names), CHANGES[change]), change)


def test_what_is_returned_belongs_to_the_caller() -> None:
    x = torch.randn(4, 2, SIZE, dtype=torch.float64)
    for names in (["LSTM"], ["stabilizer"]):
        net, given = network(names).remember("both"), x.clone()
        net.forward(given).zero_()
        assert torch.equal(given, x)
        with step_by_step():
            other = network(names).remember("both")
            other.forward(x)
            compare(other.forward(x), net.forward(x), "second forward")


def test_no_number_goes_over_a_mask() -> None:
    x = torch.randn(5, 2, SIZE, dtype=torch.float64)
    x[1, 0, 1], x[2] = torch.nan, 0
    for name in ("masked FastLSTM", "masked LSTM", "masked GRU"):
        assert not network([name]).forward(x)[3:].isnan().any()


@pytest.mark.parametrize("name", ["FastLSTM", "LSTM", "GRU", "Recurrent"])
def test_networks_are_freed(name: str) -> None:
    net = network([name])
    x = torch.randn(4, 2, SIZE, dtype=torch.float64)
    net.backward(x, net.forward(x))
    module = weakref.ref(net.module)
    del net
    gc.collect()
    assert module() is None


def test_memory_does_not_grow_with_remember() -> None:
    net = network(["LSTM"]).remember("both")
    x = torch.randn(4, 2, SIZE, dtype=torch.float64)
    for _ in range(4):
        net.backward(x, net.forward(x))
    tables = [vars(net.module)[name] for name in ("outputs", "cells", "gradCells", "gradOutputs")]
    assert max(len(list(table.keys())) for table in tables) <= 2 * len(x)


def test_wrong_states_and_gradients_are_named() -> None:
    net = network(["LSTM"]).remember("both")
    x = torch.randn(4, 2, SIZE, dtype=torch.float64)
    net.forward(x)
    with pytest.raises(InputError, match=r"in step 4 of .*gradOutput: expected .*2x3, got .*2x7"):
        net.backward(x, torch.zeros(4, 2, 7, dtype=torch.float64))
    with pytest.raises(InputError, match=r"in step 1 of nn\.Sequencer"):
        net.forward(torch.zeros(4, 5, SIZE, dtype=torch.float64))


def encoder_and_decoder() -> tuple[Any, Any]:
    t7compat.manualSeed(2)
    return nn.Sequencer(nn.LSTM(SIZE, SIZE)), nn.Sequencer(nn.FastLSTM(SIZE, SIZE))


def coupled(encoder: Any, decoder: Any) -> list[Any]:
    """A decoder that starts where an encoder ended, and gives it the gradient."""
    random = torch.Generator().manual_seed(1)
    x, y, gradient = torch.randn(3, 4, 2, SIZE, dtype=torch.float64, generator=random)
    encoder.forward(x)
    decoder.module.userPrevOutput = encoder.module.outputs[4]
    decoder.module.userPrevCell = encoder.module.getHiddenState(4)[2]
    found = [decoder.forward(y), decoder.backward(y, gradient)]
    encoder.module.setGradHiddenState(4, decoder.module.getGradHiddenState(0))
    return [*found, encoder.backward(x, torch.zeros_like(x)), encoder.parameters(), decoder.parameters()]


def test_states_go_from_one_network_to_another() -> None:
    found = coupled(*encoder_and_decoder())
    with step_by_step():
        compare(found, coupled(*encoder_and_decoder()), "encoder and decoder")


def test_tables_and_indices() -> None:
    def make() -> Any:
        t7compat.manualSeed(1)
        inputs = nn.ParallelTable().add(nn.LookupTable(5, SIZE)).add(nn.Linear(2, SIZE))
        return nn.Sequencer(nn.Sequential().add(inputs).add(nn.JoinTable(2)).add(nn.GRU(2 * SIZE, SIZE)))

    indices, x = torch.randint(1, 6, (4, 2)), torch.randn(4, 2, 2, dtype=torch.float64)
    steps, gradient = (
        [Table(*step) for step in zip(indices, x, strict=True)],
        torch.randn(4, 2, SIZE).double(),
    )
    whole, stepwise = make(), make()
    found = [whole.forward(steps), whole.backward(steps, list(gradient)), whole.parameters()]
    assert whole.whole is not None
    with step_by_step():
        expected = [stepwise.forward(steps), stepwise.backward(steps, list(gradient)), stepwise.parameters()]
    compare(found, expected, "tables")


@pytest.mark.parametrize("form", [torch.float32, torch.float64])
@pytest.mark.parametrize("cell", ["FastLSTM", "LSTM", "GRU"])
def test_precision(cell: str, form: torch.dtype) -> None:
    """float32 has kernels of its own."""
    x, gradient = torch.randn(2, 6, 4, SIZE, dtype=form)
    whole, stepwise = (
        network([cell]).type(f"torch.{'Float' if form == torch.float32 else 'Double'}Tensor") for _ in "12"
    )
    found = [whole.forward(x), whole.backward(x, gradient), whole.parameters()]
    assert whole.whole is not None
    with step_by_step():
        expected = [stepwise.forward(x), stepwise.backward(x, gradient), stepwise.parameters()]
    for mine, theirs in zip(leaves(found), leaves(expected), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


CRITERIONS = [
    (nn.MSECriterion, "like the input"),
    (nn.AbsCriterion, "like the input"),
    (nn.SmoothL1Criterion, "like the input"),
    (nn.DistKLDivCriterion, "like the input"),
    (nn.BCECriterion, "like the input"),
    (nn.ClassNLLCriterion, "classes"),
    (nn.CrossEntropyCriterion, "classes"),
]


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("inner_average", [False, True])
@pytest.mark.parametrize("form", ["tensor", "table"])
@pytest.mark.parametrize(("kind", "target"), CRITERIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_losses_of_all_steps_at_once(
    kind: Any, target: str, form: str, inner_average: bool, average: bool
) -> None:
    x = torch.rand(4, 3, SIZE, dtype=torch.float64)
    y = torch.rand_like(x) if target == "like the input" else torch.randint(1, SIZE + 1, (4, 3))
    criterion = kind()
    criterion.sizeAverage = inner_average
    whole = nn.SequencerCriterion(criterion, average)
    inputs = (x, y) if form == "tensor" else (Table(*x), Table(*y))
    loss, gradient = whole.forward(*inputs), whole.backward(*inputs)
    assert whole.recorded is not None
    steps = [criterion.clone()(*step) for step in zip(x, y, strict=True)]
    factor = 1 / len(x) if average else 1
    assert loss == pytest.approx(sum(loss for loss, _ in steps) * factor, rel=1e-12)
    compare(Table(*gradient), Table(*[gradient * factor for _, gradient in steps]), "gradients")


def test_ignored_and_weighted_classes_are_averaged_step_by_step() -> None:
    x, y = torch.rand(2, 3, SIZE, dtype=torch.float64), torch.tensor([[1, 2, -100], [1, 1, 3]])
    for criterion in (nn.ClassNLLCriterion(), nn.ClassNLLCriterion(torch.tensor([1.0, 2, 3]).double())):
        target = y.abs().clamp(max=SIZE) if criterion.weights is not None else y
        steps = [criterion.clone().forward(*step) for step in zip(x, target, strict=True)]
        assert nn.SequencerCriterion(criterion).forward(x, target) == pytest.approx(sum(steps), rel=1e-12)
