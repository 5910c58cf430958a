"""Layers for images: glimpses, normalisation, binary convolution, resampling."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.average_pooling import SpatialAveragePooling
from t7compat.nn.convolution import SpatialConvolution
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect, expect_number, with_gradient
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


def crops(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """A part of each image of a batch, (batch, n, height, width); its upper left pixel is counted from 0."""
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


class SpatialReSampling(Module):
    """Bilinear interpolation, of the package nnx.  (n, h, w) or (batch, n, h, w) -> (..., oheight, owidth)

    The corners of the image stay where they are.  The argument is a table with the size, or with its ratios
    `rheight` and `rwidth` to that of the input.
    """

    owidth: int | None = None
    oheight: int | None = None
    rwidth: Any = None
    rheight: Any = None

    def __init__(self, config: Any) -> None:
        config = Table.from_python(config)
        if not isinstance(config, Table):
            raise InputError(f"nn.SpatialReSampling: expected a table, got {describe(config)}")
        super().__init__(**{name: config[name] for name in ("rwidth", "rheight", "owidth", "oheight")})

    def compute(self, input: Tensor) -> Tensor:
        images = input if input.dim() == 4 else input[None]
        height, width = input.shape[-2:]
        oheight = int(height * self.rheight if self.oheight is None else self.oheight)
        owidth = int(width * self.rwidth if self.owidth is None else self.owidth)
        output = F.interpolate(images, (oheight, owidth), mode="bilinear", align_corners=True)
        return output if input.dim() == 4 else output[0]

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4)
        for size, ratio in (("oheight", "rheight"), ("owidth", "rwidth")):
            if getattr(self, size) is None:
                expect_number(ratio, getattr(self, ratio))


class SpatialGlimpse(Module):
    """Parts of each image around a place, in the same size at growing scale.  Mnih et al., 2014

    {(batch, n, h, w), (batch, 2)} -> (batch, depth * n, height, width), or the same without batch.  A place
    is {y, x}, from {-1, -1} at the upper left corner to {1, 1}.  Part i is `scale`^(i - 1) as large as the
    first one in both directions, and averaged down to its size; what is outside of the image is zero.  There
    is no gradient with respect to the place.
    """

    def __init__(self, size: Any, depth: int | None = 3, scale: float | None = 2) -> None:
        table = Table.from_python(size)
        height, width = (table[1], table[2]) if isinstance(table, Table) else (size, size)
        depth, scale = 3 if depth is None else depth, 2 if scale is None else scale
        for name, value in (("height", height), ("width", width), ("depth", depth), ("scale", scale)):
            expect_number(f"nn.SpatialGlimpse: {name}", value)
        super().__init__(height=height, width=width, depth=depth, scale=scale)
        self.gradInput = Table(new_tensor(), new_tensor())
        reduce: Module = SpatialReSampling({"oheight": height, "owidth": width})
        self.module = SpatialAveragePooling(2, 2, 2, 2) if scale == 2 else reduce
        self.modules = Table(self.module)

    @property
    def averages(self) -> bool:
        """Whether parts are made smaller by averages, and not by bilinear interpolation."""
        return isinstance(self.module, SpatialAveragePooling)

    def compute(self, input: Any) -> Tensor:
        options = int(self.height), int(self.width), self.depth, self.scale, self.averages
        image, place = input[0], input[1]
        if image.dim() == 3:
            return glimpses(image[None], place[None], *options)[0]
        return glimpses(image, place, *options)

    def prepare(self, input: Any) -> None:
        if not isinstance(input, tuple) or len(input) < 2:
            raise InputError(f"expected a table of an image and a place, got {describe(input)}")
        image, place = input[:2]
        expect(image, 3, 4)
        expect(place, image.dim() - 2, size=2)
        if image.dim() == 4:
            expect(place, 2, size=len(image), at=0)
        whole = self.height % 1 == self.width % 1 == 0
        if self.averages and self.depth > 1 and not (whole and self.scale % 2 == 0):
            raise InputError(f"expected a scale that is even, got {self.scale}")


def glimpses(
    images: Tensor, places: Tensor, height: int, width: int, depth: int, scale: float, averages: bool
) -> Tensor:
    """The parts of each image of a batch, the planes of the first one first."""
    y, x = (places.detach().double().t() + 1) / 2
    parts = []
    size = h, w = height, width
    for number in range(depth):
        padded = F.pad(images, ((w - 1) // 2, (w - 1) // 2, (h - 1) // 2, (h - 1) // 2))
        down, right = padded.shape[2] - h, padded.shape[3] - w
        part = crops(padded, (y * down).clamp(0, down).long(), (x * right).clamp(0, right).long(), h, w)
        if number > 0 and averages:
            part = F.avg_pool2d(part, (h // height, w // width))
        elif number > 0:
            part = F.interpolate(part, size, mode="bilinear", align_corners=True)
        parts.append(part)
        h, w = int(h * scale), int(w * scale)
    return torch.cat(parts, 1)


class SpatialFeatNormalization(Module):
    """(x - mean) / std for each plane.  (n, h, w) or (batch, n, h, w) -> same shape"""

    def __init__(self, mean: Tensor, std: Tensor | None = None) -> None:
        expect(mean, 1)
        super().__init__(mean=new_tensor(len(mean)).copy_(mean), noOfFeats=len(mean))
        self.std = torch.ones_like(self.mean) if std is None else new_tensor(len(mean)).copy_(std)

    def compute(self, input: Tensor) -> Tensor:
        return (input - self.mean[:, None, None]) / self.std[:, None, None]

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4, size=self.noOfFeats, at=-3, like=self.mean)


class SpatialBinaryConvolution(SpatialConvolution):
    """SpatialConvolution by the signs of the weight, times its mean absolute value for each output plane.

    Same shapes.  The gradients pass the signs and the means as if they were not there, except that gradInput
    is multiplied by the mean absolute weight of each input plane.  There is no bias.  Unlike in Torch7, the
    weight itself never has only signs, not even between forward and backward.  Rastegari et al., 2016.
    """

    def __init__(
        self, nInputPlane: int, nOutputPlane: int, kW: int, kH: int,
        dW: int | None = 1, dH: int | None = 1, padW: int | None = 0, padH: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(nInputPlane, nOutputPlane, kW, kH, dW, dH, padW, padH)
        self.noBias()
        self.iwh, self.owh = nInputPlane * self.kW * self.kH, nOutputPlane * self.kW * self.kH
        self.train = True

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        size = weight.detach().abs()
        to_input, to_output = size.sum((0, 2, 3)) / self.owh, size.sum((1, 2, 3)) / self.iwh
        signs = weight.clone()
        signs.detach().copy_(torch.where(weight.detach() >= 0, 1.0, -1.0))  # unseen by the graph
        input = with_gradient(input, lambda gradient: gradient * to_input[:, None, None])
        output = F.conv2d(input, signs, bias, self.strides, self.paddings)
        output.detach().mul_(to_output[:, None, None])
        return output

    def __str__(self) -> str:
        return f"Binary Convolution: {super().__str__()}"
