"""L-BFGS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t7compat.errors import InputError
from t7compat.nn.shapes import describe
from t7compat.optim.settings import Settings, dot, fits, number, optimiser
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Evaluate = Callable[[Tensor], tuple[Any, Tensor]]


@optimiser(flat=True)
def lbfgs(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Table, int]:
    """L-BFGS.  Returns x, the values, and the number of evaluations.

    config: maxIter (20), maxEval (1.25 * maxIter), tolFun (1e-5, of the gradient), tolX (1e-9, of steps and
    values), nCorrection (100: the steps that are remembered), learningRate (1), verbose, lineSearch (a
    function such as lswolfe; without it each step is learningRate times the direction), lineSearchOptions.
    state: nIter, funcEval, d, t (the last step is t * d), old_dirs (steps), old_stps (changes of the
    gradient), Hdiag, g_old, f_old, tmp1, ro, al.
    """
    descent = Descent(opfunc, x, config, state)
    if not descent.is_flat():
        for iteration in range(1, descent.maxIter + 1):
            is_last = iteration == descent.maxIter
            slope = descent.turn()
            if slope > -descent.tolX:
                break
            descent.move(slope, is_last)
            reason = "reached max number of iterations" if is_last else descent.reason_to_stop()
            if reason:
                descent.tell(reason)
                break
    return descent.x, descent.values, descent.evaluations


class Descent:
    """What `lbfgs` keeps during a call."""

    def __init__(self, opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> None:
        self.maxIter = config.whole("maxIter", 20)
        self.maxEval = config.number("maxEval", self.maxIter * 1.25)
        self.tolFun, self.tolX = config.number("tolFun", 1e-5), config.number("tolX", 1e-9)
        self.rate, self.size = config.number("learningRate", 1), config.whole("nCorrection", 100)
        self.lineSearch = config["lineSearch"]
        if not (self.lineSearch is None or callable(self.lineSearch)):
            got = describe(self.lineSearch)
            raise InputError(f"lbfgs: lineSearch: expected a function such as optim.lswolfe, got {got}")
        self.opfunc, self.x, self.config, self.state = opfunc, x, config, state
        self.memory = [self.remembered(name) for name in ("old_dirs", "old_stps")]
        self.f, self.g = opfunc(x)
        self.values, self.evaluations = Table(self.f), 1
        state["funcEval"] = state.whole("funcEval", 0) + 1
        state["nIter"] = state.whole("nIter", 0)
        self.scratch = state.buffer("tmp1", self.g)

    def remembered(self, name: str) -> Table:
        """The last steps, or what they changed in the gradient."""
        value = self.state[name]
        rows = Table() if value is None else Table.from_python(value)
        if not isinstance(rows, Table) or not all(fits(row, self.x) for row in rows):
            wanted, got = describe(self.x), describe(rows)
            raise InputError(f"lbfgs: {name}: expected a table with {wanted} as entries, got {got}")
        return rows

    def turn(self) -> Any:
        """Choose a direction, d; the slope along it."""
        state, last = self.state, self.state.tensor("d", self.g)
        state["nIter"] += 1
        if state["nIter"] == 1 or last is None:
            state["d"], state["Hdiag"] = -self.g, 1
            self.memory = [Table(), Table()]
            state["old_dirs"], state["old_stps"] = self.memory
        else:
            self.remember(last * state.number("t", 1), self.g - state.buffer("g_old", self.g))
            self.apply(last)
        state.buffer("g_old", self.g).copy_(self.g)
        state["f_old"] = number("lbfgs: f(x)", self.f)
        return dot(self.g, state["d"])

    def remember(self, step: Tensor, change: Tensor) -> None:
        """Remember a step if the function curves upwards along it; the oldest may have to go."""
        product = dot(change, step)
        if product > 1e-10:
            for rows, row in zip(self.memory, (step, change), strict=True):
                if len(rows) == self.size:
                    rows.remove(1)
                rows.insert(row)
            self.state["Hdiag"] = product / dot(change, change)
        self.state["old_dirs"], self.state["old_stps"] = self.memory

    def apply(self, d: Tensor) -> None:
        """Put minus the inverse Hessian times the gradient into d, by two loops over the steps."""
        steps, changes = (list(rows) for rows in self.memory)
        ro, al = (self.numbers(name) for name in ("ro", "al"))
        for i, (step, change) in enumerate(zip(steps, changes, strict=True)):
            ro[i] = 1 / dot(change, step)
        weights, q = ro.tolist(), torch.neg(self.g, out=self.scratch)
        for i in reversed(range(len(steps))):
            al[i] = factor = dot(steps[i], q) * weights[i]
            q.add_(changes[i], alpha=-factor)
        torch.mul(q, self.state.number("Hdiag", 1), out=d)
        factors = al.tolist()
        for i, step in enumerate(steps):
            d.add_(step, alpha=factors[i] - dot(changes[i], d) * weights[i])

    def numbers(self, name: str) -> Tensor:
        """A tensor of the state with a number for each remembered step."""
        if not isinstance(self.state[name], Tensor) or self.state[name].shape != (self.size,):
            self.state[name] = new_tensor(self.size).cpu()
        return self.state[name]

    def move(self, slope: Any, is_last: bool) -> None:
        """Go along d, as far as the line search says; without one, the last step needs no evaluation."""
        state, d = self.state, self.state["d"]
        t = self.rate
        if state["nIter"] == 1:
            t = t * min(1, 1 / self.size_of(self.g))
        count = 0
        if self.lineSearch is not None:
            found = self.lineSearch(
                self.opfunc, self.x, t, d, self.f, self.g, slope, self.config["lineSearchOptions"]
            )
            self.f, self.g, self.x, t, count = found
            self.values.insert(self.f)
        else:
            self.x.add_(d, alpha=t)
            if not is_last:
                (self.f, self.g), count = self.opfunc(self.x), 1
                self.values.insert(self.f)
        state["t"] = t
        self.evaluations += count
        state["funcEval"] += count

    def size_of(self, vector: Tensor, factor: float = 1) -> Any:
        """The sum of the absolute values of factor * vector."""
        return np.float64(torch.mul(vector, factor, out=self.scratch).abs_().sum().item())

    def is_flat(self) -> bool:
        """Whether the gradient is too small to go on."""
        is_flat = self.size_of(self.g) <= self.tolFun
        if is_flat:
            self.tell("optimality condition below tolFun")
        return bool(is_flat)

    def reason_to_stop(self) -> str:
        """Why the last iteration should be the last one, if it should."""
        if self.evaluations >= self.maxEval:
            return "max nb of function evals"
        if self.size_of(self.g) <= self.tolFun:
            return "optimality condition below tolFun"
        if self.size_of(self.state["d"], self.state["t"]) <= self.tolX:
            return "step size below tolX"
        if abs(number("lbfgs: f(x)", self.f) - self.state["f_old"]) < self.tolX:
            return "function value changing less than tolX"
        return ""

    def tell(self, message: str) -> None:
        """Print a message if the option `verbose` is set."""
        if self.config["verbose"] is not None:
            print("<optim.lbfgs> ", message, sep="\t")
