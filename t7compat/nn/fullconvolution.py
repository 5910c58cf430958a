"""Transposed convolutions, which Torch7 calls full."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.convolution import Convolution, Size
from t7compat.nn.shapes import describe, expect_table, window
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class FullConvolution(Convolution, typename=""):
    """The base of transposed convolutions over planes.

    The output is larger by adjW along W.  With a table {input, target} it gets the size of the target, whose
    elements play no part.
    """

    adjT = adjW = adjH = 0

    def __init__(self, nInputPlane: int, nOutputPlane: int, **sizes: tuple[Size, ...]) -> None:
        super().__init__(nInputPlane, nOutputPlane, **sizes)
        if any(added >= stride for added, stride in zip(self.adjustments, self.strides, strict=True)):
            names = ", ".join(f"adj{letter}" for letter in self.order)
            raise InputError(f"{self}: expected {names} below the strides, got {self.listed('adj')}")
        self.ones = new_tensor()

    @property
    def adjustments(self) -> tuple[int, ...]:
        return window(self, "adj")

    def parameter_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self.nInputPlane, self.nOutputPlane, *self.kernel), (self.nOutputPlane,)

    def compute(self, input: Any, weight: Tensor, bias: Tensor | None) -> Tensor:
        stride, padding, added = self.strides, self.paddings, self.adjustments
        if isinstance(input, tuple):
            input, target = input[:2]
            sizes = target.shape[-len(stride) :]
            added = tuple(
                (size + 2 * pad - k) % d
                for size, pad, k, d in zip(sizes, padding, self.kernel, stride, strict=True)
            )
        convolve = F.conv_transpose2d if len(stride) == 2 else F.conv_transpose3d
        return convolve(input, weight, bias, stride, padding, added)

    def native(self) -> functools.partial[Any]:
        layer: Any = torch.nn.ConvTranspose2d if len(self.axes) == 2 else torch.nn.ConvTranspose3d
        sizes = self.kernel, self.strides, self.paddings, self.adjustments
        bias = self.bias is not None
        return functools.partial(layer, self.nInputPlane, self.nOutputPlane, *sizes, bias=bias)

    def prepare(self, input: Any) -> None:
        if isinstance(input, tuple):
            expect_table(input, 2)
            input, target = input[:2]
            if not isinstance(target, Tensor) or target.dim() < len(self.axes):
                raise InputError(f"expected a target of {len(self.axes)}-D or more, got {describe(target)}")
        super().prepare(input)

    def upgrade(self, version: int) -> None:
        """The weight has always had all its dimensions; absent adjW, ... are the 0 of the class."""

    def extras(self) -> list[str]:
        return [self.listed("adj")] if any(self.adjustments) else []


class SpatialFullConvolution(FullConvolution):
    """2-D transposed convolution.

    (nInputPlane, h, w) or (batch, nInputPlane, h, w) -> (..., nOutputPlane, h', w'), with
    h' = (h - 1) dH - 2 padH + kH + adjH, and w' likewise.
    """

    def __init__(
        self, nInputPlane: int, nOutputPlane: int, kW: int, kH: int,
        dW: Size = 1, dH: Size = 1, padW: Size = 0, padH: Size = 0, adjW: Size = 0, adjH: Size = 0,
    ) -> None:  # fmt: skip
        sizes = {"k": (kW, kH), "d": (dW, dH), "pad": (padW, padH), "adj": (adjW, adjH)}
        super().__init__(nInputPlane, nOutputPlane, **sizes)


class VolumetricFullConvolution(FullConvolution):
    """3-D transposed convolution.

    (nInputPlane, t, h, w) or (batch, nInputPlane, t, h, w) -> (..., nOutputPlane, t', h', w'), with
    t' = (t - 1) dT - 2 padT + kT + adjT, and h' and w' likewise.
    """

    axes, order = "THW", "TWH"
    tells_bias = False

    def __init__(
        self, nInputPlane: int, nOutputPlane: int, kT: int, kW: int, kH: int,
        dT: Size = 1, dW: Size = 1, dH: Size = 1, padT: Size = 0, padW: Size = 0, padH: Size = 0,
        adjT: Size = 0, adjW: Size = 0, adjH: Size = 0,
    ) -> None:  # fmt: skip
        sizes = {"k": (kT, kW, kH), "d": (dT, dW, dH), "pad": (padT, padW, padH), "adj": (adjT, adjW, adjH)}
        super().__init__(nInputPlane, nOutputPlane, **sizes)
        self.finput, self.fgradInput = new_tensor(), new_tensor()

    def upgrade(self, version: int) -> None:
        """Before there was adjW, the weight had the output planes first, and padW was called pW."""
        fields = vars(self)
        if "adjW" in fields:
            return
        for name in ("weight", "gradWeight"):
            if fields.get(name) is not None:
                fields[name] = fields[name].transpose(0, 1).contiguous()
        for letter in self.order:
            fields.setdefault(f"pad{letter}", fields.get(f"p{letter}", 0))
            fields[f"adj{letter}"] = 0
