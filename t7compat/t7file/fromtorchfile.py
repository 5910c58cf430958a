"""From what the package torchfile returns to what `load` returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from t7compat.errors import InputError
from t7compat.nested import entries
from t7compat.t7file import wire
from t7compat.t7file.objects import LuaFunction, Settlement, Storage, blank
from t7compat.table import Table, stored_key
from t7compat.tensortypes import type_of


def from_torchfile(value: Any) -> Any:
    """Tables, tensors and objects from the dicts, lists, arrays and objects that `torchfile.load` returned.

    What was shared there is shared again; the numbers are copied.  What torchfile does not keep is lost:
    CUDA types, -0, and the tags of functions.
    """
    conversion = _Conversion()
    result = conversion.begin(value)
    return conversion.finish(result)


class _Conversion:
    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        self._pending: list[
            tuple[dict[Any, Any] | list[Any], Any]
        ] = []  # content, and the value it goes into
        self._objects: list[tuple[Any, int]] = []  # and their versions

    def begin(self, value: Any) -> Any:
        """The new value, whose content comes later."""
        if isinstance(value, bytes):
            return value.decode("utf-8", "surrogateescape")
        if value is None or isinstance(value, str | bool):
            return value
        if isinstance(value, int | float):
            return wire.number(float(value))
        if id(value) not in self._made:
            kind = next((kind for mark, kind in _KINDS.items() if hasattr(type(value), mark)), None)
            if kind is None:
                raise InputError(f"expected what torchfile.load returns, got {type(value).__name__} in it")
            self._made[id(value)] = kind(self, value)
        return self._made[id(value)]

    def finish(self, root: Any) -> Any:
        """Fill everything that was begun; returns `root`, or what takes its place."""
        while self._pending:
            source, target = self._pending.pop()
            content = entries(target)
            assert content is not None
            for key, value in source.items() if isinstance(source, dict) else enumerate(source, 1):
                if value is not None:
                    content[stored_key(self.begin(key))] = self.begin(value)
        settlement = Settlement()
        for made, version in reversed(self._objects):  # what is inside was begun later
            value = settlement.settle(made)
            if hasattr(type(value), "upgrade"):
                value.upgrade(version)
        return settlement.apply(root, {})

    def _object(self, value: Any) -> Any:
        version = value._version_number
        made = blank(value._typename.decode(), version)
        self._objects.append((made, version))
        self._pending.append((value._obj, made))
        return made

    def _function(self, value: Any) -> LuaFunction:
        made = LuaFunction(value.dumped)
        self._pending.append((value.upvalues, made.upvalues))
        return made

    def _table(self, value: dict[Any, Any] | list[Any]) -> Table:
        made = Table()
        self._pending.append((value, made))
        return made

    def _array(self, value: np.ndarray[Any, Any]) -> Storage | torch.Tensor:
        """torchfile has an array of its own for each storage, and views of it for the tensors."""
        owner, step = value, value.base
        while step is not None:
            owner = step if isinstance(step, np.ndarray) else owner
            step = getattr(step, "base", None)
        if not value.size:
            return torch.from_numpy(value.copy())
        if value is owner:
            data = torch.from_numpy(value.flatten())
            return Storage(type_of(data), data)
        storage = self.begin(owner)
        offset = value.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
        stride = [step // value.itemsize for step in value.strides]
        return torch.empty(0, dtype=storage.data.dtype).set_(
            storage.data.untyped_storage(), offset // value.itemsize, value.shape, stride
        )


_KINDS = {  # by what only they have
    "torch_typename": _Conversion._object,
    "dumped": _Conversion._function,
    "strides": _Conversion._array,
    "__len__": _Conversion._table,
}
