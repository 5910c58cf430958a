"""Integers, strings and rows of numbers as ascii files have them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable

import numpy as np
import torch

from t7compat.t7file.wire import NUMPY, Array, Sink, Source, chunks
from t7compat.tensortypes import BY_TENSOR, TensorType

_INTEGER = re.compile(rb"\s*([-+]?\d{1,20})(?!\S)\n?")
_DOUBLE = re.compile(rb"\s*([-+.0-9a-zA-Z]+)(?!\S)\n?")
_WORD = re.compile(rb"\S+")
_END = re.compile(rb"\s*\Z")
_LONG = BY_TENSOR["torch.LongTensor"]
_RAW = (torch.uint8, torch.int8)  # rows of these are raw bytes in ascii files, too
_FORMATS = {torch.float16: "%.9g", torch.float32: "%.9g", torch.float64: "%.17g"}  # others are integers


class AsciiSource(Source):
    """An ascii file.  White space before a number does not count; one line end after a row belongs to it."""

    def _match(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        match = pattern.match(self.data, self.pos)
        if match is None:
            words = self.data[self.pos : self.pos + 40].decode("ascii", "replace").split()
            raise self.error(
                f"expected {what}, found {words[0]!r}" if words else f"expected {what}, found nothing"
            )
        self.pos = match.end()
        return match[1]

    def _end_of_row(self) -> None:
        if self.data[self.pos : self.pos + 1] == b"\n":
            self.pos += 1

    def at_end(self) -> bool:
        return _END.match(self.data, self.pos) is not None

    def integer(self, what: str) -> int:
        start = self.pos
        value = int(self._match(_INTEGER, what))
        if not -(2**31) <= value < 2**31:
            raise self.error(f"expected a 32-bit integer for {what}, found {value}", start)
        return value

    def double(self) -> float:
        start = self.pos
        word = self._match(_DOUBLE, "a number")
        try:
            return float(word)
        except ValueError:
            raise self.error(f"expected a number, found {word.decode('ascii', 'replace')!r}", start) from None

    def longs(self, count: int, what: str) -> tuple[int, ...]:
        return tuple(self.numbers(_LONG, count, what).tolist())

    def blob(self, what: str) -> bytes:
        count = self.integer(what)
        start = self.skip(count, what)
        content = self.data[start : self.pos]
        if count:
            self._end_of_row()
        return content

    def numbers(self, row: TensorType, count: int, what: str) -> Array:
        numbers = np.empty(self.count(count, 1, f"numbers for {what}"), NUMPY[row.dtype])
        if row.dtype in _RAW:
            numbers[:] = np.ndarray(count, numbers.dtype, self.data, self.skip(count, what))
        else:
            self._fill(numbers, what)
        if count:
            self._end_of_row()
        return numbers

    def _fill(self, row: Array, what: str) -> None:
        words = itertools.islice(_WORD.finditer(self.data, self.pos), len(row))
        convert = float if row.dtype.kind == "f" else int
        for chunk in chunks(row):
            found = list(itertools.islice(words, len(chunk)))
            if len(found) < len(chunk):
                raise self.error(f"expected {len(row)} numbers for {what}, but the file ends before")
            try:
                with np.errstate(over="ignore"):
                    chunk[:] = [convert(word[0]) for word in found]
            except (ValueError, OverflowError) as error:
                raise self.error(f"expected the numbers of {what}: {error}") from None
            self.pos = found[-1].end()


class AsciiSink(Sink):
    """An ascii file."""

    def _line(self, words: Iterable[str]) -> None:
        self.write((" ".join(words) + "\n").encode())

    def integers(self, *values: int) -> None:
        for value in values:
            self._line([str(value)])

    def double(self, x: float) -> None:
        self._line([_digits("%.17g", x)])

    def longs(self, values: list[int]) -> None:
        if values:
            self._line(map(str, values))

    def blob(self, data: bytes) -> None:
        self.integers(len(data))
        if data:
            self.write(data + b"\n")

    def numbers(self, row: TensorType, numbers: Array) -> None:
        form = _FORMATS.get(row.dtype)
        for i, chunk in enumerate(chunks(numbers)):
            if row.dtype in _RAW:
                self.write(chunk.data)
                continue
            words = [_digits(form, x) for x in chunk.tolist()] if form else map(str, chunk.tolist())
            self.write((" " * bool(i) + " ".join(words)).encode())
        if len(numbers):
            self.write(b"\n")


def _digits(form: str, x: float) -> str:
    """As C's printf writes it: unlike Python, it shows the sign of NaN."""
    return form % x if x == x or math.copysign(1.0, x) > 0 else "-nan"
