"""Blocks of convolutions side by side, from well-known networks for images."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from t7compat import nn
from t7compat.errors import InputError
from t7compat.nn.containers import Child, Concat, Decorator, DepthConcat, Sequential
from t7compat.nn.convolution import SpatialConvolution
from t7compat.nn.module import Module
from t7compat.nn.normalization import SpatialBatchNormalization
from t7compat.nn.pooling import SpatialMaxPooling
from t7compat.nn.shapes import batch_of_one, describe
from t7compat.table import Table


class FireModule(Decorator):
    """SqueezeNet's block: 1x1 convolutions to s1x1 planes, then 1x1 and 3x3 ones side by side.

    (batch, nInputPlane, h, w) -> (batch, e1x1 + e3x3, h, w); `activation` names the class of what follows the
    convolutions.  Iandola et al., 2016.
    """

    def __init__(
        self, nInputPlane: int, s1x1: int, e1x1: int, e3x3: int, activation: str | None = None
    ) -> None:
        if s1x1 > e1x1 + e3x3:
            warnings.warn("nn.FireModule: s1x1 should be smaller than e1x1 + e3x3", stacklevel=2)
        activation = activation or "ReLU"
        squeeze = SpatialConvolution(nInputPlane, s1x1, 1, 1)
        expand = Concat(2).add(SpatialConvolution(s1x1, e1x1, 1, 1))
        expand.add(SpatialConvolution(s1x1, e3x3, 3, 3, 1, 1, 1, 1))
        kind: Any = getattr(nn, activation)
        module = Sequential().extend(squeeze, kind(), expand, kind())
        super().__init__(module)
        self.nInputPlane, self.s1x1, self.e1x1, self.e3x3 = nInputPlane, s1x1, e1x1, e3x3
        self.activation, self.module, self.squeeze, self.expand = activation, module, squeeze, expand

    def __str__(self) -> str:
        expand = f"{self.e1x1}(1x1) + {self.e3x3}(3x3), activation: {self.activation}"
        planes = f"inputPlanes: {self.nInputPlane} -> Squeeze Planes: {self.s1x1}"
        return f"{self.__typename__} {planes} -> Expand: {expand}"


class Inception(Decorator):
    """Columns of convolutions side by side, whose outputs are joined.  Szegedy et al., 2014

    (batch, inputSize, h, w) or (inputSize, h, w) -> (..., sum of the columns' planes, h', w').  `config` has
    inputSize, outputSize and reduceSize, and may have reduceStride, transfer, batchNorm, padding, kernelSize
    ({5, 3}), kernelStride ({1, 1}), poolSize (3), poolStride (1) and pool.  Column i is a 1x1 convolution to
    reduceSize[i] planes, then one of kernelSize[i] to outputSize[i]; the last but one is `pool` and a 1x1
    convolution, the last a 1x1 convolution.  These two are left out where reduceSize has no entry for them.
    """

    batchNorm: bool | None = None

    def __init__(self, config: Any) -> None:
        config = Table.from_python(config)
        if not isinstance(config, Table) or None in (config.inputSize, config.outputSize, config.reduceSize):
            wanted = "a table with inputSize, outputSize and reduceSize"
            raise InputError(f"nn.Inception: expected {wanted}, got {describe(config)}")
        columns = DepthConcat(2)
        super().__init__(columns)
        defaults = {
            "reduceStride": Table(), "transfer": None, "batchNorm": None, "padding": True, "pool": None,
            "kernelSize": Table(5, 3), "kernelStride": Table(1, 1), "poolSize": 3, "poolStride": 1,
        }  # fmt: skip
        for name in ("inputSize", "outputSize", "reduceSize", *defaults):
            value = defaults.get(name) if config[name] is None else config[name]
            if value is not None:
                vars(self)[name] = value
        if config.transfer is None:
            self.transfer = nn.ReLU()
        if config.pool is None:
            self.pool = SpatialMaxPooling(self.poolSize, self.poolSize, self.poolStride, self.poolStride)
        count = len(self.kernelSize)
        for i in range(1, count + 1):
            columns.add(self._convolutions(i))
        columns.add(Sequential().extend(self.pool, *self._reduction(count + 1)))
        if self.reduceSize[count + 2]:
            columns.add(Sequential().extend(*self._reduction(count + 2)))
        if len(set(self._sizes(100))) > 1:
            warnings.warn("nn.Inception: the outputs of the columns differ in size", stacklevel=2)

    def _followed(self, convolution: SpatialConvolution) -> list[Module]:
        """A convolution and what comes after each of them."""
        normalization = [SpatialBatchNormalization(convolution.nOutputPlane)] if self.batchNorm else []
        return [convolution, *normalization, self.transfer.clone()]

    def _reduction(self, i: int) -> list[Module]:
        """The 1x1 convolution of a column, if it has one."""
        planes, stride = self.reduceSize[i], self.reduceStride[i] or 1
        if not planes:
            return []
        return self._followed(SpatialConvolution(self.inputSize, planes, 1, 1, stride, stride))

    def _convolutions(self, i: int) -> Sequential:
        size, stride = self.kernelSize[i], self.kernelStride[i]
        reduction = self._reduction(i)
        sizes = size, size, stride, stride, size // 2 if self.padding else 0
        wide = SpatialConvolution(self.reduceSize[i], self.outputSize[i], *sizes)
        return Sequential().extend(*reduction, *self._followed(wide))

    def _sizes(self, size: int) -> list[int]:
        """The width of each column's output for a width of the input."""
        kernels = zip(self.kernelSize, self.kernelStride, strict=False)
        found = [(size + 2 * (k // 2 if self.padding else 0) - k) // stride + 1 for k, stride in kernels]
        window: list[Any] = [vars(self.pool).get(name) for name in ("kW", "dW", "padW")]
        if None not in window:
            k, stride, padding = window
            found.append((size + 2 * padding - k) // stride + 1)
        last = len(self.kernelSize) + 2
        if self.reduceSize[last]:
            found.append((size - 1) // (self.reduceStride[last] or 1) + 1)
        return found

    def compute(self, input: torch.Tensor, child: Child) -> torch.Tensor:
        return child(batch_of_one(input))[0] if input.dim() == 3 else child(input)
