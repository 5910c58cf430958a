"""What watches training: ConfusionMatrix, Logger, and a check of gradients."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor

from t7compat.errors import InputError
from t7compat.nested import to_text
from t7compat.nn.luaobject import LuaObject
from t7compat.nn.shapes import describe, one_based, zero_based
from t7compat.optim import plots
from t7compat.optim.settings import Opfunc, expect_vector, number, objective, value_of
from t7compat.table import Table
from t7compat.tensortypes import new_tensor


class ConfusionMatrix(LuaObject, typename="optim.ConfusionMatrix"):
    """How often which class was predicted: mat has a row for each target and a column for each prediction.

    The arguments are the number of classes, their names, or both.  Classes count from 1; targets below 1 are
    left out.
    """

    mat: Tensor
    classes: Table
    totalValid: float
    averageValid: float

    def __init__(self, nclasses: Any, classes: Any = None) -> None:
        nclasses, classes = Table.from_python(nclasses), Table.from_python(classes)
        if isinstance(nclasses, Table):
            nclasses, classes = len(nclasses), nclasses
        if not isinstance(nclasses, int) or nclasses < 1:
            got = describe(nclasses)
            raise InputError(f"ConfusionMatrix: expected a number of classes or their names, got {got}")
        self.mat = torch.zeros(nclasses, nclasses, dtype=torch.int64)
        self.valids, self.unionvalids = torch.zeros(nclasses), torch.zeros(nclasses)
        self.nclasses, self.totalValid, self.averageValid = nclasses, 0, 0
        self.classes = Table() if classes is None else classes
        self._mat_flat = self.mat.view(-1)
        self._target, self._prediction, self._max = torch.zeros(0), torch.zeros(0), torch.zeros(0)
        self._pred_idx, self._targ_idx = (torch.zeros(0, dtype=torch.int64) for _ in range(2))

    def add(self, prediction: Any, target: Any) -> None:
        """Count one prediction.  Both are a class, or a vector in which that of the class is the greatest."""
        if isinstance(prediction, Tensor):
            if isinstance(target, Tensor):
                target = self._classes("target", target, 1)
            prediction = self._classes("prediction", prediction, 1)
        pair = [torch.as_tensor([number(f"add: {name}", value)], dtype=torch.float64)
                for name, value in (("target", target), ("prediction", prediction))]  # fmt: skip
        self._count(*pair)

    def batchAdd(self, predictions: Tensor, targets: Tensor) -> None:
        """Count many predictions.  Both are (n) or (n, 1) with classes, or (n, classes) with their scores."""
        pair = self._classes("prediction", predictions), self._classes("target", targets)
        if len(pair[0]) != len(pair[1]):
            got = f"{describe(predictions)} and {describe(targets)}"
            raise InputError(f"batchAdd: expected as many predictions as targets, got {got}")
        self._count(pair[1], pair[0])

    def _classes(self, name: str, given: Any, dims: int | None = None) -> Tensor:
        """The classes that are given as such, or (in the last of two dimensions, or of `dims`) as scores."""
        if not isinstance(given, Tensor) or given.dim() not in ((1, 2) if dims is None else (dims,)):
            raise InputError(f"{name}s: expected a {dims or '1-D or 2'}-D tensor, got {describe(given)}")
        values = given.detach().to("cpu", torch.float32, copy=True)
        setattr(self, f"_{name}", values)
        if dims is None and (values.dim() == 1 or values.shape[1] == 1):
            return values.view(-1)
        if values.shape[-1] == 0:
            raise InputError(f"{name}s: expected scores, got {describe(given)}")
        self._max, index = values.max(-1, keepdim=True)
        index = one_based(index)
        setattr(self, f"_{name[:4]}_idx", index)
        return index.view(-1)

    def _count(self, targets: Tensor, predictions: Tensor) -> None:
        """Add one for each pair with a target of 1 or more."""
        counts = targets >= 1
        targets, predictions = targets[counts].long(), predictions[counts].long()
        for name, classes in (("targets", targets), ("predictions", predictions)):
            wrong = classes[(classes < 1) | (classes > self.nclasses)]
            if len(wrong):
                raise InputError(f"{name}: expected classes from 1 to {self.nclasses}, got {wrong[0].item()}")
        place = zero_based(targets), zero_based(predictions)
        self.mat.index_put_(place, torch.ones_like(targets, dtype=self.mat.dtype), accumulate=True)

    def zero(self) -> None:
        """Start again."""
        for tensor in (self.mat, self.valids, self.unionvalids):
            tensor.zero_()
        self.totalValid = self.averageValid = 0

    def updateValids(self) -> None:
        """Compute valids (of each class, the part of its targets that was found), unionvalids (of targets and
        predictions together), the averages of both (of the classes that have them), and totalValid."""
        hits, rows, columns = self.mat.diag().double(), self.mat.sum(1), self.mat.sum(0)
        self.valids.copy_(hits / rows)
        self.unionvalids.copy_(hits / (rows + columns - self.mat.diag()))
        self.totalValid = (hits.sum() / self.mat.sum()).item()
        has_value = ~self.valids.isnan()  # and then the class has a unionvalid, too
        averages = (part[has_value].double().mean().item() for part in (self.valids, self.unionvalids))
        self.averageValid, self.averageUnionValid = averages

    def farFrr(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """False rejection and acceptance rates of all classes (-1 without targets); of those with targets."""
        n, totals = self.nclasses, self.mat.sum(1).double()
        rates = self.mat.double() / totals[:, None]
        has_targets = totals != 0
        others = has_targets[:, None] & ~torch.eye(n, dtype=torch.bool)
        frr = 1 - rates.diag()
        far = rates.where(others, rates.new_zeros(())).sum(0) / others.sum(0)
        short = []
        for name, rate in (("frr", frr), ("far", far)):
            of_classes, of_present = new_tensor(n).fill_(-1), new_tensor(n)
            of_classes[has_targets] = rate[has_targets].to(of_classes)
            count = int(has_targets.sum())
            of_present[:count] = of_classes[has_targets]
            setattr(self, f"_class{name.capitalize()}s", of_classes)
            setattr(self, f"_{name}s", of_present)
            short.append(of_present[:count])
        return self._classFrrs, self._classFars, short[0], short[1]

    def __str__(self) -> str:
        self.updateValids()
        width = max(8, 1 + math.ceil(math.log10(max(1, self.mat.max().item()))))
        lines = []
        for t, (row, valid) in enumerate(zip(self.mat.tolist(), self.valids.tolist(), strict=True), 1):
            name = f"\t[class: {to_text(self.classes[t] or '')}]" if self.classes[1] else ""
            end = "]] " if t == self.nclasses else "]  "
            counts = "".join(f"{count:{width}d}" for count in row)
            lines.append(f"[{counts}{end} {valid * 100:2.3f}% {name}\n")
        return (
            f"ConfusionMatrix:\n[{' '.join(lines)}"
            f" + average row correct: {to_text(self.averageValid * 100)}% \n"
            f" + average rowUcol correct (VOC measure): {to_text(self.averageUnionValid * 100)}% \n"
            f" + global correct: {to_text(self.totalValid * 100)}%"
        )

    def render(
        self, sortmode: str = "score", display: bool = False, block: int = 25, legendwidth: int = 200
    ) -> Tensor:
        """The matrix as a picture, (3, height, width) from 0 to 1.  Needs matplotlib.

        Classes are sorted by "score" or "occurrence"; `block` is the size of a square in pixels.
        """
        if sortmode not in ("score", "occurrence"):
            raise InputError(f"render: expected the sort mode score or occurrence, got {sortmode!r}")
        names = [to_text(self.classes[i]) for i in range(1, self.nclasses + 1)]
        return plots.confusion(self.mat, names, sortmode, display, block, legendwidth)


class Logger(LuaObject, typename="optim.Logger"):
    """Writes numbers and strings to a file, a column for each name, and plots them.

        logger = optim.Logger("train.log")
        logger.setNames(["train loss", "test loss"])
        logger.add([0.5, 0.6])                  # or, without names before: add({"train loss": 0.5})
        logger.style(["-", "+-"]).plot()        # with matplotlib, to train.log.eps

    Without a file name it writes to standard output.  With `timestamp` the name gets the time behind it.
    Styles are gnuplot's: "+" points, "-" lines, "+-" both, "." dots, "~" curves, "|" impulses.
    """

    file: TextIO
    epsfile: str | None = None
    figure: Any = None

    def __init__(self, filename: Any = None, timestamp: bool = False) -> None:
        if filename is None:
            self.file, self.name = sys.stdout, "stdout"
            print("<Logger> warning: no path provided, logging to std out")
        else:
            self.name = str(filename)
            stamp = time.strftime("-%Y_%m_%d_%X") if timestamp else ""
            Path(self.name).parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.name + stamp, "w")  # noqa: SIM115 - it stays open, as in Lua
            self.epsfile = self.name + ".eps"
        self.empty = self.showPlot = True
        self.symbols, self.styles, self.names, self.idx = Table(), Table(), Table(), Table()
        self.defaultStyle, self.logscale = "+", False

    def setNames(self, names: Any) -> Logger:
        """Name the columns, once, before the first line."""
        names = self.names = as_table("setNames", names)
        self._begin(names.items())
        for key, name in names.items():
            self.idx[name] = key
        return self

    def add(self, symbols: Any) -> None:
        """Write a line of numbers and strings: a list in the order of the names, or a table with names."""
        symbols = as_table("add", symbols)
        texts = [_column(value) for value in symbols.values()]
        if self.empty:
            self.idx = self.names = Table.from_items((key, key) for key, _ in symbols.items())
            self._begin(self.names.items())
        unknown = [key for key, _ in symbols.items() if self.symbols[key] is None]
        if unknown:
            raise InputError(f"add: expected values for the columns of this log, got one for {unknown[0]!r}")
        print(*texts, sep="\t", end="\t\n", file=self.file, flush=True)
        for key, value in symbols.items():
            self.symbols[key].insert(value)

    def _begin(self, columns: Any) -> None:
        """Write the first line, from pairs of the key and the name of each column."""
        columns = list(columns)
        self.empty = False
        self.nsymbols = len(Table.from_items(columns))
        for key, _ in columns:
            self.symbols[key], self.styles[key] = Table(), Table(self.defaultStyle)
        print(*[to_text(name) for _, name in columns], sep="\t", end="\t\n", file=self.file, flush=True)

    def style(self, symbols: Any) -> Logger:
        """Choose how to plot: a style, or a list of styles, for each column."""
        for name, style in as_table("style", symbols).items():
            if not isinstance(style, str | Table):
                raise InputError(f"style: expected a string or a table of strings, got {describe(style)}")
            self.styles[name] = Table(style) if isinstance(style, str) else style
        return self

    def setlogscale(self, state: bool) -> None:
        """Whether plots have a logarithmic vertical axis."""
        self.logscale = state

    def display(self, state: bool) -> None:
        """Whether `plot` opens a window, too, where there is a screen."""
        self.showPlot = state

    def plot(self, *names: Any) -> None:
        """Plot these columns (all of them without names) that have two numbers or more, to `epsfile`."""
        keys = [self.idx[name] for name in names] or list(self.symbols.keys())
        if None in keys:
            raise InputError(f"plot: expected names of columns, got {names[keys.index(None)]!r}")
        curves = [
            (to_text(self.names[key]), list(self.symbols[key]), style)
            for key in keys
            if len(self.symbols[key]) > 1
            for style in self.styles[key]
        ]
        if curves:
            plots.curves(self, curves)


def as_table(method: str, value: Any) -> Table:
    """A list or dict as a table."""
    table = Table.from_python(value)
    if not isinstance(table, Table):
        raise InputError(f"{method}: expected a table, got {describe(value)}")
    return table


def _column(value: Any) -> str:
    """A number or string as it is logged."""
    if isinstance(value, str):
        return value
    try:
        return f"{number('add', value):11.4e}"
    except InputError:
        raise InputError(f"add: can only log numbers and strings, got {describe(value)}") from None


def checkgrad(opfunc: Opfunc, x: Tensor, eps: float = 1e-7) -> tuple[float, Tensor, Tensor]:
    """Compare the gradient at x with differences of values at distance eps.

    Returns |g - e| / |g + e|, g (the gradient that opfunc returns) and e (its estimate).
    """
    expect_vector("checkgrad", "x", x, flat=True)
    value = value_of("checkgrad", opfunc)
    exact = objective("checkgrad", opfunc)(x)[1].detach().clone()  # opfunc may overwrite its own
    with torch.no_grad():
        estimate = torch.zeros_like(exact)
        for i, old in enumerate(x.tolist()):
            x[i] += eps
            above = value(x)
            x[i] -= 2 * eps
            estimate[i] = (above - value(x)) / (2 * eps)
            x[i] = old
        difference = np.float64((exact - estimate).norm().item())
        with np.errstate(all="ignore"):
            return (difference / (exact + estimate).norm().item()).item(), exact, estimate
