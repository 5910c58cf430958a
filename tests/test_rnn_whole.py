"""Whole sequences in one graph: the numbers and the fields of a run step by step."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wholes import BATCHES_ONLY, LAYERS, SIZE, compare, network, step_by_step

import t7compat
from t7compat import InputError, Table, mersenne, nn
from t7compat.rnn.recurrent import AbstractRecurrent


class Round(NamedTuple):
    """One forward of a sequencer, and what is done after it."""

    steps: int
    batch: int | None
    is_tensor: bool
    train: bool
    backward: str
    zeros: frozenset[tuple[int, int]]  # step and sample whose input is all zeros
    updates: bool  # whether the parameters move then
    looks: bool  # whether the states are compared before the next round


ROUNDS = st.builds(
    Round,
    steps=st.integers(1, 4),
    batch=st.sampled_from([None, 1, 2]),
    is_tensor=st.booleans(),
    train=st.sampled_from([True, True, False]),
    backward=st.sampled_from(["whole", "separate", "inputs", "none", "by hand", "twice"]),
    zeros=st.frozensets(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=4),
    updates=st.booleans(),
    looks=st.booleans(),
)


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


@given(
    names=st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=4),
    rounds=st.lists(ROUNDS, min_size=1, max_size=3),
    remember=st.sampled_from(["neither", "both", "train", "eval"]),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_as_step_by_step(names: list[str], rounds: list[Round], remember: str) -> None:
    whole, stepwise = network(names).remember(remember), network(names).remember(remember)
    batch = rounds[0].batch
    for number, play in enumerate(rounds):
        if not BATCHES_ONLY.isdisjoint(names):
            play, batch = play._replace(batch=play.batch or 1), batch or 1
        if remember != "neither":  # the state of one sequence fits the next one, and it may go back into it
            play = play._replace(batch=batch, backward=play.backward.replace("twice", "whole"))
        found = played(whole, number, play)
        with step_by_step():
            expected = played(stepwise, number, play)
            compare(found, expected, f"round {number}")
        if play.updates:
            whole.updateParameters(0.1)
            stepwise.updateParameters(0.1)
        if play.looks:
            mine = states(whole, play.steps)
            with step_by_step():
                compare(mine, states(stepwise, play.steps), f"states after round {number}")
    compare(whole.parameters(), stepwise.parameters(), "parameters and gradients")
