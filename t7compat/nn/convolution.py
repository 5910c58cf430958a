"""Convolutions."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.nn.linear import spread
from t7compat.nn.module import Module, clear
from t7compat.nn.shapes import expect, window
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class SpatialConvolution(Module):
    """2-D convolution.  (nInputPlane, h, w) or (batch, nInputPlane, h, w) -> (..., nOutputPlane, h', w')

    with h' = floor((h + 2 padH - kH) / dH) + 1, and w' likewise.
    """

    axes = "HW"
    parameter_names = ("weight", "bias")
    scratch = ("finput", "fgradInput", "_input", "_gradOutput")
    bias: Tensor | None = None
    padW = padH = 0

    def __init__(
        self, nInputPlane: int, nOutputPlane: int, kW: int, kH: int,
        dW: int = 1, dH: int = 1, padW: int = 0, padH: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(nInputPlane=nInputPlane, nOutputPlane=nOutputPlane, kW=kW, kH=kH, dW=dW, dH=dH)
        self.padW, self.padH = padW, padW if padH is None else padH
        self.weight, self.bias = new_tensor(nOutputPlane, nInputPlane, kH, kW), new_tensor(nOutputPlane)
        self.gradWeight, self.gradBias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        self.reset()

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(input, weight, bias, window(self, "d"), window(self, "pad"))

    def native(self) -> functools.partial[Any]:
        size, stride, padding = (window(self, name) for name in ("k", "d", "pad"))
        planes, bias = (self.nInputPlane, self.nOutputPlane), self.bias is not None
        return functools.partial(torch.nn.Conv2d, *planes, size, stride, padding, bias=bias)  # type: ignore[arg-type]

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4, size=self.nInputPlane, at=-3)

    def noBias(self) -> Any:
        """Remove the bias."""
        for name in ("bias", "gradBias"):
            vars(self).pop(name, None)
        return self

    def reset(self, stdv: float | None = None) -> None:
        bound = spread(stdv, math.prod(window(self, "k")) * self.nInputPlane)
        mersenne.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            mersenne.uniform_(self.bias, -bound, bound)

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        if type is not None:
            clear(self, "finput", "fgradInput")
        return super().type(type, tensorCache)

    def upgrade(self, version: int) -> None:
        """Files of 2014 and before have one `padding`, or none, and a weight of two dimensions."""
        if "padding" in vars(self):
            self.padW = self.padH = vars(self).pop("padding")
        for name in ("weight", "gradWeight"):
            tensor = vars(self).get(name)
            if tensor is not None and tensor.dim() == 2:
                vars(self)[name] = tensor.view(self.nOutputPlane, self.nInputPlane, *window(self, "k"))

    def __str__(self) -> str:
        padding = f", {self.padW},{self.padH}" if self.padW or self.padH else ""
        stride = f", {self.dW},{self.dH}" if padding or self.dW != 1 or self.dH != 1 else ""
        size = f"{self.nInputPlane} -> {self.nOutputPlane}, {self.kW}x{self.kH}"
        return (
            f"{self.__typename__}({size}{stride}{padding}){'' if self.bias is not None else ' without bias'}"
        )
