"""What the dpnn package adds to every module for training: momentum, penalties and limits, rewards.

Each method goes down the containers to the modules with parameters.  A module may have fields of its own
with the names of the arguments (`momFactor`, `wdFactor`, ...), which then hold for it and all below it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nested import type_name
from t7compat.nn.shapes import axis, batch_of_one, expect_number
from t7compat.t7file.objects import LongStorage, Storage
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class Batching:
    """How dpnn's modules and criterions treat a sample as a batch of one."""

    __slots__ = ()

    dpnn_online = False

    def toBatch(self, tensor: Tensor, nDim: int, batchDim: int | None = None) -> Tensor:
        """A sample, which has `nDim` dimensions, as a batch of one; a batch as it is."""
        vars(self)["dpnn_online"] = tensor.dim() == nDim
        return batch_of_one(tensor, batchDim or 1) if self.dpnn_online else tensor

    def fromBatch(self, tensor: Tensor, batchDim: int) -> Tensor:
        """The only sample of a batch, if the last `toBatch` made that of a sample."""
        return tensor.select(axis(batchDim, tensor.dim()), 0) if self.dpnn_online else tensor


class Descent(Batching):
    """The part of nn.Module that concerns steps of gradient descent, and what else dpnn adds."""

    __slots__ = ()

    maxOutNorm: float | None = None
    maxInNorm: float | None = None
    cutoffNorm: float | None = None
    moduleLocal: bool | None = None
    wdFactor: float | None = None
    wdMinDim: int | None = None
    momFactor: float | None = None
    momDamp: float | None = None
    momNesterov: bool | None = None
    momGradParams: Table | None = None
    dpnn_cinput: Tensor | None = None
    dpnn_profile: bool | None = None

    def children(self) -> Iterable[Any]:
        """The modules in the field `modules`."""
        raise NotImplementedError

    def parameters(self) -> tuple[Table, Table] | None:
        """The parameters and their gradients."""
        raise NotImplementedError

    def updateOutput(self, input: Any) -> Any:
        """Compute and set `output`."""
        raise NotImplementedError

    def sparseParameters(self) -> Any:
        """The parameters and gradients that a step of gradient descent concerns: all of them."""
        return self.parameters()

    def _is_inner(self) -> bool:
        return "modules" in vars(self)

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        """The parameters that have a gradient, each with that."""
        pairs = zip(*(self.parameters() or ((), ())), strict=True)
        return [(parameter, gradient) for parameter, gradient in pairs if gradient is not None]

    # ---- before a step

    def updateGradParameters(
        self, momFactor: float | None, momDamp: float | None = None, momNesterov: bool | None = None
    ) -> None:
        """Momentum: put the running average of the gradients in their place.

        average = momFactor * average + (1 - momDamp) * gradient, where the average starts as the first
        gradient, and the damping is momFactor if it is not given.  With `momNesterov` the gradients get
        momFactor times the average added instead.
        """
        factor = expect_number("momFactor", self.momFactor or momFactor)
        if factor <= 0:
            return
        damping = next((d for d in (self.momDamp, momDamp) if d is not None), factor)
        nesterov = momNesterov if self.momNesterov is None else self.momNesterov
        if self._is_inner():
            for module in self.children():
                module.updateGradParameters(factor, damping, nesterov)
            return
        averages = self.momentumGradParameters()
        pairs = list(zip(averages or (), [gradient for _, gradient in self._pairs()], strict=True))
        if not pairs:
            return
        means, gradients = map(list, zip(*pairs, strict=True))
        torch._foreach_mul_(means, factor)
        torch._foreach_add_(means, gradients, alpha=1 - damping)
        if nesterov:
            torch._foreach_add_(gradients, means, alpha=factor)
        else:
            torch._foreach_copy_(gradients, means)

    def momentumGradParameters(self) -> Table | None:
        """The running averages of the gradients, which begin as copies of these."""
        if not self.momGradParams:
            gradients = [gradient for _, gradient in self._pairs()]
            if not gradients:
                return None
            vars(self)["momGradParams"] = Table(*[gradient.clone() for gradient in gradients])
        return self.momGradParams

    def weightDecay(self, wdFactor: float | None, wdMinDim: int | None = None) -> None:
        """Add `wdFactor` times each parameter to its gradient, where it has `wdMinDim` (2) dimensions."""
        factor = expect_number("wdFactor", self.wdFactor or wdFactor)
        least = self.wdMinDim or wdMinDim or 2
        if factor <= 0:
            return
        if self._is_inner():
            for module in self.children():
                decay = module.weightDecay  # some classes of nn have a number in a field of this name
                (decay if callable(decay) else functools.partial(Descent.weightDecay, module))(factor, least)
            return
        for parameter, gradient in self._pairs():
            if parameter.dim() >= least:
                gradient.add_(parameter, alpha=factor)

    def gradParamClip(self, cutoffNorm: float | None, moduleLocal: bool | None = None) -> float | None:
        """Scale all gradients so that the norm of them together is at most `cutoffNorm`; that norm before.

        With `moduleLocal` this is done for each module with parameters by itself.
        """
        cutoff = expect_number("cutoffNorm", self.cutoffNorm or cutoffNorm)
        if cutoff <= 0:
            return None
        local = moduleLocal if self.moduleLocal is None else self.moduleLocal
        if local and self._is_inner():
            return math.hypot(*[module.gradParamClip(cutoff, local) or 0 for module in self.children()])
        gradients = [gradient for _, gradient in self._pairs()]
        norms = [norm.item() for norm in torch._foreach_norm(gradients)] if gradients else []
        norm = math.hypot(*norms)
        if norm > cutoff:
            torch._foreach_mul_(gradients, cutoff / norm)
        return norm

    # ---- after a step

    def maxParamNorm(self, maxOutNorm: float | None = None, maxInNorm: float | None = None) -> None:
        """Limit the norm of the weights to each output, and of those from each input; not of vectors."""
        limits = self.maxOutNorm or maxOutNorm, self.maxInNorm or maxInNorm
        if limits == (None, None):
            return
        if self._is_inner():
            for module in self.children():
                module.maxParamNorm(*limits)
            return
        for parameter in (self.parameters() or ((),))[0]:
            if parameter is not None and parameter.dim() > 1:
                limit_norms(parameter, 0, limits[0])
                limit_norms(parameter, -1, limits[1])

    def checkParameters(self) -> None:
        """Raise InputError if a parameter has become nan."""
        for index, parameter in enumerate((self.parameters() or ((),))[0], 1):
            if parameter is not None and parameter.sum().isnan():
                raise InputError(f"{type_name(self)}: NaN Error for param at index {index}")

    # ---- rewards

    def reinforce(self, reward: Any) -> None:
        """Hand a reward, one number for each sample, to the modules below that learn by REINFORCE."""
        for module in self.children():
            module.reinforce(reward)

    # ---- other

    def outside(self, insize: Any) -> Storage:
        """The size of the output for an input of a size: it is tried with random numbers."""
        size = insize if isinstance(insize, int) else tuple(insize)
        numbers = mersenne.normal_(new_tensor(*(size if isinstance(size, tuple) else (size,))))
        return LongStorage(self.updateOutput(numbers).shape)

    def profile(self) -> None:
        """Have each Sequential and ParallelTable, of this module and below, print the times of its children.

        Their passes are then one for each child, and not one through the whole network.
        """
        for module in self.children():
            module.profile()
        vars(self)["dpnn_profile"] = True

    def accept(self, visitor: Any) -> None:
        """Call `visitor.visit(self)`."""
        visitor.visit(self)

    def dontBackward(self) -> Any:
        """Leave out every backward through this module from now on."""
        names = ("backward", "updateGradInput", "accGradParameters", "accUpdateGradParameters")
        vars(self).update(dict.fromkeys(names, _nothing))
        return self

    def contiguousInput(self, input: Tensor, backward: bool | None = None) -> Tensor:
        """The input in one piece of memory: a copy where it is not; for `backward` that of the last call."""
        if backward:
            return input if self.dpnn_cinput is None else self.dpnn_cinput
        if input.is_contiguous():
            return input
        vars(self)["dpnn_cinput"] = copy = input.contiguous()
        return copy

    def extrapolateType(self) -> str | None:
        """The type that most parameters have; None without parameters."""
        names = [type_name(parameter) for parameter in (self.parameters() or ((),))[0]]
        return max(names, key=names.count, default=None)


def limit_norms(tensor: Tensor, along: int, limit: float | None) -> None:
    """Scale the slices of a tensor that have a greater norm than the limit, if there is one, down to that."""
    if limit is not None and limit > 0:
        tensor.renorm_(2, along % tensor.dim(), limit)


def _nothing(*arguments: Any) -> None:
    """Takes the place of a method that shall do nothing."""
