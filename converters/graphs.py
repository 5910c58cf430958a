"""Graphs of nngraph as classes with named layers and a forward with named values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from converters import emitted
from converters.expressions import as_expression
from converters.forward import Forward, Node
from converters.naming import Names, kind, word
from converters.native import Layer, Plan, layer_of
from converters.text import IMPORTS, Definition, free_names
from t7compat.nested import type_name
from t7compat.nn.shapes import zero_based
from t7compat.nngraph import gModule
from t7compat.nngraph.steps import steps_of

_ATTRIBUTES = set(dir(torch.nn.Module())) | {"tie"}  # names that a layer in a module cannot have


def as_network(layer: Layer) -> Layer:
    """The layer as one that has a class of its own in a written file: a graph, or a Sequential."""
    while layer.make.func is torch.nn.Sequential and len(layer.children) == 1:
        if not isinstance(layer.children[0], Graph):
            return layer
        layer = layer.children[0]
    if isinstance(layer, Graph) or layer.make.func is torch.nn.Sequential:
        return layer
    return Layer(functools.partial(torch.nn.Sequential), None, "", (layer,))


@dataclass(eq=False, kw_only=True)
class Graph(Layer):
    """A layer that is a class of its own: `forward` is the text of that function.

    The names of its children are those in the class.
    """

    is_class: ClassVar[bool] = True

    nodes: tuple[Node, ...]
    names: tuple[str, ...]
    forward: str

    def members(self) -> Iterable[tuple[str, Layer]]:
        return zip(self.names, self.children, strict=True)

    def changed(self, change: Callable[[Layer], Layer]) -> Layer:
        nodes = [node._replace(layer=node.layer and change(node.layer)) for node in self.nodes]
        return graph(nodes, self.origin, self.path)

    def _construct(self, made: dict[Layer, torch.nn.Module]) -> torch.nn.Module:
        for node in self.nodes:
            if node.layer is not None and not node.calls:  # stands in the text; a replay runs it alone
                made[node.layer] = node.layer.make()
        return super()._construct(made)


def graph(nodes: Iterable[Node], origin: Any, path: str) -> Graph:
    """The layer for a graph of nodes; the first one is its input, and the last one its output."""
    nodes = tuple(nodes)
    names = _names(nodes)
    text = Forward(nodes, names).text()
    imports = frozenset(name for name in free_names(text) if name in IMPORTS)
    make = functools.partial(_class_of(text, tuple(names.values()), imports))
    return Graph(make, origin, path, tuple(names), nodes=nodes, names=tuple(names.values()), forward=text)


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
    cls = layer.make.func
    if isinstance(layer, Graph):
        return "graph"
    return kind(type_name(layer.origin).rpartition(".")[2] if cls is emitted.Missing else cls.__name__)


def _class_of(text: str, names: tuple[str, ...], imports: frozenset[str]) -> Any:
    """The class with this function `forward`, whose constructor is given the layers of these names."""
    namespace: dict[str, Any] = {name: module for name, (module, _) in IMPORTS.items()}
    exec(text, namespace)

    def __init__(self: Any, *children: torch.nn.Module) -> None:
        torch.nn.Module.__init__(self)
        for name, child in zip(names, children, strict=True):
            setattr(self, name, child)

    content = {"__init__": __init__, "forward": namespace["forward"]}
    return type("Graph", (torch.nn.Module,), content | {"definition": Definition("Graph", text, imports, ())})


# ---- from the graph of a gModule


@layer_of.register
def _graph(module: gModule, plan: Plan, path: str) -> Layer:
    layers = iter(plan.children(module, path))
    nodes = [Node()]
    for step in steps_of(module.forwardnodes):
        annotations = step.node.data.annotations
        label = "" if annotations is None else annotations.name
        sources = tuple(source.position + 1 for source in step.sources)
        node = Node(sources, label=label if isinstance(label, str) else "")
        if step.module is not None:
            node = node._replace(layer=_layer_at(node, next(layers), plan))
        elif not step.sources:
            node = node._replace(sources=(0,))
        elif step.select is not None:
            node = node._replace(entry=zero_based(step.select))
        nodes.append(node)
    return graph(nodes, module, path)


def _layer_at(node: Node, layer: Layer, plan: Plan) -> Layer:
    """What stands for a layer at a node: the layer, or an expression that is equal to it."""
    found = None if id(layer.origin) in plan.written else as_expression(layer, len(node.sources))
    if found is not None and found.make.args != ("x",):
        plan.natives.append(found)
    return layer if found is None else found
