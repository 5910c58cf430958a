"""How far to go along a direction: lswolfe, for lbfgs, and the interpolation by a polynomial that it uses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from t7compat.errors import InputError
from t7compat.nn.shapes import describe
from t7compat.optim.settings import (
    Opfunc,
    Options,
    Settings,
    expect_vector,
    fits,
    number,
    objective,
)


class Trial(NamedTuple):
    """A point x + t * d: the value there, the gradient, and the slope along d."""

    t: Any
    f: Any
    g: Tensor
    slope: Any


class Line:
    """The points x + t * d of a search.  Numbers that Torch7 keeps in tensors are rounded to their type."""

    def __init__(self, opfunc: Opfunc, x: Tensor, d: Tensor) -> None:
        self.evaluate, self.x, self.d, self.start = objective("lswolfe", opfunc), x, d, x.clone()
        self.count = 0

    def at(self, t: Any) -> Trial:
        """Go to a point; x is there afterwards."""
        torch.add(self.start, self.d, alpha=t, out=self.x)
        f, g = self.evaluate(self.x)
        self.count += 1
        return Trial(t, np.float64(number("lswolfe: f(x)", f)), g, self.slope(g))

    def slope(self, gradient: Tensor) -> Any:
        """The slope along d."""
        return np.float64(gradient.dot(self.d).item())

    def kept(self, point: Trial) -> Trial:
        """The point with its own copy of the gradient, which the objective may overwrite later."""
        t, f = torch.tensor([point.t, point.f], dtype=self.x.dtype).tolist()
        g = point.g.clone()
        # anew: if it has been overwritten already, Torch7 takes it as it is now
        return Trial(np.float64(t), np.float64(f), g, self.slope(g))

    def interpolated(self, a: Trial, b: Trial, *bounds: Any) -> Any:
        """Where a cubic polynomial through two points has its minimum."""
        points = [[p.t, p.f, p.slope] for p in (a, b)]
        return np.float64(polyinterp(torch.tensor(points, dtype=self.x.dtype), *bounds)[0])


def lswolfe(
    opfunc: Opfunc,
    x: Tensor,
    t: float,
    d: Tensor,
    f: float,
    g: Tensor,
    gtd: float,
    options: Options = None,
) -> tuple[float, Tensor, Tensor, float, int]:
    """A step that fulfils the strong Wolfe conditions, from x along d; the first one tried is t.

    f and g are value and gradient at x, gtd the slope there.  options: c1 (1e-4), c2 (0.9), tolX (1e-9),
    maxIter (20), verbose.  Returns f, g and x at the new point (x is moved), t and the number of evaluations.
    """
    expect_vector("lswolfe", "x", x, flat=True)
    for name, value in (("d", d), ("g", g)):
        if not fits(value, x):
            raise InputError(f"lswolfe: {name}: expected {describe(x)}, got {describe(value)}")
    settings = Settings("lswolfe", {} if options is None else options)
    line = Line(opfunc, x, d)
    with torch.no_grad(), np.errstate(all="ignore"):
        first = Trial(np.float64(0), np.float64(number("lswolfe: f", f)), g, np.float64(number("gtd", gtd)))
        bracket, iterations = _bracketed(line, first, np.float64(number("lswolfe: t", t)), settings)
        if len(bracket) == 2:
            bracket = _refined(line, first, bracket, iterations, settings)
        best = bracket[_lowest(bracket)]
        torch.add(line.start, d, alpha=best.t, out=x)
    return float(best.f), best.g, x, float(best.t), line.count


def _lowest(bracket: list[Trial]) -> int:
    """Which of one or two points has the lower value; NaN counts as low, as in Torch7's `min`."""
    values = [point.f for point in bracket]
    return int(np.argmin(values))


def _bracketed(line: Line, first: Trial, t: Any, settings: Settings) -> tuple[list[Trial], int]:
    """A point that fulfils the conditions, or two around one; and the iterations that it took."""
    c1, c2, limit = settings.number("c1", 1e-4), settings.number("c2", 0.9), settings.whole("maxIter", 20)
    previous, new = first, line.at(t)
    before = line.kept(first)
    for iteration in range(limit):
        too_high = new.f > first.f + c1 * new.t * first.slope or (iteration > 1 and new.f >= previous.f)
        if not too_high and abs(new.slope) <= -c2 * first.slope:
            return [line.kept(new)], iteration
        if too_high or new.slope >= 0:
            return [before, line.kept(new)], iteration
        farther = new.t + 0.01 * (new.t - previous.t), new.t * 10
        t = line.interpolated(previous, new, *farther)
        previous, before = new, line.kept(new)
        new = line.at(t)
    return [line.kept(first), line.kept(new)], limit


def _refined(
    line: Line, first: Trial, bracket: list[Trial], iterations: int, settings: Settings
) -> list[Trial]:
    """The bracket, narrowed until one of its points fulfils the conditions."""
    c1, c2, tolerance = (settings.number(n, v) for n, v in (("c1", 1e-4), ("c2", 0.9), ("tolX", 1e-9)))
    limit, stalls = settings.whole("maxIter", 20), False
    while iterations < limit:
        low = _lowest(bracket)
        high = 1 - low
        t, stalls = _inside(line.interpolated(*bracket), bracket, stalls)
        new = line.at(t)
        iterations += 1
        done = False
        if new.f > first.f + c1 * t * first.slope or new.f >= bracket[low].f:
            bracket[high] = line.kept(new)
        else:
            done = abs(new.slope) <= -c2 * first.slope
            if not done and new.slope * (bracket[high].t - bracket[low].t) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = line.kept(new)
        if done or abs((bracket[0].t - bracket[1].t) * new.slope) < tolerance:
            return bracket
    if settings["verbose"] is not None:
        print("<optim.lswolfe> ", "reached max number of iterations", sep="\t")
    return bracket


def _inside(t: Any, bracket: list[Trial], stalls: bool) -> tuple[Any, bool]:
    """`t`, moved away from an end of the bracket that it is near to a second time; whether it is near."""
    least, greatest = sorted(point.t for point in bracket)
    width = greatest - least
    if not min(greatest - t, t - least) / width < 0.1:
        return t, False
    if not (stalls or t >= greatest or t <= least):
        return t, True
    return (greatest - 0.1 * width if abs(t - greatest) < abs(t - least) else least + 0.1 * width), False


# ---- polynomials


def polyinterp(
    points: Tensor, xminBound: float | None = None, xmaxBound: float | None = None
) -> tuple[float, float | None]:
    """The minimum of the polynomial through points, and its value there (which the usual case does not have).

    points: (n, 3) with x, f(x), f'(x).  The usual case is two points without bounds; otherwise the minimum
    is sought between the bounds, by default the outermost points, and is their middle if there is none.
    """
    expect_vector("polyinterp", "points", points)
    if points.dim() != 2 or points.shape[1] != 3:
        raise InputError(f"polyinterp: expected points (x, f, g) as n x 3, got {describe(points)}")
    with torch.no_grad(), np.errstate(all="ignore"):
        rows = points.detach().cpu().numpy()
        if len(rows) == 2 and xminBound is None and xmaxBound is None:
            return float(_cubic_minimum(*rows.astype(np.float64))), None
        lower = np.float64(rows[:, 0].min() if xminBound is None else number("polyinterp: xmin", xminBound))
        upper = np.float64(rows[:, 0].max() if xmaxBound is None else number("polyinterp: xmax", xmaxBound))
        return _minimum_between(rows, lower, upper)


def _cubic_minimum(a: Any, b: Any) -> Any:
    """The minimum between two points of the cubic polynomial through them; their middle if there is none."""
    (x1, f1, g1), (x2, f2, g2) = (a, b) if not b[0] < a[0] else (b, a)
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    d2 = np.sqrt(d1**2 - g1 * g2)
    if np.isnan(d2):
        return (x1 + x2) / 2
    return min(x2, max(x1, x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))))


def _minimum_between(rows: Any, lower: Any, upper: Any) -> tuple[float, float]:
    """The lowest of the bounds, the points and the extrema between the bounds, and the value there."""
    x, f, slope = rows.T
    powers = np.arange(2 * len(rows) - 1, -1, -1)
    values = x[:, None] ** powers
    slopes = np.zeros_like(values)
    slopes[:, :-1] = powers[:-1] * x[:, None] ** powers[1:]
    matrix, right = np.concatenate([values, slopes]), np.concatenate([f, slope])[:, None]
    polynomial = _solution(matrix.astype(rows.dtype), right)
    polynomial[np.abs(polynomial) <= _NOTHING] = 0
    extrema = _real_roots((polynomial * powers)[:-1].astype(rows.dtype))
    ends = np.array([lower, upper], rows.dtype)
    best, lowest = (lower + upper) / 2, np.inf
    for place in (*ends, *x, *extrema):
        height = polynomial.astype(np.float64) @ np.float64(place) ** powers
        if lower <= place <= upper and height < lowest:
            best, lowest = place, height
    return float(best), float(lowest)


def _solution(matrix: Any, right: Any) -> Any:
    """The solution of a system of linear equations."""
    try:
        solution = torch.linalg.lstsq(
            torch.from_numpy(matrix), torch.from_numpy(right), driver="gels"
        ).solution
    except RuntimeError as error:
        raise InputError(f"polyinterp: there is no one polynomial through these points ({error})") from error
    return solution[:, 0].numpy()


_NOTHING = 1e-12  # coefficients below count as zero


def _real_roots(coefficients: Any) -> Any:
    """The real roots of a polynomial, as the eigenvalues of its companion matrix."""
    coefficients = np.where(np.abs(coefficients) < _NOTHING, 0, coefficients)
    places = np.flatnonzero(coefficients)
    if not len(places) or not np.isfinite(coefficients).all():
        return []
    zeros = [0.0] * (len(coefficients) - 1 - places[-1])
    leading, *others = coefficients[places[0] : places[-1] + 1]
    if not others:
        return zeros
    companion = np.diag(np.ones_like(coefficients, shape=len(others) - 1), -1)
    companion[0] = -np.array(others, companion.dtype) / leading
    roots = torch.linalg.eigvals(torch.from_numpy(companion))
    return [*roots.real[roots.imag == 0].tolist(), *zeros]
