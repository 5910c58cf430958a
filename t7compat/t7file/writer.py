"""From tables, tensors and objects to bytes; the cases stand in the order in which the reader has them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from t7compat.errors import InputError
from t7compat.nested import Truth, entries, path_text
from t7compat.t7file import wire
from t7compat.t7file.objects import LuaFunction, Storage
from t7compat.t7file.wire import Sink
from t7compat.table import Table
from t7compat.tensortypes import BY_STORAGE, type_of, whole_storage

_flatten = itertools.chain.from_iterable


class Writer:
    """Writes objects one after the other; they share one table of references.

    Classes that write themselves get the writer as `file`.  It has the methods of Lua's `torch.File` for
    writing.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._index = 0
        self._known: dict[Any, tuple[int, Any]] = {}  # with the objects, so that no other gets their identity
        self._pending: list[Iterator[Any]] = []

    def writeObject(self, value: Any) -> None:
        """A value with all that is in it."""
        root, pending, floor = value, self._pending, len(self._pending)
        self.write_later([root])
        try:
            while len(pending) > floor:
                depth = len(pending)
                for value in pending[-1]:
                    _WRITERS[type(value)](self, value)
                    if len(pending) > depth:
                        break
                else:
                    pending.pop()
        except InputError as error:
            if floor == 0 and (path := _path(root, value)):
                error.within(path)
            raise

    def write_later(self, values: Iterable[Any]) -> None:
        """Have these values written after the call, each with all that is in it."""
        self._pending.append(iter(values))

    def _refer(self, tag: int, value: Any, key: Any = None) -> bool:
        """Write tag and index of an object; whether it is new, so that its content has to follow."""
        key = id(value) if key is None else key
        new = key not in self._known
        if new:
            self._index += 1
            self._known[key] = self._index, value
        self.sink.integers(tag, self._known[key][0])
        return new

    # ---- values by type

    def _nil(self, value: None) -> None:
        self.sink.integers(wire.NIL)

    def _number(self, value: float) -> None:
        try:
            x = float(value)
        except OverflowError:
            raise InputError("an integer beyond 1e308 cannot be saved") from None
        self.sink.number(x)

    def _string(self, value: str) -> None:
        self.sink.string(wire.encoded(value))

    def _bytes(self, value: bytes) -> None:
        self.sink.string(value)

    def _boolean(self, value: bool) -> None:
        self.sink.integers(wire.BOOLEAN, int(value))

    def _truth(self, value: Truth) -> None:
        self._boolean(value.value)

    def _scalar(self, value: np.generic) -> None:
        self.write_later([value.item()])

    def _table(self, value: Table) -> None:
        if self._refer(wire.TABLE, value):
            self._entries(entries(value) or {})

    def _list(self, value: list[Any] | tuple[Any, ...]) -> None:
        if self._refer(wire.TABLE, value):
            self._entries(dict(enumerate(value, 1)))

    def _dict(self, value: dict[Any, Any]) -> None:
        if self._refer(wire.TABLE, value):
            self._entries(entries(Table.from_items(value.items())) or {})

    def _entries(self, content: dict[Any, Any]) -> None:
        pairs = [pair for pair in content.items() if pair[1] is not None]
        self.sink.integers(len(pairs))
        self.write_later(_flatten(pairs))

    def _function(self, value: LuaFunction) -> None:
        if value.tag == wire.OLDEST_FUNCTION:
            self.sink.integers(value.tag)
        elif not self._refer(value.tag, value):
            return
        self.sink.blob(value.bytecode)
        self.write_later([value.upvalues])

    # ---- instances of classes

    def _class(self, typename: str, version: int) -> None:
        self.sink.blob(wire.encoded(f"V {version}"))
        self.sink.blob(wire.encoded(typename))

    def _instance(self, value: Any) -> None:
        if not self._refer(wire.TORCH, value):
            return
        self._class(value.__typename__, value.__version__)
        if hasattr(type(value), "write"):
            value.write(self)
        else:
            self._index += 1  # the table of fields, to which nothing else refers
            self.sink.integers(wire.TABLE, self._index)
            self._entries(entries(value) or {})

    # ---- storages and tensors

    def _storage(self, value: Storage) -> None:
        key = value.data.untyped_storage()._cdata, value.type
        if self._refer(wire.TORCH, value, key):
            self._class(value.type.storage, 1)
            self.sink.longs([len(value)])
            self.sink.numbers(value.type, value.data.to("cpu", value.type.dtype).numpy())

    def _tensor(self, value: torch.Tensor) -> None:
        if self._refer(wire.TORCH, value):
            self._view(value)

    def _array(self, value: np.ndarray[Any, Any]) -> None:
        if self._refer(wire.TORCH, value):
            try:
                tensor = torch.from_numpy(np.require(value, value.dtype.newbyteorder("="), ["C", "W"]))
            except TypeError:
                raise InputError(f"an array of {value.dtype} cannot be saved") from None
            self._view(tensor)

    def _view(self, value: torch.Tensor) -> None:
        row = type_of(value)
        if value.layout is not torch.strided or value.is_quantized:
            raise InputError("sparse and quantized tensors cannot be saved")
        value = value.detach().resolve_neg()
        size, stride = list(value.shape), list(value.stride())
        if not size:  # a single number, for which Torch has a vector
            size, stride = [1], [1]
        elif 0 in size:  # Torch's empty tensor has no dimensions, and Torch crashes on a size of 0
            size, stride = [], []
        self._class(row.tensor, 1)
        self.sink.integers(len(size))
        self.sink.longs(size)
        self.sink.longs(stride)
        self.sink.longs([int(value.storage_offset()) + 1])
        storage = Storage(row, whole_storage(value))
        self.write_later([storage if len(storage) else None])

    # ---- Lua's File, for classes that write themselves

    def _numbers(self, prefix: str, value: float | Storage | torch.Tensor) -> None:
        """`file:writeInt(n)` or `file:writeInt(storage)`."""
        row = BY_STORAGE[f"torch.{prefix}Storage"]
        data = value.data if isinstance(value, Storage) else value
        if isinstance(data, torch.Tensor):
            self.sink.numbers(row, data.detach().to("cpu", row.dtype).flatten().numpy())
        else:
            try:
                self.sink.numbers(row, np.array([data], wire.NUMPY[row.dtype]))
            except OverflowError:
                raise InputError(f"{data} is too large for a {prefix}") from None

    writeByte = functools.partialmethod(_numbers, "Byte")
    writeChar = functools.partialmethod(_numbers, "Char")
    writeShort = functools.partialmethod(_numbers, "Short")
    writeInt = functools.partialmethod(_numbers, "Int")
    writeLong = functools.partialmethod(_numbers, "Long")
    writeFloat = functools.partialmethod(_numbers, "Float")
    writeDouble = functools.partialmethod(_numbers, "Double")

    def writeBool(self, value: bool) -> None:
        """An integer, 1 for true."""
        self.sink.integers(int(value))

    def writeString(self, text: str) -> None:
        """The bytes of a string, without their count."""
        self.sink.write(wire.encoded(text))


class _Writers(dict[type, Callable[[Writer, Any], None]]):
    """The method that writes values of a type; for a type that is not in it, that of its nearest base."""

    def __missing__(self, kind: type) -> Callable[[Writer, Any], None]:
        bases = [base for base in kind.__mro__ if base in self]
        if hasattr(kind, "__typename__"):
            self[kind] = Writer._instance
        elif bases:
            self[kind] = self[bases[0]]
        else:
            raise InputError(f"a value of the Python type {kind.__qualname__} cannot be saved")
        return self[kind]


_WRITERS = _Writers(
    {
        type(None): Writer._nil,
        float: Writer._number,
        int: Writer._number,
        np.generic: Writer._scalar,
        str: Writer._string,
        bytes: Writer._bytes,
        Table: Writer._table,
        list: Writer._list,
        tuple: Writer._list,
        dict: Writer._dict,
        bool: Writer._boolean,
        Truth: Writer._truth,
        LuaFunction: Writer._function,
        Storage: Writer._storage,
        torch.Tensor: Writer._tensor,
        np.ndarray: Writer._array,
    }
)


def _path(root: Any, target: Any) -> str:
    """Where `target` is in `root`, for messages; "" if it is not found there."""
    parents: dict[
        int, tuple[int, Any]
    ] = {}  # by identity of a value, what it was found in and under which key
    pending = [root]
    while pending:
        value = pending.pop()
        if value is target:
            keys = []
            place = id(value)
            while place != id(root):
                place, key = parents[place]
                keys.append(key)
            return path_text(reversed(keys))
        content = dict(enumerate(value, 1)) if isinstance(value, list | tuple) else entries(value)
        for key, entry in (value if isinstance(value, dict) else content or {}).items():
            if id(entry) not in parents and entry is not root:
                parents[id(entry)] = id(value), key
                pending.append(entry)
    return ""
