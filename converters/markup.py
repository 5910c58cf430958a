"""HTML and SVG as text.  Whatever is not markup already is escaped, so that no name of a file becomes any."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

from converters.naming import printable

_EMPTY = {"meta", "rect", "path", "br"}  # elements that have no content


class Markup(str):
    """Text that is markup."""

    __slots__ = ()


def element(tag: str, attributes: Mapping[str, str], *content: str) -> Markup:
    """An element; empty attributes are left out."""
    given = "".join(f' {name}="{_escaped(value)}"' for name, value in attributes.items() if value)
    inside = joined(content)
    if tag in _EMPTY:
        return Markup(f"<{tag}{given}/>")
    return Markup(f"<{tag}{given}>{inside}</{tag}>")


def joined(content: Iterable[str]) -> Markup:
    """Elements and texts, one after the other."""
    return Markup("".join(part if isinstance(part, Markup) else _escaped(part) for part in content))


def _escaped(text: str) -> str:
    return html.escape(printable(text))
