"""Calls of modules and criterions: with tensors they run, with nodes of nngraph they become nodes."""

from __future__ import annotations

from typing import Any

from t7compat import registry
from t7compat.nn.luaobject import LuaObject
from t7compat.table import leaves


def asks_for_node(arguments: tuple[Any, ...]) -> bool:
    """Whether a call stands for a node: it has no arguments, or objects where tensors would be."""
    return not arguments or any(isinstance(value, LuaObject) for value in leaves(arguments))


def node_of(module: LuaObject, *inputs: Any) -> Any:
    """A node of nngraph with a module, which gets the outputs of other nodes."""
    kind: Any = registry.lookup("nngraph.Node")
    return kind.of(module, *inputs)
