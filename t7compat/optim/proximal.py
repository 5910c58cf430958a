"""FISTA: gradient descent for a smooth function plus one that is not, such as a norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t7compat.errors import InputError
from t7compat.nn.shapes import describe
from t7compat.optim.settings import (
    Options,
    Settings,
    as_called,
    dot,
    expect_vector,
    fits,
    number,
    value_of,
)
from t7compat.table import Table


def FistaLS(
    f: Callable[..., Any],
    g: Callable[[Tensor], Any],
    pl: Callable[[Tensor, float], Any],
    xinit: Tensor,
    params: Options = None,
) -> tuple[Tensor, Table]:
    """FISTA with a line search, from zero.  Returns the solution (params.y) and a table for each iteration.

    f(x) is the smooth function, of which f(x, "dx") returns the gradient too, g(x) the other one; pl(x, L)
    moves x to the minimum of g(z) + L / 2 |z - x|^2.  The solution is written to xinit, too.
    params: L (0.1, the inverse of the step; the last one is written there), Lstep (1.5), maxiter (50),
    maxline (20), errthres (1e-4), doFistaUpdate (false: ISTA), verbose; scratch: xkm, y, ply.
    Beck and Teboulle, SIAM J. Imaging Sci. 2, 2009
    """
    expect_vector("FistaLS", "xinit", xinit, flat=True)
    problem = Problem(f, g, pl, xinit, Settings("FistaLS", {} if params is None else params))
    with torch.no_grad(), np.errstate(all="ignore"):
        return problem.solve()


class Problem:
    """What `FistaLS` keeps during a call: x (xinit, the current point), y (where the next step starts)."""

    def __init__(self, f: Any, g: Any, pl: Any, x: Tensor, params: Settings) -> None:
        self.f, self.gradient = value_of("FistaLS", f), as_called(f)
        self.g, self.shrink = value_of("FistaLS", g), as_called(pl)
        self.x, self.params = x, params
        self.last, self.y, self.trial = (params.buffer(name, x).zero_() for name in ("xkm", "y", "ply"))
        self.L, self.growth = params.number("L", 0.1), params.number("Lstep", 1.5)
        self.maxline = params.number("maxline", 20)
        self.verbose = params["verbose"] is not None

    def solve(self) -> tuple[Tensor, Table]:
        """All iterations."""
        params, history = self.params, Table()
        iterations, threshold = params.number("maxiter", 50), params.number("errthres", 1e-4)
        if not iterations > 0:
            raise InputError(f"FistaLS: maxiter: expected one iteration or more, got {iterations}")
        accelerates, momentum = params["doFistaUpdate"] is not None, np.float64(1)
        previous = np.inf
        while True:
            nline, bound = self.search()
            if accelerates:
                following = (1 + np.sqrt(1 + 4 * momentum * momentum)) / 2
                self.last.sub_(self.x)
                torch.add(self.x, self.last, alpha=(1 - momentum) / following, out=self.y)
                self.last.copy_(self.x)
                momentum = following
            else:
                self.y.copy_(self.x)
            smooth, other = self.f(self.y), self.g(self.y)
            total = smooth + other
            if self.verbose:
                print(f"iter={len(history)} eold={previous:g} enew={total:g}")
            entry = Table(nline=nline, L=self.L.item(), F=total, Fply=smooth, Gply=other, Q=bound)
            if self.verbose:
                entry["xk"], entry["y"] = self.x.clone(), self.y.clone()
            history.insert(entry)
            params["L"] = self.L
            if abs(total - previous) <= threshold or len(history) >= iterations:
                self.x.copy_(self.y)
                return self.y, history
            previous = total

    def search(self) -> tuple[int, float]:
        """Move x from y, by a step short enough; how many were tried, and the bound on f at the last one."""
        result = self.gradient(self.y, "dx")
        try:
            fy, gradient = result
        except (TypeError, ValueError):
            fy, gradient = result, None
        if not fits(gradient, self.y):
            got = describe(gradient)
            raise InputError(f'FistaLS: expected f(x, "dx") to return f and a {describe(self.y)}, got {got}')
        fy, tried = number("FistaLS: f(x)", fy), 0
        while True:
            torch.add(self.y, gradient, alpha=-1 / self.L, out=self.trial)
            self.shrink(self.trial, self.L.item())
            self.x.copy_(self.trial)
            value = self.f(self.trial)
            step = self.trial.sub_(self.y)
            linear, quadratic = dot(gradient, step), self.L / 2 * dot(step, step)
            bound = (fy + linear + quadratic).item()
            if self.verbose:
                print(
                    f"nline={tried} L={self.L:g} fply={value:g} Q={bound:g} fy={fy:g} "
                    f"Q2={linear:g} Q3={quadratic:g}"
                )
            tried += 1
            if value <= bound:
                return tried, bound
            if tried > self.maxline:
                self.x.copy_(self.last)  # no better point: stay
                return tried, bound
            self.L = self.L * self.growth
