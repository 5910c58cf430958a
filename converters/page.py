"""The page of `t7convert inspect --html`: one file of HTML, without scripts and without anything to fetch."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from converters import tree
from converters.checkpoint import Path as Place
from converters.checkpoint import is_network, networks, text_of
from converters.drawing import drawing
from converters.flow import flow
from converters.markup import Markup, element
from converters.report import Gradients, NetworkReport, Report, Verification
from converters.tree import Row
from t7compat.nested import entries, type_name

_MOST_ROWS = 20_000  # of the tree: browsers are slow with more
_MOST_TENSORS = 500  # in the table of weights
_OPEN = 3  # levels of the tree that are open at the beginning
_FEWEST_BINS, _BINS, _WIDTH, _HEIGHT = 5, 48, 192, 36

_ARROW = Markup(
    '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs><marker id="arrow" '
    'viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0,0 L8,4 L0,8 z"/></marker></defs></svg>'
)


@dataclass
class Page:
    """What is shown: the content of a file, and what `convert` found out, or why it was not asked."""

    name: str
    root: Any
    rows: Iterable[Row]
    notes: list[str]
    proof: Report | str

    def text(self) -> str:
        """The page."""
        rows = list(itertools.islice(self.rows, _MOST_ROWS + 1))
        found = networks(self.root)
        body = [
            element("h1", {}, self.name),
            element("p", {"class": "soft"}, "A file of Lua Torch7, as t7convert sees it"),
            self._cards(len(found)),
            *_remarks(self.notes, rows),
            *_proof(self.proof),
            *itertools.chain.from_iterable(_network(path, network) for path, network in found.items()),
            element("h2", {}, "Content"),
            element("div", {"class": "scroll tree"}, *_tree(rows[:_MOST_ROWS])),
        ]
        if len(rows) > _MOST_ROWS:
            body.append(
                element("p", {"class": "soft"}, f"The first {_MOST_ROWS:,} rows; --depth shows fewer.")
            )
        head = [
            element("meta", {"charset": "utf-8"}),
            element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
            element("title", {}, f"{self.name} - t7convert"),
            element("style", {}, Markup(Path(__file__).with_suffix(".css").read_text("utf-8"))),
        ]
        page = element("html", {"lang": "en"}, element("head", {}, *head), element("body", {}, _ARROW, *body))
        return f"<!DOCTYPE html>\n{page}\n"

    def _cards(self, count: int) -> Markup:
        sums = tree.totals(self.root)
        cards = {
            "networks": f"{count:,}",
            "parameters": f"{sums.parameters:,}",
            "storages": f"{sums.storages:,}",
            "in tensors": tree.amount(sums.bytes),
        }
        return element(
            "div", {"class": "cards"}, *(element("div", {}, element("b", {}, n), k) for k, n in cards.items())
        )


def _remarks(notes: list[str], rows: list[Row]) -> list[Markup]:
    """What is unusual, with the place."""
    lines = [element("li", {}, note) for note in notes]
    for row in rows:
        place = element("code", {}, row.path or "the whole")
        lines += [element("li", {}, place, " ", row.type, ": ", remark) for remark in row.remarks]
    return [element("h2", {}, "Worth a look"), element("ul", {"class": "warn"}, *lines)] if lines else []


# ---- the proof


def _proof(proof: Report | str) -> list[Markup]:
    title = element("h2", {}, "Verification")
    if isinstance(proof, str):
        return [title, element("p", {"class": "soft"}, proof)]
    head = ("network", "check", "on", "largest difference", "allowed", "result")
    rows = [line for network in proof.networks for line in _proof_rows(network)]
    parts = [title, _table(head, rows)]
    warnings = [element("li", {}, warning) for warning in proof.warnings]
    return [*parts, element("ul", {"class": "warn"}, *warnings)] if warnings else parts


def _proof_rows(network: NetworkReport) -> Iterator[tuple[str, ...]]:
    found, replay = network.verification, network.replay
    name = network.path or network.typename
    input = found.input and f"random {found.input}"
    yield name, "written PyTorch against Torch", input, *_compared(found, "not verified")
    if found.gradients:
        slopes = found.gradients
        yield name, "gradients", f"{slopes.compared} tensors", *_compared(slopes, "not compared")
    if replay.compared:
        good = not replay.deviating
        text = "✓ equal" if good else f"{len(replay.deviating)} deviate"
        result = element("span", {"class": "good" if good else "warn" if replay.updated else "bad"}, text)
        yield name, "layers against Torch7", str(replay), _figure(replay.largest), "", result


def _compared(found: Verification | Gradients, otherwise: str) -> tuple[str, str, str]:
    """The largest difference, what is allowed, and the outcome."""
    words = {"verified": ("good", "✓ equal"), "deviates": ("bad", "✗ deviates")}
    style, word = words.get(found.outcome, ("warn", otherwise))
    result = element("span", {"class": style, "title": found.reason}, word)
    return _figure(found.largest), _figure(found.allowed), result


def _figure(number: float | None) -> str:
    return "" if number is None else f"{number:.2g}"


def _table(
    head: tuple[str, ...], rows: Iterable[tuple[str, ...]], numbers: frozenset[int] = frozenset({3, 4})
) -> Markup:
    def cells(tag: str, row: tuple[str, ...]) -> Iterator[Markup]:
        return (element(tag, {"class": "number" if i in numbers else ""}, cell) for i, cell in enumerate(row))

    top = element("thead", {}, element("tr", {}, *cells("th", head)))
    body = element("tbody", {}, *(element("tr", {}, *cells("td", row)) for row in rows))
    return element("div", {"class": "scroll"}, element("table", {}, top, body))


# ---- a network


def _network(path: str, network: Any) -> Iterator[Markup]:
    yield element("h2", {}, f"{path}: {type_name(network)}" if path else type_name(network))
    picture = drawing(flow(network), f"The graph of {path or 'the network'}")
    yield element("div", {"class": "scroll"}, picture)
    weights = list(itertools.islice(_weights(network), _MOST_TENSORS + 1))
    if weights:
        yield element("h3", {}, "Weights")
        head = ("parameter", "of", "size", "smallest", "mean", "largest", "deviation", "distribution")
        yield _table(head, weights[:_MOST_TENSORS], frozenset({3, 4, 5, 6}))
    if len(weights) > _MOST_TENSORS:
        yield element("p", {"class": "soft"}, f"The first {_MOST_TENSORS}.")


def _weights(network: Any) -> Iterator[tuple[str, ...]]:
    """A row for each parameter, shared ones once."""
    seen = set()
    for value, path in _parts(network):
        for name in getattr(type(value), "parameter_names", ()) or ("weight", "bias"):
            tensor = (entries(value) or {}).get(name)
            if isinstance(tensor, torch.Tensor) and tensor.numel() and tensor.is_floating_point():
                place = tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape
                if place not in seen:
                    seen.add(place)
                    size = "x".join(map(str, tensor.shape))
                    yield text_of((path, name)), type_name(value), size, *_distribution(tensor)


def _parts(network: Any) -> Iterator[tuple[Any, Place]]:
    """The modules in a network with the shortest paths to them."""
    pending: deque[tuple[Any, Place]] = deque([(network, None)])
    seen: set[int] = set()
    while pending:
        value, path = pending.popleft()
        content = entries(value)
        if content is not None and id(value) not in seen:
            seen.add(id(value))
            if is_network(value):
                yield value, path
            pending += [(inner, (path, key)) for key, inner in content.items()]


def _distribution(tensor: torch.Tensor) -> tuple[str, ...]:
    """Smallest, mean, largest, standard deviation and histogram of what is finite."""
    numbers = tensor.detach().reshape(-1)
    if not numbers.isfinite().all():
        numbers = numbers[numbers.isfinite()]
    if not numbers.numel():
        return "", "", "", "", ""
    numbers = numbers if numbers.dtype == torch.float64 else numbers.float()
    low, high = (end.item() for end in numbers.aminmax())
    deviation = numbers.std(correction=0).item()
    figures = (f"{number:.3g}" for number in (low, numbers.mean().item(), high, deviation))
    return *figures, _histogram(numbers, low, high)


def _histogram(numbers: torch.Tensor, low: float, high: float) -> Markup:
    """Bars over the range of the numbers; a line stands at 0."""
    if not math.isfinite(high - low) or high == low:
        return Markup("")
    bins = max(_FEWEST_BINS, min(_BINS, math.isqrt(4 * len(numbers))))
    counts = torch.histc(numbers, bins, low, high)
    heights = (counts / counts.max() * _HEIGHT).tolist()
    step = _WIDTH / bins
    bars = "".join(
        f"M{i * step:.1f},{_HEIGHT}v{-max(h, 1.0):.1f}h{step - 1:.1f}V{_HEIGHT}z"
        for i, h in enumerate(heights)
        if h
    )
    zero = -low / (high - low) * _WIDTH
    axis = [element("path", {"class": "axis", "d": f"M{zero:.1f},0V{_HEIGHT}"})] if low < 0 < high else []
    size = {"width": str(_WIDTH), "height": str(_HEIGHT), "role": "img"}
    label = {"aria-label": f"histogram from {low:.3g} to {high:.3g}"}
    return element("svg", size | label, *axis, element("path", {"class": "bars", "d": bars}))


# ---- the tree


def _tree(rows: list[Row]) -> Iterator[Markup]:
    """Rows as nested <details>."""
    depth = 0
    for row, following in itertools.zip_longest(rows, rows[1:]):
        yield Markup("</details>" * (depth - row.depth))
        depth = row.depth
        if following is not None and following.depth > row.depth:
            yield Markup('<details open="">' if row.depth < _OPEN else "<details>")
            yield element("summary", {"title": row.path}, *_line(row))
            depth += 1
        else:
            yield element("div", {"class": "leaf", "title": row.path}, *_line(row))
    yield Markup("</details>" * depth)


def _line(row: Row) -> Iterator[str]:
    text = tree.line(row)
    if row.key:
        yield element("span", {"class": "key"}, row.key)
        text = text.removeprefix(row.key)
    yield text
    if row.remarks:
        yield element("span", {"class": "warn"}, "  ! " + "; ".join(row.remarks))
