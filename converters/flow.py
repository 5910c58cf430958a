"""How values flow through a network: its layers as boxes, and what each box takes from which others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from converters.native import FAILURES, below
from converters.tree import count_parameters, own_text
from t7compat.errors import T7Error
from t7compat.nested import type_name
from t7compat.nn.containers import Concat, ConcatTable, Parallel, ParallelTable, Sequential
from t7compat.nn.shapes import zero_based
from t7compat.nngraph import gModule
from t7compat.table import Table

_MOST_BOXES = 250  # in a picture that one can still read
_DEEPEST = 30

Value = int | tuple[Any, ...]  # the box that a value comes from, or a table of such


@dataclass
class Box:
    """A layer: what it is, its arguments, figures, where it is in the network, and the boxes before it."""

    title: str
    arguments: str
    detail: str
    path: str
    sources: list[int]


def flow(network: Any) -> list[Box]:
    """The boxes of a network, each after its sources.

    Containers are opened as far as the picture can be read; one that stays closed is a box.
    """
    found = _Flow(network, 0).boxes
    for deepest in range(1, _DEEPEST):
        try:
            deeper = _Flow(network, deepest)
        except (T7Error, *FAILURES):  # fields that are not those of the class
            break
        if len(deeper.boxes) > _MOST_BOXES:
            break
        found = deeper.boxes
        if not deeper.closed:
            break
    return found


class _Flow:
    """The boxes with containers open to a depth; `closed` says whether some could be opened further."""

    def __init__(self, network: Any, deepest: int) -> None:
        self.boxes = [Box("input", "", "", "", [])]
        self.deepest, self.closed = deepest, False
        output = self._enter(network, "", 0, 0)
        self.boxes.append(Box("output", "", "", "", _flat(output)))

    def _add(self, module: Any, path: str, given: Value, name: str = "", is_open: bool = False) -> int:
        title = type_name(module).removeprefix("nn.")
        figures = ", ".join([*([] if is_open else _inside(module)), *_output(module)])
        title = f"{name}: {title}" if name else title
        self.boxes.append(Box(title, own_text(module), figures, path, _flat(given)))
        return len(self.boxes) - 1

    def _enter(self, module: Any, path: str, given: Value, depth: int, name: str = "") -> Value:
        kind = next((kind for kind in (*_OPEN, gModule) if isinstance(module, kind)), None)
        if kind is None or not module.modules:
            return self._add(module, path, given, name)
        if depth == self.deepest or len(self.boxes) > _MOST_BOXES:
            self.closed = True
            return self._add(module, path, given, name)
        if kind is gModule:
            return self._graph(module, path, given, depth)
        children = [(child, below(path, i)) for i, child in enumerate(module.children(), 1)]
        if kind is Sequential:
            for child, place in children:
                given = self._enter(child, place, given, depth + 1)
            return given
        parts = given if isinstance(given, tuple) and len(given) == len(children) else None
        takes = parts if parts and kind is ParallelTable else (given,) * len(children)
        found = tuple(
            self._enter(*child, take, depth + 1) for child, take in zip(children, takes, strict=True)
        )
        return found if kind in (ConcatTable, ParallelTable) else self._add(module, path, found, name, True)

    def _graph(self, module: gModule, path: str, given: Value, depth: int) -> Value:
        """Follows the nodes as nngraph does."""
        received: dict[int, dict[Any, Value]] = {id(module.innode.data): {1: given}}
        index = 0
        for node in module.forwardnodes:
            data, values = node.data, _in_order(received.get(id(node.data), {}))
            value: Value = values[0] if len(values) == 1 else values
            if data is module.outnode.data:
                break
            if data.selectindex is not None and isinstance(value, tuple):
                value = value[zero_based(data.selectindex)]
            elif data.module is not None:
                index += 1
                label = data.annotations and data.annotations.name
                name = label if isinstance(label, str) else ""
                value = self._enter(data.module, below(path, index), value, depth + 1, name)
            for child in node.children:
                received.setdefault(id(child.data), {})[child.data.mapindex[data]] = value
        return value


_OPEN = (Sequential, ConcatTable, ParallelTable, Concat, Parallel)


def _flat(value: Value) -> list[int]:
    """The boxes that a value comes from, each once."""
    if isinstance(value, int):
        return [value]
    return list(dict.fromkeys(box for part in value for box in _flat(part)))


def _in_order(received: dict[Any, Value]) -> tuple[Value, ...]:
    return tuple(received[position] for position in sorted(received))


def _inside(module: Any) -> list[str]:
    """How much is in a layer."""
    count, inside = count_parameters(module), vars(module).get("modules")
    figures = [f"{count:,} parameter{'s' * (count != 1)}"] * bool(count)
    if isinstance(inside, Table) and inside and not own_text(module):
        figures.append(f"{len(inside)} module{'s' * (len(inside) != 1)}")
    return figures


def _output(module: Any) -> list[str]:
    """The size of the output that the file holds."""
    output = vars(module).get("output")
    known = isinstance(output, torch.Tensor) and output.numel()
    return ["gave " + "x".join(map(str, output.shape))] if known else []
