"""Functions and methods of PyTorch that rearrange, repeat or take elements."""

from __future__ import annotations

from typing import Any

import torch

from converters.back import indexing
from converters.back.forward import Constant, Forward, Value, operation
from converters.back.layers import flattened, permuted
from converters.back.planes import ring
from converters.back.setting import chain
from converters.text import Unconvertible
from t7compat import nn

Dims = int | tuple[int, ...] | list[int]


def rank_of(forward: Forward, input: Value) -> int:
    """How many dimensions a value has."""
    rank: int = forward.example(input).once[0].dim()
    return rank


def several(numbers: Dims) -> list[int]:
    """One number, or several, as a list."""
    return [numbers] if isinstance(numbers, int) else list(numbers)


def rearranged(forward: Forward, input: Value, wanted: list[int]) -> Value:
    """A value whose dimension i is the dimension wanted[i] of another one."""
    return forward.apply(chain(*(permuted(wanted) or [nn.Identity()])), input)


# ---- another size


@operation("flatten")
def _flatten(forward: Forward, input: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    return forward.apply(flattened(start_dim, end_dim, rank_of(forward, input)), input)


@operation("view", "reshape")
def _view(forward: Forward, input: Value, *size: Any) -> Value:
    given = size[0] if len(size) == 1 and isinstance(size[0], tuple | list) else size
    return indexing.viewed(forward, input, tuple(given))


@operation("view_as", "reshape_as")
def _view_as(forward: Forward, input: Value, other: Any) -> Value:
    return indexing.viewed(forward, input, tuple(other.once.shape))


@operation("squeeze")
def _squeeze(forward: Forward, input: Value, dim: Any = None) -> Value:
    before = forward.example(input).once[0]
    if dim is None:
        raise Unconvertible("squeeze without a dimension would take a batch of one away, too")
    places = sorted({d % before.dim() for d in several(dim)}, reverse=True)
    steps = [nn.Squeeze(place + 1) for place in places if before.shape[place] == 1]
    return forward.apply(chain(*steps), input) if steps else input


@operation("unsqueeze")
def _unsqueeze(forward: Forward, input: Value, dim: int) -> Value:
    return forward.apply(nn.Unsqueeze(dim % (rank_of(forward, input) + 1) + 1), input)


# ---- another order


@operation("transpose", "swapaxes", "swapdims", "t")
def _transpose(forward: Forward, input: Value, dim0: int = 0, dim1: int = 1) -> Value:
    rank = rank_of(forward, input)
    return forward.apply(nn.Transpose((dim0 % rank + 1, dim1 % rank + 1)), input)


@operation("permute")
def _permute(forward: Forward, input: Value, *dims: Any) -> Value:
    rank = rank_of(forward, input)
    given = dims[0] if isinstance(dims[0], tuple | list) else dims
    return rearranged(forward, input, [dim % rank for dim in given])


@operation("movedim", "moveaxis")
def _move(forward: Forward, input: Value, source: Dims, destination: Dims) -> Value:
    rank = rank_of(forward, input)
    sources, places = ([dim % rank for dim in several(dims)] for dims in (source, destination))
    rest = iter(dim for dim in range(rank) if dim not in sources)
    wanted = [sources[places.index(i)] if i in places else next(rest) for i in range(rank)]
    return rearranged(forward, input, wanted)


@operation("flip")
def _flip(forward: Forward, input: Value, *dims: Any) -> Value:
    """nn.SeqReverseSequence works along the first three dimensions."""
    rank, steps = rank_of(forward, input), list[Any]()
    for dim in several(dims[0]) if isinstance(dims[0], tuple | list) else dims:
        place = dim % rank + 1
        if input.once.shape[place - 1] != input.twice.shape[place - 1]:
            raise Unconvertible(f"{forward.name} turns the batch round")
        around = [nn.Transpose((place, 2))] if place > 3 else []
        reverse = nn.SeqReverseSequence(2 if around else place)
        steps += [*around, reverse, *[module.clone() for module in around]]
    return forward.apply(chain(*steps), input)


@operation("roll")
def _roll(forward: Forward, input: Value, shifts: Dims, dims: Dims) -> Value:
    """A ring has the elements that come round at both ends: those of one end are too many."""
    rank, steps = rank_of(forward, input), list[Any]()
    for shift, dim in zip(several(shifts), several(dims), strict=True):
        place = dim % rank + 1
        if shift > 0:
            steps += [ring(shift, 0, place), nn.Narrow(place, 1, -shift - 1)]
        elif shift < 0:
            steps += [ring(0, -shift, place), nn.Narrow(place, 1 - shift, -1)]
    return forward.apply(chain(*steps), input) if steps else input


# ---- repeated


@operation("expand", "expand_as", "broadcast_to")
def _expand(forward: Forward, input: Value, *size: Any) -> Value:
    if size and isinstance(size[0], Value):
        return indexing.spread(forward, input, size[0])
    return indexing.expanded(forward, input, forward.once, forward.twice)


@operation("repeat", "tile")
def _repeat(forward: Forward, input: Value, *counts: Any) -> Value:
    given = several(counts[0]) if isinstance(counts[0], tuple | list) else list(counts)
    rank = rank_of(forward, input)
    given = [1] * (rank - len(given)) + given
    steps: list[Any] = [nn.Unsqueeze(1)] * (len(given) - rank)
    if given[0] != 1:
        raise Unconvertible(f"{forward.name} repeats the batch")
    for place, count in enumerate(given, 1):
        if count != 1:
            copies = nn.Concat(place)
            for _ in range(count):
                copies.add(nn.Identity())
            steps.append(copies)
    return forward.apply(chain(*steps), input) if steps else input


@operation("repeat_interleave")
def _repeat_each(forward: Forward, input: Value, repeats: int, dim: int) -> Value:
    rank = rank_of(forward, input)
    place = dim % rank
    if place == 0:
        raise Unconvertible(f"{forward.name} repeats the batch")
    several_times = nn.Replicate(repeats, place + 2)
    return forward.apply(chain(several_times, nn.Contiguous(), flattened(place, place + 1, rank + 1)), input)


# ---- taken


@operation("narrow")
def _narrow(forward: Forward, input: Value, dim: int, start: int, length: int) -> Value:
    return forward.apply(nn.Narrow(dim % rank_of(forward, input) + 1, start + 1, length), input)


@operation("select")
def _select(forward: Forward, input: Value, dim: int, index: int) -> Value:
    place = dim % rank_of(forward, input) + 1
    return forward.apply(nn.Select(place, index + 1 if index >= 0 else index), input)


@operation("index_select")
def _index(forward: Forward, input: Value, dim: int, index: Any) -> Value:
    if not isinstance(index, Constant) or not torch.equal(index.once, index.twice):
        raise Unconvertible(f"{forward.name}: an index that depends on the input")
    place = dim % rank_of(forward, input) + 1
    return forward.apply(indexing.taken(place, index.once.tolist()), input)
