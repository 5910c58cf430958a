"""The proof: finding an input, replaying stored outputs, comparing old and new."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden import GOLDEN, Case, cases, unknown_classes

import t7compat
from converters import samples, verify
from converters.compare import difference
from converters.graph_samples import wishes
from converters.native import Plan
from converters.replay import Replay, replay
from converters.samples import Entry
from converters.trial import disagreeing
from t7compat import Table, TorchObject, nn
from t7compat.contrib import torch_rnn


def network_of(*modules: nn.Module) -> nn.Sequential:
    network = nn.Sequential()
    for module in modules:
        network.add(module)
    return network


def replayed(module: nn.Module) -> Replay:
    return replay(Plan(module).root)


def random(*size: int) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64)


# ---- replay


@pytest.mark.parametrize("case", cases("models"), ids=str)
def test_replay_agrees_with_torch7(case: Case) -> None:
    path = GOLDEN / "models" / f"{case.stem}.full.t7"
    if not path.exists():
        pytest.skip("not saved with its buffers")
    module = t7compat.load(path)
    if unknown := unknown_classes(module):
        pytest.skip(f"t7compat has no {', '.join(unknown)}")
    with verify.preserved(module):
        sample = verify.sample(module, None, wishes(module, Plan(module).root))
        written = disagreeing(Plan(module, frozenset()), sample.input) if sample else frozenset()
    found = replay(Plan(module, written).root)
    assert found.deviating == {}
    if isinstance(module, nn.Sequential | nn.gModule):
        assert found.compared + sum(found.skipped.values()) > 0


def test_layer_by_layer() -> None:
    network = network_of(
        nn.Linear(3, 4), nn.Tanh(), nn.ConcatTable().add(nn.Linear(4, 2)).add(nn.Identity()), nn.JoinTable(2)
    )
    network.forward(random(5, 3))
    found = replayed(network)
    assert found.compared == 5  # all but the first one, whose input is not stored
    assert found.largest < 1e-12


def test_nothing_is_stored() -> None:
    network = network_of(nn.Linear(3, 4), nn.Tanh())
    network.forward(random(5, 3))
    assert replayed(network.clearState()).compared == 0


def in_place(network: nn.Sequential, *pairs: tuple[int, int]) -> None:
    """Let layers have written over the outputs of earlier ones, as Torch7's in-place layers do."""
    for first, second in pairs:
        network.get(second).inplace = True
        network.get(first).output = network.get(second).output


def test_layers_that_work_in_place_are_one_with_those_before() -> None:
    network = network_of(nn.Linear(3, 4), nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))
    network.evaluate()
    network.forward(random(5, 3))
    in_place(network, (3, 4), (2, 4), (2, 3))
    found = replayed(network)
    assert found.compared == 2  # the three in the middle as one, and the last
    assert found.deviating == {}
    network.get(2).bias.add_(1)
    assert list(replayed(network).deviating) == ["modules[4]"]


def test_views_are_not_taken_for_layers_that_work_in_place() -> None:
    network = network_of(nn.Linear(3, 4), nn.Reshape(2, 2), nn.Linear(2, 2))
    network.modules[3] = nn.Tanh()
    network.forward(random(5, 3))
    network.get(2).output = network.get(1).output.view(5, 2, 2)
    assert replayed(network).compared == 2


def test_random_layers_and_memories_are_left_out_with_the_reason() -> None:
    remembering = nn.Sequencer(nn.LSTM(4, 4)).remember("both")
    network = network_of(nn.Sequencer(nn.Linear(3, 4)), nn.Sequencer(nn.Dropout(0.5)), remembering)
    network.forward(Table(random(2, 3), random(2, 3)))
    found = replayed(network)
    assert found.skipped == {
        "draws random numbers in training mode": 1,
        "goes on from the sequence before": 1,
    }


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.ReinforceCategorical(), "draws random numbers in training mode"),
        (nn.SpatialUniformCrop(2), "draws random numbers in training mode"),
        (nn.SpatialMaxUnpooling(nn.SpatialMaxPooling(2, 2)), "needs what its pooling layer was given"),
    ],
    ids=["ReinforceCategorical", "SpatialUniformCrop", "SpatialMaxUnpooling"],
)
def test_layers_that_replay_cannot_run_are_left_out_with_the_reason(layer: nn.Module, reason: str) -> None:
    """What is written draws nothing where Torch7 drew, and unpools only after its pooling."""
    pooling = getattr(layer, "pooling", nn.Identity())
    is_flat = isinstance(layer, nn.ReinforceCategorical)
    network = network_of(pooling, nn.Reshape(8) if is_flat else nn.Abs(), layer)
    network.forward(random(2, 1, 4, 2).abs() if is_flat else random(2, 1, 4, 4))
    found = replayed(network)
    assert found.skipped == {reason: 1}
    assert found.deviating == {}


def test_first_layer_that_deviates_is_named() -> None:
    network = network_of(nn.Linear(3, 4), nn.Tanh(), network_of(nn.Sigmoid(), nn.Tanh()))
    network.forward(random(5, 3))
    network.get(3).get(1).output.add_(0.25)
    found = replayed(network)
    assert next(iter(found.deviating.items())) == ("modules[3].modules[1]", "0.25")
    assert not found.updated


def test_weights_that_changed_since_are_told_from_other_reasons() -> None:
    network = network_of(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    network.forward(random(5, 3))
    network.get(3).weight.add_(0.1)
    found = replayed(network)
    assert list(found.deviating) == ["modules[3]"]
    assert found.updated


def test_replay_around_what_is_not_converted() -> None:
    network = network_of(nn.Linear(3, 4), nn.Tanh(), nn.Sigmoid(), nn.Linear(4, 2))
    network.forward(random(5, 3))
    network.modules[3] = TorchObject("my.Layer", 1, output=network.get(3).output, gradInput=torch.zeros(0))
    found = replayed(network)
    assert found.compared == 2
    assert found.deviating == {}


def test_statistics_do_not_change() -> None:
    network = network_of(nn.Linear(3, 4), nn.BatchNormalization(4))
    network.forward(random(5, 3))
    before = network.get(2).running_mean.clone()
    assert replayed(network).deviating == {}
    assert torch.equal(network.get(2).running_mean, before)


# ---- an input


def guesses(module: nn.Module) -> list[Any]:
    return list(samples.candidates(module))


def test_input_has_the_size_of_the_stored_gradient() -> None:
    network = network_of(nn.Reshape(12), nn.Linear(12, 2))
    network.forward(random(7, 3, 4))
    network.backward(random(7, 3, 4), random(7, 2))
    assert guesses(network)[0] == Entry((7, 3, 4))


def test_input_follows_from_the_stored_output() -> None:
    lookup = nn.LookupTable(20, 3)
    network = network_of(lookup, nn.Linear(3, 2))
    network.get(1).forward(torch.ones(7, 2))
    assert guesses(network)[0] == Entry((7, 2), 20)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential().add(nn.Dropout()).add(nn.Linear(5, 2)), Entry((2, 5))),
        (nn.Sequential().add(nn.LookupTable(9, 5)).add(nn.SplitTable(1)), Entry((3, 2), 9)),
        (nn.Sequencer(nn.LSTM(4, 5)), (Entry((2, 4)),) * 3),
        (
            nn.ParallelTable().add(nn.Linear(3, 2)).add(nn.LookupTable(4, 2)),
            (Entry((2, 3)), Entry((3, 2), 4)),
        ),
        (nn.ConcatTable().add(nn.Identity()).add(nn.Linear(3, 2)), Entry((2, 3))),
        (nn.Sequential().add(nn.View(6)).add(nn.Tanh()), Entry((2, 6))),
        (nn.SeqLSTM(4, 5), Entry((3, 2, 4))),
        (nn.SeqBRNN(4, 5), Entry((3, 2, 4))),
        (nn.BiSequencer(nn.GRU(4, 5)), (Entry((2, 4)),) * 3),
        (nn.Repeater(nn.LSTM(4, 5), 3), Entry((2, 4))),
        (nn.Recurrent(5, nn.Linear(4, 5), nn.Linear(5, 5), nn.Sigmoid()), Entry((2, 4))),
        (nn.RecLSTM(4, 5), Entry((2, 4))),
        (torch_rnn.VanillaRNN(4, 5), Entry((2, 3, 4))),
        (nn.ReinforceNormal(torch.ones(5)), Entry((2, 5))),
        (nn.ReinforceNormal(torch.ones(3, 5)), Entry((2, 3, 5))),
    ],
    ids=lambda value: str(value).split("\n")[0],
)
def test_first_guess(module: nn.Module, shape: Any) -> None:
    assert guesses(module)[0] == shape


def test_first_guess_that_the_network_takes() -> None:
    network = network_of(nn.Sequencer(nn.FastLSTM(4, 5)), nn.SelectTable(-1), nn.Linear(5, 2))
    found = verify.sample(network)
    assert found is not None
    assert found.shape == "{2x4, 2x4, 2x4}"
    assert found.output.shape == (2, 2)


def test_table_that_the_network_splits_itself() -> None:
    network = network_of(nn.SplitTable(1), nn.Sequencer(nn.FastLSTM(4, 5)))
    found = verify.sample(network)
    assert found is not None
    assert found.shape == "3x2x4"


def test_text_long_enough_for_the_windows() -> None:
    found = verify.sample(network_of(nn.LookupTable(9, 4), nn.TemporalConvolution(4, 5, 6), nn.Max(2)))
    assert found is not None
    assert found.shape == "2x8 of indices 1..9"


def test_no_guess_is_right() -> None:
    assert verify.sample(network_of(nn.SelectTable("a name"), nn.Linear(3, 2))) is None


@pytest.mark.parametrize("p", [0.5, 1e-9])
def test_random_networks_are_noticed(p: float) -> None:
    """Also where the numbers make no difference, as they seldom do with this p."""
    found = verify.sample(network_of(nn.Linear(3, 99), nn.Dropout(p, False, False, True)))
    assert found is not None
    assert found.is_random


def test_indices_are_in_range() -> None:
    drawn = samples.draw((Entry((50,), 3), Entry((2, 2))), torch.float32)
    assert drawn[0].unique().tolist() == [1, 2, 3]
    assert drawn[1].dtype == torch.float32


def test_numbers_are_of_the_kind_that_is_wanted() -> None:
    shape = Entry((50,), kind="signs"), Entry((50,), kind="shares")
    signs, shares = samples.draw(shape, torch.float64)
    assert signs.unique().tolist() == [-1, 1]
    assert 0 < shares.min() < 0.5 < shares.max() < 1
    assert samples.describe(shape) == "{50 of -1 and 1, 50 from 0 to 1}"


def test_fields_are_as_before_after_a_run() -> None:
    network = network_of(nn.Sequencer(nn.LSTM(3, 4)), nn.SelectTable(-1))
    network.forward(Table(random(2, 3)))
    before = {id(m): dict(vars(m)) for m in network.listModules()}
    with verify.preserved(network):
        verify.sample(network)
        assert network.train is False
    for module in network.listModules():
        assert vars(module).keys() == before[id(module)].keys()
        assert all(value is before[id(module)][name] for name, value in vars(module).items())


# ---- comparison


def test_difference() -> None:
    a = random(3)
    assert difference(a, a).within
    assert difference(a + 1e-12, a).within
    assert not difference(a + 1e-6, a).within
    assert difference((a.float() + 1e-6,), Table(a.float())).within
    nan = torch.tensor([float("nan"), float("inf")])
    assert difference(nan, nan).within
    assert not difference(torch.zeros(2), nan).within


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (torch.zeros(2), torch.zeros(3)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        ((torch.zeros(2),), torch.zeros(2)),
        (torch.zeros(2), Table(torch.zeros(2))),
        ((torch.zeros(2),), Table(torch.zeros(2), torch.zeros(2))),
        ({"a": torch.zeros(2)}, Table(b=torch.zeros(2))),
    ],
)
def test_difference_in_structure(got: Any, want: Any) -> None:
    found = difference(got, want)
    assert not found.within
    assert "instead of" in str(found)
