"""Modules in a graph that do not compute but override the protocol: their own methods are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from t7compat.errors import InputError
from t7compat.nn.gradients import data_of, fitted, matched, of_type, tensors
from t7compat.nn.shapes import FAULTS, refuse
from t7compat.table import map_leaves, to_tuples

if TYPE_CHECKING:
    from t7compat.nn.module import Module
    from t7compat.nn.tape import Tape

Tensor = torch.Tensor


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
        self.module, self.input, self.sweep = module, map_leaves(data_of, input), tape.sweep
        self.output = module.output if tape.is_replay else module.updateOutput(self.input)
        if tape.is_replay and all(tensor.shape == (0,) for tensor in tensors(self.output)):
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
                return [None] * len(tensors(self.input))
            return [
                fitted(path, x, gradient) if gradient is not None and x.is_floating_point() else None
                for path, x, gradient in matched(("gradInput",), to_tuples(data_of, self.input), gradInput)
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
        outputs = tuple(output.data for output in tensors(call.output))
        ctx.mark_non_differentiable(*(output for output in outputs if not output.is_floating_point()))
        return torch.empty_like(link), *outputs

    @staticmethod
    def backward(ctx: Any, link: Tensor, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            found = ctx.call.backward(gradients)
        needed = ctx.needs_input_grad[2:]
        return None, link, *(gradient if need else None for gradient, need in zip(found, needed, strict=True))


def call_opaque(tape: Tape, module: Module, input: Any) -> Any:
    """The output of a module's own `updateOutput`, in the graph of a tape."""
    call = OpaqueCall(tape, module, input)
    if module.is_sparse:
        tape.calls.append((module, input))  # containers around it have its gradInput
    if not tape.is_recorded:
        return to_tuples(data_of, call.output)
    if not tape.chain:
        tape.chain.append(torch.empty(0, requires_grad=True))
    link, *found = _Opaque.apply(call, tape.chain[-1], *tensors(input))  # type: ignore[no-untyped-call]
    tape.chain.append(link)
    outputs = iter(found)
    return to_tuples(lambda x: next(outputs) if isinstance(x, Tensor) else x, call.output)
