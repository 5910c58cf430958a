"""Layers that draw random numbers."""

from __future__ import annotations

import functools
from typing import Any

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.shapes import expect
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class Dropout(Module):
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
        if not 0 <= p < 1:
            raise InputError(f"nn.Dropout: illegal percentage, must be 0 <= p < 1, got {p}")
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
            return input + (input * self.noise - input).detach()  # Torch7 does not mask the gradient here
        return input if self.v2 or self.p == 0 else input * (1 - self.p)

    def prepare(self, input: Tensor) -> None:
        expect(input, like=self.output)
        if self.p > 0 and (self.train or self.stochastic_inference) and (self.flag or not self.lazy):
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
