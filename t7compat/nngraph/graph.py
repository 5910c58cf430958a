"""nn.gModule and the graph that it runs, as nngraph saves them."""

from __future__ import annotations

from typing import Any

from t7compat.errors import InputError
from t7compat.nn.containers import Child, Container
from t7compat.nn.luaobject import LuaObject
from t7compat.nn.shapes import describe
from t7compat.table import Table


class Graph(LuaObject, typename="graph.Graph"):
    """A list of nodes and one of edges."""


class Edge(LuaObject, typename="graph.Edge"):
    """An edge `from` one node `to` another."""


class GraphNode(LuaObject, typename="graph.Node"):
    """A node: its `data`, and the nodes to which its edges lead, its `children`."""

    data: Any
    children: Table


class Node(GraphNode, typename="nngraph.Node"):
    """A node of a gModule.

    `data` is a table: the `module`, if there is one; `mapindex`, which has for the data of each source the
    position of its output among the inputs of this node; `selectindex` for a node that takes one entry of a
    table.
    """


class gModule(Container):
    """A graph of modules from input nodes to output nodes.  Several inputs or outputs are tables.

    `forwardnodes` are in an order in which sources come first.
    """

    shares_input = True
    forwardnodes: Table
    name: str | None = None
    innode: Node
    outnode: Node
    nInputs: int | None = None  # missing in old files

    def __init__(self, inputs: Any, outputs: Any) -> None:
        raise InputError("nn.gModule: graphs can be loaded and run, but not yet built from nodes")

    def upgrade(self, version: int) -> None:
        """Files of 2014 do not list the modules."""
        if "modules" not in vars(self):
            self.modules = Table(
                *[node.data.module for node in self.forwardnodes if node.data.module is not None]
            )

    def compute(self, input: Any, *children: Child) -> Any:
        count = self.input_count()
        given = input if count > 1 else (input,)
        received: dict[int, dict[int, Any]] = {id(self.innode.data): dict(enumerate(given, 1))}
        modules = iter(children)
        for node in self.forwardnodes:
            inputs = received.get(id(node.data), {})
            value = tuple(inputs[i] for i in sorted(inputs))
            value = value[0] if len(value) == 1 else value
            if node.data.selectindex is not None:
                value = value[node.data.selectindex - 1]
            elif node.data.module is not None:
                value = next(modules)(value)
            for child in node.children:
                received.setdefault(id(child.data), {})[child.data.mapindex[node.data]] = value
        outputs = received[id(self.outnode.data)]
        result = tuple(outputs[i] for i in sorted(outputs))
        return result[0] if len(self.outnode.children) == 1 else result

    def prepare(self, input: Any) -> None:
        count = self.input_count()
        if count > 1 and not (isinstance(input, tuple) and len(input) == count):
            raise InputError(f"expected a table of {count} inputs, got {describe(input)}")

    def input_count(self) -> int:
        """The number of inputs."""
        return self.nInputs or len(self.innode.children)

    def clearState(self) -> Any:
        for node in self.forwardnodes:
            for name in ("input", "gradOutput", "gradOutputBuffer"):
                node.data[name] = None
        return super().clearState()

    def __str__(self) -> str:
        return self.name or super().__str__()
