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

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from t7compat.errors import InputError
from t7compat.nested import path_step, type_name
from t7compat.nn.shapes import FAULTS, describe, expect_fit, like, refuse
from t7compat.table import Table, leaves, map_leaves, to_tuples

if TYPE_CHECKING:
    from t7compat.nn.module import Module

Tensor = torch.Tensor


class Tape:
    """The graph of one forward pass; `input` and `output` are inside it, nested values as tuples."""

    __slots__ = (
        "calls", "chain", "input", "is_recorded", "is_replay", "module", "output", "parameters", "sweep",
    )  # fmt: skip

    def __init__(
        self, module: Module, input: Any, *, as_child: bool = False, is_replay: bool = False
    ) -> None:
        """Run `module` on `input`; `as_child` says to respect what its class overrides of the protocol."""
        self.module, self.is_replay, self.is_recorded = module, is_replay, torch.is_grad_enabled()
        self.calls: list[tuple[Module, Any]] = []
        self.parameters: list[tuple[Module, str, Tensor]] = []
        self.sweep = Sweep()
        self.chain: list[Tensor] = []  # of all opaque calls, see `_Opaque`
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

    def call(self, module: Module, input: Any, as_opaque: bool) -> Any:
        """The output of a module on tensors of this graph: of its `compute`, or of its own `updateOutput`."""
        try:
            return _call_opaque(self, module, input) if as_opaque else module.trace(self, input)
        except FAULTS as error:
            refuse(error, module.explain, input=input)

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
        self.calls.append((module, input))
        module.tape = None  # of a forward before this one
        if not self.is_replay:
            module.output = output.data if isinstance(output, Tensor) else map_leaves(_data, output)
        return output

    @property
    def result(self) -> Any:
        """The output outside of the graph."""
        return map_leaves(_data, self.output)

    # ---- backward

    def backward(
        self, gradOutput: Any, *,
        inputs: bool = True, parameters: bool = True, scale: float = 1, learningRate: float | None = None,
    ) -> Any:  # fmt: skip
        """The gradient with respect to the input, for the gradient `gradOutput` with respect to the output.

        With `inputs`, every module of the pass gets its `gradInput`; with `parameters`, `scale` times the
        gradients are added to the gradient tensors of the parameters, or (`learningRate`) the parameters
        themselves are moved.
        """
        sweep = self.sweep
        sweep.inputs, sweep.parameters, sweep.failed = inputs, parameters, None
        sweep.scale, sweep.learningRate = scale, learningRate
        places = self._places() if inputs else {}
        targets = [*places.values()]
        if parameters:
            targets += [leaf for _, _, leaf in self.parameters]
        targets += self.chain[:1]
        try:
            gradients = self._gradients(gradOutput, targets)
        except InputError as error:
            self._locate(error)
            raise
        if parameters:
            self._accumulate(gradients[len(places) :], scale, learningRate)
        return self._set_gradients(dict(zip(places, gradients, strict=False))) if inputs else None

    def _gradients(self, gradOutput: Any, targets: list[Tensor]) -> tuple[Tensor | None, ...]:
        """The gradients with respect to some tensors of the graph."""
        pairs = [
            (output, fitted(name, output, gradient))
            for name, output, gradient in matched("gradOutput", self.output, gradOutput)
            if output.requires_grad
        ]
        pairs += [(link, torch.zeros_like(link)) for link in self.chain[-1:]]
        if not pairs or not targets:
            return (None,) * len(targets)
        outputs, seeds = zip(*pairs, strict=True)
        try:
            return torch.autograd.grad(outputs, targets, seeds, retain_graph=True, allow_unused=True)
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
        for value in (self.input, *(input for _, input in self.calls)):
            for leaf in (value,) if isinstance(value, Tensor) else leaves(value):
                if isinstance(leaf, Tensor) and leaf.requires_grad:
                    places[id(leaf)] = leaf
        return places

    def _set_gradients(self, gradients: dict[int, Tensor | None]) -> Any:
        """Give every module of the pass its gradInput; return the gradient of the input."""

        def gradient(leaf: Any) -> Any:
            found = gradients.get(id(leaf))
            if found is None and isinstance(leaf, Tensor):
                found = gradients[id(leaf)] = torch.zeros_like(leaf, requires_grad=False)
            return found

        result = map_leaves(gradient, self.input)
        for module, input in self.calls:
            gradInput = result if input is self.input else map_leaves(gradient, input)
            if module.gradient_has_own_type:
                gradInput = of_type(gradInput, module.gradInput)
                result = gradInput if module is self.module else result
            module.gradInput = gradInput
            if module.keeps_state:
                module.passed_back()
        return result

    def _accumulate(
        self, gradients: tuple[Tensor | None, ...], scale: float, learningRate: float | None
    ) -> None:
        found = [
            (module, name, gradient)
            for (module, name, _), gradient in zip(self.parameters, gradients, strict=False)
            if gradient is not None
        ]
        if learningRate is None:
            usual = []
            for module, name, gradient in found:
                if module.has_own_accumulation:
                    module.accumulate(name, gradient, scale)
                else:
                    usual.append((_gradient(module, name), gradient))
            add_all(usual, scale)
            return
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


def _gradient(module: Module, name: str) -> Tensor:
    """Where the gradient of a parameter accumulates; a module that lacks the tensor gets it."""
    fields, field = vars(module), gradient_name(name)
    if fields.get(field) is None:
        fields[field] = torch.zeros_like(fields[name])
    tensor: Tensor = fields[field]
    return tensor


@functools.cache
def gradient_name(name: str) -> str:
    """The field that holds the gradient of a parameter: weight -> gradWeight."""
    return "grad" + name[0].upper() + name[1:]


@dataclass(slots=True)
class Sweep:
    """What one backward pass is for: the options of `Tape.backward`, which opaque calls read.

    These leave in `failed` the module in which an error arose.  A sweep does not refer to its tape, which
    would make a cycle through the graph.
    """

    inputs: bool = True
    parameters: bool = True
    scale: float = 1
    learningRate: float | None = None
    failed: Module | None = None


class OpaqueCall:
    """A call of a module by its own methods, forward and backward."""

    __slots__ = ("input", "module", "output", "sweep")

    def __init__(self, tape: Tape, module: Module, input: Any) -> None:
        self.module, self.input, self.sweep = module, map_leaves(_data, input), tape.sweep
        self.output = module.output if tape.is_replay else module.updateOutput(self.input)
        if tape.is_replay and all(tensor.shape == (0,) for tensor in _tensors(self.output)):
            raise InputError("expected a forward before backward")

    def backward(self, gradients: tuple[Tensor, ...]) -> list[Tensor | None]:
        """The gradients with respect to the tensors of the input, given those with respect to the output."""
        remaining = iter(gradients)
        gradOutput = map_leaves(lambda x: next(remaining) if isinstance(x, Tensor) else None, self.output)
        try:
            gradInput = self._gradInput(gradOutput)
            if self.module.gradient_has_own_type:
                gradInput = of_type(gradInput, self.input)
            if self.module.is_sparse:
                return [None] * len(_tensors(self.input))
            return [
                fitted(name, x, gradient) if gradient is not None and x.is_floating_point() else None
                for name, x, gradient in matched("gradInput", to_tuples(_data, self.input), gradInput)
            ]
        except FAULTS as error:
            self.sweep.failed = self.module
            refuse(error, gradOutput=gradOutput)

    def _gradInput(self, gradOutput: Any) -> Any:
        """What the module gives for a gradOutput, without the tensors that it leaves empty."""
        module, sweep = self.module, self.sweep
        gradInput = None
        if not sweep.parameters:
            gradInput = module.updateGradInput(self.input, gradOutput)
        elif sweep.inputs:
            gradInput = module.backward(self.input, gradOutput, sweep.scale)
        elif sweep.learningRate is None:
            module.accGradParameters(self.input, gradOutput, sweep.scale)
        else:
            module.accUpdateGradParameters(self.input, gradOutput, sweep.learningRate)
        return map_leaves(
            lambda x: x if isinstance(x, Tensor) and x.numel() else None,
            module.gradInput if gradInput is None else gradInput,
        )


class _Opaque(torch.autograd.Function):
    """Carries an OpaqueCall in the graph.

    Beside its inputs and outputs it has those of a chain of empty tensors through all opaque calls, by which
    autograd reaches each of them: for integer input too, and when nothing depends on the output.
    """

    @staticmethod
    def forward(ctx: Any, call: OpaqueCall, link: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.call = call
        outputs = tuple(output.data for output in _tensors(call.output))
        ctx.mark_non_differentiable(*(output for output in outputs if not output.is_floating_point()))
        return torch.empty_like(link), *outputs

    @staticmethod
    def backward(ctx: Any, link: Tensor, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            found = ctx.call.backward(gradients)
        needed = ctx.needs_input_grad[2:]
        return None, link, *(gradient if need else None for gradient, need in zip(found, needed, strict=True))


def _call_opaque(tape: Tape, module: Module, input: Any) -> Any:
    call = OpaqueCall(tape, module, input)
    if not tape.is_recorded:
        return to_tuples(_data, call.output)
    if not tape.chain:
        tape.chain.append(torch.empty(0, requires_grad=True))
    link, *found = _Opaque.apply(call, tape.chain[-1], *_tensors(input))  # type: ignore[no-untyped-call]
    tape.chain.append(link)
    outputs = iter(found)
    return to_tuples(lambda x: next(outputs) if isinstance(x, Tensor) else x, call.output)


def add_all(pairs: list[tuple[Tensor, Tensor]], scale: float) -> None:
    """target += scale * value for each pair.  Targets may share memory: each addition counts."""
    if pairs and pairs[0][0].is_cuda and len({target.data_ptr() for target, _ in pairs}) < len(pairs):
        for target, value in pairs:
            target.add_(value, alpha=scale)
    elif pairs:
        torch._foreach_add_([target for target, _ in pairs], [value for _, value in pairs], alpha=scale)


def fork(input: Any) -> Any:
    """The same values as other tensors of the graph, so that their gradient is that of one consumer alone."""
    return to_tuples(lambda x: x.view_as(x) if isinstance(x, Tensor) and x.requires_grad else x, input)


def as_leaf(value: Any) -> Any:
    """A tensor as the input of a graph; anything else as it is."""
    if isinstance(value, Tensor) and value.is_floating_point() and torch.is_grad_enabled():
        return value.data.requires_grad_()
    return value


def _data(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


def same(a: Any, b: Any) -> bool:
    """Whether two nested values hold the same tensors, or tensors of equal values."""
    ours, theirs = leaves(a), leaves(b)
    return len(ours) == len(theirs) and all(map(_equal, ours, theirs))


def _equal(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return a is b or (type(a) is type(b) and bool(a == b))
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    return (a.data_ptr() == b.data_ptr() and a.stride() == b.stride()) or torch.equal(a, b)


def matched(name: str, value: Any, gradient: Any) -> Iterator[tuple[str, Tensor, Any]]:
    """The tensors of a nested value, each with its gradient, or None where there is none."""
    if isinstance(value, Tensor):
        yield name, value, gradient
    elif isinstance(value, tuple | dict):
        parts = dict(enumerate(value, 1)) if isinstance(value, tuple) else value
        table = Table() if gradient is None else Table.from_python(gradient)
        if not isinstance(table, Table):
            raise InputError(f"{name}: expected {describe(value)}, got {describe(gradient)}")
        for key, part in parts.items():
            yield from matched(name + path_step(key), part, table[key])


def fitted(name: str, value: Tensor, gradient: Any) -> Tensor:
    """A gradient in the shape of its tensor; InputError if it does not fit."""
    expect_fit(name, gradient, value)
    return like(gradient, value)


def of_type(gradient: Any, before: Any) -> Any:
    """A nested gradient whose tensors are of the types of those at the same places of `before`."""
    if isinstance(gradient, Table) and isinstance(before, Table):
        return Table.from_items((key, of_type(value, before[key])) for key, value in gradient.items())
    if isinstance(gradient, Tensor) and isinstance(before, Tensor):
        return gradient.to(before)
    return before if gradient is None else gradient


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
