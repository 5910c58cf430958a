"""nn.StochasticGradient: the training loop of Lua Torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nested import to_text
from t7compat.nn.criterion import Criterion
from t7compat.nn.luaobject import LuaObject
from t7compat.nn.module import Module
from t7compat.nn.shapes import zero_based
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
        """Train on a dataset of {input, target}.

        It may be a table or list, have `size()` and such entries from 1 on as in Lua, or be one of PyTorch's.
        """
        count, example = examples(dataset)
        if count < 1:
            raise InputError(f"{self.__typename__}: expected a dataset with an example or more")
        order = mersenne.randperm(count).tolist()  # drawn in any case: it uses up random numbers
        order = order if self.shuffleIndices else sorted(order)
        print("# StochasticGradient: training")
        iteration, rate = 1, self.learningRate
        while True:
            error = sum(self._step(example(index), rate) for index in order) / len(order)
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
        input, target = Table.from_python(example).unpack(1, 2)
        module, criterion = self.module, self.criterion
        loss: float = criterion.forward(module.forward(input), target)
        module.updateGradInput(input, criterion.updateGradInput(module.output, target))
        module.accUpdateGradParameters(input, criterion.gradInput, learningRate)
        if self.hookExample is not None:
            self.hookExample(self, example)
        return loss


def examples(dataset: Any) -> tuple[int, Callable[[int], Any]]:
    """The number of examples, and what gives one by its number, from 1."""
    table = Table.from_python(dataset)
    if isinstance(table, Table):
        return len(table) if table["size"] is None else int(table["size"](table)), table.__getitem__
    if hasattr(dataset, "size"):
        return int(dataset.size()), dataset.__getitem__
    return len(dataset), lambda index: dataset[zero_based(index)]
