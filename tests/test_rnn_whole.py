"""Whole sequences in one graph: the numbers and the fields of a run step by step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import t7compat
from t7compat import InputError, Table, mersenne, nn
from t7compat.rnn import sequencer
from t7compat.rnn.recurrent import AbstractRecurrent
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


def branches() -> Any:
    return nn.ConcatTable().add(nn.Linear(SIZE, SIZE)).add(nn.FastLSTM(SIZE, SIZE))


class Round(NamedTuple):
    """One forward of a sequencer, and what is done after it."""

    steps: int
    batch: int | None
    is_tensor: bool
    train: bool
    backward: str
    zeros: frozenset[tuple[int, int]]  # step and sample whose input is all zeros
    looks: bool  # whether the states are compared before the next round


ROUNDS = st.builds(
    Round,
    steps=st.integers(1, 4),
    batch=st.sampled_from([None, 1, 2]),
    is_tensor=st.booleans(),
    train=st.sampled_from([True, True, False]),
    backward=st.sampled_from(["whole", "separate", "inputs", "none", "by hand", "twice"]),
    zeros=st.frozensets(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=4),
    looks=st.booleans(),
)


@contextmanager
def step_by_step() -> Iterator[None]:
    with patch.object(sequencer, "run_whole", lambda *_: None):
        yield


def network(names: list[str]) -> Any:
    t7compat.manualSeed(1)
    layers = [LAYERS[name]() for name in names]
    return nn.Sequencer(layers[0] if len(layers) == 1 else nn.Sequential().extend(*layers))


def played(net: Any, number: int, play: Round) -> list[Any]:
    """What comes of one round, the state of the random numbers included."""
    random = torch.Generator().manual_seed(number)
    size = (play.steps, SIZE) if play.batch is None else (play.steps, play.batch, SIZE)
    x = torch.randn(size, dtype=torch.float64, generator=random)
    for step, sample in play.zeros:
        if step < play.steps and sample < (play.batch or 1):
            x.view(play.steps, -1, SIZE)[step, sample] = 0
    gradient = torch.randn(size, dtype=torch.float64, generator=random)
    x, gradient = (x, gradient) if play.is_tensor else (Table(*x), Table(*gradient))
    if play.train:
        net.training()
    else:
        net.evaluate()
    t7compat.manualSeed(number)
    found = [net.forward(x), mersenne.getRNGState()]
    if play.train:
        found += went_back(net, x, gradient, play.backward)
    return found


def went_back(net: Any, x: Any, gradient: Any, how: str) -> list[Any]:
    if how == "whole":
        return [net.backward(x, gradient, 0.5)]
    if how == "separate":
        found = net.updateGradInput(x, gradient)
        net.accGradParameters(x, gradient, 2)
        return [found]
    if how == "inputs":
        return [net.updateGradInput(x, gradient)]
    if how == "by hand":
        steps = list(zip(x, gradient, strict=True))
        return [net.module.backward(*step) for step in steps[::-1]]
    if how == "twice":
        found = [net.backward(x, gradient)]
        with pytest.raises(InputError):
            net.backward(x, gradient)
        return found
    return []


def states(net: Any, steps: int) -> list[Any]:
    """All that the recurrent modules tell about the last sequence."""
    found: list[Any] = []
    for module in net.listModules():
        if isinstance(module, AbstractRecurrent):
            found += [module.step, module.updateGradInputStep, module.accGradParametersStep]
            names = ("outputs", "gradInputs", "cells", "gradCells", "gradOutputs")
            tables = [getattr(module, name) for name in names if name in vars(module)]
            if isinstance(module, nn.Recursor):
                tables = tables[:2]  # it has no use for the others
            span = range(module.step - steps - 1, module.step)
            found += [table[step] for table in tables for step in span]
    return found


def compare(one: Any, other: Any, what: str) -> None:
    assert [type(leaf) for leaf in leaves(one)] == [type(leaf) for leaf in leaves(other)], what
    for mine, theirs in zip(leaves(one), leaves(other), strict=True):
        if isinstance(mine, torch.Tensor):
            assert mine.shape == theirs.shape, what
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12, equal_nan=True, msg=what)
        else:
            assert mine == theirs, what


@given(
    names=st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=4),
    rounds=st.lists(ROUNDS, min_size=1, max_size=3),
    remember=st.sampled_from(["neither", "both", "train", "eval"]),
)
@settings(max_examples=150, deadline=None)
def test_as_step_by_step(names: list[str], rounds: list[Round], remember: str) -> None:
    whole, stepwise = network(names).remember(remember), network(names).remember(remember)
    batch = rounds[0].batch
    for number, play in enumerate(rounds):
        if "stabilizer" in names:  # which knows batches only
            play, batch = play._replace(batch=play.batch or 1), batch or 1
        if remember != "neither":  # the state of one sequence fits the next one, and it may go back into it
            play = play._replace(batch=batch, backward=play.backward.replace("twice", "whole"))
        found = played(whole, number, play)
        with step_by_step():
            expected = played(stepwise, number, play)
            compare(found, expected, f"round {number}")
        if play.looks:
            mine = states(whole, play.steps)
            with step_by_step():
                compare(mine, states(stepwise, play.steps), f"states after round {number}")
    compare(whole.parameters(), stepwise.parameters(), "parameters and gradients")
