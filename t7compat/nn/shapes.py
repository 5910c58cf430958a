"""The chores of shapes and indices, once for all classes.

Lua counts dimensions and positions from 1, negative ones from the end, and most layers take a sample or a
batch.  The functions here translate; `compute` methods may call them, so they depend on nothing but PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.table import Table, type_name

# ---- used by compute


def axis(dimension: int, dims: int, nInputDims: int | None = None) -> int:
    """PyTorch's index of Lua's `dimension` (1-based, negative from the end) of a tensor of `dims` dimensions.

    Where a layer knows the dimensions `nInputDims` of a sample, one more means a batch, which comes first.
    """
    if dimension < 0:
        return dims + dimension
    return dimension if nInputDims is not None and dims == nInputDims + 1 else dimension - 1


def position(index: int, count: int) -> int:
    """Python's index of Lua's `index` (1-based, negative from the end) among `count` elements."""
    return count + index if index < 0 else index - 1


def like(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """`x` in the shape of `other`.  Torch7's pointwise operations ask only for equal numbers of elements."""
    return x if x.shape == other.shape else x.reshape(other.shape)


def window(layer: Any, name: str) -> tuple[int, ...]:
    """The fields kT, kH, kW (for "k"; likewise d, pad, ...) that a layer has, in PyTorch's order."""
    return tuple(getattr(layer, name + letter) for letter in layer.axes)


def flattened(value: Any) -> tuple[Any, ...]:
    """The tensors of nested tuples, in depth-first order."""
    if not isinstance(value, tuple):
        return (value,)
    return tuple(leaf for entry in value for leaf in flattened(entry))


# ---- used by constructors


def sizes(*size: Any) -> tuple[int, ...]:
    """The sizes given as numbers or as one storage, tuple or list."""
    if len(size) == 1 and isinstance(size[0], Iterable):
        size = tuple(size[0])
    if not size or not all(isinstance(n, int) for n in size):
        raise InputError(f"expected sizes as whole numbers or a torch.LongStorage, got {describe(size)}")
    return size


# ---- used to refuse wrong input


def expect(input: Any, *dims: int, size: int | None = None, at: int = -1) -> None:
    """Raise InputError unless `input` has one of `dims` dimensions, and `size` elements along `at`."""
    if not isinstance(input, torch.Tensor) or input.dim() not in dims or size not in (None, input.shape[at]):
        wanted = " or ".join(f"{n}-D" for n in dims) + " tensor"
        along = f"elements in dimension {at + 1}" if at >= 0 else "columns"
        raise InputError(
            f"expected a {wanted}{'' if size is None else f' with {size} {along}'}, got {describe(input)}"
        )


def expect_table(input: Any, least: int = 1) -> None:
    """Raise InputError unless `input` is a table with at least so many entries."""
    if not isinstance(input, tuple) or len(input) < least:
        raise InputError(
            f"expected a table with {least} entr{'y' if least == 1 else 'ies'} or more, got {describe(input)}"
        )


def describe(value: Any) -> str:
    """A nested value in an error message: `torch.DoubleTensor of size 2x3`, `{number, nil}`."""
    if isinstance(value, torch.Tensor):
        size = f"of size {'x'.join(map(str, value.shape)) or '1'}" if value.numel() else "without elements"
        return f"{type_name(value)} {size}"
    if isinstance(value, Table | dict):
        return "{" + ", ".join(f"{key} = {describe(v)}" for key, v in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "{" + ", ".join(map(describe, value)) + "}"
    return type_name(value)
