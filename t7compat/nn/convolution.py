"""Convolutions over one, two or three axes."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.linear import Linear, draw
from t7compat.nn.luaobject import clear
from t7compat.nn.shapes import expect
from t7compat.nn.windows import Sliding
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor
Size = int | None  # an argument that may be nil


class Windowed(Sliding, typename=""):
    """The base of layers with weights for their window."""

    axes = "HW"
    order = "WH"  # the axes in the order of Lua's arguments
    parameter_names = ("weight", "bias")
    scratch = ("finput", "fgradInput", "_input", "_gradOutput")
    bias: Tensor | None = None
    noBias = Linear.noBias

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        if min(*self.kernel, *self.strides) < 1:
            windows = f"windows of {self.listed('k', 'x')} by {self.listed('d')}"
            raise InputError(f"{self.__typename__}: expected sizes and strides above 0, got {windows}")
        weight, bias = self.parameter_sizes()
        self.weight, self.bias = new_tensor(*weight), new_tensor(*bias)
        self.gradWeight, self.gradBias = new_tensor(*weight), new_tensor(*bias)
        self.reset()

    def parameter_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The sizes of the weight and of the bias."""
        raise NotImplementedError

    def fan_in(self) -> int:
        """How many elements of the input have a part in one of the output."""
        raise NotImplementedError

    def listed(self, name: str, between: str = ",") -> str:
        """The fields of a name for all axes, as in Lua's text."""
        return between.join(str(getattr(self, name + letter)) for letter in self.order)

    def reset(self, stdv: float | None = None) -> None:
        draw(stdv, self.fan_in(), self.weight, self.bias)

    def before_type(self) -> None:
        clear(self, "finput", "fgradInput")


def by_axis(order: str, **sizes: tuple[Size, ...]) -> dict[str, int]:
    """The fields kW, kH, ... for sizes `k` in this order of axes; None stands for 1, or for 0 added elements.

    >>> by_axis("WH", d=(2, None), pad=(1, None))
    {'dW': 2, 'dH': 1, 'padW': 1, 'padH': 0}
    """
    return {
        name + letter: (0 if name in ("pad", "adj") else 1) if size is None else size
        for name, values in sizes.items()
        for letter, size in zip(order, values, strict=True)
    }


class Convolution(Windowed, typename=""):
    """The base of convolutions over planes.  (nInputPlane, ...) or with a batch -> (nOutputPlane, ...)"""

    flat = False  # whether the weight of an output plane is a row of a matrix
    tells_bias = True  # whether the text says that there is no bias
    groups = 1  # only cudnn's have others

    def __init__(self, nInputPlane: int, nOutputPlane: int, **sizes: tuple[Size, ...]) -> None:
        super().__init__(nInputPlane=nInputPlane, nOutputPlane=nOutputPlane, **by_axis(self.order, **sizes))

    def parameter_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        size = self.nInputPlane, *self.kernel
        return (self.nOutputPlane, *((math.prod(size),) if self.flat else size)), (self.nOutputPlane,)

    def fan_in(self) -> int:
        return int(self.nInputPlane * math.prod(self.kernel))

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        convolve = F.conv2d if len(self.kernel) == 2 else F.conv3d
        return convolve(input, weight, bias, self.strides, self.paddings, self.dilations, self.groups)

    def native(self) -> functools.partial[Any] | None:
        options: dict[str, Any] = {"bias": self.bias is not None}
        options |= {"dilation": self.dilations} if set(self.dilations) != {1} else {}
        options |= {"groups": self.groups} if self.groups != 1 else {}
        layer: Any = torch.nn.Conv2d if len(self.axes) == 2 else torch.nn.Conv3d
        sizes = self.kernel, self.strides, self.paddings
        return functools.partial(layer, self.nInputPlane, self.nOutputPlane, *sizes, **options)

    def prepare(self, input: Any) -> None:
        dims = len(self.axes) + 1
        expect(input, dims, dims + 1, size=self.nInputPlane, at=-dims)

    def upgrade(self, version: int) -> None:
        """Files of 2014 and before have a weight of two dimensions."""
        for name in () if self.flat else ("weight", "gradWeight"):
            tensor = vars(self).get(name)
            if tensor is not None and tensor.dim() == 2:
                vars(self)[name] = tensor.view(self.nOutputPlane, self.nInputPlane, *self.kernel)

    def extras(self) -> list[str]:
        """What the text says after the padding."""
        return []

    def __str__(self) -> str:
        parts = [f"{self.nInputPlane} -> {self.nOutputPlane}", self.listed("k", "x")]
        if any(self.paddings) or set(self.strides) != {1}:
            parts.append(self.listed("d"))
        if any(self.paddings):
            parts.append(self.listed("pad"))
        bias = " without bias" if self.tells_bias and self.bias is None else ""
        return f"{self.__typename__}({', '.join(parts + self.extras())}){bias}"


# ---- two axes


class PlaneConvolution(Convolution, typename=""):
    """The base of convolutions over height and width."""

    def __init__(
        self, nInputPlane: int, nOutputPlane: int, kW: int, kH: int,
        dW: Size = 1, dH: Size = 1, padW: Size = 0, padH: Size = None,
    ) -> None:  # fmt: skip
        padding = padW, padW if padH is None else padH
        super().__init__(nInputPlane, nOutputPlane, k=(kW, kH), d=(dW, dH), pad=padding)

    def upgrade(self, version: int) -> None:
        """Files of 2014 and before have one `padding`, or none."""
        if "padding" in vars(self):
            self.padW = self.padH = vars(self).pop("padding")
        super().upgrade(version)


# As dpnn spells the names
PLANE_SCRATCH = (*PlaneConvolution.dpnn_mediumEmpty, "finput", "fgradinput", "_input", "_gradOutput")


class SpatialConvolution(PlaneConvolution):
    """2-D convolution.  (nInputPlane, h, w) or (batch, nInputPlane, h, w) -> (..., nOutputPlane, h', w')

    with h' = floor((h + 2 padH - kH) / dH) + 1, and w' likewise.
    """

    dpnn_mediumEmpty = PLANE_SCRATCH


class SpatialConvolutionMM(PlaneConvolution):
    """SpatialConvolution whose weight is a matrix, with a row for each output plane.  Same shapes."""

    flat = True
    dpnn_mediumEmpty = PLANE_SCRATCH

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        weight = weight.view(-1, self.nInputPlane, *self.kernel)
        return F.conv2d(input, weight, bias, self.strides, self.paddings)

    def native_state(self) -> dict[str, Tensor]:
        weight = self.weight.reshape(-1, self.nInputPlane, *self.kernel)
        return super().native_state() | {"weight": weight}


class SpatialDilatedConvolution(SpatialConvolution):
    """SpatialConvolution whose window takes every dilationH-th row and dilationW-th column.

    Its extent is dilationH (kH - 1) + 1 and dilationW (kW - 1) + 1.  Yu and Koltun, 2016.
    """

    def __init__(
        self, nInputPlane: int, nOutputPlane: int, kW: int, kH: int,
        dW: Size = 1, dH: Size = 1, padW: Size = 0, padH: Size = None,
        dilationW: Size = 1, dilationH: Size = 1,
    ) -> None:  # fmt: skip
        super().__init__(nInputPlane, nOutputPlane, kW, kH, dW, dH, padW, padH)
        vars(self).update(by_axis(self.order, dilation=(dilationW, dilationH)))

    def extras(self) -> list[str]:
        return [self.listed("dilation")]


class SpatialDepthWiseConvolution(PlaneConvolution):
    """nOutputPlane 2-D convolutions of each input plane alone.

    (nInputPlane, h, w) or (batch, nInputPlane, h, w) -> (..., nInputPlane * nOutputPlane, h', w'), the planes
    that come from one input plane side by side.  The forward gives the weight its four dimensions.
    """

    flat = True

    def parameter_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return super().parameter_sizes()[0], (self.nOutputPlane, self.nInputPlane)

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        planes = weight.view(-1, self.nInputPlane, *self.kernel).transpose(0, 1).reshape(-1, 1, *self.kernel)
        bias = None if bias is None else bias.t().reshape(-1)
        return F.conv2d(input, planes, bias, self.strides, self.paddings, 1, self.nInputPlane)

    def native(self) -> functools.partial[Any]:
        planes, count = self.nInputPlane * self.nOutputPlane, self.nInputPlane
        sizes, bias = (self.kernel, self.strides, self.paddings), self.bias is not None
        layer: Any = torch.nn.Conv2d
        return functools.partial(layer, count, planes, *sizes, groups=count, bias=bias)

    def native_state(self) -> dict[str, Tensor]:
        weight = self.weight.reshape(-1, self.nInputPlane, *self.kernel).transpose(0, 1)
        state = {"weight": weight.reshape(-1, 1, *self.kernel)}
        return state if self.bias is None else state | {"bias": self.bias.t().reshape(-1)}

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        for name in ("weight", "gradWeight"):
            tensor = vars(self).get(name)
            if tensor is not None and tensor.dim() == 2:
                vars(self)[name] = tensor.view(-1, self.nInputPlane, *self.kernel)


# ---- three axes


class VolumetricConvolution(Convolution):
    """3-D convolution.

    (nInputPlane, t, h, w) or (batch, nInputPlane, t, h, w) -> (..., nOutputPlane, t', h', w'), with
    t' = floor((t + 2 padT - kT) / dT) + 1, and h' and w' likewise.
    """

    axes, order = "THW", "TWH"
    tells_bias = False

    def __init__(
        self, nInputPlane: int, nOutputPlane: int, kT: int, kW: int, kH: int,
        dT: Size = 1, dW: Size = 1, dH: Size = 1, padT: Size = 0, padW: Size = None, padH: Size = None,
    ) -> None:  # fmt: skip
        padW = padT if padW is None else padW
        padding = padT, padW, padW if padH is None else padH
        super().__init__(nInputPlane, nOutputPlane, k=(kT, kW, kH), d=(dT, dW, dH), pad=padding)


class VolumetricDilatedConvolution(VolumetricConvolution):
    """VolumetricConvolution whose window takes every dilationT-th element along t, and so on.

    Its extent along t is dilationT (kT - 1) + 1.
    """

    tells_bias = True

    def __init__(
        self, nInputPlane: int, nOutputPlane: int, kT: int, kW: int, kH: int,
        dT: Size = 1, dW: Size = 1, dH: Size = 1, padT: Size = 0, padW: Size = None, padH: Size = None,
        dilationT: Size = 1, dilationW: Size = 1, dilationH: Size = 1,
    ) -> None:  # fmt: skip
        super().__init__(nInputPlane, nOutputPlane, kT, kW, kH, dT, dW, dH, padT, padW, padH)
        vars(self).update(by_axis(self.order, dilation=(dilationT, dilationW, dilationH)))

    def extras(self) -> list[str]:
        return [self.listed("dilation")]


# ---- one axis


class TemporalConvolution(Windowed):
    """1-D convolution over frames.

    (n, inputFrameSize) or (batch, n, inputFrameSize) -> (..., n', outputFrameSize), with
    n' = floor((n - kW) / dW) + 1.
    """

    axes = order = "W"
    updates_when_shared = True

    def __init__(self, inputFrameSize: int, outputFrameSize: int, kW: int, dW: Size = 1) -> None:
        super().__init__(
            inputFrameSize=inputFrameSize, outputFrameSize=outputFrameSize, **by_axis("W", k=(kW,), d=(dW,))
        )

    def parameter_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self.outputFrameSize, self.fan_in()), (self.outputFrameSize,)

    def fan_in(self) -> int:
        return int(self.inputFrameSize * self.kW)

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        weight = weight.view(-1, self.kW, self.inputFrameSize).transpose(1, 2)
        output = F.conv1d(input.transpose(-2, -1), weight, bias, self.dW)
        return output.transpose(-2, -1).contiguous()

    def prepare(self, input: Any) -> None:
        expect(input, 2, 3, size=self.inputFrameSize)


class TemporalRowConvolution(Windowed):
    """1-D convolution of each feature alone.

    (n, inputFrameSize) or (batch, n, inputFrameSize) -> (..., n', inputFrameSize), with
    n' = floor((n - kW) / dW) + 1; after `featFirst` the last two dimensions change places.
    """

    axes = order = "W"

    def __init__(self, inputFrameSize: int, kW: int, dW: Size = 1, featFirst: bool | None = False) -> None:
        super().__init__(
            inputFrameSize=inputFrameSize, featFirst=bool(featFirst), **by_axis("W", k=(kW,), d=(dW,))
        )

    def parameter_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self.inputFrameSize, 1, self.kW), (self.inputFrameSize,)

    def fan_in(self) -> int:
        return int(self.inputFrameSize * self.kW)

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.featFirst:
            return F.conv1d(input, weight, bias, self.dW, groups=len(weight))
        output = F.conv1d(input.transpose(-2, -1), weight, bias, self.dW, groups=len(weight))
        return output.transpose(-2, -1)

    def native(self) -> functools.partial[Any] | None:
        size, bias = self.inputFrameSize, self.bias is not None
        layer: Any = torch.nn.Conv1d
        make = functools.partial(layer, size, size, self.kW, self.dW, groups=size, bias=bias)
        return make if self.featFirst else None

    def prepare(self, input: Any) -> None:
        expect(input, 2, 3, size=self.inputFrameSize, at=-2 if self.featFirst else -1)

    def __str__(self) -> str:
        stride = f", {self.dW}" if self.dW != 1 else ""
        bias = "" if self.bias is not None else " without bias"
        return f"{self.__typename__}({self.inputFrameSize}, {self.kW}{stride}){bias}"
