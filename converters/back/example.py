"""Example inputs: those that the user gives, and those that are found."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch

from converters.back.setting import Example, axes_of
from converters.text import Unconvertible

Tensor = torch.Tensor
_BATCH = 2
_REAL = 3  # guesses that are tried with real numbers
# Along each axis: common sizes first, then all small ones, for networks that end in a Linear
_SIDES = dict.fromkeys((32, 28, 64, 224, 96, 128, 227, 256, 299, 384, 512, *range(4, 80), *range(80, 300, 4)))


def example_of(network: torch.nn.Module, input: Any) -> Example | None:
    """The example for a network: that of the user, or else one that is found, or None."""
    given = guessed(network) if input is None else input
    if given is None:
        return None
    once = tuple(given) if isinstance(given, tuple | list) else (given,)
    twice = tuple(map(doubled, once))
    try:
        network(*copy.deepcopy(twice))
    except Exception:  # whatever a forward may raise: the first dimension is not that of a batch
        twice = once
        try:
            network(*copy.deepcopy(once))
        except Exception as error:
            text = str(error).strip().split("\n")[0]
            raise Unconvertible(f"the network fails for the example input: {text}") from error
    return Example(once, twice, input is not None)


def doubled(value: Any) -> Any:
    """A value with each tensor in it twice as long along its first dimension."""
    if isinstance(value, Tensor):
        return torch.cat((value, value)) if value.dim() else value
    return type(value)(map(doubled, value)) if isinstance(value, tuple | list) else value


def guessed(network: torch.nn.Module) -> Tensor | None:
    """The first input of those that suit the first layers with which the network does not fail."""
    tensors = [*network.parameters(), *network.buffers()]
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))
    sizes = list(candidates(network))
    blank = without_numbers(network, tensors)
    for size, is_index in sizes:
        with torch.device("meta"):
            suits = runs(blank, torch.zeros(size, dtype=torch.int64 if is_index else like.dtype))
        if suits:
            return drawn(size, is_index, like)
    # a forward that looks at numbers runs on real ones only
    real = (drawn(*candidate, like) for candidate in sizes[:_REAL])
    return next((given for given in real if runs(network, given.clone())), None)


def without_numbers(network: torch.nn.Module, tensors: list[Tensor]) -> torch.nn.Module:
    """A copy of a network that knows the sizes of its tensors only: it runs in no time."""
    memo: dict[int, Any] = {}
    for tensor in tensors:
        blank = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        memo[id(tensor)] = torch.nn.Parameter(blank, requires_grad=False) if is_parameter else blank
    return copy.deepcopy(network, memo)


def runs(network: torch.nn.Module, input: Tensor) -> bool:
    """Whether a network does not fail."""
    try:
        network(input)
    except Exception:  # whatever a forward may raise
        return False
    return True


def drawn(size: tuple[int, ...], is_index: bool, like: Tensor) -> Tensor:
    """Random numbers, the same each time, or the first index, on the device of a tensor."""
    if is_index:
        return torch.zeros(size, dtype=torch.int64, device=like.device)
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(like)


def candidates(network: torch.nn.Module) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Sizes of inputs, and whether these are indices, that suit the first layer with weights."""
    for layer in network.modules():
        planes = getattr(layer, "in_channels", getattr(layer, "num_features", None))
        if isinstance(layer, torch.nn.Embedding):
            yield (_BATCH, 5), True
        elif isinstance(layer, torch.nn.RNNBase):
            yield (5, _BATCH, layer.input_size), False
        elif isinstance(layer, torch.nn.Linear):
            yield (_BATCH, layer.in_features), False
        elif planes is not None and axes_of(layer):
            if isinstance(layer, torch.nn.BatchNorm1d):
                yield (_BATCH, planes), False
            yield from (((_BATCH, planes, *(side,) * axes_of(layer)), False) for side in _SIDES)
        else:
            continue
        return
