"""Graphs of nngraph as classes with named layers and a forward with named values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from converters import emitted, emitted_states
from converters.expressions import as_expression
from converters.forward import Forward, Node
from converters.naming import Names, kind, word
from converters.native import CHAINS, Layer, Plan, going_on, is_stateful, layer_of
from converters.text import IMPORTS, Definition, Unconvertible, definition_of, free_names, is_torch
from t7compat.nested import type_name
from t7compat.nn.shapes import zero_based
from t7compat.nngraph import gModule

# Names that a layer in a module cannot have, nor in what torch.export makes of one
_ATTRIBUTES = {*dir(torch.nn.Module()), *dir(torch.fx.GraphModule), "graph", "tie", "compute"}


def as_network(layer: Layer) -> Layer:
    """The layer as one that has a class of its own in a written file: a graph, a Sequential, or recurrent."""
    from converters.folding import folded  # which makes graphs

    layer = folded(layer)
    while layer.make.func in CHAINS and len(layer.children) == 1 and isinstance(layer.children[0], Graph):
        layer = layer.children[0]
    if layer.make.func not in CHAINS and not isinstance(layer, Graph) and not is_stateful(layer):
        layer = Layer(functools.partial(torch.nn.Sequential), None, "", (layer,))
    return going_on(layer)


@dataclass(eq=False, kw_only=True)
class Graph(Layer):
    """A layer that is a class of its own: `forward` is the text of that function (`compute`, if it goes on).

    The names of its children are those in the class, whose own name is `title`.  `results` are the names of
    the values that it gives.
    """

    is_class: ClassVar[bool] = True

    nodes: tuple[Node, ...]
    names: tuple[str, ...]
    forward: str
    title: str = ""
    results: tuple[str, ...] = ()
    goes_on: bool = False  # whether it takes a state and gives the next

    def members(self) -> Iterable[tuple[str, Layer]]:
        return zip(self.names, self.children, strict=True)

    def changed(self, change: Callable[[Layer], Layer]) -> Layer:
        nodes = [node._replace(layer=node.layer and change(node.layer)) for node in self.nodes]
        return graph(nodes, self.origin, self.path, self.title, goes_on=self.goes_on)

    def calls(self) -> Iterable[Layer]:
        return [node.layer for node in self.nodes if node.layer is not None and node.calls]

    def with_state(self) -> Layer:
        return graph(self.nodes, self.origin, self.path, self.title, goes_on=True)

    def without_state(self) -> Layer:
        return graph(self.nodes, self.origin, self.path, self.title)

    def _construct(self, made: dict[Layer, torch.nn.Module]) -> torch.nn.Module:
        for node in self.nodes:
            if node.layer is not None and not node.calls:  # stands in the text; a replay runs it alone
                made[node.layer] = node.layer.make()
        return super()._construct(made)


def graph(
    nodes: Iterable[Node], origin: Any, path: str, title: str = "graph", *, goes_on: bool = False
) -> Graph:
    """The layer for a graph of nodes; the first one is its input, and the last one its output."""
    nodes = tuple(nodes)
    names = _names(nodes)
    forward = Forward(nodes, names)
    text, members = forward.text("compute" if goes_on else "forward"), tuple(names.values())
    imports = frozenset(name for name in free_names(text) if name in IMPORTS)
    make = functools.partial(_class_of(text, members, imports, goes_on))
    children, results = tuple(names), forward.results
    return Graph(
        make, origin, path, children,
        nodes=nodes, names=members, forward=text, title=title, results=results, goes_on=goes_on,
    )  # fmt: skip


def _names(nodes: Iterable[Node]) -> Mapping[Layer, str]:
    """The names of the layers that a graph calls: what the user called their nodes, or what they are."""
    names = Names(_ATTRIBUTES)
    wanted: dict[Layer, str] = {}
    for node in nodes:
        if node.layer is not None and node.calls and node.layer not in names:
            if label := word(node.label):
                names.add(node.layer, label + "_" * (label in _ATTRIBUTES))
                wanted.pop(node.layer, None)
            else:
                wanted[node.layer] = _kind_of(node.layer)
    order = [node.layer for node in nodes if node.layer in names or node.layer in wanted]
    names.number(wanted)
    return {layer: names[layer] for layer in order if layer is not None}


def _kind_of(layer: Layer) -> str:
    layer = _recurrent(layer)
    cls: Any = layer.make.func
    if isinstance(layer, Graph):
        return layer.title
    if cls is torch.nn.Sequential and layer.children:
        children = list(map(_recurrent, layer.children))
        first = next((child for child in children if child.state), children[0])
        return f"{_kind_of(first).removesuffix('_block')}_block"
    if issubclass(cls, torch.nn.RNNBase):
        cls = next(base for base in cls.__mro__ if is_torch(base))
    return kind(type_name(layer.origin).rpartition(".")[2] if cls is emitted.Missing else cls.__name__)


def _recurrent(layer: Layer) -> Layer:
    """The recurrent layer of which this one gives the output alone; else itself."""
    return layer.children[0] if layer.make.func is emitted_states.OutputAlone else layer


def _class_of(text: str, names: tuple[str, ...], imports: frozenset[str], goes_on: bool) -> Any:
    """The class with this function, whose constructor is given the layers of these names."""
    namespace: dict[str, Any] = {name: module for name, (module, _) in IMPORTS.items()}
    exec(text, namespace)

    def __init__(self: Any, *children: torch.nn.Module) -> None:
        torch.nn.Module.__init__(self)
        for name, child in zip(names, children, strict=True):
            setattr(self, name, child)

    method = "compute" if goes_on else "forward"
    content = {"__init__": __init__, method: namespace[method]}
    base: Any = emitted_states.RecurrentNetwork if goes_on else torch.nn.Module
    uses = (definition_of(base),) if goes_on else ()
    return type("Graph", (base,), content | {"definition": Definition("Graph", text, imports, uses)})


# ---- from the graph of a gModule


@layer_of.register
def _graph(module: gModule, plan: Plan, path: str) -> Layer:
    """Follows the values as nngraph does: `mapindex` of a node has the positions of what comes from where."""
    received: dict[int, dict[int, int]] = {id(module.innode.data): {1: 0}}
    layers = iter(plan.children(module, path))
    nodes = [Node()]
    for place in module.forwardnodes:
        data = place.data
        if place.data is module.outnode.data:
            continue
        nodes.append(_node(data, received, layers, plan))
        for child in place.children:
            received.setdefault(id(child.data), {})[child.data.mapindex[data]] = len(nodes) - 1
    nodes.append(Node(_in_order(received[id(module.outnode.data)])))
    name = word(module.name) if isinstance(module.name, str) else ""
    return graph(nodes, module, path, name or "graph")


def _node(data: Any, received: Mapping[int, Mapping[int, int]], layers: Any, plan: Plan) -> Node:
    sources = _in_order(received.get(id(data), {}))
    label = None if data.annotations is None else data.annotations.name
    label = label if isinstance(label, str) else ""
    if data.selectindex is not None:
        if len(sources) != 1:
            raise Unconvertible("one of its nodes takes an entry of several inputs")
        return Node(sources, None, zero_based(data.selectindex), label)
    if data.module is None:
        return Node(sources, None, None, label)
    layer = next(layers)
    found = None if id(layer.origin) in plan.written else as_expression(layer, len(sources))
    if found is not None:
        if found.make.args != ("x",):
            plan.natives.append(found)
        layer = found
    return Node(sources, layer, None, label)


def _in_order(received: Mapping[int, int]) -> tuple[int, ...]:
    if not all(isinstance(position, int) for position in received):
        raise Unconvertible("its nodes do not say in which order they take their inputs")
    return tuple(received[position] for position in sorted(received))
