"""The classes of Lua Torch that are known: how far they are supported, and what they become.

`classes.json` and docs/classes.md are written by docs/classes.py, from the code and the golden data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Supported:
    """A class: docs/classes.md explains `support`, and `counterpart` is what it is in PyTorch.

    `original` is the class of nn that it is under another name; `file` is the one in t7compat that has it.
    """

    name: str
    support: str
    counterpart: str
    file: str
    original: str = ""


def classes() -> list[Supported]:
    """All of them, by name."""
    text = (Path(__file__).parent / "classes.json").read_text("utf-8")
    return [Supported(**entry) for entry in json.loads(text)]
