"""A graph as the list of what is done for one node after another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from t7compat.errors import InputError
from t7compat.nn.shapes import describe, expect_table, from_start
from t7compat.nn.tape import fork
from t7compat.nngraph.node import Node


class Source(NamedTuple):
    """An earlier step, of which a step gets the result."""

    position: int
    forks: bool  # whether others get it, too


class Step(NamedTuple):
    """What is done for one node.

    The edges are looked at once, when the steps are made; the module is read from `data` each time.
    """

    node: Node
    data: dict[Any, Any]  # that of the node
    sources: tuple[Source, ...]  # in the order of the inputs
    select: int | None  # a node without module that takes this entry of a table
    parts: int | None  # a node without module whose tables must have so many entries

    @property
    def module(self) -> Any:
        """The module, or None."""
        return self.data.get("module")

    def inputs(self, values: list[Any], input: Any) -> Any:
        """What the node is given: results of earlier steps, or what the network is given."""
        if not self.sources:
            return input if self.module is None else ()  # a node of parameters is given nothing
        found = [fork(values[place]) if forks else values[place] for place, forks in self.sources]
        return found[0] if len(found) == 1 else tuple(found)

    def part(self, value: Any) -> Any:
        """What a node without module gives for its input."""
        if self.parts is not None and not (isinstance(value, tuple) and len(value) == self.parts):
            wanted = f"a table of {self.parts} entries to split"
            raise InputError(f"node declared at {self.node.place}: expected {wanted}, got {describe(value)}")
        if self.select is None:
            return value
        expect_table(value, self.select)
        return value[from_start(self.select, len(value))]


def steps_of(nodes: Iterable[Node]) -> tuple[Step, ...]:
    """The steps for nodes in an order in which sources come first."""
    nodes = list(nodes)
    sources: dict[int, dict[int, Source]] = {id(node.data): {} for node in nodes}
    for position, node in enumerate(nodes):
        for child in node.children:
            index = child.data.mapindex[node.data]
            sources[id(child.data)][index] = Source(position, len(node.children) > 1)
    return tuple(
        Step(
            node,
            node.data.__entries__,
            tuple(source for _, source in sorted(sources[id(node.data)].items())),
            node.data.selectindex,
            node.data.nSplitOutputs,
        )
        for node in nodes
    )
