"""jcjohnson/fast-neural-style: the layers of its image networks; the losses are in perceptual.py."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.nn.module import Module, TensorLayer
from t7compat.nn.shapes import expect, with_gradient
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class InstanceNormalization(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias, for each plane of each image.  (batch, n, h, w) -> same

    Only if `normalizes`; else mean is 0 and var is 1.  The Lua class gives a batch of one to nn's batch
    normalisation, which from August 2017 on takes the running statistics for that: these stay 0 and 1.
    Earlier versions did normalise, and changed them, by which their files are known.  Set `normalizes` to
    choose.  Also the class of texture_nets, where weight and bias may be missing.  Ulyanov et al., 2016.
    """

    parameter_names = ("weight", "bias")
    weight: Tensor | None = None
    bias: Tensor | None = None
    bn: Any = None

    def __init__(self, nOutput: int, eps: float | None = None) -> None:
        super().__init__(
            nOutput=nOutput, eps=eps or 1e-5, prev_N=-1,
            weight=mersenne.uniform_(new_tensor(nOutput)), bias=new_tensor(nOutput),
        )  # fmt: skip

    def compute(self, input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        if self.normalizes:
            return F.instance_norm(input, weight=weight, bias=bias, eps=self.eps)
        output = input / math.sqrt(1 + self.eps)
        if weight is None or bias is None:
            return output
        return output * weight[:, None, None] + bias[:, None, None]

    def native(self) -> functools.partial[Any] | None:
        make = functools.partial(torch.nn.InstanceNorm2d, self.nOutput, eps=self.eps)
        return functools.partial(make, affine=self.weight is not None) if self.normalizes else None

    @property
    def normalizes(self) -> bool:
        """Whether the statistics are those of the plane."""
        chosen = vars(self).get("normalizes")
        if chosen is None and self.bn is not None:
            chosen = bool(self.bn.running_mean.any() or (self.bn.running_var != 1).any())
        return bool(chosen)

    @normalizes.setter
    def normalizes(self, chosen: bool) -> None:
        vars(self)["normalizes"] = chosen

    def prepare(self, input: Any) -> None:
        expect(input, 4, size=self.nOutput, at=1, like=self.weight)

    def clearState(self) -> Any:
        if self.bn is not None:
            self.bn.clearState()
        return super().clearState()


class ShaveImage(TensorLayer):
    """Images without `size` rows and columns at each side.  (batch, n, h, w) -> (batch, n, h - 2s, w - 2s)"""

    dims = (4,)

    def __init__(self, size: int) -> None:
        super().__init__(size=size)

    def compute(self, input: Tensor) -> Tensor:
        return F.pad(input, [-self.size] * 4)

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.ZeroPad2d, -self.size)


class TotalVariation(TensorLayer):
    """x, whose gradient gets that of the squared differences of neighbours added.  (batch, n, h, w) -> same

    The penalty is strength / 2 times the sum over (x[i, j] - x[i, j + 1])^2 + (x[i, j] - x[i + 1, j])^2, i
    and j up to the last but one.
    """

    dims = (4,)
    scratch = ("x_diff", "y_diff")

    def __init__(self, strength: float) -> None:
        super().__init__(strength=strength, x_diff=new_tensor(), y_diff=new_tensor())

    def compute(self, input: Tensor) -> Tensor:
        strength = self.strength
        return with_gradient(input, lambda gradient: gradient + strength * roughness_slope(input))

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Identity)


def roughness_slope(images: Tensor) -> Tensor:
    """The gradient of half the squared differences of neighbours in images."""
    inner = images[..., :-1, :-1]
    to_right, to_below = inner - images[..., :-1, 1:], inner - images[..., 1:, :-1]
    slope = torch.zeros_like(images, requires_grad=False)
    slope[..., :-1, :-1] += to_right + to_below
    slope[..., :-1, 1:] -= to_right
    slope[..., 1:, :-1] -= to_below
    return slope
