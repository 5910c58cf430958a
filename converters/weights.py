"""Writing weights: .safetensors, .npz, and PyTorch's own files.

The package safetensors is not used for it: it refuses tensors that share memory, as those of a flattened
network do, and holds everything in memory once more.  Here each tensor goes from where it lies to the file,
a piece at a time, so that a mapped .t7 file that is larger than the memory can be converted.
"""

from __future__ import annotations

import collections
import ctypes
import io
import json
import mmap
import pickle
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from t7compat.tensortypes import TENSOR_TYPES

PIECE = 16 * 2**20  # bytes that are written at a time
_PAGE_OUT = 21  # MADV_PAGEOUT of Linux
_ALIGNED = 64  # where elements in an archive begin, as torch.save has it: torch.load(mmap=True) gives views
_ENTRY = 30 + 20 + 4  # bytes before an entry of a zip file besides its name: header, sizes of 64 bits, filler
_STORAGES = {row.dtype: getattr(torch, f"{row.prefix}Storage") for row in TENSOR_TYPES if row.device == "cpu"}

Tensors = Mapping[str, torch.Tensor]
Place = tuple[Any, ...]


def place_of(tensor: torch.Tensor) -> Place:
    """What two tensors have in common if they are the same memory, seen in the same way."""
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def write_safetensors(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors of any layout and of Torch's types to a new file, and texts to its `__metadata__`."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _code(tensor.dtype),
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb", buffering=0) as file:
        _write(file, len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            for piece in _bytes_of(tensor):
                _write(file, piece)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write tensors, numbers and strings, each as an array, to a file for numpy.load; nothing is pickled."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            tensor = value if isinstance(value, torch.Tensor) else None
            head = io.BytesIO()
            if tensor is None:
                np.lib.format.write_array(head, np.asarray(value), allow_pickle=False)
            else:
                dtype = np.lib.format.dtype_to_descr(torch.empty(0, dtype=tensor.dtype).numpy().dtype)
                form = {"descr": dtype, "fortran_order": False, "shape": tuple(tensor.shape)}
                np.lib.format.write_array_header_1_0(head, form)
            _add(archive, f"{name}.npy", head.getvalue(), tensor)


# ---- PyTorch's own files


class _Numbers(NamedTuple):
    """The entry of an archive that holds the elements of a tensor, as torch.load expects to be told of it."""

    what: str
    kind: Any
    key: str
    device: str
    length: int


class _Pickler(pickle.Pickler):
    """Pickles tensors as torch.save does, and leaves their elements, once for each place, to be written."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.tensors: dict[Place, tuple[str, torch.Tensor]] = {}

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return NotImplemented
        key, _ = self.tensors.setdefault(place_of(value), (str(len(self.tensors)), value))
        numbers = _Numbers("storage", _STORAGES[value.dtype], key, "cpu", value.numel())
        stride = torch.empty(value.shape, device="meta").stride()
        hooks: dict[str, Any] = collections.OrderedDict()
        return torch._utils._rebuild_tensor_v2, (numbers, 0, tuple(value.shape), stride, False, hooks)

    def persistent_id(self, value: Any) -> Any:
        return tuple(value) if isinstance(value, _Numbers) else None


def write_state_dict(path: Path, tensors: Tensors) -> None:
    """Write a state dict for torch.load(weights_only=True); tensors that are the same stay the same.

    torch.save would take storages whole, from which the weights of a network may be a small part, and have
    all of them in memory at the end.
    """
    index = io.BytesIO()
    pickler = _Pickler(index)
    pickler.dump(dict(tensors))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "archive/data.pkl", index.getvalue())
        _add(archive, "archive/byteorder", sys.byteorder.encode())
        for key, tensor in pickler.tensors.values():
            _add(archive, f"archive/data/{key}", b"", tensor)
        _add(archive, "archive/version", b"3\n")


# ---- bytes


def _add(archive: zipfile.ZipFile, name: str, head: bytes, tensor: torch.Tensor | None = None) -> None:
    """Add an entry: bytes, and after them the elements of a tensor."""
    entry = zipfile.ZipInfo(name)
    assert archive.fp is not None
    start = archive.fp.tell() + _ENTRY + len(entry.filename.encode())
    length = -start % _ALIGNED
    entry.extra = b"FB" + length.to_bytes(2, "little") + bytes(length)
    with archive.open(entry, "w", force_zip64=True) as file:
        file.write(head)
        for piece in () if tensor is None else _bytes_of(tensor):
            file.write(piece)


def _bytes_of(tensor: torch.Tensor) -> Iterator[memoryview]:
    """The elements of a tensor in their order, piece by piece; those of a mapped one are released again."""
    for piece in _pieces(tensor.detach().cpu()) if tensor.numel() else ():
        yield piece.numpy().data.cast("B")
        release(piece)


def _pieces(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The elements of a tensor in their order, as short 1-D tensors: views where that is possible."""
    if tensor.is_contiguous():
        yield from tensor.view(-1).split(max(1, PIECE // tensor.element_size()))  # type: ignore[no-untyped-call]
    elif tensor.nbytes <= PIECE:
        yield tensor.reshape(-1)
    else:
        for part in tensor:
            yield from _pieces(part)


def _write(file: Any, data: Any) -> None:
    """Write all of it: an unbuffered file may take less at a time."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def release(tensor: torch.Tensor) -> None:
    """Let the system take back the memory of a mapped tensor that was read; its content stays what it is.

    It would do so by itself, but only when memory gets short.
    """
    if sys.platform == "linux" and tensor.nbytes >= mmap.PAGESIZE:
        start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        length = tensor.data_ptr() + tensor.nbytes - start
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(max(0, length)), _PAGE_OUT)


def _code(dtype: torch.dtype) -> str:
    kind = "F" if dtype.is_floating_point else "I" if dtype.is_signed else "U"
    return f"{kind}{dtype.itemsize * 8}"
