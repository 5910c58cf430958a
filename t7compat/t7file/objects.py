"""What a .t7 file may hold besides plain values, tables, tensors and instances of registered classes."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nested import copy_graph, entries, walk
from t7compat.registry import lookup, namesake, register, unknown
from t7compat.table import Table
from t7compat.tensortypes import BY_STORAGE, TensorType, type_of, whole_storage


class Storage:
    """A `torch.LongStorage` or another one: a row of numbers that tensors may be views of.

    `data` is the 1-D tensor over all elements; it shares memory with the tensors of this storage.  `type`
    is the row of the element type in `tensortypes`.  Indices count from 1, as in Lua.  A storage equals
    only itself.
    """

    __slots__ = ("__weakref__", "data", "type")

    def __init__(self, type: TensorType, data: torch.Tensor) -> None:
        self.type, self.data = type, data

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Storage:
        """The storage of `tensor`, as `tensor:storage()`."""
        return cls(type_of(tensor), whole_storage(tensor))

    @property
    def __typename__(self) -> str:
        return self.type.storage

    def __len__(self) -> int:
        return self.data.numel()

    def __iter__(self) -> Iterator[float]:
        return iter(self.data.tolist())

    def __getitem__(self, index: int) -> float:
        return self.data[self._place(index)].item()

    def __setitem__(self, index: int, value: float) -> None:
        self.data[self._place(index)] = value

    def _place(self, index: int) -> int:
        if not 1 <= index <= len(self):
            raise InputError(f"expected an index from 1 to {len(self)} into {self.type.storage}, got {index}")
        return index - 1

    def __deepcopy__(self, memo: dict[int, Any]) -> Storage:
        return Storage(self.type, copy.deepcopy(self.data, memo))

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self.data[:8].tolist())) + (", ..." if len(self) > 8 else "")
        return f"{self.type.storage.removeprefix('torch.')}([{shown}])"


def LongStorage(values: Iterable[int] = ()) -> Storage:
    """`torch.LongStorage{3, 4, 5}`: the form in which modules keep sizes."""
    row = BY_STORAGE["torch.LongStorage"]
    return Storage(row, torch.tensor(list(values), dtype=row.dtype))


class TorchObject:
    """An instance of a class that nobody registered; its fields are its attributes.

    `vars(obj)` is the table of fields, and `__typename__` and `__version__` are those of the file.
    """

    __slots__ = ("__dict__", "__typename__", "__version__", "__weakref__")
    __typename__: str
    __version__: int

    def __new__(cls, typename: str, version: int = 1, /, **fields: Any) -> TorchObject:
        self = super().__new__(cls)
        self.__typename__, self.__version__ = typename, version
        vars(self).update(fields)
        return self

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        raise AttributeError(f"expected {name} in {unknown(self.__typename__)}")

    def __getnewargs__(self) -> tuple[str, int]:
        return self.__typename__, self.__version__

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy_graph(self, memo)

    def __repr__(self) -> str:
        return f"<TorchObject {self.__typename__}: {', '.join(map(str, vars(self))) or 'no fields'}>"


def blank(typename: str, version: int) -> Any:
    """A new object without fields: of the class that is registered for `typename`, else a TorchObject."""
    cls: Any = lookup(typename)
    value = TorchObject(typename, version) if cls is None else cls.__new__(cls)
    if isinstance(value, Table):
        Table.__init__(value)
    return value


class Settlement:
    """Objects whose fields have told that they are of another class than their name says alone.

    Which class that is shows when an object is complete, but what refers to it, and it may refer to itself,
    is made before: until `apply` the object is there twice, with the same fields.
    """

    def __init__(self) -> None:
        self._pairs: dict[int, tuple[Any, Any]] = {}

    def settle(self, value: Any) -> Any:
        """A complete object as one of the class that its fields tell."""
        cls: Any = namesake(value.__typename__, entries(value) or ())
        if cls is None:
            return value
        settled = cls.__new__(cls)
        settled.__dict__ = vars(value)
        self._pairs[id(value)] = value, settled
        return settled

    def apply(self, root: Any, known: dict[int, Any]) -> Any:
        """`root` with the objects of the right classes in it; they are put into `known`, too."""
        for content in (known, *(content for _, content in walk(root))) if self._pairs else ():
            for key, value in content.items():
                if id(value) in self._pairs:
                    content[key] = self._pairs[id(value)][1]
        return self._pairs.get(id(root), (None, root))[1]


class LuaFunction:
    """A Lua function: its bytecode, which is never run, and its upvalues.

    `upvalues` is the table of the file: `{{name=, id=, value=}, ...}`, where functions that share a
    variable have the same id.  Functions of older files, whose `tag` is 6 or 7, have plain values instead.
    """

    __slots__ = ("__dict__", "__weakref__", "bytecode", "tag")
    __typename__ = "function"
    bytecode: bytes
    tag: int
    upvalues: Any

    def __new__(cls, bytecode: bytes, upvalues: Any = None, tag: int = 8) -> LuaFunction:
        self = super().__new__(cls)
        self.bytecode, self.tag = bytecode, tag
        self.upvalues = Table() if upvalues is None else upvalues
        return self

    def __getnewargs__(self) -> tuple[bytes, Any, int]:
        return self.bytecode, None, self.tag

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy_graph(self, memo)

    def __repr__(self) -> str:
        return f"<LuaFunction: {len(self.bytecode)} bytes of bytecode, {len(self.upvalues)} upvalues>"


@register("tds.Hash")
class Hash(Table):
    """`tds.Hash`: a table that the package tds keeps outside Lua's memory."""

    __slots__ = ()
    __version__ = 0

    def read(self, file: Any) -> None:
        """The number of entries, then keys and values."""
        file.read_entries(self, file.read_count())

    def write(self, file: Any) -> None:
        """The number of entries, then keys and values."""
        file.writeLong(len(self.values()))
        file.write_later(itertools.chain.from_iterable(self.items()))


@register("tds_hash")
class OldHash(Hash):
    """`tds.Hash` under its first name."""

    __slots__ = ()
    __version__ = 0


@register("tds.Vec")
class Vec(Table):
    """`tds.Vec`: a list that the package tds keeps outside Lua's memory."""

    __slots__ = ()
    __version__ = 0

    def read(self, file: Any) -> None:
        """The number of elements, then the elements."""
        file.read_items(self, file.read_count())

    def write(self, file: Any) -> None:
        """The number of elements, then the elements."""
        file.writeLong(len(self))
        file.write_later(self)


@register("torch.Timer")
class Timer:
    """`torch.Timer`: a file holds nothing of it but its class name."""

    def read(self, file: Any) -> None:
        """Read nothing."""

    def write(self, file: Any) -> None:
        """Write nothing."""
