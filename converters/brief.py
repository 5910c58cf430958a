"""Short forms: what a person writes for a Torch class that torch.nn does not have.

The forms of `exact` are equal for any input; those of `of_a_batch` only for a batch, as the layers of
torch.nn are.  What has neither is lifted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn as tnn

from converters import emitted_contrib, emitted_layers
from t7compat import nn
from t7compat.contrib.char_rnn import OneHot
from t7compat.contrib.fast_neural_style import InstanceNormalization
from t7compat.nn.module import Module
from t7compat.nn.shapes import zero_based

Tensor = torch.Tensor
Make = functools.partial[Any]


def exact(module: Module) -> Make | None:
    """The layer that is equal to a module for any input; None if there is no short one."""
    form = _EXACT.get(type(module))
    return form and form(module)


def state_of(module: Any) -> dict[str, Tensor]:
    """The tensors of the layer of `exact`, under the names that they have there."""
    if isinstance(module, OneHot):
        return {"kind": module.kind}
    if isinstance(module, nn.TemporalConvolution):
        weight = module.weight.view(-1, module.kW, module.inputFrameSize).transpose(1, 2)
        return {"weight": weight, "bias": module.bias}
    return module.native_state()


def of_a_batch(module: Module) -> Make | None:
    """The layer that is equal to a module for batched input; None if there is no short one."""
    form = SHORT_FOR_A_BATCH.get(type(module))
    return form and form(module)


def _index(index: int) -> int:
    """Python's index for Lua's, which may count from the end."""
    return index if index < 0 else zero_based(index)


def axis_of(dimension: int, sample: int | None = None) -> int:
    """PyTorch's index of a dimension; that of a sample with so many dimensions is counted from the end."""
    if dimension > 0 and sample is not None:
        return dimension - (sample + 1)
    return _index(dimension)


# ---- exact forms


def _joined(kind: Any) -> Callable[[Any], Make]:
    return lambda module: functools.partial(kind, dim=_index(module.dimension))


def _with_number(kind: Any) -> Callable[[Any], Make | None]:
    def form(module: Any) -> Make | None:
        number = module.constant_scalar
        return functools.partial(kind, number) if isinstance(number, int | float) else None

    return form


def _entry(module: Any) -> Make | None:
    if not isinstance(module.index, int):
        return None
    return functools.partial(emitted_layers.Entry, _index(module.index))


def _entries(module: Any) -> Make | None:
    start = zero_based(module.offset)
    if not start >= 0 < module.length:
        return None
    return functools.partial(emitted_layers.Entries, start, start + module.length)


def _embedding(module: Any) -> Make:
    rows, columns = module.weight.shape
    options: dict[str, Any] = {}
    if 0 < module.paddingValue <= rows:
        options["padding_idx"] = zero_based(module.paddingValue)
    if module.maxNorm is not None:
        options |= {"max_norm": module.maxNorm, "norm_type": module.normType or 2}
    if module.shouldScaleGradByFreq:
        options["scale_grad_by_freq"] = True
    return functools.partial(emitted_layers.OneBasedEmbedding, rows, columns, **options)


def _instance_norm(module: Any) -> Make | None:
    if module.normalizes or module.weight is None or module.bias is None:
        return None
    options = {} if module.eps == 1e-5 else {"eps": module.eps}
    return functools.partial(emitted_contrib.FixedInstanceNorm, len(module.weight), **options)


def _frames(module: Any) -> Make | None:
    if module.bias is None:
        return None
    sizes = module.inputFrameSize, module.outputFrameSize, module.kW
    return functools.partial(emitted_layers.FramesConv1d, *sizes, stride=module.dW)


_EXACT: Mapping[Any, Callable[[Any], Make | None]] = {
    nn.ConcatTable: lambda module: functools.partial(emitted_layers.Branches),
    nn.ParallelTable: lambda module: functools.partial(emitted_layers.Parallel),
    nn.Concat: _joined(emitted_layers.Concat),
    nn.DepthConcat: _joined(emitted_layers.DepthConcat),
    nn.SelectTable: _entry,
    nn.NarrowTable: _entries,
    nn.MulConstant: _with_number(emitted_layers.Scale),
    nn.AddConstant: _with_number(emitted_layers.Shift),
    nn.LookupTable: _embedding,
    OneHot: lambda module: functools.partial(emitted_layers.OneHot, module.outputSize),
    nn.TemporalConvolution: _frames,
    nn.TemporalMaxPooling: lambda module: functools.partial(
        emitted_layers.FramesMaxPool1d, module.kW, stride=module.dW
    ),
    nn.Inception: lambda module: functools.partial(emitted_layers.Batched),
    InstanceNormalization: _instance_norm,
}


# ---- forms for a batch


def _along(kind: Any) -> Callable[[Any], Make]:
    return lambda module: functools.partial(kind, axis_of(module.dimension, module.nInputDims))


def _plain(kind: Any) -> Callable[[Any], Make]:
    return lambda module: functools.partial(kind)


def _reshape(module: Any) -> Make:
    size = tuple(module.size)
    if module.batchMode is False:
        return functools.partial(emitted_layers.Reshape, *size)
    return functools.partial(emitted_layers.Reshape, -1, *size) if len(size) > 1 else _flat


def _view(module: Any) -> Make | None:
    size = tuple(int(n) for n in module.size)
    if module.numInputDims is None:
        return functools.partial(emitted_layers.Reshape, *((-1,) * (-1 not in size)), *size)
    if len(size) == 1:
        return _flat
    if -1 in size:
        return functools.partial(emitted_layers.ReshapeEach, *size)
    return functools.partial(emitted_layers.Reshape, -1, *size)


_flat = functools.partial(tnn.Flatten)


def swaps_of(module: Any) -> list[tuple[int, int]]:
    """The pairs of dimensions that nn.Transpose swaps."""
    sample = module.numInputDims
    return [(axis_of(one, sample), axis_of(other, sample)) for one, other in module.permutations]


def _transpose(module: Any) -> Make | None:
    swaps = swaps_of(module)
    return functools.partial(emitted_layers.Transpose, *swaps[0]) if len(swaps) == 1 else None


def _replicate(module: Any) -> Make:
    axis = axis_of(module.dim, None if module.ndim is None else module.ndim + 1)  # of the output
    if module.nfeatures == 1:
        return functools.partial(emitted_layers.Unsqueeze, axis)
    return functools.partial(emitted_layers.Replicate, module.nfeatures, axis)


def _sum(module: Any) -> Make:
    kind = emitted_layers.Mean if module.sizeAverage else emitted_layers.Sum
    options = {} if module.squeeze else {"keepdim": True}
    return functools.partial(kind, axis_of(module.dimension, module.nInputDims), **options)


def _squeeze(module: Any) -> Make | None:
    if not module.dim:
        return None
    return functools.partial(emitted_layers.Squeeze, axis_of(module.dim, module.numInputDims))


def _select(module: Any) -> Make:
    return functools.partial(emitted_layers.Select, axis_of(module.dimension), _index(module.index))


def _narrow(module: Any) -> Make | None:
    start = zero_based(module.index)
    if not start >= 0 < module.length:
        return None
    return functools.partial(emitted_layers.Narrow, axis_of(module.dimension), start, module.length)


def _normalize(module: Any) -> Make | None:
    options = {} if module.eps == 1e-10 else {"eps": module.eps}
    is_usual = 2 <= module.p < float("inf")
    return functools.partial(emitted_layers.Normalize, module.p, **options) if is_usual else None


SHORT_FOR_A_BATCH: Mapping[Any, Callable[[Any], Make | None]] = {
    nn.CAddTable: _plain(emitted_layers.Total),
    nn.CMulTable: _plain(emitted_layers.Product),
    nn.CSubTable: _plain(emitted_layers.Difference),
    nn.CDivTable: _plain(emitted_layers.Quotient),
    nn.DotProduct: _plain(emitted_layers.DotProduct),
    nn.JoinTable: _along(emitted_layers.Join),
    nn.SplitTable: _along(emitted_layers.Split),
    nn.Max: _along(emitted_layers.Max),
    nn.Min: _along(emitted_layers.Min),
    nn.Sum: _sum,
    nn.Mean: _sum,
    nn.Reshape: _reshape,
    nn.View: _view,
    nn.Transpose: _transpose,
    nn.Replicate: _replicate,
    nn.Squeeze: _squeeze,
    nn.Select: _select,
    nn.Narrow: _narrow,
    nn.Normalize: _normalize,
    nn.SpatialSoftMax: lambda module: functools.partial(tnn.Softmax, dim=1),
    nn.SpatialLogSoftMax: lambda module: functools.partial(tnn.LogSoftmax, dim=1),
}
