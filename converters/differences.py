"""What is different between two checkpoints: structure, plain values, and the numbers in tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from converters.checkpoint import Path, text_of
from converters.naming import printable
from converters.tree import description
from t7compat.nested import Truth, entries, type_name
from t7compat.nn.criterion import Criterion
from t7compat.nn.module import Module
from t7compat.t7file.objects import LuaFunction, Storage
from t7compat.table import Table

_BUFFERS = {"output", "gradInput", "gradWeight", "gradBias"}
_OF_NODES = frozenset({"input", "gradOutput", "gradOutputBuffer"})

Kind = Literal[
    "only in A", "only in B", "other type", "other size", "other value", "other numbers", "other sharing"
]


@dataclass
class Change:
    """One difference: where, of which kind, and what stands there in A and in B.

    For numbers, `largest` is the largest difference of one and `relative` the norm of all differences by
    that of A.
    """

    path: str
    kind: Kind
    a: str = ""
    b: str = ""
    largest: float | None = None
    relative: float | None = None


@dataclass
class Differences:
    """All changes, and how many tensors were compared."""

    changes: list[Change] = field(default_factory=list)
    tensors: int = 0

    @property
    def numbers(self) -> list[Change]:
        """The tensors of other numbers, the largest relative change first."""
        found = [change for change in self.changes if change.relative is not None]
        return sorted(found, key=lambda change: -(change.relative or 0))

    @property
    def structure(self) -> list[Change]:
        """Everything else, in the order of the files."""
        return [change for change in self.changes if change.relative is None]


def differences(a: Any, b: Any, *, tolerance: float = 0, with_buffers: bool = False) -> Differences:
    """Compare two values part by part.

    Numbers that are no further apart than `tolerance` count as equal.  What modules keep from one pass to the
    next (`output`, `gradInput`, gradients of parameters, ...) is left out unless `with_buffers` is set.
    """
    found = Differences()
    seen: set[tuple[int, int]] = set()
    first: tuple[dict[Any, Path], dict[Any, Path]] = ({}, {})
    pending: list[tuple[Any, Any, Path]] = [(a, b, None)]
    while pending:
        left, right, path = pending.pop()
        contents = entries(left), entries(right)
        if change := _between(left, right, path, tolerance):
            found.changes.append(change)
        found.tensors += isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor)
        identities = _identity(left), _identity(right)
        if None not in identities:
            places = [known.setdefault(one, path) for known, one in zip(first, identities, strict=True)]
            if places[0] is not places[1]:
                found.changes.append(_sharing(path, *places))
        if contents[0] is None or contents[1] is None or (id(left), id(right)) in seen:
            continue
        seen.add((id(left), id(right)))
        skipped = frozenset() if with_buffers else _buffers(left) & _buffers(right)
        inside = list(_paired(contents[0], contents[1], skipped))
        for key, there in inside:
            if "b" not in there:
                found.changes.append(Change(_text((path, key)), "only in A", a=description(there["a"])))
            elif "a" not in there:
                found.changes.append(Change(_text((path, key)), "only in B", b=description(there["b"])))
        pending += [(x["a"], x["b"], (path, key)) for key, x in reversed(inside) if len(x) == 2]
    return found


def _paired(
    a: dict[Any, Any], b: dict[Any, Any], skipped: frozenset[str]
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The entries of both by key: what stands in A, in B."""
    sides: dict[Any, tuple[Any, dict[str, Any]]] = {}
    for side, content in (("a", a), ("b", b)):
        objects = itertools.count()  # as keys, they have their order in common
        for key, value in content.items():
            if not (isinstance(key, str) and key in skipped):
                plain = key.value if isinstance(key, Truth) else key
                is_plain = isinstance(plain, str | int | float)
                token = (type(plain) is bool, plain) if is_plain else ("object", next(objects))
                sides.setdefault(token, (plain, {}))[1][side] = value
    return iter(sides.values())


def _buffers(value: Any) -> frozenset[str]:
    """The fields of a module, or of a node in a graph, that hold nothing between two passes."""
    if isinstance(value, Table) and value.mapindex is not None:
        return _OF_NODES
    if not isinstance(value, Module | Criterion):
        return frozenset()
    gradients = {f"grad{name[0].upper()}{name[1:]}" for name in getattr(value, "parameter_names", ())}
    return frozenset({*_BUFFERS, *gradients, *getattr(value, "scratch", ())})


def _between(a: Any, b: Any, path: Path, tolerance: float) -> Change | None:
    """How two values are different apart from what is in them; None if they are not."""
    if type_name(a) != type_name(b):
        return Change(_text(path), "other type", description(a), description(b))
    if isinstance(a, torch.Tensor | Storage):
        return _between_numbers(_data(a), _data(b), path, tolerance)
    if isinstance(a, LuaFunction):
        equal = a.bytecode == b.bytecode
    elif isinstance(a, int | float) and not isinstance(a, bool):
        equal = a == b or abs(a - b) <= tolerance or (math.isnan(a) and math.isnan(b))
    else:
        equal = entries(a) is not None or a == b
    return None if equal else Change(_text(path), "other value", description(a), description(b))


def _between_numbers(a: torch.Tensor, b: torch.Tensor, path: Path, tolerance: float) -> Change | None:
    if a.shape != b.shape:
        return Change(_text(path), "other size", _size(a), _size(b))
    if torch.equal(a, b):
        return None
    left, right = a.detach().double(), b.detach().double()
    apart = (left - right).abs()
    apart[(left == right) | (left.isnan() & right.isnan())] = 0
    apart = apart.nan_to_num(nan=math.inf, posinf=math.inf)
    largest = apart.max().item()
    if largest <= tolerance:
        return None
    before = left.nan_to_num(nan=0, posinf=0, neginf=0).norm().item()
    relative = apart.norm().item() / before if before else math.inf
    return Change(_text(path), "other numbers", _size(a), _size(b), largest, relative)


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "empty"


def _sharing(path: Path, in_a: Path, in_b: Path) -> Change:
    """What is one thing with an earlier one in only one of the files, or with another one."""
    a, b = ("on its own" if first is path else f"same as {_text(first)}" for first in (in_a, in_b))
    return Change(_text(path), "other sharing", a, b)


def _identity(value: Any) -> Any:
    """What is the same for values that are one thing, or one part of a memory; None for plain ones."""
    if isinstance(value, torch.Tensor | Storage):
        data = _data(value)
        place = data.untyped_storage()._cdata, data.storage_offset(), data.shape
        return place if data.numel() else None
    return id(value) if entries(value) is not None else None


def _data(value: Any) -> torch.Tensor:
    data: torch.Tensor = value.data
    return value if isinstance(value, torch.Tensor) else data


def _text(path: Path) -> str:
    return printable(text_of(path))
