"""Layers that normalise their input."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.containers import Sequential
from t7compat.nn.convolution import SpatialConvolution
from t7compat.nn.mapconvolution import SpatialConvolutionMap
from t7compat.nn.module import Module
from t7compat.nn.rectifiers import Threshold
from t7compat.nn.resampling import SpatialZeroPadding
from t7compat.nn.shapes import describe, expect, like
from t7compat.nn.shaping import Replicate
from t7compat.nn.tables import CDivTable, CSubTable
from t7compat.nn.tape import Tape
from t7compat.nn.transfer import Sqrt, Square
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class BatchNormalization(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias, for each feature.  (batch, n) -> (batch, n)

    In training the statistics are those of the batch, and running ones are kept: new = (1 - momentum) * old +
    momentum * batch.  In evaluation, and for a batch of one, the running ones are used; a sample without
    batch then becomes a batch of one, in gradInput too.  `save_mean` and `save_std` keep the mean and 1 /
    sqrt(var + eps) of the last batch of training.  Ioffe and Szegedy, 2015.
    """

    __version__ = 2
    nDim = 2
    dpnn_parameters = ("weight", "bias", "running_mean", "running_var")
    dpnn_mediumEmpty = (
        *Module.dpnn_mediumEmpty,
        *("buffer", "buffer2", "centered", "std", "normalized", "output", "gradInput"),
    )
    parameter_names = ("weight", "bias")
    scratch = (
        "save_mean", "save_std", "buffer", "buffer2", "centered", "std", "normalized", "_input", "_gradOutput"
    )  # fmt: skip
    layer: type[torch.nn.Module] = torch.nn.BatchNorm1d
    uses_output = False
    weight: Tensor | None = None
    bias: Tensor | None = None
    eps: float
    momentum: float

    def __init__(self, nOutput: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__(affine=affine, eps=eps, train=True, momentum=momentum)
        self.running_mean, self.running_var = new_tensor(nOutput), new_tensor(nOutput).fill_(1)
        if affine:
            self.weight, self.bias = new_tensor(nOutput), new_tensor(nOutput)
            self.gradWeight, self.gradBias = new_tensor(nOutput), new_tensor(nOutput)
            self.reset()

    def compute(self, input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        input = input if input.dim() == self.nDim else input[None]
        means, variances = self.running_mean, self.running_var
        if not self.train or len(input) == 1:
            return F.batch_norm(input, means, variances, weight, bias, eps=self.eps)
        output, mean, std = torch.native_batch_norm(
            input, weight, bias, means, variances, True, self.momentum, self.eps
        )
        self.save_mean = mean
        self.save_std = std
        return output

    def trace(self, tape: Tape, input: Any) -> Any:
        if self.train is False and isinstance(input, Tensor) and input.dim() == self.nDim - 1:
            input = input[None]  # the output and gradInput are those of a batch of one
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
        expect(input, self.nDim, *one, size=self.running_mean.numel(), at=1)

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

    __version__ = 2
    nDim = 4
    layer = torch.nn.BatchNorm2d


class VolumetricBatchNormalization(BatchNormalization):
    """Batch normalisation of volumes.  (batch, n, t, h, w) -> same shape"""

    nDim = 5
    layer = torch.nn.BatchNorm3d


class SpatialCrossMapLRN(Module):
    """x / (k + alpha / size * sum x^2)^beta, summed over `size` neighbouring planes.

    (n, h, w) or (batch, n, h, w) -> same shape.  Krizhevsky et al., 2012.
    """

    scratch = ("scale", "paddedRatio", "accumRatio")

    def __init__(self, size: int, alpha: float = 0.0001, beta: float = 0.75, k: float = 1) -> None:
        super().__init__(size=size, alpha=alpha, beta=beta, k=k)

    def compute(self, input: Tensor) -> Tensor:
        planes, before = input.shape[-3], (self.size - 1) // 2
        squares = F.pad(input * input, (0, 0, 0, 0, before, self.size - 1 - before))
        sums = squares.narrow(-3, 0, planes)
        for i in range(1, self.size):
            sums = sums + squares.narrow(-3, i, planes)
        return input * (sums * (self.alpha / self.size) + self.k).pow(-self.beta)

    def native(self) -> functools.partial[Any] | None:
        arguments = self.size, self.alpha, self.beta, self.k
        return functools.partial(torch.nn.LocalResponseNorm, *arguments) if self.size % 2 else None

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4)


# ---- normalisation by a neighbourhood


class NeighbourhoodNormalization(Module, typename=""):
    """What subtractive and divisive normalisation have in common.

    The weights are those of the convolutions inside `meanestimator`: of one in two dimensions, or (for a
    kernel of one dimension) of one along the rows of each plane and one along the columns of all.
    """

    scratch = ("_inpsz", "ones", "_coef")

    def __init__(self, nInputPlane: int | None, kernel: Tensor, **fields: Any) -> None:
        super().__init__(nInputPlane=nInputPlane, kernel=kernel, coef=new_tensor(1, 1, 1), **fields)
        self.meanestimator = self.estimator()
        self.divider = CDivTable()

    def estimator(self, *before: Module, after: tuple[Module, ...] = ()) -> Sequential:
        """The network that sums over a neighbourhood, between other modules."""
        planes, kernel = self.nInputPlane, self.kernel
        sizes = kernel.shape[0], kernel.shape[-1]
        padH, padW = sizes[0] // 2, sizes[1] // 2
        inner: list[Any]
        if kernel.dim() == 2:
            inner = [SpatialConvolution(planes, 1, sizes[1], sizes[0])]
            inner[0].weight.copy_(kernel)
        else:
            one_to_one = new_tensor(planes, 2).copy_(torch.arange(1, planes + 1)[:, None])
            inner = [SpatialConvolutionMap(one_to_one, sizes[0], 1)]
            inner.append(SpatialConvolution(planes, 1, 1, sizes[0]))
            inner[0].weight.copy_(kernel)
            inner[1].weight.copy_(kernel[:, None])
        for convolution in inner:
            convolution.bias.zero_()
        network = Sequential()
        padding = SpatialZeroPadding(padW, padW, padH, padH)
        for module in (*before, padding, *inner, Replicate(planes, 1, 3), *after):
            network.add(module)
        return network

    @property
    def rows(self) -> Tensor | None:
        """The weights along the rows of each plane; None for a kernel of two dimensions."""
        if self.kernel.dim() == 2:
            return None
        weight: Tensor = self.meanestimator.get(2).weight
        return weight[:, None]

    @property
    def columns(self) -> Tensor:
        """The weights of the convolution over all planes."""
        weight: Tensor = self.meanestimator.get(self.meanestimator.size() - 1).weight
        return weight

    def prepare(self, input: Any) -> None:
        expect(input, 3, 4, size=self.nInputPlane, at=-3, like=self.columns)

    def clearState(self) -> Any:
        for name in ("meanestimator", "stdestimator"):
            if name in vars(self):
                vars(self)[name].clearState()
        return super().clearState()


def expected_kernel(module: Module, kernel: Tensor | None) -> Tensor:
    """A kernel to average with: all of 9 x 9 by default; InputError unless it has a middle."""
    kernel = new_tensor(9, 9).fill_(1) if kernel is None else kernel
    if kernel.dim() not in (1, 2) or any(size % 2 == 0 for size in kernel.shape):
        wanted = "a kernel of one or two dimensions and odd sizes"
        raise InputError(f"{module.__typename__}: expected {wanted}, got {describe(kernel)}")
    return kernel


def neighbourhood(x: Tensor, rows: Tensor | None, columns: Tensor) -> Tensor:
    """The weighted sums around each place over all planes, with zeros beyond the borders, as one plane."""
    if rows is not None:
        x = F.conv2d(x, rows, padding=(0, rows.shape[-1] // 2), groups=len(rows))
    return F.conv2d(x, columns, padding=(columns.shape[-2] // 2, columns.shape[-1] // 2))


class SpatialSubtractiveNormalization(NeighbourhoodNormalization):
    """x - the weighted mean of all planes around each place.

    (n, h, w) or (batch, n, h, w) -> same shape.  At the borders the mean is over what there is.
    """

    def __init__(self, nInputPlane: int = 1, kernel: Tensor | None = None) -> None:
        kernel = expected_kernel(self, kernel)
        super().__init__(nInputPlane, kernel / (kernel.sum() * nInputPlane), subtractor=CSubTable())

    def compute(self, input: Tensor) -> Tensor:
        batch = input if input.dim() == 4 else input[None]
        sums = neighbourhood(batch, self.rows, self.columns)
        means = sums / neighbourhood(torch.ones_like(batch[:1]), self.rows, self.columns)
        return like(batch - means, input)


class SpatialDivisiveNormalization(NeighbourhoodNormalization):
    """x / the weighted deviation of all planes from zero around each place.

    (n, h, w) or (batch, n, h, w) -> same shape.  A deviation of at most `threshold` counts as `thresval`.
    """

    def __init__(
        self, nInputPlane: int = 1, kernel: Tensor | None = None,
        threshold: float = 1e-4, thresval: float | None = None,
    ) -> None:  # fmt: skip
        planes, kernel = nInputPlane, expected_kernel(self, kernel)
        thresval = threshold if thresval is None else thresval
        total = kernel.sum() * (planes if kernel.dim() == 2 else math.sqrt(planes))
        super().__init__(planes, kernel / total, threshold=threshold, thresval=thresval)
        self.stdestimator = self.estimator(Square(), after=(Sqrt(),))
        self.normalizer, self.thresholder = CDivTable(), Threshold(threshold, thresval)

    def compute(self, input: Tensor) -> Tensor:
        batch = input if input.dim() == 4 else input[None]
        squares = neighbourhood(batch * batch, self.rows, self.columns)
        # The slope of the root at zero counts as zero
        roots = torch.where(squares == 0, 1, squares).sqrt().where(squares != 0, 0)
        deviations = roots / neighbourhood(torch.ones_like(batch[:1]), self.rows, self.columns)
        return like(batch / deviations.where(deviations > self.threshold, self.thresval), input)


class SpatialContrastiveNormalization(Module):
    """Subtractive, then divisive normalisation.  (n, h, w) or (batch, n, h, w) -> same shape"""

    def __init__(
        self, nInputPlane: int = 1, kernel: Tensor | None = None,
        threshold: float = 1e-4, thresval: float | None = None,
    ) -> None:  # fmt: skip
        planes, kernel = nInputPlane, expected_kernel(self, kernel)
        thresval = threshold if thresval is None else thresval
        super().__init__(nInputPlane=planes, threshold=threshold, thresval=thresval)
        subtractive = SpatialSubtractiveNormalization(planes, kernel)
        divisive = SpatialDivisiveNormalization(planes, subtractive.kernel, threshold, thresval)
        self.kernel = vars(subtractive)["kernel"] = divisive.kernel  # in Torch7 they are one tensor
        self.normalizer = Sequential().add(subtractive).add(divisive)

    def operands(self, tape: Tape) -> list[Any]:
        return [functools.partial(tape.call, self.normalizer)]

    def compute(self, input: Any, normalizer: Callable[[Any], Any]) -> Any:
        return normalizer(input)
