"""A forward that is being converted: its values, and the table of the rules for operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from converters.back.setting import Example, Setting, part_of
from converters.text import Unconvertible
from t7compat.nn.containers import Container
from t7compat.nn.formats import OneHot

Tensor = torch.Tensor
Operation = Callable[..., Any]
OPERATIONS: dict[str, Operation] = {}


def operation(*names: str) -> Callable[[Operation], Operation]:
    """Decorator: the rule for the operations of these names."""

    def decorate(rule: Operation) -> Operation:
        OPERATIONS.update(dict.fromkeys(names, rule))
        return rule

    return decorate


class Value:
    """What one module gives: a tensor, or a table of them, in a forward that is being converted.

    `module` is None for an input.  `once` and `twice` are what it was in the two runs, if known.
    """

    def __init__(self, module: Any, sources: tuple[Value, ...], name: str, once: Any, twice: Any) -> None:
        self.module, self.sources, self.name, self.once, self.twice = module, sources, name, once, twice

    @property
    def is_index(self) -> bool:
        """Whether it holds whole numbers, which stand for indices, unless they are those of nn.OneHot."""
        if not isinstance(self.once, Tensor) or self.once.is_floating_point() or type(self.module) is OneHot:
            return False
        return not self.sources or any(source.is_index for source in self.sources)


class Parts(tuple[Any, ...]):
    """The values in a tuple that is taken apart in Python: no table is made of it."""


class Constant(NamedTuple):
    """A tensor that does not depend on the input, but perhaps on its size: what it was in the two runs."""

    once: Tensor
    twice: Tensor


class OfBatch(NamedTuple):
    """A number that is another one for another batch: what it was in the two runs."""

    once: float
    twice: float


# Modules that do not look at the numbers, so that indices may count from 1 as well as from 0
_REARRANGE = (
    "View", "Reshape", "Narrow", "Select", "Transpose", "Unsqueeze", "Squeeze", "Contiguous", "Identity",
    "JoinTable", "SelectTable", "LookupTable", "OneHot", "Replicate", "SplitTable", "Constant",
)  # fmt: skip


class Forward:
    """A forward that is being converted, operation by operation: what the rules of operations work with."""

    def __init__(self, setting: Setting, root: torch.nn.Module) -> None:
        self.setting, self.root = setting, root
        self.name = self.operation = ""  # of this call, and of what is called
        self.once: Any = None  # what it gives in the two runs
        self.twice: Any = None
        self.mode = setting.memory.modes.get(id(root), True)
        self.values: list[Value] = []  # that there are already

    def apply(self, module: Any, *sources: Value) -> Value:
        """What a module gives for values (a table of them, if there are several)."""
        parts = (part for part in module.listModules() if not isinstance(part, Container))
        looks = any(type(part).__name__ not in _REARRANGE for part in parts)
        if looks and any(source.is_index for source in sources) and not _begins_with_table(module):
            raise Unconvertible(
                f"{self.name} computes with whole numbers, which are indices and count from 1 in Lua"
            )
        self.setting.mark(module, self.mode)
        return Value(module, sources, self.name, None, None)

    def is_trained(self, tensor: Tensor) -> bool:
        """Whether a tensor is a parameter that is to be trained, or a part of one."""
        parameters = (p for p in self.root.parameters() if p.requires_grad)
        return any(part_of(p, tensor, p.detach()) is not None for p in parameters)

    def example(self, *sources: Any) -> Example:
        """An example of which these values are the arguments."""
        given = self.setting.example
        if any(source.once is None for source in sources):
            raise Unconvertible(f"{self.name}: the size of what it gets is not known")
        once, twice = (tuple(getattr(source, run) for source in sources) for run in ("once", "twice"))
        return Example(once, twice, given is not None and given.is_given)

    def layer(self, layer: torch.nn.Module, *sources: Value, name: str = "") -> Value:
        """What the counterpart of a layer gives."""
        example = self.example(*sources)
        self.setting.memory.modes.setdefault(id(layer), self.mode)
        self.setting.memory.kept.append(layer)
        return self.apply(self.setting.convert(layer, name or self.name, example), *sources)


def _begins_with_table(module: Any) -> bool:
    """Whether indices are looked up before anything is computed."""
    first = module
    while isinstance(first, Container):
        first = first.modules[1]
    return type(first).__name__ in _REARRANGE
