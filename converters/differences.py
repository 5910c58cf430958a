"""What is different between two checkpoints: structure, plain values, and the numbers in tensors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from converters.checkpoint import Path, networks, text_of
from converters.naming import printable
from converters.native import FAILURES
from converters.tree import description
from t7compat.errors import T7Error
from t7compat.mersenne import Generator
from t7compat.nested import Truth, entries, type_name
from t7compat.nn.criterion import Criterion
from t7compat.nn.module import Module
from t7compat.t7file.objects import LuaFunction, Storage, TorchObject
from t7compat.table import Table

_BUFFERS = frozenset({"output", "gradInput", "gradWeight", "gradBias", "tableoutput", "tablegradinput"})
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
    next (`output`, `gradInput`, gradients of parameters, ...) is left out unless `with_buffers` is set: the
    networks get clearState for this.
    """
    if not with_buffers:
        for root in (a, b):
            for network in networks(root).values():
                with contextlib.suppress(AttributeError, T7Error, *FAILURES):  # not the fields of the class
                    network.clearState()
    comparison = _Comparison(tolerance, with_buffers)
    comparison.compare(a, b)
    return comparison.found


class _Comparison:
    """The comparison of two values."""

    def __init__(self, tolerance: float, with_buffers: bool) -> None:
        self.found = Differences()
        self.tolerance, self.with_buffers = tolerance, with_buffers
        self.first: tuple[dict[Any, Path], dict[Any, Path]] = ({}, {})  # where what is shared was first met
        self.partners: dict[int, set[int]] = {}  # the tables and objects of B by those of A
        self.pending: list[tuple[Any, Any, Path]] = []
        self.by_object: list[tuple[dict[Any, Any], dict[Any, Any], Path]] = []

    def compare(self, a: Any, b: Any) -> None:
        """Note all differences between two values."""
        self.pending.append((a, b, None))
        while self.pending:
            while self.pending:
                self._one(*self.pending.pop())
            # a table with objects as keys can be compared when it is known which are the same
            for contents in self.by_object:
                self._inside(*contents, self._same_object)
            self.by_object = []

    def _one(self, a: Any, b: Any, path: Path) -> None:
        if change := _between(a, b, path, self.tolerance):
            self.found.changes.append(change)
        self.found.tensors += isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
        identities = _identity(a), _identity(b)
        if None not in identities:
            places = [known.setdefault(one, path) for known, one in zip(self.first, identities, strict=True)]
            if places[0] is not places[1]:
                self.found.changes.append(_sharing(path, *places))
        inside_a, inside_b = entries(a), entries(b)
        if inside_a is None or inside_b is None or id(b) in self.partners.setdefault(id(a), set()):
            return
        self.partners[id(a)].add(id(b))
        skipped = frozenset() if self.with_buffers else _buffers(a) & _buffers(b)
        plain_a, by_object_a = _split(inside_a, skipped)
        plain_b, by_object_b = _split(inside_b, skipped)
        self._inside(plain_a, plain_b, path, lambda key: key)
        if by_object_a or by_object_b:
            self.by_object.append((by_object_a, by_object_b, path))

    def _inside(self, a: dict[Any, Any], b: dict[Any, Any], path: Path, same: Callable[[Any], Any]) -> None:
        """Compare entries; `same` gives the key in B for one in A, or None."""
        keys = {key: same(key) for key in a}
        pairs = []
        for key, (shown, value) in a.items():
            if keys[key] in b:
                pairs.append((value, b[keys[key]][1], (path, shown)))
            else:
                self.found.changes.append(Change(_text((path, shown)), "only in A", a=description(value)))
        for key in b.keys() - set(keys.values()):
            shown, value = b[key]
            self.found.changes.append(Change(_text((path, shown)), "only in B", b=description(value)))
        self.pending += reversed(pairs)

    def _same_object(self, key: int) -> int | None:
        partners = self.partners.get(key, set())
        return next(iter(partners)) if len(partners) == 1 else None


def _split(content: dict[Any, Any], skipped: frozenset[str]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The entries with plain keys, and those with objects as keys; each with the key and the value."""
    plain: dict[Any, Any] = {}
    by_object: dict[Any, Any] = {}
    for key, value in content.items():
        if isinstance(key, Truth):
            plain[key.value, "boolean"] = key.value, value
        elif not isinstance(key, str | int | float):
            by_object[id(key)] = key, value
        elif key not in skipped:
            plain[key] = key, value
    return plain, by_object


def _buffers(value: Any) -> frozenset[str]:
    """The fields of a module, or of a node in a graph, that say nothing of what it is."""
    if isinstance(value, Table) and value.mapindex is not None:
        return _OF_NODES
    if not isinstance(value, Module | Criterion | TorchObject):
        return frozenset()
    return _BUFFERS | {f"grad{name[0].upper()}{name[1:]}" for name in getattr(value, "parameter_names", ())}


def _between(a: Any, b: Any, path: Path, tolerance: float) -> Change | None:
    """How two values are different apart from what is in them; None if they are not."""
    if type_name(a) != type_name(b):
        return Change(_text(path), "other type", description(a), description(b))
    if isinstance(a, torch.Tensor | Storage):
        return _between_numbers(_data(a), _data(b), path, tolerance)
    if isinstance(a, Generator):
        equal = torch.equal(a.getRNGState(), b.getRNGState())
    elif isinstance(a, LuaFunction):
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
    a, b = (
        "on its own" if first is path else f"same as {_text(first) or 'the whole'}" for first in (in_a, in_b)
    )
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
