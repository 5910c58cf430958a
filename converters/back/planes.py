"""The counterparts of convolutions, poolings, paddings and upsampling, over one, two or three axes.

Torch7 has most of them for planes and volumes only: over one axis, a row is a plane of height 1.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from converters.back.setting import Setting, chain, counterpart, name_of, over_axes
from converters.text import Unconvertible
from t7compat import nn
from t7compat.tensortypes import new_tensor

tnn = torch.nn
Sizes = tuple[int, ...]


def sizes(value: Any, axes: int, of_one: int) -> Sizes:
    """A size for each axis in the order of Lua's arguments: W H, or T W H.

    `of_one` is the size along the height that a row gets.
    """
    each = (value,) * axes if isinstance(value, int) else tuple(value)
    *before, height, width = each if axes > 1 else (of_one, *each)
    return (*before, width, height)


def over_rows(axes: int, *modules: Any) -> Any:
    """Modules for planes, which get rows as planes of height 1 if there is but one axis."""
    return chain(nn.Unsqueeze(3), *modules, nn.Squeeze(3)) if axes == 1 else chain(*modules)


def kind(axes: int, name: str) -> Any:
    """The class of Torch7 for planes or volumes."""
    cls = getattr(nn, ("Spatial" if axes < 3 else "Volumetric") + name, None)
    if cls is None:
        raise Unconvertible(f"Torch7 has no {name} over three axes")
    return cls


# ---- convolutions


def grouped(layer: Any, make: Any, weight_of: int) -> Any:
    """The convolutions of all groups side by side; `make` gets the planes, the weight and the bias of one."""
    groups = layer.groups
    inputs, outputs = layer.in_channels // groups, layer.out_channels // groups
    if groups == 1:
        return make(inputs, outputs, layer.weight, layer.bias)
    biases = layer.bias.split(outputs) if layer.bias is not None else (None,) * groups
    module = nn.Concat(2)
    for i, (weight, bias) in enumerate(zip(layer.weight.split(weight_of // groups), biases, strict=True)):
        module.add(chain(nn.Narrow(2, i * inputs + 1, inputs), make(inputs, outputs, weight, bias)))
    return module


def without_bias(module: Any, bias: Any) -> Any:
    """A convolution, without a bias if there is none."""
    return module if bias is not None else module.noBias()


@over_axes("Conv")
def _convolution(layer: Any, axes: int, setting: Setting) -> Any:
    before, padding = padded(layer, setting)
    window = (
        *sizes(layer.kernel_size, axes, 1), *sizes(layer.stride, axes, 1), *sizes(padding, axes, 0)
    )  # fmt: skip
    dilation = sizes(layer.dilation, axes, 1)
    is_dilated = set(dilation) != {1}

    def convolution(inputs: int, outputs: int, weight: Any, bias: Any) -> Any:
        cls = kind(axes, "DilatedConvolution" if is_dilated else "Convolution")
        module = cls(inputs, outputs, *window, *(dilation if is_dilated else ()))
        return setting.fill(without_bias(module, bias), weight=weight, bias=bias)

    if layer.groups == layer.in_channels > 1 and axes < 3 and not is_dilated:
        module = of_each_plane(layer, padding, setting)
    else:
        module = grouped(layer, convolution, layer.out_channels)
    return chain(*before, over_rows(axes, module))


def of_each_plane(layer: Any, padding: Sizes, setting: Setting) -> Any:
    """A convolution of each plane alone: Torch7's SpatialDepthWiseConvolution fails for one output of each.

    Without a bias it has one of zeros.
    """
    axes, count = len(layer.kernel_size), layer.out_channels // layer.in_channels
    table = [[i // count + 1, i + 1] for i in range(layer.out_channels)]
    sizes_of_window = (*sizes(layer.kernel_size, axes, 1), *sizes(layer.stride, axes, 1))
    module = nn.SpatialConvolutionMap(torch.tensor(table).to(new_tensor()), *sizes_of_window)
    module.bias.zero_()
    setting.fill(module, weight=layer.weight, bias=layer.bias)
    width, height = sizes(padding, axes, 0)
    return chain(nn.SpatialZeroPadding(width, width, height, height), module) if any(padding) else module


def padded(layer: Any, setting: Setting) -> tuple[list[Any], Sizes]:
    """The modules that pad the input of a convolution, and the padding that is left for the convolution."""
    sides = [(n, n) for n in layer.padding] if not isinstance(layer.padding, str) else []
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    elif layer.padding == "valid":
        sides = [(0, 0) for _ in layer.kernel_size]
    if layer.padding_mode == "zeros" and all(one == other for one, other in sides):
        return [], tuple(one for one, _ in sides)
    mode = {"zeros": "constant"}.get(layer.padding_mode, layer.padding_mode)
    return [padding(setting, [n for pair in reversed(sides) for n in pair], mode)], (0,) * len(sides)


@over_axes("ConvTranspose")
def _full_convolution(layer: Any, axes: int, setting: Setting) -> Any:
    if set(layer.dilation) != {1}:
        raise Unconvertible("Torch7 has no transposed convolution with dilation")
    window = (
        *sizes(layer.kernel_size, axes, 1), *sizes(layer.stride, axes, 1),
        *sizes(layer.padding, axes, 0), *sizes(layer.output_padding, axes, 0),
    )  # fmt: skip

    def convolution(inputs: int, outputs: int, weight: Any, bias: Any) -> Any:
        module = kind(axes, "FullConvolution")(inputs, outputs, *window)
        return setting.fill(without_bias(module, bias), weight=weight, bias=bias)

    return over_rows(axes, grouped(layer, convolution, layer.in_channels))


# ---- poolings


@over_axes("MaxPool")
def _max_pooling(layer: Any, axes: int, setting: Setting) -> Any:
    if layer.return_indices:
        raise Unconvertible("modules of Torch7 do not give the indices")
    dilation = sizes(layer.dilation, axes, 1)
    is_dilated = set(dilation) != {1}
    module = kind(axes, "DilatedMaxPooling" if is_dilated else "MaxPooling")(
        *windows(layer, axes), *sizes(layer.padding, axes, 0), *(dilation if is_dilated else ())
    )
    return over_rows(axes, module.ceil() if layer.ceil_mode else module)


def windows(layer: Any, axes: int) -> Sizes:
    """The sizes and strides of a pooling."""
    stride = layer.kernel_size if layer.stride is None else layer.stride
    return *sizes(layer.kernel_size, axes, 1), *sizes(stride, axes, 1)


@over_axes("AvgPool")
def _average_pooling(layer: Any, axes: int, setting: Setting) -> Any:
    padding = sizes(layer.padding, axes, 0)
    divisor = getattr(layer, "divisor_override", None)
    if axes == 3:
        if any(padding) or layer.ceil_mode or divisor:
            raise Unconvertible("that of Torch7 has no padding, no ceil_mode and no divisor")
        return nn.VolumetricAveragePooling(*windows(layer, axes))
    module = nn.SpatialAveragePooling(*windows(layer, axes), *padding)
    module = module.ceil() if layer.ceil_mode else module
    if not layer.count_include_pad:
        module.setCountExcludePad()
    if not divisor:
        return over_rows(axes, module)
    if layer.ceil_mode or (any(padding) and not layer.count_include_pad):
        raise Unconvertible("divisor_override cannot be converted for windows of different sizes")
    area = math.prod(sizes(layer.kernel_size, axes, 1))
    return over_rows(axes, module, nn.MulConstant(area / divisor))


@over_axes("LPPool")
def _power_pooling(layer: Any, axes: int, setting: Setting) -> Any:
    p = float(layer.norm_type)
    if axes == 3 and layer.ceil_mode:
        raise Unconvertible("averages of Torch7 over three axes have no ceil_mode")
    average = kind(axes, "AveragePooling")(*windows(layer, axes))
    area = math.prod(sizes(layer.kernel_size, axes, 1))
    average = average.ceil() if layer.ceil_mode else average
    return over_rows(axes, nn.Power(p), average, nn.MulConstant(area), nn.Power(1 / p))


@over_axes("AdaptiveAvgPool", "AdaptiveMaxPool")
def _adaptive_pooling(layer: Any, axes: int, setting: Setting) -> Any:
    is_max = "Max" in name_of(layer)
    if is_max and layer.return_indices:
        raise Unconvertible("modules of Torch7 do not give the indices")
    wanted = (layer.output_size,) * axes if isinstance(layer.output_size, int) else tuple(layer.output_size)
    wanted = tuple(setting.size[2 + i] if n is None else n for i, n in enumerate(wanted))
    if axes < 3:
        cls = nn.SpatialAdaptiveMaxPooling if is_max else nn.SpatialAdaptiveAveragePooling
        return over_rows(axes, cls(*sizes(wanted, axes, 1)))
    if set(wanted) != {1}:
        raise Unconvertible("that of Torch7 is over two axes; over three, only output_size 1 is possible")
    if is_max:
        return chain(*(nn.Max(dim) for dim in (5, 4, 3)), *(nn.Unsqueeze(dim) for dim in (3, 4, 5)))
    return chain(*(nn.Sum(dim, None, True, False) for dim in (5, 4, 3)))


@over_axes("FractionalMaxPool")
def _random_pooling(layer: Any, axes: int, setting: Setting) -> Any:
    if layer.return_indices:
        raise Unconvertible("modules of Torch7 do not give the indices")
    given = layer.output_ratio if layer.output_size is None else layer.output_size
    wanted, window = ((n,) * axes if isinstance(n, int | float) else n for n in (given, layer.kernel_size))
    # over three axes those of Torch7 count the time as the last one
    return kind(axes, "FractionalMaxPooling")(*reversed(window), *reversed(wanted))


# ---- dropout


@over_axes("Dropout")
def _plane_dropout(layer: Any, axes: int, setting: Setting) -> Any:
    """Torch7's scales in evaluation: with a factor of 1 / (1 - p) it scales in training instead."""
    if layer.p == 1:
        raise Unconvertible("with p = 1 nothing is left")
    return over_rows(axes, kind(axes, "Dropout")(layer.p), nn.MulConstant(1 / (1 - layer.p)))


# ---- paddings


_PADDINGS = {
    "ZeroPad": "constant", "ConstantPad": "constant", "ReflectionPad": "reflect",
    "ReplicationPad": "replicate", "CircularPad": "circular",
}  # fmt: skip


def _padding(mode: str, layer: Any, axes: int, setting: Setting) -> Any:
    return padding(setting, list(layer.padding), mode, getattr(layer, "value", 0))


for _name, _mode in _PADDINGS.items():
    over_axes(_name)(functools.partial(_padding, _mode))


def padding(setting: Setting, sides: list[int], mode: str, value: float = 0) -> Any:
    """What torch.nn.functional.pad does: `sides` begins with those of the last axis."""
    axes = len(sides) // 2
    if mode in ("reflect", "replicate"):
        if axes == 3 and mode == "reflect":
            raise Unconvertible("Torch7 has no reflection padding of volumes")
        name = {"reflect": "ReflectionPadding", "replicate": "ReplicationPadding"}[mode]
        return over_rows(axes, kind(axes, name)(*sides, *((0, 0) if axes == 1 else ())))
    leading = 2 if setting.known_rank is None else setting.rank - axes
    if mode == "constant" and axes == leading == 2 and value == 0:
        return nn.SpatialZeroPadding(*sides)
    steps: list[Any] = []
    for i in range(axes):
        before, after = sides[2 * i : 2 * i + 2]
        dim = leading + axes - i
        if mode == "circular":
            steps.append(ring(before, after, dim))
            continue
        if before < 0 or after < 0:
            steps.append(nn.Narrow(dim, 1 + max(-before, 0), -1 - max(-after, 0)))
        steps += [nn.Padding(dim, -before, None, value)] if before > 0 else []
        steps += [nn.Padding(dim, after, None, value)] if after > 0 else []
    return chain(*steps) if steps else nn.Identity()


def ring(before: int, after: int, dim: int) -> Any:
    """The last elements along a dimension, then all of them, then the first ones."""
    if before < 0 or after < 0:
        raise Unconvertible("circular padding that takes something away cannot be converted")
    module = nn.Concat(dim)
    for i in range(-before, 0):
        # nn.Unsqueeze takes a contiguous gradient only, which those of nn.Concat are not
        module.add(chain(nn.Select(dim, i), nn.Unsqueeze(dim), nn.Contiguous()))
    module.add(nn.Identity())
    return module.add(nn.Narrow(dim, 1, after)) if after else module


# ---- upsampling


_LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}


@counterpart.register
def _upsampling(layer: tnn.Upsample, setting: Setting) -> Any:
    mode = layer.mode
    if mode not in ("nearest", *_LINEAR):
        raise Unconvertible(f"Torch7 has no upsampling of mode {mode!r}")
    axes = _LINEAR[mode] if mode in _LINEAR else setting.rank - 2
    if mode == "nearest":
        factor = whole_factor(layer, axes, setting)
        if factor is None:
            raise Unconvertible("nearest upsampling of Torch7 is by one whole factor for all axes")
        if axes == 1:
            return chain(nn.Unsqueeze(3), nn.SpatialUpSamplingNearest(factor), nn.Select(3, 1))
        return nn.SpatialUpSamplingNearest(factor) if axes == 2 else nn.UpSampling(factor)
    if not layer.align_corners or axes == 1:
        raise Unconvertible("linear upsampling of Torch7 is of planes and volumes, with align_corners=True")
    target: Any = None if layer.scale_factor is None else whole_factor(layer, axes, setting)
    if target is None:
        names = ("odepth", "oheight", "owidth")[-axes:]
        target = dict(zip(names, output_size(layer, axes, setting), strict=True))
    return nn.SpatialUpSamplingBilinear(target) if axes == 2 else nn.UpSampling(target, "linear")


def output_size(layer: Any, axes: int, setting: Setting) -> Sizes:
    """The size to which a layer scales its input."""
    if layer.size is not None:
        return (layer.size,) * axes if isinstance(layer.size, int) else tuple(layer.size)
    scale = layer.scale_factor
    scales = scale if isinstance(scale, tuple) else (scale,) * axes
    return tuple(math.floor(n * s) for n, s in zip(setting.size[2:], scales, strict=True))


def whole_factor(layer: Any, axes: int, setting: Setting) -> int | None:
    """By how much a layer scales its input, if that is a whole number for all axes."""
    if layer.scale_factor is None:
        pairs = zip(output_size(layer, axes, setting), setting.size[2:], strict=True)
        factors = {wanted / n for wanted, n in pairs}
    else:
        factors = set(layer.scale_factor) if isinstance(layer.scale_factor, tuple) else {layer.scale_factor}
    factor = factors.pop()
    return None if factors or factor != int(factor) or factor < 1 else int(factor)
