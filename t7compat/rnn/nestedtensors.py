"""Functions on nested tables of tensors: rnn.recursiveCopy and the like, as in Lua also nn.rnn.NAME.

Those of nn.utils that have the same name and do the same are here, too.
"""

from __future__ import annotations

from typing import Any

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.recursion import (
    over_both,
    recursiveAdd,
    recursiveCopy,
    recursiveFill,
    recursiveType,
    tensor_like,
)
from t7compat.nn.shapes import describe
from t7compat.table import Table, leaves, map_leaves

Tensor = torch.Tensor

__all__ = [
    "recursiveAdd",
    "recursiveCopy",
    "recursiveFill",
    "recursiveNew",
    "recursiveNormal",
    "recursiveResizeAs",
    "recursiveSet",
    "recursiveSum",
    "recursiveTensorEq",
    "recursiveType",
]


def recursiveResizeAs(t1: Any, t2: Any) -> tuple[Any, Any]:
    """Give `t1` the tensors and sizes of `t2`, in place where it can be; both are returned."""

    def resize(ours: Any, theirs: Tensor) -> Tensor:
        return tensor_like(ours, theirs).resize_(theirs.shape)

    t2 = Table.from_python(t2)
    return over_both(resize, t1, t2), t2


def recursiveSet(t1: Any, t2: Any) -> tuple[Any, Any]:
    """Let the tensors of `t1` be views of those of `t2`; both are returned."""

    def let_be(ours: Any, theirs: Tensor) -> Tensor:
        return tensor_like(ours, theirs).set_(theirs)  # type: ignore[call-overload, no-any-return]

    t2 = Table.from_python(t2)
    return over_both(let_be, t1, t2), t2


def recursiveTensorEq(t1: Any, t2: Any) -> bool:
    """Whether no element of a tensor of `t2` is 0.00001 or more away from its counterpart in `t1`."""
    if isinstance(t1, Tensor) and isinstance(t2, Tensor):
        return bool((t1 - t2).abs().max() < 0.00001)
    t1, t2 = Table.from_python(t1), Table.from_python(t2)
    if not isinstance(t2, Table):
        raise InputError(f"expected nested tensors, got {describe(t1)} and {describe(t2)}")
    return isinstance(t1, Table) and all(recursiveTensorEq(t1[key], value) for key, value in t2.items())


def recursiveNormal(t2: Any) -> Any:
    """Draw all elements from the normal distribution of mean 0 and variance 1."""
    for tensor in _expected(t2):
        mersenne.normal_(tensor)
    return t2


def recursiveSum(t2: Any) -> float:
    """The sum of all elements."""
    return sum(tensor.sum().item() for tensor in _expected(t2))


def recursiveNew(t2: Any) -> Any:
    """Empty tensors of the same types in tables of the same structure."""
    _expected(t2)
    return map_leaves(lambda tensor: tensor.new_empty(0), Table.from_python(t2))


def _expected(value: Any) -> list[Tensor]:
    """The tensors of a nested value; InputError if there is anything else."""
    if not all(isinstance(leaf, Tensor) for leaf in leaves(value)):
        raise InputError(f"expected a tensor or a table of tensors, got {describe(value)}")
    return leaves(value)
