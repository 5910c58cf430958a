"""One training step of a perceptron with ten layers beside torch.nn.  `python benchmarks/mlp.py`"""

from __future__ import annotations

from collections.abc import Callable

import torch
from compare import Task, compare, descent, native_descent

import t7compat
from t7compat import nn

DEPTH = 10
SIZES = [(16, 8), (128, 32)]  # width, batch


def ours(width: int, batch: int) -> Callable[[], object]:
    """A training step with t7compat."""
    network = nn.Sequential()
    for _ in range(DEPTH):
        network.add(nn.Linear(width, width)).add(nn.ReLU())
    criterion = nn.MSECriterion()
    x, y = torch.randn(batch, width), torch.randn(batch, width)

    return descent(network, criterion, x, y)


def native(width: int, batch: int) -> Callable[[], object]:
    """The same with torch.nn."""
    layers = [layer for _ in range(DEPTH) for layer in (torch.nn.Linear(width, width), torch.nn.ReLU())]
    network, criterion = torch.nn.Sequential(*layers), torch.nn.MSELoss()
    x, y = torch.randn(batch, width), torch.randn(batch, width)

    return native_descent(network, lambda: criterion(network(x), y))


if __name__ == "__main__":
    t7compat.setdefaulttensortype("torch.FloatTensor")
    torch.set_num_threads(
        1
    )  # the sizes are small: threads that wait for each other would be all that is seen
    compare(
        *(
            Task(
                f"{DEPTH} layers of {width}, batch {batch}",
                ours(width, batch),
                "torch.nn and SGD",
                native(width, batch),
            )
            for width, batch in SIZES
        )
    )
