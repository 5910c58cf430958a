"""From a tree of Torch modules to a tree of PyTorch layers.

For each module there is one of: the torch.nn layer that its `native()` names; a class lifted from its
`compute` (lift.py); for classes with a rule of their own, what the rule says; and where nothing helps, a
layer that stands for it and raises NotImplementedError.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from converters import emitted, emitted_layers, emitted_states, emitted_steps
from converters.lift import lifted
from converters.text import Definition, Unconvertible, definition_of, in_order, is_torch, literal
from t7compat.dpnn.misc import ReverseTable
from t7compat.errors import T7Error
from t7compat.nested import type_name
from t7compat.nn import containers
from t7compat.nn.containers import Container
from t7compat.nn.devices import DataParallelTable
from t7compat.nn.module import Module
from t7compat.nn.wrappers import Bottle
from t7compat.rnn.bidirectional import ReverseSequence
from t7compat.rnn.recurrent import AbstractRecurrent
from t7compat.rnn.seq import SeqReverseSequence
from t7compat.table import Table

Tensor = torch.Tensor
Make = functools.partial[Any]
_RULES = ("contrib", "graphs", "recurrent", "rules", "steps")  # the files with rules of `layer_of`
_DEEPEST = 60  # modules one inside the other: with more, Python could not read the written source
NETWORKS = emitted_states.RecurrentSequential, emitted_states.RecurrentNetwork  # with recurrent layers inside
# Layers one after the other
CHAINS = torch.nn.Sequential, emitted_states.RecurrentSequential, emitted_states.RecurrentTree
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

    def calls(self) -> Iterable[Layer]:
        """The children, each as often as a forward calls it."""
        return self.children

    def with_state(self) -> Layer:
        """The layer as a network that goes on from a state."""
        if self.make.func is not torch.nn.Sequential:
            return Layer(functools.partial(torch.nn.Sequential), None, self.path, (self,)).with_state()
        is_flat = all(is_stateful(child) or not is_recurrent(child) for child in self.children)
        kind = emitted_states.RecurrentSequential if is_flat else emitted_states.RecurrentTree
        return replace(self, make=functools.partial(kind))

    def without_state(self) -> Layer:
        """A network that goes on from a state as one that gives its output alone."""
        return replace(self, make=functools.partial(torch.nn.Sequential))

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
                owner = layer, around, name
                known = first.setdefault(_memory(tensor), (owner, prefix + name))
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


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """What two tensors have in common if they are the same memory, seen in the same way."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride()


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
    The modules in `written` (by identity) are lifted even where torch.nn has an equal for batched input, as a
    trial has shown.  None means that there is no input to try, so that all forms of it must be taken.
    """

    def __init__(self, module: Any, written: frozenset[int] | None = None) -> None:
        for name in _RULES:  # now, since they import this file
            importlib.import_module(f"converters.{name}")
        self.written, self.is_tried = written or frozenset[int](), written is not None
        self.problems: dict[str, Problem] = {}
        self.notes: list[str] = []
        self.natives: list[Layer] = []  # leaves for which torch.nn has an equal
        self._layers: dict[tuple[int, Rule], Layer] = {}
        self.around: list[Any] = []  # the modules whose layers are being made, outermost first
        self._helpers: dict[str, Definition] = {}  # functions and constants of written classes, by name
        self._arranged: dict[Any, tuple[Tensor, tuple[Tensor, ...]]] = {}
        self._starts: list[tuple[str, str]] = []
        self.root = going_on(self.layer(module, ""))
        further = "; forward(input, state) goes on" if is_stateful(self.root) else ""
        for place, what in self._starts:
            self.note(place, what + further)

    def layer(self, module: Any, path: str, rule: Rule | None = None) -> Layer:
        """What a rule (by default `layer_of`) makes of a module, or what stands for it if that fails."""
        rule = rule or layer_of
        key = id(module), rule
        if key not in self._layers:
            if len(self.around) == _DEEPEST:
                raise T7Error(f"more than {_DEEPEST} modules, one inside the other")
            self.around.append(module)
            try:
                self._layers[key] = self._checked(rule(module, self, path))
            except Unconvertible as error:
                self._layers[key] = self._stand_in(module, path, error.message)
            except FAILURES as error:  # its fields are not those of its class
                self._layers[key] = self._stand_in(module, path, f"{type(error).__name__}: {error}")
            self.around.pop()
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

    def arranged(self, arrange: Callable[..., Tensor], *sources: Tensor) -> Tensor:
        """`arrange(*sources)`, a new tensor, but the same one for the same memory.

        So what layers share in Torch, they share in the converted network, too.
        """
        key = arrange, *map(_memory, sources)
        if key not in self._arranged:
            self._arranged[key] = arrange(*sources), sources  # kept, lest others get their memory
        return self._arranged[key][0]

    def note(self, path: str, what: str) -> None:
        """Note what the user should know of a layer."""
        self.notes.append(f"{path or 'the network'}: {what}")

    def note_start(self, path: str, what: str) -> None:
        """Note that a layer starts anew where the Torch module goes on."""
        self._starts.append((path, what))

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


# ---- networks that go on


def going_on(network: Layer) -> Layer:
    """The network as one that goes on from a state, if it can; else its recurrent layers give no state."""
    if is_stateful(network):
        return network
    return network.with_state() if _goes_on(network) else outputs_alone(network)


def is_stateful(layer: Layer) -> bool:
    """Whether a layer takes a state and gives the next: it is recurrent itself, or a network that goes on."""
    kind: Any = layer.make.func
    return issubclass(kind, emitted_states.Recurrence | torch.nn.RNNBase)


def is_recurrent(layer: Layer) -> bool:
    """Whether a layer is recurrent, or has recurrent ones inside."""
    return any(is_stateful(inner) for _, inner in layer.walk())


def outputs_alone(network: Layer) -> Layer:
    """The network in which nothing takes or gives a state: all starts from zeros, as Torch's modules do."""
    known: dict[Layer, Layer] = {}

    def alone(layer: Layer) -> Layer:
        if layer not in known:
            known[layer] = layer
            kind: Any = layer.make.func
            if issubclass(kind, NETWORKS):
                known[layer] = layer.without_state().changed(alone)
            elif is_stateful(layer):
                make = functools.partial(emitted_states.OutputAlone)
                known[layer] = Layer(make, layer.origin, layer.path, (layer,))
            elif kind is not emitted_states.OutputAlone and is_recurrent(layer):
                known[layer] = layer.changed(alone)
        return known[layer]

    return alone(network)


def _goes_on(network: Layer) -> bool:
    """Whether there are recurrent layers in a network, and each is run once in a forward, on all samples.

    Where a sequence is read from its end there is no going on.
    """
    found: list[Layer] = []

    def reached(layer: Layer) -> bool:
        if is_stateful(layer):
            found.append(layer)
        elif is_recurrent(layer):
            return _hands_on(layer) and all(map(reached, layer.calls()))
        return True

    if not (reached(network) and found):
        return False
    memories = [one for layer in found for one in _memories(layer.origin)]
    origin = next(layer.origin for _, layer in network.walk() if layer.origin is not None)
    turns_round = any(isinstance(one, _BACKWARDS) for one in _inside(origin))
    return len(memories) == len(set(memories)) and not turns_round


def _memories(module: Module) -> set[int]:
    """The modules that keep the state of a recurrent one, by identity."""
    cells = {id(one) for one in _inside(module) if isinstance(one, AbstractRecurrent)}
    return cells or {id(module)}


def _inside(module: Any) -> Iterator[Any]:
    """A module and all below it."""
    yield module
    for child in module.children() if isinstance(module, Module) else ():
        yield from _inside(child)


def _hands_on(layer: Layer) -> bool:
    """Whether a layer calls each of its children once, with all of the samples that it got."""
    return layer.is_class or layer.make.func in _HANDING_ON or _computes(layer) in _CALLING_ONCE


def _computes(layer: Layer) -> Any:
    return getattr(type(layer.origin), "compute", None)


_BACKWARDS = ReverseTable, ReverseSequence, SeqReverseSequence
_HANDING_ON = (
    torch.nn.Sequential, emitted.InType, emitted_layers.Residual, emitted_steps.MaskZero,
    emitted_steps.OneStep, emitted_steps.OverSteps,
)  # fmt: skip
_CALLING_ONCE = [
    kind.compute
    for kind in (
        Bottle, containers.Concat, containers.ConcatTable, containers.Decorator, containers.DepthConcat,
        containers.Parallel, containers.ParallelTable, DataParallelTable,
    )
]  # fmt: skip
