"""A .t7 file saved again for a machine without a GPU, and without what a forward pass leaves behind."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from converters.native import FAILURES
from converters.weights import PIECE, release
from t7compat import registry
from t7compat.nested import walk
from t7compat.nn.criterion import Criterion
from t7compat.nn.luaobject import clear
from t7compat.nn.module import Module
from t7compat.t7file import save
from t7compat.t7file.objects import Storage
from t7compat.table import Table
from t7compat.tensortypes import BY_TENSOR, TENSOR_TYPES, TensorType, whole_storage

_OFTEN = 2 * PIECE  # bytes of the new file, after which memory is released
_CPU = {row.dtype: row for row in TENSOR_TYPES if row.device == "cpu"}


def resave(path: Path, root: Any, format: str) -> None:
    """Write what a file holds, with types and classes of the CPU and with empty buffers.

    The modules and tensors in `root` are changed.
    """
    tensors = []
    for value, content in walk(Table(root)):
        if isinstance(value, Module | Criterion):
            with contextlib.suppress(*FAILURES):  # its fields are not those of its class
                _cleared(value)
            _of_nn(value)
        for key, inner in content.items():
            content[key] = inner = _on_cpu(inner)
            if isinstance(inner, torch.Tensor | Storage):
                tensors.append(inner.data)
    with io.BufferedWriter(_Sparing(path, tensors)) as file:
        save(file, root, format=format)


class _Sparing(io.FileIO):
    """A new file that releases the memory of mapped tensors while it is written from them."""

    def __init__(self, path: Path, tensors: Iterable[torch.Tensor]) -> None:
        super().__init__(path, "wb")
        whole = (whole_storage(tensor) for tensor in tensors if tensor.device.type == "cpu")
        self._tensors = {tensor.data_ptr(): tensor for tensor in whole}
        self._since = 0

    def write(self, data: Any) -> int:
        """Write a part of the bytes, and tell how many, as all unbuffered files do."""
        count = super().write(memoryview(data)[:PIECE])
        self._since += count
        if self._since >= _OFTEN:
            self._since = 0
            for tensor in self._tensors.values():
                release(tensor)
        return count


def _cleared(value: Any) -> None:
    if isinstance(value, Module):
        value.clearState()
    else:
        clear(value, "gradInput")


def _of_nn(value: Any) -> None:
    """Make an object of cudnn one of the class of nn that it stands for, where that computes the same."""
    name = value.__typename__
    original = registry.lookup("nn." + name.partition(".")[2]) if name.startswith("cudnn.") else None
    if original is not None and issubclass(type(value), original) and vars(value).get("groups", 1) == 1:
        same = getattr(type(value), "compute", None) is getattr(original, "compute", None)
        if same:
            value.__class__ = original


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        if _row(value) is not None:
            del value.torch_type  # type: ignore[attr-defined]
    elif isinstance(value, Storage) and value.type.device != "cpu":
        value.type = _CPU[value.type.dtype]
    elif isinstance(value, str) and value in BY_TENSOR:
        return _CPU[BY_TENSOR[value].dtype].tensor
    return value


def _row(tensor: torch.Tensor) -> TensorType | None:
    """The tag of a tensor that came from a GPU."""
    row = getattr(tensor, "torch_type", None)
    return row if row is not None and row.device != "cpu" else None
