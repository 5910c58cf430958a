"""Layers that take tables apart, put them together, or combine their entries."""

from __future__ import annotations

from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.shapes import (
    axis,
    describe,
    expect_fit,
    expect_joinable,
    expect_table,
    flattened,
    like,
    position,
)
from t7compat.t7file.objects import LongStorage
from t7compat.table import Table

Tensor = torch.Tensor


class SplitTable(Module):
    """The table of the slices along a dimension.  (..., n, ...) -> n times (..., ...)

    `nInputDims` is the number of dimensions of a sample: with one more, the dimension is counted from the
    second.
    """

    nInputDims: int | None = None

    def __init__(self, dimension: int, nInputDims: int | None = None) -> None:
        super().__init__(dimension=dimension, nInputDims=nInputDims)

    def compute(self, input: Tensor) -> tuple[Tensor, ...]:
        return input.unbind(axis(self.dimension, input.dim(), self.nInputDims))


class JoinTable(Module):
    """The entries side by side along a dimension.  {(..., n, ...), (..., m, ...)} -> (..., n + m, ...)

    `nInputDims` is the number of dimensions of a sample: with one more, the dimension is counted from the
    second.
    """

    nInputDims: int | None = None

    def __init__(self, dimension: int, nInputDims: int | None = None) -> None:
        super().__init__(dimension=dimension, nInputDims=nInputDims, size=LongStorage(), gradInput=Table())

    def compute(self, input: tuple[Tensor, ...]) -> Tensor:
        return torch.cat(input, axis(self.dimension, input[0].dim(), self.nInputDims))

    def prepare(self, input: Any) -> None:
        expect_table(input)

    def explain(self, input: Any) -> None:
        expect_joinable(input, self.dimension, self.nInputDims)


class SelectTable(Module):
    """The entry at `index`: counted from 1, from the end if negative, or a name."""

    def __init__(self, index: int | str) -> None:
        super().__init__(index=index, gradInput=Table())

    def compute(self, input: Any) -> Any:
        return input[self.index if isinstance(self.index, str) else position(self.index, len(input))]

    def prepare(self, input: Any) -> None:
        known = (
            input.keys()
            if isinstance(input, dict)
            else range(1, len(input) + 1)
            if isinstance(input, tuple)
            else ()
        )
        if self.index not in known and not (isinstance(self.index, int) and -len(known) <= self.index < 0):
            raise InputError(f"expected a table with an entry {self.index}, got {describe(input)}")

    def __str__(self) -> str:
        return f"{self.__typename__}({self.index})"


class NarrowTable(Module):
    """The table of `length` entries from `offset` (counted from 1) on."""

    def __init__(self, offset: int, length: int = 1) -> None:
        super().__init__(offset=offset, length=length, output=Table(), gradInput=Table())

    def compute(self, input: tuple[Any, ...]) -> tuple[Any, ...]:
        return input[max(self.offset - 1, 0) : max(self.offset - 1 + self.length, 0)]

    def prepare(self, input: Any) -> None:
        expect_table(input, 0)


class FlattenTable(Module):
    """A table of all tensors in a nested table, in depth-first order."""

    def __init__(self) -> None:
        super().__init__(output=Table(), gradInput=Table(), input_map=Table())

    def compute(self, input: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return flattened(input)

    def prepare(self, input: Any) -> None:
        expect_table(input, 0)

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        """Empty the tables, which only refer to the tensors of others; as in Torch7, nothing is returned."""
        self.clearState()

    def clearState(self) -> Any:
        self.input_map = Table()
        return super().clearState()


class Pointwise(Module, typename=""):
    """The base of layers that combine the entries element by element; they must have as many elements."""

    def prepare(self, input: Any) -> None:
        expect_table(input)
        for i, value in enumerate(input, 1):
            expect_fit(f"entry {i}", value, input[0])


class CAddTable(Pointwise):
    """The sum of the entries, element by element.  {(...), (...), ...} -> (...)"""

    def __init__(self, inplace: bool | None = None) -> None:
        super().__init__(inplace=inplace, gradInput=Table())

    def compute(self, input: tuple[Tensor, ...]) -> Tensor:
        total, *others = input
        for other in others:
            total = total + like(other, total)
        return total


class CMulTable(Pointwise):
    """The product of the entries, element by element.  {(...), (...), ...} -> (...)"""

    def __init__(self) -> None:
        super().__init__(gradInput=Table())

    def compute(self, input: tuple[Tensor, ...]) -> Tensor:
        product, *others = input
        for other in others:
            product = product * like(other, product)
        return product
