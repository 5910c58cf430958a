"""Layers that change images at random while a network is trained."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.dpnn.vision import SpatialReSampling, crops
from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.shapes import batch_of_one, describe, expect, from_start, zero_based
from t7compat.nn.stochastic import expect_percentage, without_gradient
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class ColorTransform(Module, typename=""):
    """The base of layers that add a number to each plane of an image.  (n, h, w) or (batch, n, h, w) -> same

    `noise` has the numbers, (n) or (batch, n).  There is no backward in evaluation, which adds nothing.
    """

    def compute(self, input: Tensor) -> Tensor:
        if self.train:
            return input + self.noise[..., None, None]
        return without_gradient(input, self.__typename__)

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4, like=self.scales())
        if self.train:
            expect(input, 3, 4, size=self.inputChannels, at=-3)
            self.noise = self.draw(input.shape[:-2])

    def scales(self) -> Tensor:
        """How large the numbers are for each plane."""
        raise NotImplementedError

    def draw(self, size: tuple[int, ...]) -> Tensor:
        """The numbers to be added."""
        raise NotImplementedError

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        if type is not None:
            for name in ("noise", "alphas", "_tempNoise", "_tempNoiseExpanded", "_tempNoiseSamples"):
                vars(self).pop(name, None)
        return super().type(type, tensorCache)


class SimpleColorTransform(ColorTransform):
    """x + a number between -range and range for each plane, in training.  (n, h, w) or with batch -> same

    There is no backward in evaluation, which adds nothing.
    """

    range: Tensor

    def __init__(self, inputChannels: int, range: Tensor) -> None:
        super().__init__(train=True, inputChannels=inputChannels, range=range)
        expect(range)
        if range.numel() != inputChannels:
            raise InputError(
                f"nn.SimpleColorTransform: expected {inputChannels} ranges, got {describe(range)}"
            )

    def scales(self) -> Tensor:
        return self.range

    def draw(self, size: tuple[int, ...]) -> Tensor:
        noise = self.range.new_empty(size)
        for plane, bound in zip(noise.unbind(-1), self.range.reshape(-1).tolist(), strict=True):
            mersenne.uniform_(plane, -bound, bound)
        return noise

    def __str__(self) -> str:
        return "SimpleColorTransform"


class PCAColorTransform(ColorTransform):
    """x + a random colour in training, along the principal components of those of all pixels.

    (n, h, w) or (batch, n, h, w) -> same.  The components are the columns of `eigenVectors`, whose factors
    are numbers of the normal distribution of deviation `std` times the `eigenValues`.  There is no backward
    in evaluation, which adds nothing.  Krizhevsky et al., 2012.
    """

    def __init__(
        self, inputChannels: int, eigenVectors: Tensor, eigenValues: Tensor, std: float | None = 0.1
    ) -> None:
        super().__init__(train=True, inputChannels=inputChannels, eigenVectors=eigenVectors)
        self.eigenValues, self.std = eigenValues, 0.1 if std is None else std
        square = (inputChannels, inputChannels)
        for tensor in (eigenVectors, eigenValues):
            expect(tensor)
        if eigenVectors.shape != square or eigenValues.numel() != inputChannels:
            got = describe((eigenVectors, eigenValues))
            raise InputError(f"{self.__typename__}: expected {inputChannels} vectors and values, got {got}")

    def scales(self) -> Tensor:
        return self.eigenVectors

    def draw(self, size: tuple[int, ...]) -> Tensor:
        *batch, planes = size
        self.alphas = mersenne.normal_(self.eigenVectors.new_empty(planes, *(batch or (1,))), 0, self.std)
        self.alphas.mul_(self.eigenValues.reshape(-1, 1))
        return (self.eigenVectors @ self.alphas).t().reshape(size)

    def __str__(self) -> str:
        return f"{self.__typename__} channels: {self.inputChannels}, std: {self.std:f}"


class SpatialRegionDropout(Module):
    """Zeroes a strip along a random border, p of the image, in training.  (n, h, w) or with batch -> same

    The rest is divided by 1 - p.  `regionType` tells the border: 1 top, 2 bottom, 3 left, 4 right.  There is
    no backward in evaluation.
    """

    scratch = ("noise",)

    def __init__(self, p: float = 0.2) -> None:
        expect_percentage(self, p)
        super().__init__(p=p, train=True, noise=new_tensor())

    def compute(self, input: Tensor) -> Tensor:
        if self.train:
            return input * self.noise
        return without_gradient(input, self.__typename__)

    def prepare(self, input: Any) -> None:
        expect(input, like=self.type_sample)
        if not self.train:
            return
        expect(input, 3, 4)
        self.regionType = mersenne.random(4)
        mask = torch.ones(input.shape[-2:], dtype=input.dtype, device=input.device)
        lines = mask if self.regionType <= 2 else mask.t()
        count = int(len(lines) * self.p)
        (lines[:count] if self.regionType % 2 else lines[len(lines) - count :]).zero_()
        self.noise = mask.div_(1 - self.p).expand(input.shape)

    def setp(self, p: float) -> None:
        """Choose another part of the image."""
        self.p = p

    def __str__(self) -> str:
        return f"{self.__typename__} p: {self.p:f}"


class SpatialUniformCrop(Module):
    """A random part of each image in training, that in the middle in evaluation.

    (n, h, w) or (batch, n, h, w) -> (..., oheight, owidth).  `coord` has the upper left pixels, counted from
    1.  With `scale`, a table {min, max}, the part of an image is larger by a random factor of that range,
    kept in `scales`, and brought to the size by bilinear interpolation.
    """

    scale: Table | None = None

    def __init__(self, oheight: int, owidth: int | None = None, scale: Any = None) -> None:
        scale = Table.from_python(scale)
        super().__init__(oheight=oheight, owidth=owidth or oheight, scale=scale)
        if scale is not None:
            if not isinstance(scale, Table):
                raise InputError(f"nn.SpatialUniformCrop: expected a table as scale, got {describe(scale)}")
            self.scaler = SpatialReSampling({"oheight": oheight, "owidth": owidth})

    def compute(self, input: Tensor) -> Tensor:
        images = input if input.dim() == 4 else batch_of_one(input)
        size = self.oheight, self.owidth
        if self.train is False:
            top, left = ((whole - part + 1) // 2 for whole, part in zip(input.shape[-2:], size, strict=True))
            output = images[..., max(top - 1, 0) :, max(left - 1, 0) :][..., : size[0], : size[1]]
        elif self.scale is None:
            top, left = zero_based(self.coord.to(input.device)).t()
            output = crops(images, top, left, *size)
        else:
            places = zip(images, self._parts(input), strict=True)
            parts = [image[None, :, rows, columns] for image, (rows, columns) in places]
            output = torch.cat([F.interpolate(p, size, mode="bilinear", align_corners=True) for p in parts])
        return output if input.dim() == 4 else output[0]

    def _parts(self, input: Tensor) -> list[tuple[slice, slice]]:
        """The rows and columns of each image that are scaled."""
        height, width = input.shape[-2:]
        found = []
        for s, (h, w) in zip(self.scales.tolist(), self.coord.tolist(), strict=True):
            high, wide = math.ceil(s * self.oheight), math.ceil(s * self.owidth)
            middle = math.ceil(height / 2 - (height - high) / 2 + h)
            center = math.ceil(width / 2 - (height - wide) / 2 + w)  # as in Torch7, with the height
            top, left = max(1, middle - math.ceil(high / 2)), max(1, center - math.ceil(wide / 2))
            found.append((rows_from(top, high, height), rows_from(left, wide, width)))
        return found

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4, like=self.type_sample)
        height, width = input.shape[-2:]
        if height < self.oheight or width < self.owidth:
            least = f"{self.oheight}x{self.owidth}"
            raise InputError(f"expected images of at least {least} pixels, got {describe(input)}")
        if self.train is False:
            return
        places, scales = [], []
        for _ in range(len(input) if input.dim() == 4 else 1):
            s: float = 1
            if self.scale is not None:
                s = mersenne.uniform(
                    *(self.scale[k] or self.scale[i] for i, k in enumerate(("min", "max"), 1))
                )
                scales.append(s)
            sizes = (height, self.oheight), (width, self.owidth)
            places.append([math.ceil(mersenne.uniform(1e-2, n - math.ceil(s * own))) for n, own in sizes])
        self.coord = torch.tensor(places, dtype=torch.int32)
        if self.scale is not None:
            self.scales = torch.tensor(scales, dtype=torch.float32)

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        if type is not None:
            vars(self).pop("coord", None)
        return super().type(type, tensorCache)


def rows_from(first: int, count: int, whole: int) -> slice:
    """The `count` rows from the one numbered `first`, of `whole` ones."""
    start = from_start(first, whole)
    if start + count > whole:
        raise InputError(
            f"expected an image in which a part of {count} pixels begins at {first}, got {whole}"
        )
    return slice(start, start + count)
