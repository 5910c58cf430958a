"""Nested values: tables, and objects whose attributes are the fields of a table in the file.

What holds for both is here: the dict behind them, walks and copies of any depth, and names for values and
for the way to them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch

from t7compat.tensortypes import type_of


class Truth:
    """Stands for true or false as a key: Python's dict takes True for 1, Lua does not."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value


def entries(value: Any) -> dict[Any, Any] | None:
    """The dict behind a table or an instance of a registered class; None for anything else.

    Changing it changes the value.  Boolean keys of a table have a private form in it.
    """
    kind = type(value)
    if hasattr(kind, "__settle__"):
        value.__settle__()  # what is missing until somebody looks, see nn/recall.py
    if hasattr(kind, "__entries__"):
        return value.__entries__  # type: ignore[no-any-return]
    return getattr(value, "__dict__", None) if hasattr(kind, "__typename__") else None


def walk(
    root: Any, visit: Callable[[Any], bool] = lambda value: True
) -> Iterator[tuple[Any, dict[Any, Any]]]:
    """Every table and object that can be reached from `root`, once, with its entries; depth first.

    `visit(value)` says whether to go into a table or object; depth does not matter.
    """
    seen: set[int] = set()
    pending = [root]
    while pending:
        value = pending.pop()
        content = entries(value)
        if content is None or id(value) in seen or not visit(value):
            continue
        seen.add(id(value))
        yield value, content
        pending.extend(reversed([x for pair in content.items() for x in pair if not isinstance(x, _PLAIN)]))


_PLAIN = (str, int, float, torch.Tensor, Truth, type(None))


def copy_graph(root: Any, memo: dict[int, Any] | None = None) -> Any:
    """A deep copy of tables and objects: what was shared (storages too) or cyclic is so in the copy.

    `memo` is that of `copy.deepcopy`, which this function extends: it does not recurse, so any depth will do.
    """
    memo = {} if memo is None else memo
    pending: list[tuple[dict[Any, Any], dict[Any, Any]]] = []

    def begin(value: Any) -> Any:
        if isinstance(value, str | int | float | Truth):
            return value
        content = entries(value)
        if content is None or id(value) in memo:
            return copy.deepcopy(value, memo)
        kind = type(value)
        arguments = value.__getnewargs__() if hasattr(kind, "__getnewargs__") else ()
        memo[id(value)] = blank = kind.__new__(kind, *arguments)
        pending.append((content, cast(dict[Any, Any], entries(blank))))
        return blank

    result = begin(root)
    while pending:
        source, target = pending.pop()
        for key, value in source.items():
            target[begin(key)] = begin(value)
    return result


# ---- names


def type_name(value: Any) -> str:
    """`torch.type(value)`: the class of an object or tensor, else Lua's type."""
    if hasattr(type(value), "__typename__"):
        return str(value.__typename__)
    if isinstance(value, torch.Tensor):
        return type_of(value).tensor
    if hasattr(type(value), "__entries__"):
        return "table"
    for kind, name in _LUA_TYPES:
        if isinstance(value, kind):
            return name
    return "function" if callable(value) else type(value).__name__


_LUA_TYPES = (
    (type(None), "nil"),
    (bool, "boolean"),
    (int | float, "number"),
    (str, "string"),
)


def to_text(value: Any) -> str:
    """Lua's `tostring` of a plain value: numbers with 14 digits, true, false, nil."""
    if value is None or isinstance(value, bool):
        return {None: "nil", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return f"{value:.14g}"
    return str(value)


def path_step(key: Any) -> str:
    """One step of the way to a value in nested tables, such as `.weight`, `[3]` or `["a b"]`."""
    if isinstance(key, str):
        return f".{key}" if key.isidentifier() else f'["{key}"]'
    return f"[{to_text(key)}]" if isinstance(key, int | float) else f"[{type_name(key)}]"


def path_text(keys: Iterable[Any]) -> str:
    """The way through tables, as in `protos.rnn.modules[3].weight`, without the middle of a long one."""
    steps = [path_step(key) for key in keys]
    if len(steps) > 2 * _SHOWN_STEPS:
        steps[_SHOWN_STEPS:-_SHOWN_STEPS] = [f" ...({len(steps) - 2 * _SHOWN_STEPS} more)... "]
    return "".join(steps).removeprefix(".")


_SHOWN_STEPS = 20
