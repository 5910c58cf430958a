"""Recurrent modules with a hidden state, which their network of one step takes and gives."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from t7compat.errors import InputError
from t7compat.nested import path_step
from t7compat.nn.shapes import describe, expect_fit, like
from t7compat.nn.tape import as_leaf
from t7compat.rnn.fused import continued
from t7compat.rnn.recurrent import AbstractRecurrent
from t7compat.table import Table

if TYPE_CHECKING:
    from t7compat.rnn.whole import Run, Whole

Tensor = torch.Tensor


def on_demand(name: str) -> Any:
    """A field of a Cell that is not filled right after a run of a whole sequence, see `Cell.settle`."""

    def get(self: Cell) -> Any:
        self.settle(name)
        return vars(self).get(name)

    def set(self: Cell, value: Any) -> None:
        vars(self)[name] = value

    return property(get, set)


class Cell(AbstractRecurrent, typename=""):
    """A recurrent module with a hidden state, whose first part is its output: {x, state} -> state.

    `states` names, for each part of the state, the field that holds it for all steps, that of its gradients,
    and those by which the user replaces what comes before the first step and after the last one.
    """

    states: tuple[tuple[str, str, str, str], ...] = (
        ("outputs", "gradOutputs", "userPrevOutput", "userNextGradOutput"),
    )
    gradOutputs = on_demand("gradOutputs")
    zeroTensor: Any = None
    userPrevOutput: Any = None
    userNextGradOutput: Any = None

    def sizes(self) -> list[Any]:
        """The size of each part of the state, without the batch."""
        return [self.outputSize] * len(self.states)

    def set_zeros(self, input: Any) -> None:
        """Let `zeros` fit an input."""
        raise NotImplementedError

    def zeros(self) -> list[Any]:
        """The parts of the state with which a sequence begins, if nothing else is set."""
        return [self.zeroTensor] * len(self.states)

    def state_after(self, step: int | None, input: Any = None) -> list[Any]:
        """The parts of the state after a step; for step 0, those with which a sequence begins."""
        step = self._resolved(step, self.step)
        if step == 0 and input is not None:
            self.set_zeros(input)
        if step == 0:
            return [
                _first(getattr(self, user), vars(self)[kept][0], zero)
                for (kept, _, user, _), zero in zip(self.states, self.zeros(), strict=True)
            ]
        return [self._kept(kept, step) for kept, *_ in self.states]

    def set_state_after(self, step: int | None, state: list[Any]) -> None:
        """Replace the parts of the state after a step."""
        step = self._resolved(step, self.step)
        for (kept, *_), value in zip(self.states, state, strict=True):
            vars(self)[kept][step] = value

    def gradient_after(self, step: int | None) -> list[Any]:
        """The gradients with respect to the state after a step, as far as they come from later steps."""
        step = self._resolved(step, self.updateGradInputStep or self.step)
        if step == self.step - 1:
            return [_first(given, zero) for given, zero in zip(self._later(step), self.zeros(), strict=True)]
        return [self._kept(kept, step) for _, kept, *_ in self.states]

    def set_gradient_after(self, step: int | None, gradients: list[Any]) -> None:
        """Replace the gradients with respect to the parts of the state after a step."""
        step = self._resolved(step, self.updateGradInputStep or self.step)
        for (_, kept, *_), value in zip(self.states, gradients, strict=True):
            vars(self)[kept][step] = value

    def _kept(self, name: str, step: int) -> Any:
        """What a field holds for a step."""
        if vars(self)[name][step] is None:
            self.settle(name)
        return vars(self)[name][step]

    def _later(self, step: int) -> list[Any]:
        """What was set as gradients with respect to the state after the last step; None for zeros."""
        return [_first(getattr(self, user), vars(self)[kept][step]) for _, kept, _, user in self.states]

    def _resolved(self, step: int | None, current: int) -> int:
        """None is the step before `current`, negative ones count back from there."""
        return current - 1 if step is None else current - step - 1 if step < 0 else step

    # ---- as Lua programs see it: a table of the parts if there are several, else the one

    def getHiddenState(self, step: int | None = None, input: Any = None) -> Any:
        """The state after a step (by default the last one); for 0, what comes before the first."""
        return self._packed(self.state_after(step, input))

    def setHiddenState(self, step: int | None, hiddenState: Any) -> None:
        """Replace the state after a step (0: before the first one)."""
        self.set_state_after(step, self._parts(hiddenState))

    def getGradHiddenState(self, step: int | None = None, input: Any = None) -> Any:
        """The gradient with respect to the state after a step that comes from later steps."""
        return self._packed(self.gradient_after(step))

    def setGradHiddenState(self, step: int | None, gradHiddenState: Any) -> None:
        """Replace the gradient with respect to the state after a step."""
        self.set_gradient_after(step, self._parts(gradHiddenState))

    def setStartState(self, startState: Any = None) -> None:
        parts = [None] * len(self.states) if startState is None else self._parts(startState)
        for (_, _, user, _), value in zip(self.states, parts, strict=True):
            if value is None:
                vars(self).pop(user, None)
            else:
                setattr(self, user, value)

    def _packed(self, parts: list[Any]) -> Any:
        return Table(*parts) if len(self.states) > 1 else parts[0]

    def _parts(self, state: Any) -> list[Any]:
        count, state = len(self.states), Table.from_python(state)
        if count == 1:
            return [state]
        if not isinstance(state, Table) or len(state) < count:
            raise InputError(f"{self}: expected a hidden state of {count} parts, got {describe(state)}")
        return list(state.unpack(1, count))

    # ---- whole sequences

    def unroll(self, whole: Whole, x: Tensor, *state: Tensor) -> tuple[Tensor, Sequence[Tensor], Any]:
        """The outputs of all steps, the other parts of the state after the last one, and for all steps.

        x and the outputs are (time, batch, ...), the parts of the state (batch, ...).  The last of the three
        may be a function that gives it.
        """
        raise NotImplementedError

    def run_whole(self, whole: Whole, input: Any) -> Any:
        state = [as_leaf(part) for part in self.state_after(self.step - 1, whole.at(input, 0).data)]
        x = whole.timed(input)
        size = (*([] if whole.batch is None else [whole.batch]), self.outputSize)
        for part in state:
            expect_same(part, size, x)
        output, ends, states = self.unroll(whole, x, *[part.view(x.shape[1], -1) for part in state])
        if whole.is_recorded:
            cell, last = weakref.ref(self), self.step + whole.length - 1  # the graph must not hold the cell
            output = continued(lambda: cell()._later(last), 0, output, *ends)  # type: ignore[union-attr]
        if whole.batch is None:
            ends = [end[0] for end in ends]
        return whole.note(self, (input, *state), output.flatten(0, 1), ends, states)

    def take_whole(self, whole: Whole, run: Run) -> None:
        super().take_whole(whole, run)
        for (kept, *_), end in zip(self.states[1:], run.ends, strict=True):
            for step in range(run.start, self.step - 1):
                vars(self)[kept][step] = None
            vars(self)[kept][self.step - 1] = end.data
        if not callable(run.states):
            self._take_states(whole, run.start, run.states)

    def settle(self, name: str) -> None:
        """Fill a field for the steps of the last sequence, if that has been left for later."""
        whole = self.whole
        if whole is not None and name in [kept for kept, *_ in self.states]:
            run = whole.run_of(self)
            self._take_states(whole, run.start, run.states() if callable(run.states) else run.states)
        else:
            self.step_through()

    def _take_states(self, whole: Whole, start: int, states: tuple[Tensor, ...]) -> None:
        for (kept, *_), part in zip(self.states[1:], states, strict=True):
            for step, value in enumerate((part[:, 0] if whole.batch is None else part).detach(), start):
                if step < start + whole.length - 1:
                    vars(self)[kept][step] = value

    def take_back(self, whole: Whole, run: Run, gradInput: Any) -> None:
        super().take_back(whole, run, gradInput)
        self.set_gradient_after(run.start - 1, list(gradInput)[1:])

    def input_of(self, input: Any) -> Any:
        return next(iter(input))

    # ---- forward and backward

    def updateOutput(self, input: Any) -> Any:
        result = self.run_step(input, *self.state_after(self.step - 1, input))
        state = [result] if len(self.states) == 1 else list(result)
        self.set_state_after(self.step, state)
        return self.end_step(state[0])

    def back_through_step(self, step: int, gradOutput: Any, **sweep: Any) -> Any:
        tape = self.pass_of(step)
        later, *others = self.gradient_after(step)
        if sweep.get("inputs", True):
            self._gradOutputs[step] = added(gradOutput, later)
        total = self._gradOutputs[step]
        gradients = tape.backward(Table(total, *others) if others else total, **sweep)
        if gradients is None:
            return None
        gradInput, *before = gradients
        self.set_gradient_after(step - 1, before)
        return gradInput


def expect_same(part: Any, size: tuple[int, ...], x: Tensor) -> None:
    """Raise InputError unless a part of the state is of a size, and of the type of the input."""
    if not isinstance(part, Tensor) or part.shape != size or part.dtype != x.dtype:
        raise InputError(f"expected a state of size {'x'.join(map(str, size))}, got {describe(part)}")


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def added(gradOutput: Any, later: Any, name: str = "gradOutput") -> Any:
    """The gradient given for a step and that from later steps, added."""
    if isinstance(later, Tensor):
        expect_fit(name, gradOutput, later)
        return like(gradOutput, later) + later
    parts = Table.from_python(gradOutput)
    if not isinstance(parts, Table):
        raise InputError(f"{name}: expected {describe(later)}, got {describe(gradOutput)}")
    return Table.from_items(
        (key, added(parts[key], value, name + path_step(key))) for key, value in later.items()
    )
