"""One recorded forward pass, and the gradients that follow from it.

A module is a function of its input and its parameters.  `Tape` runs that function on leaves of a fresh
autograd graph. A container runs its children into the same graph, so that a whole network costs one autograd
pass; the tape remembers what every module was given, and the pass reads the gradient at each of these places,
which are the `gradInput`s.

The leaves are made with `.data`, not `detach()`: they share memory with the caller's tensors but not their
version counters.  As in Torch7, a weight that is changed between forward and backward is used with its new
value.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from t7compat.errors import InputError
from t7compat.nn.shapes import describe
from t7compat.table import Table, leaves, map_leaves, to_tuples

if TYPE_CHECKING:
    from t7compat.nn.module import Module

Tensor = torch.Tensor


class Tape:
    """The graph of one forward pass; `input` and `output` are inside it, nested values as tuples."""

    __slots__ = ("anchor", "calls", "input", "is_recorded", "is_replay", "output", "parameters", "sweep")

    def __init__(
        self, module: Module, input: Any, *, as_child: bool = False, is_replay: bool = False
    ) -> None:
        """Run `module` on `input`.

        `as_child` says to respect what the module's class overrides of the protocol; `is_replay` not to
        `prepare` any module, which would draw new random numbers.
        """
        self.is_replay, self.is_recorded = is_replay, torch.is_grad_enabled()
        self.calls: list[tuple[Module, Any]] = []
        self.parameters: list[tuple[Module, str, Tensor]] = []
        self.sweep = Sweep()
        self.anchor: Tensor | None = None
        self.input = to_tuples(as_leaf, input)
        try:
            self.output = self.call(module, self.input, as_child and module.is_opaque())
        except InputError as error:
            if not error.place:
                error.within(str(module))
            raise

    # ---- forward

    def call(self, module: Module, input: Any, as_opaque: bool) -> Any:
        """The output of a module on tensors of this graph: of its `compute`, or of its own `updateOutput`."""
        try:
            return _call_opaque(self, module, input) if as_opaque else module.trace(self, input)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            if isinstance(error, InputError | torch.OutOfMemoryError):
                raise
            module.explain(input)
            raise InputError(f"{error} (input: {describe(input)})") from error

    def leaf(self, module: Module, name: str) -> Tensor | None:
        """The parameter `name` of a module as a leaf of the graph; None if the module has none."""
        value = getattr(module, name)
        if value is None:
            return None
        leaf: Tensor = value.data.requires_grad_(torch.is_grad_enabled())
        self.parameters.append((module, name, leaf))
        return leaf

    def record(self, module: Module, input: Any, output: Any) -> Any:
        """Note that `module` gave `output` for `input`, and set the module's `output`."""
        self.calls.append((module, input))
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
        vars(self.sweep).update(inputs=inputs, parameters=parameters, scale=scale, learningRate=learningRate)
        outputs, seeds = self._seeds(gradOutput)
        places = self._places() if inputs else {}
        targets = [*places.values()]
        if parameters:
            targets += [leaf for _, _, leaf in self.parameters]
        if self.anchor is not None:
            targets.append(self.anchor)
        if not outputs or not targets:
            gradients: tuple[Tensor | None, ...] = (None,) * len(targets)
        else:
            gradients = torch.autograd.grad(outputs, targets, seeds, retain_graph=True, allow_unused=True)
        if parameters:
            self._accumulate(gradients[len(places) :], scale, learningRate)
        return self._set_gradients(dict(zip(places, gradients, strict=False))) if inputs else None

    def _seeds(self, gradOutput: Any) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs from which gradients flow, and their gradients."""
        pairs = [
            (output, _fitted(gradient, output))
            for output, gradient in _pairs(self.output, gradOutput)
            if output.requires_grad and gradient is not None
        ]
        return [output for output, _ in pairs], [gradient for _, gradient in pairs]

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
            module.gradInput = result if input is self.input else map_leaves(gradient, input)
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
            targets = [vars(module).get(gradient_name(name)) for module, name, _ in found]
            add_all([(t, g) for t, (_, _, g) in zip(targets, found, strict=True) if t is not None], scale)
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


@functools.cache
def gradient_name(name: str) -> str:
    """The field that holds the gradient of a parameter: weight -> gradWeight."""
    return "grad" + name[0].upper() + name[1:]


class Sweep(types.SimpleNamespace):
    """What one backward pass is for: `inputs`, `parameters`, `scale`, `learningRate` as in `Tape.backward`.

    Opaque calls read it.  It does not refer to the tape, which would make a cycle through the graph.
    """


class OpaqueCall:
    """A call of a module that overrides the protocol: its own methods are called, forward and backward."""

    __slots__ = ("input", "module", "output", "sweep")

    def __init__(self, module: Module, input: Any, sweep: Sweep) -> None:
        self.module, self.input, self.sweep = module, map_leaves(_data, input), sweep
        self.output: Any = None

    def forward(self) -> list[Tensor]:
        self.output = self.module.updateOutput(self.input)
        return _tensors(self.output)

    def backward(self, gradients: tuple[Tensor, ...]) -> list[Tensor | None]:
        remaining = iter(gradients)
        gradOutput = map_leaves(lambda x: next(remaining) if isinstance(x, Tensor) else None, self.output)
        module, sweep = self.module, self.sweep
        if not sweep.parameters:
            module.updateGradInput(self.input, gradOutput)
        elif sweep.inputs:
            module.backward(self.input, gradOutput, sweep.scale)
        elif sweep.learningRate is None:
            module.accGradParameters(self.input, gradOutput, sweep.scale)
        else:
            module.accUpdateGradParameters(self.input, gradOutput, sweep.learningRate)
        return self._fitted(module.gradInput)

    def _fitted(self, gradInput: Any) -> list[Tensor | None]:
        """A gradient for each tensor of the input; None where the module has left its gradInput empty."""
        inputs, found = _tensors(self.input), _tensors(gradInput)
        found = [gradient for gradient in found if gradient.numel()]
        if not found:
            return [None] * len(inputs)
        if [gradient.shape for gradient in found] != [x.shape for x in inputs]:
            raise InputError(
                f"gradInput of {self.module}: expected {describe(self.input)}, got {describe(gradInput)}"
            )
        return [*found]


class _Opaque(torch.autograd.Function):
    """Carries an OpaqueCall in the graph, of which the anchor makes it a part even for integer input."""

    @staticmethod
    def forward(ctx: Any, call: OpaqueCall, anchor: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.call = call
        with torch.enable_grad():
            outputs = tuple(output.data for output in call.forward())
        ctx.mark_non_differentiable(*(output for output in outputs if not output.is_floating_point()))
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            found = ctx.call.backward(gradients)
        needed = ctx.needs_input_grad[2:]
        return None, None, *(gradient if need else None for gradient, need in zip(found, needed, strict=True))


def _call_opaque(tape: Tape, module: Module, input: Any) -> Any:
    call = OpaqueCall(module, input, tape.sweep)
    if not torch.is_grad_enabled():
        call.forward()
        return to_tuples(_data, call.output)
    if tape.anchor is None:
        tape.anchor = torch.zeros(0, requires_grad=True)
    outputs = iter(_Opaque.apply(call, tape.anchor, *_tensors(input)))  # type: ignore[no-untyped-call]
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
        return a is b or bool(a == b)
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    return (a.data_ptr() == b.data_ptr() and a.stride() == b.stride()) or torch.equal(a, b)


def _pairs(output: Any, gradient: Any) -> Iterator[tuple[Tensor, Any]]:
    """The tensors of an output, each with its gradient (None where the table of gradients has none)."""
    if isinstance(output, Tensor):
        yield output, gradient
    elif isinstance(output, tuple | dict):
        parts = dict(enumerate(output, 1)) if isinstance(output, tuple) else output
        table = Table.from_python(gradient)
        if not isinstance(table, Table) or table.size() > len(parts):
            raise InputError(f"gradOutput: expected {describe(output)}, got {describe(gradient)}")
        for key, part in parts.items():
            yield from _pairs(part, table[key])


def _fitted(gradient: Any, output: Tensor) -> Tensor:
    """A gradient in the shape of its output.  As in Torch7, only the number of elements must agree."""
    is_tensor = isinstance(gradient, Tensor)
    if not is_tensor or gradient.dtype != output.dtype or gradient.numel() != output.numel():
        raise InputError(f"gradOutput: expected {describe(output)}, got {describe(gradient)}")
    return gradient if gradient.shape == output.shape else gradient.reshape(output.shape)
