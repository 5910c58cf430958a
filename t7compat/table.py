"""Lua's table, and nested values made of it.

`Table` is the one composite value of Lua: a list, a record, or both.  It keeps its entries in the order in
which they were set (for a loaded table: the order of the file), looks keys up as Lua does, and counts from
1.
"""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable, Iterable, Iterator, ValuesView
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nested import Truth, copy_graph, entries, to_text, type_name

_TRUTHS = {True: Truth(True), False: Truth(False)}


def stored_key(key: Any) -> Any:
    """The form in which a key is kept in the dict."""
    if type(key) is str or type(key) is int:
        return key
    if isinstance(key, bool):
        return _TRUTHS[key]
    if key is None:
        raise InputError("nil cannot be a table key")
    if isinstance(key, float):
        if key != key:
            raise InputError("NaN cannot be a table key")
        return int(key) if key.is_integer() else key
    return key


class Table:
    """A Lua table: `Table(a, b, name=c)` is `{a, b, name = c}`.

    `t[1]` is the first element and `t["name"]` or `t.name` a named one; a missing key gives None, and
    setting a key to None removes it.  `len(t)` is Lua's `#t`.  Iteration runs over the values 1..n;
    `keys()`, `values()` and `items()` go over all entries; `key in t` asks for a key.  A table equals only
    itself, and any value except None and NaN may be a key: numbers by value (1.0 is 1), strings and
    booleans by value, everything else by identity.  A field that has the name of a method is reached as
    `t["insert"]`.
    """

    __slots__ = ("__border__", "__entries__", "__weakref__")
    __border__: int
    __entries__: dict[Any, Any]

    def __new__(cls, /, *values: Any, **named: Any) -> Any:
        table = super().__new__(cls)
        _set_entries(table, {})
        _set_border(table, 0)
        return table

    def __init__(self, /, *values: Any, **named: Any) -> None:
        entries, n = self.__entries__, 0
        for n, value in enumerate(values, 1):
            if value is not None:
                entries[n] = value
        for name, value in named.items():
            if value is not None:
                entries[name] = value
        _set_border(self, n)

    # ---- access

    def __getitem__(self, key: Any) -> Any:
        return self.__entries__.get(key if type(key) is str or type(key) is int else stored_key(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) is not str and type(key) is not int:
            key = stored_key(key)
        if value is None:
            self.__entries__.pop(key, None)
        else:
            self.__entries__[key] = value

    def __delitem__(self, key: Any) -> None:
        self.__entries__.pop(stored_key(key), None)

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":  # a protocol of Python or numpy, which must see that the table does not have it
            raise AttributeError(f"Table has no {name}")
        return self.__entries__.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __contains__(self, key: Any) -> bool:
        return stored_key(key) in self.__entries__

    def __len__(self) -> int:
        """Lua's `#`: an n such that t[n] is there and t[n + 1] is not (0 if t[1] is not)."""
        entries, n = self.__entries__, self.__border__
        while n and n not in entries:
            n -= 1
        while n + 1 in entries:
            n += 1
        _set_border(self, n)
        return n

    def __bool__(self) -> bool:
        """Whether there is any entry, named ones included."""
        return bool(self.__entries__)

    def __iter__(self) -> Iterator[Any]:
        return map(self.__entries__.get, range(1, len(self) + 1))

    def keys(self) -> Iterator[Any]:
        return (key.value if type(key) is Truth else key for key in self.__entries__)

    def values(self) -> ValuesView[Any]:
        return self.__entries__.values()

    def items(self) -> Iterator[tuple[Any, Any]]:
        return zip(self.keys(), self.__entries__.values(), strict=True)

    # ---- Lua's table library

    def insert(self, *arguments: Any) -> None:
        """`t.insert(value)` appends; `t.insert(pos, value)` shifts the elements from `pos` on up."""
        if len(arguments) not in (1, 2):
            raise InputError("wrong number of arguments to 'insert': expected (value) or (pos, value)")
        *position, value = arguments
        n = len(self)
        pos = int(position[0]) if position else n + 1
        for i in range(n, pos - 1, -1):
            self[i + 1] = self[i]
        self[pos] = value

    def remove(self, pos: int | None = None) -> Any:
        """Remove and return the element at `pos` (the last one without it), shifting the later ones down."""
        n = len(self)
        pos = n if pos is None else int(pos)
        if not 1 <= pos <= n:
            return None
        value = self[pos]
        for i in range(pos, n):
            self[i] = self[i + 1]
        self[n] = None
        return value

    def concat(self, sep: str = "", i: int = 1, j: int | None = None) -> str:
        """The strings and numbers from `i` to `j` in one string."""
        parts = []
        for k in range(i, (len(self) if j is None else j) + 1):
            if isinstance(self[k], bool) or not isinstance(self[k], str | int | float):
                raise InputError(f"invalid value ({type_name(self[k])}) at index {k} in table for 'concat'")
            parts.append(to_text(self[k]))
        return sep.join(parts)

    def sort(self, comp: Callable[[Any, Any], bool] | None = None) -> None:
        """Sort the elements 1..n in place; `comp(a, b)` says whether a goes before b."""
        order = comp and functools.cmp_to_key(lambda a, b: -1 if comp(a, b) else int(bool(comp(b, a))))
        for i, value in enumerate(sorted(self, key=order), 1):
            self[i] = value

    def unpack(self, i: int = 1, j: int | None = None) -> tuple[Any, ...]:
        """The elements from `i` to `j`, None for the missing ones."""
        return tuple(self[k] for k in range(i, (len(self) if j is None else j) + 1))

    # ---- Python's protocols

    def __copy__(self) -> Table:
        return type(self).from_items(self.items())

    def __deepcopy__(self, memo: dict[int, Any]) -> Table:
        return copy_graph(self, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (), list(self.items())

    def __setstate__(self, items: list[tuple[Any, Any]]) -> None:
        for key, value in items:
            self[key] = value

    @reprlib.recursive_repr("Table(...)")
    def __repr__(self) -> str:
        parts = [repr(value) for value in self]
        for key, value in self._named_entries():
            name = key if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"
            parts.append(f"{name}={value!r}")
        return f"Table({', '.join(parts)})"

    def __str__(self) -> str:
        """The text that `print(t)` shows in `th`."""
        return "\n".join(_lines(self))

    # ---- conversion

    @classmethod
    def from_items(cls, items: Iterable[tuple[Any, Any]]) -> Table:
        """A table with these entries, in this order."""
        table = cls()
        for key, value in items:
            table[key] = value
        return table

    @classmethod
    def from_python(cls, value: Any) -> Any:
        """Nested lists, tuples and dicts as tables; everything else as it is.  Sharing and cycles stay."""
        made: dict[int, Table] = {}
        pending: list[Any] = []

        def begin(value: Any) -> Any:
            if not isinstance(value, list | tuple | dict):
                return value
            if id(value) not in made:
                made[id(value)] = cls()
                pending.append(value)
            return made[id(value)]

        result = begin(value)
        while pending:
            source = pending.pop()
            table = made[id(source)]
            for key, entry in source.items() if isinstance(source, dict) else enumerate(source, 1):
                table[key] = begin(entry)
        return result

    def to_python(self) -> list[Any] | dict[Any, Any]:
        """A list (for a table with the keys 1..n and no other) or a dict; nested ones likewise."""
        made: dict[int, list[Any] | dict[Any, Any]] = {}
        pending: list[Table] = []

        def begin(value: Any) -> Any:
            if not isinstance(value, Table):
                return value
            if id(value) not in made:
                made[id(value)] = [] if value.is_list() else {}
                pending.append(value)
            return made[id(value)]

        result = begin(self)
        while pending:
            table = pending.pop()
            target = made[id(table)]
            if isinstance(target, list):
                target.extend(begin(entry) for entry in table)
            else:
                target.update((key, begin(entry)) for key, entry in table.items())
        return result

    def is_list(self) -> bool:
        """Whether the keys are 1..n, and there is no other."""
        n = len(self)
        return n == len(self.__entries__) and all(i in self.__entries__ for i in range(1, n + 1))

    def _named_entries(self) -> Iterator[tuple[Any, Any]]:
        n = len(self)
        return ((k, v) for k, v in self.items() if not (type(k) is int and 1 <= k <= n))


# Table has its own __setattr__; these set its slots
_set_entries = Table.__dict__["__entries__"].__set__
_set_border = Table.__dict__["__border__"].__set__


# `list | tuple` would be made anew at each look
_LISTS, _TABLES = (list, tuple), (Table, dict)


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """`value` with `function` applied to all but tables, lists, tuples and dicts; these become tables."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, _LISTS):
        return Table(
            *[function(v) if isinstance(v, torch.Tensor) else map_leaves(function, v) for v in value]
        )
    if isinstance(value, _TABLES):
        return Table.from_items((key, map_leaves(function, v)) for key, v in value.items())
    return function(value)


def to_tuples(function: Callable[[Any], Any], value: Any) -> Any:
    """As `map_leaves`, but lists become tuples, tables with other keys dicts: the form inside modules."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Table):
        value = tuple(value) if value.is_list() else dict(value.items())
    if isinstance(value, _LISTS):
        return tuple([function(v) if isinstance(v, torch.Tensor) else to_tuples(function, v) for v in value])
    if isinstance(value, dict):
        return {key: to_tuples(function, v) for key, v in value.items()}
    return function(value)


def leaves(value: Any) -> list[Any]:
    """All that is no table, list, tuple or dict in a nested value, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, _TABLES):
        value = list(value.values())
    if isinstance(value, _LISTS):
        return [leaf for v in value for leaf in ((v,) if isinstance(v, torch.Tensor) else leaves(v))]
    return [value]


_NESTING_LIMIT = 5  # of th's print


def _lines(table: Table, depth: int = 0) -> Iterator[str]:
    """The lines that trepl prints for a table."""
    content = entries(table)
    if not content:
        yield "{}"
        return
    indent = "    " * depth
    yield indent + "{"
    for key, value in content.items():
        name = f"{indent}  {to_text(key.value if type(key) is Truth else key)} : "
        inner = entries(value)
        if inner is None:
            yield name + _brief(value)
        elif not inner or depth >= _NESTING_LIMIT - 1:
            yield name + "{...}"
        else:
            yield name
            yield from _lines(value, depth + 1)
    yield indent + "}"


def _brief(value: Any) -> str:
    """A leaf inside a printed table."""
    if isinstance(value, str):
        return f'"{value}"'
    kind = type_name(value).removeprefix("torch.")
    if isinstance(value, torch.Tensor):
        return f"{kind} - " + ("size: " + "x".join(map(str, value.shape)) if value.numel() else "empty")
    return f"{kind} - size: {len(value)}" if kind.endswith("Storage") else to_text(value)
