"""Sums, products and the like of what a forward computes, of numbers, parameters and constants."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from converters.back import indexing
from converters.back.forward import Constant, Forward, OfBatch, Value, operation
from converters.back.setting import chain
from converters.text import Unconvertible
from t7compat import nn

Tensor = torch.Tensor


def pair(forward: Forward, one: Any, other: Any) -> list[Value]:
    """Two operands as values of the size of the result; Torch7's modules do not expand by themselves."""
    rank = forward.once.dim()
    one, other = (of_rank(value, rank) for value in (one, other))
    values = [indexing.as_value(forward, value, (one, other)) for value in (one, other)]
    for i in (0, 1):
        if values[i].once.shape != forward.once.shape:
            large = values[1 - i] if values[1 - i].once.shape == forward.once.shape else None
            values[i] = indexing.spread(forward, values[i], large)
    return values


def of_rank(value: Any, rank: int) -> Any:
    """A constant with dimensions of size 1 before its own; anything else as it is."""
    if not isinstance(value, Constant):
        return value
    return Constant(*(run.reshape((1,) * (rank - run.dim()) + tuple(run.shape)) for run in value))


def number(value: Any) -> float | None:
    """A plain number, or that in a tensor of one that is no parameter; None for anything else."""
    if isinstance(value, OfBatch):
        raise Unconvertible("its forward computes with the size of the batch")
    if isinstance(value, int | float):
        return value
    is_one = isinstance(value, Constant) and value.once.numel() == 1 and value.once.dim() == 0
    return value.once.item() if is_one and not isinstance(value.once, torch.nn.Parameter) else None


def parameter(forward: Forward, value: Any, like: Value, name: str) -> Value | None:
    """A CMul or CAdd that has this parameter, for another operand; None if it is none, or is larger."""
    if not isinstance(value, Constant) or not isinstance(value.once, torch.nn.Parameter):
        return None
    if like.once.shape != forward.once.shape:
        return None
    if value.once.dim() == forward.once.dim() and value.once.shape[0] != 1:
        raise Unconvertible(f"{forward.name}: a parameter over the batch")
    size = (1,) * (forward.once.dim() - value.once.dim()) + tuple(value.once.shape)
    field = {"CMul": "weight", "CAdd": "bias"}[name]
    module = getattr(nn, name)(*size)
    return forward.apply(forward.setting.fill(module, **{field: value.once}), like)


class _Commutative(NamedTuple):
    """What an operation becomes: with a number, of a value with itself, with a parameter, of two values."""

    with_number: Callable[[float], Any]
    with_itself: Callable[[], Any]
    with_parameter: str
    of_two: Callable[[], Any]


_SUM = _Commutative(nn.AddConstant, functools.partial(nn.MulConstant, 2), "CAdd", nn.CAddTable)
_PRODUCT = _Commutative(nn.MulConstant, nn.Square, "CMul", nn.CMulTable)


def _in_either_order(forward: Forward, one: Any, other: Any, operation: _Commutative) -> Value:
    if not isinstance(one, Value):
        one, other = other, one
    c = number(other)
    if c is not None:
        return forward.apply(operation.with_number(c), one)
    if one is other:
        return forward.apply(operation.with_itself(), one)
    found = parameter(forward, other, one, operation.with_parameter)
    return found or forward.apply(operation.of_two(), *pair(forward, one, other))


@operation("add", "iadd")
def _add(forward: Forward, one: Any, other: Any, alpha: float = 1) -> Value:
    if alpha != 1:
        return _add(forward, one, _multiply_plain(forward, other, alpha))
    return _in_either_order(forward, one, other, _SUM)


def _multiply_plain(forward: Forward, value: Any, factor: float) -> Any:
    if not isinstance(value, Value):
        raise Unconvertible(f"{forward.name}: alpha can be converted for what depends on the input")
    made = forward.apply(nn.MulConstant(factor), value)
    made.once, made.twice = value.once, value.twice
    return made


@operation("sub", "isub", "subtract", "rsub")
def _subtract(forward: Forward, one: Any, other: Any, alpha: float = 1) -> Value:
    if forward.operation.startswith("rsub"):
        one, other = other, one
    if alpha != 1:
        other = _multiply_plain(forward, other, alpha)
    c, d = number(other), number(one)
    if c is not None:
        return forward.apply(nn.AddConstant(-c), one)
    if d is not None:
        return forward.apply(chain(nn.MulConstant(-1), nn.AddConstant(d)), other)
    return forward.apply(nn.CSubTable(), *pair(forward, one, other))


@operation("mul", "imul", "multiply")
def _multiply(forward: Forward, one: Any, other: Any) -> Value:
    return _in_either_order(forward, one, other, _PRODUCT)


@operation("truediv", "itruediv", "div", "divide", "true_divide")
def _divide(forward: Forward, one: Any, other: Any) -> Value:
    c, d = number(other), number(one)
    if c is not None:
        return forward.apply(nn.MulConstant(1 / c), one)
    if d is not None:
        return forward.apply(chain(nn.Power(-1), nn.MulConstant(d)), other)
    return forward.apply(nn.CDivTable(), *pair(forward, one, other))


@operation("maximum", "minimum")
def _greatest(forward: Forward, one: Any, other: Any) -> Value:
    module = nn.CMaxTable() if "max" in forward.operation else nn.CMinTable()
    return forward.apply(module, *pair(forward, one, other))


@operation("masked")
def _with_mask(forward: Forward, scores: Value, mask: Any, hides: bool) -> Value:
    if not isinstance(mask, Constant):
        raise Unconvertible("a mask that depends on the input cannot be converted")
    if mask.once.dtype != torch.bool:
        return _add(forward, scores, mask)
    return _masked(forward, scores, mask if hides else Constant(~mask.once, ~mask.twice), -torch.inf)


@operation("masked_fill")
def _masked(forward: Forward, input: Value, mask: Any, value: float) -> Value:
    """x * (1 - mask) + mask * value, for a mask that does not depend on the input."""
    if not isinstance(mask, Constant):
        raise Unconvertible("masked_fill with a mask that depends on the input cannot be converted")
    dtype = input.once.dtype

    def over(run: Any, of_others: float, of_masked: float) -> Any:
        shape = (1,) * (input.once.dim() - run.dim()) + tuple(run.shape)
        return torch.where(run.bool(), of_masked, of_others).to(dtype).reshape(shape)

    keep, fill = (Constant(*(over(run, *of) for run in mask)) for of in ((1.0, 0.0), (0.0, value)))
    kept = forward.apply(nn.CMulTable(), *pair(forward, input, keep))
    kept.once, kept.twice = forward.once, forward.twice
    return forward.apply(nn.CAddTable(), *pair(forward, kept, fill))


@operation("matmul", "bmm", "mm")
def _matrices(forward: Forward, one: Any, other: Any) -> Value:
    if isinstance(other, Constant) and other.once.dim() == 2 and isinstance(one, Value):
        return _times_constant(forward, one, other)
    if isinstance(one, Constant) and one.once.dim() == 2 and isinstance(other, Value):
        turned = _turned(forward, other, other.once, other.twice)
        transposed = Constant(one.once.t(), one.twice.t())
        product = _times_constant(forward, turned, transposed)
        return _turned(forward, product, forward.once.mT, forward.twice.mT)
    if not isinstance(one, Value) or not isinstance(other, Value):
        raise Unconvertible(f"{forward.name}: a constant must be a matrix")
    rank = one.once.dim()
    if rank != other.once.dim() or one.once.shape[:-2] != other.once.shape[:-2]:
        raise Unconvertible(f"{forward.name}: only matrices of one batch can be multiplied")
    if rank == 2:
        raise Unconvertible(f"{forward.name}: a product over the batch cannot be converted")
    return forward.apply(products(rank), one, other)


def _times_constant(forward: Forward, value: Value, matrix: Constant) -> Value:
    """A Linear if the matrix is trained, or if it cannot be an nn.Constant for each sample."""
    if (
        value.once.dim() == 3
        and not isinstance(matrix.once, torch.nn.Parameter)
        and not forward.is_trained(matrix.once)
    ):
        each = Constant(matrix.once[None], matrix.twice[None])
        return forward.apply(nn.MM(), value, indexing.constant(forward, each, value))
    inputs, outputs = matrix.once.shape
    layer = torch.nn.Linear(inputs, outputs, bias=False, device="meta")
    layer.weight = torch.nn.Parameter(matrix.once.t(), requires_grad=False)
    return forward.layer(layer, value)


def _turned(forward: Forward, value: Value, once: Tensor, twice: Tensor) -> Value:
    """A value, which is or will be these tensors, with its last two dimensions swapped."""
    rank = once.dim()
    made = forward.apply(nn.Transpose((rank - 1, rank)), value)
    made.once, made.twice = once.mT, twice.mT
    return made


def products(rank: int) -> Any:
    """The products of matrices in two tensors of this many dimensions, of any size.

    nn.MM takes three dimensions: of more, it is done for each element of the second one.
    """
    if rank == 3:
        return nn.MM()
    elements = nn.ParallelTable().add(nn.SplitTable(2)).add(nn.SplitTable(2))
    # nn.Unsqueeze takes a contiguous gradient only, which those of nn.JoinTable are not
    each = chain(products(rank - 1), nn.Unsqueeze(2), nn.Contiguous())
    return chain(elements, nn.ZipTable(), nn.MapTable(each), nn.JoinTable(2))
