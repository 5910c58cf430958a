"""Written recurrent networks go on from a state as Torch networks do that remember."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import same
from test_converters import ABOUT, pieces, written

from converters import from_native, to_native
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
    layer = nn.SeqGRU(3, 4)(x).annotate(name="run")
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
        same(as_lua(network(input)), whole, "whole")
        state = None
        for part, want in zip(parts, wanted, strict=True):
            output, state = network.run(part, state)
            same(as_lua(output), want, "piece")
        same(as_lua(network.run(input)[0]), whole, "whole again")
        same(Table(*network.state_dict().values()), Table(*before), "weights")
        same(as_lua(network(input)), whole, "forward after run")


@pytest.mark.parametrize(
    ("make", "has_run"),
    [
        (lambda: chain(nn.SeqLSTM(3, 4), steps_of(lstm(2, 4))), True),
        (lambda: chain(cudnn.LSTM(3, 4, 1), nn.Tanh()), True),
        (lambda: chain(nn.SeqReverseSequence(1), nn.SeqLSTM(3, 4)), False),
    ],
    ids=["nn", "cudnn", "from the end"],
)
def test_note_on_a_network_that_remembers_names_run(make: Callable[[], Any], has_run: bool) -> None:
    network = make()
    remember(network)
    notes = Plan(network).notes
    assert notes
    assert [note.endswith("run(input, state) goes on") for note in notes] == [has_run] * len(notes)


def test_state_is_that_of_each_recurrent_layer() -> None:
    network = to_native(tagger())
    _, state = network.run(words())
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
        output, state = network.run(x, state)
        same(output.detach(), module.forward(x))


def test_gradients_go_back_through_the_state() -> None:
    network, x = to_native(tagger()), words()
    network.eval()
    output, state = network.run(x[:1])
    rest, _ = network.run(x[1:], state)
    pieces_slopes = torch.autograd.grad(torch.cat((output, rest)).square().sum(), [*network.parameters()])
    slopes = torch.autograd.grad(network(x).square().sum(), [*network.parameters()])
    same(Table(*pieces_slopes), Table(*slopes))


class GoingOn(torch.nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, input: Any, state: Any) -> Any:
        return self.network.run(input, state)


def test_torch_export_takes_run() -> None:
    network, x = to_native(tagger()).eval(), words()
    with torch.no_grad():
        _, state = network.run(x)
        program = torch.export.export(GoingOn(network), (x, state)).module()
        more = x.flip(0)
        _, other = network.run(more)
        same(as_lua(program(more, other)), as_lua(network.run(more, other)))


SHARED = nn.SeqLSTM(3, 3)
CELL = lstm(3)


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(nn.BiSequencer(lstm()), id="both directions"),
        pytest.param(nn.SeqBRNN(3, 4), id="both directions at once"),
        pytest.param(chain(nn.ReverseTable(), steps_of(lstm())), id="from the end"),
        pytest.param(
            graph(chain(nn.SeqReverseSequence(1), nn.SeqGRU(3, 4)), last=nn.Tanh()), id="in a graph"
        ),
        pytest.param(chain(nn.Repeater(lstm(), 3), nn.SelectTable(-1)), id="anew by itself"),
        pytest.param(branches(nn.MapTable(), nn.SeqLSTM(3, 3)), id="for each entry"),
        pytest.param(chain(SHARED, nn.Tanh(), SHARED), id="twice in a chain"),
        pytest.param(chain(steps_of(CELL), nn.Tanh(), steps_of(CELL)), id="one cell twice"),
        pytest.param(graph(chain(SHARED, nn.Tanh()), SHARED, last=nn.CAddTable()), id="twice in a graph"),
        pytest.param(
            steps_of(chain(nn.SeqLSTM(3, 3), nn.Select(1, -1), lstm())), id="sequences of sequences"
        ),
        pytest.param(chain(nn.Linear(3, 3), nn.Tanh()), id="without memory"),
    ],
)
def test_networks_that_cannot_go_on(module: nn.Module) -> None:
    for network in (Plan(module).root, as_network(Plan(module).root)):
        assert not hasattr(network.build(), "run")


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
        same(back.forward(x), network(x).detach())
