"""What a graph takes: sizes of its inputs with which each of its layers can do its work.

The nodes are gone through in their order.  Where a layer meets an input of the graph that has no size yet,
that gets one which the layer wants.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from converters.graphs import Graph
from converters.native import FAILURES, Layer
from converters.samples import ANY, BATCH, STEPS, Entry, Shape, draw, prediction, target, wanted
from converters.verify import PATIENCE, run
from t7compat import nn
from t7compat.errors import InputError
from t7compat.nngraph import ModuleFromCriterion

_UNKNOWN = object()
_WISHES = 20  # of a layer, that are tried
_FEATURES = 8  # different numbers of features that are tried where nothing is known
Sizes = dict[int, Shape]  # of inputs, by their nodes


def wishes(module: Any, network: Layer) -> Iterator[Shape]:
    """The shapes of its input that a module wants, of which `network` is the layer."""
    graph = entering(network)
    return wanted(module) if graph is None else taken(graph)


def entering(network: Layer) -> Graph | None:
    """The graph that gets the input of a network, if there is one."""
    while network.children and not isinstance(network, Graph):
        if len(network.children) > 1 and network.make.func is not torch.nn.Sequential:
            return None
        network = network.children[0]
    return network if isinstance(network, Graph) else None


def taken(graph: Graph) -> Iterator[Shape]:
    """The shapes of the input with which all layers of a graph can work, the best guess first."""
    search = _Search(graph)
    for sizes in search.completed({}):
        yield search.shape(0, sizes)


class _Search:
    """The search for sizes of the inputs: the nodes that hand on what comes in, or an entry of it.

    `entries` has for each input those that are entries of it; one without any is a tensor.
    """

    def __init__(self, graph: Graph) -> None:
        self.nodes, self.end = graph.nodes, time.monotonic() + PATIENCE
        weights = graph.tensors().values()
        self.dtype = next((w.dtype for w in weights if w.is_floating_point()), torch.float64)
        features = list(dict.fromkeys(n for w in weights if w.dim() == 2 for n in reversed(w.shape)))
        sizes = [size for n in features[:_FEATURES] for size in ((BATCH, n), (BATCH, STEPS, n))]
        counts = sorted({1, *(node.entry + 1 for node in self.nodes if node.entry is not None)})
        sizes += [size for n in counts for size in ((n, BATCH, 8), (BATCH, n, 8))]  # taken apart in the graph
        self.any = [*map(Entry, sizes), *ANY]
        self.inputs = {0: 0}  # for each node that hands on an input, which one
        self.entries: dict[int, dict[int, int]] = {0: {}}
        for i, node in enumerate(self.nodes):
            source = self.inputs.get(node.sources[0]) if len(node.sources) == 1 else None
            if source is not None and node.entry is not None:
                self.inputs[i] = self.entries[source].setdefault(node.entry, i)
                self.entries.setdefault(self.inputs[i], {})
            elif source is not None and node.hands_on:
                self.inputs[i] = source

    def shape(self, i: int, sizes: Sizes) -> Shape:
        """The shape of an input; where an entry is never taken, that of the first one."""
        parts = self.entries[i]
        if not parts:
            return sizes[i]
        return tuple(self.shape(parts.get(k, parts[min(parts)]), sizes) for k in range(max(parts) + 1))

    def completed(self, sizes: Sizes) -> Iterator[Sizes]:
        """The ways to give a size to all inputs that have none in `sizes`."""
        values = self._run(sizes) if time.monotonic() < self.end else None
        if values is None:
            return
        missing = [i for i, parts in self.entries.items() if not parts and i not in sizes]
        if not missing:
            yield sizes
            return
        chosen, wishes = next(self._wishes(values, missing), (missing[0], []))
        for wish in dict.fromkeys([*wishes, *self.any]):
            yield from self.completed({**sizes, chosen: wish})

    def _run(self, sizes: Sizes) -> list[Any] | None:
        """The value of each node, as far as it is known; None if a layer cannot take what it is given."""
        values: list[Any] = []
        for i, node in enumerate(self.nodes):
            given = [values[source] for source in node.sources]
            if i in self.inputs:
                size = sizes.get(self.inputs[i])
                values.append(_UNKNOWN if size is None else draw(size, self.dtype))
            elif any(value is _UNKNOWN for value in given):
                values.append(_UNKNOWN)
            else:
                value = given[0] if len(given) == 1 else tuple(given)
                try:
                    if node.entry is not None:
                        value = value[node.entry]
                    values.append(value if node.layer is None else run(node.layer.origin, value))
                except (InputError, *FAILURES):
                    return None
        return values

    def _wishes(self, values: list[Any], missing: list[int]) -> Iterator[tuple[int, list[Shape]]]:
        """The inputs that nodes wait for, each with the sizes that would do for the layer of the node."""
        for i, node in enumerate(self.nodes):
            if values[i] is not _UNKNOWN or i in self.inputs or node.layer is None:
                continue
            at = next(k for k, source in enumerate(node.sources) if values[source] is _UNKNOWN)
            wishes: list[Shape] = []
            for k, source in enumerate(node.sources):
                if isinstance(values[source], torch.Tensor):
                    wishes += beside(node.layer.origin, at, k, values[source].shape)
            wishes += _for_place(at, len(node.sources), node.layer)
            leaf = self._input_behind(node.sources[at])
            if wishes and leaf in missing:
                yield leaf, wishes

    def _input_behind(self, i: int) -> int:
        while i not in self.inputs:
            i = self.nodes[i].sources[0]
        return self.inputs[i]


def _for_place(at: int, count: int, layer: Layer) -> Iterable[Shape]:
    """What a layer wants as one of `count` inputs."""
    inner = entering(layer)
    shapes = wanted(layer.origin) if inner is None else taken(inner)
    if count > 1:
        shapes = (shape[at] for shape in shapes if not isinstance(shape, Entry) and len(shape) == count)
    return itertools.islice(shapes, _WISHES)


@functools.singledispatch
def beside(module: Any, at: int, other: int, size: torch.Size) -> Iterator[Shape]:
    """What a layer may want as input `at` if input `other` has a size."""
    yield Entry(tuple(size))


@beside.register
def _matrices(module: nn.MM, at: int, other: int, size: torch.Size) -> Iterator[Shape]:
    if len(size) > 1:
        # of the two dimensions of a matrix, the second is summed over in the first one, if not transposed
        last = [not module.transA, bool(module.transB)]
        inner = size[-1] if last[other] else size[-2]
        yield Entry((*size[:-2], *((STEPS, inner) if last[at] else (inner, STEPS))))


@beside.register
def _loss(module: ModuleFromCriterion, at: int, other: int, size: torch.Size) -> Iterator[Shape]:
    yield (target if at == 1 else prediction)(module.criterion, tuple(size))
