"""One training step of recurrent networks beside torch.nn.

`python benchmarks/recurrent.py [threads [device]]`: on CUDA torch.nn's layers are those of cuDNN.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from compare import Task, compare, descent, native_descent

import t7compat
from t7compat import nn


class Pair(NamedTuple):
    """A network of `size` inputs and outputs, and the layer of torch.nn to compare it with."""

    name: str
    make: Callable[[int], nn.Module]
    layer: Callable[[int, int], torch.nn.Module]


class Stacked(torch.nn.Module):
    """Linear, LSTM, Linear and LogSoftMax."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.first, self.lstm = torch.nn.Linear(inputs, size), torch.nn.LSTM(size, size)
        self.last = torch.nn.Linear(size, CLASSES)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        output, _ = self.lstm(self.first(x))
        return (torch.log_softmax(self.last(output), -1),)


def stacked(size: int) -> nn.Module:
    """The same in one Sequencer."""
    layers = nn.Linear(size, size), nn.FastLSTM(size, size), nn.Linear(size, CLASSES), nn.LogSoftMax()
    return nn.Sequencer(nn.Sequential().extend(*layers))


CLASSES = 10
PAIRS = [
    Pair("SeqLSTM", lambda size: nn.SeqLSTM(size, size), torch.nn.LSTM),
    Pair("Sequencer(FastLSTM)", lambda size: nn.Sequencer(nn.FastLSTM(size, size)), torch.nn.LSTM),
    Pair("Sequencer(LSTM)", lambda size: nn.Sequencer(nn.LSTM(size, size)), torch.nn.LSTM),
    # Those of torch.nn are not the same: r acts after the product there
    Pair("SeqGRU", lambda size: nn.SeqGRU(size, size), torch.nn.GRU),
    Pair("Sequencer(GRU)", lambda size: nn.Sequencer(nn.GRU(size, size)), torch.nn.GRU),
]
SIZES = [(50, 50, 128), (50, 64, 512)]  # steps, batch, inputs and outputs
LENGTHS = [500, 2000]  # for the growth with the number of steps


def layers(pair: Pair, *size: int, device: str = "cpu") -> Task:
    """A training step on tensors, for the squared error."""
    x, y = torch.randn(size, device=device), torch.randn(size, device=device)
    native, loss = pair.layer(size[-1], size[-1]).to(device), torch.nn.MSELoss()
    return Task(
        f"{pair.name} {text(size)}",
        descent(on(device, pair.make(size[-1])), on(device, nn.MSECriterion()), x, y),
        f"torch.nn.{type(native).__name__}",
        native_descent(native, lambda: loss(native(x)[0], y)),
    )


def classifiers(*size: int, device: str = "cpu") -> Task:
    """A training step of stacked layers on tables, for the likelihood of one class at each step."""
    x, y = torch.randn(size, device=device), torch.randint(CLASSES, size[:2], device=device)
    native, loss = Stacked(size[-1], size[-1]).to(device), torch.nn.NLLLoss()
    criterion = on(device, nn.SequencerCriterion(nn.ClassNLLCriterion()))
    return Task(
        f"Linear, FastLSTM, Linear, LogSoftMax {text(size)}",
        descent(on(device, stacked(size[-1])), criterion, list(x), list(y + 1)),
        "the same in PyTorch",
        native_descent(native, lambda: size[0] * loss(native(x)[0].flatten(0, 1), y.flatten())),
    )


def on(device: str, module: Any) -> Any:
    """A module or criterion on a device."""
    return module.cuda() if device == "cuda" else module


def text(size: tuple[int, ...]) -> str:
    """Sizes as the table names them."""
    return "T={} B={} H={}".format(*size)


if __name__ == "__main__":
    t7compat.setdefaulttensortype("torch.FloatTensor")
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    device = sys.argv[2] if len(sys.argv) > 2 else "cpu"
    long = [(length, *SIZES[0][1:]) for length in LENGTHS]
    compare(
        *[layers(pair, *size, device=device) for size in SIZES for pair in PAIRS],
        *[classifiers(*size, device=device) for size in SIZES],
        *[layers(pair, *size, device=device) for size in long for pair in PAIRS[1:2]],
    )
