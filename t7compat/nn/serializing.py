"""How much of a module nn.Serial puts in a file: dpnn's serial modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from t7compat import registry
from t7compat.nested import entries, walk
from t7compat.table import Table


class Serializing:
    """The part of nn.Module that concerns nn.Serial."""

    __slots__ = ()

    __typename__: str
    dpnn_gradParameters: tuple[str, ...]
    # The fields that a medium file has empty; a light one has the gradients empty, too
    dpnn_mediumEmpty: Any = ("output", "gradInput", "momGradParams", "dpnn_input")
    dpnn_serialEmpty: Any = ()  # the fields that files have empty

    def serialMode(self, empty: Any) -> Any:
        """Have the fields of these names empty in files, in this module and all below it."""
        names = tuple(Table.from_python(empty))
        return self._set_mode(lambda module: names)

    def heavySerial(self) -> Any:
        """Put everything in files."""
        return self._set_mode(lambda module: ())

    def mediumSerial(self) -> Any:
        """Put all but outputs, gradients with respect to inputs, and scratch tensors in files."""
        return self._set_mode(lambda module: tuple(module.dpnn_mediumEmpty))

    def lightSerial(self) -> Any:
        """Put no gradients in files either."""
        return self._set_mode(lambda module: (*module.dpnn_mediumEmpty, *module.dpnn_gradParameters))

    def _set_mode(self, empty: Callable[[Any], tuple[str, ...]]) -> Any:
        for value, _ in walk(self):
            if isinstance(value, Serializing):
                vars(value)["dpnn_serialEmpty"] = Table(*empty(value))
        return self

    def getSerialState(self, states: Any = None) -> Table:
        """The fields as tables all the way down, with the name of the class as `dpnn_typename`."""
        return reduced(self, lambda value: Table())

    def Serial(self, tensortype: str | None = None) -> Any:
        """nn.Serial around this module."""
        kind: Any = registry.lookup("nn.Serial")
        return kind(self, tensortype)


def reduced(root: Any, blank: Callable[[Any], Any]) -> Any:
    """A copy of the modules and tables below `root` without the tensors in the fields to be empty.

    `blank(value)` gives what takes the place of a module or table, still without fields; all other values
    are those of the original.
    """
    copies: dict[int, Any] = {}
    pending: list[Any] = []

    def begin(value: Any) -> Any:
        if not isinstance(value, Serializing) and type(value) is not Table:
            return value
        if id(value) not in copies:
            copies[id(value)] = blank(value)
            pending.append(value)
        return copies[id(value)]

    result = begin(root)
    while pending:
        source = pending.pop()
        target, is_module = entries(copies[id(source)]), isinstance(source, Serializing)
        assert target is not None
        names = set(source.dpnn_serialEmpty) if is_module else ()
        for key, value in (entries(source) or {}).items():
            target[key] = _emptied(value) if key in names else begin(value)
        if is_module:
            target["dpnn_typename"] = source.__typename__
    return result


def _emptied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.new_empty(0)
    return Table() if isinstance(value, Table) else value
