"""Pairs of clones over time of equal networks: in one what is inside waits, the other one keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from golden import same

import t7compat
from t7compat import Table, nn, optnet
from t7compat.nngraph import gModule
from t7compat.table import to_tuples

SIZE, BATCH, SYMBOLS = 5, 4, 7
SHARED = "weight", "bias", "gradWeight", "gradBias"


def rows(*size: int) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64)


def lstm() -> gModule:
    """char-rnn's cell: indices, dropout, gates, and outputs that are used inside, too."""
    x, c, h = nn.Identity()(), nn.Identity()(), nn.Identity()()
    embedded = nn.Dropout(0.3)(nn.LookupTable(SYMBOLS, SIZE)(x))
    sums = nn.CAddTable()(nn.Linear(SIZE, 4 * SIZE)(embedded), nn.Linear(SIZE, 4 * SIZE)(h))
    n1, n2, n3, n4 = nn.SplitTable(2)(nn.Reshape(4, SIZE)(sums)).split(4)
    kept, new = nn.CMulTable()(nn.Sigmoid()(n1), c), nn.CMulTable()(nn.Sigmoid()(n2), nn.Tanh()(n4))
    after = nn.CAddTable()(kept, new)
    output = nn.CMulTable()(nn.Sigmoid()(n3), nn.Tanh()(after))
    return nn.gModule([x, c, h], [after, output, nn.LogSoftMax()(nn.Linear(SIZE, SYMBOLS)(output))])


def one_hot() -> gModule:
    """A module whose gradInput is of a type of its own, an input that several get, and one output."""
    x, h = nn.Identity()(), nn.Identity()()
    sums = nn.CAddTable()(nn.Linear(SYMBOLS, SIZE)(nn.OneHot(SYMBOLS)(x)), h, nn.Copy()(h), nn.Tanh()(h))
    return nn.gModule([x, h], [nn.Sigmoid()(sums)])


def nested() -> gModule:
    """Networks and containers inside, statistics, a module used twice, and a table of tables as input."""
    inner_x = nn.Identity()()
    inner = nn.gModule([inner_x], [nn.Tanh()(inner_x), nn.Linear(SIZE, SIZE)(inner_x)])
    block = nn.Sequential().add(nn.Linear(SIZE, SIZE)).add(nn.BatchNormalization(SIZE)).add(nn.ReLU())
    branches = nn.ConcatTable().add(block).add(nn.Identity())
    pair = nn.Identity()()
    first, second = nn.SelectTable(1)(pair), nn.FlattenTable()(nn.SelectTable(2)(pair))
    one, two = inner(first).split(2)
    twice = nn.Tanh()
    joined = nn.CAddTable()(one, two, nn.CAddTable()(branches(first)), twice(twice(nn.CAddTable()(second))))
    return nn.gModule([pair], [joined, one])


NETWORKS: dict[str, tuple[Callable[[], gModule], Callable[[], Any]]] = {
    "lstm": (lstm, lambda: Table(torch.tensor([1, 7, 3, 3]), rows(BATCH, SIZE), rows(BATCH, SIZE))),
    "one_hot": (one_hot, lambda: Table(torch.tensor([1, 7, 3, 3]), rows(BATCH, SIZE))),
    "nested": (nested, lambda: Table(rows(BATCH, SIZE), Table(rows(BATCH, SIZE), Table(rows(BATCH, SIZE))))),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


class Twins:
    """Two clones of equal networks: of the first one what is inside waits, the other one keeps it."""

    def __init__(self, make: Callable[[], gModule], sample: Callable[[], Any]) -> None:
        self.sample, network = sample, make()
        self.firsts, self.clones, self.flat = [], [], []
        for _ in range(2):
            copy = network.clone()
            self.flat.append(copy.getParameters())
            for clones in (self.firsts, self.clones):
                clones.append(copy.clone(*SHARED))
                clones[-1].forward(self.sample())
        optnet.removeOptimization(self.clones[1])
        self.input = self.sample()

    def both(self, do: Callable[[gModule], Any]) -> None:
        """Do the same with both, with the same random numbers."""
        for clone in self.clones:
            t7compat.manualSeed(1)
            do(clone)

    def forward(self) -> None:
        self.both(lambda clone: clone.forward(self.input))

    def backward(self) -> None:
        self.gradOutputs = [to_tuples(torch.clone, clone.output) for clone in self.clones]
        self.both(lambda clone: clone.backward(self.input, self.gradOutputs[self.clones.index(clone)]))

    def update(self) -> None:
        for w, dw in self.flat:
            w.add_(dw, alpha=-0.1)

    def waits(self, field: str) -> bool:
        return any(field not in vars(module) for module in self.clones[0].modules)

    def compare(self, field: str) -> None:
        """What all modules have in a field, the inputs of nodes, and gradients of the parameters."""
        (_, ours), (_, theirs) = self.flat
        same(ours, theirs)
        for mine, other in zip(*(values(clone, field) for clone in self.clones), strict=True):
            same(mine, other)


def values(clone: gModule, field: str) -> Iterator[Any]:
    for module in clone.listModules():
        yield getattr(module, field)
    for module in clone.listModules():
        for node in module.forwardnodes if isinstance(module, gModule) else ():
            yield node.data.input


def twins_of(name: str) -> Twins:
    """Twins of one of the networks."""
    return Twins(*NETWORKS[name])
