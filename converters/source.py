"""From a tree of layers to the text of a Python file.

Nothing that comes from the Torch file reaches the text unchecked: strings are literals, names are made of
words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from converters.blocks import Blocks, Form, varying
from converters.calls import Argument, Call, arguments_of
from converters.graphs import Graph
from converters.naming import Names, camel, documented
from converters.native import Layer
from converters.text import IMPORTS, definition_of, in_order, indented, is_torch


def source(name: str, about: list[str], network: Layer) -> str:
    """The text of NAME.py: a docstring, the class of a network (a Sequential or a graph), and `load`."""
    layers = list(distinct(network))
    graphs = [layer for layer in layers if isinstance(layer, Graph)]
    kinds = dict.fromkeys(layer.make.func for layer in layers if not isinstance(layer, Graph))
    written = [kind for kind in kinds if not is_torch(kind)]
    of_graphs = [definition_of(layer.make.func) for layer in graphs]
    bases = [base for one in of_graphs for base in one.uses]
    definitions = in_order([*map(definition_of, written), *bases])
    own = [*definitions, *of_graphs]
    imports = {"nn"}.union(*(definition.imports for definition in own))
    lines = [text for alias, (_, text) in IMPORTS.items() if alias in imports]
    standard = [*(text for text in lines if "torch" not in text), "from pathlib import Path"]
    head = ['"""' + documented(about[0]), *map(documented, about[1:]), '"""', ""]
    head += [*standard, "", *(text for text in lines if "torch" in text)]

    names = Names({*IMPORTS, "Path", "load"})
    blocks = ["\n".join(head)]
    for definition in definitions:
        free = names.add(definition, definition.name)
        blocks.append(definition.text.replace(f"class {definition.name}(", f"class {free}(", 1))
    classes = {kind: names[definition_of(kind)] for kind in written}
    arguments: dict[Any, tuple[Argument, ...]] = {}
    written_classes: dict[str, _Class] = {}
    for some in _by_depth(layer for layer in graphs if layer is not network):
        for alike in _alike([_Class(layer, classes, arguments) for layer in some]):
            title = names.add(alike[0].layer, camel(alike[0].layer.title))
            form = Form([tuple(one.calls) for one in alike])
            for one in alike:
                classes[one.layer.make.func] = title
                arguments[one.layer.make.func] = form.arguments(tuple(one.calls))
            alike[0].calls, alike[0].parameters = list(form.results), form.parameters
            written_classes[title] = alike[0]
    class_name = names.add(network, camel(name))
    ties = list(network.shared())
    written_classes[class_name] = _Class(network, classes, arguments, ties)
    repeated = Blocks([call for one in written_classes.values() for call in one.calls], names)
    rest = iter(repeated.calls)
    for one in written_classes.values():
        one.calls = [next(rest) for _ in one.calls]
    blocks += repeated.text()
    blocks += (f"class {title}{one.body()}" for title, one in written_classes.items())
    blocks.append(_load(class_name, bool(ties), bool(network.repeated())))
    return "\n\n\n".join(blocks) + "\n"


class _Class:
    """The text of the class of a network, or of a graph in it.

    `classes` has the names of the other classes that are not torch.nn's, by class or graph, and `arguments`
    those of graphs; `ties` are the tensors that are the same as others.  `calls` make the layers, the last
    one the network if it is no graph; `parameters` are the names of what they take from outside.
    """

    def __init__(
        self,
        layer: Layer,
        classes: dict[Any, str],
        arguments: dict[Any, tuple[Argument, ...]],
        ties: list[tuple[str, str]] | None = None,
    ) -> None:
        self.layer: Any = layer
        self.classes, self.arguments, self.ties = classes, arguments, ties
        self.parameters: list[str] = []
        inside = list(distinct(layer, self._children))[:-1]
        counts = Counter(child for one in (*inside, layer) for child in self._children(one))
        several = [one for one in inside if counts[one] > 1]
        self.variables = {one: f"shared{i}" for i, one in enumerate(several, 1)}
        if isinstance(layer, Graph):
            self.variables |= {child: f"self.{name}" for name, child in layer.members()}
        made = [one for one in inside if one in self.variables]
        self.assigned = [self.variables[one] for one in made]
        self.calls = [self._call(one) for one in made + [layer] * (not isinstance(layer, Graph))]

    def body(self) -> str:
        """What follows the name of the class."""
        lines = [
            f"{name} = {call.text(8 + len(name) + 3)}"
            for name, call in zip(self.assigned, self.calls, strict=False)
        ]
        is_graph = isinstance(self.layer, Graph)
        if is_graph:
            lines = [*["super().__init__()"] * bool(lines), *lines]
        else:
            lines.append(self.calls[-1].text(8, "super().__init__"))
        lines += ["self.tie()"] * bool(self.ties)
        header = f"def __init__({', '.join(['self', *self.parameters])}):"
        methods = ["\n".join([header, *map(indented, lines)])] if lines else []
        if self.ties:
            same = [f"{_attribute(one)} = {_attribute(first)}" for one, first in self.ties]
            about = '"""Let layers share what they share in Torch; loading gives each its own."""'
            methods.append("\n".join(["def tie(self):", *map(indented, [about, *same])]))
        if isinstance(self.layer, Graph):
            methods.append(self.layer.forward)
        bases = [base.name for base in definition_of(self.layer.make.func).uses] if is_graph else []
        base = ", ".join(bases or ["nn.Module" if is_graph else self.calls[-1].function])
        return f"({base}):\n" + "\n\n".join(map(indented, methods))

    def _children(self, layer: Layer) -> tuple[Layer, ...]:
        """The layers inside a layer that are made in this class."""
        return () if isinstance(layer, Graph) and layer is not self.layer else layer.children

    def _call(self, layer: Layer) -> Call:
        """The call that makes a layer."""
        kind = layer.make.func
        function = f"nn.{kind.__name__}" if is_torch(kind) else self.classes[kind]
        children = [
            Call(self.variables[child], is_name=True) if child in self.variables else self._call(child)
            for child in self._children(layer)
        ]
        arguments = self.arguments.get(kind) or tuple(arguments_of(layer.make))
        return Call(function, tuple(children), arguments)


def _by_depth(graphs: Iterable[Graph]) -> Iterator[list[Graph]]:
    """The graphs in groups, those that are in others first."""
    groups: dict[int, list[Graph]] = defaultdict(list)
    for one in graphs:
        depth = sum(1 for layer in distinct(one) if isinstance(layer, Graph))
        groups[depth].append(one)
    return (groups[depth] for depth in sorted(groups))


def _alike(some: Iterable[_Class]) -> Iterator[list[_Class]]:
    """The classes in groups of those that may be one, with parameters."""
    groups: dict[Any, list[_Class]] = defaultdict(list)
    for one in some:
        forms = tuple(call.form for call in one.calls)
        groups[one.layer.title, one.layer.forward, tuple(one.assigned), forms].append(one)
    for alike in groups.values():
        if varying([tuple(one.calls) for one in alike]) is not None:
            yield alike
        else:
            bodies: dict[str, list[_Class]] = defaultdict(list)
            for one in alike:
                bodies[one.body()].append(one)
            yield from bodies.values()


def distinct(network: Layer, children: Callable[[Layer], Iterable[Layer]] | None = None) -> Iterator[Layer]:
    """All layers of a network, each once, those inside a layer (its `children`) before it."""
    seen: set[Layer] = set()

    def visit(layer: Layer) -> Iterator[Layer]:
        if layer not in seen:
            seen.add(layer)
            for child in children(layer) if children else layer.children:
                yield from visit(child)
            yield layer

    return visit(network)


def _attribute(name: str) -> str:
    """The expression for an entry of the state dict: 0.1.weight is self[0][1].weight."""
    return "self" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in name.split("."))


def _load(class_name: str, has_ties: bool, is_shared: bool) -> str:
    lines = [
        "def load(path=None):",
        '    """The network with its weights, in evaluation mode; by default those beside this file."""',
        f"    from {'safetensors import safe_open' if is_shared else 'safetensors.torch import load_file'}",
        "",
        f"    network = {class_name}()",
        '    path = path or Path(__file__).with_suffix(".safetensors")',
        *(_SHARED if is_shared else ["    network.load_state_dict(load_file(path), assign=True)"]),
        *["    network.tie()"] * has_ties,
        "    return network.eval()",
    ]
    return "\n".join(lines)


# The metadata are those of safetensors.torch.save_model: what is stored once has further names
_SHARED = [
    '    with safe_open(path, "pt") as file:',
    "        weights = {name: file.get_tensor(name) for name in file.keys()}",
    "        same = file.metadata() or {}",
    "    weights |= {name: weights[first] for name, first in same.items() if first in weights}",
    "    network.load_state_dict(weights, assign=True)",
]
