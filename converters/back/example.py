"""Example inputs: those that the user gives, and those that are found."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch

from converters.back.setting import Example

Tensor = torch.Tensor
_BATCH = 2
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
    return Example(once, twice, input is not None)


def doubled(value: Any) -> Any:
    """A value with each tensor in it twice as long along its first dimension."""
    if isinstance(value, Tensor):
        return torch.cat((value, value)) if value.dim() else value
    return type(value)(map(doubled, value)) if isinstance(value, tuple | list) else value


def guessed(network: torch.nn.Module) -> Tensor | None:
    """The first input of those that suit the first layers with which the network does not fail."""
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    dtype = next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), torch.float32)
    for size, is_index in candidates(network):
        kind = torch.int64 if is_index else dtype
        try:
            with torch.no_grad():
                given = torch.empty(size, dtype=kind, device="meta")
                torch.func.functional_call(network, state, (given,), strict=False)
        except Exception:  # whatever a forward may raise
            continue
        generator = torch.Generator().manual_seed(0)
        if is_index:
            return torch.zeros(size, dtype=kind)
        return torch.randn(size, dtype=torch.float64, generator=generator).to(kind)
    return None


def candidates(network: torch.nn.Module) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Sizes of inputs, and whether these are indices, that suit the first layer with weights."""
    for layer in network.modules():
        name = type(layer).__name__
        planes = getattr(layer, "in_channels", getattr(layer, "num_features", None))
        if isinstance(layer, torch.nn.Embedding):
            yield (_BATCH, 5), True
        elif isinstance(layer, torch.nn.RNNBase):
            yield (5, _BATCH, layer.input_size), False
        elif isinstance(layer, torch.nn.Linear):
            yield (_BATCH, layer.in_features), False
        elif planes is not None and name[-1:] == "d" and name[-2:-1].isdigit():
            if name == "BatchNorm1d":
                yield (_BATCH, planes), False
            yield from (((_BATCH, planes, *(side,) * int(name[-2])), False) for side in _SIDES)
        else:
            continue
        return
