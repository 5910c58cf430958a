"""What recurrent modules over whole sequences have in common: where a sequence starts, and what is kept."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.opaque import Sweep
from t7compat.nn.shapes import describe, expect
from t7compat.nn.tape import Tape, as_leaf
from t7compat.rnn import fused
from t7compat.rnn.sequencer import Remembering
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class State(NamedTuple):
    """The fields of a module that have to do with one part of its state."""

    start: str  # before the first step
    user: str  # what the user gives for it, for one forward
    kept: str  # after each step
    later: str  # the gradient that the user gives for the last one, for one backward
    earlier: str  # the gradient of `start`, which the user may want


CELL = State("c0", "userPrevCell", "cell", "userNextGradCell", "userGradPrevCell")
OUTPUT = State("h0", "userPrevOutput", "_output", "gradPrevOutput", "userGradPrevOutput")


class Sequence(Remembering, typename=""):
    """The base of the recurrent modules over whole sequences: (time, batch, inputs) -> (time, batch, outputs)

    With `batchfirst`, (batch, time, ...) both.  Each sequence starts from zeros, from the end of the last one
    (`remember`), or from a state (batch, size) that is given before it in a table, like {h0, x}, for which
    gradInput has a gradient then; `userPrevOutput` is used by one forward, `gradPrevOutput` by one backward.
    With `maskzero` the state is zero where the input of a step is, so that another sequence can follow.
    """

    __slots__ = ("later", "passed", "pending")
    # The outputs of the last `compute`, its last cell (if any), and the states of all steps
    passed: tuple[Tensor, tuple[Tensor, ...], Any]
    # Computes the fields `cell` and `gates`, where these are not known yet
    pending: Callable[[], tuple[Tensor, Tensor]] | None
    # What came in the fields for gradients from later sequences, by field
    later: dict[str, Tensor | None]

    parameter_names: tuple[str, ...] = ("weight", "bias")
    scratch = (
        "cell", "gates", "buffer1", "buffer2", "buffer3", "grad_a_buffer", "grad_h0", "grad_c0", "grad_x",
        "_grad_x", "_output", "_hidden", "zeroMask", "_zeroMask", "_maskbyte", "_maskindices",
    )  # fmt: skip
    states: tuple[State, ...] = (OUTPUT,)
    keeps_state = True
    gates_per_output: int
    batchfirst = False
    maskzero = False
    v2: bool | None = None  # whether setZeroMask tells the mask, as in the later fork of rnn
    zeroMask: Any = None
    userPrevOutput: Tensor | None = None
    gradPrevOutput: Tensor | None = None

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        module = super().__new__(cls)
        module.later, module.pending = {}, None
        return module

    def __init__(self, inputs: int, outputs: int, hidden: int, **fields: Any) -> None:
        width = self.gates_per_output * hidden
        super().__init__(
            weight=new_tensor(inputs + outputs, width), bias=new_tensor(width), _remember="neither",
            batchfirst=False, maskzero=False, **fields,
        )  # fmt: skip
        scratch = ("gates", "buffer1", "buffer2", "buffer3", "grad_a_buffer", "grad_x")
        vars(self).update((name, new_tensor()) for name in scratch)
        for state in self.states:
            vars(self).update({state.start: new_tensor(), "grad_" + state.start: new_tensor()})
        self.gradInput = Table(*[vars(self)["grad_" + s.start] for s in self.states], self.grad_x)
        self.reset()

    def sizes(self) -> tuple[int, int, int]:
        """The number of inputs, that of outputs, and that of hidden units, which the gates have."""
        raise NotImplementedError

    def reset(self, stdv: float | None = None) -> Any:
        inputs, outputs, _ = self.sizes()
        self.bias.zero_()
        self.bias[outputs : 2 * outputs] = 1  # those of the forget gate, for most classes
        mersenne.normal_(self.weight, 0, stdv or 1 / math.sqrt(outputs + inputs))
        return self

    # ---- forward and backward

    def prepare(self, input: Any) -> None:
        *given, x = (
            input if isinstance(input, tuple) and 2 <= len(input) <= len(self.states) + 1 else (input,)
        )
        inputs, outputs, hidden = self.sizes()
        expect(x, 3, size=inputs, like=self.weight)
        batch = x.shape[0 if self.batchfirst else 1]
        for state, value in zip(self.states[::-1], [*given[::-1], None, None], strict=False):
            size = outputs if state is OUTPUT else hidden
            before = self._start(state, batch, size) if value is None else value
            expect(before, 2, size=size, like=self.weight)
            if len(before) != batch:
                raise InputError(f"{state.start}: expected a batch of {batch}, got {describe(before)}")
            if value is None:
                vars(self)[state.start] = before
            vars(self)["_return_grad_" + state.start] = value is not None

    def _start(self, state: State, batch: int, size: int) -> Tensor:
        """A part of the state before the first step, where the input does not have it."""
        user, kept = getattr(self, state.user), vars(self).get(state.kept)
        if user is not None:
            return user.clone() if isinstance(user, Tensor) else user  # type: ignore[no-any-return]
        if kept is None or kept.numel() == 0 or vars(self)[state.start].numel() == 0 or not self.hasMemory():
            return self.weight.new_zeros(batch, size)
        return kept[-1].clone()  # type: ignore[no-any-return]

    def trace(self, tape: Tape, input: Any) -> Any:
        if not tape.is_replay:
            self.prepare(input)
        given = input if isinstance(input, tuple) else (input,)
        missing = self.states[: len(self.states) + 1 - len(given)]
        whole = (*[as_leaf(getattr(self, state.start)) for state in missing], *given)
        output = self.compute(whole, *self.operands(tape))
        outputs, ends, states = self.passed
        del self.passed
        if not tape.is_replay:
            self._keep(outputs.data, ends, states)
        if tape.is_recorded:
            time = 1 if self.batchfirst else 0
            later = functools.partial(self._later, tape.sweep)
            output = fused.continued(later, time, output, *ends)
        return tape.record(self, whole, output)

    def timewise(self, sequence: Tensor) -> Tensor:
        """A sequence with time first, or one of that kind as the user has it."""
        return sequence.transpose(0, 1) if self.batchfirst else sequence

    def converted(self, cell: Module) -> list[tuple[Any, Any]]:
        """The parameters and the gradients of this module, beside those of another one."""
        pairs = zip(self.parameters() or (), cell.parameters() or (), strict=True)
        return [(mine, others) for mine, others in pairs if len(mine) == len(self.parameter_names)]

    def mask(self, x: Tensor) -> Tensor | None:
        """Where the input of a step is all zeros, or where setZeroMask says so, if that matters."""
        mask = (x == 0).all(-1, keepdim=True) if self.maskzero else None
        if self.maskzero and self.v2 and self.zeroMask is not None:
            mask = None if self.zeroMask is False else self.zeroMask.bool()[..., None]
            if mask is not None and mask.shape[:2] != x.shape[:2]:
                raise InputError(f"zeroMask: expected a tensor (time, batch), got {describe(self.zeroMask)}")
        return mask if mask is not None and mask.any() else None

    def _keep(self, outputs: Tensor, ends: tuple[Tensor, ...], states: Any) -> None:
        """Set the fields for what was computed, and remove those that were for this forward."""
        self._output, self.later = outputs, {}
        if callable(states):
            self.pending = states
            vars(self)["cell"] = ends[0].data[None]  # enough to go on from
            vars(self)["gates"] = outputs.new_empty(0)
        else:
            self.pending = None
            fields = dict(zip(("cell", "gates"), states, strict=True))
            vars(self).update((name, value.data) for name, value in fields.items() if value is not None)
        for state in self.states:
            vars(self).pop(state.user, None)

    def _later(self, sweep: Sweep) -> list[Tensor | None]:
        """The gradients that the user gave for the output and the cell of the last step, for one backward."""
        given = {state.later: vars(self).pop(state.later, None) for state in self.states}
        if sweep.inputs or any(value is not None for value in given.values()):
            self.later = given  # accGradParameters after updateGradInput is part of the same backward
        return [self.later.get(state.later) for state in self.states[::-1]]

    def complete(self) -> None:
        """Compute the fields that the forward has left for later."""
        pending, self.pending = self.pending, None
        if pending is not None:
            self.cell, self.gates = pending()

    def passed_back(self) -> None:
        *gradients, self.grad_x = self.gradInput
        given = [self.grad_x]
        for state, gradient in zip(self.states[::-1], gradients[::-1], strict=True):
            vars(self).update({"grad_" + state.start: gradient, state.earlier: gradient})
            if vars(self)["_return_grad_" + state.start]:
                given.insert(0, gradient)
        self.gradInput = Table(*given) if len(given) > 1 else self.grad_x

    # ---- state

    def forget(self) -> Any:
        for state in self.states:
            vars(self)[state.start] = self.weight.new_empty(0)
        return self

    def resetStates(self) -> None:
        """Start a new sequence, as `forget` does."""
        self.forget()

    def maskZero(self, nInputDim: int | None = None) -> Any:
        """Set `maskzero`."""
        self.maskzero = True
        return self

    def setZeroMask(self, zeroMask: Any) -> None:
        self.v2, self.zeroMask = True, zeroMask

    def setStartState(self, startState: Any = None) -> None:
        """Start the next sequence from {h0, c0}, or h0 alone."""
        values = Table.from_python(startState)
        values = [*values] if isinstance(values, Table) else [values] * len(self.states)
        for state, value in zip(self.states[::-1], values, strict=True):
            vars(self).pop(state.user, None)
            if value is not None:
                vars(self)[state.user] = value

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        if type is not None:
            self.complete()
        return super().type(type, tensorCache)

    def clearState(self) -> Any:
        self.pending = None
        super().clearState()
        vars(self).pop("gradInput", None)
        return self


def of_all_steps(name: str) -> Any:
    """A field that is computed when it is asked for, see `Sequence.pending`."""

    def get(self: Sequence) -> Any:
        self.complete()
        return vars(self).get(name)

    def set(self: Sequence, value: Any) -> None:
        self.complete()
        vars(self)[name] = value

    return property(get, set)
