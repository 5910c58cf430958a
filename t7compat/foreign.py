"""Classes of other packages that are those of nn under another name: cudnn's, inn's and fbnn's.

Torch programs that ran on GPUs saved such names.  An object keeps all its fields, and its name when it is
saved again; what a class does otherwise than that of nn is said by its addition here.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import registry
from t7compat.errors import InputError
from t7compat.nn.luaobject import clear
from t7compat.nn.module import Module
from t7compat.nn.normalization import BatchNormalization
from t7compat.nn.pooling import RoundedPooling
from t7compat.nn.shapes import expect
from t7compat.t7file.objects import LongStorage
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


# ---- convolutions


class Tuned(Module, typename=""):
    """Convolutions of cudnn: how they choose an algorithm, which is left to PyTorch here."""

    def fastest(self, mode: bool = True) -> Any:
        """Prefer fast algorithms to those with little memory."""
        self.fastest_mode = mode
        return self

    def setMode(
        self, fmode: str | None = None, bdmode: str | None = None, bwmode: str | None = None
    ) -> Any:  # fmt: skip
        """Choose the algorithms of the three passes."""
        modes = {"fmode": fmode, "bdmode": bdmode, "bwmode": bwmode}
        vars(self).update((name, mode) for name, mode in modes.items() if mode is not None)
        return self

    def resetMode(self) -> Any:
        """Go back to the usual choice."""
        for name in ("fmode", "bdmode", "bwmode"):
            vars(self).pop(name, None)
        return self

    def clearState(self) -> Any:
        clear(self, "_input", "_gradOutput", "input_slice", "output_slice", "oSize")
        return super().clearState()


class Grouped(Tuned, typename=""):
    """cudnn.SpatialConvolution: each of `groups` parts of the input planes is seen by one of the outputs'."""

    def __init__(
        self, nInputPlane: int, nOutputPlane: int, kW: int, kH: int, dW: int = 1, dH: int = 1,
        padW: int = 0, padH: int = 0, groups: int = 1,
    ) -> None:  # fmt: skip
        if nInputPlane % groups or nOutputPlane % groups:
            planes = f"{nInputPlane} and {nOutputPlane}"
            raise InputError(f"{self.__typename__}: expected planes for {groups} groups, got {planes}")
        Module.__init__(
            self, nInputPlane=nInputPlane, nOutputPlane=nOutputPlane, kW=kW, kH=kH, dW=dW, dH=dH,
            padW=padW, padH=padH, groups=groups,
            weight=new_tensor(nOutputPlane, nInputPlane // groups, kH, kW), bias=new_tensor(nOutputPlane),
        )  # fmt: skip
        self.reset()

    def upgrade(self, version: int) -> None:
        """In 2015, kW and kH were mixed up in the sizes of the weight, and the field `reset` was kept."""
        vars(self).pop("reset", None)
        size = self.nOutputPlane, self.nInputPlane // self.groups, *self.kernel
        for name in ("weight", "gradWeight"):
            tensor = vars(self).get(name)
            if tensor is not None and tensor.shape != size and tensor.numel() == math.prod(size):
                vars(self)[name] = tensor.view(size)


class Temporal(Tuned, typename=""):
    """cudnn.TemporalConvolution: kH frames at a time, padH frames of zeros at both ends."""

    padH = 0

    def __init__(
        self, inputFrameSize: int, outputFrameSize: int, kH: int, dH: int = 1, padH: int = 0
    ) -> None:
        Module.__init__(
            self, inputFrameSize=inputFrameSize, outputFrameSize=outputFrameSize,
            nInputPlane=1, nOutputPlane=outputFrameSize, kW=inputFrameSize, kH=kH, dW=1, dH=dH,
            padW=0, padH=padH, groups=1,
            weight=new_tensor(outputFrameSize, inputFrameSize * kH), bias=new_tensor(outputFrameSize),
        )  # fmt: skip
        self.reset()

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        weight = weight.view(-1, self.kH, self.kW).transpose(1, 2)
        output = F.conv1d(input.transpose(-2, -1), weight, bias, self.dH, self.padH)
        return output.transpose(-2, -1).contiguous()

    def prepare(self, input: Any) -> None:
        expect(input, 2, 3, size=self.kW)

    def upgrade(self, version: int) -> None:
        """The field `reset` was kept in 2015."""
        vars(self).pop("reset", None)


# ---- functions of every element, normalisation


class Pointwise(Module, typename=""):
    """Functions of every element."""

    def __init__(self, inplace: bool = False) -> None:
        Module.__init__(self, inplace=bool(inplace))


class BatchStatistics(Module, typename=""):
    """Batch normalisations of cudnn: in training, a batch of one is normalised by its own statistics, too."""

    __version__ = 2
    native = BatchNormalization.native

    def compute(self, input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        input = input if input.dim() == self.nDim else input[None]
        means, variances = self.running_mean, self.running_var
        if not self.train or input.numel() == input.shape[1]:
            return F.batch_norm(input, means, variances, weight, bias, eps=self.eps)
        output, self.save_mean, self.save_std = torch.native_batch_norm(
            input, weight, bias, means, variances, True, self.momentum, self.eps
        )
        return output

    def __str__(self) -> str:
        return self.__typename__


class CrossMap(Module, typename=""):
    """cudnn.SpatialCrossMapLRN: a window of 5 planes unless another one is given."""

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        Module.__init__(self, size=size, alpha=alpha, beta=beta, k=k)

    def upgrade(self, version: int) -> None:
        """The field `k` was called K until September 2015."""
        if "K" in vars(self):
            self.k = vars(self).pop("K")


# ---- pooling


class Pooled(RoundedPooling, typename=""):
    """Poolings of cudnn, over planes.

    Averages count padding as zeros.  Files of 2014 have neither padding nor `ceil_mode`.
    """

    ceil_mode = False
    divide = count_include_pad = True

    def __init__(
        self, kW: int, kH: int, dW: int | None = None, dH: int | None = None, padW: int = 0, padH: int = 0
    ) -> None:
        dW, dH = kW if dW is None else dW, kH if dH is None else dH
        Module.__init__(
            self,
            kW=kW,
            kH=kH,
            dW=dW,
            dH=dH,
            padW=padW,
            padH=padH,
            ceil_mode=False,
            iSize=LongStorage([0] * 4),
        )

    def prepare(self, input: Any) -> None:
        if not self.divide:
            raise InputError(f"{self.__typename__}: sums, with divide = false, are for nn's class only")
        super().prepare(input)

    def upgrade(self, version: int) -> None:
        """Whatever a file says of `count_include_pad`, padding counts."""
        if "count_include_pad" in vars(self):
            self.count_include_pad = True


class PooledVolumes(Pooled, typename=""):
    """Poolings of cudnn, over volumes."""

    def __init__(
        self, kT: int, kW: int, kH: int, dT: int | None = None, dW: int | None = None, dH: int | None = None,
        padT: int = 0, padW: int = 0, padH: int = 0,
    ) -> None:  # fmt: skip
        dT, dW, dH = (k if d is None else d for k, d in ((kT, dT), (kW, dW), (kH, dH)))
        Module.__init__(
            self, kT=kT, kW=kW, kH=kH, dT=dT, dW=dW, dH=dH, padT=padT, padW=padW, padH=padH,
            ceil_mode=False, iSize=LongStorage([0] * 5),
        )  # fmt: skip

    def __str__(self) -> str:
        return self.__typename__


class AveragedVolumes(PooledVolumes, typename=""):
    """cudnn.VolumetricAveragePooling: unlike that of nn, it knows padding and rounding up."""

    def compute(self, input: Tensor) -> Tensor:
        return F.avg_pool3d(input, self.kernel, self.strides, self.paddings, self.ceil_mode)

    def native(self) -> functools.partial[Any]:
        layer: Any = torch.nn.AvgPool3d
        return functools.partial(layer, self.kernel, self.strides, self.paddings, ceil_mode=self.ceil_mode)


class RoundedUp(Module, typename=""):
    """Poolings of inn: the size of the output is always rounded up."""

    ceil_mode = True

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)  # type: ignore[call-arg]
        self.ceil_mode = True

    def upgrade(self, version: int) -> None:
        """Files of 2014 are of a class of inn's own, which did not know `ceil_mode`."""
        self.ceil_mode = self.divide = True


# ---- the table


class Plain(Module, typename=""):
    """The text of an object is the name of its class."""

    def __str__(self) -> str:
        return self.__typename__


ALIASES: dict[str, tuple[str, type | None]] = {
    "cudnn.BatchNormalization": ("nn.BatchNormalization", BatchStatistics),
    "cudnn.ReLU": ("nn.ReLU", Pointwise),
    "cudnn.Sigmoid": ("nn.Sigmoid", Pointwise),
    "cudnn.SpatialAveragePooling": ("nn.SpatialAveragePooling", Pooled),
    "cudnn.SpatialBatchNormalization": ("nn.SpatialBatchNormalization", BatchStatistics),
    "cudnn.SpatialConvolution": ("nn.SpatialConvolution", Grouped),
    "cudnn.SpatialCrossMapLRN": ("nn.SpatialCrossMapLRN", CrossMap),
    "cudnn.SpatialFullConvolution": ("nn.SpatialFullConvolution", Tuned),
    "cudnn.SpatialMaxPooling": ("nn.SpatialMaxPooling", Pooled),
    "cudnn.Tanh": ("nn.Tanh", Pointwise),
    "cudnn.TemporalConvolution": ("nn.TemporalConvolution", Temporal),
    "cudnn.VolumetricAveragePooling": ("nn.VolumetricAveragePooling", AveragedVolumes),
    "cudnn.VolumetricBatchNormalization": ("nn.VolumetricBatchNormalization", BatchStatistics),
    "cudnn.VolumetricConvolution": ("nn.VolumetricConvolution", Tuned),
    "cudnn.VolumetricFullConvolution": ("nn.VolumetricFullConvolution", Tuned),
    "cudnn.VolumetricMaxPooling": ("nn.VolumetricMaxPooling", PooledVolumes),
    "fbnn.Dropout": ("nn.Dropout", Plain),
    "inn.SpatialAveragePooling": ("nn.SpatialAveragePooling", RoundedUp),
    "inn.SpatialCrossResponseNormalization": ("nn.SpatialCrossMapLRN", None),
    "inn.SpatialMaxPooling": ("nn.SpatialMaxPooling", RoundedUp),
}
for _name, (_original, _addition) in ALIASES.items():
    registry.alias(_name, _original, _addition)


def __getattr__(name: str) -> Any:
    """The class `cudnn.ReLU` as `cudnn_ReLU`, the name under which pickle finds it."""
    cls = registry.lookup(name.replace("_", ".", 1))
    if cls is None:
        raise AttributeError(name)
    return cls
