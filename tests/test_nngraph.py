"""nngraph: graphs built from nodes are those that Torch7 builds, and clones over time train as there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import Case, cases, gradients, over, parameters, same

import t7compat
from t7compat import Table, nn, nngraph, optim
from t7compat.nngraph import Node, gModule

B, D, H, K = 2, 4, 3, 5  # the sizes of the golden cases

# ---- graphs built in Python, which the golden data has, too


def identity() -> Node:
    return nn.Identity()()


def chain() -> gModule:
    x = identity()
    return nn.gModule([x], [nn.Linear(H, K)(nn.Tanh()(nn.Linear(D, H)(x)))])


def operators() -> gModule:
    x = -nn.Linear(D, H)
    return nn.gModule([x], [x - nn.Sigmoid() - nn.Linear(H, K)])


def three_in_two_out() -> gModule:
    a, b, c = identity(), identity(), identity()
    ab = nn.CMulTable()([a, b])
    bc = nn.CSubTable()(nn.Linear(K, D)(c), b)
    return nn.gModule([a, b, c], [nn.JoinTable(2)((ab, bc)), nn.Linear(D, H)(bc)])


def fan_out() -> gModule:
    x = identity()
    h = nn.Linear(D, D)(x)
    y = nn.CAddTable()(Table(nn.Tanh()(h), nn.Sigmoid()(h), [h, x] - nn.CMulTable()))
    return nn.gModule([x], [nn.CAddTable()(y, h)])


def input_is_output() -> gModule:
    x = identity()
    return nn.gModule([x], [x, nn.Tanh()(x)])


def split() -> gModule:
    x = identity()
    a, b, c = nn.SplitTable(1)(x).split(3)
    return nn.gModule([x], [nn.CAddTable()(nn.Tanh()(a), nn.CMulTable()(b, c))])


def split_one() -> gModule:
    x = identity()
    (a,) = nn.SplitTable(1)(x).split(1)
    return nn.gModule([x], [nn.Tanh()(a)])


def nested_split() -> gModule:
    x = identity()
    a, bc = x.split(2)
    b, c = bc.split(2)
    return nn.gModule([x], [nn.CAddTable()(a, nn.CMulTable()(b, c))])


def nested_gmodule() -> gModule:
    a, b = identity(), identity()
    inner = nn.gModule([a, b], [nn.CAddTable()(nn.Linear(D, H)(a), b), nn.Tanh()(b)])
    x, y = identity(), identity()
    p, q = inner(x, nn.Linear(K, H)(y)).split(2)
    return nn.gModule([x, y], [nn.CMulTable()(p, q), q])


def shared_module_twice() -> gModule:
    a, b = identity(), identity()
    first = nn.Linear(D, H)
    second = first.clone("weight", "bias", "gradWeight", "gradBias")
    return nn.gModule([a, b], [nn.CSubTable()(first(a), second(b))])


def criterion_nll() -> gModule:
    p, t = identity(), identity()
    y = nn.LogSoftMax()(nn.Linear(D, K)(p))
    return nn.gModule([p, t], [y, nn.ClassNLLCriterion()([y, t])])


def nest_single() -> gModule:
    x = identity()
    return nn.gModule([x], [nn.CAddTable()(nngraph.nest([x]))])


def nest_structure() -> gModule:
    a, b, c = identity(), identity(), identity()
    flat = nn.FlattenTable()(nngraph.nest([a, [b], c]))
    return nn.gModule([a, b, c], [flat, nngraph.nest(Table(c, [a, b]))])


def lstm(input_size: int, size: int, layers: int, embed: Callable[[int, int], nn.Module]) -> gModule:
    """char-rnn's cell: the input and the states of each layer -> new states and log probabilities."""
    inputs = [identity() for _ in range(2 * layers + 1)]
    outputs, x = [], inputs[0]
    for layer in range(layers):
        cell, hidden = inputs[2 * layer + 1], inputs[2 * layer + 2]
        first = (nn.Linear if layer else embed)(size if layer else input_size, 4 * size)
        sums = nn.CAddTable()(first(x), nn.Linear(size, 4 * size)(hidden))
        a, b, c, d = nn.SplitTable(2)(nn.Reshape(4, size)(sums)).split(4)
        kept, new = nn.CMulTable()(nn.Sigmoid()(b), cell), nn.CMulTable()(nn.Sigmoid()(a), nn.Tanh()(d))
        cell = nn.CAddTable()(kept, new)
        x = nn.CMulTable()(nn.Sigmoid()(c), nn.Tanh()(cell))
        outputs += [cell, x]
    return nn.gModule(inputs, [*outputs, nn.LogSoftMax()(nn.Linear(size, input_size)(x))])


def lstm_cell_2_layers() -> gModule:
    return lstm(D, H, 2, nn.Linear)


BUILT = (
    chain, operators, three_in_two_out, fan_out, input_is_output, split, split_one, nested_split,
    nested_gmodule, shared_module_twice, criterion_nll, nest_single, nest_structure, lstm_cell_2_layers,
)  # fmt: skip


def golden(name: str) -> Table:
    return next(case for case in cases("nngraph") if case.name == name and case.stem == "gModule").load()


built = pytest.mark.parametrize("build", BUILT, ids=lambda build: build.__name__)


def structure(network: gModule) -> Any:
    """All that Torch7's code reads in the graphs of a network, with numbers in the place of nodes."""
    fields = ("forwardNodeId", "selectindex", "nSplitOutputs")
    return {
        name: [
            [
                *[node.data[field] for field in fields],
                type(node.data.module),
                [child.id for child in node.children],
                [node.children[child] for child in node.children],
                [data.forwardNodeId for data in node.data.mapindex],
                [node.data.mapindex[data] for data in node.data.mapindex],
                sorted(successor.id for successor in node.data.reverseMap.keys()),
                set(vars(node)),
            ]
            for node in nodes
        ]
        + [[node.id for node in nodes]]
        for name, nodes in (
            ("fg", network.fg.nodes),
            ("bg", network.bg.nodes),
            ("forward", network.forwardnodes),
            ("backward", network.backwardnodes),
        )
    }


@built
def test_built_graph_is_that_of_torch7(build: Callable[[], gModule]) -> None:
    module, want = build(), golden(build.__name__).module
    assert structure(module) == structure(want)
    for name in ("fg", "bg"):
        ours, theirs = (
            [[n.id for n in edge.ends] for edge in getattr(net, name).edges] for net in (module, want)
        )
        assert ours == theirs
        assert all(graph.edges[edge] == i for graph in (module.fg,) for i, edge in enumerate(graph.edges, 1))
    assert [type(m) for m in module.listModules()] == [type(m) for m in want.listModules()]
    assert set(vars(module)) == set(vars(want)) - {"train"}


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
