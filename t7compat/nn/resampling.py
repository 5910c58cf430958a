"""Layers that change the size of planes: padding, cropping, upsampling."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect
from t7compat.t7file.objects import LongStorage
from t7compat.table import Table

Tensor = torch.Tensor


# ---- padding


class PlanePadding(Module, typename=""):
    """Adds rows and columns around each plane; negative numbers take them away."""

    layer: type[torch.nn.Module]
    mode: str

    def __init__(
        self, pad_l: int, pad_r: int | None = None, pad_t: int | None = None, pad_b: int | None = None
    ) -> None:
        pad_r, pad_t, pad_b = (pad_l if pad is None else pad for pad in (pad_r, pad_t, pad_b))
        super().__init__(pad_l=pad_l, pad_r=pad_r, pad_t=pad_t, pad_b=pad_b)

    def compute(self, input: Tensor) -> Tensor:
        return F.pad(input, (self.pad_l, self.pad_r, self.pad_t, self.pad_b), self.mode)

    def native(self) -> functools.partial[Any]:
        return functools.partial(self.layer, (self.pad_l, self.pad_r, self.pad_t, self.pad_b))

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4)
        sides = (input.shape[-1], self.pad_l, self.pad_r), (input.shape[-2], self.pad_t, self.pad_b)
        if any(size + min(before, 0) + min(after, 0) < 1 for size, before, after in sides):
            raise InputError(f"expected planes of which something is left, got {describe(input)}")

    def __str__(self) -> str:
        sides = f"l={self.pad_l}, r={self.pad_r}, t={self.pad_t}, b={self.pad_b}"
        return f"{self.__typename__}({sides})"


class SpatialZeroPadding(PlanePadding):
    """Adds zeros around each plane; negative numbers crop it.

    (n, h, w) or (batch, n, h, w) -> (..., h + pad_t + pad_b, w + pad_l + pad_r)
    """

    layer = torch.nn.ZeroPad2d
    mode = "constant"


class SpatialReflectionPadding(PlanePadding):
    """Adds the mirror image of each plane around it; negative numbers crop it.

    (n, h, w) or (batch, n, h, w) -> (..., h + pad_t + pad_b, w + pad_l + pad_r)
    """

    layer = torch.nn.ReflectionPad2d
    mode = "reflect"


class SpatialReplicationPadding(PlanePadding):
    """Repeats the border of each plane around it; negative numbers crop it.

    (n, h, w) or (batch, n, h, w) -> (..., h + pad_t + pad_b, w + pad_l + pad_r)
    """

    layer = torch.nn.ReplicationPad2d
    mode = "replicate"


class VolumetricReplicationPadding(Module):
    """Repeats the border of each volume around it; negative numbers crop it.

    (n, t, h, w) or (batch, n, t, h, w) -> (..., t + pfront + pback, h + ptop + pbottom, w + pleft + pright)
    """

    def __init__(
        self, pleft: int, pright: int | None = None, ptop: int | None = None, pbottom: int | None = None,
        pfront: int | None = None, pback: int | None = None,
    ) -> None:  # fmt: skip
        others = {"pright": pright, "ptop": ptop, "pbottom": pbottom, "pfront": pfront, "pback": pback}
        others = {name: pleft if pad is None else pad for name, pad in others.items()}
        super().__init__(pleft=pleft, **others)

    def compute(self, input: Tensor) -> Tensor:
        sides = (self.pleft, self.pright, self.ptop, self.pbottom, self.pfront, self.pback)
        return F.pad(input, sides, "replicate")

    def native(self) -> functools.partial[Any]:
        sides = (self.pleft, self.pright, self.ptop, self.pbottom, self.pfront, self.pback)
        return functools.partial(torch.nn.ReplicationPad3d, sides)

    def prepare(self, input: Any) -> None:
        expect(input, 4, 5)

    def __str__(self) -> str:
        names = ("left", "right", "top", "bottom", "front", "back")
        sides = ", ".join(f"{name}={getattr(self, f'p{name}')}" for name in names)
        return f"{self.__typename__}({sides})"


# ---- upsampling


class PixelShuffle(Module):
    """Makes planes r times as high and wide from groups of r^2 planes, with r = upscaleFactor.

    (n r^2, h, w) or (batch, n r^2, h, w) -> (..., n, h r, w r).  Shi et al., 2016.
    """

    scratch = ("_intermediateShape", "_outShape", "_shuffleIn", "_shuffleOut")

    def __init__(self, upscaleFactor: int) -> None:
        super().__init__(upscaleFactor=upscaleFactor, upscaleFactorSquared=upscaleFactor * upscaleFactor)

    def compute(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscaleFactor)

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.PixelShuffle, self.upscaleFactor)

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4)
        if input.shape[-3] % self.upscaleFactorSquared:
            wanted = f"a multiple of {self.upscaleFactorSquared} planes"
            raise InputError(f"expected {wanted}, got {describe(input)}")


class Scaling(Module, typename=""):
    """Upsampling by a whole `scale_factor`, or to a given size."""

    scale_factor: int | None = None
    odepth: int | None = None
    oheight: int | None = None
    owidth: int | None = None
    stored_dims = 4  # how many sizes the fields inputSize and outputSize have

    def __init__(self, params: Any, **fields: Any) -> None:
        if isinstance(params, Table | dict):
            sizes = Table.from_python(params)
            fields |= {name: sizes[name] for name in ("odepth", "owidth", "oheight")}
        elif isinstance(params, int | float) and params >= 1 and params == int(params):
            fields["scale_factor"] = int(params)
        else:
            raise InputError(f"{self.__typename__}: expected a whole number above 0, got {describe(params)}")
        zeros = (0,) * self.stored_dims
        super().__init__(**fields, inputSize=LongStorage(zeros), outputSize=LongStorage(zeros))


def interpolated(input: Tensor, linear: bool, scale: int | None, size: tuple[Any, ...], dims: int) -> Tensor:
    """The last `dims` dimensions of the input upsampled, by a factor or else to a size."""
    batch = input if input.dim() == dims + 2 else input[None]
    sides = [n * scale for n in input.shape[-dims:]] if scale else list(size[-dims:])
    if not linear:
        output = F.interpolate(batch, sides)
    elif input.dtype == torch.float64:
        output = stretched(batch, sides)
    else:
        output = F.interpolate(
            batch, sides, mode="bilinear" if dims == 2 else "trilinear", align_corners=True
        )
    return output if batch is input else output[0]


def stretched(x: Tensor, sides: list[int]) -> Tensor:
    """Linear interpolation at places in single precision, as Torch7 has them for doubles, too."""
    for axis, side in enumerate(sides, -len(sides)):
        last = x.shape[axis] - 1
        step = torch.tensor(float(last), dtype=torch.float32, device=x.device) / max(side - 1, 1)
        place = torch.arange(side, dtype=torch.float32, device=x.device) * step
        below = place.long().clamp(max=last)
        weight = (place - below).to(x.dtype).view(-1, *[1] * (-1 - axis))
        above = (below + 1).clamp(max=last)
        x = x.index_select(axis, below) * (1 - weight) + x.index_select(axis, above) * weight
    return x


class UpSampling(Scaling):
    """Upsampling of planes or volumes by a whole factor, or (`linear` only) to {odepth, oheight, owidth}.

    (batch, n, h, w) -> (batch, n, h * scale_factor, w * scale_factor), and (batch, n, t, h, w) likewise.
    `mode` is "nearest" (the default) or "linear" (also "bilinear", "trilinear"), which keeps the corners.
    """

    stored_dims = 5

    def __init__(self, params: Any, mode: str | None = None) -> None:
        linear = mode in ("linear", "bilinear", "trilinear")
        super().__init__(params, mode="linear" if linear else "nearest")
        if not self.scale_factor and not (linear and self.oheight and self.owidth):
            wanted = "a scale factor, or for mode linear a table with oheight and owidth"
            raise InputError(f"{self.__typename__}: expected {wanted}, got {describe(params)}")

    def compute(self, input: Tensor) -> Tensor:
        size = (self.odepth, self.oheight, self.owidth)
        return interpolated(input, self.mode == "linear", self.scale_factor, size, input.dim() - 2)

    def native(self) -> functools.partial[Any]:
        if self.mode == "nearest":
            return functools.partial(torch.nn.Upsample, scale_factor=self.scale_factor)
        size = tuple(n for n in (self.odepth, self.oheight, self.owidth) if n)
        options: dict[str, Any] = {"mode": "trilinear" if self.odepth else "bilinear", "align_corners": True}
        if self.scale_factor:
            return functools.partial(torch.nn.Upsample, scale_factor=self.scale_factor, **options)
        return functools.partial(torch.nn.Upsample, size, **options)

    def prepare(self, input: Any) -> None:
        expect(input, 4, 5)
        if input.dim() == 5 and not (self.scale_factor or self.odepth):
            raise InputError(f"expected planes, as there is no odepth, got {describe(input)}")

    def __str__(self) -> str:
        sizes = [n for n in (self.odepth, self.oheight, self.owidth) if n]
        size = f"{self.scale_factor}x" if self.scale_factor else "x".join(map(str, sizes))
        return f"{self.__typename__}({size}, {self.mode})"


class SpatialUpSamplingNearest(Scaling):
    """Repeats each row and column `scale` times.

    (n, h, w) or (batch, n, h, w) -> (..., h * scale, w * scale)
    """

    def __init__(self, scale: int) -> None:
        super().__init__(scale)

    def compute(self, input: Tensor) -> Tensor:
        return interpolated(input, False, self.scale_factor, (), 2)

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.UpsamplingNearest2d, scale_factor=self.scale_factor)

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4)


class SpatialUpSamplingBilinear(Scaling):
    """Bilinear upsampling by a whole factor, or to {oheight, owidth}; the corners stay what they are.

    (n, h, w) or (batch, n, h, w) -> (..., h * factor, w * factor)
    """

    scratch = ("_input", "_gradOutput")

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        vars(self).pop("odepth", None)

    def compute(self, input: Tensor) -> Tensor:
        return interpolated(input, True, self.scale_factor, (self.oheight, self.owidth), 2)

    def native(self) -> functools.partial[Any]:
        if self.scale_factor:
            return functools.partial(torch.nn.UpsamplingBilinear2d, scale_factor=self.scale_factor)
        size: Any = self.oheight, self.owidth
        return functools.partial(torch.nn.UpsamplingBilinear2d, size)

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4)

    def __str__(self) -> str:
        size = f"{self.scale_factor}" if self.scale_factor else f"{self.oheight}, {self.owidth}"
        return f"{self.__typename__}({size})"
