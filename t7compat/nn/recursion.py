"""nn.utils: operations on nested tables of tensors, and other small tools of Lua programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn import luaobject
from t7compat.nn.luaobject import Cache, LuaObject, converted
from t7compat.nn.shapes import axis, describe
from t7compat.table import Table
from t7compat.tensortypes import parse

Tensor = torch.Tensor


def recursiveType(param: Any, type: str, tensorCache: Cache | Table | None = None) -> Any:
    """Convert to a type such as "torch.FloatTensor": tables and modules in place, tensors to new ones.

    Tensors that share memory do so afterwards, also across calls that are given the same `tensorCache`.
    """
    cache = {} if tensorCache is None else tensorCache
    if isinstance(param, Table):
        for key, value in param.items():
            param[key] = recursiveType(value, type, cache)
    elif isinstance(param, LuaObject):
        param.type(type, cache)
    return converted(param, parse(type), cache) if isinstance(param, Tensor) else param


def recursiveResizeAs(t1: Any, t2: Any) -> tuple[Any, Any]:
    """Give `t1` the structure and the sizes of `t2`, in place where it can be; both are returned."""

    def resize(ours: Any, theirs: Tensor) -> Tensor:
        return tensor_like(ours, theirs).resize_(theirs.shape)

    t2 = Table.from_python(t2)
    result = over_both(resize, t1, t2, exactly=True)
    return result, t2


def recursiveFill(t2: Any, val: float) -> Any:
    """Fill all tensors with a number."""
    for value in t2.values() if isinstance(t2, Table) else (t2,):
        if isinstance(value, Tensor):
            value.fill_(val)
        elif isinstance(value, Table):
            recursiveFill(value, val)
        else:
            raise InputError(f"expected a tensor or a table of tensors, got {describe(value)}")
    return t2


def recursiveAdd(t1: Any, *val_and_t2: Any) -> tuple[Any, Any]:
    """`recursiveAdd(t1, t2)` adds `t2` to `t1` in place, `recursiveAdd(t1, val, t2)` val times t2."""
    *given, t2 = val_and_t2
    val = given[0] if given and given[0] is not None else 1

    def add(ours: Any, theirs: Tensor) -> Tensor:
        if not isinstance(ours, Tensor):
            raise InputError(f"expected nested tensors, got {describe(ours)} and {describe(theirs)}")
        return ours.add_(theirs.reshape(ours.shape), alpha=val)

    t2 = Table.from_python(t2)
    return over_both(add, t1, t2), t2


def recursiveCopy(t1: Any, t2: Any, asynchronous: bool = False) -> tuple[Any, Any]:
    """Copy the values of `t2` into `t1`, which gets its structure and sizes; both are returned."""

    def copy(ours: Any, theirs: Tensor) -> Tensor:
        return tensor_like(ours, theirs).resize_(theirs.shape).copy_(theirs, non_blocking=asynchronous)

    t2 = Table.from_python(t2)
    return over_both(copy, t1, t2), t2


def over_both(change: Callable[[Any, Tensor], Tensor], t1: Any, t2: Any, exactly: bool = False) -> Any:
    """`t1` with `change(ours, theirs)` for each tensor of `t2`; `exactly`: and without what t2 has not."""
    if isinstance(t2, Tensor):
        return change(t1, t2)
    if not isinstance(t2, Table):
        raise InputError(f"expected nested tensors, got {describe(t1)} and {describe(t2)}")
    result = t1 if isinstance(t1, Table) else Table.from_python([t1])
    for key, value in t2.items():
        result[key] = over_both(change, result[key], value, exactly)
    if exactly:
        for key in set(result.keys()).difference(t2.keys()):
            result[key] = None
    return result


def tensor_like(value: Any, other: Tensor) -> Tensor:
    """The value, if it is a tensor; else an empty one of the type of another."""
    return value if isinstance(value, Tensor) else other.new_empty(0)


def addSingletonDimension(*arguments: Any) -> Tensor:
    """`addSingletonDimension([view,] t, dim)`: a view of `t` with one more dimension, of size 1, at `dim`."""
    view, t, dim = arguments if len(arguments) == 3 else (None, *arguments, 1)[:3]
    if not isinstance(t, Tensor) or not isinstance(dim, int) or not 1 <= dim <= t.dim() + 1:
        raise InputError(f"expected a tensor and a dimension of the result, got {describe(arguments)}")
    result = t.unsqueeze(axis(dim, t.dim() + 1))
    return result if view is None else view.set_(result)


def contiguousView(output: Tensor | None, input: Tensor, *size: int) -> Tensor:
    """Make `output` a view of `input` in another size, or of a copy where the input is not contiguous."""
    output = input.new_empty(0) if output is None else output
    return output.set_(input.contiguous().view(*size))  # type: ignore[call-overload]


def clear(self: LuaObject, *names: Any) -> Any:
    """Empty the tensors and tables of these names (or of one table of names), remove other values."""
    listed = Table.from_python(names[0]) if len(names) == 1 else None
    return luaobject.clear(self, *(listed if isinstance(listed, Table) else names))
