"""From bytes to tables, tensors and objects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial, partialmethod
from typing import Any, Literal

import torch

from t7compat.errors import InputError, T7FormatError
from t7compat.nested import entries, path_text, type_name
from t7compat.t7file import sniff, wire
from t7compat.t7file.location import Place, placing
from t7compat.t7file.objects import LuaFunction, Settlement, Storage, blank
from t7compat.t7file.wire import BinarySource, Source
from t7compat.table import Table, stored_key
from t7compat.tensortypes import BY_STORAGE, BY_TENSOR, TensorType, tag, type_of

_MOST_DIMENSIONS = 1000
_LARGEST_NUMEL = 2**63
_DEEPEST = 50  # objects that read themselves, one inside the other: these use Python's stack

OnUpgrade = Callable[[Any, list[str]], object]


class _Entries:
    """A table or object whose content is being read: `values` has the keys and values so far, alternately."""

    __slots__ = ("done", "entries", "limit", "values")

    def __init__(self, entries: dict[Any, Any], count: int, done: Callable[[], None] | None = None) -> None:
        self.entries, self.limit, self.done = entries, 2 * count, done
        self.values: list[Any] = []

    def add_nil(self, source: Source) -> None:
        """Read `key = nil`, which sets nothing."""
        if len(self.values) % 2 == 0:
            raise source.error("nil cannot be a table key")
        self.values.pop()
        self.limit -= 2

    def finish(self) -> None:
        """Fill the table or object."""
        values = self.values
        if not set(map(type, itertools.islice(values, 0, None, 2))) <= {str, int}:
            values[::2] = map(stored_key, values[::2])
        pairs = iter(values)
        self.entries.update(zip(pairs, pairs, strict=True))

    def key(self, innermost: bool) -> list[Any]:
        """For messages: the key whose value is being read, if any; a key in work stands for itself."""
        if len(self.values) % 2:
            return self.values[-1:]
        return [] if innermost else self.values[-2:-1]


class _Items(_Entries):
    """A list whose elements are being read; its keys are not in the file."""

    __slots__ = ()

    def __init__(self, entries: dict[Any, Any], count: int) -> None:
        super().__init__(entries, 0)
        self.limit = count

    def add_nil(self, source: Source) -> None:
        self.values.append(None)

    def finish(self) -> None:
        self.entries.update((i, value) for i, value in enumerate(self.values, 1) if value is not None)

    def key(self, innermost: bool) -> list[Any]:
        return [len(self.values) + innermost]


class Reader:
    """Reads objects one after the other; they share one table of references.

    Classes that read themselves get the reader as `file`.  It has the methods of Lua's `torch.File` for
    reading; `version` is that of the object in the file.  Nested values do not use Python's stack, but
    these classes do when they call `readObject`; `read_entries` and `read_items` are for those that may be
    deeply nested.  `on_upgrade` is told of objects whose class changed fields of an old format, and of the
    names of these.
    """

    def __init__(
        self, source: Source, place: Place | None = None, on_upgrade: OnUpgrade | None = None
    ) -> None:
        self.source, self.place, self.on_upgrade = source, place or placing(None), on_upgrade
        self.version = 0
        self._known: dict[int, Any] = {}
        self._frames: list[_Entries] = []
        self._depth = 0
        self._settlement = Settlement()

    def readObject(self) -> Any:
        """The next object, complete with all that is in it."""
        frames, source, floor = self._frames, self.source, len(self._frames)
        try:
            result = self._value()
            while len(frames) > floor:
                frame = frames[-1]
                source.plain(frame.values, frame.limit)
                if len(frame.values) == frame.limit:
                    self._finish(frame)
                    continue
                value = self._tagged()  # its content is read next: so it can be inside itself
                if value is None:
                    frame.add_nil(source)
                else:
                    frame.values.append(value)
        except T7FormatError as error:
            error.path = error.path or self._path()
            raise
        return self._settlement.apply(result, self._known)

    def read_count(self) -> int:
        """A long that tells how many values follow: for such a one its width can be found."""
        if self.source.long_size is None:
            self._set_long_size_at_count(None)
        return self.source.longs(1, "a count")[0]

    def read_entries(self, table: Any, count: int, done: Callable[[], None] | None = None) -> None:
        """Have `count` keys and values read into a table or object after the call, then `done` called."""
        self._push(_Entries, table, count, done)

    def read_items(self, table: Any, count: int) -> None:
        """Have `count` values read into a table as its elements 1 to `count`, after the call."""
        self._push(_Items, table, count)

    def _push(self, kind: type[_Entries], table: Any, count: int, *more: Any) -> None:
        content = entries(table)
        assert content is not None
        self._frames.append(kind(content, self.source.count(count, 4, "entries"), *more))

    def _finish(self, frame: _Entries) -> None:
        try:
            frame.finish()
        except InputError as error:  # a key that no table can have
            raise self.source.error(error.message) from None
        frame.values = []
        if frame.done:
            frame.done()
        self._frames.pop()

    # ---- values by type tag

    def _value(self) -> Any:
        """A value; the content of tables and objects is still to come."""
        found: list[Any] = []
        self.source.plain(found, 1)
        return found[0] if found else self._tagged()

    def _tagged(self) -> Any:
        """A value that is not plain."""
        start, tag = self.source.pos, self.source.integer("a type tag")
        if tag == wire.NIL:
            return None
        if tag == wire.OLDEST_FUNCTION:
            return self._upvalues(LuaFunction(self.source.blob("bytecode"), tag=tag))
        if tag not in _READERS:
            raise self.source.error(f"expected a type tag from 0 to {wire.FUNCTION}, found {tag}", start)
        index = self.source.integer("the index of an object")
        if index not in self._known:
            _READERS[tag](self, index)
        return self._known[index]

    def _table(self, index: int) -> None:
        self._known[index] = table = Table()
        self.read_entries(table, self.source.integer("the number of entries"))

    def _torch(self, index: int) -> None:
        typename, version = self.source.class_name()
        if typename in BY_TENSOR:
            self._tensor(index, BY_TENSOR[typename])
        elif typename in BY_STORAGE:
            self._storage(index, BY_STORAGE[typename])
        else:
            self._instance(index, typename, version)

    def _function(self, index: int, tag: int) -> None:
        self._known[index] = LuaFunction(self.source.blob("bytecode"), tag=tag)
        self._upvalues(self._known[index])

    def _upvalues(self, function: LuaFunction) -> LuaFunction:
        index = self._new_table("upvalues")
        self._table(index)
        function.upvalues = self._known[index]
        return function

    def _new_table(self, what: str) -> int:
        """The index of a table to which nothing has referred yet, which has to follow."""
        start, tag = self.source.pos, self.source.integer("a type tag")
        if tag != wire.TABLE:
            raise self.source.error(f"expected a table of {what}, found type tag {tag}", start)
        index = self.source.integer("the index of an object")
        if index in self._known:
            raise self.source.error(f"expected a new table of {what}, found a reference", start)
        return index

    # ---- instances of classes

    def _instance(self, index: int, typename: str, version: int) -> None:
        self._known[index] = value = blank(typename, version)
        if hasattr(type(value), "read"):
            self._let_read(value, version)
        else:
            self._fields(value, version)

    def _fields(self, value: Any, version: int) -> None:
        """The layout of most classes: a table with the fields, to which nothing else refers."""
        index = self._new_table(f"fields of {type_name(value)}")
        self._known[index] = value
        done = partial(self._complete, value, version)
        self.read_entries(value, self.source.integer("the number of fields"), done)

    def _complete(self, value: Any, version: int) -> None:
        """Bring an object whose fields are all there to the form that its class has today."""
        value = self._settlement.settle(value)
        if hasattr(type(value), "upgrade"):
            before = dict(vars(value))
            self._call(value, value.upgrade, version)
            if self.on_upgrade is not None:
                after = vars(value)
                changed = [name for name in before | after if before.get(name) is not after.get(name)]
                if changed:
                    self.on_upgrade(value, changed)

    def _let_read(self, value: Any, version: int) -> None:
        """A layout that only the class knows."""
        if self._depth == _DEEPEST:
            raise self.source.error(f"expected at most {_DEEPEST} nested objects that read themselves")
        outer, self.version = self.version, version
        self._depth += 1
        self._call(value, value.read, self)
        self._depth -= 1
        self.version = outer

    def _call(self, value: Any, method: Callable[[Any], None], argument: Any) -> None:
        """Call a method of a class on what the file holds, which may be anything."""
        try:
            method(argument)
        except T7FormatError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise self.source.error(f"this cannot be a {type_name(value)} ({reason})") from error

    # ---- storages and tensors

    def _storage(self, index: int, row: TensorType) -> Storage:
        self._known[index] = None  # so that what follows may refer to it
        if self.source.long_size is None:
            self._set_long_size_at_count(row)
        (count,) = self.source.longs(1, "the size of a storage")
        data, row = self._placed(self.source.elements(row, count, "the elements of a storage"), row)
        self._known[index] = storage = Storage(row, data)
        return storage

    def _placed(self, data: torch.Tensor, row: TensorType) -> tuple[torch.Tensor, TensorType]:
        data = self.place(data, row)
        return data, type_of(data) if data.is_cuda else row

    def _tensor(self, index: int, row: TensorType) -> None:
        source, start = self.source, self.source.pos
        ndim = source.integer("the number of dimensions")
        if not 0 <= ndim <= _MOST_DIMENSIONS:
            raise source.error(f"expected 0 to {_MOST_DIMENSIONS} dimensions, found {ndim}", start)
        if source.long_size is None:
            assert isinstance(source, BinarySource)
            source.set_long_size(sniff.long_size_at_tensor(source, row, ndim))
        *shape, offset = source.longs(2 * ndim + 1, "the sizes, strides and offset of a tensor")
        size, stride, offset = shape[:ndim], shape[ndim:], offset - 1
        storage = self._storage_of(row)
        if problem := _misfit(size, stride, offset, storage):
            raise source.error(f"a {row.tensor} of size {'x'.join(map(str, size)) or 0} {problem}", start)
        if storage is None:
            data, row = self._placed(torch.empty(size or 0, dtype=row.dtype), row)
        else:
            data, row = storage.data.new_empty(0), storage.type
            if stride and min(stride) < 0:  # legal in a dimension of size 1
                stride = [max(step, 0) for step in stride]
            data.set_(storage.data.untyped_storage(), offset, size or [0], stride or [1])
        self._known[index] = data if row.device == "cpu" else tag(data, row)

    def _storage_of(self, row: TensorType) -> Storage | None:
        source, start = self.source, self.source.pos
        found = source.integer("a type tag")
        if found == wire.NIL:
            return None
        storage: Any = f"type tag {found}"
        if found == wire.TORCH:
            index = source.integer("the index of an object")
            if index in self._known:
                storage = self._known[index]
            elif (name := self.source.class_name()[0]) == row.storage:
                storage = self._storage(index, row)
            else:
                storage = name
        if isinstance(storage, Storage) and storage.type.dtype == row.dtype:
            return storage
        found_name = storage if isinstance(storage, str) else type_name(storage)
        raise source.error(f"expected the {row.storage} of a tensor, found {found_name}", start)

    def _set_long_size_at_count(self, row: TensorType | None) -> None:
        assert isinstance(self.source, BinarySource)
        missing = sum(frame.limit - len(frame.values) for frame in self._frames) - 1
        self.source.set_long_size(sniff.long_size_at_count(self.source, row, self._known, missing))

    # ---- Lua's File, for classes that read themselves

    def _numbers(self, prefix: str, count: int | None = None) -> Any:
        """`file:readInt()` reads a number, `file:readInt(n)` an IntStorage."""
        row = BY_STORAGE[f"torch.{prefix}Storage"]
        what = f"the type {prefix}"
        if count is None:
            return self.source.numbers(row, 1, what)[0].item()
        return Storage(row, self.source.elements(row, count, what))

    readByte = partialmethod(_numbers, "Byte")
    readChar = partialmethod(_numbers, "Char")
    readShort = partialmethod(_numbers, "Short")
    readInt = partialmethod(_numbers, "Int")
    readLong = partialmethod(_numbers, "Long")
    readFloat = partialmethod(_numbers, "Float")
    readDouble = partialmethod(_numbers, "Double")

    def readBool(self) -> bool:
        """An integer, 1 for true."""
        return self.source.integer("a boolean") == 1

    def readString(self, format: Literal["*a", "*l"]) -> str:
        """The rest of the file ("*a") or of the line ("*l"); it has no length before it."""
        content = {"*a": self.source.rest, "*l": self.source.line}[format]()
        return content.decode("utf-8", "surrogateescape")

    # ---- messages

    def _path(self) -> str:
        """Where in the object the reader is."""
        frames = self._frames
        return path_text(key for frame in frames for key in frame.key(frame is frames[-1]))


_READERS: dict[int, Callable[[Reader, int], None]] = {  # by type tag, what comes after the index
    wire.TABLE: Reader._table,
    wire.TORCH: Reader._torch,
    wire.OLD_FUNCTION: partial(Reader._function, tag=wire.OLD_FUNCTION),
    wire.FUNCTION: partial(Reader._function, tag=wire.FUNCTION),
}


def _misfit(size: list[int], stride: list[int], offset: int, storage: Storage | None) -> str:
    """What is wrong with a tensor, or "": Torch does not check it, and reads outside of the storage."""
    if offset < 0:
        return f"starts at offset {offset + 1}, but offsets count from 1"
    if not size:
        return ""
    if min(size) < 0:
        return "has a negative size"
    if math.prod(filter(None, size)) >= _LARGEST_NUMEL:
        return "has too many elements"
    if 0 in size:
        return ""
    spans = [(n - 1) * step for n, step in zip(size, stride, strict=True)]
    if min(spans) < 0:
        return "has a negative stride"
    if storage is None:
        return "has no storage"
    if (last := offset + sum(spans)) >= len(storage):
        return f"reaches up to element {last + 1} of its storage, which has {len(storage)}"
    return ""
