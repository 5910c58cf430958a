"""The text of a graph's forward.

It has a variable for what has a name, what a layer gives, and what is used several times; everything else
stands where it is used.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from converters.expressions import Expression, entry_of, filled, mentions, written
from converters.naming import Names, kind, word
from converters.native import Layer
from converters.text import IMPORTS, bracketed, fits, indented
from t7compat.nested import type_name

_NESTED = 48  # characters of an expression inside another one
_TAKEN = {"self", *IMPORTS, *keyword.kwlist, *dir(builtins)} - {"input"}
_SIGNS: Mapping[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.MatMult: "@",
}  # fmt: skip
_PLACE = re.compile(r"_(\d+)_")  # stands for the variable of a node until all have names


class Node(NamedTuple):
    """A node of a graph: what its layer gives for the values of its sources (those of a table, if several).

    Without a layer it is that value itself or (`entry`) an entry of it.  `label` is what the user called it.
    The first node of a graph is its input.
    """

    sources: tuple[int, ...] = ()
    layer: Layer | None = None
    entry: int | None = None
    label: str = ""

    @property
    def hands_on(self) -> bool:
        """Whether its value is that of its only source."""
        same = self.layer is None or self.layer.make.args == ("x",)
        return len(self.sources) == 1 and self.entry is None and same

    @property
    def calls(self) -> bool:
        """Whether there is a layer to be called."""
        return self.layer is not None and self.layer.make.func is not Expression


class Forward:
    """The function `forward` of a graph of nodes, the last of which is its output.

    `members` are the names of the layers that it calls.
    """

    def __init__(self, nodes: Sequence[Node], members: Mapping[Layer, str]) -> None:
        self.nodes, self.members = nodes, members
        self.same: list[int] = []  # for each node, the one that its value comes from
        for i, node in enumerate(nodes):
            self.same.append(self.same[node.sources[0]] if node.hands_on else i)
        self.output = self.same[-1]
        distinct = [i for i, same in enumerate(self.same) if i == same]
        self.sources = {i: [self.same[source] for source in nodes[i].sources] for i in distinct}
        self.uses = Counter(source for i in distinct for source in self.sources[i])
        self.uses[self.output] += 1
        self.user = {source: i for i, sources in self.sources.items() for source in sources}
        self.labels: dict[int, str] = {}
        for i, node in enumerate(nodes):
            if label := word(node.label):
                self.labels.setdefault(self.same[i], label)
        takers: dict[int, dict[int, int]] = {}
        for i in distinct:
            if (entry := nodes[i].entry) is not None:
                takers.setdefault(self.sources[i][0], {})[entry] = i
        self.parts = {i: parts for i, found in takers.items() if (parts := _all_of(found))}
        self.whole = {part: i for i, parts in self.parts.items() for part in parts}
        self.values: dict[int, ast.expr] = {}
        self.statements: list[tuple[list[int], ast.expr]] = []
        for i in distinct:
            self._add(i)

    # ---- what is computed, and which of it gets a variable

    def _add(self, i: int) -> None:
        if i in self.values:  # it has been taken from a table already
            return
        parts = self.parts.get(i, [])
        value = self._value(i)
        if i and not (len(parts) == self.uses[i] or self._nests(i, value)):
            self.statements.append(([i], value))
            value = _variable(i)
        self.values[i] = value
        if parts:
            self.statements.append((parts, value))
            self.values.update((part, _variable(part)) for part in parts)

    def _value(self, i: int) -> ast.expr:
        if i == 0:
            return _variable(0)
        node = self.nodes[i]
        values = [self.values[source] for source in self.sources[i]]
        value = values[0] if len(values) == 1 else ast.Tuple(values, ast.Load())
        if node.layer is None:
            return value if node.entry is None else entry_of(ast.Subscript(value, ast.Constant(node.entry)))
        if node.calls:
            return ast.Call(ast.Name(f"self.{self.members[node.layer]}"), [value], [])
        return filled(node.layer.make.args[0], value)

    def _nests(self, i: int, value: ast.expr) -> bool:
        """Whether a value stands inside of the expression that uses it."""
        if self.uses[i] > 1 or i in self.labels:
            return False
        if i == self.output:
            return True
        fits = not self.nodes[i].calls and self._length(value) <= _NESTED
        return fits and not (i in self.user and self._repeats(self.user[i], i))

    def _repeats(self, user: int, i: int) -> bool:
        """Whether the expression of a node mentions one of its sources several times."""
        layer, sources = self.nodes[user].layer, [_variable(j) for j in self.sources[user]]
        if layer is None or self.nodes[user].calls:
            return False
        value = sources[0] if len(sources) == 1 else ast.Tuple(list(sources), ast.Load())
        return mentions(filled(layer.make.args[0], value))[_variable(i).id] > 1

    def _length(self, value: ast.expr) -> int:
        """The length of an expression with the names that its variables are going to have, about."""
        return len(_PLACE.sub(lambda found: self._wanted(int(found[1])), written(value)))

    # ---- names

    def _wanted(self, i: int) -> str:
        """The name that is right for the variable of a node, perhaps with a number."""
        node = self.nodes[i]
        whole = self.whole.get(i)
        if i in self.labels:
            return self.labels[i]
        if whole is not None:
            return self.labels.get(whole) or self._result(whole, i)
        if i == 0:
            return "input" if len(self.parts.get(0, ())) == self.uses[0] else "x"
        if node.layer is not None and node.calls:
            return self.members[node.layer]
        return "values" if node.layer is None else kind(type_name(node.layer.origin).rpartition(".")[2])

    def _result(self, whole: int, part: int) -> str:
        """The name for an entry of what a layer gives, or of the input."""
        names = getattr(self.nodes[whole].layer, "results", ())
        entry = self.nodes[part].entry
        return names[entry] if entry is not None and entry < len(names) else "part" if whole else "x"

    @property
    def results(self) -> tuple[str, ...]:
        """The names that are right for what it gives, perhaps with numbers."""
        values = self.sources[self.output] if self.nodes[self.output].layer is None else (self.output,)
        return tuple(map(self._wanted, values or (self.output,)))

    def _names(self) -> Names:
        names = Names(_TAKEN)
        variables = [0, *(i for targets, _ in self.statements for i in targets)]
        for i in variables:
            if i in self.labels:
                names.add(i, self.labels[i] + "_" * (self.labels[i] in _TAKEN))
        names.number({i: self._wanted(i) for i in variables if i not in names})
        return names

    # ---- text

    def text(self, name: str) -> str:
        """The function, formatted, of this name."""
        names = self._names()
        named = _Named(names)
        lines = [f"def {name}(self, {names[0]}):"]
        for targets, value in self.statements:
            left, right = [names[i] for i in targets], named.visit(value)
            line = _laid_out(f"{', '.join(left)} = ", right, 8)
            if len(left) > 1 and not fits(line, 8):
                line = bracketed("(", left, "", 8, True) + _laid_out(") = ", right, 8)
            lines.append(indented(line))
        result = named.visit(self.values[self.output])
        if isinstance(result, ast.Tuple) and len(result.elts) > 1:
            parts = [_laid_out("", part, 12) for part in result.elts]
            line = f"return {', '.join(parts)}"
            lines.append(indented(line if fits(line, 8) else bracketed("return (", parts, ")", 8, True)))
        else:
            lines.append(indented(_laid_out("return ", result, 8)))
        return "\n".join(lines)


def _all_of(takers: Mapping[int, int]) -> list[int]:
    """The nodes that take entries of a table, given by entry, if these are its first ones, two or more."""
    return [takers[k] for k in range(len(takers))] if 1 < len(takers) == max(takers) + 1 else []


def _variable(i: int) -> ast.Name:
    return ast.Name(f"_{i}_")


class _Named(ast.NodeTransformer):
    """Puts the names of the variables in their places."""

    def __init__(self, names: Names) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        place = _PLACE.fullmatch(node.id)
        return ast.Name(self.names[int(place[1])]) if place else node


def _laid_out(before: str, value: ast.expr, indent: int) -> str:
    """An expression behind `before` in one line, or if that is too long, in several as formatters do it."""
    line = before + written(value)
    if fits(line, indent):
        return line
    if isinstance(value, ast.Call) and value.args and not value.keywords:
        parts = [_laid_out("", part, indent + 4) for part in value.args]
        return bracketed(f"{before}{written(value.func)}(", parts, ")", indent, True)
    if isinstance(value, ast.Tuple):
        parts = [_laid_out("", part, indent + 4) for part in value.elts]
        return bracketed(f"{before}(", parts, ")", indent, True)
    if isinstance(value, ast.BinOp) and type(value.op) in _SIGNS:
        operator, terms = type(value.op), list[str]()
        rest: ast.expr = value
        while isinstance(rest, ast.BinOp) and type(rest.op) is operator:
            terms.insert(0, f"{_SIGNS[operator]} {written(rest.right)}")
            rest = rest.left
        line = written(value)
        lines = [line] if fits(line, indent + 4) else [written(rest), *terms]
        return "\n".join([f"{before}(", *map(indented, lines), ")"])
    return line
