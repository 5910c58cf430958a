"""Layers for training: they draw random numbers, or change the gradient."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any, NoReturn

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.luaobject import clear
from t7compat.nn.module import TensorLayer
from t7compat.nn.shapes import expect, with_gradient
from t7compat.nn.stepping import ANY_DIMS
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


def without_gradient(output: Tensor, layer: str) -> Tensor:
    """The output of a layer that, as in Torch7, refuses a backward in evaluation mode."""

    def refuse(gradient: Tensor) -> NoReturn:
        raise InputError("expected training mode: backward is not defined in evaluation").within(layer)

    return with_gradient(output, refuse)


def expect_percentage(layer: Any, p: float) -> None:
    """Raise InputError unless p is a probability with which a layer may drop something."""
    if not 0 <= p < 1:
        raise InputError(f"{layer.__typename__}: illegal percentage, must be 0 <= p < 1, got {p}")


class Dropout(TensorLayer):
    """Zeroes each element with probability p.  any shape -> same shape

    In training the others are multiplied by 1 / (1 - p).  Version 1 (`v1`) scales by 1 - p in evaluation
    instead.  With `stochasticInference` elements are dropped in evaluation too.  Reference: Srivastava et
    al., 2014.

    The rnn package redefines the class as `Dropout(p, v1, inplace, lazy, mono)`: a lazy one keeps its mask
    until there was a backward, and a mono one draws one mask for all samples of a batch (Gal, 2015).  Five
    arguments, or `lazy=`, make one of this kind.
    """

    scratch = ("noise",)
    v2 = False  # files without the field are of version 1
    stochastic_inference = False
    lazy: bool | None = None
    mono = False
    flag = True  # whether a lazy one draws at the next forward

    def __init__(
        self, p: float = 0.5, v1: bool = False, inplace: bool | None = None,
        stochasticInference: bool = False, mono: bool | None = None, *, lazy: bool | None = None,
    ) -> None:  # fmt: skip
        expect_percentage(self, p)
        super().__init__(p=p, train=True, inplace=inplace, v2=not v1, noise=new_tensor())
        if lazy is None and mono is None:
            self.stochastic_inference = bool(stochasticInference)
        else:
            self.lazy, self.mono, self.flag = (
                bool(stochasticInference if lazy is None else lazy),
                bool(mono),
                True,
            )

    def compute(self, input: Tensor) -> Tensor:
        if self.p > 0 and self.train:
            return input * self.noise
        if self.p > 0 and self.stochastic_inference:
            slope = 1 if self.v2 else 1 - self.p  # Torch7 does not mask the gradient here
            return (input * self.noise).detach() + slope * (input - input.detach())
        return input if self.v2 or self.p == 0 else input * (1 - self.p)

    def prepare(self, input: Tensor) -> None:
        super().prepare(input)
        if self.draws() and (self.flag or not self.lazy):
            shape = (1, *input.shape[1:]) if self.mono else input.shape
            self.noise = mersenne.bernoulli_(input.new_empty(shape), 1 - self.p)
            if self.v2:
                self.noise.div_(1 - self.p)
            if self.lazy is not None:
                self.flag = False

    def native(self) -> functools.partial[Any] | None:
        return (
            functools.partial(torch.nn.Dropout, self.p) if self.v2 and not self.stochastic_inference else None
        )

    @property
    def keeps_state(self) -> bool:  # type: ignore[override]
        return bool(self.lazy) and self.p > 0

    @property
    def row_dims(self) -> Collection[int]:  # type: ignore[override]
        return () if self.p > 0 and (self.lazy or self.mono) else ANY_DIMS

    def draws(self) -> bool:
        """Whether a forward draws random numbers now."""
        return self.p > 0 and bool(self.train or self.stochastic_inference)

    def passed_back(self) -> None:
        if self.lazy:
            self.flag = True

    def setp(self, p: float) -> None:
        """Choose another probability."""
        self.p = p

    def clearState(self) -> Any:
        self.passed_back()
        return super().clearState()

    def __str__(self) -> str:
        if self.lazy is None:
            return f"{self.__typename__}({self.p:f})"
        return f"{self.__typename__}({self.p:.1f}, {'lazy' if self.lazy else 'busy'})"


class PlaneDropout(TensorLayer, typename=""):
    """The base of the layers that zero whole planes; `axes` names the dimensions of one.

    Unlike Dropout, they multiply by 1 - p in evaluation, and by nothing in training.  With
    `stochasticInference` planes are dropped in evaluation, too.  Tompson et al., 2015.
    """

    axes: str
    scratch = ("noise",)
    stochastic_inference = False
    setp = Dropout.setp

    def __init__(self, p: float = 0.5, stochasticInference: bool = False) -> None:
        super().__init__(p=p, train=True, stochastic_inference=bool(stochasticInference), noise=new_tensor())

    def compute(self, input: Tensor) -> Tensor:
        if self.train:
            return input * self.noise
        output = input * self.noise if self.stochastic_inference else input * (1 - self.p)
        return without_gradient(output, self.__typename__)

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        if self.train or self.stochastic_inference:
            inner = len(self.axes)
            expect(input, inner + 1, inner + 2)
            shape = (*input.shape[:-inner], *(1,) * inner)
            self.noise = mersenne.bernoulli_(input.new_empty(shape), 1 - self.p)

    def __str__(self) -> str:
        return f"{self.__typename__}({self.p:f})"


class SpatialDropout(PlaneDropout):
    """Zeroes each feature map with probability p.  (n, h, w) or (batch, n, h, w) -> same shape"""

    axes = "HW"


class VolumetricDropout(PlaneDropout):
    """Zeroes each volume with probability p.  (n, t, h, w) or (batch, n, t, h, w) -> same shape"""

    axes = "THW"


class WhiteNoise(TensorLayer):
    """x + a number of the normal distribution in training, x + mean in evaluation.  any shape -> same shape

    `noise` keeps the numbers.  There is no backward in evaluation.
    """

    def __init__(self, mean: float = 0, std: float = 0.1) -> None:
        super().__init__(mean=mean, std=std, noise=new_tensor())

    def compute(self, input: Tensor) -> Tensor:
        if self.train is not False:
            return input + self.noise
        return without_gradient(input + self.mean, self.__typename__)

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        if self.train is not False:
            self.noise = mersenne.normal_(torch.empty_like(input, requires_grad=False), self.mean, self.std)

    def clearState(self) -> Any:
        """Empty the noise; as in Torch7, nothing else is emptied, and nothing returned."""
        clear(self, "noise")

    def __str__(self) -> str:
        return f"{self.__typename__} mean: {self.mean:f}, std: {self.std:f}"


class GradientReversal(TensorLayer):
    """x, whose gradient goes back times -lambda.  any shape -> same shape

    Ganin and Lempitsky, 2015.
    """

    __version__ = 2

    def __init__(self, lambda_: float = 1) -> None:
        super().__init__(**{"lambda": lambda_})

    @property
    def lambda_(self) -> float:
        """The field `lambda`, a name that Python keeps for itself."""
        value: float = vars(self)["lambda"]
        return value

    def compute(self, input: Tensor) -> Tensor:
        factor = -self.lambda_
        return with_gradient(input, lambda gradient: factor * gradient)

    def setLambda(self, lambda_: float) -> None:
        """Choose another factor."""
        vars(self)["lambda"] = lambda_

    def upgrade(self, version: int) -> None:
        """Version 1 had no factor."""
        if version < 2:
            self.setLambda(1)


class L1Penalty(TensorLayer):
    """x, whose gradient gets that of the penalty l1weight * sum |x| added.  any shape -> same shape

    With `sizeAverage` the penalty is divided by the number of elements.  Without `provideOutput` its gradient
    takes the place of what comes back.  `loss` keeps the penalty of the last forward.
    """

    def __init__(self, l1weight: float, sizeAverage: bool = False, provideOutput: bool = True) -> None:
        super().__init__(l1weight=l1weight, sizeAverage=sizeAverage, provideOutput=provideOutput)

    def compute(self, input: Tensor) -> Tensor:
        weight = self.l1weight / (input.numel() if self.sizeAverage else 1)
        if self.provideOutput:
            return with_gradient(input, lambda gradient: gradient + weight * input.sign())
        return with_gradient(input, lambda gradient: weight * input.sign())

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        count = input.numel() if self.sizeAverage else 1
        self.loss = self.l1weight / count * input.detach().norm(1).item()
