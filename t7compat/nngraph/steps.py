"""A graph as the list of what is done for one node after another."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from t7compat.errors import InputError
from t7compat.nn.shapes import describe, expect_table, from_start
from t7compat.nn.tape import fork
from t7compat.nngraph.node import Node


class Edges(NamedTuple):
    """Where a node gets its inputs from, and what it takes of them; clones of a graph have the same ones."""

    sources: tuple[int, ...]  # the positions of the steps that give the inputs
    take: Callable[[list[Any]], Any] | None  # gives the inputs, of the results of the steps before
    shared: tuple[bool, ...]  # whether others get the same tensors, for each of the inputs; () if all do not
    select: int | None  # a node without module that takes this entry of a table
    parts: int | None  # a node without module whose tables must have so many entries
    last: tuple[int, ...]  # the positions of the steps whose results nobody needs afterwards

    def forked(self, given: Any) -> Any:
        """The inputs, the shared ones as other tensors of the graph."""
        if len(self.shared) == 1:
            return fork(given)
        return tuple([fork(x) if shared else x for x, shared in zip(given, self.shared, strict=True)])

    def part(self, value: Any, node: Node) -> Any:
        """What a node that splits a table, or takes an entry, gives for its input."""
        if self.select is not None:
            if isinstance(value, tuple) and len(value) >= self.select > 0:
                return value[self.select - 1]
            expect_table(value, self.select)
            return value[from_start(self.select, len(value))]
        if self.parts is not None and not (isinstance(value, tuple) and len(value) == self.parts):
            wanted = f"a table of {self.parts} entries to split"
            raise InputError(f"node declared at {node.place}: expected {wanted}, got {describe(value)}")
        return value


@functools.cache
def _edges(sources: tuple[int, ...], shared: tuple[bool, ...], *others: Any) -> Edges:
    take = operator.itemgetter(*sources) if sources else None
    return Edges(sources, take, shared if True in shared else (), *others)


class Step(NamedTuple):
    """What is done for one node.

    The edges are looked at once, when the steps are made; the module is read from `data` each time.
    """

    node: Node
    data: dict[Any, Any]  # that of the node
    edges: Edges


def steps_of(nodes: Iterable[Node]) -> Iterator[Step]:
    """The steps for nodes in an order in which sources come first."""
    nodes = list(nodes)
    found: dict[int, dict[int, tuple[int, bool]]] = {id(node.data): {} for node in nodes}
    for position, node in enumerate(nodes):
        source = position, not _goes_one_way(node)
        for child in node.children:
            found[id(child.data)][child.data.mapindex[node.data]] = source
    user = {place: id(node.data) for node in nodes for place, _ in found[id(node.data)].values()}
    for node in nodes:
        sources = [source for _, source in sorted(found[id(node.data)].items())]
        places, shared = tuple(place for place, _ in sources), tuple(shared for _, shared in sources)
        last = tuple(place for place in dict.fromkeys(places) if user[place] == id(node.data))
        edges = _edges(places, shared, node.data.selectindex, node.data.nSplitOutputs, last)
        yield Step(node, node.data.__entries__, edges)


def _goes_one_way(node: Node) -> bool:
    """Whether no two nodes get the same tensors from a node: there is one, or each takes another entry."""
    taken = {child.data.selectindex for child in node.children}
    return len(node.children) == 1 or (None not in taken and len(taken) == len(node.children))
