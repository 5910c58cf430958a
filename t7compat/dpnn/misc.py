"""Small layers and losses of dpnn, and nn.Serial."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.containers import ConcatTable, Decorator, Sequential
from t7compat.nn.criterion import Criterion, reduction
from t7compat.nn.module import Module
from t7compat.nn.reductions import Sum
from t7compat.nn.serializing import reduced
from t7compat.nn.shapes import (
    axis,
    describe,
    expect,
    expect_fit,
    expect_number,
    expect_table,
    one_based,
    with_gradient,
)
from t7compat.nn.shaping import Identity
from t7compat.nn.stochastic import expect_percentage, without_gradient
from t7compat.nn.tables import CMulTable
from t7compat.nn.transfer import AddConstant, Log, MulConstant
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class ArgMax(Module):
    """The index of the greatest element along `dim`, from 1 on.  (..., n, ...) -> (..., ...), or (n) -> (1)

    With more dimensions than `nInputDim`, the first one is the batch and `dim` counts from the second.  The
    indices are a LongTensor, or (`asLong` false) of the type of the input, whose gradient is zero.
    """

    nInputDim = 9999
    asLong: bool = True

    def __init__(self, dim: int = 1, nInputDim: int = 9999, asLong: bool = True) -> None:
        super().__init__(dim=dim, nInputDim=nInputDim, asLong=asLong)
        self._give_long()

    def compute(self, input: Tensor) -> Tensor:
        along = axis(self.dim + (input.dim() > self.nInputDim), input.dim())
        indices = one_based(input.max(along, input.dim() == 1)[1])
        return indices if self.asLong else indices.to(input.dtype)

    def prepare(self, input: Any) -> None:
        expect(input)

    def _give_long(self) -> None:
        if self.asLong:
            self.output = torch.empty(0, dtype=torch.int64)

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        result = super().type(type, tensorCache)
        if type is not None:
            vars(self).pop("_indices", None)
            self._give_long()
        return result


class CategoricalEntropy(Module):
    """x, whose gradient gets that of the entropy of the categories added, times -scale.  (batch, n) -> same

    The probability of a category is its share of the sum over the batch.  The gradient is divided by the
    size of the batch (`sizeAverage`), and is left out where the entropy, kept in `entropy`, is `minEntropy`
    or more.  The field `module` computes the entropy in Torch7.
    """

    minEntropy: float | None = None
    EPSILON = 1e-6

    def __init__(self, scale: float = 1, minEntropy: float | None = None) -> None:
        super().__init__(scale=1 if scale is None else scale, minEntropy=minEntropy, sizeAverage=True)
        self._mul = MulConstant(1)
        logarithm = Sequential().extend(AddConstant(self.EPSILON), Log())
        both = ConcatTable().extend(Identity(), logarithm)
        self.module = Sequential().extend(Sum(1), self._mul, both, CMulTable(), Sum(), MulConstant(-1))
        self.modules = Table(self.module)
        self.minusOne = new_tensor(1).fill_(-self.scale)

    def compute(self, input: Tensor) -> Tensor:
        total = input.detach().sum()
        p = input.detach().sum(0) / total
        logarithm = (p + self.EPSILON).log()
        slope = self.minusOne / -total * (logarithm + p / (p + self.EPSILON))
        if self.sizeAverage:
            slope = slope / len(input)
        if self.minEntropy is not None:
            slope = slope * (-(p * logarithm).sum() < self.minEntropy)
        return with_gradient(input, lambda gradient: gradient + slope)

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Identity)

    def prepare(self, input: Any) -> None:
        expect(input, 2, like=self.minusOne)
        p = input.detach().sum(0) / input.detach().sum()
        self.entropy = -(p * (p + self.EPSILON).log()).sum().item()


class Clip(Module):
    """x, but at most maxval and at least minval; the gradient goes through unchanged.  any shape -> same"""

    def __init__(self, minval: float, maxval: float) -> None:
        super().__init__(minval=expect_number("minval", minval), maxval=expect_number("maxval", maxval))

    def compute(self, input: Tensor) -> Tensor:
        output = input.clone()
        output.detach().clamp_(max=self.maxval).clamp_(min=self.minval)  # unseen by the graph
        return output

    def prepare(self, input: Any) -> None:
        expect(input, like=self.type_sample)


class ReverseTable(Module):
    """The entries in reverse order.  {a, b, c} -> {c, b, a}"""

    def __init__(self) -> None:
        super().__init__()
        self.output, self.gradInput = Table(), Table()

    def compute(self, input: tuple[Any, ...]) -> tuple[Any, ...]:
        return input[::-1]

    def prepare(self, input: Any) -> None:
        expect_table(input, 0)


class TotalDropout(Module):
    """All zeros with probability p in training, else the input.  any shape -> same shape

    `noise` is the last factor, 0 or 1.  There is no backward in evaluation.
    """

    def __init__(self, p: float = 0.5) -> None:
        expect_percentage(self, p)
        super().__init__(p=p, train=True)

    def compute(self, input: Tensor) -> Tensor:
        if self.train:
            return input * self.noise
        return without_gradient(input, self.__typename__)

    def prepare(self, input: Any) -> None:
        expect(input, like=self.type_sample)
        if self.train:
            self.noise = mersenne.bernoulli(1 - self.p)

    def __str__(self) -> str:
        return f"{self.__typename__}({self.p:f})"


class Serial(Decorator):
    """A module with a say in what of it goes into files: `heavySerial`, `mediumSerial`, `lightSerial`.

    With `tensortype` its tensors are of that type in files ("torch.FloatTensor" for a network on a GPU).
    """

    tensortype: str | None = None

    def __init__(self, module: Module, tensortype: str | None = None) -> None:
        super().__init__(module)
        if tensortype is not None:
            if not (tensortype.startswith("torch.") and tensortype.endswith("Tensor")):
                raise InputError(f"nn.Serial: expected a type such as torch.FloatTensor, got {tensortype}")
            self.tensortype = tensortype

    def read(self, file: Any) -> None:
        """A table of the fields."""
        vars(self).update(file.readObject().items())

    def write(self, file: Any) -> None:
        """What `read` reads; modules inside are written as usual, without what their mode leaves out."""
        state = reduced(self, _blank)
        if self.tensortype is not None:
            state.type(self.tensortype)
        file.writeObject(Table.from_items(vars(state).items()))


def _blank(value: Any) -> Any:
    """A module or table of the same class without fields."""
    kind: Any = type(value)
    return Table() if isinstance(value, Table) else kind.__new__(kind)


# ---- losses


class BinaryLogisticRegression(Criterion):
    """The mean of log(1 + exp(-y x)), or (`sizeAverage` false) the sum.  (batch) or (batch, 1)

    The target y has -1 and 1.
    """

    sizeAverage = True

    def __init__(self, sizeAverage: bool = True) -> None:
        super().__init__(sizeAverage=sizeAverage)

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        return F.soft_margin_loss(input.reshape(-1), target.reshape(-1), reduction=reduction(self))

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.SoftMarginLoss, reduction=reduction(self))

    def prepare(self, input: Any, target: Any) -> None:
        expect(input, 1, 2)
        expect_fit("target", target, input)
        for name, value in (("input", input), ("target", target)):
            if value.dim() > 2 or value.numel() != max(value.shape):
                raise InputError(f"{name}: expected a tensor (batch) or (batch, 1), got {describe(value)}")


class SpatialBinaryLogisticRegression(Criterion):
    """Half the mean of log(1 + exp(-y x)) over all pixels.  (1, h, w) or (batch, 1, h, w), y of -1 and 1

    Without `sizeAverage` it is the sum of the means of the images, halved.
    """

    sizeAverage = True

    def __init__(self) -> None:
        super().__init__(sizeAverage=True)

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        total = F.soft_margin_loss(input, target, reduction="sum")
        height, width = input.shape[-2:]
        return total / (2 * (input.numel() if self.sizeAverage else height * width))

    def prepare(self, input: Any, target: Any) -> None:
        expect(input, 3, 4, size=1, at=-3)
        expect_fit("target", target, input)
        if target.shape != input.shape:
            raise InputError(f"target: expected {describe(input)}, got {describe(target)}")
