"""Two programs for one task, side by side in one process."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from timeit import Timer
from typing import Any, NamedTuple

import torch

from t7compat import nn

LONG_ENOUGH = 0.02  # seconds: short calls are timed several at once
ROUNDS = 7
LEARNING_RATE = 0.01


class Task(NamedTuple):
    """Something that t7compat (`ours`) and another program (`theirs`, called `other`) can do."""

    name: str
    ours: Callable[[], object]
    other: str
    theirs: Callable[[], object]


def compare(*tasks: Task) -> None:
    """Print the median times of each pair, taken in turn, and their ratio: below 1 ours is faster."""
    width = max(len(task.name) for task in tasks)
    for task in tasks:
        timers = Timer(finished(task.ours)), Timer(finished(task.theirs))
        counts = [max(1, int(LONG_ENOUGH / min(timer.repeat(3, 1)))) for timer in timers]
        rounds = [
            [timer.timeit(count) / count * 1e3 for timer, count in zip(timers, counts, strict=True)]
            for _ in range(ROUNDS)
        ]
        here, there = map(statistics.median, zip(*rounds, strict=True))
        ratio = f"ratio {here / there:5.2f}"
        print(f"{task.name:{width}} {here:10.3f} ms   {task.other:24} {there:10.3f} ms   {ratio}")


def finished(step: Callable[[], object]) -> Callable[[], object]:
    """A step that ends when a GPU has done its work, too."""
    if not torch.cuda.is_available():
        return step

    def wait() -> None:
        step()
        torch.cuda.synchronize()

    return wait


def descent(network: nn.Module, criterion: nn.Criterion, x: Any, y: Any) -> Callable[[], object]:
    """A training step with t7compat."""

    def step() -> None:
        network.zeroGradParameters()
        output = network.forward(x)
        criterion.forward(output, y)
        network.backward(x, criterion.backward(output, y))
        network.updateParameters(LEARNING_RATE)

    return step


def native_descent(network: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], object]:
    """The same with torch.nn, given what computes the loss."""
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step
