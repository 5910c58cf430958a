"""Nodes of nngraph, which calls of modules make, and what is done with them."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nested import to_text
from t7compat.nn.luaobject import LuaObject
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe
from t7compat.nn.shaping import Identity
from t7compat.nngraph import graph
from t7compat.nngraph.adapters import JustElement, JustTable
from t7compat.table import Table
from t7compat.tensortypes import default_type, type_of


class Node(graph.Node, typename="nngraph.Node"):
    """A node of a network: `nn.Linear(3, 4)(x)` is one that gives the output of the node x to the module.

    Until a gModule is made, the edges of a node, its `children`, lead to the nodes where its inputs come
    from.  `data` is a table: the `module`, if there is one; `mapindex`, the data of those nodes by position
    and their positions by data; `reverseMap`, the nodes that get the output; `selectindex` in a node that
    takes one entry of a table, `nSplitOutputs` in the one before; `annotations`.  After a forward of the
    gModule it has the `input`.
    """

    data: Table

    def __init__(self, data: Any = None) -> None:
        super().__init__(Table() if data is None else Table.from_python(data))
        for name in ("annotations", "mapindex", "reverseMap"):
            if self.data[name] is None:
                self.data[name] = Table()
        if not self.place:
            self.annotations["_debugLabel"] = f"{_place()}_"

    @property
    def annotations(self) -> Table:
        """Those of `data`, which nodes of 2014 do not have."""
        if self.data.annotations is None:
            self.data.annotations = Table()
        found: Table = self.data.annotations
        return found

    @property
    def place(self) -> str:
        """Where the program made the node."""
        return str(self.annotations["_debugLabel"] or "")

    @classmethod
    def of(cls, module: LuaObject, *inputs: Any) -> Node:
        """The node with a module that gets the outputs of nodes, which come one by one or in one table."""
        sources = expect_nodes("inputs", inputs[0] if len(inputs) == 1 else inputs)
        node = cls(Table(module=module))
        for source in sources:
            node.add(source, True)
        return node

    def add(self, child: Any, domap: bool = False) -> None:
        """Add an edge to a node; with `domap` its output is the next input of this node."""
        super().add(child)
        if domap:
            mapindex = self.data.mapindex
            mapindex.insert(child.data)
            mapindex[child.data] = len(mapindex)
            child.data.reverseMap[self] = True

    def split(self, noutput: int) -> tuple[Node, ...]:
        """Nodes for the entries 1..noutput of the table that this node gives; for 1, too, a tuple."""
        if noutput < 1:
            raise InputError(f"split: expected a number of entries, 1 or more, got {noutput}")
        if noutput == 1:
            return (Node.of(JustElement(), self),)
        whole = Node(_labelled(f"{self.place} split at {_place()}-mnode", nSplitOutputs=noutput))
        whole.add(self, True)
        parts = []
        for i in range(1, noutput + 1):
            parts.append(Node(_labelled(f"{self.place}-{i}", selectindex=i, input=Table())))
            parts[-1].add(whole, True)
        return tuple(parts)

    def annotate(self, annotations: Any = None, **named: Any) -> Node:
        """Add to the annotations: `name`, `description`, and `graphAttributes` for Graphviz, are shown."""
        for given in (annotations or {}, named):
            for key, value in given.items():
                self.annotations[key] = Table.from_python(value)
        return self

    def graphNodeName(self) -> str:
        """The node's name in a picture."""
        name = self.annotations.name
        return f"{name} ({self.id})" if name else f"Node{self.id}"

    def graphNodeAttributes(self) -> Table:
        """The attributes in a picture; the tooltip is where the program made the node."""
        if self.annotations.graphAttributes is None:
            self.annotations.graphAttributes = Table()
        attributes: Table = self.annotations.graphAttributes
        if attributes.tooltip is None:
            attributes.tooltip = self.place
        return attributes

    def label(self) -> str:
        """What `data` has, for a picture: the module, the sizes of inputs, ...; `\\l` ends a line there."""
        entries = []
        for key, value in self.data.items():
            if key == "mapindex":
                sources = [f"Node{data.forwardNodeId or ''}" for data in value]
                entries += [f"mapindex = {{{','.join(sources)}}}"] if len(sources) > 1 else []
            elif key not in ("forwardNodeId", "annotations"):
                entries.append(f"{key} = {_brief(value)}")
        description = self.annotations.description
        return (f"desc = {description}\\n" if description else "") + "\\l".join(entries)


def _labelled(label: str, **data: Any) -> Table:
    return Table(**data, annotations=Table.from_items([("_debugLabel", label)]))


def expect_nodes(name: str, values: Any) -> list[Node]:
    """The nodes of a table, or one node alone; InputError for anything else, and for a node given twice."""
    if not isinstance(values, Table | list | tuple):
        values = [values]
    if isinstance(values, Table):
        positions = [key for key, _ in values.items() if isinstance(key, int)]
        values = values.unpack(1, max(positions, default=0))  # what is missing in between is None
    found: list[Node] = []
    for index, value in enumerate(values, 1):
        if isinstance(value, Module):
            raise InputError(
                f"{name}[{index}]: expected a node of nngraph, got the module {value.__typename__}; a second "
                f"pair of parentheses makes a node of it: nn.NAME(...)(...)"
            )
        if not isinstance(value, Node):
            raise InputError(f"{name}[{index}]: expected a node of nngraph, got {describe(value)}")
        if any(value is other for other in found):
            raise InputError(f"{name}[{index}]: the node declared at {value.place} is given twice")
        found.append(value)
    return found


def _caller() -> FrameType:
    """The innermost frame outside of this package: the line of the program that is being run."""
    frame = sys._getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__")).split(".")[0] == "t7compat":
        frame = frame.f_back
    return frame


def _place() -> str:
    frame = _caller()
    return f"[{Path(frame.f_code.co_filename).name}]:{frame.f_lineno}"


def nest(input: Any) -> Node:
    """A node that gives the outputs of other nodes in a table: for {a, {b, c}} a nested one."""
    if isinstance(input, Node):
        return input
    entries = list(input) if isinstance(input, Table | list | tuple) else []
    if not entries:
        raise InputError(f"nngraph.nest: expected a node or a table of nodes, got {describe(input)}")
    if len(entries) == 1:
        return Node.of(JustTable(), nest(entries[0]))
    return Node.of(Identity(), *map(nest, entries))


# ---- the text of a node


def _brief(value: Any) -> str:
    """A value in a label: sizes instead of tensors."""
    if isinstance(value, torch.Tensor):
        row = type_of(value)
        kind = "Tensor" if row is default_type() else row.tensor
        return f"{kind}[{'x'.join(map(str, value.shape))}]{_flag(value)}"
    if isinstance(value, Table):
        return "{" + ",".join(map(_brief, value)) + "}"
    return to_text(value).replace("\n", "\\l")


def _flag(tensor: torch.Tensor) -> str:
    """What is wrong with the numbers of a tensor."""
    if not tensor.numel() or not tensor.is_floating_point():
        return ""
    if tensor.isnan().any():
        return "NaN"
    return "inf" if tensor.max() == math.inf else "-inf" if tensor.min() == -math.inf else ""
