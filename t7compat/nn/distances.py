"""Distances and angles: between two tensors, or from an input to learned vectors."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.linear import draw
from t7compat.nn.module import Module
from t7compat.nn.shapes import (
    describe,
    expect,
    expect_fit,
    expect_pair,
    like,
    one_based,
    position,
    zero_based,
)
from t7compat.nn.tape import Tape
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor
Pair = tuple[Tensor, Tensor]


def with_gradient_of(other: Tensor, value: Tensor) -> Tensor:
    """`value`, with the gradient of `other`."""
    return value.detach() + (other - other.detach())


def damped(distance: Tensor) -> Tensor:
    """A distance d, with its gradient times d / (d + 1e-7): Torch7 divides by that instead of by d."""
    return with_gradient_of(distance * (distance / (distance + 1e-7)).detach(), distance)


# ---- between two tensors


class CosineDistance(Module):
    """The cosine of the angle between two vectors.  {(n), (n)} -> (1), or with a batch -> (batch)"""

    scratch = ("buffer", "w1", "w22", "w", "w32", "ones")

    def __init__(self) -> None:
        super().__init__(gradInput=Table(new_tensor(), new_tensor()))

    def compute(self, input: Pair) -> Tensor:
        a = input[0]
        b, keep = like(input[1], a), a.dim() == 1
        squares = ((a * a).sum(-1, keep) + 1e-12) * ((b * b).sum(-1, keep) + 1e-12)
        return (a * b).sum(-1, keep) * squares.rsqrt()

    def prepare(self, input: Any) -> None:
        expect_pair(input, 1, 2)
        expect_fit("second entry", input[1], input[0])


class PairwiseDistance(Module):
    """(sum |a - b|^p)^(1/p).  {(batch, n), (batch, n)} -> (batch), or {(n), (n)} -> (1)

    With d the distance, the gradient is (a - b) |a - b|^(max(p, 2) - 2) / (d + 1e-6)^(p - 1): for p between 1
    and 2 that of Torch7, not the true one.  For p = 1 its sign is drawn where a and b are equal.
    """

    scratch = ("diff", "outExpand", "grad", "ones")

    def __init__(self, p: float = 2) -> None:
        super().__init__(gradInput=Table(), diff=new_tensor(), norm=p)

    def compute(self, input: Pair) -> Tensor:
        a, p = input[0], self.norm
        difference, keep = a - like(input[1], a), a.dim() == 1
        distance = torch.linalg.vector_norm(difference, p, -1, keep)
        if p == 1:
            return distance
        q = max(p, 2)
        powers = difference.abs().pow(q).sum(-1, keep) / q
        return with_gradient_of(powers * (distance + 1e-6).pow(1 - p).detach(), distance)

    def prepare(self, input: Any) -> None:
        expect_pair(input, 1, 2)
        expect_fit("second entry", input[1], input[0])

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:  # draws signs, in the order of Torch7
        first, second = super().updateGradInput(input, gradOutput)
        if self.norm == 1:
            a, b = Table.from_python(input)
            equal = a == like(b, a)
            signs = mersenne.random_(first.new_empty(int(equal.sum())), 2).mul_(2).sub_(3)
            scale = gradOutput if first.dim() == 1 else gradOutput.reshape(-1, 1)
            first[equal] = signs * scale.expand_as(first)[equal]
            like(second, first)[equal] = -first[equal]
        return self.gradInput


# ---- from an input to learned vectors


class Nearness(Module, typename=""):
    """The base of layers that compare their input with each column (of Cosine: row) of the weight."""

    parameter_names: tuple[str, ...] = ("weight",)
    inputs_at = 0  # the dimension of the weight that is that of the input

    def __init__(self, inputSize: int, outputSize: int, **fields: Any) -> None:
        size = (inputSize, outputSize)[:: 1 - 2 * self.inputs_at]
        super().__init__(weight=new_tensor(*size), gradWeight=new_tensor(*size), **fields)
        self.reset()

    def prepare(self, input: Any) -> None:
        expect(input, 1, 2, size=self.weight.shape[self.inputs_at], like=self.weight)

    def reset(self, stdv: float | None = None) -> None:
        draw(stdv, self.weight.shape[0], self.weight)


def cosines(input: Tensor, weight: Tensor, lengths: Tensor) -> Tensor:
    """Those of the angles between the input and the rows of the weight, which have these lengths."""
    own = torch.linalg.vector_norm(input, 2, -1, True) + 1e-12
    return F.linear(input, weight) / (lengths + 1e-12) / own


class Cosine(Nearness):
    """The cosines of the angles between x and the rows of W.  Shapes as for Linear

    As in Torch7, accGradParameters ignores its `scale` for a batch; for a vector it does so for that part of
    the gradient which comes from the lengths of the rows.
    """

    inputs_at = 1
    scratch = ("_input", "_weight", "_gradOutput", "_sum", "_inputNorm", "_weightNorm")

    def compute(self, input: Tensor, weight: Tensor) -> Tensor:
        return cosines(input, weight, torch.linalg.vector_norm(weight, 2, -1))

    def trace(self, tape: Tape, input: Any) -> Any:
        if not tape.is_recorded or not isinstance(input, Tensor) or input.dim() > 1:
            return super().trace(tape, input)
        if not tape.is_replay:
            self.prepare(input)
        (weight,) = self.operands(tape)
        lengths, sweep = torch.linalg.vector_norm(weight, 2, -1), tape.sweep
        lengths.register_hook(lambda gradient: gradient / (sweep.scale or 1))
        return tape.record(self, input, cosines(input, weight, lengths))

    def accumulate(self, name: str, gradient: Tensor, scale: float) -> None:
        super().accumulate(name, gradient, scale if self.output.dim() == 1 else 1)


class Euclidean(Nearness):
    """The distances |x - w_j| to the columns of W.  (inputSize) or (batch, inputSize) -> (..., outputSize)"""

    scratch = (
        "_input", "_output", "_gradOutput", "_weight", "_div", "_sum", "_expand", "_expand2", "_expand3",
        "_repeat", "_repeat2",
    )  # fmt: skip

    def __init__(self, inputSize: int, outputSize: int) -> None:
        super().__init__(inputSize, outputSize, fastBackward=True)
        self.output, self.gradInput = new_tensor(outputSize), new_tensor(inputSize)

    def before_type(self) -> None:
        self.clearState()

    def compute(self, input: Tensor, weight: Tensor) -> Tensor:
        exactly = "donot_use_mm_for_euclid_dist"
        output = damped(torch.cdist(input.reshape(-1, len(weight)), weight.t(), 2.0, exactly))
        return output if input.dim() == 2 else output[0]


class WeightedEuclidean(Nearness):
    """The distances |c_j * (x - w_j)| to the columns of W.  Shapes as for Euclidean

    c is the parameter `diagCov`.  As in Torch7, its gradient ignores the `scale` of accGradParameters where
    the input is no batch.
    """

    parameter_names = ("weight", "diagCov")

    def __init__(self, inputSize: int, outputSize: int) -> None:
        size = inputSize, outputSize
        super().__init__(*size, diagCov=new_tensor(*size), gradDiagCov=new_tensor(*size))

    def compute(self, input: Tensor, weight: Tensor, diagCov: Tensor) -> Tensor:
        return damped(torch.linalg.vector_norm((input[..., None] - weight) * diagCov, 2, -2))

    def accumulate(self, name: str, gradient: Tensor, scale: float) -> None:
        super().accumulate(name, gradient, 1 if name == "diagCov" and self.output.dim() == 1 else scale)

    def reset(self, stdv: float | None = None) -> None:
        super().reset(stdv)
        self.diagCov.fill_(1)


class Kmeans(Module):
    """The number of the nearest of k learned centres for each row.  (batch, dim) -> (batch)

    `loss` is the sum of the squared distances to them.  There is no gradient to learn from: accGradParameters
    adds what moves each centre towards the mean of its rows, by the part `scale` (the layer's, if it has one)
    of the way.
    """

    parameter_names = ("weight",)
    scratch = (
        "_expandedSamples", "_clusterDistances", "_temp", "_tempExpanded", "_tempWeight", "_tempWeightExp",
        "_expandedWeight", "_minScore", "_minIndx", "_cscAdder",
    )  # fmt: skip
    scale: float | None = None
    p: float | None = None

    def __init__(self, k: int, dim: int, scale: float | None = None) -> None:
        if k <= 0 or dim <= 0:
            raise InputError(f"{self.__typename__}: expected sizes above 0, got {k} and {dim}")
        super().__init__(k=k, dim=dim, scale=scale, loss=0, clusterSampleCount=new_tensor(k))
        self.weight, self.gradWeight = new_tensor(k, dim), new_tensor(k, dim)
        self.reset()

    def compute(self, input: Tensor, weight: Tensor) -> Tensor:
        distances = torch.cdist(input, weight, 2.0, "donot_use_mm_for_euclid_dist")
        return one_based(distances.argmin(1)).to(input.dtype)

    def prepare(self, input: Any) -> None:
        expect(input, 2, size=self.dim, like=self.weight)

    def trace(self, tape: Tape, input: Any) -> Any:
        output = super().trace(tape, input)
        self.loss = (input - self.weight[zero_based(output)]).square().sum().item()
        return output

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:  # nothing depends smoothly on the input
        self.gradInput = torch.zeros_like(input)
        return self.gradInput

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        scale = self.scale or scale
        if scale <= 0:
            raise InputError(f"{self.__typename__}: expected a scale above 0, got {scale}")
        self.prepare(input)
        expect(self.output, 1, size=len(input))
        nearest, counts = zero_based(self.output), self.clusterSampleCount
        counts.zero_().index_add_(0, nearest, torch.ones_like(self.output))
        change = torch.zeros_like(self.weight).index_add_(0, nearest, self.weight[nearest] - input)
        self.gradWeight.add_(change / (counts[:, None] + 1e-7), alpha=scale)

    def reset(self, stdev: float | None = None) -> None:
        mersenne.uniform_(self.weight, -(stdev or 1), stdev or 1)

    def initRandom(self, input: Tensor) -> None:
        """Take rows of the input, chosen at random, for the centres."""
        self.prepare(input)
        if len(input) < self.k:
            raise InputError(f"expected {self.k} rows or more, got {describe(input)}")
        chosen = mersenne.random_(self.weight.new_empty(self.k), 1, len(input))
        self.weight.copy_(input[zero_based(chosen)])

    def initKmeansPlus(self, input: Tensor, p: float | None = None) -> None:
        """Take rows of the input that are far from each other for the centres.

        Each is chosen at random among the part 1 - p (of all rows) that is farthest from those before.
        """
        self.p = p or self.p or 0.95
        if not 0 <= self.p <= 1:
            raise InputError(f"{self.__typename__}: expected p from 0 to 1, got {self.p}")
        self.prepare(input)
        distances = input.new_full((len(input),), math.inf)
        order, choices = torch.arange(len(input)), len(input)
        for centre in self.weight:
            centre.copy_(input[order[position(mersenne.random(choices), len(order))]])
            distances = torch.minimum(distances, (input - centre).square().sum(1))
            order, choices = distances.argsort(descending=True), max(math.ceil((1 - self.p) * len(input)), 1)

    def before_type(self) -> None:
        self.clearState()

    def clearState(self) -> Any:
        """Remove the scratch fields only; as in Torch7, nothing is returned."""
        self.tape = None
        for name in self.scratch:
            vars(self).pop(name, None)
