"""Convolutions with fewer connections, or fewer shared weights, than usual.

Along a table of connections, with weights of their own at each place, within each plane.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.convolution import PlaneConvolution, Size, Windowed, by_axis
from t7compat.nn.linear import spread
from t7compat.nn.shapes import describe, expect, zero_based

Tensor = torch.Tensor

# ---- along a table


class Mapped(Windowed, typename=""):
    """The base of convolutions whose row k of `connTable` {from, to} gives weight k its two planes."""

    def __init__(self, conMatrix: Tensor, kW: int, kH: int, dW: Size = 1, dH: Size = 1) -> None:
        expect(conMatrix, 2, size=2)
        if not conMatrix.numel() or conMatrix.min() < 1:
            raise InputError(f"expected a table of planes counted from 1, got {describe(conMatrix)}")
        inputs, outputs = conMatrix.amax(0).tolist()
        super().__init__(
            connTable=conMatrix,
            nInputPlane=int(inputs),
            nOutputPlane=int(outputs),
            **by_axis("WH", k=(kW, kH), d=(dW, dH)),
        )

    def parameter_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (len(self.connTable), *self.kernel), (self.nOutputPlane,)

    def reset(self, stdv: float | None = None) -> None:
        planes = zero_based(self.connTable[:, 1])
        counts = torch.bincount(planes, minlength=self.nOutputPlane) * math.prod(self.kernel)
        bounds = [spread(stdv, n) if n else math.nan for n in counts.tolist()]
        for weight, plane in zip(self.weight, planes.tolist(), strict=True):
            mersenne.uniform_(weight, -bounds[plane], bounds[plane])
        for bias, bound in zip(() if self.bias is None else self.bias, bounds, strict=False):
            mersenne.uniform_(bias, -bound, bound)


class SpatialConvolutionMap(Mapped):
    """2-D convolution of some input planes for each output plane.

    (nInputPlane, h, w) or (batch, nInputPlane, h, w) -> (..., nOutputPlane, h', w'), with
    h' = floor((h - kH) / dH) + 1, and w' likewise.  Further input planes are left alone.
    """

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        places = zero_based(self.connTable[:, 1]), zero_based(self.connTable[:, 0])
        planes = weight.new_zeros(self.nOutputPlane, self.nInputPlane, *self.kernel)
        planes = planes.index_put(places, weight, accumulate=True)
        return F.conv2d(input.narrow(-3, 0, self.nInputPlane), planes, bias, self.strides)

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4)
        if input.shape[-3] < self.nInputPlane:
            raise InputError(f"expected {self.nInputPlane} planes or more, got {describe(input)}")

    def decayParameters(self, decay: float) -> None:
        """parameter -= decay * parameter."""
        for parameter, _ in self.affected("decayParameters"):
            parameter.mul_(1 - decay)


class SpatialFullConvolutionMap(Mapped):
    """2-D transposed convolution of some input planes for each output plane.

    (nInputPlane, h, w) -> (nOutputPlane, (h - 1) dH + kH, (w - 1) dW + kW).  Further input planes are left
    alone.
    """

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        places = zero_based(self.connTable[:, 0]), zero_based(self.connTable[:, 1])
        planes = weight.new_zeros(self.nInputPlane, self.nOutputPlane, *self.kernel)
        planes = planes.index_put(places, weight, accumulate=True)
        return F.conv_transpose2d(input.narrow(-3, 0, self.nInputPlane), planes, bias, self.strides)

    def prepare(self, input: Any) -> None:
        expect(input, 3)
        if input.shape[-3] < self.nInputPlane:
            raise InputError(f"expected {self.nInputPlane} planes or more, got {describe(input)}")


# ---- weights at each place


class SpatialConvolutionLocal(PlaneConvolution):
    """2-D convolution with other weights at each place.

    (nInputPlane, iH, iW) or (batch, nInputPlane, iH, iW) -> (..., nOutputPlane, oH, oW), with
    oH = floor((iH + 2 padH - kH) / dH) + 1, and oW likewise.
    """

    tells_bias = False

    def __init__(
        self, nInputPlane: int, nOutputPlane: int, iW: int, iH: int, kW: int, kH: int,
        dW: Size = 1, dH: Size = 1, padW: Size = 0, padH: Size = None,
    ) -> None:  # fmt: skip
        self.iW, self.iH = iW, iH
        super().__init__(nInputPlane, nOutputPlane, kW, kH, dW, dH, padW, padH)

    def parameter_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        self.oW, self.oH = (
            (size + 2 * padding - k) // d + 1
            for size, padding, k, d in (
                (self.iW, self.padW, self.kW, self.dW),
                (self.iH, self.padH, self.kH, self.dH),
            )
        )
        if self.oW < 1 or self.oH < 1:
            raise InputError(f"{self.__typename__}: expected an output, got one of {self.oW}x{self.oH}")
        weight = self.oH, self.oW, self.nOutputPlane, self.nInputPlane, *self.kernel
        return weight, (self.nOutputPlane, self.oH, self.oW)

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        windows = F.unfold(input, self.kernel, 1, self.paddings, self.strides)
        products = torch.einsum("pok,...kp->...op", weight.flatten(3).flatten(0, 1), windows)
        output = products.contiguous().view(*products.shape[:-1], self.oH, self.oW)
        return output if bias is None else output + bias

    def native(self) -> None:
        return None

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        expect(input, size=self.iH, at=-2)
        expect(input, size=self.iW, at=-1)

    def upgrade(self, version: int) -> None:
        """The weight has always had all its dimensions, and there was always padW."""

    def __str__(self) -> str:
        return super().__str__().replace(", ", f", {self.iW}x{self.iH}, ", 1)


# ---- within each plane


class SubSampling(Windowed, typename=""):
    """The base of layers that add up a window of each plane, with a weight and a bias for each plane."""

    def fan_in(self) -> int:
        return math.prod(self.kernel)


class SpatialSubSampling(SubSampling):
    """w sum(x) + b over the window, for each plane.

    (nInputPlane, h, w) or (batch, nInputPlane, h, w) -> (..., nInputPlane, h', w'), with
    h' = floor((h - kH) / dH) + 1, and w' likewise.
    """

    def __init__(self, nInputPlane: int, kW: int, kH: int, dW: Size = 1, dH: Size = 1) -> None:
        super().__init__(nInputPlane=nInputPlane, **by_axis("WH", k=(kW, kH), d=(dW, dH)))

    def parameter_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self.nInputPlane,), (self.nInputPlane,)

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        sums = F.avg_pool2d(input, self.kernel, self.strides, divisor_override=1)
        return sums * weight[:, None, None] + bias[:, None, None]

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4, size=self.nInputPlane, at=-3)


class TemporalSubSampling(SubSampling):
    """w sum(x) + b over kW frames, for each feature.

    (n, inputFrameSize) -> (floor((n - kW) / dW) + 1, inputFrameSize)
    """

    axes = order = "W"

    def __init__(self, inputFrameSize: int, kW: int, dW: Size = 1) -> None:
        super().__init__(inputFrameSize=inputFrameSize, **by_axis("W", k=(kW,), d=(dW,)))

    def parameter_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self.inputFrameSize,), (self.inputFrameSize,)

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return input.unfold(0, self.kW, self.dW).sum(-1) * weight + bias

    def prepare(self, input: Any) -> None:
        expect(input, 2, size=self.inputFrameSize)
