r"""Files of Torch7: `load`, `save` and their variants.  This text is the description of the format.

A .t7 file is a row of values, one after the other, without header, padding, checksum or end mark.

Value
-----
A value is a type tag (int) and a content:

====  ===========  =========================================================================================
tag   value        content
====  ===========  =========================================================================================
0     nil          nothing
1     number       a double
2     string       the number of bytes (int), the bytes
3     table        an index; if it is new, the number of entries (int), then key, value, key, value, ...
4     object       an index; if it is new, a version, a class name, and what the class writes
5     boolean      an int: 1 for true
8     function     an index; if it is new, the number of bytes of bytecode (int), the bytecode, its upvalues
7     function     (older) the same, with another form of upvalues
6     function     (oldest) the same, without index
====  ===========  =========================================================================================

An index (int) names an object: its first appearance is followed by the content, every later one refers to
the first.  Torch counts 1, 2, 3, ... in the order in which objects are started; a reader must take the
indices as mere labels.  They hold for the whole file, also from one value of the row to the next.  Content
may refer to the object that it belongs to.  With `referenced(false)` Torch gives each appearance an index
and a content of its own.

Upvalues are a table: of the tables `{name=, id=, value=}` for tag 8, where equal ids mean one variable that
several functions share; of the bare values for tags 6 and 7.

Object
------
Version and class name are strings (number of bytes, bytes, no tag).  The version is "V " and a number.  The
first versions of Torch wrote none: if the first string is not of that form, it is the class name, and the
version is 0.

Most classes write one table, their fields; it has an index as every table has.  These have a layout of
their own:

=================  =========================================================================================
class              content
=================  =========================================================================================
torch.*Storage     the number of elements (long), the elements
torch.*Tensor      the number of dimensions (int), the sizes (longs), the strides (longs), the offset of the
                   first element in the storage (long, counted from 1), the storage (a value; nil if there is
                   none).  A tensor without dimensions is empty.
torch.Generator    5048 bytes: the state
torch.Timer        nothing
tds.Hash           the number of entries (long), then key, value, key, value, ...   (first name: tds_hash)
tds.Vec            the number of elements (long), then the elements
=================  =========================================================================================

and any other class may do so.  Its layout is then known to that class only, and nothing tells how long it is.

Binary files
------------
int has 4 bytes, double 8, long 8 or 4; the elements of a storage have the size of their type, those of a
LongStorage the size of long.  Torch writes the byte order and the long of the machine (4 bytes on Windows
and on 32-bit systems), and the file does not tell which they are.  Here they are found: the byte order by
the first tag, the size of long where the first one is read, because only one size leads to a place where
the file goes on sensibly.

Ascii files
-----------
Every number stands on a line of its own, those of a row (sizes, strides, elements) together on one, with
spaces between them.  Integers have the form %d, floats %.9g, doubles %.17g (-nan, inf and -0 occur).  The
elements of byte and char storages and the bytes of strings are written as they are, with a line end after
them.  Nothing at all is written for a row or string of length 0.  White space before a number does not
count.

What becomes of it
------------------
Tables become `Table`; objects become instances of the class that is registered for them, else
`TorchObject`; numbers int where they are integral, else float; strings str, with bytes that are not UTF-8
as surrogates; functions `LuaFunction`.  What is one object in the file is one object in Python, and tensors
share memory where they did in Torch.  CUDA tensors come to the CPU where there is no GPU, and keep the name
of their type.

The attributes of an object are its fields.  Where its class has a method `upgrade`, that is called with the
version in the file; where it has `read` and `write`, it reads and writes itself: these are called with a
`Reader` or `Writer`, as in Lua with a torch.File.

Nothing in a file is run, and nothing is believed: sizes are compared with the bytes that are left before
memory is taken, tensors with their storages, and whatever is wrong raises T7FormatError with the place in
the file and in the object.  Nested values do not use Python's stack.

Mapped files
------------
Large files are mapped, not read: a storage is then a view of the mapped bytes, which are read from the disk
when they are used.  Changes go to memory, not to the file.  Storages start anywhere in a file, so such
tensors are not aligned to their element size.  PyTorch computes correctly with them and, in all that was
measured (x86, AVX-512), as fast as with others, with one exception: the product of a matrix and a vector
takes 1.2 to 3 times as long.  `mmap=False` gives aligned copies.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import mmap as memory_map
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from t7compat.errors import InputError
from t7compat.t7file.ascii import AsciiSink, AsciiSource
from t7compat.t7file.fromtorchfile import from_torchfile
from t7compat.t7file.location import MapLocation, placing
from t7compat.t7file.objects import LongStorage, LuaFunction, Storage, TorchObject
from t7compat.t7file.reader import OnUpgrade, Reader
from t7compat.t7file.sniff import recognise
from t7compat.t7file.wire import BinarySink, BinarySource, Buffer
from t7compat.t7file.writer import Writer

__all__ = [
    "LongStorage",
    "LuaFunction",
    "Reader",
    "Storage",
    "TorchObject",
    "Writer",
    "dumps",
    "from_torchfile",
    "load",
    "load_all",
    "loads",
    "save",
]

File = str | os.PathLike[str] | BinaryIO

_MAP_FROM = 16 << 20  # bytes: a smaller file is read at once, and aligned tensors are better


def load(
    path: File,
    *,
    map_location: MapLocation = None,
    mmap: bool = True,
    format: str | None = None,
    long_size: int | None = None,
    endian: str | None = None,
) -> Any:
    """The first value of a .t7 file.

    `path` may be a binary file object, too, which is read to its end.  `map_location` says where tensors
    go, as in `torch.load`; with `mmap=False` nothing of the result depends on the file any more.  `format`
    ("binary" or "ascii"), `long_size` (4 or 8) and `endian` ("little" or "big") are found from the file
    unless they are given. Raises T7FormatError if the file is not what it should be, OSError if it cannot
    be read.
    """
    values = load_all(
        path, map_location=map_location, mmap=mmap, format=format, long_size=long_size, endian=endian
    )
    return next(values)


def load_all(
    path: File,
    *,
    map_location: MapLocation = None,
    mmap: bool = True,
    format: str | None = None,
    long_size: int | None = None,
    endian: str | None = None,
    on_upgrade: OnUpgrade | None = None,
) -> Iterator[Any]:
    """All values of a .t7 file, one after the other; they may share objects.  See `load`.

    `on_upgrade(object, names)` is called where a class brought fields of an old format up to date.
    """
    _check(format=format or "binary", long_size=long_size or 8, endian=endian or "little")
    data, name = _contents(path)
    if format is None or (format == "binary" and endian is None):
        found_format, found_endian = recognise(data, name)
        format, endian = format or found_format, endian or found_endian
    source: AsciiSource | BinarySource
    if format == "ascii":
        source = AsciiSource(bytes(data), name)
    else:
        views = mmap and isinstance(data, memory_map.mmap)
        source = BinarySource(data, name, endian=endian or "little", long_size=long_size, views=views)
    reader, ended = Reader(source, placing(map_location), on_upgrade), False
    while not ended:
        with _without_collection():
            value = reader.readObject()
            ended = source.at_end()
        yield value


def loads(data: bytes | bytearray | memoryview, **options: Any) -> Any:
    """The first value of what `dumps`, or `torch.serialize` in Lua, returned; options as for `load`."""
    return load(io.BytesIO(data), **options)


def save(path: File, obj: Any, format: str = "binary", long_size: int = 8, *, endian: str = "little") -> None:
    """Write a value to a .t7 file, as Torch7 does.  An older file stays until the new one is complete.

    `obj` may hold what `load` returns, and lists, tuples, dicts and numpy arrays, which become tables and
    tensors.  Storages are written whole, and once.  Torch7 has no single numbers in tensors (they become
    vectors of one element), no sizes of 0 (such a tensor has no dimensions), no booleans (bytes) and no
    bfloat16 (float).  For what it cannot hold at all InputError is raised, which tells the place in `obj`.
    """
    if isinstance(path, str | os.PathLike):
        with _replacing(Path(path)) as file:
            save(file, obj, format, long_size, endian=endian)
    else:
        with _without_collection():
            _writer(path.write, format, long_size, endian).writeObject(obj)


def dumps(obj: Any, format: str = "binary", long_size: int = 8, *, endian: str = "little") -> bytes:
    """The bytes that `save` would write."""
    content = io.BytesIO()
    save(content, obj, format, long_size, endian=endian)
    return content.getvalue()


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Keep the garbage collector from going again and again through objects of which none can be garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _contents(path: File) -> tuple[Buffer, str]:
    """The bytes of a file, mapped or read, and its name."""
    if not isinstance(path, str | os.PathLike):
        if not hasattr(path, "read"):
            raise InputError(f"expected a path or a binary file, got {type(path).__name__}")
        parts = list(iter(lambda: path.read() or b"", b""))  # an unbuffered file may return less than all
        if any(isinstance(part, str) for part in parts):
            raise InputError("expected a file that is open in binary mode")
        return b"".join(parts), str(getattr(path, "name", ""))
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size >= _MAP_FROM:
            return memory_map.mmap(file.fileno(), 0, access=memory_map.ACCESS_COPY), str(path)
        return file.read(), str(path)


def _writer(write: Callable[[Any], Any], format: str, long_size: int, endian: str) -> Writer:
    _check(format=format, long_size=long_size, endian=endian)
    if format == "ascii":
        return Writer(AsciiSink(write))
    return Writer(BinarySink(write, endian=endian, long_size=long_size))


_CHOICES = {"format": ("binary", "ascii"), "long_size": (4, 8), "endian": ("little", "big")}


def _check(**options: Any) -> None:
    for name, value in options.items():
        if value not in _CHOICES[name]:
            raise InputError(f"{name}: expected {' or '.join(map(repr, _CHOICES[name]))}, got {value!r}")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well, and vanishes when it does not."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # a pipe or a device
        with open(target, "wb") as file:
            yield file
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder to write to", str(path))
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        new = Path(folder, target.name)
        with open(new, "wb") as file:
            yield file
        if target.exists():
            shutil.copymode(target, new)
        os.replace(new, target)
