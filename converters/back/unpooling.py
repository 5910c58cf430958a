"""Poolings that tell where their maxima were, and unpoolings: pairs of modules in Torch7."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch

from converters.back.forward import Forward, Parts, Value, operation
from converters.text import Unconvertible
from t7compat import nn

_UNPOOLINGS = {
    nn.SpatialMaxPooling: nn.SpatialMaxUnpooling,
    nn.VolumetricMaxPooling: nn.VolumetricMaxUnpooling,
}


class Places(NamedTuple):
    """Where the maxima of a pooling are: its module knows."""

    pooling: Any
    pooled: Value


def pooled(forward: Forward, layer: Any, name: str, input: Value) -> Parts:
    """What a MaxPool with return_indices gives."""
    layer = copy.copy(layer)
    layer.return_indices = False
    output = forward.layer(layer, input, name=name)
    output.once, output.twice = forward.once[0], forward.twice[0]
    return Parts((output, Places(output.module, input)))


def unpooled(forward: Forward, input: Value, places: Any, output_size: Any = None) -> Value:
    """What a MaxUnpool gives, of the size of what was pooled."""
    if not isinstance(places, Places):
        raise Unconvertible("the indices for an unpooling must be those of a MaxPool in the same forward")
    cls = _UNPOOLINGS.get(type(places.pooling))
    if cls is None:
        raise Unconvertible("unpooling of Torch7 is of planes and volumes, without dilation")
    if forward.once.shape[2:] != places.pooled.once.shape[2:]:
        raise Unconvertible("unpooling of Torch7 gives the size of what was pooled: output_size=x.size()")
    return forward.apply(cls(places.pooling), input)


@operation("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices")
def _pool(forward: Forward, input: Value, *arguments: Any, return_indices: bool, **named: Any) -> Parts:
    cls = getattr(torch.nn, f"MaxPool{forward.operation[8]}d")
    return pooled(forward, cls(*arguments, **named), "", input)


@operation("max_unpool1d", "max_unpool2d", "max_unpool3d")
def _unpool(
    forward: Forward, input: Value, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Value:  # fmt: skip
    return unpooled(forward, input, indices, output_size)
