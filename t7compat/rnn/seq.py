"""Recurrent modules over whole sequences in one call: SeqLSTM and its kin."""

from __future__ import annotations

import math
from typing import Any

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.containers import ConcatTable, Decorator, Sequential
from t7compat.nn.module import Module
from t7compat.nn.shapes import axis, expect
from t7compat.nn.shaping import Transpose
from t7compat.nn.tables import CAddTable
from t7compat.rnn import fused
from t7compat.rnn.cells import GRU, FastLSTM
from t7compat.rnn.sequence import CELL, OUTPUT, Sequence, of_all_steps
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


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
    cell = of_all_steps("cell")
    gates = of_all_steps("gates")

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
        output, last, states = fused.lstm(x, h, c, weight, bias, project=project, mask=self.mask(x))
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
        """Older files are of the time before projections, for which the later fork has no other class."""
        vars(self).setdefault("hiddensize", self.outputsize)
        if "weightO" in vars(self):
            self.__class__ = SeqLSTMP


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

    def upgrade(self, version: int) -> None:
        """The later fork of rnn spells the sizes otherwise."""
        for name in ("inputSize", "outputSize"):
            if name.lower() in vars(self):
                vars(self)[name] = vars(self).pop(name.lower())

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
        expect(input, like=self.type_sample)

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
