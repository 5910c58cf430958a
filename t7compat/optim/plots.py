"""The pictures that Logger and ConfusionMatrix draw, by matplotlib."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t7compat.errors import InputError

# gnuplot's styles in matplotlib's terms
STYLES: dict[str, dict[str, Any]] = {
    "+": {"linestyle": "none", "marker": "+"},
    "-": {"linestyle": "-"},
    "+-": {"linestyle": "-", "marker": "+"},
    ".": {"linestyle": "none", "marker": ","},
    "~": {"linestyle": "-"},
    "|": {"linestyle": "none", "marker": "|"},
}


def curves(logger: Any, found: list[tuple[str, list[Any], str]]) -> None:
    """Draw (name, values, style) to the logger's window and file."""
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        if not vars(logger).get("warned"):
            print("<Logger> warning: cannot plot without matplotlib (pip install t7compat[plot])")
            logger.warned = True
        return
    figure = pyplot.figure(logger.figure)
    logger.figure = figure.number
    figure.clear()
    axes = figure.add_subplot()
    for name, values, style in found:
        places = range(1, len(values) + 1)
        if style == "|":
            axes.vlines(places, 0, values, label=name)
        else:
            axes.plot(places, values, label=name, **STYLES.get(style, STYLES["-"]))
    if logger.logscale:
        axes.set_yscale("log")
    axes.grid(True)
    axes.legend()
    axes.set_title(f"<Logger::{logger.name}>")
    if logger.epsfile:
        figure.savefig(logger.epsfile)
    if logger.showPlot:
        _present(pyplot, figure)
    else:
        pyplot.close(figure)


def confusion(
    mat: Tensor, names: list[str], sortmode: str, display: bool, block: int, legendwidth: int
) -> Tensor:
    """Draw a confusion matrix with its scores in percent and a legend."""
    try:
        figures = importlib.import_module("matplotlib.figure")
        canvases = importlib.import_module("matplotlib.backends.backend_agg")
    except ImportError:
        raise InputError("render: needs matplotlib (pip install t7compat[plot])") from None
    counts = mat.double()
    totals = counts.sum(1)
    scores = counts / totals.clamp(min=1)[:, None]
    order = (scores.diag() if sortmode == "score" else totals).argsort(descending=True, stable=True)
    side = block * len(names)
    figure = figures.Figure(((side + legendwidth) / 72, side / 72), dpi=72)  # a point is a pixel
    canvas = canvases.FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, side / (side + legendwidth), 1))
    axes.imshow(scores[order][:, order].numpy(), cmap="gray", vmin=0, vmax=1, aspect="auto")
    axes.axis("off")
    style = {"fontsize": block / 2.5, "va": "center"}
    for row, target in enumerate(order.tolist()):
        for column, prediction in enumerate(order.tolist()):
            score = scores[target, prediction].item()
            color = "black" if score > 0.5 else "white"
            axes.text(column, row, f"{score * 100:02.0f}", ha="center", color=color, **style)
        share = totals[target].item() / max(1, totals.sum().item()) * 100
        axes.text(len(names) - 0.3, row, f"[{share:2.2f}% labels]  {names[target]}", **style)
    canvas.draw()
    picture = torch.from_numpy(np.array(canvas.buffer_rgba()))[..., :3].permute(2, 0, 1) / 255
    if display:
        show(picture)
    return picture


def show(picture: Tensor) -> None:
    """Open a window with a picture, where there is a screen."""
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure = pyplot.figure()
    figure.figimage(picture.permute(1, 2, 0).numpy())
    _present(pyplot, figure)


def _present(pyplot: Any, figure: Any) -> None:
    """Put a figure on the screen, or close it where there is none."""
    if figure.canvas.required_interactive_framework:
        pyplot.show(block=False)
        pyplot.pause(0.001)
    else:
        pyplot.close(figure)
