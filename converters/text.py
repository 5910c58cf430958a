"""Source text: taking functions and classes out of their files, so that they can stand in a written one."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import math
import symtable
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from t7compat.errors import T7Error

_WIDTH = 110  # of a line

# What written source may import, under the name that it has there
IMPORTS: dict[str, tuple[types.ModuleType, str]] = {
    "math": (math, "import math"),
    "torch": (torch, "import torch"),
    "F": (torch.nn.functional, "import torch.nn.functional as F"),
    "nn": (torch.nn, "from torch import nn"),
}


class Unconvertible(T7Error):
    """Something that has no form in PyTorch alone; the message says why."""


class Definition(NamedTuple):
    """A class, function or constant of a written file: its text, and what the text uses."""

    name: str
    text: str
    imports: frozenset[str]
    uses: tuple[Definition, ...]


class Edit(NamedTuple):
    """Replace what is from `start` to `end`, both (line, byte of the line), lines counted from 1."""

    start: tuple[int, int]
    end: tuple[int, int]
    text: str


def edited(text: str, edits: Iterable[Edit]) -> str:
    """`text` with edits that do not overlap."""
    lines = [line.encode() for line in text.split("\n")]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    content = b"\n".join(lines)
    for edit in sorted(edits, reverse=True):
        start, end = (starts[line - 1] + byte for line, byte in (edit.start, edit.end))
        content = content[:start] + edit.text.encode() + content[end:]
    return content.decode()


def span(node: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where a node of the syntax tree begins and ends."""
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def source_of(value: Any) -> str:
    """The text of a class, or of a function that needs nothing but its text, without annotations."""
    if inspect.isfunction(value) and (value.__code__.co_freevars or hasattr(value, "__wrapped__")):
        raise Unconvertible(f"{value.__qualname__} is made by another function, or calls that of its base")
    try:
        text = _classes(inspect.getmodule(value)).get(value.__qualname__) if inspect.isclass(value) else None
        text = text or textwrap.dedent(inspect.getsource(value)).rstrip("\n")
    except (OSError, TypeError):
        raise Unconvertible(f"the source text of {value.__qualname__} is not there") from None
    return edited(text, _annotations(text))


@functools.cache
def _classes(module: Any) -> dict[str, str]:
    """The texts of the classes of a file, by name: `inspect` reads all of it for each."""
    lines = inspect.getsource(module).split("\n")
    return {
        node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for node in ast.parse("\n".join(lines)).body
        if isinstance(node, ast.ClassDef) and not node.decorator_list
    }


def _annotations(text: str) -> Iterator[Edit]:
    """The edits that take the annotations out."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            header = bracketed(f"def {node.name}(", _parameters(text, node.args), "):", node.col_offset)
            start, _ = span(node)
            yield Edit(start, _end_of_header(text, node), header.replace("\n", "\n" + " " * node.col_offset))
        elif isinstance(node, ast.AnnAssign) and node.value:
            yield Edit(span(node.target)[1], span(node.annotation)[1], "")


def _parameters(text: str, arguments: ast.arguments) -> list[str]:
    """The parameters in the header of a function, without annotations."""

    def parameter(argument: ast.arg, default: ast.expr | None) -> str:
        return argument.arg + (f"={ast.get_source_segment(text, default)}" if default else "")

    usual = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(usual) - len(arguments.defaults)) + arguments.defaults
    parts = list(map(parameter, usual, defaults))
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg or arguments.kwonlyargs:
        parts.append(f"*{arguments.vararg.arg if arguments.vararg else ''}")
    parts += map(parameter, arguments.kwonlyargs, arguments.kw_defaults)
    return parts + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])


def _end_of_header(text: str, node: ast.FunctionDef) -> tuple[int, int]:
    """Where the header of a function ends: after the first colon behind all that may have one inside."""
    inner = [part for part in (*ast.walk(node.args), node.returns) if hasattr(part, "end_lineno")]
    line, byte = max([span(node)[0], *(span(part)[1] for part in inner)])
    rest = text.split("\n")[line - 1 :]
    rest[0] = " " * byte + rest[0].encode()[byte:].decode()
    skipped = next(i for i, content in enumerate(rest) if ":" in content)
    return line + skipped, rest[skipped].index(":") + 1


def free_names(text: str) -> list[str]:
    """The names that a text takes from outside, in alphabetical order, without those of Python itself."""

    def visit(table: symtable.SymbolTable) -> Iterator[str]:
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or (top and not symbol.is_assigned())):
                yield symbol.get_name()
        for child in table.get_children():
            yield from visit(child)

    table = symtable.symtable(text, "<written>", "exec")
    own = {one.get_name() for one in table.get_symbols() if one.is_assigned() or one.is_namespace()}
    return sorted(set(visit(table)) - own - set(dir(builtins)))


def define(name: str, text: str, namespace: Mapping[str, Any]) -> Definition:
    """The definition of `name` by `text`, whose other names mean what they mean in `namespace`."""
    imports: set[str] = set()
    uses: list[Definition] = []
    for used in free_names(text):
        value: Any = namespace.get(used)
        if used in IMPORTS and value in (IMPORTS[used][0], None):
            imports.add(used)
        elif inspect.isfunction(value) or _is_emitted(value):
            uses.append(definition_of(value))
        elif isinstance(value, int | float | str):
            uses.append(Definition(used, f"{used} = {literal(value)}", frozenset(), ()))
        else:
            raise Unconvertible(f"it uses {used}, which PyTorch alone does not have")
    return Definition(name, text, frozenset(imports), tuple(uses))


@functools.cache
def definition_of(value: Any) -> Definition:
    """The definition of a function or class, from its file; a class made from text brings it along."""
    made: Definition | None = vars(value).get("definition")
    return made or define(value.__name__, source_of(value), vars(inspect.getmodule(value)))


def _is_emitted(value: Any) -> bool:
    """Whether a value is one of the classes that written files may contain."""
    return inspect.isclass(value) and value.__module__.startswith("converters.emitted")


def is_torch(kind: Any) -> bool:
    """Whether a class is one of torch.nn, and needs no definition."""
    return getattr(torch.nn, kind.__name__, None) is kind


def in_order(definitions: Iterable[Definition]) -> list[Definition]:
    """The definitions and what they use, each once, what is used first."""
    found: dict[Definition, None] = {}

    def add(definition: Definition) -> None:
        for used in definition.uses:
            add(used)
        found.setdefault(definition)

    for definition in definitions:
        add(definition)
    return list(found)


def class_from(definition: Definition) -> Any:
    """The class that a definition defines."""
    namespace = {name: module for name, (module, _) in IMPORTS.items()}
    for part in in_order([definition]):
        exec(part.text, namespace)
    cls: Any = namespace[definition.name]
    cls.definition = definition
    return cls


def bracketed(before: str, parts: list[str], after: str, indent: int, several: bool = False) -> str:
    """A call or header with these parts in one line, or (`several`, or too long) each in a line of its own.

    `indent` is that of the line in which it begins.
    """
    line = f"{before}{', '.join(parts)}{after}"
    if not several and fits(line, indent):
        return line
    return "\n".join([before, *(indented(part) + "," for part in parts), after])


def fits(text: str, indent: int) -> bool:
    """Whether a text is one line that is not too long."""
    return "\n" not in text and indent + len(text) < _WIDTH


def indented(text: str) -> str:
    """The text, four columns to the right."""
    return textwrap.indent(text, "    ")


def literal(value: Any) -> str:
    """The text of a plain value, or of a tuple of such; nothing else gets into a text."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' * (len(value) == 1)})"
    if isinstance(value, str):
        text = ascii(value)
        return text if '"' in text else f'"{text[1:-1]}"'
    if value is None or isinstance(value, int | float):
        return repr(value)
    raise Unconvertible(f"{type(value).__name__} where a plain value was expected")
