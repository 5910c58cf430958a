"""Lifting: the class of a written file that has the text of a Torch class's own `compute` as its `forward`.

Parameters become `nn.Parameter`s, other fields that the text mentions become arguments of the constructor,
and the children of a container become those of an `nn.Sequential`.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch

from converters.brief import exact, state_of
from converters.text import (
    IMPORTS,
    Edit,
    Unconvertible,
    bracketed,
    class_from,
    define,
    edited,
    indented,
    literal,
    source_of,
    span,
)
from converters.wording import in_words_of_pytorch
from t7compat.nn.containers import Container
from t7compat.nn.module import Module
from t7compat.t7file.objects import Storage
from t7compat.table import Table

# What there is in an expression that reads well in the middle of another one
_SIMPLE = (
    ast.Call, ast.keyword, ast.Attribute, ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Tuple,
    ast.Subscript, ast.Slice, ast.Starred, ast.operator, ast.unaryop, ast.expr_context,
)  # fmt: skip
_KNOWN = "self", *IMPORTS
_RENAMED = {"train": "training"}  # fields that every torch.nn.Module has under another name


def lifted(module: Module) -> tuple[functools.partial[Any], dict[str, torch.Tensor]]:
    """The call that makes the lifted layer of a module, and the layer's own tensors by name.

    Raises Unconvertible if `compute` uses more than its arguments, plain fields, and what text.py can take
    along.
    """
    if (short := exact(module)) is not None:
        return short, state_of(module)
    kind: Any = type(module)
    forward = _forward(kind)
    if forward.hands_on:
        return functools.partial(torch.nn.Sequential), {}
    values = {name: getattr(module, name, None) for name in (*kind.parameter_names, *forward.fields)}
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    cls, defaults = _written_class(kind, tuple(name for name in forward.fields if name in tensors))
    options: dict[str, Any] = {f"{name}_size": tuple(value.shape) for name, value in tensors.items()}
    for name in forward.fields:
        if name not in tensors:
            options[name] = plain(values[name], f"its field {name}", name in forward.indexed)
    given = {n: value for n, value in options.items() if n not in defaults or value != defaults[n]}
    return functools.partial(cls, **given), tensors


def expression(module: Module) -> str | None:
    """What `compute` gives for `x`, if that is one simple expression of plain fields and PyTorch's functions.

    Raises Unconvertible if `compute` cannot be lifted.
    """
    kind: Any = type(module)
    if kind.parameter_names or isinstance(module, Container):
        return None
    forward = _forward(kind)
    values = {n: plain(getattr(module, n), f"its field {n}", n in forward.indexed) for n in forward.fields}
    return _inlined(forward.text, values)


def expression_of(make: functools.partial[Any]) -> str | None:
    """The same for the layer that a call makes of a class that written files may contain."""
    given = inspect.signature(make.func).bind(*make.args, **make.keywords)
    given.apply_defaults()
    kind: Any = make.func
    values = {name: value for name, value in given.arguments.items() if not isinstance(value, dict)}
    return _inlined(_source_of(kind.forward), values)


_source_of = functools.cache(source_of)


def _inlined(text: str, values: Mapping[str, Any]) -> str | None:
    """What a method `forward` gives for `x` and these fields, if that is one simple expression."""
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    *before, last = function.body
    if before or not isinstance(last, ast.Return) or last.value is None:
        return None
    if any(set(literal(value)) & set("'\\") for value in values.values()):
        return None
    nodes = list(ast.walk(last.value))
    if not all(isinstance(node, _SIMPLE) for node in nodes):
        return None
    given = function.args.args[1].arg
    if any(isinstance(node, ast.Name) and node.id not in (given, *_KNOWN) for node in nodes):
        return None
    return ast.unparse(_Inlined(given, values).visit(last.value))


class _Inlined(ast.NodeTransformer):
    """Puts `x` and the values of fields in their places; what is left out by default, is left out."""

    def __init__(self, given: str, values: Mapping[str, Any]) -> None:
        self.given, self.values = given, values

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name("x") if node.id == self.given else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if _is_field(node) and node.attr in self.values:
            return ast.parse(literal(self.values[node.attr]), mode="eval").body
        return self.generic_visit(node)  # type: ignore[return-value]

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        starred = [part.value.elts if _is_tuple(part) else [part] for part in node.args]  # type: ignore
        keywords = [one for one in node.keywords if ast.unparse(one) != "keepdim=False"]
        return ast.Call(node.func, [part for parts in starred for part in parts], keywords)


def _is_tuple(node: ast.expr) -> bool:
    return isinstance(node, ast.Starred) and isinstance(node.value, ast.Tuple)


def plain(value: Any, what: str, indexed: bool = False) -> Any:
    """A field's value as the written source has it: sizes and lists as tuples."""
    if isinstance(value, Storage | tuple) or (isinstance(value, Table) and value.is_list()):
        if indexed:
            raise Unconvertible(f"{what} is a list whose places count from 1")
        return tuple(plain(entry, what) for entry in value)
    if not isinstance(value, int | float | str | None):
        raise Unconvertible(f"{what} is no plain value")
    return value


class _Forward:
    """`compute` of a class as the text of a method `forward`.

    `fields` are those that it mentions, parameters left out; `indexed` are those of which it takes elements.
    What it leaves in scratch fields, for Lua programs to read, is left out.
    """

    def __init__(self, cls: Any) -> None:
        self.fields: dict[str, None] = {}
        self.indexed: set[str] = set()
        source = source_of(cls.compute)
        function = ast.parse(source).body[0]
        assert isinstance(function, ast.FunctionDef)
        if isinstance(function.body[-1], ast.Raise):
            raise Unconvertible("it has no compute")
        if function.decorator_list:
            raise Unconvertible("its compute is decorated")
        self.notes = {part: name for part in function.body if (name := _note(part, cls))}
        body = [part for part in function.body if part not in self.notes]
        expressions = [node for part in body for node in ast.walk(part) if isinstance(node, ast.expr)]
        expressions.sort(key=span)
        names = [node for node in expressions if isinstance(node, ast.Name)]
        meanings = _meanings(cls, function.args)
        changed = {name.id for name in names if not isinstance(name.ctx, ast.Load)}
        header = [f"def forward(self, {function.args.args[1].arg}):"]
        header += [f"    {name} = {meaning}" for name, meaning in meanings.items() if name in changed]
        edits = [Edit((1, 0), span(body[0])[0], "\n".join([*header, "    "]))]
        for part in self.notes:
            if part.lineno > body[0].lineno:
                edits.append(Edit((part.lineno, 0), (span(part)[1][0] + 1, 0), ""))
        edits += [Edit(*span(n), meanings[n.id]) for n in names if n.id in meanings.keys() - changed]
        for node in expressions:
            if isinstance(node, ast.Subscript) and _is_field(node.value):
                self.indexed.add(node.value.attr)  # type: ignore[attr-defined]
            if isinstance(node, ast.Attribute) and _is_field(node) and node.attr not in cls.parameter_names:
                edits += self._field(cls, node)
        self.text = edited(source, edits)
        one = f"return self[0]({function.args.args[1].arg})"
        self.hands_on = issubclass(cls, Container) and self.text.split("\n")[1:] == [f"    {one}"]

    def _field(self, cls: Any, node: ast.Attribute) -> list[Edit]:
        if not isinstance(node.ctx, ast.Load):
            raise Unconvertible(f"its compute changes self.{node.attr}")
        if node.attr in self.notes.values():
            raise Unconvertible(f"its compute reads self.{node.attr}, which it sets")
        if node.attr in _RENAMED:
            return [Edit(*span(node), f"self.{_RENAMED[node.attr]}")]
        if callable(getattr(cls, node.attr, None)):
            raise Unconvertible(f"its compute calls self.{node.attr}")
        self.fields[node.attr] = None
        return []


_forward = functools.cache(_Forward)


def _note(part: ast.stmt, cls: Any) -> str:
    """The scratch field that a statement sets, if it does nothing else; else an empty name."""
    target = part.targets[0] if isinstance(part, ast.Assign) and len(part.targets) == 1 else part
    name = target.attr if isinstance(target, ast.Attribute) and _is_field(target) else ""
    return name if name in cls.scratch else ""


def _is_field(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _meanings(cls: Any, arguments: ast.arguments) -> dict[str, str]:
    """What the arguments after the input are in a written class."""
    names = [argument.arg for argument in arguments.args[2:]]
    if issubclass(cls, Container):
        meanings = {name: f"self[{i}]" for i, name in enumerate(names)}
        return meanings | ({arguments.vararg.arg: "self"} if arguments.vararg else {})
    if arguments.vararg or len(names) != len(cls.parameter_names):
        raise Unconvertible("its compute does not take its parameters one by one")
    return {name: f"self.{parameter}" for name, parameter in zip(names, cls.parameter_names, strict=True)}


@functools.cache
def _written_class(cls: Any, buffers: tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
    """The class that is written for a Torch class, and the defaults of its constructor's arguments.

    `buffers` are the fields that are tensors, but no parameters.
    """
    forward, parameters = _forward(cls), cls.parameter_names
    optional = [name for name in parameters if hasattr(cls, name)]
    options = [name for name in forward.fields if name not in buffers]
    defaults = {
        n: getattr(cls, n) for n in options if isinstance(getattr(cls, n, ...), int | float | str | None)
    }
    defaults |= {f"{name}_size": None for name in optional}

    children = ["*children"] if issubclass(cls, Container) else []
    sizes = [f"{name}_size" for name in (*parameters, *buffers)]
    arguments = [name for name in (*sizes, *options) if name not in defaults]
    arguments += [f"{name}={literal(value)}" for name, value in defaults.items()]
    body = [f"super().__init__({', '.join(children)})"]
    for name in parameters:
        absent = f"None if {name}_size is None else " if name in optional else ""
        body.append(f"self.{name} = {absent}nn.Parameter(torch.zeros({name}_size))")
    body += [f'self.register_buffer("{name}", torch.zeros({name}_size))' for name in buffers]
    body += [f"self.{name} = {name}" for name in options]

    blocks = [_docstring(cls, {*parameters, *buffers, *options})] if cls.__doc__ else []
    if arguments:
        header = bracketed("def __init__(", ["self", *children, *arguments], "):", 4)
        blocks.append("\n".join([header, *(f"    {line}" for line in body)]))
    blocks.append(forward.text)
    base = "Sequential" if children else "Module"
    text = f"class {cls.__name__}(nn.{base}):\n" + "\n\n".join(map(indented, blocks))
    namespace = vars(inspect.getmodule(cls.compute))
    define(cls.__name__, forward.text, namespace)  # what the body calls nn must be torch.nn
    made = class_from(define(cls.__name__, text, {**namespace, "torch": torch, "nn": torch.nn}))
    return made, defaults


def _docstring(cls: Any, fields: Collection[str]) -> str:
    text = in_words_of_pytorch(cls.__doc__, fields)
    return f'"""{text}\n"""' if "\n" in text else f'"""{text}"""'
