"""Modules that remember: each forward is a step of a sequence, backward goes through them in reverse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from t7compat.errors import InputError
from t7compat.nn.containers import Container, Decorator
from t7compat.nn.luaobject import clear
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe
from t7compat.nn.stepping import PROTOCOL
from t7compat.nn.tape import Tape
from t7compat.rnn.masking import MaskZero, TrimZero, is_number
from t7compat.table import Table

if TYPE_CHECKING:
    from t7compat.rnn.whole import Run, Whole


class AbstractRecurrent(Container):
    """The base of recurrent modules: `recurrentModule`, run once for each time step.

    After forward for the steps 1..T, backward is called for T, T-1, ... (as far back as wanted); `forget()`
    starts a new sequence.  `outputs[t]` is that of step t, `step` is the number of the next one.  Only in
    training mode are the steps kept for backward, at most `rho` of them.
    """

    __slots__ = ("tapes", "whole")
    tapes: dict[int, Tape]
    whole: Whole | None  # the last sequence that was run as a whole, as long as no step of it has a tape

    dpnn_stepclone = True
    recurrentModule: Any = None
    updateGradInputStep: int | None = None
    accGradParametersStep: int | None = None
    nSharedClone: int | None = None
    inputSize: Any = None
    outputSize: Any = None
    # Which samples of each step are no part of a sequence, and the number of the last step of it that was run
    zeroMask: Any = None
    zeroMaskStep = 0

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

    def take_step_module(self, module: Module) -> None:
        """Let a module be the one that is run for each step."""
        self.recurrentModule = self.modules[1] = module
        self.sharedClones = Table(module)

    def upgrade(self, version: int) -> None:
        """The later fork of rnn has `modules[1]` only, and says seqlen for rho."""
        fields = vars(self)
        if "seqlen" in fields:
            self.rho = fields.pop("seqlen")
            self.recurrentModule = self.modules[1]

    # ---- one step

    def getStepModule(self, step: int) -> Module:
        """The module of a time step: a clone with shared parameters, or the recurrentModule itself."""
        if step < self.step:
            self.step_through()
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
        if self.train is not False:
            self.recycle()
            module = module or self.getStepModule(self.step)
        module = module or self.recurrentModule
        if isinstance(self.zeroMask, torch.Tensor):
            self._mask_next_step(module)
        if self.train is False:
            return module.updateOutput(given)
        tape = self.tapes[self.step] = Tape(module, given, as_child=True)
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
            self.step_through()
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

    # ---- whole sequences, see whole.py

    def whole_parts(self) -> list[Any] | None:
        own = vars(self).keys().isdisjoint((*PROTOCOL, "dpnn_profile"))
        inner = self.inner_parts() if own and not isinstance(self.zeroMask, torch.Tensor) else None
        return None if inner is None else [self, *inner]

    def inner_parts(self) -> list[Any] | None:
        """What the modules inside add to `whole_parts`; None if there is no `run_whole` for them."""
        return None

    def run_whole(self, whole: Whole, input: Any) -> Any:
        """The output for the steps of a sequence, which are one batch, in the graph of `whole`."""
        raise NotImplementedError

    def take_whole(self, whole: Whole, run: Run) -> None:
        """Set the fields for the steps of a sequence that was run as a whole."""
        self.let_go(run.start - 2)
        for self.step, output in enumerate(whole.steps(run.output), run.start):
            self.outputs[self.step] = output
        self.whole = whole
        self.end_step(self.outputs[self.step])

    def take_back(self, whole: Whole, run: Run, gradInput: Any) -> None:
        """Set the fields for the gradients that went back through such a sequence."""
        for t, gradient in enumerate(whole.steps(self.input_of(gradInput)), run.start):
            self.gradInputs[t] = gradient
        self.gradInput = self.gradInputs[run.start]

    def input_of(self, input: Any) -> Any:
        """The input, where states may come with it."""
        return input

    def step_through(self) -> None:
        """Run the last sequence step by step after all, for what only that leaves."""
        if self.whole is not None:
            self.whole.step_through()

    def let_go(self, start: float) -> None:
        """Forget the steps before `start`."""
        names = ("outputs", "gradInputs", "gradOutputs", "_gradOutputs", "cells", "gradCells")
        for table in (self.tapes, *[vars(self).get(name) or {} for name in names]):
            for step in [step for step in table.keys() if step < start]:  # noqa: SIM118
                del table[step]

    # ---- sequences

    def recycle(self) -> None:
        """Let go of what lies more than `rho` steps back; its clone serves the next step."""
        self.nSharedClone = self.nSharedClone or len(self.sharedClones.values())
        old = self.step - max(self.rho + 1, self.nSharedClone)
        if self.sharedClones[self.step] is None:
            for table in (self.sharedClones, self._gradOutputs):
                table[self.step], table[old] = table[old], None
        self.tapes.pop(old - 1, None)
        for table in (self.outputs, self.gradInputs):
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
        self.step, self.whole = 1, None
        return self

    def maxBPTTstep(self, rho: int) -> None:
        self.rho = rho

    def setOutputStep(self, step: int) -> None:
        self.output, self.gradInput = self.outputs[step], self.gradInputs[step]
        if self.output is None:
            raise InputError(f"{self}: no output for step {step}")

    # ---- steps that are no part of a sequence

    def maskZero(self, nInputDim: Any = None) -> Any:
        """Zero the state and output of the samples whose input is all zeros (see MaskZero).

        Without a number, in the later fork's way: of those that `setZeroMask` tells.
        """
        if is_number(nInputDim):
            self.take_step_module(MaskZero(self.recurrentModule, nInputDim, True))
        elif not vars(self).get("maskzero"):
            self.maskzero = True
            self.take_step_module(MaskZero(self.recurrentModule, nInputDim))
        return self

    def trimZero(self, nInputDim: int) -> Any:
        """As maskZero, but run only the other samples (see TrimZero)."""
        if vars(self).get("p") and vars(self).get("mono") is False:
            raise InputError(f"{self}.trimZero: expected `mono`, for masks that fit any number of samples")
        self.take_step_module(TrimZero(self.recurrentModule, nInputDim, True))
        return self

    def setZeroMask(self, zeroMask: Any) -> None:
        if zeroMask is False:
            self.zeroMask = False
            for module in self.stepping_modules():
                module.setZeroMask(False)
        elif isinstance(self.recurrentModule, AbstractRecurrent):
            self.recurrentModule.setZeroMask(zeroMask)
        elif not isinstance(zeroMask, torch.Tensor) or zeroMask.dim() < 2:
            raise InputError(f"{self}.setZeroMask: expected a tensor (time, batch), got {describe(zeroMask)}")
        else:
            self.zeroMask, self.zeroMaskStep = zeroMask, 0

    def _mask_next_step(self, module: Module) -> None:
        if self.zeroMaskStep >= len(self.zeroMask):
            raise InputError(f"{self}: expected as many steps as zeroMask has, {len(self.zeroMask)}")
        module.setZeroMask(self.zeroMask[self.zeroMaskStep])
        self.zeroMaskStep += 1

    # ---- states

    def reinforce(self, reward: Any) -> None:
        """Tell the stochastic modules inside their reward: one for all steps, or for each of the last ones.

        The latter are a table, or a tensor whose first dimension is time.
        """
        rewards = Table.from_python(reward)
        if not (isinstance(rewards, Table) or (isinstance(rewards, torch.Tensor) and rewards.dim() > 1)):
            for module in self.stepping_modules():
                module.reinforce(reward)
            return
        if len(rewards) >= self.step:
            raise InputError(
                f"{self}.reinforce: expected at most {self.step - 1} rewards, got {len(rewards)}"
            )
        for step, of_step in enumerate(rewards, self.step - len(rewards)):
            self.getStepModule(step).reinforce(of_step)

    def getHiddenState(self, step: int | None = None, input: Any = None) -> Any:
        raise InputError(f"{self.__typename__} has no getHiddenState")

    def setHiddenState(self, step: int | None, hiddenState: Any) -> None:
        raise InputError(f"{self.__typename__} has no setHiddenState")

    def getGradHiddenState(self, step: int | None = None) -> Any:
        raise InputError(f"{self.__typename__} has no getGradHiddenState")

    def setGradHiddenState(self, step: int | None, gradHiddenState: Any) -> None:
        raise InputError(f"{self.__typename__} has no setGradHiddenState")

    def setStartState(self, startState: Any = None) -> None:
        raise InputError(f"{self.__typename__} has no setStartState")

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
        self.tapes, self.whole = {}, None

    def __str__(self) -> str:
        if self.inputSize and self.outputSize:
            return f"{self.__typename__}({self.inputSize} -> {self.outputSize})"
        return super().__str__()


def _compacted(table: Table) -> Table:
    """The values in the order of their keys, numbered from 1."""
    return Table(*[table[key] for key in sorted(table.keys())])


class Recursor(AbstractRecurrent):
    """Makes a module one of time steps, with the recurrent modules inside it in step."""

    __str__ = Decorator.__str__

    def __init__(self, module: Module, rho: int | None = None) -> None:
        super().__init__(rho or 9999999)
        self.module = module
        self.take_step_module(module)

    def updateOutput(self, input: Any) -> Any:
        return self.end_step(self.run_step(input))

    def back_through_step(self, step: int, gradOutput: Any, **sweep: Any) -> Any:
        tape = self.pass_of(step)
        if not sweep.get("inputs", True):
            tape.module.setOutputStep(step)  # the modules inside pass back the gradInput of this step
        return tape.backward(gradOutput, **sweep)

    def inner_parts(self) -> list[Any] | None:
        return self.recurrentModule.whole_parts() if type(self) is Recursor else None

    def run_whole(self, whole: Whole, input: Any) -> Any:
        return whole.note(self, input, whole.call(self.recurrentModule, input, False))

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

    def setStartState(self, startState: Any = None) -> None:
        self.modules[1].setStartState(startState)

    def upgrade(self, version: int) -> None:
        """In the later fork the module is in `modules` only."""
        super().upgrade(version)
        vars(self).setdefault("module", self.modules[1])
