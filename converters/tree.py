"""What a .t7 file holds, as rows of a tree: types, sizes, sharing, and what is unusual."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from converters.checkpoint import Path, is_network, text_of
from converters.naming import printable
from converters.native import FAILURES
from t7compat.nested import Truth, entries, path_step, to_text, type_name, walk
from t7compat.nn.module import Module
from t7compat.t7file.objects import LuaFunction, Storage
from t7compat.table import Table

_PLAIN_SHOWN, _SHOWN = 20, 200  # entries of a table: as long as they are plain values, and in all
_NUMBERS_SHOWN = 8  # of a storage: most are sizes
_LONGEST_TEXT = 60
_WORTH_TELLING = 1024  # bytes of a tensor: fewer are plain from its size


@dataclass
class Row:
    """One value: where it is, its Torch type, and a description in one line.

    `label` is a number for what occurs several times (a table, an object, the memory of tensors); `again`
    says that the content stands at an earlier row; `remarks` are what is unusual.
    """

    path: str
    depth: int
    key: str
    type: str
    text: str
    size: list[int] | None = None
    bytes: int | None = None
    parameters: int | None = None
    label: int | None = None
    again: bool = False
    remarks: list[str] = field(default_factory=list)


@dataclass
class Totals:
    """Sums over a file: parameters of modules, and the memory of all tensors; what is shared counts once."""

    parameters: int
    storages: int
    bytes: int


def count_parameters(value: Any) -> int:
    """The number of parameters of all modules in a value; shared ones count once."""
    found = {}
    for module, fields in walk(value):
        if isinstance(module, Module) or is_network(module):
            names = getattr(type(module), "parameter_names", ()) or ("weight", "bias")
            for tensor in (fields.get(name) for name in names):
                if isinstance(tensor, torch.Tensor):
                    place = tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape
                    found[place] = tensor.numel()
    return sum(found.values())


def totals(value: Any) -> Totals:
    """The sums over a value."""
    memory = {_memory(leaf): _data(leaf).untyped_storage().nbytes() for leaf in _tensors(value)}
    return Totals(count_parameters(value), len(memory), sum(memory.values()))


def rows(root: Any, deepest: int = 100, remarks: Mapping[int, list[str]] | None = None) -> Iterator[Row]:
    """The rows of a value and of all in it, down to a depth; long tables are abbreviated.

    `remarks` is what unusual.py found.
    """
    remarks = remarks or {}
    counts = _occurrences(root)
    labels: dict[int, int] = {}
    shown: set[int] = set()
    pending: list[tuple[Any, Path, int, bool]] = [(root, None, 0, False)]
    while pending:
        value, path, depth, in_network = pending.pop()
        row = _row(value, path, depth, in_network)
        content = entries(value)
        if counts[_identity(value)] > 1:
            row.label = labels.setdefault(_identity(value), len(labels) + 1)
            row.again = content is not None and id(value) in shown
        row.remarks = [] if row.again else list(map(printable, remarks.get(id(value), ())))
        yield row
        if content and not row.again and depth < deepest:
            shown.add(id(value))
            where = depth + 1, in_network or is_network(value)
            pending += [(x, (path, key), *where) for key, x in reversed(_abbreviated(content))]


class _More:
    """Stands for entries that are not shown."""

    def __init__(self, count: int) -> None:
        self.count = count


def _abbreviated(content: dict[Any, Any]) -> list[tuple[Any, Any]]:
    items = [(key.value if isinstance(key, Truth) else key, value) for key, value in content.items()]
    plain = itertools.count()
    kept = [item for item in items if not _is_plain(item[1]) or next(plain) < _PLAIN_SHOWN][:_SHOWN]
    return kept if len(kept) == len(items) else [*kept, (None, _More(len(items) - len(kept)))]


def _row(value: Any, path: Path, depth: int, in_network: bool) -> Row:
    if isinstance(value, _More):
        return Row("", depth, "", "", f"... {value.count} more")
    key = path_step(path[1]).removeprefix(".") if path else ""
    row = Row(printable(text_of(path)), depth, printable(key), type_name(value), "")
    if isinstance(value, torch.Tensor | Storage):
        row.size, row.bytes = list(_data(value).shape), _data(value).nbytes
        row.text = "x".join(map(str, row.size))
        if isinstance(value, Storage) and len(value) <= _NUMBERS_SHOWN:
            row.text += f": {' '.join(map(to_text, value))}"
    elif isinstance(value, Table):
        row.text = f"of {len(value.values())}"
    elif isinstance(value, LuaFunction):
        row.text = f"{len(value.bytecode)} bytes of bytecode, {len(entries(value.upvalues) or ())} upvalues"
    elif is_network(value):
        row.text = own_text(value)
        inner = in_network and not vars(value).get("modules")
        row.parameters = None if inner else count_parameters(value)
    elif _is_plain(value):
        row.text = _shortened(f'"{value}"' if isinstance(value, str) else to_text(value))
    return row


def own_text(value: Any) -> str:
    """What Torch prints for a module if that is one line, without its class."""
    try:
        text = str(value) if isinstance(value, Module) and not any(True for _ in value.children()) else ""
    except (RecursionError, *FAILURES):
        text = ""
    name = type_name(value)
    return text.removeprefix(name).strip() if text.startswith(name) and "\n" not in text else ""


def _shortened(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}... ({len(text)} characters)"


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


# ---- sharing


def _data(value: Any) -> torch.Tensor:
    """The tensor over what a tensor or storage has in memory."""
    data: torch.Tensor = value.data
    return value if isinstance(value, torch.Tensor) else data


def _memory(value: Any) -> int:
    return _data(value).untyped_storage()._cdata


def _identity(value: Any) -> int:
    """What is the same for values that are, or that lie in the memory of, one thing."""
    return _memory(value) if isinstance(value, torch.Tensor | Storage) else id(value)


def _tensors(root: Any) -> Iterator[Any]:
    """All tensors and storages in a value, as often as they occur."""
    inside = (x for _, content in walk(root) for pair in content.items() for x in pair)
    return (x for x in (root, *inside) if isinstance(x, torch.Tensor | Storage))


def _occurrences(root: Any) -> Counter[int]:
    """How often each table and object, and the memory of each tensor that is not empty, is mentioned."""
    counts = Counter(_memory(value) for value in _tensors(root) if _data(value).numel())
    for _, content in walk(root):
        counts.update(id(value) for value in content.values() if entries(value) is not None)
    counts[id(root)] += entries(root) is not None
    return counts


# ---- as text


def line(row: Row) -> str:
    """A row as a line of text, without indentation and remarks."""
    parts = [row.type.removeprefix("torch.") if row.size is not None else row.type, row.text]
    if row.type in ("number", "boolean", "string", "nil"):
        parts = [row.text]
    elif row.text.startswith("("):
        parts = [row.type + row.text]
    if row.parameters:
        parts.append(f"({row.parameters:,} parameters)")
    if (row.bytes or 0) >= _WORTH_TELLING:
        parts.append(f"({amount(row.bytes or 0)})")
    if row.label is not None:
        parts.append(f"&{row.label}" + (" (above)" if row.again else ""))
    return (f"{row.key}: " if row.key else "") + " ".join(filter(None, parts))


def description(value: Any) -> str:
    """A value, without what is in it, as a line of text."""
    return line(_row(value, None, 0, False))


def amount(count: int) -> str:
    """A number of bytes for people: 96 bytes, 1.5 MB."""
    size, units = float(count), iter(("bytes", "KB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1024 and unit != "TB":
        size, unit = size / 1024, next(units)
    return f"{size:.3g} {unit}" if unit != "bytes" and size < 100 else f"{size:.0f} {unit}"
