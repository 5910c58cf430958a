"""The counterparts of normalisations.  Those that Torch7 has no class for are made of others."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from converters.back import spreading
from converters.back.setting import Setting, chain, counterpart, joined, over_axes
from converters.text import Unconvertible
from t7compat import nn

tnn = torch.nn


# ---- over the batch


@counterpart.register
def _over_several_gpus(layer: tnn.SyncBatchNorm, setting: Setting) -> Any:
    return _batch(layer, max(setting.rank - 2, 1), setting)


@over_axes("BatchNorm")
def _batch(layer: Any, axes: int, setting: Setting) -> Any:
    if axes > 1:
        return over_batch(
            layer, nn.SpatialBatchNormalization if axes == 2 else nn.VolumetricBatchNormalization, setting
        )
    if setting.known_rank != 3:
        return over_batch(layer, nn.BatchNormalization, setting)
    return chain(nn.Unsqueeze(3), over_batch(layer, nn.SpatialBatchNormalization, setting), nn.Squeeze(3))


def over_batch(layer: Any, cls: Any, setting: Setting) -> Any:
    """A batch normalisation of Torch7 with the fields of one of PyTorch."""
    if layer.running_mean is None:
        raise Unconvertible("that of Torch7 has running statistics: track_running_stats must be True")
    if layer.momentum is None:
        raise Unconvertible("that of Torch7 has no cumulative average: it needs a momentum")
    module = cls(layer.num_features, layer.eps, layer.momentum, layer.affine)
    if layer.affine and layer.weight is None:
        module.weight.fill_(1)
    running = {"running_mean": layer.running_mean, "running_var": layer.running_var}
    return setting.fill(module, weight=layer.weight, bias=layer.bias, **running)


# ---- over each sample


def mean(dims: Iterable[int]) -> list[Any]:
    """The mean along dimensions, which stay, of size 1."""
    return [nn.Sum(dim, None, True, False) for dim in dims]


def normalized(statistic: Callable[[], Any], eps: float) -> list[Any]:
    """(x - mean) / sqrt(var + eps); a statistic is the mean, with as many elements as its input."""
    deviation = chain(nn.Square(), statistic(), nn.AddConstant(eps), nn.Sqrt())
    return [
        joined(nn.CSubTable(), nn.Identity(), statistic()),
        joined(nn.CDivTable(), nn.Identity(), deviation),
    ]


def of_rows(shape: tuple[int, ...]) -> Any:
    """The mean over the last dimensions, of this shape.  (batch, *shape) -> (batch, n)"""
    size = math.prod(shape)
    return chain(
        nn.View(size).setNumInputDims(len(shape)), nn.Mean(2), nn.Replicate(size, 2), nn.Contiguous()
    )


def of_planes(rank: int, *further: Any) -> Any:
    """The mean over all dimensions after the second, and what more modules make of it.

    (batch, n, ...) -> (batch, n, the number of all other elements)
    """
    small, large = spreading.over_last(rank, 3)
    return joined(nn.MM(), chain(*mean(range(rank, 2, -1)), *further, small), large)


def affine(weight: Any, bias: Any, size: tuple[int, ...], setting: Setting) -> list[Any]:
    """Times a weight, plus a bias, both expanded from this size."""
    scale = [] if weight is None else [setting.fill(nn.CMul(*size), weight=weight)]
    return scale + ([] if bias is None else [setting.fill(nn.CAdd(*size), bias=bias)])


@counterpart.register(tnn.LayerNorm)
def _layer(layer: Any, setting: Setting) -> Any:
    return over_last(layer, setting, lambda shape: normalized(functools.partial(of_rows, shape), layer.eps))


def over_last(layer: Any, setting: Setting, steps: Any) -> Any:
    """A normalisation over the last dimensions, those of `normalized_shape`."""
    shape = tuple(layer.normalized_shape)
    rank = len(shape) + 1
    parameters = affine(layer.weight, getattr(layer, "bias", None), (1, *shape), setting)
    module = chain(*steps(shape), *parameters)
    return module if setting.known_rank == rank else nn.Bottle(module, rank)


def by_root_of_squares(shape: tuple[int, ...], eps: float) -> list[Any]:
    """x / sqrt(mean(x^2) + eps)"""
    root = chain(nn.Square(), of_rows(shape), nn.AddConstant(eps), nn.Sqrt())
    return [joined(nn.CDivTable(), nn.Identity(), root)]


@counterpart.register(tnn.RMSNorm)
def _root_of_squares(layer: Any, setting: Setting) -> Any:
    eps = layer.eps
    if eps is None:
        eps = torch.finfo(layer.weight.dtype if layer.weight is not None else torch.float32).eps
    return over_last(layer, setting, lambda shape: by_root_of_squares(shape, eps))


@over_axes("InstanceNorm")
def _instance(layer: Any, axes: int, setting: Setting) -> Any:
    if layer.track_running_stats:
        if setting.memory.modes.get(id(layer), True):
            raise Unconvertible("with track_running_stats it can be converted in evaluation mode only")
        return _batch(layer, axes, setting)
    size = 1, layer.num_features, *(1,) * axes
    parameters = affine(layer.weight, layer.bias, size, setting)
    return chain(*normalized(functools.partial(of_planes, axes + 2), layer.eps), *parameters)


@counterpart.register
def _group(layer: tnn.GroupNorm, setting: Setting) -> Any:
    planes, groups, rank = layer.num_channels, layer.num_groups, setting.rank
    size = 1, planes, *(1,) * (rank - 2)

    def statistic() -> Any:
        """The mean of a group in the place of those of its planes, (batch, planes, 1, ...)."""
        of_groups = [
            nn.View(groups, planes // groups).setNumInputDims(rank - 1),
            nn.Mean(3),
            nn.Replicate(planes // groups, 3),
            nn.Contiguous(),
            nn.View(*size[1:]).setNumInputDims(2),
        ]
        return of_planes(rank, *of_groups)

    parameters = affine(layer.weight, layer.bias, size, setting)
    return chain(*normalized(statistic, layer.eps), *parameters)


@counterpart.register
def _across_planes(layer: tnn.LocalResponseNorm, setting: Setting) -> Any:
    if layer.size % 2 == 0:
        raise Unconvertible("that of Torch7 is over an odd number of planes")
    return nn.SpatialCrossMapLRN(layer.size, layer.alpha, layer.beta, layer.k)
