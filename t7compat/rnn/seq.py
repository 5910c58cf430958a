"""Recurrent modules over whole sequences in one call: SeqLSTM and its kin."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.containers import ConcatTable, Decorator, Sequential
from t7compat.nn.module import Module
from t7compat.nn.shapes import axis, describe, expect, expect_fit, like
from t7compat.nn.shaping import Transpose
from t7compat.nn.tables import CAddTable
from t7compat.nn.tape import Sweep, Tape, as_leaf
from t7compat.rnn import fused
from t7compat.rnn.cells import GRU, FastLSTM
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
            if value is None:
                value = self._start(state, batch, size)
                vars(self)[state.start] = value
            expect(value, 2, size=size, like=self.weight)
            if len(value) != batch:
                raise InputError(f"{state.start}: expected a batch of {batch}, got {describe(value)}")
            vars(self)["_return_grad_" + state.start] = state in self.states[len(self.states) - len(given) :]

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
            output = _Continued.apply(weakref.ref(self), tape.sweep, time, output, *ends)  # type: ignore[no-untyped-call]
        return tape.record(self, whole, output)

    def timewise(self, sequence: Tensor) -> Tensor:
        """A sequence with time first, or one of that kind as the user has it."""
        return sequence.transpose(0, 1) if self.batchfirst else sequence

    def converted(self, cell: Module) -> list[tuple[Any, Any]]:
        """The parameters and the gradients of this module, beside those of another one."""
        pairs = zip(self.parameters() or (), cell.parameters() or (), strict=True)
        return [(mine, others) for mine, others in pairs if len(mine) == len(self.parameter_names)]

    def mask(self, x: Tensor) -> Tensor | None:
        """Where the input of a step is all zeros, if that matters."""
        mask = (x == 0).all(-1, keepdim=True) if self.maskzero else None
        return mask if mask is not None and mask.any() else None

    def _keep(self, outputs: Tensor, ends: tuple[Tensor, ...], states: Any) -> None:
        """Set the fields for what was computed, and remove those that were for this forward."""
        self._output, self.later = outputs, {}
        if callable(states):
            self.pending = states
            vars(self)["cell"] = ends[0].data[None]  # enough to go on from
        else:
            self.pending = None
            fields = dict(zip(("cell", "gates"), states, strict=True))
            vars(self).update((name, value.data) for name, value in fields.items() if value is not None)
        for state in self.states:
            vars(self).pop(state.user, None)

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

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        if type is not None:
            self.complete()
        return super().type(type, tensorCache)

    def clearState(self) -> Any:
        self.pending = None
        super().clearState()
        vars(self).pop("gradInput", None)
        return self


class _Continued(torch.autograd.Function):
    """The output of a sequence; its gradient, and that of the last cell, get what comes from later sequences.

    The module is given as a weak reference: it holds the graph that holds this.
    """

    @staticmethod
    def forward(
        ctx: Any, module: Callable[[], Sequence], sweep: Sweep, time: int, output: Tensor, *ends: Tensor
    ) -> Tensor:
        ctx.module, ctx.sweep, ctx.time = module, sweep, time
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        module = ctx.module()
        given = {state.later: vars(module).pop(state.later, None) for state in module.states}
        if ctx.sweep.inputs or any(value is not None for value in given.values()):
            module.later = given  # accGradParameters after updateGradInput is part of the same backward
        *of_ends, of_output = (module.later.get(state.later) for state in module.states)
        if of_output is not None:
            gradient = gradient.clone()
            last = gradient.select(ctx.time, -1)
            expect_fit("gradPrevOutput", of_output, last)
            last += like(of_output, last)
        return None, None, None, gradient, *of_ends


def _of_all_steps(name: str) -> Any:
    """A field that is computed when it is asked for, see `Sequence.pending`."""

    def get(self: Sequence) -> Any:
        self.complete()
        return vars(self).get(name)

    def set(self: Sequence, value: Any) -> None:
        self.complete()
        vars(self)[name] = value

    return property(get, set)


class SeqLSTM(Sequence):
    """Long short-term memory without peepholes.  (time, batch, inputsize) -> (time, batch, outputsize)

    i, f, o, g = W x + U h + b, of which g through tanh, the others through the sigmoid
    c' = f * c + i * g        h' = o * tanh(c')

    W, on top of U, is transposed in `weight`.  Also {h0, x} and {c0, h0, x}, in this order; see Sequence for
    more.  `cell` has the cells of all steps (in a file the last one at least), `userNextGradCell` is used by
    one backward.
    """

    states = (CELL, OUTPUT)
    gates_per_output = 4
    userPrevCell: Tensor | None = None
    userNextGradCell: Tensor | None = None
    cell = _of_all_steps("cell")
    gates = _of_all_steps("gates")

    def __init__(self, inputsize: int, hiddensize: int, outputsize: int | None = None, **fields: Any) -> None:
        outputsize = outputsize or hiddensize
        vars(self).update(inputsize=inputsize, hiddensize=hiddensize, outputsize=outputsize)
        super().__init__(inputsize, outputsize, hiddensize, cell=new_tensor(), **fields)

    def sizes(self) -> tuple[int, int, int]:
        return self.inputsize, self.outputsize, self.hiddensize

    def compute(
        self, input: tuple[Tensor, ...], weight: Tensor, bias: Tensor, project: Tensor | None = None
    ) -> Tensor:
        """The output for {c0, h0, x}."""
        c, h, x = input
        x = self.timewise(x)
        output, last, states = fused.lstm(x, h, c, weight, bias, project, self.mask(x))
        self.passed = output, (last,), states
        return self.timewise(output)

    def toFastLSTM(self) -> FastLSTM:
        """A FastLSTM, for single steps, with copies of the parameters and gradients."""
        cell = FastLSTM(self.inputsize, self.outputsize)
        for (weight, bias), (of_x, offset, of_h) in self.converted(cell):
            (i, f, o, g), (bi, bf, bo, bg) = weight.t().chunk(4), bias.chunk(4)
            rows = torch.cat((i, g, f, o))
            of_x.copy_(rows[:, : self.inputsize])
            of_h.copy_(rows[:, self.inputsize :])
            offset.copy_(torch.cat((bi, bg, bf, bo)))
        return cell

    def upgrade(self, version: int) -> None:
        """Older files are of the time before projections."""
        vars(self).setdefault("hiddensize", self.outputsize)


class SeqLSTMP(SeqLSTM):
    """SeqLSTM with a projection of each output, h' = P (o * tanh(c')), P being `weightO` transposed.

    The cell has `hiddensize` elements.  Sak et al., 2014.
    """

    parameter_names = dpnn_parameters = ("weight", "bias", "weightO")
    dpnn_gradParameters = ("gradWeight", "gradBias", "gradWeightO")

    def __init__(self, inputsize: int, hiddensize: int, outputsize: int) -> None:
        super().__init__(inputsize, hiddensize, outputsize, weightO=new_tensor(hiddensize, outputsize))

    def reset(self, stdv: float | None = None) -> Any:
        inputs, outputs, hidden = self.sizes()
        super().reset(stdv or 1 / math.sqrt(hidden + inputs))
        mersenne.normal_(self.weightO, 0, stdv or 1 / math.sqrt(outputs + hidden))
        return self

    def toFastLSTM(self) -> FastLSTM:
        raise InputError(f"{self.__typename__}.toFastLSTM: a FastLSTM has no projection")


class SeqGRU(Sequence):
    """Gated recurrent unit.  (time, batch, inputSize) -> (time, batch, outputSize), also {h0, x}

        r, z = sigmoid(W x + U h + b)     g = tanh(W x + U (r * h) + b)     h' = (1 - z) * g + z * h

    Unlike in torch.nn.GRU, r acts before the product.  See Sequence for more.
    """

    gates_per_output = 3

    def __init__(self, inputSize: int, outputSize: int) -> None:
        vars(self).update(inputSize=inputSize, outputSize=outputSize)
        super().__init__(inputSize, outputSize, outputSize, seqLength=1, miniBatch=1)

    def sizes(self) -> tuple[int, int, int]:
        return self.inputSize, self.outputSize, self.outputSize

    def compute(self, input: tuple[Tensor, ...], weight: Tensor, bias: Tensor) -> Tensor:
        """The output for {h0, x}."""
        h, x = input
        x = self.timewise(x)
        output, gates = fused.gru(x, h, weight, bias, self.mask(x))
        self.passed = output, (), (None, gates)
        return self.timewise(output)

    def toGRU(self) -> GRU:
        """A GRU, for single steps, with copies of the parameters and gradients."""
        cell, outputs = GRU(self.inputSize, self.outputSize), self.outputSize
        for (weight, bias), (x_rz, offset_rz, h_rz, x_g, offset_g, h_g) in self.converted(cell):
            of_x, of_h = weight.t().split((self.inputSize, outputs), 1)
            for sources, targets in ((of_x, (x_rz, x_g)), (of_h, (h_rz, h_g)), (bias, (offset_rz, offset_g))):
                for source, target in zip(sources.split((2 * outputs, outputs)), targets, strict=True):
                    target.copy_(source)
        return cell


class SeqReverseSequence(Module):
    """The elements in reverse order along dimension `dim`: 1, 2 or 3.  Same shape out."""

    scratch = ("outputIndices", "gradIndices")

    def __init__(self, dim: int) -> None:
        if dim not in (1, 2, 3):
            raise InputError(f"{self.__typename__}: expected a dimension from 1 to 3, got {dim}")
        super().__init__(dim=dim)

    def compute(self, input: Tensor) -> Tensor:
        return input.flip(axis(self.dim, input.dim()))

    def prepare(self, input: Any) -> None:
        expect(input, like=self.output)

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        if type is not None:
            for name in self.scratch:
                vars(self).pop(name, None)
        return super().type(type, tensorCache)


class SeqBRNN(Decorator):
    """A SeqLSTM over the sequence and one over its reverse, merged by a module.

    (time, batch, inputs) -> (time, batch, outputs), or (`batchFirst`) (batch, time, ...) both.  `merge` takes
    the table of both outputs; without one they are added.  Schuster and Paliwal, 1997.
    """

    def __init__(
        self, inputDim: int, hiddenDim: int, batchFirst: bool | None = None, merge: Module | None = None
    ) -> None:
        forward, backward = SeqLSTM(inputDim, hiddenDim), SeqLSTM(inputDim, hiddenDim)
        merge = merge or CAddTable()
        reverse = Sequential().add(SeqReverseSequence(1)).add(backward).add(SeqReverseSequence(1))
        network = Sequential().add(ConcatTable().add(forward).add(reverse)).add(merge)
        if batchFirst:
            network.insert(Transpose((1, 2)), 1)
            network.insert(Transpose((1, 2)))
        super().__init__(network)
        fields = {"forwardModule": forward, "backwardModule": backward, "merge": merge, "module": network}
        vars(self).update(fields, dim=1)
