"""Functions of torch.nn.functional: they are layers whose parameters are arguments."""

from __future__ import annotations

from typing import Any

import torch

from converters.back.forward import OPERATIONS, Constant, Forward, Operation, Value, operation
from converters.back.layers import along
from converters.back.planes import padding
from converters.text import Unconvertible
from t7compat import nn

tnn = torch.nn

_LAYERS: dict[str, type[tnn.Module]] = {
    "relu": tnn.ReLU, "relu6": tnn.ReLU6, "leaky_relu": tnn.LeakyReLU, "elu": tnn.ELU, "celu": tnn.CELU,
    "selu": tnn.SELU, "gelu": tnn.GELU, "silu": tnn.SiLU, "mish": tnn.Mish, "hardtanh": tnn.Hardtanh,
    "hardswish": tnn.Hardswish, "hardsigmoid": tnn.Hardsigmoid, "hardshrink": tnn.Hardshrink,
    "softshrink": tnn.Softshrink, "softplus": tnn.Softplus, "softsign": tnn.Softsign, "rrelu": tnn.RReLU,
    "tanhshrink": tnn.Tanhshrink, "logsigmoid": tnn.LogSigmoid, "sigmoid": tnn.Sigmoid, "tanh": tnn.Tanh,
    "log_sigmoid": tnn.LogSigmoid,
    "threshold": tnn.Threshold, "_threshold": tnn.Threshold, "glu": tnn.GLU,
    "softmax": tnn.Softmax, "log_softmax": tnn.LogSoftmax, "softmin": tnn.Softmin,
    "max_pool1d": tnn.MaxPool1d, "max_pool2d": tnn.MaxPool2d, "max_pool3d": tnn.MaxPool3d,
    "avg_pool1d": tnn.AvgPool1d, "avg_pool2d": tnn.AvgPool2d, "avg_pool3d": tnn.AvgPool3d,
    "lp_pool1d": tnn.LPPool1d, "lp_pool2d": tnn.LPPool2d, "lp_pool3d": tnn.LPPool3d,
    "fractional_max_pool2d": tnn.FractionalMaxPool2d, "fractional_max_pool3d": tnn.FractionalMaxPool3d,
    "adaptive_avg_pool1d": tnn.AdaptiveAvgPool1d, "adaptive_avg_pool2d": tnn.AdaptiveAvgPool2d,
    "adaptive_avg_pool3d": tnn.AdaptiveAvgPool3d, "adaptive_max_pool1d": tnn.AdaptiveMaxPool1d,
    "adaptive_max_pool2d": tnn.AdaptiveMaxPool2d, "adaptive_max_pool3d": tnn.AdaptiveMaxPool3d,
    "pixel_shuffle": tnn.PixelShuffle, "interpolate": tnn.Upsample, "upsample": tnn.Upsample,
    "upsample_bilinear": tnn.UpsamplingBilinear2d, "upsample_nearest": tnn.Upsample,
    "unflatten": tnn.Unflatten, "local_response_norm": tnn.LocalResponseNorm,
}  # fmt: skip
# Arguments that change how a function works, not what it gives
_ASIDE = ("inplace", "_stacklevel", "dtype", "recompute_scale_factor", "antialias", "training")


def _as_layer(cls: type[tnn.Module]) -> Operation:
    def rule(forward: Forward, input: Value, *arguments: Any, **named: Any) -> Value:
        wanted = {name: value for name, value in named.items() if name not in _ASIDE}
        return forward.layer(cls(*arguments, **wanted), input)

    return rule


for _name, _cls in _LAYERS.items():
    OPERATIONS[_name] = _as_layer(_cls)


# ---- dropout


@operation("dropout", "dropout1d", "dropout2d", "dropout3d")
def _dropout(
    forward: Forward, input: Value, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Value:
    """It is recorded in evaluation mode."""
    if training:
        raise Unconvertible(f"{forward.operation} drops in evaluation, too, without training=self.training")
    kinds = {"dropout1d": tnn.Dropout1d, "dropout2d": tnn.Dropout2d, "dropout3d": tnn.Dropout3d}
    return forward.layer(kinds.get(forward.operation, tnn.Dropout)(p), input)


@operation("alpha_dropout", "feature_alpha_dropout")
def _alpha_dropout(
    forward: Forward, input: Value, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Value:
    if training or forward.mode:
        raise Unconvertible(f"Torch7 has no {forward.operation}; of a network in evaluation it is left out")
    return input


# ---- with parameters


def with_parameters(layer: Any, forward: Forward, *inputs: Value, **constants: Any) -> Value:
    """A function as a layer that was made without memory, with these parameters or buffers instead."""
    for name, constant in constants.items():
        if not isinstance(constant, Constant | None):
            raise Unconvertible(f"{forward.name}: its {name} is computed from the input")
        tensor = constant and constant.once
        if tensor is not None and name in layer._parameters:
            tensor = tnn.Parameter(tensor, requires_grad=False)
        setattr(layer, name, tensor)
    return forward.layer(layer, *inputs)


@operation("linear")
def _linear(forward: Forward, input: Value, weight: Any, bias: Any = None) -> Value:
    outputs, inputs = weight.once.shape
    layer = tnn.Linear(inputs, outputs, device="meta")
    return with_parameters(layer, forward, input, weight=weight, bias=bias)


@operation("bilinear")
def _bilinear(forward: Forward, one: Value, other: Value, weight: Any, bias: Any = None) -> Value:
    outputs, first, second = weight.once.shape
    layer = tnn.Bilinear(first, second, outputs, bias is not None, device="meta")
    return with_parameters(layer, forward, one, other, weight=weight, bias=bias)


def _convolution(cls: Any) -> Operation:
    def rule(
        forward: Forward, input: Value, weight: Any, bias: Any = None,
        stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    ) -> Value:  # fmt: skip
        outputs, inputs, *sizes = weight.once.shape
        layer = cls(inputs * groups, outputs, sizes, stride, padding, dilation, groups, device="meta")
        return with_parameters(layer, forward, input, weight=weight, bias=bias)

    return rule


for _axes, _cls in enumerate((tnn.Conv1d, tnn.Conv2d, tnn.Conv3d), 1):
    OPERATIONS[f"conv{_axes}d"] = _convolution(_cls)


def _full_convolution(cls: Any) -> Operation:
    def rule(
        forward: Forward, input: Value, weight: Any, bias: Any = None,
        stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> Value:  # fmt: skip
        inputs, outputs, *sizes = weight.once.shape
        options = {"groups": groups, "dilation": dilation, "device": "meta"}
        layer = cls(inputs, outputs * groups, sizes, stride, padding, output_padding, **options)
        return with_parameters(layer, forward, input, weight=weight, bias=bias)

    return rule


for _axes, _cls in enumerate((tnn.ConvTranspose1d, tnn.ConvTranspose2d, tnn.ConvTranspose3d), 1):
    OPERATIONS[f"conv_transpose{_axes}d"] = _full_convolution(_cls)


@operation("prelu")
def _prelu(forward: Forward, input: Value, weight: Any) -> Value:
    return with_parameters(tnn.PReLU(weight.once.numel(), device="meta"), forward, input, weight=weight)


@operation("embedding")
def _embedding(
    forward: Forward, input: Value, weight: Constant, padding_idx: int | None = None,
    max_norm: float | None = None, norm_type: float = 2, scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Value:  # fmt: skip
    rows, size = weight.once.shape
    options = padding_idx, max_norm, norm_type, scale_grad_by_freq
    layer = tnn.Embedding(rows, size, *options, _weight=weight.once)
    return with_parameters(layer, forward, input, weight=weight)


@operation("embedding_bag")
def _bags(
    forward: Forward, input: Value, weight: Constant, offsets: Any = None, max_norm: float | None = None,
    norm_type: float = 2, scale_grad_by_freq: bool = False, mode: str = "mean", **named: Any,
) -> Value:  # fmt: skip
    if offsets is not None or any(named.values()):
        raise Unconvertible("embedding_bag is converted for bags of one size, without further arguments")
    rows, size = weight.once.shape
    options = max_norm, norm_type, scale_grad_by_freq
    layer = tnn.EmbeddingBag(rows, size, *options, mode=mode, _weight=weight.once)
    return with_parameters(layer, forward, input, weight=weight)


# ---- normalisations


@operation("batch_norm")
def _batch_norm(
    forward: Forward, input: Value, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Value:  # fmt: skip
    if training:
        raise Unconvertible("that of Torch7 has running statistics: batch_norm with training=self.training")
    _, planes, *sides = forward.example(input).once[0].shape
    cls: Any = (tnn.BatchNorm1d, tnn.BatchNorm1d, tnn.BatchNorm2d, tnn.BatchNorm3d)[len(sides)]
    layer = cls(planes, eps, momentum, weight is not None or bias is not None, device="meta")
    running = {"running_mean": running_mean, "running_var": running_var}
    return with_parameters(layer, forward, input, weight=weight, bias=bias, **running)


@operation("instance_norm")
def _instance_norm(
    forward: Forward, input: Value, running_mean: Any = None, running_var: Any = None, weight: Any = None,
    bias: Any = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Value:  # fmt: skip
    if not use_input_stats:
        return _batch_norm(forward, input, running_mean, running_var, weight, bias, False, momentum, eps)
    _, planes, *sides = forward.example(input).once[0].shape
    cls: Any = (tnn.InstanceNorm1d, tnn.InstanceNorm2d, tnn.InstanceNorm3d)[len(sides) - 1]
    layer = cls(planes, eps, affine=True, device="meta")
    return with_parameters(layer, forward, input, weight=weight, bias=bias)


@operation("layer_norm")
def _layer_norm(
    forward: Forward, input: Value, normalized_shape: Any,
    weight: Any = None, bias: Any = None, eps: float = 1e-5,
) -> Value:  # fmt: skip
    layer = tnn.LayerNorm(normalized_shape, eps, device="meta")
    return with_parameters(layer, forward, input, weight=weight, bias=bias)


@operation("rms_norm")
def _rms_norm(
    forward: Forward, input: Value, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Value:
    layer = tnn.RMSNorm(normalized_shape, eps or torch.finfo(forward.once.dtype).eps, device="meta")
    return with_parameters(layer, forward, input, weight=weight)


@operation("group_norm")
def _group_norm(
    forward: Forward, input: Value, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Value:
    planes = forward.example(input).once[0].shape[1]
    layer = tnn.GroupNorm(num_groups, planes, eps, device="meta")
    return with_parameters(layer, forward, input, weight=weight, bias=bias)


@operation("normalize")
def _normalize(
    forward: Forward, input: Value, p: float = 2, dim: int = 1, eps: float = 1e-12, out: Any = None
) -> Value:
    setting = forward.setting.at(forward.example(input))
    return forward.apply(along(dim, setting, nn.Normalize(p, eps**p), planes=False), input)


# ---- others


@operation("pad")
def _pad(
    forward: Forward, input: Value, pad: Any, mode: str = "constant", value: float | None = None
) -> Value:
    setting = forward.setting.at(forward.example(input))
    return forward.apply(padding(setting, list(pad), mode, value or 0), input)


@operation("one_hot")
def _one_hot(forward: Forward, input: Value, num_classes: int = -1) -> Value:
    if num_classes < 0:
        raise Unconvertible("one_hot must be told the number of classes")
    return forward.apply(nn.OneHot(num_classes), input)


@operation("pairwise_distance")
def _distance(
    forward: Forward, one: Value, other: Value, p: float = 2, eps: float = 1e-6, keepdim: bool = False
) -> Value:
    return forward.layer(tnn.PairwiseDistance(p, eps, keepdim), one, other)


@operation("cosine_similarity")
def _cosine(forward: Forward, one: Value, other: Value, dim: int = 1, eps: float = 1e-8) -> Value:
    return forward.layer(tnn.CosineSimilarity(dim, eps), one, other)
