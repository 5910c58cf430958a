"""From a tree of layers to the text of a Python file.

Nothing that comes from the Torch file reaches the text unchecked: strings are literals, names are made of
words.
"""

from __future__ import annotations

import builtins
import inspect
import keyword
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any

from converters.native import Layer
from converters.text import IMPORTS, bracketed, definition_of, in_order, indented, is_torch, literal

_PACKAGES = ("torch", "safetensors", "numpy")  # what a written file imports, itself or through others


def source(name: str, about: list[str], network: Layer) -> str:
    """The text of NAME.py: a docstring, the class of a network (which is a Sequential), and `load`."""
    kinds = dict.fromkeys(layer.make.func for layer in distinct(network))
    written = [kind for kind in kinds if not is_torch(kind)]
    definitions = in_order(map(definition_of, written))
    imports = {"nn"}.union(*(definition.imports for definition in definitions))
    lines = [text for alias, (_, text) in IMPORTS.items() if alias in imports]
    standard = sorted([*(text for text in lines if "torch" not in text), "from pathlib import Path"])
    head = ['"""' + documented(about[0]), *map(documented, about[1:]), '"""', ""]
    head += [*standard, "", *(text for text in lines if "torch" in text)]

    names = _Names({*IMPORTS, "Path", "load"})
    blocks = ["\n".join(head)]
    for definition in definitions:
        free = names.add(definition, definition.name)
        blocks.append(definition.text.replace(f"class {definition.name}(", f"class {free}(", 1))
    class_name = names.add(network, camel(name))
    blocks.append(_Network(network, {kind: names[definition_of(kind)] for kind in written}).text(class_name))
    blocks.append(_load(class_name, bool(list(network.shared()))))
    return "\n\n\n".join(blocks) + "\n"


class _Names(dict[Any, str]):
    """What has which name in the file; each name is given once."""

    def __init__(self, taken: set[str]) -> None:
        super().__init__()
        self.taken = taken

    def add(self, thing: Any, name: str) -> str:
        """Give a name to a thing, with a number if the name is taken."""
        free = next(
            n for i in range(1, len(self.taken) + 2) if (n := name + str(i) * (i > 1)) not in self.taken
        )
        self.taken.add(free)
        self[thing] = free
        return free


class _Network:
    """The text of the class of a network; `classes` has the names of classes that are not torch.nn's."""

    def __init__(self, network: Layer, classes: dict[Any, str]) -> None:
        self.network, self.classes = network, classes
        counts = Counter(child for layer in distinct(network) for child in layer.children)
        several = [layer for layer in distinct(network) if counts[layer] > 1]
        self.variables = {layer: f"shared{i}" for i, layer in enumerate(several, 1)}

    def text(self, name: str) -> str:
        lines = [f"{name} = {self._call(layer, 20)}" for layer, name in self.variables.items()]
        lines.append(self._call(self.network, 8, "super().__init__"))
        ties = [f"{_attribute(one)} = {_attribute(first)}" for one, first in self.network.shared()]
        methods = ["\n".join(["def __init__(self):", *map(indented, lines + ["self.tie()"] * bool(ties))])]
        if ties:
            about = '"""Let layers share what they share in Torch; loading gives each its own."""'
            methods.append("\n".join(["def tie(self):", *map(indented, [about, *ties])]))
        return f"class {name}(nn.Sequential):\n" + "\n\n".join(map(indented, methods))

    def _call(self, layer: Layer, indent: int, function: str = "") -> str:
        """The call that makes a layer: in one line if that is short and has at most one layer inside."""
        kind = layer.make.func
        function = function or (f"nn.{kind.__name__}" if is_torch(kind) else self.classes[kind])
        parts = [self.variables.get(child) or self._call(child, indent + 4) for child in layer.children]
        return bracketed(f"{function}(", parts + _arguments(layer), ")", indent, len(layer.children) > 1)


def distinct(network: Layer) -> Iterator[Layer]:
    """All layers of a network, each once, those inside a layer before it."""
    seen: set[Layer] = set()

    def visit(layer: Layer) -> Iterator[Layer]:
        if layer not in seen:
            seen.add(layer)
            for child in layer.children:
                yield from visit(child)
            yield layer

    return visit(network)


def _arguments(layer: Layer) -> list[str]:
    """The arguments as text; named ones are left out where they are the default of a torch.nn class."""
    make = layer.make
    defaults = inspect.signature(make.func).parameters if is_torch(make.func) else {}
    named = {
        name: v for name, v in make.keywords.items() if name not in defaults or defaults[name].default != v
    }
    return [*map(literal, make.args), *(f"{name}={literal(value)}" for name, value in named.items())]


def _attribute(name: str) -> str:
    """The expression for an entry of the state dict: 0.1.weight is self[0][1].weight."""
    return "self" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in name.split("."))


def _load(class_name: str, has_ties: bool) -> str:
    lines = [
        "def load(path=None):",
        '    """The network with its weights, in evaluation mode; by default those beside this file."""',
        "    from safetensors.torch import load_file",
        "",
        f"    network = {class_name}()",
        '    path = path or Path(__file__).with_suffix(".safetensors")',
        "    network.load_state_dict(load_file(path), assign=True)",
        *["    network.tie()"] * has_ties,
        "    return network.eval()",
    ]
    return "\n".join(lines)


# ---- texts and names


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
