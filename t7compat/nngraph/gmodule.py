"""nn.gModule, a network as a graph of modules."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

from t7compat.errors import InputError
from t7compat.nn.containers import Child, Container
from t7compat.nn.gradients import data_of
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe
from t7compat.nn.tape import Tape
from t7compat.nngraph.graph import Graph
from t7compat.nngraph.network import expect_network
from t7compat.nngraph.node import Node
from t7compat.nngraph.steps import Step, steps_of
from t7compat.table import Table, map_leaves, to_tuples


class gModule(Container):
    """The network between nodes: `gModule([x, y], [z])`.  Several inputs or outputs are tables.

    Every node that depends on the inputs must lead to an output.  `forwardnodes` is the order of the passes,
    and of `modules`; `fg` has the edges from inputs to outputs, and `bg` those back.

    A backward is that of the last forward, whatever input it is given, as in Torch7.
    """

    __slots__ = ("steps",)
    steps: tuple[Step, ...] | None

    forwardnodes: Table
    backwardnodes: Table
    fg: Graph
    bg: Graph
    innode: Node
    outnode: Node
    name: str | None = None
    verbose: bool | None = None  # whether a forward prints each node
    nInputs: int | None = None  # missing in old files
    on_failure: ClassVar[Callable[[gModule, Node], None] | None] = None  # see nngraph.setDebug

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        module = super().__new__(cls)
        module.steps = None
        return module

    def __init__(self, inputs: Any, outputs: Any) -> None:
        inputs, outputs = expect_network(inputs, outputs)
        super().__init__(verbose=False, nInputs=len(inputs))
        del self.output, self.gradInput
        innode, self.outnode = Node(Table(input=Table())), Node(Table(input=Table()))
        for node in outputs:
            self.outnode.add(node, True)
        splits = innode.split(len(inputs)) if len(inputs) > 1 else (innode,)
        for node, split in zip(inputs, splits, strict=True):
            node.add(split, True)
        self.bg = self.outnode.graph()
        self.fg = self.bg.reverse()
        self.innode = next(node for node in self.fg.roots() if node.data is innode.data)
        self.forwardnodes, self.backwardnodes = self.fg.topsort(), self.bg.topsort()
        for node in self.forwardnodes:
            node.data.forwardNodeId = node.id
            if node.data.module is not None:
                self.add(node.data.module)
        if len(outputs) > 1:
            self.output = self.outnode.data.input

    def upgrade(self, version: int) -> None:
        """Files of 2014 do not list the modules."""
        if "modules" not in vars(self):
            self.modules = Table(*[data["module"] for data in self._with_module()])

    # ---- forward and backward

    def _steps(self) -> tuple[Step, ...]:
        if self.steps is None:
            self.steps = tuple(steps_of(self.forwardnodes))
        return self.steps

    def _with_module(self) -> list[dict[Any, Any]]:
        """The data of the nodes that have a module."""
        return [step.data for step in self._steps() if "module" in step.data]

    def operands(self, tape: Tape) -> list[Child]:
        return self._children(functools.partial(self._run_child, tape))

    def _children(self, call: Callable[[int, Module, Any], Any]) -> list[Child]:
        """`call(index, module, input)` for each module of the graph, as functions of the input."""
        return [functools.partial(call, i, data["module"]) for i, data in enumerate(self._with_module(), 1)]

    def compute(self, input: Any, *children: Child) -> Any:
        steps, modules = self._steps(), iter(children)
        values: list[Any] = []
        try:
            for step in steps:
                has_module = "module" in step.data
                nothing = () if has_module else input  # a module without sources has but parameters
                given = step.inputs(values) if step.sources else nothing
                values.append(next(modules)(given) if has_module else step.part(given))
                if self.verbose:
                    print(f" V : {step.node.label()}")
        except InputError:
            if gModule.on_failure is not None:
                gModule.on_failure(self, steps[len(values)].node)
            raise
        return values[-1]

    def prepare(self, input: Any) -> None:
        count = self.input_count()
        if count > 1 and not (isinstance(input, tuple) and len(input) == count):
            raise InputError(f"expected a table of {count} inputs, got {describe(input)}")

    def input_count(self) -> int:
        """The number of inputs."""
        return self.nInputs or len(self.innode.children)

    def trace(self, tape: Tape, input: Any) -> Any:
        output = super().trace(tape, input)
        if not tape.is_replay:
            self._keep_inputs(map_leaves(data_of, input))
        return output

    def _keep_inputs(self, input: Any) -> None:
        """Put the inputs of all nodes into their data, where programs find them."""
        values: list[Any] = []
        for _, data, sources, _, select, _ in self._steps():
            given = data["input"].__entries__
            for index, place in enumerate(sources, 1):
                given[index] = values[place]
            if not sources and "module" not in data:
                given.update(enumerate([input] if self.input_count() == 1 else input, 1))
            if "module" in data:
                values.append(data["module"].output)
            elif len(given) == 1:
                values.append(given[1] if select is None else given[1][select])
            else:
                values.append(data["input"])

    def _tape(self, input: Any) -> Tape:
        """The recorded pass, or one with the input of the last forward, which a loaded graph still has."""
        if self.tape is not None and self.tape.is_recorded:
            return self.tape
        kept = self.innode.data.input
        if kept:
            input = kept if self.input_count() > 1 else kept[1]
        return super()._tape(input)

    def runForwardFunction(self, func: Any, input: Any) -> Any:
        """A forward with `func(module, input)`, or the method of this name, in the place of each module's."""

        def call(index: int, module: Module, input: Any) -> Any:
            return to_tuples(data_of, func(module, input) if callable(func) else getattr(module, func)(input))

        given = to_tuples(data_of, input)
        self.prepare(given)
        self.output = map_leaves(data_of, self.compute(given, *self._children(call)))
        return self.output

    # ---- the modules

    def replace(self, callback: Callable[[Any], Any]) -> Any:
        replacement = callback(self)
        for index, data in enumerate(self._with_module(), 1):
            data["module"] = self.modules[index] = data["module"].replace(callback)
        return replacement

    def map(self, gm: gModule, func: Callable[[Any, Any], Any]) -> None:
        """Call `func(mine, theirs)` on the modules of this graph and those of another one like it."""
        for mine, theirs in zip(self._with_module(), gm._with_module(), strict=True):
            func(mine["module"], theirs["module"])

    def clearState(self) -> Any:
        self.steps = None  # which write to the tables of the inputs
        for node in (*self.forwardnodes, *(self.backwardnodes or ())):
            for name in ("input", "gradOutput", "gradOutputBuffer"):
                node.data[name] = None
        return super().clearState()

    def __str__(self) -> str:
        return self.name or super().__str__()
