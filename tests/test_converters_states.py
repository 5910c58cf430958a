"""Written recurrent networks go on from a state as Torch networks do that remember."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import same
from test_converters import ABOUT, pieces, planned, written

import converters
import t7compat
from converters import from_native, to_native
from converters.child import gives_state
from converters.graphs import as_network
from converters.native import Plan
from converters.source import source
from t7compat import Table, cudnn, nn
from t7compat.rnn.sequencer import Remembering
from t7compat.table import to_tuples

BATCH, INPUTS = 2, 3


def chain(*modules: nn.Module) -> Any:
    network = nn.Sequential()
    for module in modules:
        network.add(module)
    return network


def branches(container: Any, *modules: nn.Module) -> Any:
    for module in modules:
        container.add(module)
    return container


def lstm(outputs: int = 4, inputs: int = INPUTS) -> Any:
    return nn.FastLSTM(inputs, outputs)


def steps_of(module: nn.Module) -> Any:
    return nn.Sequencer(module)


def graph(*layers: nn.Module, last: nn.Module) -> nn.Module:
    """A graph in which all layers take the input, and the last one their outputs."""
    x = nn.Identity()()
    return nn.gModule([x], [last([layer(x) for layer in layers])])


def graph_with_names() -> nn.Module:
    x = nn.Identity()().annotate(name="state")
    layer = nn.SeqGRU(3, 4)(x).annotate(name="compute")
    return nn.gModule([x], [nn.Tanh()(layer).annotate(name="layers")])


def tagger() -> nn.Module:
    """Words to the log-probabilities of their tags, with a residual connection on the way."""
    both = branches(nn.ConcatTable(), steps_of(lstm(4, 4)), chain(steps_of(nn.GRU(4, 4)), nn.Dropout(0.5)))
    tags = steps_of(chain(nn.Linear(4, 5), nn.LogSoftMax()))
    return chain(nn.LookupTable(9, 4), both, nn.CAddTable(), tags)


def sequence(*size: int) -> torch.Tensor:
    return torch.randn(*(size or (5, BATCH, INPUTS)), dtype=torch.float64)


def words() -> torch.Tensor:
    return torch.tensor([[1, 4], [9, 2], [3, 3], [7, 1]])


def with_zeros() -> torch.Tensor:
    input = sequence()
    input[1, 0] = input[3, 1] = 0
    return input


def with_empty_step() -> torch.Tensor:
    input = sequence()
    input[2] = 0
    return input


def steps() -> tuple[torch.Tensor, ...]:
    return sequence().unbind()


def steps_of_two() -> tuple[Any, ...]:
    return tuple(zip(steps(), sequence(5, BATCH, 4).unbind(), strict=True))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "chain": (lambda: chain(steps_of(lstm()), nn.SeqGRU(4, 2)), sequence),
    "tagger": (tagger, words),
    "branches": (
        lambda: chain(branches(nn.ConcatTable(), steps_of(lstm()), steps_of(nn.LSTM(3, 4))), nn.CAddTable()),
        sequence,
    ),
    "joined branches": (lambda: branches(nn.Concat(3), nn.SeqLSTM(3, 4), nn.SeqGRU(3, 2)), sequence),
    "nested chains": (
        lambda: chain(chain(nn.SeqLSTM(3, 4)), branches(nn.Concat(3), chain(nn.SeqGRU(4, 2)), nn.Identity())),
        sequence,
    ),
    "halves of the batch": (
        lambda: branches(nn.Parallel(2, 2), *[chain(nn.Unsqueeze(2), nn.SeqLSTM(3, 4)) for _ in range(2)]),
        sequence,
    ),
    "graph": (lambda: graph(steps_of(nn.LSTM(3, 4)), nn.SeqGRU(3, 4), last=nn.CMulTable()), sequence),
    "graph in a chain": (
        lambda: chain(
            nn.SeqLSTM(3, 3), graph(nn.SeqGRU(3, 3), nn.Identity(), last=nn.CAddTable()), nn.Tanh()
        ),
        sequence,
    ),
    "graph with names": (graph_with_names, sequence),
    "graph in a graph": (
        lambda: graph(graph(steps_of(lstm()), steps_of(lstm()), last=nn.CSubTable()), last=nn.Tanh()),
        sequence,
    ),
    "several devices": (lambda: nn.DataParallelTable(1).add(nn.SeqLSTM(3, 4), 1), sequence),
    "mask around a layer": (lambda: nn.MaskZero(nn.SeqLSTM(3, 4), 2), with_empty_step),
    "steps as a tuple": (lambda: steps_of(branches(nn.ConcatTable(), lstm(), nn.Identity())), steps),
    "steps of tables": (
        lambda: steps_of(branches(nn.ParallelTable(), lstm(), nn.Linear(4, 2))),
        steps_of_two,
    ),
    "branches in steps": (lambda: steps_of(branches(nn.Concat(2), lstm(), nn.Linear(3, 2))), sequence),
    "graph in steps": (
        lambda: steps_of(chain(nn.Linear(3, 3), graph(lstm(), nn.GRU(3, 4), last=nn.CAddTable()))),
        steps,
    ),
    "mask in steps": (lambda: steps_of(chain(nn.MaskZero(lstm(), 1, True), nn.Linear(4, 2))), with_zeros),
    "one step inside of steps": (lambda: steps_of(nn.Recursor(chain(nn.Linear(3, 3), lstm()))), sequence),
}
NETWORKS |= {
    f"cudnn.{name} of {where}": (
        lambda name=name, first=first: chain(  # type: ignore[misc]
            getattr(cudnn, name)(3, 4, 2, first, 0.5), nn.Tanh()
        ),
        sequence,
    )
    for name in ("RNNTanh", "RNNReLU", "LSTM", "GRU", "BLSTM", "BGRU")
    for first, where in ((False, "steps"), (True, "batches"))
}


def remember(module: nn.Module) -> None:
    """Let a module go on from one forward to the next, starting from zeros."""
    for inner in module.listModules():
        if isinstance(inner, Remembering):
            inner.remember("both")
        elif isinstance(inner, cudnn.RNN):
            inner.rememberStates = True
    module.evaluate()
    module.forget()


def as_lua(value: Any) -> Any:
    return Table.from_python(to_tuples(lambda x: x.detach().clone(), value))


def forms(module: nn.Module) -> tuple[Any, Any]:
    """The converted network, and the one of the written file."""
    plan = Plan(module)
    assert not plan.problems
    layer = as_network(plan.root)
    from_text = written(source("written", ABOUT, layer))
    from_text.load_state_dict(layer.tensors(), assign=True)
    return plan.root.build(), from_text


@pytest.mark.parametrize("name", NETWORKS)
def test_pieces_are_those_of_a_network_that_remembers(name: str) -> None:
    make, given = NETWORKS[name]
    module, input = make(), given()
    time = int("of batches" in name)
    parts = pieces(input, time)
    assert parts is not None
    module.evaluate()
    whole = as_lua(module.clone().forward(as_lua(input)))
    remember(module)
    wanted = [as_lua(module.forward(as_lua(part))) for part in parts]
    for network in forms(module):
        before = [value.clone() for value in network.state_dict().values()]
        for started in (network(input), network(input, None)):
            same(as_lua(started[0]), whole, "whole")
        state = None
        for part, want in zip(parts, wanted, strict=True):
            output, state = network(part, state)
            same(as_lua(output), want, "piece")
        same(as_lua(network(input)[0]), whole, "whole again")
        same(Table(*network.state_dict().values()), Table(*before), "weights")


@pytest.mark.parametrize(
    ("make", "goes_on"),
    [
        (lambda: chain(nn.SeqLSTM(3, 4), steps_of(lstm(2, 4))), True),
        (lambda: chain(cudnn.LSTM(3, 4, 1), nn.Tanh()), True),
        (lambda: chain(nn.SeqReverseSequence(1), nn.SeqLSTM(3, 4)), False),
    ],
    ids=["nn", "cudnn", "from the end"],
)
def test_note_on_a_network_that_remembers_names_the_state(make: Callable[[], Any], goes_on: bool) -> None:
    network = make()
    remember(network)
    notes = Plan(network).notes
    assert notes
    assert [note.endswith("forward(input, state) goes on") for note in notes] == [goes_on] * len(notes)


def test_state_is_that_of_each_recurrent_layer() -> None:
    network = to_native(tagger())
    _, state = network(words())
    ((other,), (h, c)) = state
    assert h.shape == c.shape == (1, BATCH, 4)
    assert other.shape == (BATCH, 4)


def test_one_step_goes_on_in_a_graph() -> None:
    """A recurrent module without a sequencer goes on by itself in Torch."""
    module = chain(graph(lstm(), nn.Linear(3, 4), last=nn.CAddTable()), nn.Tanh())
    network = to_native(module)
    module.evaluate()
    state = None
    for x in steps():
        output, state = network(x, state)
        same(output.detach(), module.forward(x))


def test_gradients_go_back_through_the_state() -> None:
    network, x = to_native(tagger()), words()
    network.eval()
    output, state = network(x[:1])
    rest, _ = network(x[1:], state)
    pieces_slopes = torch.autograd.grad(torch.cat((output, rest)).square().sum(), [*network.parameters()])
    slopes = torch.autograd.grad(network(x)[0].square().sum(), [*network.parameters()])
    same(Table(*pieces_slopes), Table(*slopes))


@pytest.mark.parametrize(
    ("make", "x"),
    [(tagger, words()), (lambda: chain(nn.SeqLSTM(3, 4), steps_of(nn.GRU(4, 2))), sequence())],
    ids=["branches", "chain"],
)
def test_torch_export_takes_a_state(make: Callable[[], Any], x: torch.Tensor) -> None:
    network = to_native(make()).eval()
    with torch.no_grad():
        _, state = network(x)
        program = torch.export.export(network, (x, state)).module()
        more = x.flip(0)
        _, other = network(more)
        same(as_lua(program(more, other)), as_lua(network(more, other)))


SHARED = nn.SeqLSTM(3, 3)
CELL = lstm(3)
CANNOT_GO_ON: dict[str, tuple[nn.Module, Any]] = {
    "both directions": (nn.BiSequencer(lstm()), steps()),
    "both directions at once": (nn.SeqBRNN(3, 4), sequence()),
    "from the end": (chain(nn.ReverseTable(), steps_of(lstm())), steps()),
    "in a graph": (graph(chain(nn.SeqReverseSequence(1), nn.SeqGRU(3, 4)), last=nn.Tanh()), sequence()),
    "anew by itself": (chain(nn.Repeater(lstm(), 3), nn.SelectTable(-1)), sequence(2, 3)),
    "for each entry": (branches(nn.MapTable(), nn.SeqLSTM(3, 3)), (sequence(), sequence())),
    "twice in a chain": (chain(SHARED, nn.Tanh(), SHARED), sequence()),
    "one cell twice": (chain(steps_of(CELL), nn.Tanh(), steps_of(CELL)), sequence()),
    "twice in a graph": (graph(chain(SHARED, nn.Tanh()), SHARED, last=nn.CAddTable()), sequence()),
    "twice, once in a residual block": (
        chain(branches(nn.ConcatTable(), SHARED, nn.Identity()), nn.CAddTable(), SHARED), sequence(),
    ),
    "sequences of sequences": (
        steps_of(chain(nn.SeqLSTM(3, 3), nn.Select(1, -1), lstm())), (sequence(), sequence()),
    ),
    "without memory": (chain(nn.Linear(3, 3), nn.Tanh()), sequence(2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CANNOT_GO_ON)
def test_networks_that_cannot_go_on_give_the_output_alone(name: str) -> None:
    module, input = CANNOT_GO_ON[name]
    module.evaluate()
    want = as_lua(module.forward(as_lua(input)))
    for network in forms(module):
        assert not gives_state(type(network))
        same(as_lua(network(input)), want)


@pytest.mark.parametrize("last", [nn.Linear(4, 2), nn.Sequencer(nn.Linear(4, 2))])
def test_network_may_be_called_recurrence(last: nn.Module, tmp_path: Path) -> None:
    """That is the name by which a written network is known to give a state."""
    first = nn.SeqLSTM(3, 4) if isinstance(last, nn.Sequencer) else nn.Linear(3, 4)
    t7compat.save(tmp_path / "recurrence.t7", chain(first, last))
    (report,) = converters.convert(tmp_path / "recurrence.t7").networks
    assert report.verification.outcome == report.verification.gradients.outcome == "verified"


def test_one_layer_is_that_of_torch() -> None:
    """Also in the written file, whose class is derived from it."""
    x = sequence()
    for network in forms(cudnn.LSTM(3, 4, 2)):
        assert type(network).forward is torch.nn.LSTM.forward
        state = torch.nn.LSTM(3, 4, 2).state_dict()
        assert {n: v.shape for n, v in network.state_dict().items()} == {n: v.shape for n, v in state.items()}
        _, (h, c) = network(x)
        assert h.shape == c.shape == (2, BATCH, 4)


def test_state_that_comes_with_the_input() -> None:
    """nn.SeqLSTM takes the last output of another one, {h0, x}, too; torch.nn.LSTM does not."""
    x = nn.Identity()()
    before = nn.Select(1, -1)(nn.SeqLSTM(3, 4)(x))
    module = nn.gModule([x], [nn.SeqLSTM(3, 4)([before, x])])
    module.evaluate()
    input = sequence()
    layer = as_network(planned(module, input).root)
    text = source("written", ABOUT, layer)
    assert (text.count(" nn.LSTM(3, 4)"), text.count(" StartedLSTM(3, 4)")) == (1, 1)
    same(layer.build()(input)[0].detach(), module.forward(input))
    same(to_native(module)(input)[0].detach(), module.forward(input))  # without a trial


def test_classes_of_others_may_have_the_name() -> None:
    class Recurrence(torch.nn.Module):
        pass

    class Cell(Recurrence):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return input * 2

    same(from_native(Cell(), (torch.ones(2, 3),)).forward(torch.ones(2, 3)), torch.full((2, 3), 2.0))


def test_cell_that_does_several_steps_in_one_is_refused() -> None:
    cell = lstm(3)
    (problem,) = Plan(steps_of(chain(cell, nn.Tanh(), cell))).problems.values()
    assert "several steps" in problem.reason


def test_lines_of_the_docstring_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    t7compat.save(tmp_path / "goes_on.t7", chain(nn.SeqLSTM(3, 4), nn.Tanh()))
    converters.convert(tmp_path / "goes_on.t7", check=False)
    text = (tmp_path / "goes_on.py").read_text("utf-8")
    lines = [line for line in text.split('"""')[1].splitlines() if line.startswith("    ")]
    monkeypatch.syspath_prepend(tmp_path)
    names = {"input": sequence(), "more": sequence()}
    exec("\n".join(map(str.strip, lines)), names)
    assert names["output"].shape == (*sequence().shape[:-1], 4)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (cudnn.BLSTM(3, 4, 1, True), "class Written(nn.LSTM):"),
        (nn.SeqLSTM(3, 4), "class Written(nn.LSTM):"),
        (chain(nn.SeqLSTM(3, 4), nn.Tanh()), "            nn.LSTM(3, 4),\n"),
        (chain(cudnn.GRU(3, 4, 1), nn.Tanh()), "            nn.GRU(3, 4),\n"),
        (graph(cudnn.RNNTanh(3, 4, 1), last=nn.Tanh()), "        self.rnn = nn.RNN(3, 4)\n"),
        (chain(nn.SeqReverseSequence(1), cudnn.LSTM(3, 4, 1)), "            OutputAlone(nn.LSTM(3, 4)),\n"),
    ],
    ids=["both directions", "one layer", "chain", "gated", "graph", "from the end"],
)
def test_written_text_has_layers_of_torch(module: nn.Module, text: str) -> None:
    assert text in source("written", ABOUT, as_network(Plan(module, frozenset()).root))


@pytest.mark.parametrize(
    "module",
    [
        cudnn.LSTM(3, 4, 2), cudnn.BLSTM(3, 4, 2, True), cudnn.BGRU(3, 4, 1), cudnn.RNNTanh(3, 4, 1),
        chain(nn.SeqLSTM(3, 4), steps_of(lstm(2, 4))), steps_of(lstm()),
        graph(nn.SeqLSTM(3, 4), cudnn.GRU(3, 4, 1), last=nn.CMulTable()),
    ],
    ids=["cudnn", "both directions", "gated", "plain", "chain", "steps", "graph"],
)  # fmt: skip
def test_there_and_back(module: nn.Module) -> None:
    x = sequence()
    for network in forms(module):
        back = from_native(network, (x,))
        back.evaluate()
        same(back.forward(x), network(x)[0].detach())
