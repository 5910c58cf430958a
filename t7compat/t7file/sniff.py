"""What kind of file is it?  Encoding, byte order and the width of long, found from the bytes themselves.

The width of long (4 bytes in files from Windows and from 32-bit machines) is not written anywhere.  It
shows where the first long is read: only one width leads to bytes that go on as a .t7 file does.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

from t7compat.errors import T7FormatError
from t7compat.t7file import wire
from t7compat.t7file.wire import BinarySource, Buffer
from t7compat.tensortypes import TensorType

_ASCII_TAG = re.compile(rb"\s*[0-8]\s")
_FOREIGN = (
    (rb"PK\x03\x04", "a zip archive, as PyTorch's torch.save writes: read it with torch.load"),
    (rb"\x80[\x02-\x05]", "a Python pickle, as older versions of PyTorch write: read it with torch.load"),
    (rb"version https://git-lfs", "a Git LFS pointer: fetch the file itself with 'git lfs pull'"),
    (rb"(?i)\s*<(!doctype|html|\?xml)", "a web page: the download went wrong"),
    (rb"\x1f\x8b", "compressed with gzip: unpack it first"),
    (rb"BZh", "compressed with bzip2: unpack it first"),
    (rb"\xfd7zXZ", "compressed with xz: unpack it first"),
    (rb"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
    (rb"(?s).{257}ustar", "a tar archive: unpack it first"),
    (rb"\x89PNG", "a PNG image"),
    (rb"\xff\xd8\xff", "a JPEG image"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"GGUF", "a GGUF model"),
    (rb'(?s).{8}\{"', "a safetensors file"),
    (rb"[\t\n\r\x20-\x7e]+$", "text"),
)


def recognise(data: Buffer, name: str = "") -> tuple[str, str]:
    """Encoding ("binary" or "ascii") and byte order, told by the first tag; T7FormatError for other files."""
    head = data[:512]
    if _ASCII_TAG.match(head):
        return "ascii", "little"
    for endian in ("little", "big"):
        if len(head) >= 4 and 0 <= int.from_bytes(head[:4], endian) <= wire.FUNCTION:
            return "binary", endian
    if len(head) < 4:
        message = f"the file ends after {len(head)} bytes" if head else "the file is empty"
    else:
        kind = next((kind for pattern, kind in _FOREIGN if re.match(pattern, head)), "")
        message = (
            f"this is no .t7 file but {kind}" if kind else f"this is no .t7 file: it starts with {head[:8]!r}"
        )
    raise T7FormatError(message, offset=0, source=name)


# ---- the width of long, when the first one is going to be read


def long_size_at_tensor(source: BinarySource, row: TensorType, ndim: int) -> int:
    """After 2 * ndim + 1 longs follows the storage; a tensor without dimensions may have none."""
    narrow, wide = (_storage_at(source, source.pos + (2 * ndim + 1) * size, row) for size in (4, 8))
    if ndim:
        return 4 if narrow else 8
    return 8 if wide is not None or narrow is None else 4


def long_size_at_count(
    source: BinarySource, row: TensorType | None, known: Container[int], missing: int
) -> int:
    """After the count of a storage, of type `row`, follow its numbers; after another count follow values.

    Then come the values that are `missing` in what is around.  `known` are the indices so far.
    """
    for size in (8, 4):
        probe = _probe(source, source.pos, size)
        try:
            (count,) = probe.longs(1, "")
            if row:
                probe.skip(count * probe.item_size(row), "")
            else:
                probe.count(count, 4, "")
            if _makes_sense(probe, known, missing if row else missing + count):
                return size
        except T7FormatError:
            continue
    return 8


def _probe(source: BinarySource, pos: int, long_size: int) -> BinarySource:
    probe = BinarySource(source.data, endian=source.endian, long_size=long_size)
    probe.pos = pos
    return probe


def _storage_at(source: BinarySource, pos: int, row: TensorType) -> bool | None:
    """Whether a new storage of this type is at `pos` (True), or nil (False), or anything else (None)."""
    probe = _probe(source, pos, 8)
    try:
        tag = probe.integer("")
        if tag == wire.TORCH:
            probe.integer("")
            return True if _class_name(probe) == row.storage else None
    except T7FormatError:
        return None
    return False if tag == wire.NIL else None


def _makes_sense(probe: BinarySource, known: Container[int], missing: int) -> bool:
    """Whether some values follow, or the end of the file; nonsense may raise T7FormatError, too."""
    values: list[Any] = []
    while len(values) < 4:
        if probe.at_end():
            return len(values) >= missing
        before = len(values)
        probe.plain(values, before + 1)
        if len(values) == before:
            return _starts_object(probe, known)
    return True


def _starts_object(probe: BinarySource, known: Container[int]) -> bool:
    tag = probe.integer("")
    if tag not in (wire.TABLE, wire.TORCH, wire.OLDEST_FUNCTION, wire.OLD_FUNCTION, wire.FUNCTION):
        return False
    if tag != wire.OLDEST_FUNCTION and probe.integer("") in known:
        return True
    if tag == wire.TABLE:
        return probe.count(probe.integer(""), 4, "") >= 0
    if tag == wire.TORCH:
        return _class_name(probe) != ""
    return len(probe.blob("")) > 0


def _class_name(probe: BinarySource) -> str:
    """A class name that looks like one, perhaps after a version; else ""."""
    for form in (rb"V \d+", rb"[A-Za-z_][\w.]+"):
        before, length = probe.pos, probe.integer("")
        start = probe.skip(length, "")
        name = probe.data[start : start + min(length, 200)]
        if not re.fullmatch(form, name):
            probe.pos = before
    return name.decode() if re.fullmatch(form, name) else ""
