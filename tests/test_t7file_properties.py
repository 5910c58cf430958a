"""What holds for every graph of values, and for every sequence of bytes."""

from __future__ import annotations

import struct
from typing import Any

import torch
from describe import Describer, assert_same
from golden import GOLDEN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t7compat import LuaFunction, Storage, T7FormatError, Table, TorchObject, dumps, loads
from t7compat.t7file.objects import Hash, Vec
from t7compat.tensortypes import TENSOR_TYPES, tag

# the same examples on every machine: a failure is one of the code
patient = settings(derandomize=True, deadline=5000, max_examples=200, suppress_health_check=list(HealthCheck))
thorough = settings(patient, max_examples=1000)

encodings = st.one_of(
    st.fixed_dictionaries({"format": st.just("ascii")}),
    st.fixed_dictionaries(
        {"long_size": st.sampled_from([4, 8]), "endian": st.sampled_from(["little", "big"])}
    ),
)

# ---- graphs: nodes of several kinds, and entries that refer to each other in any way

NODES = {
    "table": Table,
    "hash": Hash,
    "vec": Vec,
    "object": lambda: TorchObject("foo.Bar", 2),
    "function": lambda: LuaFunction(b"\x1bLJ", Table()),
}
strings = st.text(max_size=8) | st.binary(max_size=8).map(lambda b: b.decode("utf-8", "surrogateescape"))
plain = st.one_of(strings, st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False))


@st.composite
def tensors(draw: st.DrawFn) -> list[Any]:
    """A storage and views of it."""
    row = draw(st.sampled_from(TENSOR_TYPES))
    data = torch.tensor(draw(st.lists(st.integers(0, 100), max_size=12))).to(row.dtype)
    found: list[Any] = [Storage(row, data)]
    for _ in range(draw(st.integers(0, 3))):
        size = draw(st.lists(st.integers(1, 3), max_size=4))
        stride = [draw(st.integers(0, 3)) for _ in size]
        extent = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if size and extent < len(data):
            offset = draw(st.integers(0, len(data) - 1 - extent))
            found.append(tag(data.as_strided(size, stride, offset), row))
    return [*found, tag(data.new_empty(0), row)]


@st.composite
def graphs(draw: st.DrawFn) -> Any:
    nodes = [NODES[kind]() for kind in draw(st.lists(st.sampled_from(list(NODES)), min_size=1, max_size=6))]
    leaves = [leaf for group in draw(st.lists(tensors(), max_size=2)) for leaf in group]
    # With longs of 4 bytes, an empty tensor and then a storage look like an empty tensor that has this
    # storage and longs of 8 bytes.  This can only happen where one of them is a key.
    solid = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.numel()]
    keys = st.one_of(plain, st.sampled_from(nodes + solid))
    values = st.one_of(plain, st.sampled_from(nodes + leaves))
    for node in nodes:
        target = node.upvalues if isinstance(node, LuaFunction) else node
        for key, value in draw(st.lists(st.tuples(keys, values), max_size=5)):
            if isinstance(node, Vec):
                node.insert(value)
            elif isinstance(target, Table):
                target[key] = value
            else:
                vars(target)[key if isinstance(key, str) else repr(type(key))] = value
    return draw(st.sampled_from([nodes[0], *leaves]))


@thorough
@given(graphs(), encodings)
def test_what_is_written_is_read(graph: Any, encoding: dict[str, Any]) -> None:
    """With all sharing and all cycles, and without being told the encoding."""
    data = dumps(graph, **encoding)
    found = loads(data)
    assert dumps(found, **encoding) == data
    assert_same(Describer(exactly=True).describe(found), Describer(exactly=True).describe(graph))


@patient
@given(st.lists(plain) | st.dictionaries(strings, plain, max_size=30), encodings)
def test_plain_tables(value: Any, encoding: dict[str, Any]) -> None:
    found = loads(dumps(value, **encoding))
    assert list(found.values()) == (list(value.values()) if isinstance(value, dict) else value)


# ---- broken bytes

SEEDS = [
    path.read_bytes()
    for path in sorted((GOLDEN / "serialization").glob("*.t7"))
    if path.stat().st_size < 2000
] or [dumps([1, "x"])]
interesting = st.sampled_from(
    [struct.pack("<i", n) for n in (-1, 0, 1, 2, 3, 4, 8, 9, 2**31 - 1, -(2**31))]
    + [struct.pack("<q", n) for n in (-1, 2**40, 2**62, -(2**63))]
    + [b"\0", b"\xff", b"-1\n", b"99999999999\n", b"1e999\n"]
)


@st.composite
def broken_files(draw: st.DrawFn) -> bytes:
    data = bytearray(
        draw(st.sampled_from(SEEDS)) if draw(st.booleans()) else dumps(draw(graphs()), **draw(encodings))
    )
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0:
                data[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                new = draw(interesting)
                data[place : place + len(new)] = new
            case 2:
                data[place:place] = draw(st.binary(max_size=8))
            case 3:
                del data[place : place + draw(st.integers(1, 20))]
            case _:
                del data[place:]
    return bytes(data)


def error_or_value(data: bytes, **options: Any) -> Any:
    """The error that loading `data` raises, or what it returns; no other outcome is right."""
    try:
        return loads(data, **options)
    except T7FormatError as error:
        return error


@settings(thorough, max_examples=2000)
@given(broken_files(), st.sampled_from([None, "binary", "ascii"]), st.sampled_from([None, 4, 8]))
def test_broken_files_give_an_error_or_a_value(
    data: bytes, format: str | None, long_size: int | None
) -> None:
    found = error_or_value(data, format=format, long_size=long_size)
    if isinstance(found, T7FormatError):
        assert 0 <= found.offset <= len(data)
        assert len(str(found)) < 3000
    else:
        dumps(found)


@patient
@given(st.binary(max_size=300), st.sampled_from(["binary", "ascii"]))
def test_random_bytes_give_an_error_or_a_value(data: bytes, format: str) -> None:
    found = error_or_value(data, format=format)
    assert not isinstance(found, T7FormatError) or 0 <= found.offset <= len(data)
