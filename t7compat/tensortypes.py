"""The one table of Torch's tensor types: name, PyTorch dtype, device.

A PyTorch tensor knows its dtype and device, and from these follows its Torch type.  The exception is a CUDA
tensor that was loaded on a machine without CUDA: it lives on the CPU and carries the name it came with
(`tag`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from t7compat.errors import InputError


class TensorType(NamedTuple):
    """One row: `torch.DoubleTensor` and `torch.DoubleStorage` have the prefix "Double"."""

    prefix: str
    dtype: torch.dtype
    device: str

    @property
    def tensor(self) -> str:
        return f"torch.{self.prefix}Tensor"

    @property
    def storage(self) -> str:
        return f"torch.{self.prefix}Storage"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are the row itself: rows are compared by identity."""
        return parse, (self.tensor,)


_NUMBERS = {
    "Byte": torch.uint8,
    "Char": torch.int8,
    "Short": torch.int16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Half": torch.float16,
    "Float": torch.float32,
    "Double": torch.float64,
}
TENSOR_TYPES = (
    *(TensorType(prefix, dtype, "cpu") for prefix, dtype in _NUMBERS.items()),
    # cutorch calls its float tensor plain CudaTensor; cltorch (OpenCL) has only that one type
    *(TensorType("Cuda" + prefix.replace("Float", ""), dtype, "cuda") for prefix, dtype in _NUMBERS.items()),
    TensorType("Cl", torch.float32, "opencl"),
)
BY_TENSOR = {row.tensor: row for row in TENSOR_TYPES}
BY_STORAGE = {row.storage: row for row in TENSOR_TYPES}
_BY_DTYPE = {(row.dtype, row.device): row for row in TENSOR_TYPES}
# dtypes that Torch7 does not have are saved as the nearest type that holds all their values
_BY_DTYPE |= {
    (dtype, device): _BY_DTYPE[nearest, device]
    for dtype, nearest in ((torch.bool, torch.uint8), (torch.bfloat16, torch.float32))
    for device in ("cpu", "cuda")
}

_default = BY_TENSOR["torch.DoubleTensor"]


def parse(name: str) -> TensorType:
    """The row of a tensor type name such as "torch.FloatTensor"."""
    try:
        return BY_TENSOR[name]
    except KeyError:
        raise InputError(f"expected a tensor type such as 'torch.FloatTensor', got {name!r}") from None


def type_of(tensor: torch.Tensor) -> TensorType:
    """The Torch type of a tensor: its tag, else what follows from dtype and device."""
    row = getattr(tensor, "torch_type", None) or _BY_DTYPE.get((tensor.dtype, tensor.device.type))
    if row is None:
        raise InputError(f"Torch7 has no tensor type for {tensor.dtype} on {tensor.device.type}")
    return row


def tag(tensor: torch.Tensor, row: TensorType) -> torch.Tensor:
    """Make `tensor` remember that it is a `row.tensor`, where its dtype and device do not say so."""
    if _BY_DTYPE.get((tensor.dtype, tensor.device.type)) is not row:
        tensor.torch_type = row  # type: ignore[attr-defined]
    return tensor


def convert(tensor: torch.Tensor, row: TensorType) -> torch.Tensor:
    """`tensor` as one of type `row`, on its device; the same tensor if it is of that type already."""
    if type_of(tensor) is row:
        return tensor
    if row.device == "cuda" and not torch.cuda.is_available():
        raise InputError(f"cannot convert to {row.tensor}: PyTorch sees no CUDA device on this machine")
    device = "cpu" if row.device == "opencl" else row.device
    return tag(tensor.detach().to(device, row.dtype, copy=True), row)


@functools.cache
def sample_of(name: str) -> torch.Tensor:
    """A tensor without elements of the type with this name; in main memory, whatever type."""
    row = parse(name)
    return tag(torch.empty(0, dtype=row.dtype), row)


def default_type() -> TensorType:
    """The type of `torch.Tensor` in Lua: torch.DoubleTensor until `setdefaulttensortype`."""
    return _default


def setdefaulttensortype(name: str) -> None:
    """Choose the type of the tensors in new modules, as `torch.setdefaulttensortype` does."""
    global _default
    row = parse(name)
    if not row.dtype.is_floating_point:
        raise InputError(f"expected a floating point type, got {name}")
    _default = row


def new_tensor(*size: float) -> torch.Tensor:
    """`torch.Tensor(size...)` of the default type, filled with zeros (Torch7 leaves the memory as it is)."""
    row = _default
    return torch.zeros(whole(size) or (0,), dtype=row.dtype, device=row.device)


def whole(size: Sequence[Any]) -> tuple[int, ...]:
    """Sizes as int, as which Python may have computed floats: 8 / 2; InputError for other values."""
    if not all(isinstance(n, int | float) and n == int(n) >= 0 for n in size):
        raise InputError(f"expected whole numbers as sizes, got {', '.join(map(repr, size))}")
    return tuple(map(int, size))


def whole_storage(tensor: torch.Tensor) -> torch.Tensor:
    """All elements of the storage under a tensor, as a 1-D tensor that shares its memory."""
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(tensor.untyped_storage())


def alias(tensor: torch.Tensor) -> torch.Tensor:
    """Another tensor object with the same memory, size and Torch type."""
    return tag(tensor.data, type_of(tensor))
