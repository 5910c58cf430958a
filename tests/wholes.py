"""Networks for the tests of whole sequences, and what a run is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

import t7compat
from t7compat import nn
from t7compat.rnn import sequencer
from t7compat.table import leaves

SIZE = 3
LAYERS = {
    "linear": lambda: nn.Linear(SIZE, SIZE),
    "tanh": nn.Tanh,
    "probabilities": nn.LogSoftMax,
    "dropout": lambda: nn.Dropout(0.4),
    "both": lambda: nn.Sequential().add(branches()).add(nn.CAddTable()),
    "joined": lambda: nn.Sequential().add(branches()).add(nn.JoinTable(1, 1)).add(nn.Linear(2 * SIZE, SIZE)),
    "FastLSTM": lambda: nn.FastLSTM(SIZE, SIZE),
    "FastLSTM as graph": lambda: graph_cell("usenngraph"),
    "LSTM": lambda: nn.LSTM(SIZE, SIZE),
    "LSTM without peepholes": lambda: nn.LSTM(SIZE, SIZE, None, False),
    "GRU": lambda: nn.GRU(SIZE, SIZE),
    "masked FastLSTM": lambda: nn.FastLSTM(SIZE, SIZE).maskZero(1),
    "masked LSTM": lambda: nn.LSTM(SIZE, SIZE).maskZero(1),
    "masked GRU": lambda: nn.GRU(SIZE, SIZE).maskZero(1),
    "Recurrent": lambda: nn.Recurrent(SIZE, nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE)),
    "stabilizer": nn.NormStabilizer,
    "Recursor": lambda: nn.Recursor(nn.Sequential().add(nn.Linear(SIZE, SIZE)).add(nn.GRU(SIZE, SIZE))),
}

BATCHES_ONLY = {"stabilizer", "FastLSTM as graph"}


def graph_cell(switch: str) -> Any:
    with patch.object(nn.FastLSTM, switch, True):
        return nn.FastLSTM(SIZE, SIZE)


def branches() -> Any:
    return nn.ConcatTable().add(nn.Linear(SIZE, SIZE)).add(nn.FastLSTM(SIZE, SIZE))


@contextmanager
def step_by_step() -> Iterator[None]:
    with patch.object(sequencer, "in_one_graph", lambda *_: None):
        yield


def network(names: list[str]) -> Any:
    t7compat.manualSeed(1)
    layers = [LAYERS[name]() for name in names]
    return nn.Sequencer(layers[0] if len(layers) == 1 else nn.Sequential().extend(*layers))


def compare(one: Any, other: Any, what: str) -> None:
    assert [type(leaf) for leaf in leaves(one)] == [type(leaf) for leaf in leaves(other)], what
    for mine, theirs in zip(leaves(one), leaves(other), strict=True):
        if isinstance(mine, torch.Tensor):
            assert mine.shape == theirs.shape, what
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12, equal_nan=True, msg=what)
        else:
            assert mine == theirs, what
