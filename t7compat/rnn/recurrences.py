"""Recurrent modules made of any modules."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.containers import Container, Decorator, ParallelTable, Sequential
from t7compat.nn.linear import Linear, LinearNoBias
from t7compat.nn.module import Module
from t7compat.nn.opaque import Sweep
from t7compat.nn.scaling import Add
from t7compat.nn.shapes import expect, with_gradient
from t7compat.nn.stepping import ANY_DIMS, PROTOCOL
from t7compat.nn.tables import CAddTable
from t7compat.nn.tape import as_leaf
from t7compat.nn.transfer import Sigmoid
from t7compat.rnn.fused import continued
from t7compat.rnn.hidden import Cell, added, expect_same
from t7compat.rnn.misc import CopyGrad
from t7compat.rnn.recurrent import AbstractRecurrent
from t7compat.rnn.whole import NotWhole, structure
from t7compat.t7file.objects import LongStorage, Storage
from t7compat.table import Table, leaves
from t7compat.tensortypes import new_tensor

if TYPE_CHECKING:
    from t7compat.rnn.whole import Run, Whole


class Recurrence(Cell):
    """Any module as a cell: {x, h} -> h'.

    The first h is zeros of `outputSize`: a number, sizes, or a table of sizes.  `nInputDim` is the number of
    dimensions of one sample (of the first tensor of the input): with one more, the first one is the batch,
    which the zeros get too.
    """

    __str__ = Decorator.__str__

    def __init__(
        self, recurrentModule: Module, outputSize: Any, nInputDim: int, rho: int | None = None
    ) -> None:
        super().__init__(rho or 9999)
        self.outputSize = Table(outputSize) if isinstance(outputSize, int) else Table.from_python(outputSize)
        self.nInputDim = nInputDim
        self.module = recurrentModule
        self.take_step_module(recurrentModule)
        self.typeTensor = new_tensor()

    def set_zeros(self, input: Any) -> None:
        first: Any = next(iter(leaves(input)), None)
        expect(first, self.nInputDim, self.nInputDim + 1)
        batch = (len(first),) if first.dim() > self.nInputDim else ()

        def zeros(size: Any) -> Any:
            if isinstance(size, Table) and not isinstance(size[1], int):
                return Table(*[zeros(part) for part in size])
            return self.typeTensor.new_zeros(*batch, *size)

        self.zeroTensor = zeros(self.outputSize)

    # ---- hidden state: {output, those of the modules inside}

    def getHiddenState(self, step: int | None = None, input: Any = None) -> Table:
        return Table(super().getHiddenState(step, input), Module.getHiddenState(self, step))

    def setHiddenState(self, step: int | None, hiddenState: Any) -> None:
        output, inner = Table.from_python(hiddenState).unpack(1, 2)
        super().setHiddenState(step, output)
        if inner is not None:
            Module.setHiddenState(self, step, inner)

    def getGradHiddenState(self, step: int | None = None, input: Any = None) -> Table:
        return Table(super().getGradHiddenState(step), Module.getGradHiddenState(self, step))

    def setGradHiddenState(self, step: int | None, gradHiddenState: Any) -> None:
        gradOutput, inner = Table.from_python(gradHiddenState).unpack(1, 2)
        super().setGradHiddenState(step, gradOutput)
        if inner is not None:
            Module.setGradHiddenState(self, step, inner)

    def upgrade(self, version: int) -> None:
        """In the later fork the module is in `modules` only."""
        super().upgrade(version)
        vars(self).setdefault("module", self.modules[1])


class Recurrent(AbstractRecurrent):
    """h' = transfer(merge(input(x), feedback(h))); at the first step transfer(start(input(x))).

    `start` is a module, or the size of an Add.  Mikolov et al., 2010.
    """

    gradPrevOutput: Any = None

    def __init__(
        self, start: Any, input: Module, feedback: Module,
        transfer: Module | None = None, rho: int | None = None, merge: Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__(rho)
        self.startModule = (
            start
            if isinstance(start, Module)
            else Add(start if isinstance(start, int | Storage) else LongStorage(start))
        )
        self.inputModule, self.feedbackModule = input, feedback
        self.transferModule, self.mergeModule = transfer or Sigmoid(), merge or CAddTable()
        self.modules = Table(
            self.startModule, self.inputModule, self.feedbackModule, self.transferModule, self.mergeModule
        )
        self.initialModule = Sequential()
        for module in (self.inputModule.sharedClone(), self.startModule, self.transferModule.sharedClone()):
            self.initialModule.add(module)
        self.recurrentModule = Sequential()
        products = ParallelTable().add(self.inputModule).add(self.feedbackModule)
        for module in (products, self.mergeModule, self.transferModule):
            self.recurrentModule.add(module)
        self.sharedClones = Table(None, self.recurrentModule)

    def updateOutput(self, input: Any) -> Any:
        if self.step == 1:
            return self.end_step(self.run_step(input, module=self.initialModule))
        return self.end_step(self.run_step(input, self.outputs[self.step - 1]))

    # ---- whole sequences, where the feedback is a Linear

    def inner_parts(self) -> list[Any] | None:
        first, others = [*self.initialModule.modules], [*self.recurrentModule.modules]
        products = [*others[0].children()] if others else []
        kinds = [type(module) for module in (*first[1:2], *others[:2], *products[1:])]
        if (
            type(self) is not Recurrent
            or [len(first), len(others), len(products)] != [3, 3, 2]
            or kinds not in ([Add, ParallelTable, CAddTable, kind] for kind in (Linear, LinearNoBias))
            or first[1] is not self.startModule
            or structure(first[0]) != structure(products[0])
            or structure(first[2]) != structure(others[2])
            or others[2].row_dims is not ANY_DIMS
            or others[2].parameter_names
            or isinstance(others[2], Container)
        ):
            return None
        own = self.initialModule, first[1], self.recurrentModule, *others, products[1]
        if any(not vars(module).keys().isdisjoint(PROTOCOL) for module in own):
            return None
        inputs: list[Any] | None = products[0].whole_parts()
        return inputs

    def run_whole(self, whole: Whole, input: Any) -> Any:
        products, _, transfer = self.recurrentModule.modules
        layer, feedback = products.modules
        weight: Any = whole.leaf(feedback, "weight")
        bias = whole.leaf(feedback, "bias")
        steps = whole.timed(whole.call(layer, input, False)).unbind()
        before = [] if self.step == 1 else [as_leaf(self.outputs[self.step - 1])]
        for part in before:
            expect_same(part, tuple(steps[0].shape) if whole.batch else tuple(steps[0].shape[1:]), steps[0])
        if before:
            outputs = [before[0].view_as(steps[0])]
        else:
            offset: Any = whole.leaf(self.startModule, "bias")
            expect(steps[0], 2, size=offset.numel())
            outputs = [transfer.compute(self.startModule.compute(steps[0], offset))]
        for step in steps[len(before) == 0 :]:
            outputs.append(transfer.compute(step + F.linear(outputs[-1], weight, bias)))
        output = torch.stack(outputs[len(before) :])
        if whole.is_recorded:
            output = continued(self._later_by(whole.sweep), 0, output)
        return whole.note(self, (input, *before), output.flatten(0, 1))

    def _later_by(self, sweep: Sweep) -> Any:
        """Gives the gradient that comes from a later sequence: that of the last backward of inputs."""
        found, this = [None], weakref.ref(self)  # the graph must not hold the module

        def later() -> list[Any]:
            if sweep.inputs:  # accGradParameters after updateGradInput is part of the same backward
                found[0] = this().gradPrevOutput  # type: ignore[union-attr]
            return found

        return later

    def take_back(self, whole: Whole, run: Run, gradInput: Any) -> None:
        super().take_back(whole, run, gradInput)
        self.gradPrevOutput = next(iter(list(gradInput)[1:]), None)

    def input_of(self, input: Any) -> Any:
        return next(iter(input))

    # ---- step by step

    def back_through_step(self, step: int, gradOutput: Any, **sweep: Any) -> Any:
        tape = self.pass_of(step)
        if sweep.get("inputs", True):
            later = self.gradPrevOutput
            self._gradOutputs[step] = gradOutput if later is None else added(gradOutput, later)
        gradients = tape.backward(self._gradOutputs[step], **sweep)
        if gradients is None or step == 1:
            return gradients
        gradInput, self.gradPrevOutput = gradients
        return gradInput

    def stepping_modules(self) -> list[Module]:
        return [*super().stepping_modules(), self.initialModule]

    def maskZero(self, nInputDim: Any = None) -> Any:
        raise InputError(
            f"{self.__typename__} cannot be masked: its first step has a module of its own; use nn.Recurrence"
        )

    trimZero = maskZero

    def __str__(self) -> str:
        def text(module: Module, indent: str) -> str:
            return str(module).replace("\n", "\n" + indent)

        return "\n".join(
            [
                f"{self.__typename__} {{",
                "  [{input(t), output(t-1)} -> (1) -> (2) -> (3) -> output(t)]",
                "  (1):  {",
                "    input(t)",
                f"      |`-> (t==0): {text(self.startModule, '    |    ')}",
                f"      |`-> (t~=0): {text(self.inputModule, '    |    ')}",
                "    output(t-1)",
                f"      |`-> {text(self.feedbackModule, '      |    ')}",
                "  }",
                f"  (2): {text(self.mergeModule, '  ')}",
                f"  (3): {text(self.transferModule, '  ')}",
                "}",
            ]
        )


class NormStabilizer(AbstractRecurrent):
    """y = x; keeps the norms of successive steps together.  (batch, n) -> (batch, n)

    Adds beta (|x[t]| - |x[t-1]|)^2, the mean over the batch, to the loss: that is, its gradient to gradInput.
    `updateLoss()` gives what Torch7 does: with a plus sign, and divided by the steps.  Krueger & Memisevic,
    2015.
    """

    def __init__(self, beta: float | None = 1) -> None:
        super().__init__()
        self.beta = 1 if beta is None else beta
        self.take_step_module(CopyGrad())

    def updateOutput(self, input: Any) -> Any:
        expect(input, 2)
        return self.end_step(self.run_step(input))

    def inner_parts(self) -> list[Any] | None:
        return [] if type(self) is NormStabilizer and type(self.recurrentModule) is CopyGrad else None

    def run_whole(self, whole: Whole, input: Any) -> Any:
        if whole.batch is None or self.step > 1:  # in a longer sequence the first step has two neighbours
            raise NotWhole
        if whole.length == 1:
            return whole.note(self, input, input.view_as(input))
        x, beta = whole.timed(input).detach(), self.beta

        def stabilized(gradient: Any) -> Any:
            norms = x.norm(dim=2, keepdim=True)
            rises = norms[1:] - norms[:-1]
            slope = F.pad(rises, (0, 0, 0, 0, 1, 0)) - F.pad(rises, (0, 0, 0, 0, 0, 1))
            return gradient + (2 * beta / x.shape[1] * slope / norms * x).flatten(0, 1)

        return whole.note(self, input, with_gradient(input, stabilized))

    def back_through_step(self, step: int, gradOutput: Any, **sweep: Any) -> Any:
        gradient = self.pass_of(step).backward(gradOutput, **sweep)
        if gradient is None:
            return None
        output, norm = self.outputs[step], self._norm(step)
        for neighbour in (step - 1, step + 1):
            if 1 <= neighbour < self.step:
                slope = 2 * self.beta / len(output) * (norm - self._norm(neighbour)) / norm
                gradient = gradient + slope * output
        return gradient

    def updateLoss(self) -> float:
        """The loss that comes from the steps so far."""
        sums = [self._norm(step) + self._norm(step + 1) for step in range(1, self.step - 1)]
        total = sum(both.square().mean().item() for both in sums)
        self.loss: float = self.beta * total / (self.step - 1)
        return self.loss

    def _norm(self, step: int) -> Any:
        return self.outputs[step].norm(dim=1, keepdim=True)

    def __str__(self) -> str:
        return self.__typename__
