"""Torch modules as PyTorch layers and as source text, over all golden cases of all classes."""

from __future__ import annotations

import builtins
import functools
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from command import assert_formatted
from deviations import UNCONVERTIBLE
from golden import Case, cases, same, unknown_classes
from hypothesis import given, settings
from hypothesis import strategies as st

import t7compat
from converters import Unconvertible, to_native
from converters.child import gives_state, output_of
from converters.graphs import as_network
from converters.native import Plan
from converters.source import source
from converters.trial import disagreeing
from t7compat import Table, nn
from t7compat.table import to_tuples

AREAS = ("nn", "rnn", "dpnn", "nngraph", "models")
ABOUT = ["A test.", "", "With code:", "    x = 1"]


def convertible(case: Case) -> bool:
    data = case.content
    return data.module is not None and data.evaluate_output is not None and not unknown_classes(data)


golden = pytest.mark.parametrize(
    "case", [case for area in AREAS for case in cases(area) if convertible(case)], ids=str
)


def prepared(case: Case) -> tuple[nn.Module, Any, Any]:
    """The module of a case, its input as PyTorch has it, and Torch7's output in evaluation mode."""
    data = case.load()
    module, input = data.module, data.input
    if data.stepwise:
        module, input = nn.Sequencer(module), Table(*[step.input for step in data.steps])
    module.evaluate()
    return module, to_tuples(lambda x: x, input), data.evaluate_output


def planned(module: nn.Module, input: Any) -> Plan:
    plan = Plan(module, frozenset())
    if plan.problems:
        refused = {problem.typename for problem in plan.problems.values()}
        assert refused <= UNCONVERTIBLE.keys()
        pytest.skip(", ".join(f"{name}: {UNCONVERTIBLE[name]}" for name in refused))
    return Plan(module, disagreeing(plan, input))


def random_in_evaluation(module: nn.Module) -> bool:
    return any(getattr(layer, "stochastic_inference", False) for layer in module.listModules())


@golden
def test_native_layers_give_the_output_of_torch7(case: Case) -> None:
    module, input, output = prepared(case)
    network = planned(module, input).root.build()
    got = Table.from_python(output_of(network, input))
    if random_in_evaluation(module):
        assert got.shape == output.shape
    else:
        same(got, output, "output")


class WithoutT7compat(dict[str, Any]):
    """Builtins of a program that can import neither package of this project."""

    def __init__(self) -> None:
        super().__init__(vars(builtins))
        self["__import__"] = self.imported

    def imported(self, name: str, *arguments: Any) -> types.ModuleType:
        assert name.split(".")[0] not in ("t7compat", "converters")
        return builtins.__import__(name, *arguments)


def written(text: str) -> torch.nn.Module:
    """The network of a written file, whose class is the last one in it."""
    namespace: dict[str, Any] = {"__builtins__": WithoutT7compat(), "__name__": "written"}
    exec(compile(text, "<written>", "exec"), namespace)
    classes = [value for value in namespace.values() if isinstance(value, type)]
    network: torch.nn.Module = classes[-1]()
    return network.eval()


@golden
def test_written_source_gives_the_output_of_torch7(case: Case) -> None:
    module, input, output = prepared(case)
    layer = as_network(planned(module, input).root)
    network = written(source("written", ABOUT, layer))
    network.load_state_dict(layer.tensors(), assign=True)
    if not random_in_evaluation(module):
        same(Table.from_python(output_of(network, input)), output, "output")


def pieces(input: Any, time: int) -> tuple[Any, Any] | None:
    """The first step of a sequence and the others; None where there are none."""
    if isinstance(input, torch.Tensor):
        long = input.dim() > time and input.shape[time] > 1
        return (input.narrow(time, 0, 1), input.narrow(time, 1, input.shape[time] - 1)) if long else None
    return (input[:1], input[1:]) if isinstance(input, tuple) and len(input) > 1 else None


@pytest.mark.parametrize(
    "case", [case for case in cases("rnn") if convertible(case) and "Seq" in case.stem], ids=str
)
def test_recurrent_networks_go_on_from_a_state(case: Case) -> None:
    module, input, _ = prepared(case)
    network = planned(module, input).root.build()
    time = int(bool(getattr(module, "batchfirst", False)))
    parts = pieces(input, time)
    gives_steps = isinstance(module, nn.Sequencer) or not isinstance(input, tuple)
    goes_on = gives_state(type(network))
    if not goes_on or type(module) is nn.Sequential or not gives_steps or parts is None:
        pytest.skip("it does not give a step for each step, or there is one step")
    whole, end = network(input)
    first, state = network(parts[0])
    rest, last = network(parts[1], state)
    both = torch.cat((first, rest), time) if isinstance(whole, torch.Tensor) else (*first, *rest)
    same(Table.from_python(both), Table.from_python(whole), "output")
    same(Table.from_python(last), Table.from_python(end), "state")


def test_written_source_is_formatted(tmp_path: Path) -> None:
    for number, case in enumerate(case for area in AREAS for case in cases(area) if convertible(case)):
        module, _, _ = prepared(case)
        (tmp_path / f"case{number}.py").write_text(source("written", ABOUT, as_network(Plan(module).root)))
    assert_formatted(tmp_path)


# ---- recurrent networks


@settings(max_examples=25, deadline=None)
@given(
    cell=st.sampled_from([nn.LSTM, nn.FastLSTM, functools.partial(nn.LSTM, cell2gate=False), nn.GRU]),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    steps=st.integers(1, 4),
    batch=st.sampled_from([(), (1,), (3,)]),
    as_tensor=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_whole_sequence_is_equal_to_step_by_step(
    cell: Any, sizes: tuple[int, int], steps: int, batch: tuple[int, ...], as_tensor: bool, seed: int
) -> None:
    t7compat.manualSeed(seed)
    module = nn.Sequencer(cell(*sizes))
    input = torch.randn(steps, *batch, sizes[0], dtype=torch.float64)
    given = input if as_tensor else input.unbind()
    network = to_native(module)
    assert type(network).__name__ in ("SequenceLSTM", "PeepholeLSTM", "SequenceGRU")
    module.evaluate()
    want = module.forward(given if as_tensor else Table(*given))
    same(Table.from_python(network(given)[0]), want)


def run_both(module: nn.Module, input: Any) -> tuple[Any, Any]:
    network = to_native(module, input)
    module.evaluate()
    return Table.from_python(output_of(network, input)), module.forward(Table.from_python(input))


def steps(count: int, *size: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(count, *size, dtype=torch.float64))


@pytest.mark.parametrize(
    "cell", [nn.LSTM(3, 4, p=0.5), nn.FastLSTM(3, 4, p=0.5), nn.GRU(3, 4, p=0.5)], ids=str
)
def test_other_cells_are_unrolled(cell: nn.Module) -> None:
    """Dropout inside the cell is kept for training, so nn.LSTM cannot take its place."""
    network = to_native(nn.Sequencer(cell))
    assert type(network).__name__ == "Unrolled"
    same(*run_both(nn.Sequencer(cell), steps(3, 2, 3)))


def test_cell_that_was_changed_is_not_taken_for_the_usual_one() -> None:
    cell = nn.FastLSTM(3, 4)
    gates = cell.recurrentModule.get(1).get(1)
    gates.get(6).modules[2] = nn.Sigmoid()  # in the place of the tanh of the new values
    assert type(to_native(nn.Sequencer(cell))).__name__ == "Unrolled"
    same(*run_both(nn.Sequencer(cell), steps(3, 2, 3)))


@pytest.mark.parametrize("as_tensor", [False, True])
def test_recurrent_modules_inside_of_tables(as_tensor: bool) -> None:
    residual = nn.Sequential().add(nn.ConcatTable().add(nn.LSTM(3, 3)).add(nn.Identity())).add(nn.CAddTable())
    input = torch.randn(3, 2, 3, dtype=torch.float64)
    same(*run_both(nn.Sequencer(residual), input if as_tensor else input.unbind()))


def test_parallel_recurrent_modules() -> None:
    network = (
        nn.Sequential()
        .add(nn.ParallelTable().add(nn.FastLSTM(3, 2)).add(nn.Linear(4, 2)))
        .add(nn.JoinTable(2))
    )
    same(*run_both(nn.Sequencer(network), tuple(zip(steps(3, 2, 3), steps(3, 2, 4), strict=True))))


def test_sequence_of_sequences() -> None:
    inner = nn.Sequential().add(nn.Sequencer(nn.FastLSTM(3, 2))).add(nn.SelectTable(-1))
    outer = nn.Sequencer(nn.Sequential().add(inner).add(nn.LSTM(2, 4)))
    same(*run_both(outer, (steps(3, 2, 3), steps(2, 2, 3))))


def test_recurrent_module_alone_does_one_step() -> None:
    plan = Plan(nn.Sequential().add(nn.LSTM(3, 4)).add(nn.Linear(4, 1)))
    assert any("one step" in note for note in plan.notes)
    same(*run_both(nn.Sequential().add(nn.LSTM(3, 4)).add(nn.Linear(4, 1)), steps(1, 2, 3)[0]))


def test_only_modules_with_memory_are_noted() -> None:
    """A script calls `remember` on all of its sequencers."""
    inner = nn.Sequencer(nn.Sequential().add(nn.Linear(4, 3)).add(nn.LogSoftMax()))
    network = nn.Sequential().add(nn.Sequencer(nn.Linear(3, 3))).add(nn.SeqLSTM(3, 3))
    network.add(nn.Sequencer(nn.Recursor(nn.Sequential().add(nn.LSTM(3, 4))))).add(inner)
    for module in network.modules:
        module.remember("both")
    assert [note.split(":")[0] for note in Plan(network).notes] == ["modules[2]", "modules[3]"]


def test_remembering_sequencer_is_noted() -> None:
    plan = Plan(nn.Sequencer(nn.LSTM(3, 4)).remember("eval"))
    assert any('remember("eval")' in note for note in plan.notes)


def test_note_of_the_whole_network_says_so() -> None:
    assert Plan(nn.ReinforceNormal(0.4)).notes[0].startswith("the network: nn.ReinforceNormal gives")


def test_start_from_a_given_state_is_refused_by_name() -> None:
    cell = nn.LSTM(3, 4)
    cell.userPrevCell = torch.zeros(2, 4, dtype=torch.float64)
    with pytest.raises(Unconvertible, match=r"nn\.LSTM: .*userPrevCell"):
        to_native(nn.Sequencer(cell))


def test_memory_where_there_is_no_rule_is_refused_by_name() -> None:
    with pytest.raises(Unconvertible, match=r"modules\[1\]: nn\.MapTable: it has recurrent modules inside"):
        to_native(nn.Sequencer(nn.MapTable(nn.LSTM(3, 4))))


def test_memory_of_fewer_samples_is_refused_by_name() -> None:
    """A step of which samples are left out is none for those."""
    with pytest.raises(Unconvertible, match=r"nn\.TrimZero: it runs recurrent modules"):
        to_native(nn.TrimZero(nn.SeqLSTM(3, 4), 2))


@pytest.mark.parametrize(
    ("pooling", "unpooling", "size"),
    [
        (nn.SpatialMaxPooling(2, 3), nn.SpatialMaxUnpooling, (2, 3, 6, 8)),
        (nn.SpatialMaxPooling(3, 3, 3, 3, 1, 1).ceil(), nn.SpatialMaxUnpooling, (2, 3, 7, 7)),
        (nn.VolumetricMaxPooling(2, 2, 2), nn.VolumetricMaxUnpooling, (2, 3, 4, 6, 4)),
    ],
    ids=str,
)
def test_unpooling_behind_its_pooling(pooling: Any, unpooling: Any, size: tuple[int, ...]) -> None:
    network = nn.Sequential().add(pooling).add(nn.Tanh()).add(unpooling(pooling)).add(nn.Tanh())
    same(*run_both(network, torch.randn(size, dtype=torch.float64)))
    layer = as_network(Plan(network).root)
    text = source("written", ABOUT, layer)
    assert "shared1 = nn.MaxPool" in text
    input = torch.randn(size, dtype=torch.float64)
    same(written(text)(input), network.forward(input))
