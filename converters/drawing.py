"""A picture of a flow as SVG: boxes in rows, each row below those that it takes values from.

The layout is that of Sugiyama, Tagawa and Toda (1981): rows by the longest way from the input, an order
within each row that follows the neighbours, and places as near to these as the widths allow.  Colours are
those of the page, by the classes box, end and edge.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from converters.flow import Box
from converters.markup import Markup, element

_LETTER, _LINE = 6.7, 15  # pixels of the width of a letter and of the height of a line
_PADDING, _GAP, _BETWEEN, _LANE = 9, 26, 22, 10  # in a box, between boxes in a row, between rows, of an edge
_SWEEPS = 30
_ORDERING = 10  # of the sweeps, those that change the order in the rows
_STRAIGHT = 8  # the weight of the points of a long edge, against that of a box
_LONGEST = 44  # letters


def drawing(boxes: Sequence[Box], label: str) -> Markup:
    """The picture; `label` says to those who cannot see it what it is."""
    layout = _Layout(boxes)
    shapes = [_path(layout, chain) for chain in layout.chains]
    shapes += [_shape(box, *layout.corner(i), *layout.sizes[i]) for i, box in enumerate(boxes)]
    width, height = layout.extent()
    return element(
        "svg", {"role": "img", "aria-label": label, "width": f"{width:.0f}", "height": f"{height:.0f}",
                "viewBox": f"0 0 {width:.0f} {height:.0f}"}, *shapes,
    )  # fmt: skip


class _Layout:
    """Where everything is: boxes first, then the points where edges pass the rows between their ends."""

    def __init__(self, boxes: Sequence[Box]) -> None:
        self.sizes = [_size(box) for box in boxes]
        ranks: list[int] = []
        for box in boxes:
            ranks.append(1 + max((ranks[source] for source in box.sources), default=-1))
        self.rows: list[list[int]] = [[] for _ in range(max(ranks) + 1)]
        for i, rank in enumerate(ranks):
            self.rows[rank].append(i)
        self.above: dict[int, list[int]] = {}
        self.below: dict[int, list[int]] = {}
        self.chains: list[list[int]] = []
        for i, box in enumerate(boxes):
            for source in box.sources:
                self._connect(source, i, ranks)
        self.x = [0.0] * len(self.sizes)
        self._place()
        heights = [max(self.sizes[i][1] for i in row) for row in self.rows]
        self.tops = [sum(heights[:i]) + _BETWEEN * i + _PADDING for i in range(len(heights))]
        self.rank = {i: rank for rank, row in enumerate(self.rows) for i in row}

    def _connect(self, source: int, target: int, ranks: Sequence[int]) -> None:
        chain = [source]
        for row in self.rows[ranks[source] + 1 : ranks[target]]:
            chain.append(len(self.sizes))
            row.append(len(self.sizes))
            self.sizes.append((_LANE, 0))
        chain.append(target)
        for upper, lower in itertools.pairwise(chain):
            self.below.setdefault(upper, []).append(lower)
            self.above.setdefault(lower, []).append(upper)
        self.chains.append(chain)

    def _place(self) -> None:
        for row in self.rows:
            self._settle(row, {})
        both = {i: [*self.above.get(i, ()), *self.below.get(i, ())] for i in range(len(self.sizes))}
        for sweep in range(_SWEEPS):
            downwards = sweep % 2 == 0
            near = both if sweep >= _ORDERING else self.above if downwards else self.below
            for row in self.rows if downwards else reversed(self.rows):
                if sweep < _ORDERING:
                    row.sort(key=lambda i: self._wanted(i, near))
                self._settle(row, near)
        left = min(self.x[i] - self.sizes[i][0] / 2 for i in range(len(self.x)))
        self.x = [x - left + _PADDING for x in self.x]

    def _wanted(self, i: int, near: Mapping[int, list[int]]) -> float:
        """The middle of the neighbours."""
        neighbours = near.get(i)
        return sum(self.x[n] for n in neighbours) / len(neighbours) if neighbours else self.x[i]

    def _settle(self, row: list[int], near: Mapping[int, list[int]]) -> None:
        """Put a row as near to its neighbours as its widths allow, in the sense of least squares."""
        offsets = [0.0]
        for left, right in itertools.pairwise(row):
            offsets.append(offsets[-1] + (self.sizes[left][0] + self.sizes[right][0]) / 2 + _GAP)
        groups: list[tuple[float, int, int]] = []  # neighbours that touch: their sum, weight and number
        for i, offset in zip(row, offsets, strict=True):
            weight, count = _STRAIGHT if self.sizes[i][1] == 0 else 1, 1
            total = weight * (self._wanted(i, near) - offset)
            while groups and groups[-1][0] / groups[-1][1] >= total / weight:
                before = groups.pop()
                total, weight, count = total + before[0], weight + before[1], count + before[2]
            groups.append((total, weight, count))
        places = [total / weight for total, weight, count in groups for _ in range(count)]
        for i, place, offset in zip(row, places, offsets, strict=True):
            self.x[i] = place + offset

    def corner(self, i: int) -> tuple[float, float]:
        """The left upper corner of a box."""
        return self.x[i] - self.sizes[i][0] / 2, self.tops[self.rank[i]]

    def extent(self) -> tuple[float, float]:
        """Width and height of the picture."""
        right = max(x + width / 2 for x, (width, _) in zip(self.x, self.sizes, strict=True))
        return right + _PADDING, self.tops[-1] + max(self.sizes[i][1] for i in self.rows[-1]) + _PADDING


class _Text(NamedTuple):
    text: str
    style: str


def _texts(box: Box) -> list[_Text]:
    texts = (_Text(box.title, "title"), _Text(_bare(box.arguments), ""), _Text(box.detail, "detail"))
    return [
        _Text(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…", style)
        for text, style in texts
        if text
    ]


def _bare(arguments: str) -> str:
    """Arguments without the brackets around all of them."""
    whole = arguments.startswith("(") and arguments.endswith(")") and arguments.count("(") == 1
    return arguments[1:-1] if whole else arguments


def _size(box: Box) -> tuple[float, float]:
    texts = _texts(box)
    return max(len(text) for text, _ in texts) * _LETTER + 2 * _PADDING, len(texts) * _LINE + _PADDING


def _shape(box: Box, x: float, y: float, width: float, height: float) -> Markup:
    lines = [
        element("text", {"class": style, "x": f"{x + width / 2:.1f}", "y": f"{y + 1 + _LINE * i:.1f}"}, text)
        for i, (text, style) in enumerate(_texts(box), 1)
    ]
    outline = {
        "x": f"{x:.1f}",
        "y": f"{y:.1f}",
        "width": f"{width:.1f}",
        "height": f"{height:.1f}",
        "rx": "6",
    }
    hint = [element("title", {}, box.path)] if box.path else []
    return element("g", {"class": "box" if box.path else "end"}, *hint, element("rect", outline), *lines)


def _path(layout: _Layout, chain: list[int]) -> Markup:
    """An edge: straight within rows, a curve from one to the next."""
    first = chain[0]
    x, y = layout.x[first], layout.corner(first)[1] + layout.sizes[first][1]
    steps = [f"M{x:.1f},{y:.1f}"]
    for i in chain[1:]:
        top = layout.tops[layout.rank[i]]
        row_end = top - _BETWEEN
        if row_end > y:
            steps.append(f"V{row_end:.1f}")
        middle = row_end + _BETWEEN / 2
        steps.append(f"C{x:.1f},{middle:.1f} {layout.x[i]:.1f},{middle:.1f} {layout.x[i]:.1f},{top:.1f}")
        x, y = layout.x[i], top
    return element("path", {"class": "edge", "d": " ".join(steps), "marker-end": "url(#arrow)"})
