"""Views, slices, permutations and expansion of what a forward computes."""

from __future__ import annotations

from typing import Any

import torch

from converters.back import spreading
from converters.back.forward import Constant, Forward, Value
from converters.back.layers import divided, flattened
from converters.back.setting import Setting, chain, joined
from converters.text import Unconvertible
from t7compat import nn

Tensor = torch.Tensor
Size = tuple[int, ...]


def viewed(forward: Forward, input: Value, size: tuple[Any, ...]) -> Value:
    """The elements of a value in another size; which part of that is the batch, the two runs tell."""
    example = forward.example(input)
    (before,), (doubled,) = example.once, example.twice
    after, twice = forward.once.shape, forward.twice.shape
    changing = [i for i, (one, two) in enumerate(zip(after, twice, strict=True)) if one != two]
    keeps_batch = before.shape[0] == after[0] and doubled.shape[0] == twice[0]
    rest = tuple(size[1:])
    steps = [nn.Contiguous()]
    if after == before.shape and twice == doubled.shape:
        return input
    if keeps_batch and rest == (-1,):
        steps.append(nn.View(-1).setNumInputDims(before.dim() - 1))
    elif keeps_batch and before.dim() > 1:
        first, merged, parts = middle(before.shape, after)
        free = tuple(n if size[first + i] != -1 else -1 for i, n in enumerate(parts))
        if first and (made := rearranged(forward, input, first, merged, free)):
            return made
        sizes = rest if any(part == -1 for part in rest) else tuple(after[1:])
        steps.append(nn.View(*sizes).setNumInputDims(before.dim() - 1))
    elif len(changing) == 1:
        steps.append(nn.View(*(-1 if i == changing[0] else n for i, n in enumerate(after))))
        if len(after) == 1:
            steps[-1].setNumInputDims(before.dim())
    else:
        raise Unconvertible(f"{forward.name}: one dimension must be that of the batch")
    return forward.apply(chain(*steps), input)


def middle(before: Size, after: Size) -> tuple[int, Size, Size]:
    """Where two sizes begin to differ, counted from 0, and in what, up to where they are the same again."""
    first = 0
    while first < min(len(before), len(after)) and before[first] == after[first]:
        first += 1
    last = 0
    while last < min(len(before), len(after)) - first and before[-1 - last] == after[-1 - last]:
        last += 1
    return first, before[first : len(before) - last], after[first : len(after) - last]


def rearranged(forward: Forward, input: Value, first: int, merged: Size, parts: Size) -> Value | None:
    """A view that makes one dimension of several, or several of one; None if it does something else."""
    setting = forward.setting.at(forward.example(input))
    if len(parts) == 1:
        return forward.apply(flattened(first, first + len(merged) - 1, setting.rank), input)
    if len(merged) == 1:
        return forward.apply(divided(first, tuple(parts), setting.rank), input)
    return None


def item(forward: Forward, value: Value, index: Any) -> Any:
    """The module for tensor[index], with numbers, slices, None and ... in the index."""
    parts = [places_of(part) for part in (index if isinstance(index, tuple) else (index,))]
    setting = forward.setting.at(forward.example(value))
    rank = setting.rank
    if any(part is Ellipsis for part in parts):
        i = next(i for i, part in enumerate(parts) if part is Ellipsis)
        count = sum(part is not None and part is not Ellipsis for part in parts)
        parts[i : i + 1] = [slice(None)] * (rank - count)
    steps, dim = list[Any](), 1
    for part in parts:
        if part is None:
            steps.append(nn.Unsqueeze(dim))
        elif isinstance(part, int):
            steps.append(nn.Select(dim, part + 1 if part >= 0 else part))
            continue
        elif isinstance(part, slice):
            steps += narrowed(part, dim, setting, value.is_index)
        elif isinstance(part, list) and sum(isinstance(other, list) for other in parts) == 1:
            steps.append(taken(dim, part))
        else:
            raise Unconvertible(
                f"{forward.name}: only numbers, slices and one list of numbers can be an index"
            )
        dim += 1
    return chain(*(steps or [nn.Identity()]))


def places_of(part: Any) -> Any:
    """A part of an index; a constant tensor of places as a list of them."""
    is_list = isinstance(part, Constant) and part.once.dim() == 1 and part.once.dtype == torch.int64
    return part.once.tolist() if is_list else part


def narrowed(part: slice, dim: int, setting: Setting, is_index: bool) -> list[Any]:
    """nn.Narrow for a slice along a dimension, counted from 1; nothing for all of it."""
    start, stop = part.start or 0, part.stop
    if part.step not in (None, 1) or not all(isinstance(n, int | None) for n in (start, stop)):
        raise Unconvertible("slices must be whole numbers, without a step")
    if start == 0 and stop is None:
        return []
    if start >= 0:
        # a negative length of nn.Narrow is counted from the end: -1 goes up to the last one
        length = -1 if stop is None else stop - 1 if stop < 0 else stop - start
        return [nn.Narrow(dim, start + 1, length)]
    if stop is not None and stop >= 0:
        raise Unconvertible("a slice from the end to a place from the start cannot be converted")
    if is_index:  # of which nn.Select takes none
        return [nn.Narrow(dim, setting.size[dim - 1] + start + 1, (stop or 0) - start)]
    # nn.Narrow cannot count both ends from the last one
    return [taken(dim, list(range(start, stop or 0)))]


def taken(dim: int, places: list[int]) -> Any:
    """The elements along a dimension, counted from 1, at places counted from 0 or back from the end."""
    return joined(
        nn.JoinTable(dim),
        *(chain(nn.Select(dim, i + 1 if i >= 0 else i), nn.Unsqueeze(dim)) for i in places),
    )


def spread(forward: Forward, small: Value, large: Value | None) -> Value:
    """A value expanded to the size of the result, which another one may have already."""
    size = tuple(forward.once.shape)
    rank, missing = len(size), len(size) - small.once.dim()
    before = (1,) * missing + tuple(small.once.shape)
    first, last = spreading.differing(before, size)
    if large is None or missing or not (set(before[first - 1 :]) == {1} or set(before[1:last]) == {1}):
        return expanded(forward, small, forward.once, forward.twice)
    if set(before[first - 1 :]) == {1}:
        of_small, of_large = spreading.over_last(rank, first)
        factors = forward.apply(of_small, small), forward.apply(of_large, large)
    else:
        of_large, of_small = spreading.over_first(rank, last)
        factors = forward.apply(of_large, large), forward.apply(of_small, small)
    zeros = forward.apply(spreading.filled(0), large)
    return forward.apply(nn.CAddTable(), zeros, forward.apply(nn.MM(), *factors))


def expanded(forward: Forward, value: Value, once: Tensor, twice: Tensor) -> Value:
    """A value with the sizes of these tensors, where it has size 1; they are those of the example."""
    size = forward.example(value).once[0].shape
    steps: list[Any] = [nn.Unsqueeze(1)] * (once.dim() - len(size))
    before = (1,) * (once.dim() - len(size)) + tuple(size)
    for dim, (have, want) in enumerate(zip(before, once.shape, strict=True), 1):
        if have != want:
            if want != twice.shape[dim - 1]:
                raise Unconvertible(f"{forward.name} expands something over the batch")
            steps += [nn.Select(dim, 1), nn.Replicate(want, dim)]
    return forward.apply(chain(*steps), value) if steps else value


def as_value(forward: Forward, value: Any, others: Any) -> Value:
    """A value, or a constant as one, which is as large as the batch of the others."""
    if isinstance(value, Value):
        return value
    like = next((other for other in others if isinstance(other, Value)), None)
    if not isinstance(value, Constant) or like is None:
        raise Unconvertible(f"{forward.name}: expected tensors that depend on the input")
    return constant(forward, value, like)


def constant(forward: Forward, value: Constant, like: Value) -> Value:
    """nn.Constant for a tensor that is the same for all samples; `like` tells it the batch."""
    once, twice = value.once, value.twice
    if once.shape != twice.shape:
        if once.shape[0] == twice.shape[0] or not bool((once == once[:1]).all()):
            raise Unconvertible(f"{forward.name}: a tensor that is not the same for all samples")
    elif once.shape[0] != 1 or forward.example(like).once[0].shape[0] == 1:
        raise Unconvertible(f"{forward.name}: a constant must have a first dimension of size 1")
    first = once[:1]
    module = nn.Constant(torch.zeros(1), like.once.dim() - 1)
    module.value = torch.empty(once.shape[1:], dtype=module.output.dtype).copy_(first[0])
    if forward.is_trained(first):
        module.value.zero_()
        module = chain(module, forward.setting.fill(nn.CAdd(*first.shape), bias=first))
    made = forward.apply(module, like)
    made.once, made.twice = (
        run[:1].expand(batch.shape[0], *first.shape[1:])
        for run, batch in ((once, like.once), (twice, like.twice))
    )
    return made


def input_of_layer(forward: Forward, value: Any) -> Any:
    """A constant that a layer with parameters gets, as a value: the same for each sample."""
    if not isinstance(value, Constant):
        return value
    once, twice = value
    if once.shape == twice.shape and once.shape[0] != 1:
        once, twice = once[None], twice[None]
    batch = forward.values[0]
    like = [v for v in forward.values if not v.is_index and v.once.shape[0] == batch.once.shape[0]]
    if not once.is_floating_point():
        once, twice = once + 1, twice + 1
    made = constant(forward, Constant(once, twice), (like or [batch])[-1])
    if not once.is_floating_point():
        made.once, made.twice = made.once - 1, made.twice - 1
    return made
