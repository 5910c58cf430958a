"""Pictures of a graph with nothing but its modules: without nodes that pass their input on."""

from __future__ import annotations

from t7compat.nested import type_name
from t7compat.nngraph import picture
from t7compat.nngraph.graph import Graph
from t7compat.nngraph.node import Node


def todot(graph: Graph, title: str | None = None) -> str:
    """The graph in the language of Graphviz."""
    shown = [node for node in graph.nodes if _is_shown(node)]
    nodes: list[tuple[str, str, dict[str, str]]] = [
        (f"n{node.id}", f"Node{node.id}\n{node.label()}", {}) for node in shown
    ]
    edges = [(f"n{node.id}", f"n{other.id}") for node in shown for other in _next_shown(node)]
    return picture.dot_text(nodes, edges, title)


def dot(g: Graph, title: str | None = None, fname: str | None = None) -> None:
    """Draw the graph as `graph.dot` does."""
    picture.draw(todot(g, title), fname)


def _is_shown(node: Node) -> bool:
    return type_name(node.data.module) not in ("nil", "nn.Identity")


def _next_shown(node: Node) -> dict[Node, None]:
    """The shown nodes to which edges lead, also by way of others."""
    found: dict[Node, None] = {}
    for child in node.children:
        found.update({child: None} if _is_shown(child) else _next_shown(child))
    return found
