"""One recorded forward pass, and the gradients that follow from it.

A module is a function of its input and its parameters.  `Tape` runs that function on leaves of a fresh
autograd graph. A container runs its children into the same graph, so that a whole network costs one autograd
pass; the tape remembers what every module was given, and the pass reads the gradient at each of these places,
which are the `gradInput`s.

The leaves are made with `.data`, not `detach()`: they share memory with the caller's tensors but not their
version counters.  As in Torch7, a weight that is changed between forward and backward is used with its new
value.

A backward that no recorded pass fits (another input, a forward without gradients) does what Torch7 does in
every backward: a *replay*, which takes the children with the outputs that their last forward has left them,
and calls their own backward methods one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from t7compat.errors import InputError
from t7compat.nested import type_name
from t7compat.nn.gradients import (
    add_all,
    data_of,
    fitted,
    gradient_name,
    gradient_of,
    matched,
    of_type,
    slopes,
)  # fmt: skip
from t7compat.nn.opaque import Sweep, call_opaque
from t7compat.nn.shapes import FAULTS, refuse
from t7compat.table import Table, leaves, map_leaves, to_tuples

if TYPE_CHECKING:
    from t7compat.nn.module import Module

Tensor = torch.Tensor


class Tape:
    """The graph of one forward pass; `input` and `output` are inside it, nested values as tuples."""

    __slots__ = (
        "asks", "calls", "chain", "checks", "input", "is_recorded", "is_replay", "keeps", "module", "output",
        "parameters", "products", "sweep",
    )  # fmt: skip
    keeps_inside = True  # whether the modules inside will have an output and a gradInput

    def __init__(
        self, module: Module, input: Any, *,
        as_child: bool = False, is_replay: bool = False, asks: bool | None = None,
        keeps: bool | None = None, checks: bool = True,
    ) -> None:  # fmt: skip
        """Run `module` on `input`; `as_child` says to respect what its class overrides of the protocol.

        A replay changes nothing that a forward leaves in modules.  Unless it is said, it `asks` them for the
        outputs that they have, if they do, and does not set those (`keeps`).  Without `checks`, modules that
        do nothing but look at the form of their input (`checks_only`) do not.
        """
        self.module, self.is_replay, self.is_recorded = module, is_replay, torch.is_grad_enabled()
        self.asks = is_replay and module.optnet is None if asks is None else asks
        self.keeps = not is_replay if keeps is None else keeps
        self.checks = checks and not is_replay
        self.calls: list[tuple[Module, Any]] = []
        self.parameters: list[tuple[Module, str, Tensor]] = []
        self.products: list[tuple[Module, Any, Any]] = []  # see Module.add_gradients
        self.sweep = Sweep()
        self.chain: list[Tensor] = []  # of all opaque calls, see opaque.py
        self.input = to_tuples(as_leaf, input)
        try:
            self.output = self.call(module, self.input, as_child and module.is_opaque())
        except InputError as error:
            if not error.place:
                error.within(label(module))
            raise
        except RecursionError:
            deep = "modules nested less deeply, or a larger limit by sys.setrecursionlimit"
            raise InputError(f"{type_name(module)}: expected {deep}") from None

    # ---- forward

    def call(self, module: Module, input: Any, as_opaque: bool | None = None) -> Any:
        """The output of a module on tensors of this graph: of its `compute`, or of its own `updateOutput`.

        Unless it is said which, the latter is called in a replay, and where the module has one of its own.
        What optnet made give up its output is not asked for that.
        """
        if as_opaque is None:
            as_opaque = module.optnet is None and (self.asks or module.is_opaque())
        try:
            return call_opaque(self, module, input) if as_opaque else module.trace(self, input)
        except FAULTS as error:
            refuse(error, module.explain, input=input)

    def operand(self, module: Module, name: str) -> Tensor | None:
        """What `compute` gets for a parameter: a leaf of the graph unless the class adds its gradients."""
        return data_of(getattr(module, name)) if module.adds_gradients else self.leaf(module, name)

    def leaf(self, module: Module, name: str) -> Tensor | None:
        """The parameter `name` of a module as a leaf of the graph; None if the module has none."""
        value = getattr(module, name)
        if value is None:
            return None
        leaf: Tensor = value.data.requires_grad_(self.is_recorded)
        self.parameters.append((module, name, leaf))
        return leaf

    def record(self, module: Module, input: Any, output: Any) -> Any:
        """Note that `module` gave `output` for `input`, and set the module's `output`."""
        if module.adds_gradients or not (isinstance(output, Tensor) and output.requires_grad):
            self.watch(module, input, output)
        if module.optnet is not None and module is not self.module:
            return output
        self.calls.append((module, input))
        module.tape = None  # of a forward before this one
        if self.keeps:
            if module.recall is not None:
                module.recall.taken(module, self.module)
            module.output = output.data if isinstance(output, Tensor) else map_leaves(data_of, output)
        return output

    def watch(self, module: Module, input: Any, output: Any) -> None:
        """Let gradients reach an output, and the parameters that wait there for one."""
        if not self.is_recorded:
            return
        for found in leaves(output):
            if isinstance(found, Tensor) and not found.requires_grad and found.is_floating_point():
                found.requires_grad_()  # made of indices: the next module has a gradInput, too
        if module.adds_gradients:
            self.products.append((module, input, _edge(output)))

    def needs_fork(self, module: Module | None) -> bool:
        """Whether a module, or one inside, will have a gradInput of its own; None is a node without one.

        optnet has most modules do without.
        """
        return module is None or module.optnet is None or bool(module.children())

    def keep_inputs(self, network: Any, input: Any) -> None:
        """Let the nodes of a network have their inputs."""
        if self.keeps:
            network.hold_inputs(map_leaves(data_of, input), self)

    def output_of(self, module: Module) -> Any:
        """What a module inside gave, outside of the graph."""
        return module.output

    @property
    def result(self) -> Any:
        """The output outside of the graph."""
        return map_leaves(data_of, self.output)

    # ---- backward

    def backward(
        self, gradOutput: Any, *,
        inputs: bool = True, parameters: bool = True, scale: float = 1, learningRate: float | None = None,
        keeps_graph: bool = True,
    ) -> Any:  # fmt: skip
        """The gradient with respect to the input, for the gradient `gradOutput` with respect to the output.

        With `inputs`, every module of the pass gets its `gradInput`; with `parameters`, `scale` times the
        gradients are added to the gradient tensors of the parameters, or (`learningRate`) the parameters
        themselves are moved.  Without `keeps_graph` this is the last backward.
        """
        sweep = self.sweep
        sweep.inputs, sweep.parameters, sweep.failed = inputs, parameters, None
        sweep.scale, sweep.learningRate = scale, learningRate
        targets = self._places() if inputs else {}
        for module, _ in self.calls if inputs else ():
            if not module.gradient_has_own_type:
                module.gradInput = None  # its memory serves the new ones
        if parameters:
            targets.update([(id(leaf), leaf) for _, _, leaf in self.parameters])
            targets.update([(id(output), output) for _, _, output in self.products])
        try:
            found = self._gradients(gradOutput, [*targets.values(), *self.chain[:1]], keeps_graph)
        except InputError as error:
            self._locate(error)
            raise
        gradients = dict(zip(targets, found, strict=False))
        if parameters:
            self._accumulate(gradients, scale, learningRate)
        return self._set_gradients(gradients) if inputs else None

    def _gradients(
        self, gradOutput: Any, targets: list[Tensor], keeps_graph: bool
    ) -> tuple[Tensor | None, ...]:
        """The gradients with respect to some tensors of the graph."""
        pairs = [
            (output, fitted(path, output, gradient))
            for path, output, gradient in matched(("gradOutput",), self.output, gradOutput)
            if output.requires_grad
        ]
        pairs += [(link, torch.zeros_like(link)) for link in self.chain[-1:]]
        if not pairs or not targets:
            return (None,) * len(targets)
        outputs, seeds = zip(*pairs, strict=True)
        try:
            return slopes(outputs, seeds, targets, keeps_graph)
        except FAULTS as error:
            refuse(error, gradOutput=gradOutput)

    def _locate(self, error: InputError) -> None:
        """Say where in the network an error of the backward pass arose."""
        failed = self.sweep.failed
        steps = failed and _way(self.module, failed)
        if not error.place:
            error.within(label(failed or self.module))
        for step in reversed(steps or ()):
            error.within(step)

    def _places(self) -> dict[int, Tensor]:
        """All tensors of the graph that some module was given, by identity."""
        places: dict[int, Tensor] = {}
        for value in (self.input, *[input for _, input in self.calls]):
            for leaf in (value,) if isinstance(value, Tensor) else leaves(value):
                if isinstance(leaf, Tensor) and leaf.requires_grad:
                    places[id(leaf)] = leaf
        return places

    def _set_gradients(self, gradients: dict[int, Any]) -> Any:
        """Give every module of the pass its gradInput; return the gradient of the input."""
        for module, input in self.calls:
            if module.ends_gradient or module.is_sparse:
                gradients.update((id(place), module.gradInput) for place in (input, _origin(input)))
        result = self._found(gradients, self.input)
        own: dict[int, Any] = {}  # those of another type than their input: containers have them, too
        for module, input in self.calls:
            gradInput = self._found(gradients, input)
            if module.gradient_has_own_type:
                own[id(input)] = of_type(gradInput, module.gradInput)
            module.gradInput = own.get(id(input), gradInput) if own else gradInput
            if module.keeps_state:
                module.passed_back()
        return own.get(id(self.input), result)

    def _found(self, gradients: dict[int, Any], value: Any) -> Any:
        """The gradient of a nested value: zeros for tensors on which nothing depends."""
        if (known := gradients.get(id(value))) is not None:
            return known
        if isinstance(value, Tensor):
            found: Any = torch.zeros_like(value, requires_grad=False)
        elif isinstance(value, tuple):
            found = Table(*[self._found(gradients, part) for part in value])
        elif isinstance(value, dict):
            found = Table.from_items((key, self._found(gradients, part)) for key, part in value.items())
        else:
            return None
        gradients[id(value)] = found
        return found

    def _accumulate(
        self, gradients: dict[int, Tensor | None], scale: float, learningRate: float | None
    ) -> None:
        """Add `scale` times the gradients to those of the parameters, or move the parameters."""
        found = [
            (module, name, gradient)
            for module, name, leaf in self.parameters
            if (gradient := gradients[id(leaf)]) is not None
        ]
        products = [
            (module, data_of(input), gradient)
            for module, input, output in self.products
            if (gradient := gradients[id(output)]) is not None
        ]
        if learningRate is None:
            usual = []
            for module, name, gradient in found:
                if module.has_own_accumulation:
                    module.accumulate(name, gradient, scale)
                else:
                    usual.append((gradient_of(module, name), gradient))
            add_all(usual, scale)
            for module, input, gradient in products:
                sums = [
                    None if getattr(module, name) is None else gradient_of(module, name)
                    for name in module.parameter_names
                ]
                module.add_gradients(input, gradient, scale, *sums)
            return
        for module, input, gradient in products:
            parameters = [getattr(module, name) for name in module.parameter_names]
            module.add_gradients(input, gradient, -learningRate, *parameters)
        through_gradients = {id(m): m for m, _, _ in found if m.shared and not m.updates_when_shared}
        for module in through_gradients.values():
            module.zeroGradParameters()
        for module, name, gradient in found:
            if id(module) in through_gradients:
                vars(module)[gradient_name(name)].add_(gradient)
            else:
                vars(module)[name].add_(gradient, alpha=-learningRate)
        for module in through_gradients.values():
            module.updateParameters(learningRate)


def _edge(output: Tensor) -> GradientEdge:
    """Where the gradient of a tensor comes by, which does not keep the tensor."""
    node = output.grad_fn
    return get_gradient_edge(output) if node is None else GradientEdge(node, output.output_nr)


def fork(input: Any) -> Any:
    """The same values as other tensors of the graph, so that their gradient is that of one consumer alone."""
    if isinstance(input, Tensor):
        return input.view_as(input) if input.requires_grad else input
    return to_tuples(fork, input) if type(input) is tuple or type(input) is dict else input


def _origin(value: Any) -> Any:
    """What `fork` was given for a tensor, if it made that."""
    return value if not isinstance(value, Tensor) or value._base is None else value._base


def as_leaf(value: Any) -> Any:
    """A tensor as the input of a graph; anything else as it is.

    As in Torch7, images and the like are compact: PyTorch's layers would take over another order of the
    dimensions in memory, and Torch7 misread their outputs in a file.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    leaf = value.data if value.dim() < 3 else value.data.contiguous()
    return leaf.requires_grad_(torch.is_grad_enabled())


def label(module: Any) -> str:
    """A module in an error message: its text, or if that has several lines the name of its class."""
    text = str(module)
    return module.__typename__ if "\n" in text else text


def _way(root: Module, module: Module) -> list[str] | None:
    """The steps from one module down to another, as in error messages; None if there is no way."""
    if root is module:
        return []
    for index, child in enumerate(root.children(), 1):
        steps = _way(child, module)
        if steps is not None:
            return [f"in module {index} of {root.__typename__}", *steps]
    return None
