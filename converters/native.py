"""From a tree of Torch modules to a tree of PyTorch layers.

For each module there is one of: the torch.nn layer that its `native()` names; a class lifted from its
`compute` (lift.py); for classes with a rule of their own, what the rule says; and where nothing helps, a
layer that stands for it and raises NotImplementedError.
"""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from converters import emitted, emitted_steps
from converters.compare import difference
from converters.lift import lifted
from converters.text import Definition, Unconvertible, definition_of, in_order, is_torch, literal
from t7compat.errors import T7Error
from t7compat.nested import type_name
from t7compat.nn.containers import Container
from t7compat.nn.module import Module
from t7compat.table import Table, to_tuples

Tensor = torch.Tensor
Make = functools.partial[Any]
_RULES = ("contrib", "graphs", "recurrent", "rules", "steps")  # the files with rules of `layer_of`
_DEEPEST = 60  # modules one inside the other: with more, Python could not read the written source
FAILURES = (RuntimeError, IndexError, KeyError, TypeError, ValueError, AttributeError)


@dataclass(eq=False)
class Layer:
    """A layer of the converted network.

    `make(*children)` makes it; printed, it is the source text.  `state` are its own tensors under the names
    that the layer has for them.  `origin` is the Torch module, and `path` tells where that is in the network.
    """

    is_class: ClassVar[bool] = False  # whether its children are made in a class that is written for it

    make: Make
    origin: Any
    path: str
    children: tuple[Layer, ...] = ()
    state: Mapping[str, Tensor] = field(default_factory=dict)

    def members(self) -> Iterable[tuple[str, Layer]]:
        """The children with the names that they have in the layer."""
        return ((str(i), child) for i, child in enumerate(self.children))

    def walk(self) -> Iterator[tuple[str, Layer]]:
        """This layer and all below it, with the prefix that their tensors have in a state dict."""
        return ((prefix, layer) for prefix, layer, _ in self._walk("", ()))

    def _walk(self, prefix: str, around: tuple[Layer, ...]) -> Iterator[tuple[str, Layer, tuple[Layer, ...]]]:
        """The same with the layers around each that are classes of their own."""
        yield prefix, self, around
        around = (*around, self) if self.is_class else around
        for name, child in self.members():
            yield from child._walk(f"{prefix}{name}.", around)

    def changed(self, change: Callable[[Layer], Layer]) -> Layer:
        """The layer with `change` made to its children."""
        return replace(self, children=tuple(map(change, self.children)))

    def tensors(self) -> dict[str, Tensor]:
        """The state dict: all tensors under their torch.nn names."""
        return {prefix + name: tensor for prefix, one in self.walk() for name, tensor in one.state.items()}

    def repeated(self) -> dict[str, str]:
        """The tensors that are the same memory as an earlier one: their names, each with that one's."""
        return {name: first for name, first, _ in self._repeated()}

    def shared(self) -> Iterator[tuple[str, str]]:
        """Those of them that are not the same by themselves.

        A layer that occurs several times is one object within a class, but each class makes its own.
        """
        return ((name, first) for name, first, is_same_object in self._repeated() if not is_same_object)

    def _repeated(self) -> Iterator[tuple[str, str, bool]]:
        first: dict[Any, tuple[Any, str]] = {}
        for prefix, layer, around in self._walk("", ()):
            for name, tensor in layer.state.items():
                start = tensor.untyped_storage()._cdata, tensor.storage_offset()
                owner = layer, around, name
                known = first.setdefault((*start, tensor.shape, tensor.stride()), (owner, prefix + name))
                if known[1] != prefix + name and tensor.numel():
                    yield prefix + name, known[1], known[0] == owner

    def build(self, made: dict[Layer, torch.nn.Module] | None = None) -> torch.nn.Module:
        """The PyTorch layer in evaluation mode; its weights share memory with those of the Torch module.

        `made` takes the layers below, too.
        """
        with torch.device("meta"):  # no memory, no random numbers: all tensors are given below
            layer = self._construct({} if made is None else made)
        layer.load_state_dict(self.tensors(), assign=True)
        for name, first in self.shared():
            (owner, attribute), (holder, known) = (_place(layer, path) for path in (name, first))
            setattr(owner, attribute, getattr(holder, known))
        return layer.eval()

    def _construct(self, made: dict[Layer, torch.nn.Module]) -> torch.nn.Module:
        if self not in made:
            made[self] = self.make(*[child._construct(made) for child in self.children])
        return made[self]


def _place(network: torch.nn.Module, name: str) -> tuple[torch.nn.Module, str]:
    """The layer that holds a tensor of the state dict, and its name there."""
    owner, _, attribute = name.rpartition(".")
    return network.get_submodule(owner), attribute


@dataclass(frozen=True)
class Problem:
    """Something that could not be converted: where it is, its Torch class, and why."""

    path: str
    typename: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path + ': ' if self.path else ''}{self.typename}: {self.reason}"


Rule = Callable[[Any, "Plan", str], Layer]


class Plan:
    """How a network is converted.

    `root` is its layer; `problems` tells what could not be converted, and `notes` what the user should know.
    The modules in `written` (by identity) are lifted even where torch.nn has an equal for batched input.
    """

    def __init__(self, module: Any, written: frozenset[int] = frozenset()) -> None:
        for name in _RULES:  # now, since they import this file
            importlib.import_module(f"converters.{name}")
        self.written = written
        self.problems: dict[str, Problem] = {}
        self.notes: list[str] = []
        self.natives: list[Layer] = []  # leaves for which torch.nn has an equal
        self._layers: dict[tuple[int, Rule], Layer] = {}
        self._open: list[int] = []
        self._helpers: dict[str, Definition] = {}  # functions and constants of written classes, by name
        self.root = going_on(self.layer(module, ""), {})

    def layer(self, module: Any, path: str, rule: Rule | None = None) -> Layer:
        """What a rule (by default `layer_of`) makes of a module, or what stands for it if that fails."""
        rule = rule or layer_of
        key = id(module), rule
        if key not in self._layers:
            if len(self._open) == _DEEPEST:
                raise T7Error(f"more than {_DEEPEST} modules, one inside the other")
            self._open.append(id(module))
            try:
                self._layers[key] = self._checked(rule(module, self, path))
            except Unconvertible as error:
                self._layers[key] = self._stand_in(module, path, error.message)
            except FAILURES as error:  # its fields are not those of its class
                self._layers[key] = self._stand_in(module, path, f"{type(error).__name__}: {error}")
            self._open.pop()
        return self._layers[key]

    def _checked(self, layer: Layer) -> Layer:
        """The layer, if it can be written: fields of modules in a file may be anything."""
        kind = layer.make.func
        literal((*layer.make.args, *layer.make.keywords.values()))
        for definition in in_order([definition_of(kind)])[:-1] if not is_torch(kind) else ():
            if self._helpers.setdefault(definition.name, definition) != definition:
                raise Unconvertible(f"another layer means another thing by {definition.name}")
        return layer

    def children(self, module: Any, path: str, rule: Rule | None = None) -> tuple[Layer, ...]:
        """The layers of the modules inside a module."""
        modules = getattr(module, "__dict__", {}).get("modules")
        alone = isinstance(module, Module) and not isinstance(module, Container)  # it computes by itself
        if alone or not isinstance(modules, Table):
            return ()
        return tuple(self.layer(child, below(path, i), rule) for i, child in enumerate(modules, 1))

    def has(self, module: Any) -> bool:
        """Whether a module was met before."""
        return any(known == id(module) for known, _ in self._layers)

    def _stand_in(self, module: Any, path: str, reason: str) -> Layer:
        name = type_name(module)
        self.problems[path] = Problem(path, name, reason)
        make = functools.partial(emitted.Missing, layer=f"{name} at {path}" if path else name)
        return Layer(make, module, path, self.children(module, path))


def below(path: str, i: int) -> str:
    """The path of child `i` of the module at `path`."""
    return f"{path}.modules[{i}]".lstrip(".")


@functools.singledispatch
def layer_of(module: Any, plan: Plan, path: str) -> Layer:
    """The layer that is equal to a module.  Rules for single classes are registered here."""
    if not isinstance(module, Module):
        raise Unconvertible("no class of this name is known")
    make = None if id(module) in plan.written else native_form(module)
    state = module.native_state()
    if make is None:
        if not _decides(module, "compute", "updateOutput"):
            raise Unconvertible("its output comes from a method updateOutput, not from a function compute")
        make, state = lifted(module)
        return Layer(make, module, path, plan.children(module, path), state)
    layer = Layer(make, module, path, plan.children(module, path), state)
    if not layer.children:
        plan.natives.append(layer)
    return layer


def native_form(module: Module) -> Make | None:
    """The torch.nn layer that is equal to a module for batched input.

    A class that overrides `compute` or `updateOutput`, but neither `native` nor `native_state`, inherits one
    that does not speak for it.
    """
    speaks = [_decides(module, method, "compute", "updateOutput") for method in ("native", "native_state")]
    return module.native() if any(speaks) else None


def _decides(module: Module, method: str, *others: str) -> bool:
    """Whether a method is defined where the others are, or in a subclass of that."""
    if any(name in vars(module) for name in others):
        return False
    family = type(module).__mro__
    owner, *rest = (next(i for i, c in enumerate(family) if name in vars(c)) for name in (method, *others))
    return owner <= min(rest)


def going_on(layer: Layer, known: dict[Layer, Layer]) -> Layer:
    """The layer as one that can go on from a state, if all recurrent layers in it can.

    `known` is for layers that occur several times.
    """
    if layer not in known:
        known[layer] = layer
        if (kind := _GOING_ON.get(layer.make.func)) is not None:
            children = tuple(going_on(child, known) for child in layer.children)
            recurrent = [
                child for child in children if any(_is_recurrent(inner) for _, inner in child.walk())
            ]
            goes_on = recurrent and all(hasattr(child.make.func, "run") for child in recurrent)
            make = functools.partial(kind) if goes_on else layer.make
            if goes_on or children != layer.children:
                known[layer] = replace(layer, make=make, children=children)
    return known[layer]


_GOING_ON: dict[Any, Any] = {
    torch.nn.Sequential: emitted_steps.Recurrence,
    emitted_steps.OneStep: emitted_steps.RecurrentStep,
}


def _is_recurrent(layer: Layer) -> bool:
    kind: Any = layer.make.func
    return hasattr(kind, "run") or (isinstance(kind, type) and issubclass(kind, torch.nn.RNNBase))


# ---- which layers to write out for a given input


def disagreeing(plan: Plan, input: Any) -> frozenset[int]:
    """The modules (by identity) whose torch.nn form gives something else for what they are given, or fails.

    torch.nn's layers are equal for batched input; a network that is run on single samples needs some written
    out.  `input` has tuples for tables; the modules are in evaluation mode.
    """
    found: set[int] = set()
    copies: dict[Layer, Layer] = {}

    def on_trial(layer: Layer) -> Layer:
        if layer not in copies:
            if layer in natives:
                trial = functools.partial(_Trial, layer, found)
                copies[layer] = Layer(trial, layer.origin, layer.path, state=layer.state)
            else:
                copies[layer] = layer.changed(on_trial)
        return copies[layer]

    natives = set(plan.natives)
    network = on_trial(plan.root).build()
    try:
        with torch.no_grad():
            network(input)
    except FAILURES:
        pass  # the verification will say what is wrong
    return frozenset(found)


class _Trial(torch.nn.Module):
    """Gives what the Torch module gives, and notes whether its torch.nn form does so, too."""

    def __init__(self, layer: Layer, found: set[int]) -> None:
        super().__init__()
        self.layer, self.found = layer, found
        for name, tensor in layer.state.items():  # layers around it may ask for the type of its parameters
            self.register_parameter(name, torch.nn.Parameter(torch.empty_like(tensor), requires_grad=False))

    def forward(self, input: Any) -> Any:
        module = self.layer.origin
        want = module.compute(input, *[getattr(module, name) for name in module.parameter_names])
        try:
            equal = difference(self.layer.build()(input), want).within
        except FAILURES:
            equal = False
        if not equal:
            self.found.add(id(module))
        return want


def to_native(module: Module, input: Any = None) -> torch.nn.Module:
    """A torch.nn.Module that is equal to a Torch module, in evaluation mode, with weights of its own.

    Torch's tables are tuples in PyTorch.  torch.nn's own layers take the place of Torch's where they are
    equal for batched input; given an example `input`, only where they are equal for that.  Raises
    Unconvertible, with a list of all problems, if a part has no form in PyTorch alone.
    """
    plan = Plan(module)
    if input is not None:
        module = module.clone()
        module.evaluate()
        plan = Plan(module, disagreeing(Plan(module), to_tuples(lambda x: x, input)))
    if plan.problems:
        raise Unconvertible("\n".join(map(str, plan.problems.values())))
    network = importlib.import_module("converters.folding").folded(plan.root)
    return copy.deepcopy(network.build())
