"""The description of values that the golden area `serialization` uses (its README says what it means)."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

import torch

from t7compat import LuaFunction, Storage, Table
from t7compat.mersenne import Generator
from t7compat.nested import entries, type_name
from t7compat.t7file.objects import Hash, Vec
from t7compat.tensortypes import type_of

_UNPRINTABLE = set(range(9)) | set(range(11, 32)) | set(range(127, 256))
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "-0": -0.0}


class Describer:
    """Describes values; identities go on from one to the next.

    `exactly` gives entries in their order, and upvalues as they are, where golden data has them sorted and
    in brief.
    """

    def __init__(self, exactly: bool = False) -> None:
        self._ids: dict[Any, int] = {}
        self._exactly = exactly

    def describe(self, value: Any) -> dict[str, Any]:
        if value is None:
            return {"t": "nil"}
        if isinstance(value, bool):
            return {"t": "boolean", "v": value}
        if isinstance(value, int | float):
            return {"t": "number", "v": value}
        if isinstance(value, str):
            return _string(value)
        key = value.data.untyped_storage()._cdata if isinstance(value, Storage) else id(value)
        if (type(value), key) in self._ids:
            return {"t": "ref", "id": self._ids[type(value), key]}
        identity = self._ids[type(value), key] = len(self._ids) + 1
        return {"id": identity, **self._content(value)}

    def _content(self, value: Any) -> dict[str, Any]:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, Storage):
            return {"t": "storage", "class": value.type.storage, "size": len(value), **_numbers(value.data)}
        if isinstance(value, LuaFunction):
            code = {"len": len(value.bytecode), "adler32": zlib.adler32(value.bytecode)}
            if self._exactly:
                return {"t": "function", "bytecode": code, "upvalues": self.describe(value.upvalues)}
            upvalues = [{"name": u.name, "value": self.describe(u.value)} for u in value.upvalues]
            return {"t": "function", "bytecode": code, "upvalues": upvalues}
        if isinstance(value, Generator):
            return {"t": "object", "class": "torch.Generator"}
        if isinstance(value, Vec):
            items = [self.describe(item) for item in value]
            return {"t": "tds", "class": "tds.Vec", "n": len(items), "items": items}
        content = Table.from_items(value.items() if isinstance(value, Table) else entries(value).items())
        if isinstance(value, Hash):
            return {"t": "tds", "class": type_name(value), **self._entries(content)}
        if isinstance(value, Table):
            return {"t": "table", **self._entries(content)}
        return {"t": "object", "class": type_name(value), **self._entries(content)}

    def _tensor(self, value: torch.Tensor) -> dict[str, Any]:
        ndim = 0 if value.numel() == 0 else value.ndim
        storage = Storage.of(value)
        return {
            "t": "tensor",
            "class": type_of(value).tensor,
            "size": list(value.shape)[:ndim],
            "stride": list(value.stride())[:ndim],
            "offset": value.storage_offset() + 1,
            "storage": self.describe(storage) if len(storage) else {"t": "nil"},
            **_numbers(value.flatten()),
            "n": value.numel(),
        }

    def _entries(self, table: Table) -> dict[str, Any]:
        keys = list(table.keys())
        others = [key for key in keys if not isinstance(key, int | float | str)]
        if not self._exactly:
            keys.sort(key=lambda key: (4, "") if [key] == others else _rank(key))
        shown = keys if len(keys) <= 300 else keys[:3] + keys[-3:]
        numbers = [v for v in table.values() if isinstance(v, int | float) and not isinstance(v, bool)]
        return {
            "n": len(keys),
            "entries": [[self.describe(key), self.describe(table[key])] for key in shown],
            **({"number_sum": sum(numbers)} if len(keys) > 300 else {}),
        }


def _rank(key: Any) -> tuple[int, Any]:
    if isinstance(key, bool):
        return 3, str(key)
    if isinstance(key, int | float):
        return 1, key
    if isinstance(key, str):
        return 2, key.encode("utf-8", "surrogateescape")
    return 4, json.dumps(Describer().describe(key), sort_keys=True)


def _string(value: str) -> dict[str, Any]:
    data = value.encode("utf-8", "surrogateescape")
    if len(data) <= 80 and not _UNPRINTABLE & set(data):
        return {"t": "string", "len": len(data), "v": value}
    shown = (
        {"hex": data.hex()}
        if len(data) <= 80
        else {"head_hex": data[:16].hex(), "tail_hex": data[-16:].hex()}
    )
    return {"t": "string", "len": len(data), "adler32": zlib.adler32(data), **shown}


def _numbers(data: torch.Tensor) -> dict[str, Any]:
    values = data.double().tolist()
    if not values:
        return {}
    return {
        "values": values if len(values) <= 64 else values[:12],
        **({} if len(values) <= 64 else {"last": values[-3:]}),
        "sum": sum(values),
        "abs_sum": sum(map(abs, values)),
    }


def assert_same(got: Any, want: Any, where: str = "description") -> None:
    """Raise AssertionError unless two descriptions are equal: numbers nearly (sums depend on their order)."""
    if want in _SPECIAL if isinstance(want, str) else False:
        want = _SPECIAL[want]
    if isinstance(want, dict):
        assert isinstance(got, dict), f"{where}: {got!r}, not {want!r}"
        assert got.keys() == want.keys(), f"{where}: {sorted(got)}, not {sorted(want)}"
        for key in want:
            assert_same(got[key], want[key], f"{where}.{key}")
    elif isinstance(want, list):
        assert isinstance(got, list), f"{where}: {got!r}, not {want!r}"
        assert len(got) == len(want), f"{where}: {len(got)} items, not {len(want)}"
        for i, pair in enumerate(zip(got, want, strict=True)):
            assert_same(*pair, f"{where}[{i}]")
    elif isinstance(want, float) or (isinstance(want, int) and not isinstance(want, bool)):
        assert type(got) in (int, float), f"{where}: {got!r}, not {want!r}"
        same = math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(got) and math.isnan(want))
        assert same, f"{where}: {got!r}, not {want!r}"
        assert math.copysign(1, got) == math.copysign(1, want) or want, f"{where}: the sign of zero"
    else:
        assert type(got) is type(want), f"{where}: {got!r}, not {want!r}"
        assert got == want, f"{where}: {got!r}, not {want!r}"
