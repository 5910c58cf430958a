"""Modules that remember: each forward is a step of a sequence, backward goes through them in reverse."""

from __future__ import annotations

from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nested import path_step
from t7compat.nn.containers import Container, Decorator
from t7compat.nn.module import Module, clear
from t7compat.nn.shapes import describe, expect_fit, like
from t7compat.nn.tape import Tape
from t7compat.rnn.masking import MaskZero, TrimZero
from t7compat.table import Table

Tensor = torch.Tensor


class AbstractRecurrent(Container):
    """The base of recurrent modules: `recurrentModule`, run once for each time step.

    After forward for the steps 1..T, backward is called for T, T-1, ... (as far back as wanted); `forget()`
    starts a new sequence.  `outputs[t]` and `inputs[t]` are those of step t, `step` is the number of the next
    one.  Only in training mode are the steps kept for backward, at most `rho` of them.
    """

    __slots__ = ("inputs", "tapes")
    inputs: Table
    tapes: dict[int, Tape]

    dpnn_stepclone = True
    recurrentModule: Any = None
    updateGradInputStep: int | None = None
    accGradParametersStep: int | None = None
    nSharedClone: int | None = None
    inputSize: Any = None
    outputSize: Any = None

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        module = super().__new__(cls)
        module._drop_passes()
        return module

    def __init__(self, rho: int | None = None) -> None:
        super().__init__(rho=rho or 99999, step=1)
        self.outputs, self.gradInputs, self.gradOutputs, self._gradOutputs = (
            Table(),
            Table(),
            Table(),
            Table(),
        )
        self.sharedClones = Table()

    # ---- one step

    def getStepModule(self, step: int) -> Module:
        """The module of a time step: a clone with shared parameters, or the recurrentModule itself."""
        module = self.sharedClones[step]
        if module is None:
            module = self.recurrentModule.stepClone()
            if module is not self.recurrentModule:
                self.sharedClones[step] = module
                self.nSharedClone = len(self.sharedClones.values())
        return module

    def run_step(self, input: Any, *state: Any, module: Module | None = None) -> Any:
        """The output of the recurrentModule (or another module) for the next step."""
        given = Table(input, *state) if state else input
        self.inputs[self.step] = input
        if self.train is False:
            return (module or self.recurrentModule).updateOutput(given)
        self.recycle()
        tape = self.tapes[self.step] = Tape(module or self.getStepModule(self.step), given, as_child=True)
        return tape.result

    def end_step(self, output: Any) -> Any:
        """Note the output of the step and go on to the next one."""
        self.outputs[self.step] = self.output = output
        self.step += 1
        for counter in ("gradPrevOutput", "updateGradInputStep", "accGradParametersStep"):
            vars(self).pop(counter, None)
        return output

    def back_through_step(self, step: int, gradOutput: Any, **sweep: Any) -> Any:
        """The gradient with respect to the input of a step; `sweep` are the options of `Tape.backward`."""
        raise NotImplementedError

    def pass_of(self, step: int) -> Tape:
        """The recorded forward pass of a step."""
        if step not in self.tapes:
            raise InputError(
                f"{self}: expected a forward in training mode before backward; none is kept for step {step}"
            )
        return self.tapes[step]

    def backward(self, input: Any, gradOutput: Any, scale: float = 1) -> Any:
        step = self._previous_step("updateGradInputStep")
        self._previous_step("accGradParametersStep")
        self.gradInput = self.gradInputs[step] = self.back_through_step(step, gradOutput, scale=scale)
        return self.gradInput

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        step = self._previous_step("updateGradInputStep")
        self.gradInput = self.gradInputs[step] = self.back_through_step(step, gradOutput, parameters=False)
        return self.gradInput

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        if self.updateGradInputStep is None:
            raise InputError(f"{self}: missing updateGradInput before accGradParameters")
        step = self._previous_step("accGradParametersStep")
        self.back_through_step(step, gradOutput, inputs=False, scale=scale)

    def _previous_step(self, counter: str) -> int:
        step: int = (getattr(self, counter) or self.step) - 1
        setattr(self, counter, step)
        return step

    # ---- sequences

    def recycle(self) -> None:
        """Let go of what lies more than `rho` steps back; its clone serves the next step."""
        self.nSharedClone = self.nSharedClone or len(self.sharedClones.values())
        old = self.step - max(self.rho + 1, self.nSharedClone)
        if self.sharedClones[self.step] is None:
            for table in (self.sharedClones, self._gradOutputs):
                table[self.step], table[old] = table[old], None
        self.tapes.pop(old - 1, None)
        for table in (self.outputs, self.gradInputs, self.inputs):
            table[old - 1] = None

    def forget(self) -> Any:
        super().forget()
        if self.train is not False:
            self.outputs, self.gradInputs, self.gradOutputs = Table(), Table(), Table()
            self.sharedClones, self._gradOutputs = (
                _compacted(self.sharedClones),
                _compacted(self._gradOutputs),
            )
            if "cells" in vars(self):
                self.cells, self.gradCells = Table(), Table()
            self._drop_passes()
        self.step = 1
        return self

    def maxBPTTstep(self, rho: int) -> None:
        self.rho = rho

    def setOutputStep(self, step: int) -> None:
        self.output, self.gradInput = self.outputs[step], self.gradInputs[step]
        if self.output is None:
            raise InputError(f"{self}: no output for step {step}")

    def maskZero(self, nInputDim: int) -> Any:
        """Zero the state and output of the samples whose input is all zeros (see MaskZero)."""
        return self._decorate(MaskZero(self.recurrentModule, nInputDim, True))

    def trimZero(self, nInputDim: int) -> Any:
        """As maskZero, but run only the other samples (see TrimZero)."""
        return self._decorate(TrimZero(self.recurrentModule, nInputDim, True))

    def _decorate(self, module: Module) -> Any:
        self.recurrentModule = self.modules[1] = module
        self.sharedClones = Table(module)
        return self

    def getHiddenState(self, step: int | None = None, input: Any = None) -> Any:
        raise InputError(f"{self.__typename__} has no getHiddenState")

    def setHiddenState(self, step: int | None, hiddenState: Any) -> None:
        raise InputError(f"{self.__typename__} has no setHiddenState")

    def getGradHiddenState(self, step: int | None = None) -> Any:
        raise InputError(f"{self.__typename__} has no getGradHiddenState")

    def setGradHiddenState(self, step: int | None, gradHiddenState: Any) -> None:
        raise InputError(f"{self.__typename__} has no setGradHiddenState")

    # ---- state

    def training(self) -> None:
        self._with_clones("training")
        self.train = True

    def evaluate(self) -> None:
        self._with_clones("evaluate")
        self.train = False

    def _with_clones(self, method: str) -> None:
        for module in self.stepping_modules():
            getattr(module, method)()

    def stepping_modules(self) -> list[Module]:
        """The children and their clones for the time steps."""
        return [*self.modules, *self.sharedClones.values()]

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        if type is not None:
            self._drop_passes()
        return super().type(type, tensorCache)

    def clearState(self) -> Any:
        self.forget()
        clear(self, "outputs", "cells", "gradOutputs", "gradCells", "gradInputs", "gradPrevOutput")
        clear(self, "cell", "_input", "_gradOutput", "_gradOutputs")
        for module in (*self.sharedClones.values(), self.recurrentModule):
            module.clearState()
        return super().clearState()

    def _drop_passes(self) -> None:
        self.tapes, self.inputs = {}, Table()

    def __str__(self) -> str:
        if self.inputSize and self.outputSize:
            return f"{self.__typename__}({self.inputSize} -> {self.outputSize})"
        return super().__str__()


def _compacted(table: Table) -> Table:
    """The values in the order of their keys, numbered from 1."""
    return Table(*[table[key] for key in sorted(table.keys())])


class Cell(AbstractRecurrent, typename=""):
    """A recurrent module with a hidden state, whose first part is its output: {x, state} -> state.

    `states` names, for each part of the state, the field that holds it for all steps, that of its gradients,
    and those by which the user replaces what comes before the first step and after the last one.
    """

    states: tuple[tuple[str, str, str, str], ...] = (
        ("outputs", "gradOutputs", "userPrevOutput", "userNextGradOutput"),
    )
    zeroTensor: Any = None
    userPrevOutput: Any = None
    userNextGradOutput: Any = None

    def initial_state(self, input: Any) -> Any:
        """What each part of the state is before the first step: zeros."""
        raise NotImplementedError

    def state_after(self, step: int | None, input: Any = None) -> list[Any]:
        """The parts of the state after a step; for step 0, those with which a sequence begins.

        These are zeros to fit `input`, if nothing else is set.
        """
        step = self._resolved(step, self.step)
        if step == 0 and input is not None:
            self.zeroTensor = self.initial_state(input)
        if step == 0:
            return [
                _first(getattr(self, user), getattr(self, kept)[0], self.zeroTensor)
                for kept, _, user, _ in self.states
            ]
        return [getattr(self, kept)[step] for kept, *_ in self.states]

    def set_state_after(self, step: int | None, state: list[Any]) -> None:
        """Replace the parts of the state after a step."""
        step = self._resolved(step, self.step)
        for (kept, *_), value in zip(self.states, state, strict=True):
            getattr(self, kept)[step] = value

    def gradient_after(self, step: int | None) -> list[Any]:
        """The gradients with respect to the state after a step, as far as they come from later steps."""
        step = self._resolved(step, self.updateGradInputStep or self.step)
        if step == self.step - 1:
            return [
                _first(getattr(self, user), getattr(self, kept)[step], self.zeroTensor)
                for _, kept, _, user in self.states
            ]
        return [getattr(self, kept)[step] for _, kept, *_ in self.states]

    def set_gradient_after(self, step: int | None, gradients: list[Any]) -> None:
        """Replace the gradients with respect to the parts of the state after a step."""
        step = self._resolved(step, self.updateGradInputStep or self.step)
        for (_, kept, *_), value in zip(self.states, gradients, strict=True):
            getattr(self, kept)[step] = value

    def _resolved(self, step: int | None, current: int) -> int:
        """None is the step before `current`, negative ones count back from there."""
        return current - 1 if step is None else current - step - 1 if step < 0 else step

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


class Recursor(AbstractRecurrent):
    """Makes a module one of time steps, with the recurrent modules inside it in step."""

    __str__ = Decorator.__str__

    def __init__(self, module: Module, rho: int | None = None) -> None:
        super().__init__(rho or 9999999)
        self.recurrentModule = self.module = module
        self.modules, self.sharedClones = Table(module), Table(module)

    def updateOutput(self, input: Any) -> Any:
        return self.end_step(self.run_step(input))

    def back_through_step(self, step: int, gradOutput: Any, **sweep: Any) -> Any:
        return self.pass_of(step).backward(gradOutput, **sweep)

    def maxBPTTstep(self, rho: int) -> None:
        super().maxBPTTstep(rho)
        Module.maxBPTTstep(self, rho)

    def getHiddenState(self, step: int | None = None, input: Any = None) -> Any:
        return self.modules[1].getHiddenState(step, input)

    def setHiddenState(self, step: int | None, hiddenState: Any) -> None:
        self.modules[1].setHiddenState(step, hiddenState)

    def getGradHiddenState(self, step: int | None = None) -> Any:
        return self.modules[1].getGradHiddenState(step)

    def setGradHiddenState(self, step: int | None, gradHiddenState: Any) -> None:
        self.modules[1].setGradHiddenState(step, gradHiddenState)
