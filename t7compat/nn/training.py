"""nn.StochasticGradient: the training loop of Lua Torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from t7compat import mersenne
from t7compat.nested import to_text
from t7compat.nn.criterion import Criterion
from t7compat.nn.luaobject import LuaObject
from t7compat.nn.module import Module
from t7compat.table import Table


class StochasticGradient(LuaObject):
    """Gradient descent, one example after the other.

    The learning rate of the first iteration is `learningRate`, that of a later one learningRate / (1 + i *
    learningRateDecay).  The order of the examples is drawn once, or (`shuffleIndices` false) that of the
    dataset.  `hookExample(self, example)` is
    called after each example, `hookIteration(self, iteration, error)` after each iteration.  With
    maxIteration 0 there is no end.
    """

    hookExample: Callable[[Any, Any], Any] | None = None
    hookIteration: Callable[[Any, int, float], Any] | None = None

    def __init__(self, module: Module, criterion: Criterion) -> None:
        self.learningRate, self.learningRateDecay, self.maxIteration = 0.01, 0, 25
        self.shuffleIndices = self.verbose = True
        self.module, self.criterion = module, criterion

    def train(self, dataset: Any) -> None:
        """Train on a dataset: a list of {input, target}, or what has `size()` and such entries from 1 on."""
        dataset = Table.from_python(dataset)
        order = mersenne.randperm(size_of(dataset)).tolist()  # drawn in any case: it uses up random numbers
        order = order if self.shuffleIndices else sorted(order)
        print("# StochasticGradient: training")
        iteration, rate = 1, self.learningRate
        while True:
            error = sum(self._step(dataset[index], rate) for index in order) / len(order)
            if self.hookIteration is not None:
                self.hookIteration(self, iteration, error)
            if self.verbose:
                print(f"# current error = {to_text(error)}")
            iteration += 1
            rate = self.learningRate / (1 + iteration * self.learningRateDecay)
            if 0 < self.maxIteration < iteration:
                print("# StochasticGradient: you have reached the maximum number of iterations")
                print(f"# training error = {to_text(error)}")
                return

    def _step(self, example: Any, learningRate: float) -> float:
        """Learn from one example; its loss."""
        input, target = example[1], example[2]
        module, criterion = self.module, self.criterion
        loss: float = criterion.forward(module.forward(input), target)
        module.updateGradInput(input, criterion.updateGradInput(module.output, target))
        module.accUpdateGradParameters(input, criterion.gradInput, learningRate)
        if self.hookExample is not None:
            self.hookExample(self, example)
        return loss


def size_of(dataset: Any) -> int:
    """The number of examples: `dataset.size()` as Lua calls it, or the length of a table without that."""
    if not isinstance(dataset, Table):
        return int(dataset.size())
    return len(dataset) if dataset["size"] is None else int(dataset["size"](dataset))
