"""The codec without golden data: objects, types, what can be saved, and nested values."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import t7compat
from t7compat import (
    InputError,
    LongStorage,
    LuaFunction,
    Storage,
    T7FormatError,
    Table,
    TorchObject,
    dumps,
    loads,
)
from t7compat.nested import walk
from t7compat.t7file.objects import Hash, Vec
from t7compat.tensortypes import TENSOR_TYPES, type_of

ENCODINGS = [
    {"format": "binary", "long_size": size, "endian": endian}
    for size in (4, 8)
    for endian in ("little", "big")
] + [{"format": "ascii"}]
encodings = pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: "-".join(map(str, e.values())))


def again(value: Any, **encoding: Any) -> Any:
    return loads(dumps(value, **encoding))


# ---- objects


def test_a_storage_is_a_row_of_numbers_counted_from_1() -> None:
    storage = LongStorage([3, 4, 5])
    assert (len(storage), list(storage), storage[1], storage[3]) == (3, [3, 4, 5], 3, 5)
    storage[2] = 40
    assert storage.data.tolist() == [3, 40, 5]
    for index in (0, 4, -1):
        with pytest.raises(InputError, match=f"from 1 to 3 .* got {index}"):
            storage[index]
    assert storage == storage
    assert storage != LongStorage([3, 40, 5])
    assert repr(storage) == "LongStorage([3, 40, 5])"


def test_the_storage_of_a_tensor_shares_its_memory() -> None:
    view = torch.arange(6.0)[2:4]
    storage = Storage.of(view)
    storage[3] = 20
    assert (len(storage), view.tolist(), storage.type.prefix) == (6, [20, 3], "Float")


def test_copies_share_what_the_originals_shared() -> None:
    storage = LongStorage([1, 2, 3])
    original = TorchObject("foo.Bar", 3, size=storage, view=storage.data[1:])
    original.me = original
    original.hook = LuaFunction(b"code", Table(Table(name="x", id=1, value=original)), 7)
    for copied in (
        copy.deepcopy(original),
        copy.deepcopy(Table(original))[1],
        t7compat.table.copy_graph(original),
    ):
        assert (copied.__typename__, copied.__version__, copied.me) == ("foo.Bar", 3, copied)
        assert (copied.hook.bytecode, copied.hook.tag) == (b"code", 7)
        assert copied.hook.upvalues[1].value is copied
        copied.size[2] = 20
        assert copied.view.tolist() == [20, 3]
    assert storage[2] == 2


def test_an_unknown_object_is_its_fields() -> None:
    thing = TorchObject("foo.Bar", 2, weight=1)
    assert vars(thing) == {"weight": 1}
    assert repr(thing) == "<TorchObject foo.Bar: weight>"
    assert vars(pickle.loads(pickle.dumps(thing))) == {"weight": 1}


def test_upvalues_belong_to_the_graph() -> None:
    inner = Table(1)
    function = LuaFunction(b"", Table(Table(name="up", value=inner)))
    assert inner in [found for found, _ in walk(Table(function))]


# ---- every type, in every encoding


@encodings
@pytest.mark.parametrize(
    "row", [row for row in TENSOR_TYPES if row.device == "cpu"], ids=lambda row: row.prefix
)
def test_tensors_of_every_type_and_form(row: Any, encoding: dict[str, Any]) -> None:
    numbers = torch.arange(24).to(row.dtype)
    forms = {
        "plain": numbers,
        "empty": numbers.new_empty(0),
        "cube": numbers.view(2, 3, 4),
        "turned": numbers.view(2, 3, 4).permute(2, 0, 1),
        "part": numbers.view(4, 6)[1:3, 2:],
        "expanded": numbers[5:7].view(2, 1).expand(2, 3),
        "windows": numbers.unfold(0, 4, 2),
        "stepped": numbers[1::3],
    }
    found = again([forms, Storage(row, numbers)], **encoding)
    for name, value in found[1].items():
        assert type_of(value) is row
        assert torch.equal(value, forms[name])
        assert value.stride() == forms[name].stride()
        assert value.storage_offset() == forms[name].storage_offset()
    assert list(found[2]) == list(range(24))
    found[2][6] = 77  # the fifth number, counted from 0, of them all
    assert [found[1][name].flatten()[i] for name, i in (("plain", 5), ("cube", 5), ("expanded", 0))] == [
        77
    ] * 3


@encodings
def test_numbers_strings_and_booleans(encoding: dict[str, Any]) -> None:
    numbers = [0, -1, 2**53, -(2**53), 0.5, -0.0, 1e300, 5e-324, math.inf, -math.inf, 2.0**60]
    found = list(again(numbers, **encoding))
    assert found == numbers
    assert [type(x) for x in found] == [int] * 4 + [float] * 7
    assert math.copysign(1, found[5]) == -1
    assert math.isnan(again(math.nan, **encoding))
    strings = [
        "",
        "a",
        "\0\n \r\n",
        "héllo €",
        b"\xff\xfe caf\xe9".decode("utf-8", "surrogateescape"),
        "12 34",
    ]
    assert list(again(strings, **encoding)) == strings
    table = Table.from_items([(True, False), (False, True), (1, 0), ("true", 2), (2.5, 3), (-1, 4)])
    assert list(again(table, **encoding).items()) == list(table.items())
    assert again(None, **encoding) is None
    assert again(b"raw \xff", **encoding) == "raw \udcff"


@pytest.mark.parametrize("sign", [1, -1])
def test_the_sign_of_nan_stays_in_ascii(sign: int) -> None:
    nan = math.copysign(math.nan, sign)
    for value in (nan, torch.tensor([nan])):
        assert (b"-nan" in dumps(value, "ascii")) == (sign < 0)
    assert math.copysign(1, again(nan, format="ascii")) == sign
    assert math.copysign(1, again(torch.tensor([nan], dtype=torch.float64), format="ascii").item()) == sign


@encodings
def test_functions_of_every_kind(encoding: dict[str, Any]) -> None:
    functions = {f"f{tag}": LuaFunction(b"\x1bLJ\0 code", Table(tag), tag) for tag in (6, 7, 8)}
    for function in again(functions, **encoding).values():
        assert (function.bytecode, list(function.upvalues)) == (b"\x1bLJ\0 code", [function.tag])


@encodings
def test_tables_of_tds(encoding: dict[str, Any]) -> None:
    table = Hash.from_items([("a", 1), (2, Vec("x", 2.5, torch.ones(2))), (True, Table())])
    table.me = table
    found = again([table, Hash(), Vec()], **encoding)
    assert [type(value) for value in found] == [Hash, Hash, Vec]
    assert list(found[1].keys()) == ["a", 2, True, "me"]
    assert found[1].me is found[1]
    assert [found[1][2][i] for i in (1, 2)] == ["x", 2.5]
    assert type(found[1][2]) is Vec


# ---- what can be saved


def test_lists_dicts_and_arrays_become_tables_and_tensors() -> None:
    array = np.arange(6, dtype=">i4").reshape(2, 3)
    shared = [1, None, 3]
    arrays = {"array": array, "again": array, "reversed": array[:, ::-1]}
    scalars = {3: np.float32(0.5), "flag": np.bool_(True), "none": None}
    value = again({"list": shared, "same": shared, "tuple": (1, (2,)), **arrays, **scalars})
    assert value.list is value.same
    assert value.list.to_python() == {1: 1, 3: 3}
    assert value.tuple.to_python() == [1, [2]]
    assert value.array is value.again
    assert (value.array.tolist(), value.array.dtype) == ([[0, 1, 2], [3, 4, 5]], torch.int32)
    assert value.reversed.tolist() == [[2, 1, 0], [5, 4, 3]]
    assert (value[3], value.flag, value["none"]) == (0.5, True, None)


def test_tensors_that_torch7_does_not_have_are_converted() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    flags = torch.tensor([True, False])
    value = again([weight, flags, flags[1:], torch.ones(2).bfloat16(), torch.tensor(2.5), (weight * 2)])
    assert [type_of(x).prefix for x in value] == ["Float", "Byte", "Byte", "Float", "Float", "Float"]
    assert (value[2].tolist(), value[3].tolist(), value[5].tolist()) == ([1, 0], [0], [2.5])
    value[2][1] = 5
    assert value[3].item() == 5
    assert not value[1].requires_grad
    assert again(torch.empty(2, 0, 3)).shape == (0,)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (object(), "deep.list.2.: a value of the Python type object cannot be saved"),
        ({1}, "Python type set"),
        (torch.ones(2, dtype=torch.complex64), "no tensor type for torch.complex64"),
        (torch.ones(2, 2).to_sparse(), "sparse"),
        (torch.ones(2, device="meta"), "on meta"),
        (np.array(["a"]), "an array of <U1"),
        (10**400, "beyond 1e308"),
        ("\ud800", "surrogates"),
        ({math.nan: 1}, "NaN cannot be a table key"),
        ({None: 1}, "nil cannot be a table key"),
    ],
    ids=lambda x: "" if isinstance(x, str) else type(x).__name__,
)
def test_what_cannot_be_saved_is_named_with_its_place(thing: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        dumps({"deep": {"list": [1, thing]}})
    assert str(caught.value).startswith("deep.list[2]: ")


def test_longs_of_4_bytes_must_fit() -> None:
    assert again(torch.tensor([2**31 - 1, -(2**31)]), long_size=4).tolist() == [2**31 - 1, -(2**31)]
    with pytest.raises(InputError, match="too large for a long of 4 bytes"):
        dumps(torch.tensor([2**31]), long_size=4)


def test_one_storage_is_written_once() -> None:
    storage = LongStorage(range(1000))
    data = dumps([storage, storage.data[5:], storage.data.view(10, 100), Storage.of(storage.data)])
    assert len(data) < 8500


# ---- depth


def nested(depth: int, around: Any) -> Any:
    value: Any = Table(0)
    for _ in range(depth):
        value = around(value)
    return value


@pytest.mark.parametrize(
    "around",
    [
        Table,
        lambda inner: Table.from_items([(inner, 1)]),
        lambda inner: TorchObject("foo.Bar", 1, inner=inner),
        Hash,
        lambda inner: LuaFunction(b"", Table(inner)),
    ],
    ids=["values", "keys", "objects", "hashes", "functions"],
)
@pytest.mark.parametrize("format", ["binary", "ascii"])
def test_depth_does_not_matter(around: Any, format: str) -> None:
    data = dumps(nested(5_000, around), format)
    value = loads(data)
    assert dumps(t7compat.table.copy_graph(value), format) == data
    with pytest.raises(T7FormatError) as caught:
        loads(data[:-3])
    assert len(str(caught.value)) < 1000


def test_a_hundred_thousand_levels() -> None:
    data = dumps(nested(100_000, Table))
    assert dumps(loads(data)) == data
