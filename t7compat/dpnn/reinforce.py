"""Layers that learn by REINFORCE: their output is a sample, and a reward tells how good it was.

There is no autograd form: the gradient is that of the probability of the sample, times a reward that
arrives between forward and backward.  Williams, 1992.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect, expect_fit, like, zero_based
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor
EPSILON = 1e-8


class Reinforce(Module):
    """The base of the layers whose output is a sample of a distribution with the input as its parameters.

    A class gives `draw`, a sample; `estimate`, the output in evaluation unless the layer is `stochastic`; and
    `slopes`, the derivative of the logarithm of the density of a sample by each parameter.  `gradOutput` is
    ignored: the gradient is -reward * slope, for the reward of the last `reinforce(reward)`, (batch).
    """

    stochastic: bool | None = None
    reward: Tensor | None = None

    def __init__(self, stochastic: bool | None = None, **fields: Any) -> None:
        super().__init__(stochastic=stochastic, **fields)

    def arguments(self, input: Any) -> tuple[Tensor, ...]:
        """The parameters of the distribution, which must be right."""
        expect(input)
        return (input,)

    def draw(self, *arguments: Tensor) -> Tensor:
        """A sample."""
        raise InputError(f"{self.__typename__} is an abstract class")

    def estimate(self, *arguments: Tensor) -> Tensor:
        """What is given in the place of a sample."""
        return arguments[0].clone()

    def slopes(self, output: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
        """The derivatives of the logarithm of the density at `output` with respect to parts of the input."""
        raise InputError(f"{self.__typename__} is an abstract class")

    def reinforce(self, reward: Any) -> None:
        super().reinforce(reward)
        self.reward = reward

    def updateOutput(self, input: Any) -> Any:
        arguments = self.arguments(input)
        draws = self.stochastic or self.train is not False
        self.output = self.draw(*arguments) if draws else self.estimate(*arguments)
        return self.output

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        arguments = self.arguments(input)
        if self.output.shape != arguments[0].shape:
            raise InputError("expected the input of the last forward").within(self.__typename__)
        slopes = self.slopes(self.output, *arguments)
        gradients = [-self.rewardAs(slope) * slope for slope in slopes]
        self.gradInput = gradients[0] if isinstance(input, Tensor) else Table(*gradients)
        return self.gradInput

    def rewardAs(self, input: Tensor) -> Tensor:
        """The reward of each sample, expanded to the size of the input."""
        reward = self.reward
        if reward is None:
            raise InputError(f"{self.__typename__}: expected a call of reinforce(reward) before backward")
        expect(reward, 1, like=input)
        if reward.shape == input.shape:
            return reward
        if len(reward) not in (1, len(input)):  # one for a sample without batch
            raise InputError(f"expected a reward for each of {len(input)} samples, got {describe(reward)}")
        return reward.view(-1, *[1] * (input.dim() - 1)).expand_as(input)


class ReinforceBernoulli(Reinforce):
    """1 with the probability given by the input, else 0; in evaluation that probability.  any shape -> same

    Reference: Williams, 1992, p. 230.
    """

    def draw(self, *arguments: Tensor) -> Tensor:
        p = arguments[0]
        self._uniform = mersenne.uniform_(torch.empty_like(p))
        return (self._uniform < p).to(p)

    def slopes(self, output: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
        p = arguments[0]
        return ((output - p) / ((1 - p) * p),)


class ReinforceCategorical(Reinforce):
    """One-hot vectors of categories drawn with the probabilities in the input; in evaluation those.

    (batch, n) -> (batch, n)
    """

    def arguments(self, input: Any) -> tuple[Tensor, ...]:
        expect(input, 2)
        return (input,)

    def draw(self, *arguments: Tensor) -> Tensor:
        p = arguments[0]
        self._index = mersenne.multinomial(p, 1)
        return torch.zeros_like(p).scatter_(1, zero_based(self._index), 1)

    def slopes(self, output: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
        return (output / (arguments[0] + EPSILON),)

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        if type is not None:
            vars(self).pop("_index", None)
        return super().type(type, tensorCache)


class TwoParameters(Reinforce, typename=""):
    """The base of distributions with two parameters.

    The second one is a field: a number, or a tensor for all samples or for each; or the input is a table of
    both, and there is a gradient for both.
    """

    second: str  # the name of the field

    def __init__(self, second: Any = None, stochastic: bool | None = None) -> None:
        super().__init__(stochastic, **{self.second: second})
        if second is None:
            self.gradInput = Table(new_tensor(), new_tensor())

    def arguments(self, input: Any) -> tuple[Tensor, ...]:
        first, second = input, getattr(self, self.second)
        if not isinstance(input, Tensor):
            table = Table.from_python(input)
            if not isinstance(table, Table) or len(table) < 2:
                raise InputError(f"{self.__typename__}: expected a tensor or two, got {describe(input)}")
            first, second = table[1], table[2]
        expect(first)
        if first is input and isinstance(second, Tensor) and second.shape == first.shape[1:]:
            second = second.expand_as(first)
        elif isinstance(second, int | float) and not isinstance(second, bool):
            second = torch.full_like(first, second)
        expect_fit(self.second, second, first)
        return first, like(second, first)


class ReinforceNormal(TwoParameters):
    """Samples of normal distributions with the input as their mean; in evaluation the mean.

    any shape -> same, for `stdev` a number or a tensor; {mean, stdev} -> shape of both
    """

    second = "stdev"
    stdev: float | Tensor | None = None

    def __init__(self, stdev: float | Tensor | None = None, stochastic: bool | None = None) -> None:
        super().__init__(stdev, stochastic)

    def draw(self, *arguments: Tensor) -> Tensor:
        mean, stdev = arguments
        return mersenne.normal_(torch.empty_like(mean)) * stdev + mean

    def slopes(self, output: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
        mean, stdev = arguments
        off, variance = output - mean, stdev * stdev
        return off / variance, (off * off - variance) / (variance * stdev + EPSILON)


class ReinforceGamma(TwoParameters):
    """Samples of gamma distributions with the input as their shape; in evaluation shape * scale.

    any shape -> same, for `scale` a number or a tensor; {shape, scale} -> shape of both.  As in Torch7, the
    parameters of a sample, and the shape in the gradient, are rounded to 32 bits.
    """

    second = "scale"
    scale: float | Tensor | None = None

    def __init__(self, scale: float | Tensor | None = None, stochastic: bool | None = None) -> None:
        super().__init__(scale, stochastic)

    def draw(self, *arguments: Tensor) -> Tensor:
        shape, scale = (argument.float().double() for argument in arguments)
        if shape.device.type != "cpu":
            return (torch._standard_gamma(shape) * scale).to(arguments[0])
        stream = _numpy_stream(mersenne.default_generator.bits)
        return torch.from_numpy(stream.standard_gamma(shape.numpy())).mul_(scale).to(arguments[0])

    def estimate(self, *arguments: Tensor) -> Tensor:
        shape, scale = arguments
        return shape * scale

    def slopes(self, output: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
        shape, scale = arguments
        digamma = torch.digamma(shape.float().double()).to(shape)
        return output.log() - digamma - scale.log(), output / (scale * scale) - shape / scale


@functools.lru_cache(maxsize=1)
def _numpy_stream(bits: np.random.MT19937) -> np.random.RandomState:
    """numpy's old generator over Torch's stream: the package randomkit, which dpnn draws from, is that.

    It keeps a spare normal number until the next call; a new seed makes new bits, and so drops that.
    """
    return np.random.RandomState(bits)
