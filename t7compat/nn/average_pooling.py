"""Pooling by the average or the p-norm of each window."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.containers import Sequential
from t7compat.nn.module import Module
from t7compat.nn.pooling import Pooling, RoundedPooling, outside
from t7compat.nn.shapes import describe, expect
from t7compat.nn.transfer import MulConstant, Power, Sqrt, Square

Tensor = torch.Tensor


class SpatialAveragePooling(RoundedPooling):
    """The average of each window.  (n, h, w) or (batch, n, h, w) -> (..., h', w')

    with h' = floor((h + 2 padH - kH) / dH) + 1, rounded up instead after `ceil()`.  Padding counts as zeros,
    or not at all after `setCountExcludePad()`.  A window that begins just after the end of the input, where
    sizes are rounded up and there is no padding, gives nan.  Files from before 2015 do not `divide`: they
    have sums.
    """

    axes = "HW"
    divide = False
    # Old files have neither field, and count padding as zeros
    ceil_mode: bool | None = None
    count_include_pad: bool | None = None

    def __init__(self, kW: int, kH: int, dW: int = 1, dH: int = 1, padW: int = 0, padH: int = 0) -> None:
        super().__init__(
            kW=kW, kH=kH, dW=dW, dH=dH, padW=padW, padH=padH,
            ceil_mode=False, count_include_pad=True, divide=True,
        )  # fmt: skip

    def compute(self, input: Tensor) -> Tensor:
        sizes = self.kernel, self.strides, self.paddings
        include = bool(self.count_include_pad or self.ceil_mode is None)
        output = averages(input, *sizes, bool(self.ceil_mode), include)
        return output if self.divide else output * (self.kH * self.kW)

    def native(self) -> functools.partial[Any] | None:
        layer: Any = torch.nn.AvgPool2d
        include = bool(self.count_include_pad or self.ceil_mode is None)
        options = {"ceil_mode": bool(self.ceil_mode), "count_include_pad": include}
        sizes = self.kernel, self.strides, self.paddings
        return functools.partial(layer, *sizes, **options) if self.divide else None

    def setCountIncludePad(self) -> Any:
        """Let padding count as zeros."""
        self.count_include_pad = True
        return self

    def setCountExcludePad(self) -> Any:
        """Average over what a window has of the input."""
        self.count_include_pad = False
        return self


def averages(
    input: Tensor, size: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
    ceil_mode: bool, include: bool,
) -> Tensor:  # fmt: skip
    """The average of each window: with `include`, padding counts as zeros."""
    output = F.avg_pool2d(input, size, stride, padding, ceil_mode, include)
    ends = outside(input.shape, size, stride, padding) if ceil_mode else [0]
    if any(ends):  # there, a sum of zero elements is divided by how many there are
        output = F.pad(output, ends)
        heights, widths = (
            (n - torch.arange(count, device=input.device) * d).clamp(max=k)
            for n, count, k, d in zip(input.shape[-2:], output.shape[-2:], size, stride, strict=True)
        )
        output = output + input.new_zeros(1) / (heights[:, None] * widths)
    return output


class VolumetricAveragePooling(Pooling):
    """The average of each window.  (n, t, h, w) or (batch, n, t, h, w) -> (..., t', h', w')

    with t' = floor((t - kT) / dT) + 1.
    """

    axes = "THW"

    def __init__(
        self, kT: int, kW: int, kH: int, dT: int | None = None, dW: int | None = None, dH: int | None = None
    ) -> None:
        dT, dW, dH = (k if d is None else d for k, d in ((kT, dT), (kW, dW), (kH, dH)))
        super().__init__(kT=kT, kW=kW, kH=kH, dT=dT, dW=dW, dH=dH)

    def compute(self, input: Tensor) -> Tensor:
        return F.avg_pool3d(input, self.kernel, self.strides)

    def native(self) -> functools.partial[Any]:
        sizes: Any = self.kernel, self.strides
        return functools.partial(torch.nn.AvgPool3d, *sizes)


class SpatialLPPooling(Sequential):
    """(sum x^p)^(1 / p) over each window.  (n, h, w) or (batch, n, h, w) -> (..., h', w')"""

    def __init__(
        self, nInputPlane: int, pnorm: float, kW: int, kH: int, dW: int | None = None, dH: int | None = None
    ) -> None:  # fmt: skip
        super().__init__()
        self.kW, self.kH = kW, kH
        self.dW, self.dH = kW if dW is None else dW, kH if dH is None else dH
        self.add(Square() if pnorm == 2 else Power(pnorm))
        self.add(SpatialAveragePooling(kW, kH, self.dW, self.dH))
        self.add(MulConstant(kW * kH))
        self.add(Sqrt() if pnorm == 2 else Power(1 / pnorm))

    def reset(self, stdv: float | None = None) -> None:
        """There is nothing to draw."""


class FeatureLPPooling(Module):
    """(sum x^power)^(1 / power) over `width` neighbouring features, every `stride`.

    (n), (n, d1) or (n, d1, d2) -> (n', ...), after a batch with `batch_mode`.
    """

    def __init__(self, width: int, stride: int, power: float, batch_mode: bool) -> None:
        if not (2 <= width <= 16 and 1 <= stride <= 4):
            wanted = "a width of 2 to 16 and a stride of 1 to 4"
            raise InputError(f"{self.__typename__}: expected {wanted}, got {width} and {stride}")
        super().__init__(width=width, stride=stride, power=power, batch_mode=batch_mode)

    def compute(self, input: Tensor) -> Tensor:
        planes = input.unsqueeze(1) if self.batch_mode else input[None, None]
        planes = planes.reshape(*planes.shape[:3], -1).pow(self.power)
        size, stride = (self.width, 1), (self.stride, 1)
        sums = F.avg_pool2d(planes, size, stride, divisor_override=1)
        # The slope of the root at zero counts as zero
        roots = torch.where(sums == 0, 1, sums).pow(1 / self.power).where(sums != 0, 0)
        batch = input.shape[:1] if self.batch_mode else ()
        return roots.reshape(*batch, -1, *input.shape[len(batch) + 1 :])

    def prepare(self, input: Any) -> None:
        first = 1 + bool(self.batch_mode)
        expect(input, *range(first, first + 3))
        if input.shape[first - 1] < self.width:
            raise InputError(f"expected {self.width} features or more, got {describe(input)}")

    def __str__(self) -> str:
        sizes = f"w{self.width} s{self.stride} power {self.power:g}"
        return f"{self.__typename__}({sizes} batch {'true' if self.batch_mode else 'false'})"
