"""Integers, strings and rows of numbers, without what they mean; the form of ascii files is in ascii.py.

A source reads from bytes in memory or from a mapped file, a sink writes through a `write` function.
"""

from __future__ import annotations

import math
import mmap
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from t7compat.errors import InputError, T7FormatError
from t7compat.tensortypes import TENSOR_TYPES, TensorType

# The tag before every value.  Of the functions, FUNCTION is what Torch writes today.
NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN, OLDEST_FUNCTION, OLD_FUNCTION, FUNCTION = range(9)

Array = np.ndarray[Any, Any]
Buffer = bytes | mmap.mmap
VIEW_FROM = 64 * 1024  # bytes: a smaller row is cheaper to copy than to keep as a view of the mapped file
CHUNK = 1 << 16  # numbers that are converted at a time, where they do not lie in memory as in the file
_LARGEST_INTEGER = 2.0**53  # up to here a double tells every integer from its neighbours
_ORDERS = {"little": "<", "big": ">"}
_VERSIONS = {f"V {n}".encode(): n for n in range(10)}
_LONGS = {4: "i", 8: "q"}
NUMPY = {row.dtype: torch.empty(0, dtype=row.dtype).numpy().dtype for row in TENSOR_TYPES}


def number(x: float) -> float:
    """A Lua number: an int when integral and exactly representable, else a float."""
    if x.is_integer() and -_LARGEST_INTEGER <= x <= _LARGEST_INTEGER and (x or math.copysign(1.0, x) > 0):
        return int(x)
    return x


def encoded(text: str) -> bytes:
    """The bytes of a string: surrogates stand for the bytes that were no UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InputError(f"{text!r} is no text: it has surrogates that do not stand for bytes") from None


# ---- reading


class Source(ABC):
    """Reads from `pos` on.  Every read checks first that the file holds what it is going to take.

    A parameter `what` names the thing that is read, for the message of the T7FormatError.
    """

    def __init__(self, data: Buffer, name: str = "", views: bool = False) -> None:
        self.data, self.name, self.views = data, name, views
        self.pos, self.size = 0, len(data)
        self.long_size: int | None = 8

    def error(self, message: str, offset: int | None = None) -> T7FormatError:
        """An error at `offset`, by default where the next read would start."""
        return T7FormatError(message, offset=self.pos if offset is None else offset, source=self.name)

    def skip(self, count: int, what: str) -> int:
        """Step over `count` bytes and return where they start."""
        start, left = self.pos, self.size - self.pos
        if not 0 <= count <= left:
            raise self.error(f"expected {count} bytes of {what}, found {left}")
        self.pos = start + count
        return start

    def count(self, count: int, item_size: int, what: str) -> int:
        """`count` itself, if that many items of at least `item_size` bytes may still follow."""
        left = self.size - self.pos
        if not 0 <= count * item_size <= left:
            raise self.error(f"expected {count} {what}, but only {left} bytes follow")
        return count

    def rest(self) -> bytes:
        """All bytes up to the end of the file."""
        start, self.pos = self.pos, self.size
        return self.data[start:]

    def line(self) -> bytes:
        """The bytes up to the end of the line, which is stepped over."""
        start, end = self.pos, self.data.find(b"\n", self.pos)
        end = self.size if end < 0 else end
        self.pos = min(end + 1, self.size)
        return self.data[start:end]

    def text(self, what: str) -> str:
        """A counted string; bytes that are not UTF-8 become surrogates."""
        return self.blob(what).decode("utf-8", "surrogateescape")

    def class_name(self) -> tuple[str, int]:
        """The name of a class and the version before it, which the first versions of Torch did not write."""
        name, version = self.text("a class name"), 0
        if name.startswith("V ") and name[2:].isdecimal():
            name, version = self.text("a class name"), int(name[2:])
        if not name or not name.isprintable():
            raise self.error(f"expected a class name, found {name!r}")
        return name, version

    def plain(self, values: list[Any], limit: int) -> None:
        """Append numbers, strings and booleans to `values`, up to `limit` of them or until others follow."""
        while len(values) < limit:
            start = self.pos
            tag = self.integer("a type tag")
            if tag == STRING:
                values.append(self.text("a string"))
            elif tag == NUMBER:
                values.append(number(self.double()))
            elif tag == BOOLEAN:
                values.append(self.integer("a boolean") == 1)
            else:
                self.pos = start
                return

    @abstractmethod
    def at_end(self) -> bool:
        """Whether nothing more follows."""

    @abstractmethod
    def integer(self, what: str) -> int:
        """A 32-bit integer."""

    @abstractmethod
    def double(self) -> float:
        """A 64-bit floating point number."""

    @abstractmethod
    def longs(self, count: int, what: str) -> tuple[int, ...]:
        """`count` integers of C's type long."""

    @abstractmethod
    def blob(self, what: str) -> bytes:
        """Bytes with their count before them."""

    @abstractmethod
    def numbers(self, row: TensorType, count: int, what: str) -> Array:
        """`count` numbers of one type, perhaps as they lie in the file."""

    def elements(self, row: TensorType, count: int, what: str) -> torch.Tensor:
        """`count` numbers of one type, as a 1-D tensor: a copy, or with `views` a view of the data."""
        found = self.numbers(row, count, what)
        if self.views and found.nbytes >= VIEW_FROM and found.dtype == NUMPY[row.dtype]:
            return torch.from_numpy(found)
        data = torch.empty(count, dtype=row.dtype)
        data.numpy()[:] = found
        return data


# ---- writing


class Sink(ABC):
    """Writes through `write`, which takes bytes or a buffer."""

    def __init__(self, write: Callable[[Any], Any]) -> None:
        self.write = write

    def number(self, x: float) -> None:
        """A number with its tag."""
        self.integers(NUMBER)
        self.double(x)

    def string(self, data: bytes) -> None:
        """A string with its tag."""
        self.integers(STRING)
        self.blob(data)

    @abstractmethod
    def integers(self, *values: int) -> None:
        """32-bit integers, each written on its own."""

    @abstractmethod
    def double(self, x: float) -> None:
        """A 64-bit floating point number."""

    @abstractmethod
    def longs(self, values: list[int]) -> None:
        """Integers of C's type long, written as one row."""

    @abstractmethod
    def blob(self, data: bytes) -> None:
        """Bytes with their count before them."""

    @abstractmethod
    def numbers(self, row: TensorType, numbers: Array) -> None:
        """Numbers of one type, written as one row."""


def chunks(array: Array) -> Iterator[Array]:
    """The parts of a long array that are converted at a time."""
    return (array[i : i + CHUNK] for i in range(0, len(array), CHUNK))


# ---- binary


def _wire_types(endian: str, long_size: int) -> dict[torch.dtype, np.dtype[Any]]:
    """How numbers of each dtype lie in a file."""
    types = {**NUMPY, torch.int64: np.dtype(f"i{long_size}")}
    return {dtype: np.dtype(_ORDERS[endian] + wire.str[1:]) for dtype, wire in types.items()}


class BinarySource(Source):
    """A binary file.  `long_size` (4 or 8) is None until it is known: who reads a long has to set it before.

    With `views`, long rows of numbers become views of `data`, which has to be writable.
    """

    def __init__(
        self,
        data: Buffer,
        name: str = "",
        *,
        endian: str = "little",
        long_size: int | None = None,
        views: bool = False,
    ) -> None:
        super().__init__(data, name, views)
        self.endian = endian
        self._order = order = _ORDERS[endian]
        self.set_long_size(long_size)
        self._integer = struct.Struct(order + "i").unpack_from
        self._tag_and_length = struct.Struct(order + "iI").unpack_from
        self._version_and_length = struct.Struct(order + "I3sI").unpack_from
        self._double = struct.Struct(order + "d").unpack_from
        self._tag_and_double = struct.Struct(order + "id").unpack_from

    def set_long_size(self, size: int | None) -> None:
        """Say how many bytes a long has."""
        self.long_size = size
        self._long = _LONGS[size or 8]
        self._types = _wire_types(self.endian, size or 8)

    def plain(self, values: list[Any], limit: int) -> None:
        # the hot loop: the general method, and number(), written flat
        data, size, pos, add, floor = self.data, self.size, self.pos, values.append, math.floor
        tag_and_length, tag_and_double, double = self._tag_and_length, self._tag_and_double, self._double
        least, largest = -_LARGEST_INTEGER, _LARGEST_INTEGER
        try:
            while len(values) < limit:
                for _ in range((limit - len(values) + 1) // 2):  # one or two values each
                    tag, length = tag_and_length(data, pos)
                    if tag == STRING:
                        start = pos + 8
                        end = start + length
                        if end > size:
                            raise struct.error
                        add(data[start:end].decode("utf-8", "surrogateescape"))
                        pos = end
                        tag, x = tag_and_double(data, pos)  # most strings are keys, and most values numbers
                        if tag != NUMBER:
                            continue
                    elif tag == NUMBER:
                        (x,) = double(data, pos + 4)
                    elif tag == BOOLEAN:
                        add(length == 1)
                        pos += 8
                        continue
                    else:
                        self.pos = pos
                        return
                    if x.is_integer() and least <= x <= largest and (x or math.copysign(1.0, x) > 0):
                        add(floor(x))
                    else:
                        add(x)
                    pos += 12
        except struct.error:  # less is left than was to be read, perhaps ahead
            pass
        if len(values) > limit:  # the number read ahead belongs to what comes next
            values.pop()
            pos -= 12
        self.pos = pos
        super().plain(values, limit)

    def class_name(self) -> tuple[str, int]:
        # the general method, quicker for the usual version of three bytes
        start = self.pos + 11
        if start <= self.size:
            length, version, count = self._version_and_length(self.data, self.pos)
            if length == 3 and version in _VERSIONS and start + count <= self.size:
                name = self.data[start : start + count].decode("utf-8", "surrogateescape")
                if name and name.isprintable():
                    self.pos = start + count
                    return name, _VERSIONS[version]
        return super().class_name()

    def item_size(self, row: TensorType) -> int:
        """The bytes that one number takes in the file."""
        return self._types[row.dtype].itemsize

    def at_end(self) -> bool:
        return self.pos >= self.size

    def integer(self, what: str) -> int:
        try:
            value: int = self._integer(self.data, self.pos)[0]
        except struct.error:
            self.skip(4, what)  # says how much is left
            raise
        self.pos += 4
        return value

    def double(self) -> float:
        value: float = self._double(self.data, self.skip(8, "a number"))[0]
        return value

    def longs(self, count: int, what: str) -> tuple[int, ...]:
        start = self.skip(count * self._types[torch.int64].itemsize, what)
        return struct.unpack_from(f"{self._order}{count}{self._long}", self.data, start)

    def blob(self, what: str) -> bytes:
        count, start = self.integer(what), self.pos
        if not 0 <= count <= self.size - start:
            self.skip(count, what)  # says how much is left
        self.pos = start + count
        return self.data[start : self.pos]

    def numbers(self, row: TensorType, count: int, what: str) -> Array:
        wire = self._types[row.dtype]
        start = self.skip(count * wire.itemsize, what)
        return np.ndarray(count, wire, self.data, start)


class BinarySink(Sink):
    """A binary file."""

    def __init__(self, write: Callable[[Any], Any], *, endian: str = "little", long_size: int = 8) -> None:
        super().__init__(write)
        self._types = _wire_types(endian, long_size)
        self._order, self._long = _ORDERS[endian], _LONGS[long_size]
        self._tag_and_double = struct.Struct(self._order + "id").pack
        self._two_integers = struct.Struct(self._order + "ii").pack

    def _pack(self, letter: str, values: Sequence[float]) -> None:
        try:
            self.write(struct.pack(f"{self._order}{len(values)}{letter}", *values))
        except struct.error:
            raise InputError(f"{max(values, key=abs)} does not fit into an integer of the file") from None

    def number(self, x: float) -> None:
        self.write(self._tag_and_double(NUMBER, x))

    def string(self, data: bytes) -> None:
        if len(data) >= 2**31:
            raise InputError("a string of 2 GiB or more cannot be saved")
        self.write(self._two_integers(STRING, len(data)) + data)

    def integers(self, *values: int) -> None:
        self._pack("i", values)

    def double(self, x: float) -> None:
        self._pack("d", (x,))

    def longs(self, values: list[int]) -> None:
        self._pack(self._long, values)

    def blob(self, data: bytes) -> None:
        self.integers(len(data))
        self.write(data)

    def numbers(self, row: TensorType, numbers: Array) -> None:
        wire = self._types[row.dtype]
        if numbers.dtype == wire:
            self.write(numbers.data)
            return
        for chunk in chunks(numbers):
            converted = chunk.astype(wire)
            if wire.kind == "i" and (converted != chunk).any():
                raise InputError(f"a {row.tensor} holds numbers that are too large for a long of 4 bytes")
            self.write(converted.data)
