"""nn.gModule, a network as a graph of modules."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, cast

import torch

from t7compat.errors import InputError
from t7compat.nn.containers import Container
from t7compat.nn.deferred import Deferred, can_wait
from t7compat.nn.gradients import data_of
from t7compat.nn.module import Module
from t7compat.nn.recall import Family, Recall, Seen
from t7compat.nn.shapes import FAULTS, describe, refuse
from t7compat.nn.tape import Tape
from t7compat.nngraph.awaited import Awaited
from t7compat.nngraph.graph import Graph
from t7compat.nngraph.network import expect_network
from t7compat.nngraph.node import Node
from t7compat.nngraph.steps import Step, steps_of
from t7compat.table import Table, map_leaves, to_tuples

Call = Callable[[Module, Any], Any]
_families: weakref.WeakValueDictionary[tuple[int, ...], Family] = weakref.WeakValueDictionary()


class gModule(Container):
    """The network between nodes: `gModule([x, y], [z])`.  Several inputs or outputs are tables.

    Every node that depends on the inputs must lead to an output.  `forwardnodes` is the order of the passes,
    and of `modules`; `fg` has the edges from inputs to outputs, and `bg` those back.

    A backward is that of the last forward, whatever input it is given, as in Torch7.

    Of several networks with the same parameters (clones over time), all but the first one to run do without
    the outputs and gradInputs inside until somebody looks at one of them, see nn/recall.py.
    """

    __slots__ = ("family", "has_inputs", "keeps", "steps")
    steps: tuple[Step, ...]  # made when they are first needed
    family: Family | None  # the networks with the same parameters, found after the first forward
    keeps: bool  # whether this one keeps what is inside
    has_inputs: bool  # whether nodes may have their inputs
    checks_only, uses_output, is_plain = True, False, True

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
            modules = [node.data.module for node in self.forwardnodes]
            self.modules = Table(*[module for module in modules if module is not None])

    # ---- forward and backward

    def _steps(self) -> tuple[Step, ...]:
        steps = getattr(self, "steps", ())
        if not steps:
            steps = self.steps = tuple(steps_of(self.forwardnodes))
        return steps

    def _with_module(self) -> list[dict[Any, Any]]:
        """The data of the nodes that have a module."""
        return [step.data for step in self._steps() if "module" in step.data]

    def operands(self, tape: Tape) -> list[Any]:
        """How to call the module of a node, which one has a gradInput, and whether the outputs are alone.

        They are unless somebody else is given them, too.
        """
        return [tape.call, tape.needs_fork, tape.module is self]

    def compute(
        self, input: Any, call: Call,
        needs_fork: Callable[[Any], bool] = lambda module: False, is_alone: bool = False,
    ) -> Any:  # fmt: skip
        steps, verbose = self._steps(), self.verbose
        final = steps[-1] if is_alone else None
        values: list[Any] = []
        given = input
        try:
            for step in steps:
                node, data, edges = step
                _, take, shared, _, _, last = edges
                module = data.get("module")
                if take is None:
                    given = input if module is None else ()  # without sources it has but parameters
                else:
                    given = take(values)
                    if shared and step is not final and needs_fork(module):
                        given = edges.forked(given)
                values.append(edges.part(given, node) if module is None else call(module, given))
                for place in last:
                    values[place] = None  # where nothing inside is kept it is freed
                if verbose:
                    print(f" V : {node.label()}")
        except FAULTS as error:
            self._refuse(error, steps[len(values)], given)
        return values[-1]

    def _refuse(self, error: Exception, step: Step, given: Any) -> NoReturn:
        """Raise what a step raised as an InputError that says where it arose."""
        if gModule.on_failure is not None:
            gModule.on_failure(self, step.node)
        module = step.data.get("module")
        try:
            refuse(error, module and module.explain, input=given)
        except InputError as found:
            if module is not None:
                index = 1 + next(i for i, data in enumerate(self._with_module()) if data is step.data)
                self._locate(found, index, module)
            raise

    def prepare(self, input: Any) -> None:
        count = self.input_count()
        if count > 1 and not (isinstance(input, tuple) and len(input) == count):
            raise InputError(f"expected a table of {count} inputs, got {describe(input)}")

    def input_count(self) -> int:
        """The number of inputs."""
        return self.nInputs or len(self.innode.children)

    def trace(self, tape: Tape, input: Any) -> Any:
        output = super().trace(tape, input)
        if self.optnet is None:
            tape.keep_inputs(self, input)
        if tape.module is not self and not tape.is_replay:
            self.deferred = None
        return output

    def defer_inputs(self) -> None:
        """Let the inputs of nodes wait until somebody looks at them."""
        if getattr(self, "has_inputs", True):
            self.has_inputs = False
            for _, data, _ in self._steps():
                data["input"] = Awaited.of(self)

    def hold_inputs(self, input: Any, tape: Tape) -> None:
        """Put the inputs of all nodes into their data, where programs find them."""
        self.has_inputs = True
        values: list[Any] = []
        for _, data, edges in self._steps():
            module, kept = data.get("module"), data.get("input")
            if kept is None:
                kept = data["input"] = Table()
            given = kept.__entries__
            for index, place in enumerate(edges.sources, 1):
                given[index] = values[place]
            if module is not None:
                output = tape.output_of(module)
                values.append(Table(*output) if isinstance(output, (tuple, list)) else output)
                continue
            if not edges.sources:
                given.update(enumerate([input] if self.input_count() == 1 else input, 1))
            if len(given) == 1:
                values.append(given[1] if edges.select is None else given[1][edges.select])
            else:
                values.append(kept)

    def _tape(self, input: Any) -> Tape:
        """The recorded pass, or one with the input of the last forward, which a loaded graph still has."""
        if (family := getattr(self, "family", None)) is not None:
            family.is_stale = True
        if self.tape is not None and self.tape.is_recorded:
            return self.tape
        if self.deferred is not None and (again := self._recomputed(self.deferred)) is not None:
            self.tape = again
            return again
        kept = self.innode.data.input
        if kept and self.optnet is None:
            input = kept if self.input_count() > 1 else kept[1]
        return super()._tape(input)

    def _recomputed(self, deferred: Recall) -> Tape | None:
        """A deferred pass once more; None if it would be another one."""
        deferred.disturb()
        try:
            with torch.enable_grad():
                tape = Tape(self, deferred.input, is_replay=True, asks=False)
        except InputError:
            return None
        return tape if deferred.fits(tape) else None

    def _new_tape(self, input: Any) -> Tape:
        before, self.deferred = self.deferred, None
        if before is not None:
            before.give_up()
        family = getattr(self, "family", None)
        given = None if family is None or self.keeps or self.optnet is not None else Seen.of(input)
        # Without such input there is no gradInput that tells whether another pass is the same
        if given is None or not any(x.is_floating_point() for x in given.tensors):
            tape = super()._new_tape(input)
            if not hasattr(self, "family"):
                self.family = family = self._family()
                self.keeps = getattr(self, "keeps", family is not None and family.first() is self)
            return tape
        deferred = Deferred(self, input, given, cast(Family, family), before or Recall(self))
        self.deferred = deferred.recall
        return deferred

    def _family(self) -> Family | None:
        """The networks with the same parameters; None if this one has none, or keeps everything anyway."""
        weights, _ = self.parameters() or (Table(), None)
        if not len(weights) or not can_wait(self):
            return None
        family = _families.setdefault(tuple(weight.data_ptr() for weight in weights), Family(self))
        if family.first() is None:
            family.first = weakref.ref(self)
        return family

    def keep_inside(self) -> None:
        self.keeps = True

    def runForwardFunction(self, func: Any, input: Any) -> Any:
        """A forward with `func(module, input)`, or the method of this name, in the place of each module's."""

        def call(module: Module, input: Any) -> Any:
            return to_tuples(data_of, func(module, input) if callable(func) else getattr(module, func)(input))

        given = to_tuples(data_of, input)
        self.prepare(given)
        self.output = map_leaves(data_of, self.compute(given, call))
        return self.output

    # ---- the modules

    def replace(self, callback: Callable[[Any], Any]) -> Any:
        replacement = callback(self)
        if hasattr(self, "family"):
            del self.family  # whose networks have other modules now
        for index, data in enumerate(self._with_module(), 1):
            data["module"] = self.modules[index] = data["module"].replace(callback)
        return replacement

    def map(self, gm: gModule, func: Callable[[Any, Any], Any]) -> None:
        """Call `func(mine, theirs)` on the modules of this graph and those of another one like it."""
        ours, others = self._with_module(), gm._with_module()
        if len(ours) != len(others):
            raise InputError(f"map: expected a graph of {len(ours)} modules, got one of {len(others)}")
        for mine, theirs in zip(ours, others, strict=True):
            func(mine["module"], theirs["module"])

    def clearState(self) -> Any:
        if self.deferred is not None:
            self.deferred.settle()
        self.has_inputs = True
        for node in (*self.forwardnodes, *(self.backwardnodes or ())):
            for name in ("input", "gradOutput", "gradOutputBuffer"):
                node.data[name] = None
        return super().clearState()

    def __str__(self) -> str:
        return self.name or super().__str__()
