"""nngraph: networks as graphs of modules.

A module that is called with nodes, or with nothing, is a node; nn.gModule is the network between nodes.
"""

from t7compat.nngraph import graph, simple_print
from t7compat.nngraph.adapters import JustElement, JustTable, ModuleFromCriterion
from t7compat.nngraph.gmodule import gModule
from t7compat.nngraph.inspecting import annotateNodes, display, setDebug
from t7compat.nngraph.node import Node, nest

__all__ = [
    "JustElement",
    "JustTable",
    "ModuleFromCriterion",
    "Node",
    "annotateNodes",
    "display",
    "gModule",
    "graph",
    "nest",
    "setDebug",
    "simple_print",
]
