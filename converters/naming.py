"""Names for what is written, and texts that may stand in a docstring.

A name from a Torch file becomes an identifier that hides nothing.
"""

from __future__ import annotations

import builtins
import keyword
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

STAGE = ".t7convert-"  # how folders for unfinished files begin; the number of the process follows
_PACKAGES = ("torch", "safetensors", "numpy")  # what a written file imports, itself or through others
_LONGEST = 40
# What layers are called for short, by their class without "2d" and the like
_SHORT = {
    "Conv": "conv", "ConvTranspose": "deconv", "BatchNorm": "bn", "MaxPool": "pool", "AvgPool": "pool",
    "Sequential": "block", "CAddTable": "total", "CMulTable": "product", "CSubTable": "difference",
    "CDivTable": "quotient", "JoinTable": "joined", "SplitTable": "parts", "Identity": "values",
    "SoftMax": "softmax", "LogSoftMax": "log_softmax",
}  # fmt: skip


class Names(dict[Any, str]):
    """What has which name in a file, class or function; each name is given once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        super().__init__()
        self.taken = set(taken)

    def add(self, thing: Any, name: str) -> str:
        """Give a name to a thing, with a number if the name is taken."""
        free = next(
            n for i in range(1, len(self.taken) + 2) if (n := name + str(i) * (i > 1)) not in self.taken
        )
        self.taken.add(free)
        self[thing] = free
        return free

    def number(self, wanted: Mapping[Any, str]) -> None:
        """Give each thing the name that it wants, with a number if others want the same."""
        several = {name for name, count in Counter(wanted.values()).items() if count > 1}
        for thing, name in wanted.items():
            if name not in several and name not in self.taken:
                self.add(thing, name)
        counts: Counter[str] = Counter()
        for thing, name in wanted.items():
            while thing not in self:
                counts[name] += 1
                numbered = f"{name}{'_' * name[-1].isdigit()}{counts[name]}"
                if numbered not in self.taken:
                    self.add(thing, numbered)


def word(text: str) -> str:
    """A name from a Torch file as a name for a variable; empty if nothing of it can be in one."""
    name = "".join(c if f"_{c}".isidentifier() else "_" for c in unicodedata.normalize("NFKC", text))
    name = name[:_LONGEST].strip("_")
    if not name:
        return ""
    name = name if name.isidentifier() else f"_{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def kind(name: str) -> str:
    """What a variable for a layer of a class is called: "conv" for Conv2d, "max_table" for MaxTable."""
    name = re.sub(r"[123]d$", "", name)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.replace("ReLU", "Relu"))
    return _SHORT.get(name) or word(words.lower()) or "layer"


def documented(text: str) -> str:
    """A line of a docstring."""
    return printable(text).replace("\\", "\\\\").replace('"""', '""\\"')


def printable(text: str) -> str:
    """The text with all characters that are not printed as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def identifier(text: str) -> str:
    """A name for a Python module, made of the words of a text; none of a module that others import."""
    name = "".join(c if f"_{c}".isidentifier() else "_" for c in unicodedata.normalize("NFKC", text))
    taken = {*keyword.kwlist, *sys.stdlib_module_names, *_PACKAGES}
    return name if name.isidentifier() and name not in taken else f"_{name}"


def camel(name: str) -> str:
    """The name of a class, made of the words of a name."""
    joined = "".join(word[0].upper() + word[1:] for word in name.split("_") if word)
    return (
        joined
        if joined.isidentifier() and joined not in (*keyword.kwlist, *dir(builtins))
        else f"Net{joined}"
    )
