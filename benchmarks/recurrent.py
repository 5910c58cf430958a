"""One training step of recurrent networks beside torch.nn.  `python benchmarks/recurrent.py [threads]`"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
from compare import Task, compare, descent, native_descent

import t7compat
from t7compat import nn


class Pair(NamedTuple):
    """A network of `size` inputs and outputs, and the layer of torch.nn to compare it with."""

    name: str
    make: Callable[[int], nn.Module]
    layer: type[torch.nn.RNNBase]


PAIRS = [
    Pair("SeqLSTM", lambda size: nn.SeqLSTM(size, size), torch.nn.LSTM),
    Pair("SeqGRU", lambda size: nn.SeqGRU(size, size), torch.nn.GRU),  # not the same: r acts elsewhere
]
SIZES = [(50, 50, 128), (50, 64, 512)]  # steps, batch, inputs and outputs


def ours(make: Callable[[int], nn.Module], *size: int) -> Callable[[], object]:
    """A training step with t7compat."""
    network, criterion = make(size[-1]), nn.MSECriterion()
    x, y = torch.randn(size), torch.randn(size)

    return descent(network, criterion, x, y)


def native(layer: type[torch.nn.RNNBase], *size: int) -> Callable[[], object]:
    """The same with torch.nn."""
    network, criterion = layer(size[-1], size[-1]), torch.nn.MSELoss()
    x, y = torch.randn(size), torch.randn(size)

    return native_descent(network, lambda: criterion(network(x)[0], y))


if __name__ == "__main__":
    t7compat.setdefaulttensortype("torch.FloatTensor")
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    compare(
        *(
            Task(
                f"{pair.name} T={size[0]} B={size[1]} H={size[2]}",
                ours(pair.make, *size),
                f"torch.nn.{pair.layer.__name__}",
                native(pair.layer, *size),
            )
            for pair in PAIRS
            for size in SIZES
        )
    )
