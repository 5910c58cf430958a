"""What the operations of a forward become: functions, methods and operators of PyTorch, by their names.

A rule gets the forward and the arguments, which hold a Value for what depends on the input, a Constant for
any other tensor, and plain values; it returns a Value, or Parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from converters.back import indexing
from converters.back.forward import OPERATIONS, Constant, Forward, Operation, Parts, Value, operation
from converters.back.layers import flattened, permuted
from converters.back.planes import padding
from converters.back.setting import chain, gives_output_alone
from converters.back.states import LastOutputs, recurrent
from converters.native import FAILURES
from converters.text import Unconvertible
from t7compat import nn

tnn = torch.nn
Tensor = torch.Tensor


def converted(forward: Forward, node: fx.Node, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What an operation gives."""
    if node.op == "call_module":
        layer = forward.root.get_submodule(str(node.target))
        return of_layer(forward, layer, str(node.target), arguments, named)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    forward.operation = name if name in OPERATIONS else name.rstrip("_")
    rule = OPERATIONS.get(forward.operation)
    if rule is None:
        raise Unconvertible(f"its forward calls {name}, which has no counterpart")
    if name != "getitem":
        arguments = tuple(x.whole(forward) if isinstance(x, LastOutputs) else x for x in arguments)
    try:
        return rule(forward, *arguments, **named)
    except FAILURES as error:
        raise Unconvertible(f"its forward calls {name} in a way that is not known: {error}") from None


def of_layer(
    forward: Forward, layer: tnn.Module, name: str, arguments: tuple[Any, ...], named: dict[str, Any]
) -> Any:
    """The call of a layer inside."""
    if isinstance(layer, tnn.RNNBase) and not gives_output_alone(type(layer)):
        return recurrent(forward, layer, name, *arguments, **named)
    if named or not all(isinstance(value, Value) for value in arguments):
        raise Unconvertible(f"its forward calls {name} with more than tensors that depend on the input")
    return forward.layer(layer, *arguments, name=name)


# ---- functions that are layers

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
    "lp_pool1d": tnn.LPPool1d, "lp_pool2d": tnn.LPPool2d,
    "adaptive_avg_pool1d": tnn.AdaptiveAvgPool1d, "adaptive_avg_pool2d": tnn.AdaptiveAvgPool2d,
    "adaptive_avg_pool3d": tnn.AdaptiveAvgPool3d, "adaptive_max_pool1d": tnn.AdaptiveMaxPool1d,
    "adaptive_max_pool2d": tnn.AdaptiveMaxPool2d, "adaptive_max_pool3d": tnn.AdaptiveMaxPool3d,
    "pixel_shuffle": tnn.PixelShuffle, "interpolate": tnn.Upsample, "upsample": tnn.Upsample,
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


@operation("dropout", "dropout2d", "dropout3d")
def _dropout(
    forward: Forward, input: Value, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Value:
    """It is recorded in evaluation mode."""
    if training:
        raise Unconvertible(f"{forward.operation} drops in evaluation, too, without training=self.training")
    kinds = {"dropout2d": tnn.Dropout2d, "dropout3d": tnn.Dropout3d}
    if forward.operation not in kinds:
        return forward.apply(nn.Dropout(p), input)
    return forward.layer(kinds[forward.operation](p), input)


@operation("linear")
def _linear(forward: Forward, input: Value, weight: Any, bias: Any = None) -> Value:
    return with_parameters(
        forward, tnn.Linear, (weight.once.shape[1], weight.once.shape[0]), input, weight, bias
    )


def with_parameters(
    forward: Forward, cls: Any, arguments: tuple[Any, ...],
    input: Value, weight: Any, bias: Any, **options: Any,
) -> Value:  # fmt: skip
    """A function with a weight and a bias as the layer that has them."""
    layer = cls(*arguments, device="meta", **options)
    layer.weight = layer.bias = None
    for name, constant in (("weight", weight), ("bias", bias)):
        if constant is not None:
            if not isinstance(constant, Constant):
                raise Unconvertible(f"{forward.name}: its {name} is computed from the input")
            setattr(layer, name, tnn.Parameter(constant.once, requires_grad=False))
    return forward.layer(layer, input)


def _convolution(cls: Any) -> Operation:
    def rule(
        forward: Forward, input: Value, weight: Any, bias: Any = None,
        stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    ) -> Value:  # fmt: skip
        size = weight.once.shape
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        arguments = size[1] * groups, size[0], tuple(size[2:])
        return with_parameters(forward, cls, arguments, input, weight, bias, **options)

    return rule


for _axes, _cls in enumerate((tnn.Conv1d, tnn.Conv2d, tnn.Conv3d), 1):
    OPERATIONS[f"conv{_axes}d"] = _convolution(_cls)


def _full_convolution(cls: Any) -> Operation:
    def rule(
        forward: Forward, input: Value, weight: Any, bias: Any = None,
        stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> Value:  # fmt: skip
        size = weight.once.shape
        options = {"stride": stride, "padding": padding, "output_padding": output_padding}
        options |= {"groups": groups, "dilation": dilation}
        arguments = size[0], size[1] * groups, tuple(size[2:])
        return with_parameters(forward, cls, arguments, input, weight, bias, **options)

    return rule


for _axes, _cls in enumerate((tnn.ConvTranspose1d, tnn.ConvTranspose2d, tnn.ConvTranspose3d), 1):
    OPERATIONS[f"conv_transpose{_axes}d"] = _full_convolution(_cls)


@operation("prelu")
def _prelu(forward: Forward, input: Value, weight: Any) -> Value:
    return with_parameters(forward, tnn.PReLU, (weight.once.numel(),), input, weight, None)


@operation("layer_norm")
def _layer_norm(
    forward: Forward, input: Value, normalized_shape: Any,
    weight: Any = None, bias: Any = None, eps: float = 1e-5,
) -> Value:  # fmt: skip
    return with_parameters(forward, tnn.LayerNorm, (normalized_shape, eps), input, weight, bias)


@operation("group_norm")
def _group_norm(
    forward: Forward, input: Value, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Value:
    planes = forward.example(input).once[0].shape[1]
    return with_parameters(forward, tnn.GroupNorm, (num_groups, planes, eps), input, weight, bias)


@operation("embedding")
def _embedding(forward: Forward, input: Value, weight: Constant, padding_idx: int | None = None) -> Value:
    rows, size = weight.once.shape
    layer = tnn.Embedding(rows, size, padding_idx, device="meta")
    layer.weight = tnn.Parameter(weight.once, requires_grad=False)
    return forward.layer(layer, input)


@operation("pad")
def _pad(
    forward: Forward, input: Value, pad: Any, mode: str = "constant", value: float | None = None
) -> Value:
    setting = forward.setting.at(forward.example(input))
    return forward.apply(padding(setting, list(pad), mode, value or 0), input)


# ---- pointwise, of one tensor


_POINTWISE: dict[str, Callable[[], Any]] = {
    "abs": lambda: nn.Abs(), "exp": lambda: nn.Exp(), "log": lambda: nn.Log(), "sqrt": lambda: nn.Sqrt(),
    "square": lambda: nn.Square(), "rsqrt": lambda: nn.Power(-0.5), "reciprocal": lambda: nn.Power(-1),
    "neg": lambda: nn.MulConstant(-1), "negative": lambda: nn.MulConstant(-1),
    "contiguous": lambda: nn.Contiguous(),
}  # fmt: skip


def _pointwise(make: Callable[[], Any]) -> Operation:
    return lambda forward, input: forward.apply(make(), input)


for _name, _make in _POINTWISE.items():
    OPERATIONS[_name] = _pointwise(_make)


@operation("clone", "to", "float", "double", "half", "type_as", "cuda", "cpu", "type", "long")
def _same(forward: Forward, input: Value, *arguments: Any, **named: Any) -> Value:
    before = forward.example(input).once[0].dtype
    if before.is_floating_point != forward.once.dtype.is_floating_point:
        raise Unconvertible(f"{forward.name} makes numbers of indices, or indices of numbers")
    return input


@operation("detach")
def _detach(forward: Forward, input: Value) -> Value:
    raise Unconvertible("its forward calls detach: Torch7 has no module that stops gradients")


@operation("clamp", "clip", "clamp_min", "clamp_max")
def _clamp(forward: Forward, input: Value, min: Any = None, max: Any = None) -> Value:
    if forward.operation.startswith("clamp_max"):
        min, max = None, min
    if min is not None and max is not None:
        return forward.apply(nn.HardTanh(min, max), input)
    if min is not None:
        return forward.apply(nn.Threshold(min, min), input)
    return forward.apply(chain(nn.MulConstant(-1), nn.Threshold(-max, -max), nn.MulConstant(-1)), input)


@operation("pow")
def _power(forward: Forward, input: Value, exponent: float) -> Value:
    return forward.apply(nn.Square() if exponent == 2 else nn.Power(exponent), input)


@operation("normalize")
def _normalize(
    forward: Forward, input: Value, p: float = 2, dim: int = 1, eps: float = 1e-12, out: Any = None
) -> Value:
    if (forward.example(input).once[0].dim(), dim % forward.example(input).once[0].dim()) != (2, 1):
        raise Unconvertible("normalize is converted for matrices, along dimension 1")
    return forward.apply(nn.Normalize(p, eps**p), input)


# ---- reductions


def positions(forward: Forward, input: Value, dim: Any) -> list[int]:
    """Dimensions, counted from 1, the last one first; all of them for None."""
    rank = forward.example(input).once[0].dim()
    dims = range(rank) if dim is None else (dim,) if isinstance(dim, int) else dim
    return sorted({d % rank + 1 for d in dims}, reverse=True)


@operation("mean", "sum")
def _sum(forward: Forward, input: Value, dim: Any = None, keepdim: bool = False) -> Value:
    if dim is None:
        raise Unconvertible(f"{forward.name} over the whole batch cannot be converted")
    is_mean = forward.operation.startswith("mean")
    sums = [nn.Sum(place, None, is_mean, not keepdim) for place in positions(forward, input, dim)]
    return forward.apply(chain(*sums), input)


@operation("amax", "amin", "max", "min")
def _extreme(forward: Forward, input: Value, dim: Any = None, keepdim: bool = False) -> Any:
    if dim is None:
        raise Unconvertible(f"{forward.name} over the whole batch cannot be converted")
    if isinstance(dim, Value | Constant):
        return OPERATIONS[f"{forward.operation}imum"](forward, input, dim)
    is_max = "max" in forward.operation
    places = positions(forward, input, dim)
    modules = [(nn.Max if is_max else nn.Min)(place) for place in places]
    back = [nn.Unsqueeze(place) for place in reversed(places)] if keepdim else []
    value = forward.apply(chain(*modules, *back), input)
    if isinstance(forward.once, Tensor):
        return value
    value.once, value.twice = forward.once[0], forward.twice[0]
    return Parts((value, None))


# ---- shapes


@operation("flatten")
def _flatten(forward: Forward, input: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    setting = forward.setting.at(forward.example(input))
    return forward.apply(flattened(start_dim, end_dim, setting), input)


@operation("view", "reshape")
def _view(forward: Forward, input: Value, *size: Any) -> Value:
    given = size[0] if len(size) == 1 and isinstance(size[0], tuple | list) else size
    return indexing.viewed(forward, input, tuple(given))


@operation("squeeze")
def _squeeze(forward: Forward, input: Value, dim: int | None = None) -> Value:
    before = forward.example(input).once[0]
    if dim is None:
        raise Unconvertible("squeeze without a dimension would take a batch of one away, too")
    dim %= before.dim()
    return forward.apply(nn.Squeeze(dim + 1), input) if before.shape[dim] == 1 else input


@operation("unsqueeze")
def _unsqueeze(forward: Forward, input: Value, dim: int) -> Value:
    return forward.apply(nn.Unsqueeze(dim % (forward.example(input).once[0].dim() + 1) + 1), input)


@operation("transpose", "swapaxes", "permute", "t")
def _transpose(forward: Forward, input: Value, *dims: Any) -> Value:
    rank = forward.example(input).once[0].dim()
    if forward.operation.startswith("permute"):
        wanted = [d % rank for d in (dims[0] if isinstance(dims[0], tuple | list) else dims)]
        return forward.apply(chain(*(permuted(wanted) or [nn.Identity()])), input)
    one, other = (d % rank + 1 for d in dims or (0, 1))
    return forward.apply(nn.Transpose((one, other)), input)


@operation("expand", "expand_as")
def _expand(forward: Forward, input: Value, *size: Any) -> Value:
    if size and isinstance(size[0], Value):
        return indexing.spread(forward, input, size[0])
    return indexing.expanded(forward, input, forward.once, forward.twice)


@operation("cat", "concat", "concatenate", "stack")
def _join(forward: Forward, tensors: Any, dim: int = 0) -> Value:
    rank = forward.once.dim()
    values = [indexing.as_value(forward, value, tensors) for value in tensors]
    if forward.operation.startswith("stack"):
        values = [forward.apply(nn.Unsqueeze(dim % rank + 1), value) for value in values]
    return forward.apply(nn.JoinTable(dim % rank + 1), *values) if len(values) > 1 else values[0]


@operation("split", "chunk", "unbind", "tensor_split", "split_with_sizes")
def _split(forward: Forward, input: Value, sizes: Any = None, dim: int | None = None, **named: Any) -> Parts:
    """The sizes of the parts are those of the example."""
    is_unbind = forward.operation.startswith("unbind")
    dim = (sizes if is_unbind else dim) or 0
    dim %= forward.example(input).once[0].dim()
    if dim == 0:
        raise Unconvertible(f"{forward.name} divides the batch")
    parts, start = [], 1
    for once, twice in zip(forward.once, forward.twice, strict=True):
        length = 1 if is_unbind else once.shape[dim]
        module = nn.Select(dim + 1, start) if is_unbind else nn.Narrow(dim + 1, start, length)
        parts.append(forward.apply(module, input))
        parts[-1].once, parts[-1].twice = once, twice
        start += length
    return Parts(parts)


@operation("getitem")
def _item(forward: Forward, value: Any, index: Any) -> Any:
    if isinstance(value, Parts):
        found = value[index]
        if found is None:
            raise Unconvertible("indices of maxima, and the cells c_n of an LSTM, cannot be converted")
        return found
    if isinstance(value, LastOutputs):
        first, *rest = index if isinstance(index, tuple) else (index,)
        part = value.part(forward, first)
        return _item(forward, part, tuple(rest)) if rest else part
    if isinstance(value.once, tuple | list):
        return forward.apply(nn.SelectTable(index + 1 if index >= 0 else index), value)
    return forward.apply(indexing.item(forward, value, index), value)


@operation("getattr")
def _attribute(forward: Forward, value: Any, name: str) -> Any:
    if isinstance(value, Parts) and name == "values":
        return value[0]
    raise Unconvertible(f"its forward asks for .{name}")
