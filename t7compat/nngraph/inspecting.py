"""Looking at graphs: pictures of those that fail, names of nodes."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from t7compat.nngraph import graph, picture
from t7compat.nngraph.gmodule import gModule
from t7compat.nngraph.node import Node


def setDebug(enable: bool) -> None:
    """Have every forward of a gModule that fails draw the graph, with the node that failed in red.

    The files are `name`.dot and `name`.svg, where `name` is the field of the gModule; without one it is made
    of the numbers of inputs and outputs.
    """
    gModule.on_failure = _draw_failed if enable else None


def _draw_failed(network: gModule, node: Node) -> None:
    name = network.name or f"nngraph_{network.input_count()}in_{len(network.outnode.children)}out"
    names = itertools.chain([name], (f"{name}_{i}" for i in itertools.count(2)))
    name = next(name for name in names if not Path(f"{name}.dot").exists())
    text = network.fg.todot(name).removesuffix("}")
    picture.draw(f"{text}n{node.id}[style=filled, fillcolor=red];\n}}", name)


def display(gmodule: gModule) -> None:
    """Show the graph of a network."""
    graph.dot(gmodule.fg, gmodule.name)


def annotateNodes(stackLevel: int = 1) -> None:
    """Name nodes after the local variables that hold them: those of the caller, or of one further out.

    Nodes that have a name keep it.
    """
    for name, value in sys._getframe(stackLevel).f_locals.items():
        if isinstance(value, Node) and not value.annotations.name:
            value.annotate(name=name)
