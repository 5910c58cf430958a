"""Max and average pooling with windows that follow from the size of the output."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.pooling import Pooling
from t7compat.nn.shapes import describe, window

Tensor = torch.Tensor


class SpatialAdaptiveMaxPooling(Pooling):
    """The maximum of each of W x H windows that cover a plane.  (..., n, h, w) -> (..., n, H, W)

    with or without a batch.  `indices` keeps where in its window, counted from 1, each maximum was: the rows
    and then the columns.
    """

    axes = "HW"
    scratch = ("indices",)

    def __init__(self, W: int, H: int) -> None:
        super().__init__(W=W, H=H)

    def compute(self, input: Tensor) -> Tensor:
        output, where = F.adaptive_max_pool2d(input, (self.H, self.W), return_indices=True)
        self.indices = in_windows(where, input.shape[-2:])
        return output

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.AdaptiveMaxPool2d, (self.H, self.W))

    def __str__(self) -> str:
        return self.__typename__


def in_windows(where: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Row and column, counted from 1, of places in planes of a shape, from the first of each window."""
    (height, width), (rows, columns) = shape, where.shape[-2:]
    row = where.div(width, rounding_mode="floor")
    top = torch.arange(rows, device=where.device) * height // rows
    left = torch.arange(columns, device=where.device) * width // columns
    return torch.stack((row - top[:, None] + 1, where - row * width - left + 1))


class SpatialAdaptiveAveragePooling(Pooling):
    """The average of each of W x H windows that cover a plane.  (..., n, h, w) -> (..., n, H, W)

    with or without a batch.
    """

    axes = "HW"

    def __init__(self, W: int, H: int) -> None:
        super().__init__(W=W, H=H)

    def compute(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(input, (self.H, self.W))

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.AdaptiveAvgPool2d, (self.H, self.W))

    def __str__(self) -> str:
        return self.__typename__


class FractionalMaxPooling(Pooling, typename=""):
    """The maximum of windows at random places, which are drawn for each plane at every forward.

    `indices` keeps where in its plane, counted from 1, each maximum was.  Graham, 2014.
    """

    scratch = ("indices",)
    layer: type[torch.nn.Module]
    stochastic_inference = True  # the windows are drawn in evaluation, too
    newRandomPool = False
    randomSamples: Any = None

    def __init__(self, sizes: tuple[int, ...], outputs: tuple[float, ...]) -> None:
        is_ratio = min(outputs) < 1
        if min(sizes) < 2 or (is_ratio and not all(0 < ratio < 1 for ratio in outputs)):
            wanted = "windows of 2 or more, and output sizes or ratios between 0 and 1"
            raise InputError(f"{self.__typename__}: expected {wanted}, got {sizes} and {outputs}")
        super().__init__(newRandomPool=False)
        for axis, size, output in zip(self.axes[::-1], sizes, outputs, strict=True):
            vars(self)[f"poolSize{axis}"] = size
            vars(self)[f"{'ratio' if is_ratio else 'out'}{axis}"] = output

    def output_size(self, input: Tensor) -> tuple[int, ...]:
        """The size of the output's planes."""
        if "ratioW" not in vars(self):
            return window(self, "out")
        sides = zip(input.shape[-len(self.axes) :], window(self, "ratio"), strict=True)
        return tuple(math.floor(size * ratio) for size, ratio in sides)

    def compute(self, input: Tensor) -> Tensor:
        pool, samples = F.fractional_max_pool2d_with_indices, self.randomSamples
        if len(self.axes) == 3:
            pool, samples = F.fractional_max_pool3d_with_indices, samples.flip(-1)  # those of time are first
        sizes = window(self, "poolSize"), self.output_size(input)
        output, where = pool(input, *sizes, _random_samples=samples)
        self.indices = where + 1
        return output

    def native(self) -> functools.partial[Any]:
        name, option = ("ratio", "output_ratio") if "ratioW" in vars(self) else ("out", "output_size")
        return functools.partial(self.layer, window(self, "poolSize"), **{option: window(self, name)})

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        sides = input.shape[-len(self.axes) :]
        for size, output, pool in zip(sides, self.output_size(input), window(self, "poolSize"), strict=True):
            if not 0 < output <= size - pool:
                raise InputError(f"expected an input larger than output and window, got {describe(input)}")
        batch, planes = (
            input.shape[0] if input.dim() > len(self.axes) + 1 else 1,
            input.shape[-1 - len(sides)],
        )
        known = self.randomSamples
        if known is None or known.shape[:2] != (batch, planes) or not self.newRandomPool:
            self.randomSamples = mersenne.uniform_(input.new_empty(batch, planes, len(sides)))

    def explain(self, input: Any) -> None:
        pass

    def fixPoolingRegions(self, val: bool | None = True) -> Any:
        """Keep the windows of the next forward for all later ones."""
        self.newRandomPool = val is None or val
        return self

    def clearState(self) -> Any:
        for name in ("indices", "randomSamples"):
            vars(self).pop(name, None)
        return super().clearState()

    def __str__(self) -> str:
        outputs = [getattr(self, f"out{a}", None) or getattr(self, f"ratio{a}") for a in self.axes[::-1]]
        sizes = [getattr(self, f"poolSize{a}") for a in self.axes[::-1]]
        return f"{self.__typename__}({'x'.join(f'{int(n)}' for n in outputs)}, {','.join(map(str, sizes))})"


class SpatialFractionalMaxPooling(FractionalMaxPooling):
    """The maximum of windows at random places.  (n, h, w) or (batch, n, h, w) -> (..., h', w')

    arg1 and arg2 are w' and h', or, if below 1, the ratios w' / w and h' / h.  The windows are drawn for each
    plane at every forward, in evaluation too; `indices` keeps where in its plane, counted from 1, each
    maximum was.  Graham, 2014.
    """

    axes = "HW"
    layer = torch.nn.FractionalMaxPool2d

    def __init__(self, poolSizeW: int, poolSizeH: int, arg1: float, arg2: float) -> None:
        super().__init__((poolSizeW, poolSizeH), (arg1, arg2))


class VolumetricFractionalMaxPooling(FractionalMaxPooling):
    """The maximum of windows at random places.  (n, h, w, t) or (batch, n, h, w, t) -> (..., h', w', t')

    arg1, arg2 and arg3 are t', w' and h', or, if below 1, their ratios to t, w and h; time comes last here.
    As SpatialFractionalMaxPooling otherwise.
    """

    axes = "HWT"
    layer = torch.nn.FractionalMaxPool3d

    def __init__(
        self, poolSizeT: int, poolSizeW: int, poolSizeH: int, arg1: float, arg2: float, arg3: float
    ) -> None:
        super().__init__((poolSizeT, poolSizeW, poolSizeH), (arg1, arg2, arg3))
