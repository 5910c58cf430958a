"""Steps of sgd and adam beside torch.optim, on one flat tensor.  `python benchmarks/optim.py`"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from compare import Task, compare

from t7compat import optim

SIZES = [10**6, 10**7]
# name, our method and its options, torch's class and its options
METHODS: list[tuple[str, Any, dict[str, float], Any, dict[str, Any]]] = [
    ("sgd", optim.sgd, {"learningRate": 1e-3}, torch.optim.SGD, {"lr": 1e-3}),
    (
        "sgd with momentum",
        optim.sgd,
        {"learningRate": 1e-3, "momentum": 0.9, "dampening": 0},
        torch.optim.SGD,
        {"lr": 1e-3, "momentum": 0.9},
    ),
    ("adam", optim.adam, {"learningRate": 1e-3}, torch.optim.Adam, {"lr": 1e-3}),
]


def task(
    name: str, size: int, ours: Any, options: dict[str, float], theirs: Any, other: dict[str, Any]
) -> Task:
    """One step each, with the same gradient again and again."""
    x, gradient = torch.randn(size), torch.randn(size)
    parameter = torch.nn.Parameter(x.clone())
    parameter.grad = gradient.clone()
    step: Callable[[], object] = theirs([parameter], foreach=True, **other).step
    state: dict[str, Any] = {}
    return Task(
        f"{name}, {size:.0e} numbers",
        lambda: ours(lambda x: (0, gradient), x, options, state),
        f"torch.optim.{theirs.__name__}",
        step,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    compare(*(task(name, size, *rest) for size in SIZES for name, *rest in METHODS))
