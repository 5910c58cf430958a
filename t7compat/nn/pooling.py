"""Max pooling, and what all poolings have in common."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.shapes import describe, expect
from t7compat.nn.windows import Sliding

Tensor = torch.Tensor


class Pooling(Sliding, typename=""):
    """What the poolings have in common."""

    def prepare(self, input: Any) -> None:
        expect(input, len(self.axes) + 1, len(self.axes) + 2)

    def explain(self, input: Any) -> None:
        if min(*self.kernel, *self.strides) < 1:
            sizes = f"{self.kernel} by {self.strides}"
            raise InputError(f"expected windows and strides of 1 or more, got {sizes}")
        if any(2 * pad > size for pad, size in zip(self.paddings, self.kernel, strict=True)):
            raise InputError(
                f"expected padding of at most half the window {self.kernel}, got {self.paddings}"
            )
        raise InputError(f"expected planes as large as the window {self.kernel}, got {describe(input)}")

    def empty(self) -> None:
        """An old name of `clearState`."""
        self.clearState()

    def _size_text(self) -> str:
        order = "".join(sorted(self.axes, key="TWH".index))
        size, stride, padding = ([getattr(self, name + a, 0) for a in order] for name in ("k", "d", "pad"))
        parts = ["x".join(map(str, size)), ",".join(map(str, stride))]
        if any(padding):
            parts.append(",".join(map(str, padding)))
        return ", ".join(parts)

    def __str__(self) -> str:
        return f"{self.__typename__}({self._size_text()})"


class RoundedPooling(Pooling, typename=""):
    """The base of the poolings that may round the size of their output up."""

    ceil_mode: Any = False

    def ceil(self) -> Any:
        """Round the size of the output up."""
        self.ceil_mode = True
        return self

    def floor(self) -> Any:
        """Round the size of the output down."""
        self.ceil_mode = False
        return self


# The fields that have the sizes of a max pooling's input, without their first letter
SIDES = {"T": "time", "H": "height", "W": "width"}


class MaxPooling(RoundedPooling, typename=""):
    """The maximum of each window; `indices` keeps where it was."""

    scratch = ("indices",)
    layer: type[torch.nn.Module]

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields, ceil_mode=False, indices=torch.empty(0, dtype=torch.int64))

    def compute(self, input: Tensor) -> Tensor:
        sizes = self.kernel, self.strides, self.paddings, self.dilations
        output, where = maxima(input, *sizes, self.ceil_mode)
        self.indices = self.numbered(where, input.shape)
        return output

    def numbered(self, where: Tensor, shape: tuple[int, ...]) -> Tensor:
        """What `indices` has for places in the planes of an input of a shape, counted from 0."""
        raise NotImplementedError

    def native(self) -> functools.partial[Any]:
        sizes = self.kernel, self.strides, self.paddings
        options = {} if set(self.dilations) == {1} else {"dilation": self.dilations}
        return functools.partial(self.layer, *sizes, **options, ceil_mode=self.ceil_mode)

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        sides = zip(self.axes, input.shape[-len(self.axes) :], strict=True)
        vars(self).update((f"i{SIDES[axis]}", size) for axis, size in sides)
        if any(2 * pad > size for pad, size in zip(self.paddings, self.kernel, strict=True)):
            self.explain(input)


def outside(
    shape: tuple[int, ...], size: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> list[int]:
    """How many windows begin after the end of each side when sizes are rounded up, as F.pad takes it.

    Torch7 leaves such a window out only if there is padding; PyTorch always does.
    """
    ends: list[int] = []
    for n, k, d in zip(shape[::-1], size[::-1], stride[::-1], strict=False):
        ends += [0, int(not any(padding) and math.ceil((n - k) / d) * d >= n)]
    return ends


def maxima(
    input: Tensor, size: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
    dilation: tuple[int, ...], ceil_mode: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The maximum of each window, and where in its plane it was, counted from 0."""
    pool = F.max_pool2d if len(size) == 2 else F.max_pool3d
    output, where = pool(input, size, stride, padding, dilation, ceil_mode, return_indices=True)
    if ceil_mode:
        reach = tuple(n * (k - 1) + 1 for n, k in zip(dilation, size, strict=True))
        ends = outside(input.shape, reach, stride, padding)
        if any(ends):
            output = F.pad(output, ends, value=torch.finfo(input.dtype).min)
            where = F.pad(where, ends, value=-1)
    return output, where


class TemporalMaxPooling(Pooling):
    """The maximum of kW frames.  (frames, n) or (batch, frames, n) -> (..., frames', n)

    with frames' = floor((frames - kW) / dW) + 1.  `indices` keeps where in its window, counted from 0, each
    maximum was.
    """

    axes = "W"
    scratch = ("indices",)

    def __init__(self, kW: int, dW: int | None = None) -> None:
        super().__init__(kW=kW, dW=kW if dW is None else dW)

    def compute(self, input: Tensor) -> Tensor:
        planes = input.unsqueeze(-3)
        output, where = F.max_pool2d(planes, (self.kW, 1), (self.dW, 1), return_indices=True)
        self.indices = in_frames(where.squeeze(-3), self.dW)
        return output.squeeze(-3)

    def __str__(self) -> str:
        return self.__typename__


def in_frames(where: Tensor, stride: int) -> Tensor:
    """Where in its window of frames each maximum is, from where in its plane it is."""
    frames, features = where.shape[-2:]
    starts = torch.arange(0, frames * stride, stride, device=where.device)
    return where.div(features, rounding_mode="floor").sub_(starts[:, None])


class SpatialMaxPooling(MaxPooling):
    """The maximum of each window.  (n, h, w) or (batch, n, h, w) -> (..., h', w')

    with h' = floor((h + 2 padH - kH) / dH) + 1, rounded up instead after `ceil()`.  `indices` keeps where in
    its plane, counted from 1, each maximum was.
    """

    axes = "HW"
    layer = torch.nn.MaxPool2d
    dpnn_mediumEmpty = (*MaxPooling.dpnn_mediumEmpty, "indices")

    def __init__(
        self, kW: int, kH: int, dW: int | None = None, dH: int | None = None, padW: int = 0, padH: int = 0
    ) -> None:  # fmt: skip
        strides = {"dW": kW if dW is None else dW, "dH": kH if dH is None else dH}
        super().__init__(kW=kW, kH=kH, **strides, padW=padW or 0, padH=padH or 0)

    def numbered(self, where: Tensor, shape: tuple[int, ...]) -> Tensor:
        return where + 1


class SpatialDilatedMaxPooling(SpatialMaxPooling):
    """The maximum of each window of every dilationH-th row and dilationW-th column.

    (n, h, w) or (batch, n, h, w) -> (..., h', w'), with h' = floor((h + 2 padH - (dilationH (kH - 1) + 1)) /
    dH) + 1.
    """

    def __init__(
        self, kW: int, kH: int, dW: int | None = None, dH: int | None = None, padW: int = 0, padH: int = 0,
        dilationW: int = 1, dilationH: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(kW, kH, dW, dH, padW, padH)
        self.dilationW, self.dilationH = dilationW or 1, dilationH or 1

    def __str__(self) -> str:
        return f"{self.__typename__}({self._size_text()}, {self.dilationW},{self.dilationH})"


class VolumetricMaxPooling(MaxPooling):
    """The maximum of each window.  (n, t, h, w) or (batch, n, t, h, w) -> (..., t', h', w')

    with t' = floor((t + 2 padT - kT) / dT) + 1, rounded up instead after `ceil()`.  The bytes of an element
    of `indices` keep where in its window, counted from 0, each maximum was: t, h and w, lowest byte first.
    """

    __version__ = 2
    axes = "THW"
    layer = torch.nn.MaxPool3d

    def __init__(
        self, kT: int, kW: int, kH: int, dT: int | None = None, dW: int | None = None, dH: int | None = None,
        padT: int = 0, padW: int = 0, padH: int = 0,
    ) -> None:  # fmt: skip
        dT, dW, dH = (k if d is None else d for k, d in ((kT, dT), (kW, dW), (kH, dH)))
        pads = {"padT": padT or 0, "padW": padW or 0, "padH": padH or 0}
        super().__init__(kT=kT, kW=kW, kH=kH, dT=dT, dW=dW, dH=dH, **pads)

    def numbered(self, where: Tensor, shape: tuple[int, ...]) -> Tensor:
        return packed(where, shape, self.strides, self.paddings, self.dilations)


class VolumetricDilatedMaxPooling(VolumetricMaxPooling):
    """The maximum of each window of every dilationT-th frame, dilationH-th row and dilationW-th column.

    Shapes as for VolumetricMaxPooling, where a window reaches over dilationT (kT - 1) + 1 frames.
    """

    def __init__(
        self, kT: int, kW: int, kH: int, dT: int | None = None, dW: int | None = None, dH: int | None = None,
        padT: int = 0, padW: int = 0, padH: int = 0,
        dilationT: int = 1, dilationW: int = 1, dilationH: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(kT, kW, kH, dT, dW, dH, padT, padW, padH)
        self.dilationT, self.dilationW, self.dilationH = dilationT or 1, dilationW or 1, dilationH or 1

    def __str__(self) -> str:
        dilation = f"{self.dilationT},{self.dilationW},{self.dilationH}"
        return f"{self.__typename__}({self._size_text()}, {dilation})"


def beginnings(where: Tensor, axis: int, stride: int, padding: int) -> Tensor:
    """Where the windows begin along one axis, in a form to add to `where`, which has one element for each."""
    begin = torch.arange(where.shape[axis], device=where.device).mul_(stride).sub_(padding)
    return begin.view(-1, *[1] * (-1 - axis))


def packed(
    where: Tensor, shape: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:  # fmt: skip
    """Places in a volume as Torch7 keeps them: a byte each for t, h and w in the window."""
    height, width = shape[-2:]
    row = where.div(width, rounding_mode="floor")
    frame = row.div(height, rounding_mode="floor")
    code = torch.zeros_like(where)
    for i, place in enumerate((frame, row - frame * height, where - row * width)):
        place -= beginnings(where, i - 3, stride[i], padding[i])
        if dilation[i] > 1:
            place.div_(dilation[i], rounding_mode="floor")
        code.add_(place, alpha=256**i)
    return code


def unpacked(
    code: Tensor, shape: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """The inverse of `packed` for windows without dilation."""
    where = torch.zeros_like(code)
    for i, size in enumerate(shape):
        place = (code >> 8 * i) & 255
        where.mul_(size).add_(place).add_(beginnings(code, i - 3, stride[i], padding[i]))
    return where
