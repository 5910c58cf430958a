"""Parts that a graph has several times, as layers of their own.

Such a part is a run of nodes.  A chain of layers becomes a Sequential, and any other part a graph, whose
inputs are what comes from outside; what is different from one to the next are the arguments of the layers.
"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from converters import brief
from converters.blocks import varying
from converters.calls import Call, arguments_of
from converters.forward import Node
from converters.graphs import Graph, graph
from converters.native import Layer, native_form
from converters.residual import Residual

_LONGEST = 40  # nodes in a part
_MOST_NODES = 4000  # in a graph that is searched
_WORTH = 2  # lines that have to be saved
_NEARLY = 0.6  # of the lines that the best part saves
_CANDIDATES = 10  # of which the lines are counted


class Run(NamedTuple):
    """The nodes from `start` to before `stop`, what they take from outside, and which of them others take."""

    start: int
    stop: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def folded(layer: Layer, known: dict[Layer, Layer] | None = None) -> Layer:
    """The layer, in whose graphs the parts that are there several times are layers of their own."""
    known = {} if known is None else known
    if layer not in known:
        known[layer] = layer
        if isinstance(layer, Graph):
            nodes = [node._replace(layer=node.layer and folded(node.layer, known)) for node in layer.nodes]
            found = _Folding(nodes)
            nodes = found.nodes if found.count else nodes
            if any(map(_differ, nodes, layer.nodes)):
                known[layer] = graph(nodes, layer.origin, layer.path, layer.title, goes_on=layer.goes_on)
        elif not isinstance(layer, Residual):
            children = tuple(folded(child, known) for child in layer.children)
            if any(one is not other for one, other in zip(children, layer.children, strict=True)):
                known[layer] = replace(layer, children=children)
    return known[layer]


def _differ(one: Node, other: Node) -> bool:
    return one.layer is not other.layer


class _Folding:
    """The nodes of a graph, with layers for those parts that are worth it."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes, self.count = _in_order(nodes), 0
        while len(self.nodes) <= _MOST_NODES and (runs := self._best()):
            self._fold(runs)
            self.count += 1

    def _best(self) -> list[Run]:
        """The occurrences of the smallest part that saves nearly the most lines, if that is enough."""
        groups: dict[Any, list[Run]] = defaultdict(list)
        for form, run in self._runs():
            before = groups[form]
            if not before or before[-1].stop <= run.start:
                before.append(run)
        several = [(self._about(runs), runs) for runs in groups.values() if len(runs) > 1]
        likely = _smallest([one for one in several if one[0] >= _WORTH])[:_CANDIDATES]
        written = [(self._saved(runs), runs) for _, runs in likely]
        return next((runs for _, runs in _smallest([one for one in written if one[0] >= _WORTH])), [])

    def _runs(self) -> Iterator[tuple[Any, Run]]:
        """All runs of nodes, each with what it has in common with those that do the same."""
        users: dict[int, list[int]] = defaultdict(list)
        for i, node in enumerate(self.nodes):
            for source in node.sources:
                users[source].append(i)
        last = [max(users[i], default=i) for i in range(len(self.nodes))]
        several = Counter(node.layer for node in self.nodes)
        kinds = [_kind(node, several) for node in self.nodes]
        forms: dict[Any, int] = {}  # numbers for the forms of runs, by what is in them
        for start in range(1, len(self.nodes) - 1):
            form, inputs = 0, dict[int, int]()
            for i in range(start, min(start + _LONGEST, len(self.nodes) - 1)):
                kind, sources = kinds[i], self.nodes[i].sources
                if kind is None:
                    break
                taken = [
                    source - start if source >= start else ~inputs.setdefault(source, len(inputs))
                    for source in sources
                ]
                form = forms.setdefault((form, kind, tuple(taken)), len(forms) + 1)
                outputs = tuple(j - start for j in range(start, i + 1) if last[j] > i)
                if i > start and outputs:
                    yield (form, outputs), Run(start, i + 1, tuple(inputs), outputs)

    def _about(self, runs: list[Run]) -> float:
        """About as many lines as `_saved` tells, without writing them."""
        run = runs[0]
        within = self.nodes[run.start : run.stop]
        calls = sum(node.calls for node in within)
        parts = sum(node.layer is not None and node.layer.origin is None for node in within)
        if calls < 2 or parts > 1:  # what holds parts twice is several of a part
            return 0
        if self._is_row(run):
            return len(runs) * ((3 * calls + len(within)) / 2 - 2) - len(within) - 5
        uses = Counter(source - run.start for node in within for source in node.sources)
        uses.update(run.outputs)
        variables = sum(uses[i] > 1 and not node.calls for i, node in enumerate(within))
        return len(runs) * (2 * calls + variables - 2) - 2 * calls - variables - 9

    def _saved(self, runs: list[Run]) -> float:
        """The lines that a layer for these saves; an expression inside of a line counts for half of one."""
        run = runs[0]
        calls = sum(node.calls for node in self.nodes[run.start : run.stop])
        if calls < 2 or varying([self._calls(one) for one in runs]) is None:
            return 0
        layer = self._layer(run, [""] * (run.stop - run.start))
        inside, around = calls * 1.5 + len(layer.children) / 2, len(layer.children) + 5
        if isinstance(layer, Graph):
            lines = layer.forward.count("\n") + 1
            inside, around = calls + lines - 2 - (len(run.inputs) > 1), calls + lines + 6
        return len(runs) * (inside - 2) - around

    def _calls(self, run: Run) -> tuple[Call, ...]:
        layers = [node.layer for node in self.nodes[run.start : run.stop]]
        return tuple(_call(layer) for layer in layers if layer is not None and not _is_text(layer))

    # ---- layers for parts

    def _fold(self, runs: list[Run]) -> None:
        """Put layers in the place of runs that are the same."""
        labels = [[self.nodes[i].label for i in range(run.start, run.stop)] for run in runs]
        common = [_stem(set(column)) for column in zip(*labels, strict=True)]
        starts = {run.start: run for run in runs}
        places: dict[int, int] = {}
        found: list[Node] = []
        i = 0
        while i < len(self.nodes):
            if i in starts:
                run = starts[i]
                found.append(Node(tuple(places[j] for j in run.inputs), self._layer(run, common)))
                whole = len(found) - 1
                for k, j in enumerate(run.outputs):
                    if len(run.outputs) > 1:
                        found.append(Node((whole,), None, k))
                    places[run.start + j] = len(found) - 1
                i = run.stop
            else:
                node = self.nodes[i]
                found.append(node._replace(sources=tuple(places[j] for j in node.sources)))
                places[i] = len(found) - 1
                i += 1
        self.nodes = found

    def _layer(self, run: Run, labels: Sequence[str]) -> Layer:
        """The layer for a run, whose nodes have these labels."""
        chain = self._chain(run)
        if chain is not None:
            return Layer(functools.partial(torch.nn.Sequential), None, "", tuple(chain))
        entries = [Node((0,), None, k) for k in range(len(run.inputs))] * (len(run.inputs) > 1)
        places = {j: len(entries) and 1 + k for k, j in enumerate(run.inputs)}
        nodes = [Node(), *entries]
        for i, label in zip(range(run.start, run.stop), labels, strict=True):
            places[i] = len(nodes)
            sources = tuple(places[j] for j in self.nodes[i].sources)
            nodes.append(self.nodes[i]._replace(sources=sources, label=label))
        nodes.append(Node(tuple(places[run.start + j] for j in run.outputs)))
        return graph(nodes, None, "", "cell" if len(run.outputs) > 1 else "block")

    def _is_row(self, run: Run) -> bool:
        """Whether each node of a run works on the output of the one before."""
        follows = all(self.nodes[i].sources == (i - 1,) for i in range(run.start + 1, run.stop))
        return (
            follows and run.outputs == (run.stop - run.start - 1,) and len(self.nodes[run.start].sources) == 1
        )

    def _chain(self, run: Run) -> list[Layer] | None:
        """The layers of a run in which each works on the output of the one before."""
        if not self._is_row(run):
            return None
        layers = [_alone(node.layer) for node in self.nodes[run.start : run.stop]]
        return [layer for layer in layers if layer is not None] if None not in layers else None


def _smallest(some: list[tuple[float, list[Run]]]) -> list[tuple[float, list[Run]]]:
    """Those runs that save nearly as many lines as the best, the smallest parts first: they occur most often.

    What it costs the reader that values go in and out is taken off.
    """

    def gain(one: tuple[float, list[Run]]) -> float:
        lines, runs = one
        return lines - len(runs) * (len(runs[0].inputs) + len(runs[0].outputs)) / 2

    best = max(map(gain, some), default=0.0)
    found = [one for one in some if gain(one) >= min(best, best * _NEARLY)]
    return sorted(found, key=lambda one: (-len(one[1]), -gain(one)))


def _in_order(nodes: Sequence[Node]) -> list[Node]:
    """The nodes without those that hand on a value; entries of the input come first."""
    same: list[int] = []
    labels = [node.label for node in nodes]
    given = [True]
    for i, node in enumerate(nodes):
        same.append(same[node.sources[0]] if node.hands_on else i)
        if i:
            given.append(node.layer is None and all(given[same[source]] for source in node.sources))
        labels[same[i]] = labels[same[i]] or node.label
    last = len(nodes) - 1
    kept = [i for i in range(last) if same[i] == i]
    order = [*sorted(kept, key=lambda i: not given[i]), last]
    places = {i: place for place, i in enumerate(order)}
    return [
        nodes[i]._replace(sources=tuple(places[same[j]] for j in nodes[i].sources), label=labels[i])
        for i in order
    ]


def _kind(node: Node, several: Counter[Layer | None]) -> Any:
    """What nodes of a part have in common with their counterparts; None for one that is in no part."""
    if node.layer is None:
        return ("entry", node.entry) if node.entry is not None and node.sources != (0,) else None
    if not node.calls:
        return node.layer.make.args
    if several[node.layer] > 1:
        return None
    return str(_call(node.layer).form)


def _call(layer: Layer) -> Call:
    """The call that makes a layer, as far as it tells it from others."""
    kind: Any = layer.make.func
    name = f"{kind.__module__}.{kind.__name__} {getattr(layer, 'forward', '')}"
    return Call(name, tuple(map(_call, layer.children)), tuple(arguments_of(layer.make)))


def _is_text(layer: Layer) -> bool:
    return not Node(layer=layer).calls


def _alone(layer: Layer | None) -> Layer | None:
    """The layer as one that is called; None if it has no such form."""
    if layer is None or not _is_text(layer):
        return layer
    make = native_form(layer.origin) or brief.exact(layer.origin) or brief.of_a_batch(layer.origin)
    return None if make is None else Layer(make, layer.origin, layer.path)


def _stem(labels: Iterable[str]) -> str:
    """What labels have in common but for a number at the end; empty if they are different words."""
    stems = {re.sub(r"_?\d+$", "", label) for label in labels} if len({*labels}) > 1 else {*labels}
    return stems.pop() if len(stems) == 1 else ""
