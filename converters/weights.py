"""Writing weights: .safetensors, .npz, and PyTorch's own files.

The package safetensors is not used for it: it refuses tensors that share memory, as those of a flattened
network do, and holds everything in memory once more.  Here each tensor goes from where it lies to the file,
a piece at a time, so that a mapped .t7 file that is larger than the memory can be converted.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

_PIECE = 16 * 2**20  # bytes that are written at a time
_PAGE_OUT = 21  # MADV_PAGEOUT of Linux

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
            for piece in _pieces(tensor.detach().cpu()):
                _write(file, piece.numpy().data.cast("B"))
                _release(piece)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write tensors, numbers and strings, each as an array, to a file for numpy.load; nothing is pickled."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
            if isinstance(value, torch.Tensor) and value.is_contiguous():
                _release(value)


def write_state_dict(path: Path, tensors: Tensors) -> None:
    """Write a state dict for torch.load(weights_only=True); tensors that are the same stay the same."""
    torch.save(_compact(tensors), path)


def _compact(tensors: Tensors) -> dict[str, torch.Tensor]:
    """The tensors without Torch's tags; those that are a part of memory which is not saved are copied.

    torch.save writes storages whole, and one may hold more than the weights of this network.
    """
    used: dict[int, dict[Place, torch.Tensor]] = defaultdict(dict)
    for tensor in tensors.values():
        used[tensor.untyped_storage().data_ptr()].setdefault(place_of(tensor), tensor.detach())
    for views in used.values():
        (storage, *_) = (tensor.untyped_storage() for tensor in views.values())
        if sum(tensor.nbytes for tensor in views.values()) < storage.nbytes():
            views.update({place: tensor.clone() for place, tensor in views.items()})
    return {
        name: used[tensor.untyped_storage().data_ptr()][place_of(tensor)] for name, tensor in tensors.items()
    }


def _pieces(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The elements of a tensor in their order, as short 1-D tensors: views where that is possible."""
    if tensor.is_contiguous():
        yield from tensor.view(-1).split(max(1, _PIECE // tensor.element_size()))  # type: ignore[no-untyped-call]
    elif tensor.nbytes <= _PIECE:
        yield tensor.reshape(-1)
    else:
        for part in tensor:
            yield from _pieces(part)


def _write(file: Any, data: Any) -> None:
    """Write all of it: an unbuffered file may take less at a time."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _release(tensor: torch.Tensor) -> None:
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
