"""Layers that are made of other layers, whatever file these are in."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat.nn.containers import ConcatTable, ParallelTable, Sequential
from t7compat.nn.embedding import LookupTable
from t7compat.nn.linear import Linear
from t7compat.nn.module import Module
from t7compat.nn.products import MM
from t7compat.nn.reductions import Max, Mean, Normalize
from t7compat.nn.scaling import Add, CMul
from t7compat.nn.shapes import expect, zero_based
from t7compat.nn.shaping import Identity, Replicate, View
from t7compat.nn.tables import CSubTable
from t7compat.nn.tape import Tape
from t7compat.nn.transfer import MulConstant
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class Maxout(Sequential):
    """The greatest of `maxoutNumber` linear functions for each output.  Goodfellow et al., 2013

    (inputSize) or (batch, inputSize) -> (outputSize) or (batch, outputSize); `preprocess` works on
    (..., maxoutNumber, outputSize) before the maximum is taken.
    """

    def __init__(
        self, inputSize: int, outputSize: int, maxoutNumber: int, preprocess: Module | None = None
    ) -> None:
        super().__init__()
        self.add(Linear(inputSize, outputSize * maxoutNumber))
        self.add(View(maxoutNumber, outputSize).setNumInputDims(1))
        if preprocess is not None:
            self.add(preprocess)
        self.add(Max(1, 2))


class LayerNormalization(Sequential):
    """Each sample minus its mean, divided by its deviation, times a gain, plus a bias.  Ba et al., 2016

    (nOutput) or (batch, nOutput) -> same shape.  As in Torch7, for a batch it subtracts the means in an order
    of their own: from element i of the whole batch, that of sample (i - 1) % batch + 1.
    """

    def __init__(
        self, nOutput: int, bias: float | None = None, eps: float = 1e-10, affine: bool = True
    ) -> None:
        super().__init__()
        mean = Sequential().add(Mean(1, 1)).add(Replicate(nOutput, 1, 1))
        self.add(ConcatTable().add(Identity()).add(mean)).add(CSubTable())
        self.add(Normalize(2, eps)).add(MulConstant(math.sqrt(nOutput)))
        if affine:
            added, gain = Add(nOutput, False), CMul(nOutput)
            added.bias.fill_(bias or 0)
            gain.weight.fill_(1)
            self.add(gain).add(added)


class PartialLinear(Module):
    """Linear, of which only the outputs in `partition` are computed.  (batch, inputsize) -> (batch, n)

    The weight is that of a LookupTable in `network`; the field `bias` is (1, outputsize).
    """

    parameter_names = ("weight", "bias")
    updates_when_shared = True
    bias: Tensor | None = None

    def __init__(self, inputsize: int, outputsize: int, bias: bool = True) -> None:
        pair = ParallelTable().add(Identity()).add(LookupTable(outputsize, inputsize))
        super().__init__(
            network=Sequential().add(pair).add(MM(False, True)),
            inputsize=inputsize,
            outputsize=outputsize,
            allcolumns=new_tensor(outputsize).copy_(torch.arange(1, outputsize + 1)),
        )
        if bias:
            self.bias, self.gradBias = new_tensor(1, outputsize), new_tensor(1, outputsize)
        self.resetPartition()

    @property
    def table(self) -> Any:
        """The LookupTable whose rows are those of the weight."""
        return self.network.get(1).get(2)

    @property
    def weight(self) -> Tensor:
        """The weight, (outputsize, inputsize)."""
        return self.table.weight  # type: ignore[no-any-return]

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        chosen = zero_based(self.partition)
        return F.linear(input, weight[chosen], None if bias is None else bias[0, chosen])

    def operands(self, tape: Tape) -> list[Any]:
        return [tape.leaf(self.table, "weight"), tape.leaf(self, "bias")]

    def prepare(self, input: Any) -> None:
        expect(input, 2, size=self.inputsize, like=self.allcolumns)

    def setPartition(self, indices: Tensor) -> None:
        """Choose the outputs, by their numbers."""
        self.partition = indices.to(self.allcolumns)

    def resetPartition(self) -> None:
        """Choose all outputs."""
        self.partition = self.allcolumns

    def parameters(self) -> tuple[Table, Table]:
        table, bias = self.table, self.bias
        gradBias = None if bias is None else self.gradBias
        return Table(table.weight, bias), Table(table.gradWeight, gradBias)

    def __str__(self) -> str:
        without = "" if self.bias is not None else " without bias"
        return f"{self.__typename__}({self.inputsize} -> {self.outputsize}){without}"
