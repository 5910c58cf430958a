"""What is found from the bytes, and what classes decide: the width of long, ascii, layouts of their own."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import torch

import t7compat
from t7compat import (
    LongStorage,
    LuaFunction,
    Storage,
    T7FormatError,
    Table,
    TorchObject,
    dumps,
    loads,
    registry,
)
from t7compat.t7file.objects import Hash, Vec


def again(value: Any, **encoding: Any) -> Any:
    return loads(dumps(value, **encoding))


# ---- the width of long, found from the file

FIRST_LONGS: dict[str, Any] = {
    "scalar": torch.tensor(3.0),
    "vector": torch.arange(3.0),
    "zeros": torch.zeros(2, 3),
    "expanded": torch.zeros(1).expand(4, 5, 6),
    "8 dimensions": torch.zeros(1, 1, 2, 1, 1, 2, 1, 1),
    "empty tensor": torch.empty(0),
    "empty view": torch.arange(4.0)[4:],
    "empty tensors": [torch.empty(0), torch.empty(0)],
    "empty tensor, then a string": [torch.empty(0), "x"],
    "empty storage": LongStorage(),
    "storage": LongStorage([3, 4, 5]),
    "storage of zeros": LongStorage([0, 0, 0]),
    "two storages": [LongStorage([1]), LongStorage([2, 0])],
    "storage twice": [size := LongStorage([1]), size],
    "bytes": Storage.of(torch.zeros(5, dtype=torch.uint8)),
    "doubles": Storage.of(torch.zeros(3, dtype=torch.float64)),
    "storage, then numbers": {"size": LongStorage([0]), "a": 0, 1: 1, 2: 2.5},
    "storage, then a boolean": Table.from_items([("s", LongStorage([0, 1])), (True, True), (False, "x")]),
    "storage, then a function": [LongStorage([0]), LuaFunction(b"x")],
    "storage, then an object": [LongStorage([0]), TorchObject("foo.Bar")],
    "a whole file in a storage": Storage.of(
        torch.frombuffer(bytearray(dumps(torch.ones(9))), dtype=torch.uint8)
    ),
    "hash": Hash(1, 2),
    "empty hash": Hash(),
    "empty hash, then a string": [Hash(), "x"],
    "vec": Vec("a"),
    "generator": t7compat.mersenne.Generator(1),
}


@pytest.mark.parametrize("name", FIRST_LONGS)
@pytest.mark.parametrize("long_size", [4, 8])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_the_width_of_long_is_found(name: str, long_size: int, endian: str) -> None:
    data = dumps(FIRST_LONGS[name], long_size=long_size, endian=endian)
    assert dumps(loads(data), long_size=long_size, endian=endian) == data


def test_the_width_of_long_can_be_given() -> None:
    data = dumps(torch.arange(6.0).view(2, 3), long_size=4)
    assert loads(data, long_size=4).shape == (2, 3)
    with pytest.raises(T7FormatError):
        loads(data, long_size=8)
    with pytest.raises(T7FormatError):
        loads(data, endian="big")


# ---- ascii files need not look as Torch writes them


def test_white_space_and_forms_of_numbers_do_not_matter() -> None:
    assert loads(b"3 1 2\n 2 1\nx 1\r\n 2e0  1 +3. 1\t.5").to_python() == {"x": 2, 3: 0.5}
    assert list(loads(b"4 1 3\nV 1\n16\ntorch.IntStorage\n3\n 1\t2\n\n3 ")) == [1, 2, 3]


@pytest.mark.parametrize(
    "data",
    [
        b"1\n1_000\n",
        b"1\n0x10\n",
        b"1\n" + b"9" * 10_000 + b"x\n",
        b"3\n1\n" + b"9" * 10_000 + b"\n",
        b"2\n-1\nabc\n",
        b"4\n1\n3\nV 1\n18\ntorch.ShortStorage\n1\n70000\n",
        b"4\n1\n3\nV 1\n18\ntorch.ShortStorage\n1\n1.5\n",
        b"4\n1\n3\nV 1\n18\ntorch.ShortStorage\n1\n" + b"9" * 10_000,
    ],
)
def test_what_is_no_number_in_ascii(data: bytes) -> None:
    with pytest.raises(T7FormatError):
        loads(data)


# ---- classes


@pytest.fixture(autouse=True)
def classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that forgets what a test registers."""
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))


def test_a_registered_class_gets_its_fields_and_its_upgrade() -> None:
    @t7compat.register("my.Layer")
    class Layer:
        __version__ = 3

        def upgrade(self, version: int) -> None:
            self.history = [*vars(self), version]

    old = TorchObject("my.Layer", 2, weight=torch.ones(2), inner=TorchObject("my.Layer", 1))
    found = again(old)
    assert isinstance(found, Layer)
    assert (found.history, found.inner.history) == (["weight", "inner", 2], [1])
    assert again(found).history == ["weight", "inner", "history", 3]


def test_a_class_with_a_layout_of_its_own() -> None:
    @t7compat.register("my.Data")
    class Data:
        def read(self, file: Any) -> None:
            self.found = [
                file.version,
                file.readInt(),
                file.readLong(),
                file.readBool(),
                file.readDouble(2)[2],
            ]
            self.found += [file.readObject(), file.readShort(), file.readByte(3).data.tolist()]
            self.found += [file.version, file.readString("*l"), file.readString("*a")]

        def write(self, file: Any) -> None:
            file.writeInt(-5)
            file.writeLong(2**40)
            file.writeBool(True)
            file.writeDouble(torch.tensor([0.5, 2.5]))
            file.writeObject(self.inner)
            file.writeShort(7)
            file.writeByte(Storage.of(torch.tensor([1, 2, 3], dtype=torch.uint8)))
            file.writeString("a line\nand the rest")

    data = Data()
    data.inner = TorchObject("my.Other", 9, x=1)
    for format in ("binary", "ascii"):
        *start, other, short, numbers, version, line, rest = again(data, format=format).found
        assert (start, short, numbers, version) == ([1, -5, 2**40, True, 2.5], 7, [1, 2, 3], 1)
        assert (vars(other), line, rest) == ({"x": 1}, "a line", "and the rest")


def test_an_error_in_a_class_names_the_class_and_the_place() -> None:
    data = dumps({"net": [1, TorchObject("my.Layer", 1, weight=2)]})

    @t7compat.register("my.Layer")
    class Layer:
        def upgrade(self, version: int) -> None:
            raise KeyError("bias")

    with pytest.raises(
        T7FormatError, match=r"this cannot be a my.Layer \(KeyError: 'bias'\) .*in net\[2\]\)"
    ):
        loads(data)


def test_objects_that_read_themselves_do_not_exhaust_the_stack() -> None:
    @t7compat.register("my.Box")
    class Box:
        content: Any = None

        def read(self, file: Any) -> None:
            self.content = file.readObject()

        def write(self, file: Any) -> None:
            file.writeObject(self.content)

    box = Box()
    for _ in range(40):
        box, box.content = Box(), box
    assert again(box).content.content is not None
    header = struct.pack("<i", 3) + b"V 1" + struct.pack("<i", 6) + b"my.Box"
    with pytest.raises(T7FormatError, match="nested objects that read themselves"):
        loads(b"".join(struct.pack("<ii", 4, i) + header for i in range(1000)))
