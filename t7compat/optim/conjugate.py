"""Conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t7compat.optim.settings import Settings, dot, number, optimiser
from t7compat.table import Table

Evaluate = Callable[[Tensor], tuple[Any, Tensor]]


class Descent:
    """What `cg` keeps during a call: x on its way along the direction s, and the number of evaluations.

    A point of a search is a tuple: value, slope along s, and how far x has gone there from another point.
    """

    def __init__(self, opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> None:
        self.opfunc, self.x, self.evaluations = opfunc, x, 0
        defaults = {"rho": 0.01, "sig": 0.5, "int": 0.1, "ext": 3.0, "ratio": 100, "maxIter": 20}
        options = (config.number(name, default) for name, default in defaults.items())
        self.rho, self.sig, self.int, self.ext, self.ratio, self.maxIter = options
        self.maxEval = config.number("maxEval", self.maxIter * 1.25)
        names = ("df0", "df1", "df2", "df3", "x0", "s")
        self.df0, self.df1, self.df2, self.df3, self.x0, self.s = (state.buffer(n, x) for n in names)

    def evaluate(self, gradient: Tensor) -> Any:
        """The value at x; the gradient goes into `gradient`."""
        f, g = self.opfunc(self.x)
        gradient.copy_(g)
        self.evaluations += 1
        return np.float64(number("cg: f(x)", f))

    def move(self, z: Any) -> tuple[Any, Any]:
        """Go on by z * s; the value there, and the slope (the gradient is in df2)."""
        self.x.add_(self.s, alpha=z)
        return self.evaluate(self.df2), dot(self.df2, self.s)

    def steepest(self, gradient: Tensor) -> Any:
        """Let the direction be that against the gradient; the slope along it."""
        torch.neg(gradient, out=self.s)
        return -dot(self.s, self.s)

    def search(self, f1: Any, d1: Any, z1: Any) -> tuple[bool, Any, Any]:
        """Rasmussen's line search from x, first to z1 * s: whether it succeeded, the value, and where."""
        f2, d2 = self.move(z1)
        f3, d3, z3 = f1, d1, -z1
        left, limit = min(self.maxIter, self.maxEval - self.evaluations), None

        def is_too_far() -> bool:
            return f2 > f1 + z1 * self.rho * d1 or d2 > -self.sig * d1

        while True:
            while is_too_far() and left > 0:
                limit = z1
                step = self.back(f1, f2, d2, f3, d3, z3)
                z1, z3, left = z1 + step, z3 - step, left - 1
                f2, d2 = self.move(step)
            if is_too_far():
                return False, f2, z1
            if d2 > self.sig * d1:
                return True, f2, z1
            # after a fraction of an evaluation, Torch7 goes on until it finds a point, and so for ever beyond
            # the numbers
            if left == 0 or (left < 0 and not np.isfinite([f2, d2, z1]).all()):
                return False, f2, z1
            step = self.onward(f2, d2, f3, d3, z3, z1, limit)
            f3, d3, z3 = f2, d2, -step
            z1, left = z1 + step, left - 1
            f2, d2 = self.move(step)

    def back(self, f1: Any, f2: Any, d2: Any, f3: Any, d3: Any, z3: Any) -> Any:
        """The step to the minimum between two points, by a quadratic or cubic polynomial."""
        if f2 > f1:
            step = z3 - 0.5 * d3 * z3 * z3 / (d3 * z3 + f2 - f3)
        else:
            a, b = 6 * (f2 - f3) / z3 + 3 * (d2 + d3), 3 * (f3 - f2) - z3 * (d3 + 2 * d2)
            step = (np.sqrt(b * b - a * d2 * z3 * z3) - b) / a
        if not np.isfinite(step):
            step = z3 / 2
        return max(min(step, self.int * z3), (1 - self.int) * z3)

    def onward(self, f2: Any, d2: Any, f3: Any, d3: Any, z3: Any, z1: Any, limit: Any) -> Any:
        """The step to the minimum beyond the last point, by a cubic polynomial, not too far nor too near."""
        a, b = 6 * (f2 - f3) / z3 + 3 * (d2 + d3), 3 * (f3 - f2) - z3 * (d3 + 2 * d2)
        step = -d2 * z3 * z3 / (b + np.sqrt(b * b - a * d2 * z3 * z3))
        if not np.isfinite(step) or step < 0:
            return z1 * (self.ext - 1) if limit is None else (limit - z1) / 2
        if limit is not None and step + z1 > limit:
            return (limit - z1) / 2
        if limit is None and step + z1 > z1 * self.ext:
            return z1 * (self.ext - 1)
        if step < -z3 * self.int:
            return -z3 * self.int
        if limit is not None and step < (limit - z1) * (1 - self.int):
            return (limit - z1) * (1 - self.int)
        return step

    def turn(self, d1: Any, z1: Any) -> tuple[Any, Any]:
        """The next direction (Polak and Ribiere); the slope along it, and the first step to try."""
        df1, df2 = self.df1, self.df2
        self.s.mul_((dot(df2, df2) - dot(df2, df1)) / dot(df1, df1)).sub_(df2)
        self.df1, self.df2 = df2, df1
        slope = dot(self.df1, self.s)
        if slope > 0:
            slope = self.steepest(self.df1)
        ratio = d1 / (slope - 1e-320)
        return slope, z1 * (ratio if np.isnan(ratio) else min(self.ratio, ratio))


@optimiser(flat=True)
def cg(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Table, int]:
    """Conjugate gradients as in Rasmussen's minimize.m.  Returns x, the values, the number of evaluations.

    It ends at the first line search that fails.
    config: maxEval (1.25 * maxIter), maxIter (20, of a line search), and for line searches rho (0.01), sig
    (0.5), int (0.1), ext (3), ratio (100).  state: s, x0, df0, df1, df2, df3.
    """
    descent = Descent(opfunc, x, config, state)
    f1 = descent.evaluate(descent.df1)
    values = Table(f1.item())
    d1 = descent.steepest(descent.df1)
    z1 = 1 / (1 - d1)
    while descent.evaluations < abs(descent.maxEval):
        descent.x0.copy_(x)
        descent.df0.copy_(descent.df1)
        succeeded, f2, z1 = descent.search(f1, d1, z1)
        if not succeeded:
            x.copy_(descent.x0)
            descent.df1.copy_(descent.df0)
            break
        f1 = f2
        values.insert(f1.item())
        d1, z1 = descent.turn(d1, z1)
    for name in ("df0", "df1", "df2"):
        state[name] = getattr(descent, name)
    return x, values, descent.evaluations
