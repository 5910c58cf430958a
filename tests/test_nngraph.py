"""nngraph: graphs built from nodes are those that Torch7 builds, and give the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import cases, gradients, parameters, same
from graphs import (
    BUILT,
    B,
    D,
    K,
    chain,
    identity,
    input_is_output,
    lstm_cell_2_layers,
    split,
    three_in_two_out,
)
from torch7 import wave

import t7compat
from t7compat import InputError, Table, nn, nngraph
from t7compat.nngraph import Node, gModule
from t7compat.table import map_leaves


def golden(name: str) -> Table:
    return next(case for case in cases("nngraph") if case.name == name and case.stem == "gModule").load()


built = pytest.mark.parametrize("build", BUILT, ids=lambda build: build.__name__)


def structure(network: gModule) -> Any:
    """All that Torch7's code reads in the graphs of a network, with numbers in the place of nodes."""
    lists = (network.fg.nodes, network.bg.nodes, network.forwardnodes, network.backwardnodes)
    edges = [[[node.id for node in edge.ends] for edge in graph.edges] for graph in (network.fg, network.bg)]
    return [[described(node) for node in nodes] for nodes in lists], edges


def described(node: Node) -> list[Any]:
    data = node.data
    return [
        node.id,
        data.forwardNodeId, data.selectindex, data.nSplitOutputs, type(data.module),
        [(child.id, node.children[child]) for child in node.children],
        [(source.forwardNodeId, data.mapindex[source]) for source in data.mapindex],
        sorted(successor.id for successor, _ in data.reverseMap.items()),
        sorted(vars(node)),
    ]  # fmt: skip


@built
def test_built_graph_is_that_of_torch7(build: Callable[[], gModule]) -> None:
    module, want = build(), golden(build.__name__).module
    assert structure(module) == structure(want)
    assert [type(m) for m in module.listModules()] == [type(m) for m in want.listModules()]
    assert set(vars(module)) == set(vars(want))


@built
def test_built_graph_gives_what_that_of_torch7_gives(build: Callable[[], gModule]) -> None:
    data = golden(build.__name__)
    module = build()
    for mine, theirs in zip(parameters(module), parameters(data.module), strict=True):
        mine.copy_(theirs)
    for network in (module, t7compat.loads(t7compat.dumps(module)), module.clone()):
        network.zeroGradParameters()
        same(network.forward(data.input), data.output, "output")
        same(network.backward(data.input, data.gradOutput), data.gradInput, "gradInput")
        same(gradients(network), data.gradParams, "gradients of parameters")


# ---- what cannot be a graph


def dangling() -> gModule:
    x = identity()
    nn.Sigmoid()(x)
    return nn.gModule([x], [nn.Tanh()(x)])


def with_unused_part() -> gModule:
    x = identity()
    part, _ = x.split(2)
    return nn.gModule([x], [part])


def with_input_of_its_own() -> gModule:
    x, y = identity(), identity()
    return nn.gModule([x], [nn.CAddTable()(x, y)])


def used_twice() -> gModule:
    x = identity()
    y = nn.Tanh()(x)
    nn.gModule([x], [y])
    return nn.gModule([x], [y])


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "module instead of node": (
        lambda: nn.CAddTable()([identity(), nn.Identity()]),
        r"inputs\[2\]: expected a node of nngraph, got the module nn.Identity",
    ),
    "module alone": (lambda: nn.Tanh()(nn.Identity()), r"inputs\[1\].*the module nn.Identity"),
    "nothing in the middle": (
        lambda: nn.CAddTable()(Table(identity(), None, identity())),
        r"inputs\[2\]: expected a node of nngraph, got nil",
    ),
    "tensor among nodes": (
        lambda: nn.CAddTable()(identity(), torch.ones(2)),
        r"inputs\[2\]: expected a node of nngraph, got torch.FloatTensor of size 2",
    ),
    "tensor minus module": (lambda: None - nn.Tanh(), r"inputs\[1\]: expected a node of nngraph, got nil"),
    "module as output": (
        lambda: nn.gModule([x := identity()], [nn.Tanh()(x), nn.Linear(2, 3)]),
        r"outputs\[2\]: expected a node of nngraph, got the module nn.Linear",
    ),
    "nil as output": (
        lambda: nn.gModule([x := identity()], Table(x, None, nn.Tanh()(x))),
        r"outputs\[2\]: expected a node of nngraph, got nil",
    ),
    "no input": (lambda: nn.gModule([], [identity()]), "expected one node or more as inputs"),
    "no output": (lambda: nn.gModule([identity()], []), "expected one node or more as outputs"),
    "same input twice": (
        lambda: nn.CAddTable()(x := identity(), x),
        r"inputs\[2\]: the node declared at \[graphs.py\]:\d+_ is given twice",
    ),
    "unused input": (
        lambda: nn.gModule([x := identity(), identity()], [x]),
        r"inputs\[2\]: the node declared at \[graphs.py\]:\d+_ does not lead to an output",
    ),
    "input with inputs": (
        lambda: nn.gModule([y := nn.Tanh()(identity())], [y]),
        r"inputs\[1\]: the node declared at .* has inputs already",
    ),
    "loose end": (dangling, r"the node declared at \[test_nngraph.py\]:\d+_ does not lead to an output"),
    "unused part": (
        with_unused_part,
        r"1 of the 2 entries .* at \[graphs.py\]:\d+_ split at \[test_nngraph.py\]:\d+-mnode",
    ),
    "another input": (with_input_of_its_own, "has no inputs, and is none of the inputs"),
    "nodes of another network": (used_twice, "has inputs already"),
    "empty nest": (lambda: nngraph.nest([]), "expected a node or a table of nodes, got {}"),
    "not a criterion": (lambda: nn.ModuleFromCriterion(nn.Tanh()), "expected a criterion, got nn.Tanh"),
    "no edge": (lambda: nngraph.graph.Graph().add(5), "expected a graph.Edge"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_graph(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_nodes_can_be_used_after_a_failure() -> None:
    x = identity()
    loose = nn.Sigmoid()(x)
    with pytest.raises(InputError, match="does not lead"):
        nn.gModule([x], [nn.Tanh()(x)])
    with pytest.raises(InputError, match="given twice"):
        nn.CAddTable()(loose, loose)
    tanh = next(node for node, _ in x.data.reverseMap.items() if type(node.data.module) is nn.Tanh)
    assert nn.gModule([x], [loose, tanh]).size() == 3


WRONG_INPUT: dict[str, tuple[Callable[[], gModule], Any, str]] = {
    "number of inputs": (
        three_in_two_out,
        Table(torch.ones(B, D)),
        "nn.gModule: expected a table of 3 inputs",
    ),
    "size": (chain, torch.ones(B, K).double(), r"in module 2 of nn.gModule \(nn.Linear\(4 -> 3\)\)"),
    "nothing to split": (
        split,
        torch.ones(4, B, D).double(),
        "expected a table of 3 entries to split, got {",
    ),
}


@pytest.mark.parametrize(("build", "input", "message"), WRONG_INPUT.values(), ids=WRONG_INPUT)
def test_wrong_input(build: Callable[[], gModule], input: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build().forward(input)


# ---- passes


def test_parts_and_the_whole_of_a_table() -> None:
    """Each consumer has the gradient of its own, whoever else gets the same tensors."""
    x = identity()
    h, c = x.split(2)
    net = nn.gModule([x], [nn.Tanh()(h), nn.Identity()(x), nn.Sigmoid()(c), nn.MulConstant(3)(h)])
    input = Table(wave(B, D), wave(B, D) * 2)
    net.forward(input)
    one = torch.ones(B, D).double()
    gradInput = net.backward(input, Table(one, Table(one, one), one, one))
    inner = {type(m): m.gradInput for m in net.modules}
    same(inner[nn.Tanh], 1 - input[1].tanh() ** 2)
    same(inner[nn.MulConstant], 3 * one)
    same(gradInput[1], 1 - input[1].tanh() ** 2 + 3 + 1)
    same(gradInput[2], input[2].sigmoid() * (1 - input[2].sigmoid()) + 1)


def test_tables_that_change_their_size() -> None:
    x = identity()
    net = nn.gModule([x], [nn.Identity()(x), nn.Identity()(x)])
    for sizes in ((3, 4), (3, 4, 5), (2,)):
        input = Table(wave(10), Table(*[wave(n) for n in sizes]))
        output = net.forward(input)
        same(net.backward(input, output), map_leaves(lambda x: 2 * x, input))


def test_one_module_in_two_nodes() -> None:
    """Its gradients are summed; in Torch7 the second use spoils the first."""
    a, b = identity(), identity()
    module = nn.Tanh()
    net = nn.gModule([a, b], [nn.CMulTable()(module(a), module(b))])
    input, grad = Table(wave(B, D), wave(B, D) * 2), wave(B, D) + 1
    net.forward(input)
    x, y = input[1].tanh(), input[2].tanh()
    same(net.backward(input, grad), Table(grad * y * (1 - x * x), grad * x * (1 - y * y)))


def test_backward_is_that_of_the_last_forward() -> None:
    """As in Torch7, whatever input it is given, and after saving and loading, too."""
    data = golden("three_in_two_out")
    net = data.module
    net.forward(data.input)
    again = t7compat.loads(t7compat.dumps(net))
    for module in (net, again):
        same(module.backward(Table(*[wave(1)] * 3), data.gradOutput), data.gradInput)


def test_inputs_of_nodes() -> None:
    data = golden("nested_split")
    data.module.forward(data.input)
    inputs = {node.data.forwardNodeId: node.data.input for node in data.module.forwardnodes}
    a, bc = data.input
    wanted = {
        node.data.forwardNodeId: Table(a, bc[1] * bc[2])
        if type(node.data.module) is nn.CAddTable
        else Table(bc[1], bc[2])
        for node in data.module.forwardnodes
        if type(node.data.module) in (nn.CAddTable, nn.CMulTable)
    }
    same(Table.from_python({key: inputs[key] for key in wanted}), Table.from_python(wanted))
    data.module.clearState()
    assert all(node.data.input is None for node in data.module.forwardnodes)
    same(data.module.forward(data.input), data.output)


def test_replace() -> None:
    """It changes the nodes and the list of modules."""
    net = chain()
    net.replace(lambda module: nn.Sigmoid() if type(module) is nn.Tanh else module)
    assert [type(m) for m in net.modules] == [nn.Identity, nn.Linear, nn.Sigmoid, nn.Linear]
    first, last = net.get(2), net.get(4)
    x = wave(B, D)
    same(net.forward(x), last.forward(first.forward(x).sigmoid()))


def test_map_and_runForwardFunction() -> None:
    net, other = lstm_cell_2_layers(), lstm_cell_2_layers()
    pairs: list[tuple[Any, Any]] = []
    net.map(other, lambda mine, theirs: pairs.append((mine, theirs)))
    assert pairs == list(zip(net.modules, other.modules, strict=True))
    input = golden("lstm_cell_2_layers").input
    want = net.forward(input)
    same(net.runForwardFunction("updateOutput", input), want)
    same(net.runForwardFunction(lambda module, x: module.forward(x), input), want)


def test_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    net = input_is_output()
    net.verbose = True
    net.forward(wave(B, D))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(net.forwardnodes)
    assert any(line.startswith(" V : module = nn.Tanh") for line in lines)


def test_call_with_tensors() -> None:
    """It runs modules and criterions, as ever."""
    x, y = wave(B, D), wave(B, D) * 2
    module, criterion = nn.Tanh(), nn.MSECriterion()
    same(module(x), x.tanh())
    same(module(x, y)[1], module.backward(x, y))
    same(Table(*criterion(x, y)), Table(criterion.forward(x, y), criterion.backward(x, y)))
    same(criterion(input=x, target=y)[1], criterion.gradInput)
