"""Nested values beside their gradients."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from t7compat.errors import InputError
from t7compat.nested import path_step
from t7compat.nn.shapes import describe, expect_fit, like
from t7compat.table import Table, leaves

if TYPE_CHECKING:
    from t7compat.nn.module import Module

Tensor = torch.Tensor


def slopes(
    outputs: Sequence[Tensor], seeds: Sequence[Tensor], targets: Sequence[Tensor], keeps_graph: bool = True
) -> tuple[Tensor | None, ...]:
    """What torch.autograd.grad gives; None where nothing depends on a target.

    Without its checks of the seeds, which cost as much as a small layer: they have the shapes and types of
    the outputs.
    """
    engine = torch.autograd.Variable._execution_engine  # type: ignore[attr-defined]
    found: tuple[Tensor | None, ...] = engine.run_backward(
        tuple(outputs), tuple(seeds), keeps_graph, False, tuple(targets), True, accumulate_grad=False
    )
    return found


@functools.cache
def gradient_name(name: str) -> str:
    """The field that holds the gradient of a parameter: weight -> gradWeight."""
    return "grad" + name[0].upper() + name[1:]


def gradient_of(module: Module, name: str) -> Tensor:
    """Where the gradient of a parameter accumulates; a module that lacks it, or has it empty, gets it."""
    fields, field = vars(module), gradient_name(name)
    found = fields.get(field)
    if found is None or found.numel() == 0:  # files of nn.Serial may have gradients without elements
        fields[field] = torch.zeros_like(fields[name])
    tensor: Tensor = fields[field]
    return tensor


def add_all(pairs: list[tuple[Tensor, Tensor]], scale: float) -> None:
    """target += scale * value for each pair.  Targets may share memory: each addition counts."""
    if pairs and pairs[0][0].is_cuda and len({target.data_ptr() for target, _ in pairs}) < len(pairs):
        for target, value in pairs:
            target.add_(value, alpha=scale)
    elif pairs:
        torch._foreach_add_([target for target, _ in pairs], [value for _, value in pairs], alpha=scale)


def data_of(value: Any) -> Any:
    """A tensor outside of its graph; anything else as it is."""
    return value.data if isinstance(value, Tensor) else value


def tensors(value: Any) -> list[Tensor]:
    """All tensors of a nested value, in order."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


def same(a: Any, b: Any) -> bool:
    """Whether two nested values hold the same tensors, or tensors of equal values."""
    ours, theirs = leaves(a), leaves(b)
    return len(ours) == len(theirs) and all(map(_equal, ours, theirs))


def _equal(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return type(a) is type(b) and bool(a == b)
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    return (a.data_ptr() == b.data_ptr() and a.stride() == b.stride()) or torch.equal(a, b)


Path = tuple[Any, ...]  # the name of a value and the keys of a part, as in ("gradOutput", 2, 1)


def matched(path: Path, value: Any, gradient: Any) -> Iterator[tuple[Path, Tensor, Any]]:
    """The tensors of a nested value with their paths, each with its gradient, or None where there is none."""
    if isinstance(value, Tensor):
        yield path, value, gradient
    elif isinstance(value, tuple | dict):
        table = Table() if gradient is None else Table.from_python(gradient)
        if not isinstance(table, Table):
            raise InputError(f"{written(path)}: expected {describe(value)}, got {describe(gradient)}")
        for key, part in enumerate(value, 1) if isinstance(value, tuple) else value.items():
            if isinstance(part, Tensor):
                yield (*path, key), part, table[key]
            else:
                yield from matched((*path, key), part, table[key])


def fitted(path: Path, value: Tensor, gradient: Any) -> Tensor:
    """A gradient in the shape of its tensor; InputError if it does not fit."""
    if isinstance(gradient, Tensor) and gradient.shape == value.shape and gradient.dtype == value.dtype:
        return gradient
    expect_fit(written(path), gradient, value)
    return like(gradient, value)


def written(path: Path) -> str:
    """A path as in error messages."""
    name, *keys = path
    return "".join((name, *map(path_step, keys)))


def of_type(gradient: Any, before: Any) -> Any:
    """A nested gradient whose tensors are of the types of those at the same places of `before`."""
    if isinstance(gradient, Table) and isinstance(before, Table):
        return Table.from_items((key, of_type(value, before[key])) for key, value in gradient.items())
    if isinstance(gradient, Tensor) and isinstance(before, Tensor):
        return gradient.to(before)
    return before if gradient is None else gradient
