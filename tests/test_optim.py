"""optim: every golden case, states that go on from a file, and what is refused."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from deviations import DEVIATIONS
from golden import Case, cases, over, same
from torch import Tensor

import t7compat
from t7compat import InputError, Table, dumps, loads, nn, optim

# relative, of numbers and of tensors, for trajectories in either type
PRECISE = {
    torch.float64: {torch.float64: 1e-10},
    torch.float32: {torch.float64: 1e-6, torch.float32: 1e-5},
}

METHODS = sorted({case.stem for case in cases("optim") if case.load().steps is not None})


def rosenbrock(x: Tensor) -> tuple[float, Tensor]:
    a, b = x[:-1], x[1:]
    u = b - a * a
    g = torch.zeros_like(x)
    g[:-1] += -400 * a * u + 2 * (a - 1)
    g[1:] += 200 * u
    return 100 * (u * u).double().sum().item() + ((1 - a) ** 2).double().sum().item(), g


def problem(case: Table) -> Callable[[Tensor], tuple[float, Tensor]]:
    if case.problem == "rosenbrock":
        return rosenbrock

    def quadratic(x: Tensor) -> tuple[float, Tensor]:
        Ax, b = case.data.A.to(x.dtype) @ x, case.data.b.to(x.dtype)
        return (0.5 * x.dot(Ax) - b.dot(x)).item(), Ax - b

    return quadratic


def seen(table: Table) -> Table:
    """The part of a config or state that the golden cases have."""
    unset = {"dir_bufs", "stp_bufs", "df3"} | ({"tmp"} if table.ax is not None else set())
    kept = Table.from_items((k, v) for k, v in table.items() if not (callable(v) or k in unset))
    if kept.ro is not None:
        count = len(kept.old_dirs or ())
        kept.ro = kept.ro[:count] if count else None
    return kept


class Run:
    """A golden trajectory, step by step."""

    def __init__(self, case: Table) -> None:
        self.case, self.x, self.calls, self.evaluations = case, case.input, 0, Table()
        self.config = case.config
        if case.lineSearch is not None:
            self.config.lineSearch = getattr(optim, case.lineSearch)
        self.state = Table() if case.separate_state else None
        self.method = getattr(optim, case["class"].removeprefix("optim."))
        self.function = problem(case)
        if case.seed is not None and case.config.learningRate is None:  # others drew the config with it
            t7compat.manualSeed(case.seed)

    def opfunc(self, x: Tensor) -> tuple[float, Tensor]:
        f, g = self.function(x)
        self.calls += 1
        self.evaluations.insert(Table(x=x.clone(), f=f))
        return f, g

    def step(self, want: Table, where: str) -> None:
        x, fs, *rest = self.method(self.opfunc, self.x, self.config, self.state)
        got = Table(x=x, fx=fs, calls=self.calls, same_tensor=x is self.x, extra=rest[0] if rest else None)
        state, want.state = want.state, None
        same(got, want, where, PRECISE[x.dtype])
        if state is not None:  # it has differences of near numbers
            same(seen(self.config if self.state is None else self.state), seen(state), f"{where} state")


@over("optim", *METHODS, having="steps")
def test_trajectory(case: Case, data: Table) -> None:
    run = Run(data)
    for i, want in enumerate(data.steps, 1):
        if f"{case}:step {i}" in DEVIATIONS:
            return
        run.step(want, f"step {i}")
    same(seen(run.config), seen(data.config_after), "config_after")
    if data.evaluations is not None:
        same(run.evaluations, data.evaluations, "evaluations", PRECISE[torch.float64])
