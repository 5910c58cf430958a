"""Pictures of graphs: text in the language of Graphviz, which its programs draw."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from t7compat.nested import to_text


def dot_text(
    nodes: Iterable[tuple[str, str, Mapping[str, Any]]], edges: Iterable[tuple[str, str]], title: str | None
) -> str:
    """A graph of nodes (name, label, attributes) and edges (name, name), as Torch7 writes it."""
    lines = ["digraph G {"]
    if title:
        lines += ['labelloc="t";', f"label={_string(title)};"]
    lines.append("node [shape = oval]; ")
    for name, label, attributes in nodes:
        given = "".join(f" {key}={_word(to_text(attributes[key]))}" for key in sorted(attributes))
        lines.append(f"{name}[label={_word(label)}{given}];")
    lines += [f"{source} -> {to};" for source, to in edges]
    return "\n".join([*lines, "}"])


def _word(text: str) -> str:
    return text if text.isascii() and text.isalpha() else _string(text)


def _string(text: str) -> str:
    """A text between quotes.  Backslashes stay: `\\l` ends a line."""
    return '"' + text.replace('"', '\\"').replace("\n", "\\n") + '"'


def draw(text: str, fname: str | None) -> None:
    """Write `fname`.dot and `fname`.svg; without a name write to a temporary folder, and show the picture."""
    base = fname or str(Path(tempfile.mkdtemp(prefix="graph_")) / "graph")
    Path(f"{base}.dot").write_text(text, encoding="utf-8")
    svg = _render(f"{base}.dot", f"{base}.svg")
    if svg and not fname:
        importlib.import_module("graphviz").view(svg)


def _render(source: str, target: str) -> str | None:
    """The picture of a .dot file, in a new file; None, with a warning, where it cannot be drawn."""
    try:
        graphviz: Any = importlib.import_module("graphviz")
    except ImportError:
        _warn(source, "the Python package graphviz (pip install t7compat[plot])")
        return None
    try:
        drawn: str = graphviz.render("dot", "svg", source, outfile=target)
    except graphviz.ExecutableNotFound:
        _warn(source, "the programs of Graphviz (https://graphviz.org/download)")
        return None
    return drawn


def _warn(source: str, missing: str) -> None:
    warnings.warn(f"wrote {source}, but no picture: that needs {missing}", stacklevel=2)
