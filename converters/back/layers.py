"""The counterparts of the layers that keep or only rearrange their input, of Linear and of Embedding."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from converters import emitted
from converters.back.setting import Setting, chain, counterpart, joined
from converters.text import Unconvertible
from t7compat import nn

tnn = torch.nn


def gated(gate: Any) -> Any:
    """x * gate(x)"""
    return joined(nn.CMulTable(), nn.Identity(), gate)


def hard_sigmoid() -> Any:
    """min(max(x + 3, 0), 6) / 6"""
    return chain(nn.AddConstant(3), nn.ReLU6(), nn.MulConstant(1 / 6))


def soft_plus(layer: Any) -> Any:
    """nn.SoftPlus with a threshold, which is for its input in a forward, but for its output in a backward."""
    module = nn.SoftPlus(layer.beta)
    module.threshold = layer.threshold
    return module


def gelu(layer: Any) -> Any:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2"""
    if layer.approximate != "tanh":
        raise Unconvertible('Torch7 has no error function; GELU(approximate="tanh") can be converted')
    cubic = joined(nn.CAddTable(), nn.Identity(), chain(nn.Power(3), nn.MulConstant(0.044715)))
    return gated(
        chain(
            cubic, nn.MulConstant(math.sqrt(2 / math.pi)), nn.Tanh(), nn.AddConstant(1), nn.MulConstant(0.5)
        )
    )


# Layers that need nothing but their own fields
ELEMENTWISE: Mapping[type, Callable[[Any], Any]] = {
    tnn.Identity: lambda layer: nn.Identity(),
    emitted.First: lambda layer: nn.Identity(),  # recurrent modules of Torch7 give but their output
    # ---- transfer functions
    tnn.ReLU: lambda layer: nn.ReLU(),
    tnn.ReLU6: lambda layer: nn.ReLU6(),
    tnn.Threshold: lambda layer: nn.Threshold(layer.threshold, layer.value),
    tnn.LeakyReLU: lambda layer: nn.LeakyReLU(float(layer.negative_slope)),
    tnn.RReLU: lambda layer: nn.RReLU(layer.lower, layer.upper),
    tnn.ELU: lambda layer: nn.ELU(layer.alpha),
    tnn.CELU: lambda layer: chain(nn.MulConstant(1 / layer.alpha), nn.ELU(1), nn.MulConstant(layer.alpha)),
    tnn.SELU: lambda layer: chain(nn.ELU(1.6732632423543772), nn.MulConstant(1.0507009873554805)),
    tnn.Hardtanh: lambda layer: nn.HardTanh(layer.min_val, layer.max_val),
    tnn.Hardshrink: lambda layer: nn.HardShrink(layer.lambd),
    tnn.Softshrink: lambda layer: nn.SoftShrink(layer.lambd),
    tnn.Hardsigmoid: lambda layer: hard_sigmoid(),
    tnn.Hardswish: lambda layer: gated(hard_sigmoid()),
    tnn.Sigmoid: lambda layer: nn.Sigmoid(),
    tnn.LogSigmoid: lambda layer: nn.LogSigmoid(),
    tnn.SiLU: lambda layer: gated(nn.Sigmoid()),
    tnn.Mish: lambda layer: gated(chain(nn.SoftPlus(), nn.Tanh())),
    tnn.GELU: gelu,
    tnn.Softplus: soft_plus,
    tnn.Softsign: lambda layer: nn.SoftSign(),
    tnn.Tanh: lambda layer: nn.Tanh(),
    tnn.Tanhshrink: lambda layer: nn.TanhShrink(),
    # ---- dropout
    tnn.Dropout: lambda layer: nn.Dropout(layer.p),
    # ---- planes
    tnn.PixelShuffle: lambda layer: nn.PixelShuffle(layer.upscale_factor),
}


def _of_fields(make: Callable[[Any], Any], layer: Any, setting: Setting) -> Any:
    return make(layer)


for _kind, _make in ELEMENTWISE.items():
    counterpart.register(_kind)(functools.partial(_of_fields, _make))


# ---- along one dimension


def position(dim: int, setting: Setting) -> int:
    """A dimension as Torch7 counts it, from 1."""
    return dim + 1 if dim >= 0 else setting.rank + dim + 1


def along(dim: int | None, setting: Setting, module: Any, planes: bool = True) -> Any:
    """A function of the rows of a matrix (SoftMax and the like) along a dimension of any input.

    `planes` says that the module itself works along the second dimension of planes.
    """
    if dim is None:  # as Torch7 has it
        return module
    if setting.known_rank is None and dim == -1:
        return nn.Bottle(module)
    rank, place = setting.rank, position(dim, setting)
    if (rank, place) in ((1, 1), (2, 2)) or (planes and (rank, place) == (4, 2)):
        return module
    if rank == 1 or place == rank:
        return nn.Bottle(module)
    swap = place, rank
    return chain(nn.Transpose(swap), nn.Bottle(module), nn.Transpose(swap))


@counterpart.register
def _softmax(layer: tnn.Softmax, setting: Setting) -> Any:
    return along(layer.dim, setting, nn.SoftMax())


@counterpart.register
def _log_softmax(layer: tnn.LogSoftmax, setting: Setting) -> Any:
    return along(layer.dim, setting, nn.LogSoftMax())


@counterpart.register
def _softmin(layer: tnn.Softmin, setting: Setting) -> Any:
    return along(layer.dim, setting, nn.SoftMin())


@counterpart.register
def _softmax_of_planes(layer: tnn.Softmax2d, setting: Setting) -> Any:
    return nn.SpatialSoftMax()


@counterpart.register
def _glu(layer: tnn.GLU, setting: Setting) -> Any:
    return nn.GatedLinearUnit(None if layer.dim == -1 else position(layer.dim, setting))


@counterpart.register
def _prelu(layer: tnn.PReLU, setting: Setting) -> Any:
    planes = layer.num_parameters
    return setting.fill(nn.PReLU(planes if planes > 1 else 0), weight=layer.weight)


# ---- shapes


@counterpart.register
def _flatten(layer: tnn.Flatten, setting: Setting) -> Any:
    return flattened(layer.start_dim, layer.end_dim, setting.rank)


def flattened(start: int, end: int, rank: int) -> Any:
    """The dimensions from `start` to `end`, counted from 0, as one."""
    start, end = start % rank, end % rank
    if start == end:
        return nn.Identity()
    if (start, end) == (1, rank - 1):
        return nn.View(-1).setNumInputDims(rank - 1)
    after = [d for d in range(rank) if not start <= d <= end]
    order = [*after, *range(start, end + 1)]
    back = [*range(start), len(after), *range(start, len(after))]
    count = end - start + 1
    merged = nn.Bottle(nn.View(-1).setNumInputDims(count), count + 1, 2)
    return chain(*permuted(order), nn.Contiguous(), merged, *permuted(back))


def permuted(wanted: list[int]) -> list[Any]:
    """nn.Transpose that puts dimension wanted[i] in place i, both counted from 0, if need be."""
    order, swaps = list(range(len(wanted))), []
    for i, dim in enumerate(wanted):
        j = order.index(dim)
        if i != j:
            order[i], order[j] = order[j], order[i]
            swaps.append((i + 1, j + 1))
    return [nn.Transpose(*swaps)] if swaps else []


@counterpart.register
def _unflatten(layer: tnn.Unflatten, setting: Setting) -> Any:
    dim, rank = layer.dim, setting.rank
    if not isinstance(dim, int) or dim % rank == 0:
        raise Unconvertible("only dimensions with a number, and not that of the batch, can be divided")
    return divided(dim % rank, tuple(layer.unflattened_size), rank)


def divided(dim: int, parts: tuple[int, ...], rank: int) -> Any:
    """A dimension, counted from 0, as several."""
    divide = nn.View(*parts).setNumInputDims(1)
    if dim == rank - 1 == 1:
        return divide
    order = [*(d for d in range(rank) if d != dim), dim]
    last = rank - 1 + len(parts)
    back = [*range(dim), *range(rank - 1, last), *range(dim, rank - 1)]
    return chain(*permuted(order), nn.Contiguous(), nn.Bottle(divide, 2, len(parts) + 1), *permuted(back))


# ---- weights


@counterpart.register
def _linear(layer: tnn.Linear, setting: Setting) -> Any:
    has_bias = layer.bias is not None
    module = nn.Linear(layer.in_features, layer.out_features, has_bias)
    setting.fill(module, weight=layer.weight, bias=layer.bias)
    return module if (setting.known_rank or 0) < 3 else nn.Bottle(module)


@counterpart.register
def _bilinear(layer: tnn.Bilinear, setting: Setting) -> Any:
    sizes = layer.in1_features, layer.in2_features, layer.out_features
    module = nn.Bilinear(*sizes, layer.bias is not None)
    return setting.fill(module, weight=layer.weight, bias=layer.bias)


@counterpart.register(tnn.Embedding)
def _embedding(layer: Any, setting: Setting) -> Any:
    """Indices count from 1 in Lua: row i of PyTorch is row i + 1 there."""
    padding = 0 if layer.padding_idx is None else layer.padding_idx + 1
    module = nn.LookupTable(
        layer.num_embeddings, layer.embedding_dim, padding, layer.max_norm, layer.norm_type
    )
    if layer.scale_grad_by_freq:
        module.scaleGradByFreq()
    return setting.fill(module, weight=layer.weight)


@counterpart.register
def _bags(layer: tnn.EmbeddingBag, setting: Setting) -> Any:
    """Bags of one size: (batch, n) -> (batch, embedding_dim)"""
    is_alone = setting.example is None or len(setting.example.once) == 1
    if not is_alone or setting.known_rank == 1 or layer.padding_idx is not None:
        raise Unconvertible("it is converted for bags of one size, in a matrix, and without padding_idx")
    pool = {"sum": nn.Sum, "mean": nn.Mean, "max": nn.Max}[layer.mode]
    return chain(_embedding(layer, setting), pool(2))


# ---- of two inputs


@counterpart.register
def _distance(layer: tnn.PairwiseDistance, setting: Setting) -> Any:
    """|a + eps - b|"""
    if setting.known_rank not in (None, 2):
        raise Unconvertible("that of Torch7 is of the rows of two matrices")
    shift = nn.ParallelTable().add(nn.AddConstant(layer.eps)).add(nn.Identity())
    keep = [nn.Unsqueeze(2)] if layer.keepdim else []
    return chain(shift, nn.PairwiseDistance(layer.norm), *keep)


@counterpart.register
def _cosine(layer: tnn.CosineSimilarity, setting: Setting) -> Any:
    if (setting.known_rank or 2, layer.dim) not in ((2, 1), (2, -1)):
        raise Unconvertible("that of Torch7 is of the rows of two matrices")
    return nn.CosineDistance()


@counterpart.register
def _sequential(layer: tnn.Sequential, setting: Setting) -> Any:
    network, example = nn.Sequential(), setting.example
    for name, child in layer._modules.items():
        assert child is not None
        network.add(setting.convert(child, name, example))
        example = example and example.through(child)
    return network if len(layer) else nn.Identity()


@counterpart.register(tnn.DataParallel)
def _on_several_gpus(layer: Any, setting: Setting) -> Any:
    return setting.convert(layer.module, "module", setting.example)
