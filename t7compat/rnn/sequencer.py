"""Whole sequences: a module applied to each step of one."""

from __future__ import annotations

from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.containers import Container, Decorator
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe
from t7compat.rnn.recurrent import AbstractRecurrent, Recursor
from t7compat.rnn.whole import Whole, in_one_graph
from t7compat.table import Table

Tensor = torch.Tensor


class Remembering(Module, typename=""):
    """A module over sequences whose memory may go on from one forward to the next."""

    _remember: str | None = None

    def remember(self, remember: str | None = None) -> Any:
        """Let the memory go on from one forward to the next: "both" (when nothing is given), "train", "eval",
        "neither".
        """
        choices = ("both", "eval", "train", "neither")
        if remember is not None and remember not in choices:
            raise InputError(
                f"{self.__typename__}.remember: expected one of {', '.join(choices)}, got {remember!r}"
            )
        self._remember = remember or "both"
        return self

    def hasMemory(self) -> bool:
        """Whether the memory goes on in the present mode."""
        return self._remember in ("both", "eval" if self.train is False else "train")

    def training(self) -> None:
        if self.train is False:
            self.forget()
        super().training()

    def evaluate(self) -> None:
        if self.train is not False:
            self.forget()
        super().evaluate()


class AbstractSequencer(Remembering, Container):
    """The base of modules that take a whole sequence at each forward."""

    def maxBPTTstep(self, rho: int) -> None:
        """Do nothing: the length of the sequence decides."""

    def sharedClone(
        self, shareParams: bool = True, shareGradParams: bool = True, stepClone: bool = False
    ) -> Any:
        return super().sharedClone(shareParams, shareGradParams)


class Sequencer(AbstractSequencer):
    """Applies a module to each step of a sequence; one that is not recurrent is put into a Recursor.

    A table of T steps -> a table of T outputs; a tensor (T, ...) -> a tensor (T, ...).  Each forward is a new
    sequence, unless `remember` says otherwise.
    """

    __slots__ = ("whole",)
    whole: Whole | None  # the last sequence, if it was run in one graph

    __str__ = Decorator.__str__

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        sequencer = super().__new__(cls)
        sequencer.whole = None
        return sequencer

    def __init__(self, module: Module) -> None:
        if not isinstance(module, Module):
            raise InputError(f"nn.Sequencer: expected a module, got {describe(module)}")
        super().__init__()
        self.module = recurrent(module)
        self.modules = Table(self.module)
        self.output, self._output, self.tableoutput, self.tablegradInput = Table(), Table(), Table(), Table()
        self.dpnn_mediumEmpty = Table("output", "gradInput", "momGradParams", "dpnn_input", "_output")
        self._remember = "neither"

    def updateOutput(self, input: Any) -> Any:
        steps = steps_of(input, "input")
        self.module.maxBPTTstep(len(steps))
        if not self.hasMemory():
            self.module.forget()
        self.whole, self.output, self.tableoutput = None, Table(), Table()  # frees their memory
        self.whole = in_one_graph(self.module, input, steps)
        if self.whole is not None:
            outputs = self.whole.outputs
        else:
            outputs = [self._step(t, self.module.updateOutput, step) for t, step in enumerate(steps, 1)]
        self.output = self.tableoutput = Table(*outputs)
        if isinstance(input, Tensor):
            if not isinstance(outputs[0], Tensor):
                wanted = "a module with tensors as output, since the input is one"
                raise InputError(f"{self.__typename__}: expected {wanted}, got {describe(outputs[0])}")
            whole = self.whole  # whose output is the graph's own
            self.output = whole.sequence(whole.output).clone() if whole else torch.stack(outputs)
        return self.output

    def backward(self, input: Any, gradOutput: Any, scale: float = 1) -> Any:
        return self._back(self.module.backward, input, gradOutput, scale=scale)

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        return self._back(self.module.updateGradInput, input, gradOutput, parameters=False)

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        self._back(self.module.accGradParameters, input, gradOutput, inputs=False, scale=scale)

    def accUpdateGradParameters(self, input: Any, gradOutput: Any, lr: float) -> None:
        """Not there in rnn either: the gradients of all steps are needed before the parameters move."""
        raise InputError(
            f"{self.__typename__}.accUpdateGradParameters is not implemented; use accGradParameters"
        )

    def _back(self, method: Any, input: Any, gradOutput: Any, **sweep: Any) -> Any:
        steps, whole = matched(input, gradOutput, "gradOutput"), self.whole
        if sweep.get("inputs", True):
            self.gradInput = None  # its memory serves the new one
        gradients: list[Any] = []
        if whole is None or not whole.back(gradOutput, [gradient for *_, gradient in steps], **sweep):
            whole, scale = None, [sweep["scale"]] if "scale" in sweep else []
            for t, step, gradient in reversed(steps):
                gradients.insert(0, self._step(t, method, step, gradient, *scale))
        if not sweep.get("inputs", True):
            return None
        if isinstance(input, Tensor):
            self.gradInput = whole.sequence(whole.gradient) if whole else torch.stack(gradients)
        else:
            self.gradInput = Table(*(whole.gradInputs if whole else gradients))
        return self.gradInput

    def _step(self, t: int, method: Any, *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except InputError as error:
            error.within(f"in step {t} of {self.__typename__}")
            raise

    def clearState(self) -> Any:
        self.whole = None
        self.tableoutput, self.tablegradInput, self._output = Table(), Table(), Table()
        return super().clearState()

    def upgrade(self, version: int) -> None:
        """In the later fork of rnn the module is in `modules` only."""
        vars(self).setdefault("module", self.modules[1])


def recurrent(module: Module) -> AbstractRecurrent:
    """The module, in a Recursor if it is not recurrent itself."""
    return module if isinstance(module, AbstractRecurrent) else Recursor(module)


def steps_of(value: Any, name: str) -> list[Any]:
    """The steps of a sequence: a table of them, or a tensor whose first dimension is time."""
    if isinstance(value, Tensor) and value.dim() > 0 and len(value) > 0:
        return list(value.unbind(0))
    if isinstance(value, Table | list | tuple):
        return list(value)
    raise InputError(f"expected a table or tensor of steps as {name}, got {describe(value)}")


def matched(input: Any, other: Any, name: str) -> list[tuple[int, Any, Any]]:
    """The steps of the input beside those of a target or gradient, with their numbers."""
    steps, others = steps_of(input, "input"), steps_of(other, name)
    if isinstance(input, Tensor) and not isinstance(other, Tensor):
        raise InputError(f"expected a tensor as {name}, since the input is one, got {describe(other)}")
    if len(steps) != len(others):
        raise InputError(
            f"expected {len(steps)} steps of {name}, as many as there are of input, got {len(others)}"
        )
    return list(zip(range(1, len(steps) + 1), steps, others, strict=True))
