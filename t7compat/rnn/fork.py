"""Classes of torch/rnn, the later fork of the package, under names that Element-Research's has not.

Where both have a class of one name, it takes the arguments and the files of either.  The samples that are no
part of a sequence, in the fork, are not found by their zeros but told by `setZeroMask`.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.containers import Child, Decorator
from t7compat.nn.linear import Linear
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect, expect_table
from t7compat.nn.tables import CAddTable, JoinTable
from t7compat.nn.tape import Tape
from t7compat.nn.transfer import Sigmoid
from t7compat.rnn.bidirectional import BiSequencer
from t7compat.rnn.gated import beside, chain
from t7compat.rnn.hidden import Cell
from t7compat.rnn.masking import masked, zero_rows
from t7compat.rnn.misc import LookupTableMaskZero
from t7compat.rnn.recurrences import Recurrence
from t7compat.rnn.seq import SeqGRU, SeqLSTM, SeqLSTMP
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class Step(Module, typename=""):
    """The base of one step of a cell, {x, state...} -> state.  All of them are (batch, size).

    `weight` has the rows for x on top of those for the last output, and is applied from the right.
    """

    parameter_names: tuple[str, ...] = ("weight", "bias")
    scratch = ("gates",)
    gates_per_output: int
    maskzero = False
    v2 = True
    zeroMask: Any = None

    def __init__(self, inputsize: int, outputsize: int, hiddensize: int, **fields: Any) -> None:
        vars(self).update(inputsize=inputsize, outputsize=outputsize)
        width = self.gates_per_output * hiddensize
        super().__init__(
            weight=new_tensor(inputsize + outputsize, width), bias=new_tensor(width),
            gates=new_tensor(), maskzero=False, v2=True, **fields,
        )  # fmt: skip
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        hidden = len(self.bias) // self.gates_per_output
        self.bias.zero_()
        self.bias[self.outputsize : 2 * self.outputsize] = 1
        mersenne.normal_(self.weight, 0, stdv or 1 / math.sqrt(hidden + self.inputsize))
        return self

    def prepare(self, input: Any) -> None:
        expect_table(input, 2)
        expect(input[0], 2, size=self.inputsize, like=self.weight)
        for state in input[1:]:
            expect(state, 2, size=len(input[0]), at=0, like=self.weight)
        if self.maskzero and self.v2 and self.zeroMask is None:
            raise InputError("expected setZeroMask before forward, with a mask or False")

    def trace(self, tape: Tape, input: Any) -> Any:
        if not tape.is_replay:
            self.prepare(input)
        output = self.compute(input, *self.operands(tape))
        if self.maskzero and not self.v2:
            output = masked(output, zero_rows(input[0], 1))
        elif self.maskzero and self.zeroMask is not False:
            output = masked(output, self.zeroMask.bool())
        return tape.record(self, input, output)

    def maskZero(self, v1: Any = None) -> Any:
        """Zero the state of the samples told by setZeroMask, or (`v1`) of those whose input is all zeros."""
        self.maskzero, self.v2 = True, not v1
        return self

    def setZeroMask(self, zeroMask: Any) -> None:
        self.zeroMask = zeroMask

    @property
    def keeps_state(self) -> bool:  # type: ignore[override]
        return self.maskzero and self.v2

    def __str__(self) -> str:
        return f"{self.__typename__}({self.inputsize} -> {self.outputsize})"


class StepLSTM(Step):
    """One step of an LSTM without peepholes.  {x, h, c} -> {h', c'}, each (batch, size)

    i, f, o, g = W x + U h + b, of which g through tanh, the others through the sigmoid
    c' = f * c + i * g        h' = o * tanh(c')

    With `outputsize` there is a projection, h' = P (o * tanh(c')), P being `weightO` transposed.
    """

    parameter_names = dpnn_parameters = ("weight", "bias", "weightO")
    dpnn_gradParameters = ("gradWeight", "gradBias", "gradWeightO")
    gates_per_output = 4
    weightO: Tensor | None = None

    def __init__(self, inputsize: int, hiddensize: int, outputsize: int | None = None) -> None:
        self.hiddensize = hiddensize
        project = None if outputsize is None else new_tensor(hiddensize, outputsize)
        super().__init__(inputsize, outputsize or hiddensize, hiddensize, weightO=project)
        self.output, self.gradInput = Table(), Table()

    def compute(
        self, input: tuple[Tensor, ...], weight: Tensor, bias: Tensor, project: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        x, h, c = input
        i, f, o, g = torch.addmm(bias, torch.cat((x, h), 1), weight).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h if project is None else h @ project, c

    def reset(self, stdv: float | None = None) -> Any:
        super().reset(stdv)
        if self.weightO is not None:
            mersenne.normal_(self.weightO, 0, stdv or 1 / math.sqrt(self.outputsize + self.hiddensize))
        return self

    def __str__(self) -> str:
        sizes = [self.inputsize, *([] if self.weightO is None else [self.hiddensize]), self.outputsize]
        return f"{self.__typename__}({' -> '.join(map(str, sizes))})"


class StepGRU(Step):
    """One step of a gated recurrent unit.  {x, h} -> h', each (batch, size)

    r, z = sigmoid(W x + U h + b)     g = tanh(W x + U (r * h) + b)     h' = (1 - z) * g + z * h
    """

    gates_per_output = 3

    def __init__(self, inputsize: int, outputsize: int) -> None:
        super().__init__(inputsize, outputsize, outputsize)
        self.gradInput = Table()

    def compute(self, input: tuple[Tensor, ...], weight: Tensor, bias: Tensor) -> Tensor:
        x, h = input
        size = h.shape[1]
        of_x, of_h = weight[: x.shape[1]], weight[x.shape[1] :]
        products = torch.addmm(bias, x, of_x)
        gates = torch.sigmoid(products[:, : 2 * size] + h @ of_h[:, : 2 * size])
        r, z = gates.chunk(2, 1)
        g = torch.tanh(products[:, 2 * size :] + (r * h) @ of_h[:, 2 * size :])
        return g + z * (h - g)


class Stepped(Cell, typename=""):
    """The base of the cells that run a Step."""

    inputsize: int
    outputsize: int

    def take_step(self, step: Step) -> None:
        """Run this step."""
        self.take_step_module(step)
        self.inputsize, self.outputsize = step.inputsize, step.outputsize
        self.zeroOutput = new_tensor()

    def updateOutput(self, input: Any) -> Any:
        expect(input, 2, size=self.inputsize)
        return super().updateOutput(input)

    def setHiddenState(self, step: int | None, hiddenState: Any) -> None:
        if step == 0:
            self.setStartState(hiddenState)
        else:
            super().setHiddenState(step, hiddenState)

    def maskZero(self, v1: Any = None) -> Any:
        for module in self.stepping_modules():
            module.maskZero(v1)
        return self

    def clearState(self) -> Any:
        self.setStartState()
        return super().clearState()

    def upgrade(self, version: int) -> None:
        super().upgrade(version)
        self.setStartState(vars(self).pop("startState", None))

    def __str__(self) -> str:
        return f"{self.__typename__}({self.inputsize} -> {self.outputsize})"


class RecLSTM(Stepped):
    """StepLSTM over time.  (batch, inputsize) -> (batch, outputsize or hiddensize)"""

    states = (*Cell.states, ("cells", "gradCells", "userPrevCell", "userNextGradCell"))
    userPrevCell: Tensor | None = None
    userNextGradCell: Tensor | None = None

    def __init__(self, inputsize: int, hiddensize: int, outputsize: int | None = None) -> None:
        super().__init__()
        self.take_step(StepLSTM(inputsize, hiddensize, outputsize))
        self.hiddensize, self.zeroCell = hiddensize, new_tensor()
        self.cells, self.gradCells = Table(), Table()

    def sizes(self) -> list[Any]:
        return [self.outputsize, self.hiddensize]

    def zeros(self) -> list[Any]:
        return [self.zeroOutput, self.zeroCell]

    def set_zeros(self, input: Tensor) -> None:
        self.zeroOutput = input.new_zeros(len(input), self.outputsize)
        self.zeroCell = input.new_zeros(len(input), self.hiddensize)


class RecGRU(Stepped):
    """StepGRU over time.  (batch, inputsize) -> (batch, outputsize)"""

    def __init__(self, inputsize: int, outputsize: int) -> None:
        super().__init__()
        self.take_step(StepGRU(inputsize, outputsize))

    def sizes(self) -> list[Any]:
        return [self.outputsize]

    def zeros(self) -> list[Any]:
        return [self.zeroOutput]

    def set_zeros(self, input: Tensor) -> None:
        self.zeroOutput = input.new_zeros(len(input), self.outputsize)


class LinearRNN(Recurrence):
    """h' = transfer(W {x, h} + b), by default with the sigmoid.  (batch, inputsize) -> (batch, outputsize)"""

    def __init__(self, inputsize: int, outputsize: int, transfer: Module | None = None) -> None:
        linear = Linear(inputsize + outputsize, outputsize)
        super().__init__(chain(JoinTable(1, 1), linear, transfer or Sigmoid()), outputsize, 1)
        self.inputsize, self.outputsize = inputsize, outputsize

    def __str__(self) -> str:
        return f"{self.__typename__}({self.inputsize} -> {self.outputsize})"


class LookupRNN(Recurrence):
    """h' = transfer(merge{W[x], U h + b}), by default the sigmoid of the sum.  (batch) -> (batch, outputsize)

    x are indices 1..nindex, or 0 for a vector of zeros.
    """

    def __init__(
        self, nindex: int, outputsize: int, transfer: Module | None = None, merge: Module | None = None
    ) -> None:
        products = beside(LookupTableMaskZero(nindex, outputsize), Linear(outputsize, outputsize))
        super().__init__(chain(products, merge or CAddTable(), transfer or Sigmoid()), outputsize, 0)
        self.nindex, self.outputsize = nindex, outputsize

    def __str__(self) -> str:
        return f"{self.__typename__}({self.nindex} -> {self.outputsize})"


class SeqBLSTM(BiSequencer):
    """SeqLSTM in both directions, the outputs added (or given to `merge`).

    (time, batch, inputsize) -> (time, batch, outputsize or hiddensize)
    """

    def __init__(
        self, inputsize: int, hiddensize: int, outputsize: Any = None, merge: Module | None = None
    ) -> None:
        if isinstance(outputsize, Module):
            outputsize, merge = None, outputsize
        sizes = (inputsize, hiddensize) if outputsize is None else (inputsize, hiddensize, outputsize)
        super().__init__((SeqLSTM if outputsize is None else SeqLSTMP)(*sizes), None, merge)


class SeqBGRU(BiSequencer):
    """SeqGRU in both directions, the outputs added (or given to `merge`).

    (time, batch, inputsize) -> (time, batch, outputsize)
    """

    def __init__(self, inputsize: int, outputsize: int, merge: Module | None = None) -> None:
        super().__init__(SeqGRU(inputsize, outputsize), None, merge)


class VariableLength(Decorator):
    """Runs a module over sequences on samples of different lengths.

    A table of samples (time, ...) -> a table of outputs (time, ...), or (`lastOnly`) the last output of each,
    (batch, ...).
    """

    lastOnly: bool | None = None

    def __init__(self, module: Module, lastOnly: bool | None = None) -> None:
        super().__init__(module.maskZero())
        self.gradInput = Table()
        if lastOnly is not None:
            self.lastOnly = lastOnly

    def compute(self, input: tuple[Tensor, ...], child: Child) -> Any:
        output = child(torch.nn.utils.rnn.pad_sequence(list(input)))
        outputs = tuple([output[: len(sample), i] for i, sample in enumerate(input)])
        return torch.stack([steps[-1] for steps in outputs]) if self.lastOnly else outputs

    def prepare(self, input: Any) -> None:
        expect_table(input)
        for sample in input:
            expect(sample)
            if not len(sample) or sample.shape[1:] != input[0].shape[1:]:
                raise InputError(f"expected samples that differ in length only, got {describe(input)}")
        lengths = torch.tensor([len(sample) for sample in input], device=input[0].device)
        steps = torch.arange(int(lengths.max()), device=lengths.device)
        self.modules[1].setZeroMask((steps[:, None] >= lengths).byte())

    def setZeroMask(self, zeroMask: Any) -> None:
        raise InputError(f"{self.__typename__}.setZeroMask is not supported: the samples tell their lengths")
