"""Layers that normalise their input."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.nn.module import Module
from t7compat.nn.shapes import expect
from t7compat.nn.tape import Tape
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class BatchNormalization(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias, for each feature.  (batch, n) -> (batch, n)

    In training the statistics are those of the batch, and running ones are kept: new = (1 - momentum) * old +
    momentum * batch.  In evaluation, and for a batch of one, the running ones are used; a sample without
    batch then gets one. Ioffe and Szegedy, 2015.
    """

    __version__ = 2
    nDim = 2
    dpnn_parameters = ("weight", "bias", "running_mean", "running_var")
    parameter_names = ("weight", "bias")
    scratch = (
        "buffer",
        "buffer2",
        "centered",
        "std",
        "normalized",
        "_input",
        "_gradOutput",
        "save_mean",
        "save_std",
    )
    layer: type[torch.nn.Module] = torch.nn.BatchNorm1d
    weight: Tensor | None = None
    bias: Tensor | None = None
    eps: float
    momentum: float

    def __init__(
        self, nOutput: int, eps: float | None = None, momentum: float | None = None,
        affine: bool | None = True,
    ) -> None:  # fmt: skip
        affine = affine is None or affine
        super().__init__(affine=affine, eps=eps or 1e-5, train=True, momentum=momentum or 0.1)
        self.running_mean, self.running_var = new_tensor(nOutput), new_tensor(nOutput).fill_(1)
        if affine:
            self.weight, self.bias = new_tensor(nOutput), new_tensor(nOutput)
            self.gradWeight, self.gradBias = new_tensor(nOutput), new_tensor(nOutput)
            self.reset()

    def compute(self, input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        input = input if input.dim() == self.nDim else input[None]
        training = bool(self.train) and len(input) > 1
        return F.batch_norm(
            input, self.running_mean, self.running_var, weight, bias, training, self.momentum, self.eps
        )  # fmt: skip

    def trace(self, tape: Tape, input: Any) -> Any:
        momentum = self.momentum
        if tape.is_replay:  # the running statistics have this batch already
            self.momentum = 0.0
        try:
            return super().trace(tape, input)
        finally:
            self.momentum = momentum

    def native(self) -> functools.partial[Any]:
        count, affine = self.running_mean.numel(), self.weight is not None
        return functools.partial(self.layer, count, self.eps, self.momentum, affine)

    def native_state(self) -> dict[str, Tensor]:
        statistics = {"running_mean": self.running_mean, "running_var": self.running_var}
        return super().native_state() | statistics | {"num_batches_tracked": torch.tensor(0)}

    def prepare(self, input: Any) -> None:
        one = (self.nDim - 1,) if self.train is False else ()
        at = 0 if isinstance(input, Tensor) and input.dim() == self.nDim - 1 else 1
        expect(input, self.nDim, *one, size=self.running_mean.numel(), at=at)

    def reset(self, stdv: float | None = None) -> None:
        if self.weight is not None:
            mersenne.uniform_(self.weight, 0, 1)
        if self.bias is not None:
            self.bias.zero_()
        self.running_mean.zero_()
        self.running_var.fill_(1)

    def upgrade(self, version: int) -> None:
        """Version 1 kept running_std = 1 / sqrt(var + eps)."""
        if version < 2 and "running_std" in vars(self):
            self.running_var = vars(self).pop("running_std").pow(-2).sub(self.eps)

    def __str__(self) -> str:
        return f"{self.__typename__} ({self.nDim}D) ({self.running_mean.numel()})"


class SpatialBatchNormalization(BatchNormalization):
    """Batch normalisation of feature maps.  (batch, n, h, w) -> same shape"""

    nDim = 4
    layer = torch.nn.BatchNorm2d


class VolumetricBatchNormalization(BatchNormalization):
    """Batch normalisation of volumes.  (batch, n, t, h, w) -> same shape"""

    nDim = 5
    layer = torch.nn.BatchNorm3d
