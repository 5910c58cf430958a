"""What a checkpoint holds: its networks, and everything else, which goes to NAME.json.

The form of NAME.json is described in docs/convert.md.  What JSON does not have is an object with a key that
begins with "$"; tables nested in many others are taken out, to the root's "$continued".
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from converters.native import Problem
from t7compat.nested import entries, path_step, type_name
from t7compat.nn.criterion import Criterion
from t7compat.nn.module import Module
from t7compat.t7file.objects import LuaFunction, Storage, TorchObject
from t7compat.table import Table

_SMALL = 64  # elements of a tensor that is written as text
_DEEPEST = 100
_NUMBERS = re.compile(r"\[\n[^\[\]{}\"]*\]")  # an array without strings or other structures in it
_SURROGATE = re.compile("[\ud800-\udfff]")

Path = tuple[Any, ...] | None  # (path of what is around, key): so that long paths cost nothing


def text_of(path: Path) -> str:
    """A path as text: `protos.rnn.modules[3].weight`."""
    steps = []
    while path:
        path, key = path
        steps.append(path_step(key))
    return "".join(reversed(steps)).removeprefix(".")


# ---- networks


def survey(root: Any) -> Iterator[tuple[Path, Any]]:
    """Tables and objects down to networks and criterions (these included), each once, with their paths."""
    seen: set[int] = set()
    pending: list[tuple[Any, Path]] = [(root, None)]
    while pending:
        value, path = pending.pop()
        content = entries(value)
        if content is None or id(value) in seen:
            continue
        seen.add(id(value))
        yield path, value
        if not is_network(value) and not isinstance(value, Criterion):
            pending += [(inner, (path, key)) for key, inner in reversed(list(content.items()))]


def networks(root: Any) -> dict[str, Any]:
    """The networks in a value by path, those that are not part of another one.

    An object of an unknown class counts as a network if it has the fields of one.
    """
    found = {text_of(path): value for path, value in survey(root) if is_network(value)}
    parts = {id(part) for network in found.values() for part in _parts(network)}
    return {path: network for path, network in found.items() if id(network) not in parts}


def unknown(root: Any) -> list[Problem]:
    """The objects of unknown classes that are no networks."""
    reason = "no class of this name is known; it was kept as data"
    objects = [(p, v) for p, v in survey(root) if isinstance(v, TorchObject) and not is_network(v)]
    return [Problem(text_of(path), type_name(value), reason) for path, value in objects]


def is_network(value: Any) -> bool:
    """Whether a value is a module, or an object of an unknown class that has a module's fields."""
    if not isinstance(value, TorchObject):
        return isinstance(value, Module)
    fields = vars(value)
    buffers = (fields.get("output"), fields.get("gradInput"))
    has_buffers = all(isinstance(buffer, torch.Tensor | Table) for buffer in buffers)
    return has_buffers or isinstance(fields.get("modules"), Table)


def _parts(network: Any) -> Iterable[Any]:
    """All modules inside a network."""
    pending, seen = [network], {id(network)}
    while pending:
        inner = (vars(pending.pop()).get("modules") or Table()).values()
        for module in inner:
            if is_network(module) and id(module) not in seen:
                seen.add(id(module))
                pending.append(module)
                yield module


# ---- everything else


class Rest:
    """The text of NAME.json, and the tensors that go to NAME.data.safetensors.

    `converted` says for each module (by identity) that has been converted in which file and in which part of
    it.
    """

    def __init__(self, data_file: str, converted: Mapping[int, tuple[str, str]]) -> None:
        self.data_file, self.converted = data_file, converted
        self.tensors: dict[str, torch.Tensor] = {}
        self._places: dict[int, Path] = {}
        self._continued: list[tuple[Any, Path]] = []

    def text(self, root: Any, missing: Mapping[str, Any]) -> str:
        """The text for a checkpoint; `missing` are modules that could not be converted, by path."""
        content = self._encoded(root, None)
        document = content if isinstance(content, dict) else {"$content": content}
        if missing:
            document["$missing"] = {at: self._object(x, (None, at), 0) for at, x in missing.items()}
        continued: list[Any] = []
        while len(continued) < len(self._continued):
            continued.append(self._encoded(*self._continued[len(continued)]))
        if continued:
            document["$continued"] = continued
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        text = _NUMBERS.sub(lambda row: " ".join(row[0].split()).replace("[ ", "[").replace(" ]", "]"), text)
        return _SURROGATE.sub(lambda one: f"\\u{ord(one[0]):04x}", text) + "\n"

    def _encoded(self, value: Any, path: Path, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool | str | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"$number": str(value)}
        if id(value) in self.converted:
            file, part = self.converted[id(value)]
            return {"$network": file, "part": part} if part else {"$network": file}
        if id(value) in self._places:
            return {"$same": text_of(self._places[id(value)])}
        if depth == _DEEPEST:
            self._continued.append((value, path))
            return {"$continued": len(self._continued) - 1}
        self._places[id(value)] = path
        if isinstance(value, Table):
            return self._table(list(value.items()), value.is_list(), path, depth)
        if isinstance(value, torch.Tensor):
            return {"$tensor": type_name(value), "size": list(value.shape), **self._numbers(value, path)}
        if isinstance(value, Storage):
            return {"$storage": type_name(value), **self._numbers(value.data, path)}
        if isinstance(value, LuaFunction):
            upvalues = self._encoded(value.upvalues, (path, "upvalues"), depth + 1)
            return {"$function": base64.b64encode(value.bytecode).decode(), "upvalues": upvalues}
        return self._object(value, path, depth)

    def _object(self, value: Any, path: Path, depth: int) -> dict[str, Any]:
        fields = list((entries(value) or {}).items())
        return {"$class": type_name(value), "fields": self._table(fields, False, path, depth)}

    def _table(self, items: list[tuple[Any, Any]], is_list: bool, path: Path, depth: int) -> Any:
        def inside(key: Any, value: Any) -> Any:
            return self._encoded(value, (path, key), depth + 1)

        if is_list:
            return [inside(key, value) for key, value in sorted(items, key=lambda item: item[0])]
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in items):
            return {key: inside(key, value) for key, value in items}
        return {"$table": [[inside(key, key), inside(key, value)] for key, value in items]}

    def _numbers(self, tensor: torch.Tensor, path: Path) -> dict[str, Any]:
        if tensor.numel() <= _SMALL:
            return {"data": [self._encoded(number, path) for number in tensor.flatten().tolist()]}
        name = text_of(path).encode("utf-8", "backslashreplace").decode() or "data"
        while name in self.tensors or name == "__metadata__":  # a key of the format
            name += "'"
        self.tensors[name] = tensor
        return {"file": self.data_file, "name": name}
