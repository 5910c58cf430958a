"""Networks of nngraph cloned over time, as in char-rnn, and what else there is to graphs: names, pictures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import cases, parameters, same
from graphs import chain, identity, lstm, nested_split

import t7compat
from t7compat import InputError, Table, nn, nngraph, optim
from t7compat.nngraph import gModule, graph, simple_print

# ---- parameters over time


def by_clone(network: gModule) -> gModule:
    return network.clone("weight", "bias", "gradWeight", "gradBias")


def by_file(network: gModule) -> gModule:
    """char-rnn's way: a copy through a file in memory, whose parameters become those of the original."""
    copy = t7compat.loads(t7compat.dumps(network))
    for mine, theirs in zip(copy.parameters(), network.parameters(), strict=True):
        for own, shared in zip(mine, theirs, strict=True):
            own.set_(shared)
    return copy


class Unrolled:
    """A network with a clone for each step in time."""

    def __init__(self, trace: Table, again: Any) -> None:
        self.config = config = trace.config
        network = lstm(int(trace.data.text.max()), config.rnnSize, config.layers, nn.LookupTable)
        for mine, theirs in zip(parameters(network), trace.params_initial, strict=True):
            mine.copy_(theirs)
        self.flat, self.gradient = network.getParameters()
        self.clones = [again(network) for _ in range(config.seqLength)]
        self.criterions = [nn.ClassNLLCriterion() for _ in self.clones]

    def run(self, x: torch.Tensor, y: torch.Tensor, states: list[torch.Tensor]) -> tuple[float, list[Any]]:
        """Forward and backward through all steps: the loss, and the states after them."""
        inputs, outputs, loss = [], [], 0.0
        for t, network in enumerate(self.clones):
            inputs.append(Table(x[:, t], *states))
            outputs.append(list(network.forward(inputs[t])))
            states = outputs[t][:-1]
            loss += self.criterions[t].forward(outputs[t][-1], y[:, t])
        back = [torch.zeros_like(state) for state in states]
        for t in reversed(range(len(self.clones))):
            last = self.criterions[t].backward(outputs[t][-1], y[:, t])
            _, *back = self.clones[t].backward(inputs[t], Table(*back, last))
        return loss / len(self.clones), [state.clone() for state in states]


@pytest.mark.parametrize("again", [by_clone, by_file, gModule.sharedClone], ids=lambda again: again.__name__)
def test_language_model_trains_as_in_torch7(again: Any) -> None:
    trace = next(case for case in cases("traces") if case.stem == "charlm_nngraph").load()
    unrolled, text, config = Unrolled(trace, again), trace.data.text, trace.config
    length = config.seqLength
    zeros = [torch.zeros(len(text), config.rnnSize).double()] * (2 * config.layers)
    settings = {"learningRate": config.learningRate, "alpha": config.alpha}
    losses: list[float] = []
    states = zeros
    for i in range(trace.iterations):
        start = i % ((text.shape[1] - 1) // length) * length

        def feval(w: torch.Tensor, start: int = start) -> tuple[float, torch.Tensor]:
            nonlocal states
            unrolled.gradient.zero_()
            before = states if start else zeros
            x, y = (text.narrow(1, start + shift, length) for shift in (0, 1))
            loss, states = unrolled.run(x, y, before)
            return loss, unrolled.gradient.clamp_(-config.clamp, config.clamp)

        losses.append(optim.rmsprop(feval, unrolled.flat, settings)[1][1])
    torch.testing.assert_close(torch.tensor(losses, dtype=torch.float64), trace.losses, rtol=1e-8, atol=0)
    same(unrolled.flat, trace.flat_final, "parameters at the end")
    same(Table(*states), trace.last_state, "states at the end")


# ---- names and pictures


def hidden() -> gModule:
    x = identity().annotate({"name": "input", "graphAttributes": {"color": "red"}})
    h = nn.Linear(2, 3)(x)
    out = nn.Tanh()(h).annotate(description="the output")
    nngraph.annotateNodes()
    return nn.gModule([x], [out])


def test_annotations() -> None:
    names = [node.annotations.name for node in hidden().forwardnodes]
    assert names == [None, "input", "h", "out", None]


def test_dot_text() -> None:
    net = hidden()
    net.forward(torch.tensor([[1.0, float("nan")]]).double())
    lines = net.fg.todot("title").splitlines()
    place = r"[graphs.py]:"
    assert lines[:4] == ["digraph G {", 'labelloc="t";', 'label="title";', "node [shape = oval]; "]
    assert lines[-1] == "}"
    shown = {line.split("[")[0]: line for line in lines}
    ids = {node.annotations.name: f"n{node.id}" for node in net.fg.nodes}
    assert r"module = nn.Linear(2 -> 3)\lreverseMap = {}\linput = {Tensor[1x2]NaN}" in shown[ids["h"]]
    assert rf'{ids["out"]}[label="out ({ids["out"][1:]})\ndesc = the output\nmodule' in shown[ids["out"]]
    assert f' color=red tooltip="{place}' in shown[ids["input"]]
    assert f"{ids['h']} -> {ids['out']};" in lines


def test_simple_print_leaves_out_what_passes_on() -> None:
    x = identity()
    a, b = nn.SplitTable(1)(x).split(2)
    net = nn.gModule([x], [nn.CAddTable()(a, nn.Identity()(b))])
    text = simple_print.todot(net.fg)
    ids = {type(node.data.module): node.id for node in net.fg.nodes}
    arrow = f"n{ids[nn.SplitTable]} -> n{ids[nn.CAddTable]};"
    assert [line for line in text.splitlines() if "->" in line] == [arrow]
    assert "Identity" not in text


def test_picture_without_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    net = nested_split()
    with pytest.warns(UserWarning, match=r"wrote .*net.dot, but no picture: that needs"):
        graph.dot(net.fg, "net", str(tmp_path / "net"))
    assert (tmp_path / "net.dot").read_text() == net.fg.todot("net")


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("graphviz")
    graph.dot(hidden().fg, "a network", str(tmp_path / "net"))
    assert "the output" in (tmp_path / "net.svg").read_text()


@pytest.mark.filterwarnings("ignore:wrote")
def test_debugging_draws_the_graph_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net, wrong = chain(), torch.ones(2, 7).double()
    net.name = "bad"
    nngraph.setDebug(True)
    try:
        for _ in range(2):
            with pytest.raises(InputError, match="Linear"):
                net.forward(wrong)
    finally:
        nngraph.setDebug(False)
    failed = next(node.id for node in net.fg.nodes if node.data.module is net.get(2))
    assert f"n{failed}[style=filled, fillcolor=red];" in (tmp_path / "bad.dot").read_text()
    with pytest.raises(InputError, match="Linear"):
        net.forward(wrong)
    assert len(list(tmp_path.glob("bad*.dot"))) == 2


# ---- the package graph


def numbered(*edges: tuple[int, int]) -> tuple[graph.Graph, dict[int, graph.Node]]:
    found = graph.Graph()
    nodes = {n: graph.Node(n) for n in sorted({n for edge in edges for n in edge})}
    for source, to in edges:
        found.add(graph.Edge(nodes[source], nodes[to]))
    return found, nodes


def data(nodes: Any) -> list[Any]:
    return [node.data for node in nodes]


def test_orders_of_a_graph() -> None:
    net, nodes = numbered((1, 2), (1, 3), (2, 3), (2, 4), (3, 4), (0, 2))
    assert data(net.roots()) == [1, 0]
    assert data(net.leaves()) == [4]
    assert data(net.reverse().roots()) == [4]
    order = data(net.topsort())
    assert all(order.index(a) < order.index(b) for a, b in (data(edge.ends) for edge in net.edges))
    seen: list[Any] = []
    nodes[1].bfs(seen.append)
    assert data(seen) == [1, 2, 3, 4]
    seen.clear()
    nodes[1].dfs(seen.append)
    assert data(seen) == [4, 3, 2, 1]
    copy = net.clone()
    assert data(copy.nodes) == data(net.nodes)
    assert not set(copy.nodes) & set(net.nodes)


def test_cycles() -> None:
    assert not numbered((1, 2), (1, 3), (2, 4), (3, 4))[0].hasCycle()
    for edges in (((1, 2), (2, 3), (3, 2)), ((1, 2), (2, 1)), ((1, 2), (2, 2))):
        net = numbered(*edges)[0]
        assert net.hasCycle()
        with pytest.raises(InputError, match="without cycles"):
            net.topsort()
