"""The calls that make layers, as a person writes them: without what is usual anyway."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch

from converters.text import bracketed, literal

# The themes of torch.nn whose layers take one number where a size is the same in all dimensions
_ONE_FOR_ALL = ("conv", "pooling", "padding")
_signature = functools.lru_cache(inspect.signature)
_SIZES = ("input_size", "hidden_size")  # of recurrent layers, whose signature does not tell


@dataclass(frozen=True)
class Argument:
    """An argument of a call, which is left out if its text is the `default`."""

    name: str
    text: str
    default: str | None = None
    named: bool = True

    def __str__(self) -> str:
        return f"{self.name}={self.text}" if self.named else self.text


@dataclass(frozen=True)
class Call:
    """The call of a function with layers and arguments; or (`is_name`) what `function` names already."""

    function: str
    children: tuple[Call, ...] = ()
    arguments: tuple[Argument, ...] = ()
    is_name: bool = False

    def text(self, indent: int, function: str = "") -> str:
        """In one line if that is short and has at most one layer inside; `indent` is that of the line."""
        if self.is_name:
            return self.function
        parts = [child.text(indent + 4) for child in self.children]
        parts += [str(one) for one in self.arguments if one.text != one.default]
        return bracketed(f"{function or self.function}(", parts, ")", indent, len(self.children) > 1)

    def walk(self) -> Iterator[Call]:
        """This call and all inside."""
        yield self
        for child in self.children:
            yield from child.walk()

    @functools.cached_property
    def form(self) -> Any:
        """What calls have in common that are equal up to the values of their arguments."""
        names = tuple(argument.name for argument in self.arguments)
        return self.function, names, tuple(child.form for child in self.children)

    @functools.cached_property
    def values(self) -> tuple[Argument, ...]:
        """The arguments of this call and of all inside, in order."""
        return tuple(argument for call in self.walk() for argument in call.arguments)


def arguments_of(make: functools.partial[Any]) -> Iterator[Argument]:
    """The arguments of a call yet to be made."""
    kind: Any = make.func
    parameters = _signature(kind).parameters
    if not _is_like_torch(kind) or any(one.kind is one.VAR_POSITIONAL for one in parameters.values()):
        names = _SIZES if issubclass(kind, torch.nn.RNNBase) else (*parameters,)
        for name, value in zip_longest(names[: len(make.args)], make.args, fillvalue="value"):
            yield Argument(name, literal(value), named=False)
        for name, value in make.keywords.items():
            default = parameters[name].default if name in parameters else inspect.Parameter.empty
            usual = type(value) is type(default) and value == default
            yield Argument(name, literal(value), literal(value) if usual else None)
        return
    given = _signature(kind).bind(*make.args, **make.keywords)
    positional = len(make.args)
    given.apply_defaults()
    values = {name: _short(kind, value) for name, value in given.arguments.items()}
    for i, (name, value) in enumerate(values.items()):
        default = parameters[name].default
        if default is None and name == "stride":
            default = values["kernel_size"]  # of poolings
            value = default if value is None else value
        required = default is inspect.Parameter.empty
        alone = i == 0 and positional > 0
        text = literal(value) if _plain(value) else ""
        same = not required and type(value) is not bool and type(default) is not bool and value == default
        known = None if required or alone else text if same or value is default else ""
        yield Argument(name, text, known, named=not (required or alone))


def _is_like_torch(kind: Any) -> bool:
    """Whether the constructor is one of torch.nn's own layers."""
    return next(cls for cls in kind.__mro__ if "__init__" in vars(cls)).__module__.startswith("torch.nn.")


def _short(kind: Any, value: Any) -> Any:
    """A size that is the same in all dimensions, as one number."""
    theme = kind.__module__.rpartition(".")[2]
    is_one = isinstance(value, tuple) and len(set(value)) == 1 and type(value[0]) is int
    return value[0] if is_one and theme in _ONE_FOR_ALL else value


def _plain(value: Any) -> bool:
    return isinstance(value, int | float | str | tuple | None)
