"""Torch7's package graph: directed graphs, which nngraph builds its networks from.

`dot` draws them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from t7compat.errors import InputError
from t7compat.nested import to_text
from t7compat.nn.luaobject import LuaObject
from t7compat.nngraph import picture
from t7compat.table import Table, leaves


class Edge(LuaObject, typename="graph.Edge"):
    """An edge `from` one node `to` another."""

    def __init__(self, source: Node, to: Node, weight: float | None = None) -> None:
        fields = {"from": source, "to": to, "weight": weight}
        vars(self).update((name, value) for name, value in fields.items() if value is not None)

    @property
    def ends(self) -> tuple[Node, Node]:
        """The nodes between which it is: Python keeps the name `from` for itself."""
        return vars(self)["from"], self.to


class Node(LuaObject, typename="graph.Node"):
    """A node: its `data`, and its `children`, the nodes to which edges lead from it.

    `children` has the nodes by position, and the positions by node.
    """

    data: Any = None
    children: Table
    id: int

    def __init__(self, data: Any = None) -> None:
        fields = {"data": data, "id": 0, "children": Table(), "visited": False, "marked": False}
        vars(self).update((name, value) for name, value in fields.items() if value is not None)

    def add(self, child: Any) -> None:
        """Let an edge lead to a node, or to each one of a table."""
        for node in leaves(child):
            _append(self.children, node)

    def graph(self) -> Graph:
        """The graph of all nodes that can be reached from this one."""
        graph = Graph()
        self.bfs(lambda node: graph.add([Edge(node, child) for child in node.children]))
        return graph

    def dfs(self, func: Callable[[Any], Any]) -> None:
        """Call `func` on all nodes that can be reached, each after those that can be reached from it."""
        seen, way = {self}, [(self, iter(self.children))]
        while way:
            node, remaining = way[-1]
            child = next((child for child in remaining if child not in seen), None)
            if child is None:
                way.pop()
                func(node)
            else:
                seen.add(child)
                way.append((child, iter(child.children)))

    def bfs(self, func: Callable[[Any], Any]) -> None:
        """Call `func` on all nodes that can be reached, nearer ones first."""
        queue = {self: None}
        pending = [self]
        for node in pending:
            func(node)
            found = [child for child in node.children if child not in queue]
            queue.update(dict.fromkeys(found))
            pending.extend(found)

    def hasCycle(self) -> bool:
        """Whether a cycle can be reached."""
        order: list[Node] = []
        self.dfs(order.append)
        places = {node: place for place, node in enumerate(order)}
        return any(places[child] >= places[node] for node in order for child in node.children)

    def label(self) -> str:
        """What the node is called in a picture."""
        return to_text(self.data)


class Graph(LuaObject, typename="graph.Graph"):
    """A list of `nodes` and one of `edges`, both also with the positions of what is in them."""

    nodes: Table
    edges: Table

    def __init__(self) -> None:
        self.nodes, self.edges = Table(), Table()

    def add(self, edge: Any) -> None:
        """Add an edge, or all of a table, with the nodes at its ends, which get their position as `id`."""
        for one in leaves(edge):
            if not isinstance(one, Edge):
                raise InputError(f"graph.Graph: expected a graph.Edge or a table of them, got {one}")
            _append(self.edges, one)
            source, to = one.ends
            source.id, to.id = _append(self.nodes, source), _append(self.nodes, to)
            source.add(to)

    def clone(self) -> Graph:
        """A graph of new nodes and edges; the data of the nodes are the same."""
        return self._rebuilt(lambda source, to: (source, to))[0]

    def reverse(self) -> Graph:
        """A graph of new nodes with all edges the other way; the data of the nodes are the same."""
        return self._reversed()[0]

    def _reversed(self) -> tuple[Graph, dict[Node, Node]]:
        return self._rebuilt(lambda source, to: (to, source))

    def _rebuilt(self, ends: Callable[[Node, Node], tuple[Node, Node]]) -> tuple[Graph, dict[Node, Node]]:
        """A graph with an edge between other ends for each edge, and its nodes by those of this one."""
        graph = Graph()
        nodes: dict[Node, Node] = {}
        for edge in self.edges:
            for node in edge.ends:
                nodes.setdefault(node, type(node)(node.data))
            source, to = edge.ends
            graph.add(Edge(*ends(nodes[source], nodes[to])))
        return graph, nodes

    def roots(self) -> Table:
        """The nodes to which no edge leads."""
        return self._ends(0)

    def leaves(self) -> Table:
        """The nodes from which no edge leads."""
        return self._ends(1)

    def _ends(self, end: int) -> Table:
        inner = {edge.ends[1 - end] for edge in self.edges}
        found = {edge.ends[end] for edge in self.edges} - inner
        return Table(*[node for node in self.nodes if node in found])

    def hasCycle(self) -> bool:
        """Whether there is a cycle."""
        roots = self.roots()
        return not roots or any(root.hasCycle() for root in roots)

    def topsort(self) -> Table:
        """The nodes in an order in which all edges lead forwards."""
        graph, copies = self._reversed()
        originals = {copy: node for node, copy in copies.items()}
        above = Node()
        above.add(graph.roots())
        order: list[Node] = []
        above.dfs(order.append)
        if len(order) - 1 != len(self.nodes) or above.hasCycle():
            raise InputError("graph.Graph: expected a graph without cycles")
        return Table(*[originals[node] for node in order[:-1]])

    def todot(self, title: str | None = None) -> str:
        """The graph in the language of Graphviz."""
        names = {node: f"n{node.id}" for node in self.nodes}
        nodes = [(names[node], _shown_name(node), _attributes(node)) for node in self.nodes]
        return picture.dot_text(
            nodes, [(names[source], names[to]) for source, to in (e.ends for e in self.edges)], title
        )


def _shown_name(node: Any) -> str:
    name = node.graphNodeName() if hasattr(node, "graphNodeName") else f"Node{node.id}"
    return f"{name}\n{node.label()}"


def _attributes(node: Any) -> dict[str, Any]:
    return dict(node.graphNodeAttributes().items()) if hasattr(node, "graphNodeAttributes") else {}


def _append(table: Table, value: Any) -> int:
    """Put a value at the end of a table that has its positions by value; the position that it has then."""
    if table[value] is None:
        table.insert(value)
        table[value] = len(table)
    position: int = table[value]
    return position


def dot(g: Graph, title: str | None = None, fname: str | None = None) -> None:
    """Write the picture of a graph to `fname`.dot and `fname`.svg; show it if there is no `fname`.

    The SVG is drawn by Graphviz, its Python package and its programs, without which an InputError says so:
    the .dot file is written all the same.
    """
    picture.draw(g.todot(title), fname)
