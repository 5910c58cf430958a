"""The chores of shapes and indices, once for all classes.

Lua counts dimensions and positions from 1, negative ones from the end, and most layers take a sample or a
batch.  The functions here translate; `compute` methods may call them, so they depend on nothing but PyTorch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import torch

from t7compat.errors import InputError
from t7compat.nested import type_name
from t7compat.table import Table

# ---- used by compute


def axis(dimension: int, dims: int, nInputDims: int | None = None) -> int:
    """The index from 0 of a `dimension` that counts from 1, or from -1 at the end, of a tensor of `dims`.

    Where a layer knows the dimensions `nInputDims` of a sample, one more means a batch, which comes first.
    """
    if dimension > 0 and nInputDims is not None and dims == nInputDims + 1:
        dimension += 1
    index = dims + dimension if dimension < 0 else dimension - 1
    if not 0 <= index < dims:
        raise IndexError(f"dimension {dimension} is out of the range of a {dims}-D tensor")
    return index


def position(index: int, count: int) -> int:
    """The index from 0 of one that counts from 1, or from -1 at the end, among `count` elements."""
    place = count + index if index < 0 else index - 1
    if not 0 <= place < count:
        raise IndexError(f"index {index} is out of the range of {count} elements")
    return place


def from_start(index: int, count: int) -> int:
    """The index from 0 of one that counts from 1, and not from the end, among `count` elements."""
    if not 1 <= index <= count:
        raise IndexError(f"expected an index from 1 to {count}, got {index}")
    return index - 1


def zero_based(index: Any) -> Any:
    """The index from 0 for one that counts from 1: a number, or a tensor of any type with several."""
    return index.long() - 1 if isinstance(index, torch.Tensor) else int(index) - 1


def one_based(index: torch.Tensor) -> torch.Tensor:
    """Lua's indices for PyTorch's."""
    return index + 1


def like(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """`x` in the shape of `other`, which has as many elements."""
    return x if x.shape == other.shape else x.reshape(other.shape)


def window(layer: Any, name: str) -> tuple[int, ...]:
    """The fields kT, kH, kW (for "k"; likewise d, pad, ...) that a layer has, in PyTorch's order."""
    return tuple(getattr(layer, name + letter) for letter in layer.axes)


def flattened(value: Any) -> tuple[Any, ...]:
    """The tensors of nested tuples, in depth-first order."""
    if not isinstance(value, tuple):
        return (value,)
    return tuple(leaf for entry in value for leaf in flattened(entry))


def zeros_of(value: Any) -> Any:
    """Zeros in the structure of nested tuples of tensors."""
    return tuple(map(zeros_of, value)) if isinstance(value, tuple) else torch.zeros_like(value)


def plane_axis(dims: int) -> int:
    """PyTorch's index of n in (n), (batch, n), (n, h, w) and (batch, n, h, w)."""
    return (dims + 1) % 2


def with_gradient(x: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """`x`, where a gradient g that comes back goes on as `change(g)`.

    `change` should not refer to a module, which may hold the graph that holds `change`.
    """
    if not x.requires_grad:
        return x
    inner = x.view_as(x)
    inner.register_hook(change)  # type: ignore[no-untyped-call]
    return inner.view_as(inner)  # whoever asks for the gradient at the tensor with the hook gets change(g)


def centered(x: torch.Tensor, size: Sequence[int], joined: int) -> torch.Tensor:
    """`x` with zeros around it up to `size`, except along the index `joined`; one more behind if odd."""
    missing = [0 if i == joined else n - own for i, (n, own) in enumerate(zip(size, x.shape, strict=True))]
    padding = [part for n in reversed(missing) for part in (n // 2, n - n // 2)]
    return torch.nn.functional.pad(x, padding) if any(padding) else x


def batch_of_one(sample: torch.Tensor, dimension: int = 1) -> torch.Tensor:
    """A sample as a batch; `dimension`, counted from 1, is that of the samples."""
    return sample.unsqueeze(axis(dimension, sample.dim() + 1))


# ---- used by constructors


def sizes(*size: Any) -> tuple[int, ...]:
    """The sizes given as numbers or as one storage, tuple or list."""
    if len(size) == 1 and isinstance(size[0], Iterable):
        size = tuple(size[0])
    if not size or not all(isinstance(n, int | float) and n == int(n) for n in size):
        raise InputError(f"expected sizes as whole numbers or a torch.LongStorage, got {describe(size)}")
    return tuple(map(int, size))


# ---- used to refuse wrong input

# What a computation raises for what it cannot take
FAULTS = (RuntimeError, TypeError, AttributeError, LookupError, ValueError, ArithmeticError)


def refuse(error: Exception, explain: Callable[..., None] | None = None, **given: Any) -> NoReturn:
    """Raise one of the FAULTS as an InputError that says what was given; one of our own errors as it is.

    `explain` may know better what was wrong, and raise its own InputError.
    """
    if isinstance(error, InputError | RecursionError | torch.cuda.OutOfMemoryError):
        raise error
    if explain is not None:
        try:
            explain(*given.values())
        except InputError:
            raise
        except FAULTS:
            pass  # not even the explanation can cope: the first error has to do
    values = ", ".join(f"{name}: {describe(value)}" for name, value in given.items())
    raise InputError(f"{error} ({values})") from error


def expect(
    input: Any, *dims: int, size: int | None = None, at: int = -1, like: torch.Tensor | None = None
) -> None:
    """Raise InputError unless `input` is a tensor.

    It must have one of `dims` dimensions (any, if none are given), `size` elements along the index `at`, and
    be of the type of the tensor `like`.
    """
    if (
        not isinstance(input, torch.Tensor)
        or (dims and input.dim() not in dims)
        or (size is not None and input.shape[at] != size)
        or (isinstance(like, torch.Tensor) and input.dtype != like.dtype)
    ):
        shape = (" to " if len(dims) > 2 else " or ").join(f"{n}-D" for n in dims[:1] + dims[1:][-1:])
        kind = "tensor" if like is None else type_name(like)
        along = "" if at == -1 else f" in dimension {at + 1 if at >= 0 else at}"
        count = "" if size is None else f"with {size} element{'s'[: size != 1]}{along}"
        raise InputError(f"expected a {' '.join(filter(None, (shape, kind, count)))}, got {describe(input)}")


def expect_number(name: str, value: Any) -> float:
    """The value, if it is a number; else raise InputError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name}: expected a number, got {describe(value)}")
    return value


def expect_fit(name: str, value: Any, other: torch.Tensor) -> None:
    """Raise InputError unless `value` is a tensor of the type of `other`, and of as many elements.

    Torch7's pointwise operations ask for no more; `like` makes the shapes equal.
    """
    if not isinstance(value, torch.Tensor) or value.dtype != other.dtype or value.numel() != other.numel():
        raise InputError(f"{name}: expected {describe(other)}, got {describe(value)}")


def expect_targets(target: Any, samples: int) -> None:
    """Raise InputError unless `target` is a tensor with a number for each sample, or a number for one."""
    if isinstance(target, torch.Tensor):
        expect(target, 1, size=samples)
    elif samples != 1 or not isinstance(target, int | float):
        raise InputError(f"expected a target for each of {samples} samples, got {describe(target)}")


def expect_classes(target: Any, count: int, *beside: int) -> None:
    """Raise InputError unless `target` has only classes from 1 to `count` and the numbers `beside`."""
    classes = torch.as_tensor(target).long().reshape(-1)
    wrong = (classes < 1) | (classes > count)
    for number in beside:
        wrong &= classes != number
    if wrong.any():
        raise InputError(f"expected target classes from 1 to {count}, got {classes[wrong][0].item()}")


def expect_table(input: Any, least: int = 1) -> None:
    """Raise InputError unless `input` is a table with at least so many entries."""
    if not isinstance(input, tuple) or len(input) < least:
        wanted = f" with {least} entr{'y' if least == 1 else 'ies'} or more" if least else ""
        raise InputError(f"expected a table{wanted}, got {describe(input)}")


def expect_pair(input: Any, *dims: int) -> None:
    """Raise InputError unless `input` is a table of two tensors of one type, of one of `dims` dimensions."""
    if not isinstance(input, tuple) or len(input) != 2:
        raise InputError(f"expected a table with two tensors, got {describe(input)}")
    first, second = input
    expect(first, *dims)
    expect(second, *dims, like=first)


def expect_joinable(parts: Any, dimension: int, nInputDims: int | None = None) -> None:
    """Raise InputError unless `parts` are tensors that fit together along Lua's `dimension` (see `axis`)."""
    if not parts or not all(isinstance(part, torch.Tensor) for part in parts):
        raise InputError(f"expected tensors to join, got {describe(parts)}")
    index = axis(dimension, parts[0].dim(), nInputDims)
    if len({(*part.shape[:index], *part.shape[index + 1 :]) for part in parts}) > 1:
        raise InputError(f"expected sizes that differ in dimension {dimension} only, got {describe(parts)}")


def describe(value: Any) -> str:
    """A nested value in an error message: `torch.DoubleTensor of size 2x3`, `{number, nil}`."""
    if isinstance(value, torch.Tensor):
        size = f"of size {'x'.join(map(str, value.shape)) or '1'}" if value.numel() else "without elements"
        return f"{type_name(value)} {size}"
    if isinstance(value, Table):
        value = tuple(value) if value.is_list() else dict(value.items())
    if isinstance(value, dict):
        return _listed([f"{key} = {describe(v)}" for key, v in itertools.islice(value.items(), _SHOWN + 1)])
    if isinstance(value, tuple | list):
        return _listed([describe(v) for v in value[: _SHOWN + 1]])
    return type_name(value)


_SHOWN = 6


def _listed(entries: list[str]) -> str:
    return "{" + ", ".join([*entries[:_SHOWN], *["..."][: len(entries) - _SHOWN]]) + "}"
