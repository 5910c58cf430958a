"""What the rules of `from_native` know about a layer: where it stands, what it gets, who has its weights."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from converters.child import gives_state
from converters.emitted_states import Recurrence
from converters.text import Unconvertible
from converters.weights import Place, place_of
from t7compat import mersenne, nn
from t7compat.errors import InputError
from t7compat.nn.gradients import gradient_name
from t7compat.nn.module import Module

Tensor = torch.Tensor


class Recurrent(tuple[Any, ...]):
    """What a recurrent layer gives: the output and the last state, of which Torch7 gives the output."""

    layer: torch.nn.Module


def last_recurrent(layer: Any) -> torch.nn.Module | None:
    """The recurrent layer whose output, with the last state, is that of a layer: itself, or its last one."""
    while getattr(type(layer), "forward", None) is torch.nn.Sequential.forward and len(layer):
        layer = layer[-1]
    return layer if gives_state(type(layer)) else None


def cloned(value: Any) -> Any:
    """A value with copies of the tensors in it."""
    if isinstance(value, tuple | list):
        made = map(cloned, value)
        return list(made) if isinstance(value, list) else tuple(made)
    return value.clone() if isinstance(value, Tensor) else value


def part_of(whole: Tensor, source: Tensor, values: Tensor) -> Tensor | None:
    """Of values that are laid out as a tensor is, those in the place of a source; None if it is elsewhere."""
    if source.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
        return None
    start, length = source.storage_offset() - whole.storage_offset(), extent(source)
    if start < 0 or start + length > extent(whole):
        return None
    return values.as_strided(source.shape, source.stride(), values.storage_offset() + start)


def extent(tensor: Tensor) -> int:
    """How many elements of memory there are from the first one of a tensor to its last."""
    return 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))


def name_of(layer: torch.nn.Module) -> str:
    """The name of the class of torch.nn that a layer is of: BatchNorm2d for one that is derived from it."""
    return next(cls.__name__ for cls in type(layer).__mro__ if cls.__module__.startswith("torch.nn."))


def axes_of(layer: torch.nn.Module) -> int:
    """Over how many axes a layer of torch.nn works: 2 for a Conv2d; 0 if its name does not say that."""
    name = name_of(layer)
    return int(name[-2]) if name[-1] == "d" and name[-2].isdigit() else 0


class Example(NamedTuple):
    """The arguments of a layer in two runs of the network; in the second one the batch is twice as large.

    `is_given` says that the sizes are those of the user's input, not a guess.
    """

    once: tuple[Any, ...]
    twice: tuple[Any, ...]
    is_given: bool

    def through(self, layer: Callable[..., Any]) -> Example:
        """The arguments of the layer that follows."""

        def output(arguments: tuple[Any, ...]) -> Any:
            found = layer(*cloned(arguments))  # as a layer may work in place
            recurrent = last_recurrent(layer)
            if recurrent is not None:
                found = Recurrent(found)
                found.layer = recurrent
            return found

        return Example((output(self.once),), (output(self.twice),), self.is_given)


class Taken(NamedTuple):
    """A tensor of PyTorch that became a parameter, or a part of one.

    `read` finds its gradient in that of the module, `slope`.
    """

    source: Tensor
    slope: Tensor
    read: Callable[[Tensor], Tensor]


@dataclass
class Memory:
    """What the rules for one network have in common."""

    modes: dict[int, bool]  # by the identity of a layer: whether it was in training mode
    known: dict[Place, tuple[Tensor, Tensor | None]] = field(default_factory=dict)  # with the gradient
    kept: list[Any] = field(default_factory=list)  # alive, so that a place or an identity means one thing
    marked: set[int] = field(default_factory=set)
    parts: dict[Any, Module] = field(default_factory=dict)  # of layers that are used again, by their names
    taken: list[Taken] = field(default_factory=list)
    has_parts: bool = False  # whether an axis is cut into parts of the lengths that they have in the example
    of_any_length: bool = False  # whether such an axis may have another length


@dataclass(frozen=True)
class Setting:
    """Where a layer stands in the network: `path`, and the `example` of what it gets, if there is one."""

    path: str
    example: Example | None
    memory: Memory

    def convert(self, layer: torch.nn.Module, name: str = "", example: Example | None = None) -> Any:
        """The Torch module for a layer inside of this one, or for one that says the same."""
        path = ".".join(filter(None, (self.path, name)))
        inner = Setting(path, example or (None if name else self.example), self.memory)
        kind = type(layer)
        try:
            module = rule_of(kind)(layer, inner)
        except (Unconvertible, InputError) as error:
            if isinstance(error, Unconvertible) and error.place:
                raise
            place = f"{path + ': ' if path else ''}{kind.__module__}.{kind.__qualname__}"
            raise Unconvertible(str(error)).within(place) from None
        if isinstance(module, Module):
            self.mark(module, self.memory.modes.get(id(layer), self.memory.modes.get(0, True)))
        return module

    def mark(self, module: Module, mode: bool) -> None:
        """Put a new module into training or evaluation mode, except for parts that are in theirs already."""
        for part in module.listModules():
            if id(part) not in self.memory.marked:
                self.memory.marked.add(id(part))
                self.memory.kept.append(part)
                part.train = mode

    def at(self, example: Example) -> Setting:
        """The setting of an operation that gets something else."""
        return replace(self, example=example)

    @property
    def known_rank(self) -> int | None:
        """The number of dimensions of the first input, the batch among them; None without an example."""
        first = self.example and self.example.once and self.example.once[0]
        return first.dim() if isinstance(first, Tensor) else None

    @property
    def rank(self) -> int:
        """The same; Unconvertible without an example."""
        if self.known_rank is None:
            raise Unconvertible("the number of dimensions of its input must be known: give an example input")
        return self.known_rank

    @property
    def size(self) -> torch.Size:
        """The size of the first input; Unconvertible unless the user gave an example."""
        if self.known_rank is None or self.example is None or not self.example.is_given:
            raise Unconvertible("the size of its input must be known: give an example input")
        size: torch.Size = self.example.once[0].shape
        return size

    def fill(self, module: Any, **sources: Tensor | None) -> Any:
        """Copy tensors of PyTorch to the fields of a Torch module, and return that.

        A tensor that was copied before is shared instead, with its gradient.  None leaves a field alone.
        """
        for name, source in sources.items():
            if source is None:
                continue
            fields, gradient = vars(module), gradient_name(name)
            place = place_of(source.squeeze())
            if place in self.memory.known:
                tensor, slope = self.memory.known[place]
                fields[name] = tensor.view(fields[name].shape)
                if slope is not None and gradient in fields:
                    fields[gradient] = slope.view(fields[name].shape)
            else:
                fields[name].copy_(source.detach().reshape(fields[name].shape))
                self.memory.known[place] = fields[name], fields.get(gradient)
                self.memory.kept.append(source)
                if gradient in fields:
                    self.take(source, fields[gradient], lambda slope: slope)
        return module

    def take(self, source: Tensor, slope: Tensor, read: Callable[[Tensor], Tensor]) -> None:
        """Note that a tensor is in a parameter with this gradient, in which `read` finds its own."""
        self.memory.taken.append(Taken(source, slope, read))


Rule = Callable[[Any, Setting], Any]


@functools.singledispatch
def counterpart(layer: Any, setting: Setting) -> Any:
    """The Torch module that is equal to a layer of PyTorch; `counterpart.register` is for rules of your own.

        @converters.counterpart.register
        def _(layer: Swish, setting: converters.Setting) -> nn.Module:
            return nn.Sequential().add(...)

    A rule holds for the subclasses, too, unless these have a `forward` of their own.
    """
    raise Unconvertible(f"expected a torch.nn.Module, got {type(layer).__name__}")


def over_axes(*names: str) -> Callable[[Callable[[Any, int, Setting], Any]], Any]:
    """Decorator: the rule for layers over one, two or three axes ("Conv": Conv1d, ...); it gets how many."""

    def decorate(rule: Callable[[Any, int, Setting], Any]) -> Any:
        for name, axes in itertools.product(names, (1, 2, 3)):
            if kind := getattr(torch.nn, f"{name}{axes}d", None):
                counterpart.register(kind, lambda layer, setting, axes=axes: rule(layer, axes, setting))
        return rule

    return decorate


def rule_of(kind: type) -> Rule:
    """The rule for a class: that of the class whose forward it has, else that for any module.

    Recurrent layers that t7convert wrote are those of torch.nn that they are derived from, or a Recurrence.
    """
    owner, *others = (cls for cls in kind.__mro__ if cls in counterpart.registry)
    same = getattr(owner, "forward", None) is getattr(kind, "forward", None)
    if gives_state(kind) and not same:
        owner = next((cls for cls in (owner, *others) if issubclass(cls, torch.nn.RNNBase)), Recurrence)
        same = True
    return counterpart.dispatch(owner if same else torch.nn.Module if owner is not object else object)


def has_rule(layer: torch.nn.Module) -> bool:
    """Whether there is a rule for a layer, so that its forward need not be looked at."""
    return rule_of(type(layer)) is not counterpart.dispatch(torch.nn.Module)


# ---- modules made of others


def chain(*modules: Any) -> Any:
    """Modules one after the other: one alone is itself."""
    if len(modules) == 1:
        return modules[0]
    network = nn.Sequential()
    for module in modules:
        network.add(module)
    return network


def joined(join: Any, *branches: Any) -> Any:
    """What a module makes of the table of what others give for the same input."""
    table = nn.ConcatTable()
    for branch in branches:
        table.add(branch)
    return nn.Sequential().add(table).add(join)


@contextmanager
def evaluating(network: torch.nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for a while."""
    modes = [(layer, layer.training) for layer in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Leave the generators of Torch and PyTorch as they were: constructors draw, and so may networks."""
    state = mersenne.getRNGState()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        mersenne.setRNGState(state)
