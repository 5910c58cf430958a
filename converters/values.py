"""A file without networks as one flat row of values, each under its path: `train.images`, `opt.rates[2]`.

Tensors and storages, numbers, strings and booleans are values.  Tables and objects are only the way to them;
one that stands in several places is followed once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from converters.checkpoint import text_of
from converters.weights import write_npz, write_safetensors
from t7compat.nested import entries, type_name
from t7compat.t7file.objects import Storage
from t7compat.table import Table

Values = Mapping[str, Any]
_ALONE = "data"  # the name of a value that is all there is in the file
_ROW = 1 << 16  # numbers that become text at a time


def flat(root: Any) -> tuple[dict[str, Any], list[str]]:
    """The values by path, in the order of the file, and notes on what is none."""
    found: dict[str, Any] = {}
    notes: list[str] = []
    seen: dict[int, str] = {}
    pending: list[tuple[Any, Any]] = [(root, None)]
    while pending:
        value, path = pending.pop()
        name = text_of(path).encode("utf-8", "backslashreplace").decode() or _ALONE
        content = entries(value)
        if content is not None:
            if id(value) in seen:
                notes.append(f"{name} is the same table as {seen[id(value)]}, and written there only")
                continue
            seen[id(value)] = name
            items = list(value.items()) if isinstance(value, Table) else list(content.items())
            pending += [(inner, (path, key)) for key, inner in reversed(items)]
        elif isinstance(value, torch.Tensor | Storage | str | int | float):
            while name in found:  # keys as different as "[1]" and 1 may look alike
                name += "'"
            found[name] = value.data if isinstance(value, Storage) else value
        else:
            notes.append(f"{name} is a {type_name(value)}, which was left out")
    return found, notes


def npz(path: Path, values: Values) -> None:
    """Write an array for each value, for numpy.load."""
    write_npz(path, values)


def safetensors(path: Path, values: Values) -> None:
    """Write the tensors, and the other values as JSON among the metadata."""
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    others = {name: "".join(_json(value)) for name, value in values.items() if name not in tensors}
    if "__metadata__" in tensors:  # a key of the format
        tensors["__metadata__'"] = tensors.pop("__metadata__")
    write_safetensors(path, tensors, others)


def as_json(path: Path, values: Values) -> None:
    """Write one object; tensors are nested arrays."""
    with open(path, "w", encoding="utf-8") as file:
        for i, (name, value) in enumerate(values.items()):
            file.write(f"{',' if i else '{'}\n  {json.dumps(name)}: ")
            file.writelines(_json(value))
        file.write("\n}\n" if values else "{}\n")


def _json(value: Any) -> Iterator[str]:
    """JSON in pieces.  It has no infinities: {"$number": "inf"} stands for one, as in STEM.json."""
    if not isinstance(value, torch.Tensor):
        yield _number(value) if isinstance(value, float) else json.dumps(value)
    elif value.dim() > 1:
        for i, part in enumerate(value):
            yield ", " if i else "["
            yield from _json(part)
        yield "]" if len(value) else "[]"
    else:
        for i, part in enumerate(value.reshape(-1).split(_ROW)):  # type: ignore[no-untyped-call]
            yield ("[" if i == 0 else ", ") + ", ".join(map(_number, part.tolist()))
        yield "]"


def _number(value: float) -> str:
    return json.dumps(value if math.isfinite(value) else {"$number": str(value)})
