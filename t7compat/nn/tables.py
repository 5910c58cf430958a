"""Layers that take tables apart, put them together, or combine their entries."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.shapes import (
    axis,
    describe,
    expect,
    expect_fit,
    expect_joinable,
    expect_table,
    flattened,
    like,
    position,
)
from t7compat.nn.stepping import ANY_DIMS
from t7compat.nn.tape import Tape
from t7compat.t7file.objects import LongStorage
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

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

    @property
    def row_dims(self) -> Collection[int]:  # type: ignore[override]
        if self.nInputDims is not None:
            return (self.nInputDims,)
        return [dims for dims in ANY_DIMS if 1 < self.dimension <= dims + 1]

    def prepare(self, input: Any) -> None:
        expect_table(input)

    def explain(self, input: Any) -> None:
        expect_joinable(input, self.dimension, self.nInputDims)


class SelectTable(Module):
    """The entry at `index`: counted from 1, from the end if negative, or a name."""

    row_dims = ANY_DIMS

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

    row_dims = ANY_DIMS

    def __init__(self, offset: int, length: int = 1) -> None:
        super().__init__(offset=offset, length=length, output=Table(), gradInput=Table())

    def compute(self, input: tuple[Any, ...]) -> tuple[Any, ...]:
        return input[max(self.offset - 1, 0) : max(self.offset - 1 + self.length, 0)]

    def prepare(self, input: Any) -> None:
        expect_table(input, 0)


class FlattenTable(Module):
    """A table of all tensors in a nested table, in depth-first order."""

    row_dims = ANY_DIMS

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

    checks_only = True

    def prepare(self, input: Any) -> None:
        expect_table(input)
        expect_equal_sizes(input)


def expect_equal_sizes(entries: tuple[Any, ...], of: Any = None) -> None:
    """Raise InputError unless the entries are tensors with as many elements as the first one, or as `of`."""
    first = entries[0] if of is None else of
    for i, value in enumerate(entries, 1):
        if value is not first or not isinstance(value, Tensor):
            expect_fit(f"entry {i}", value, first)


class CAddTable(Pointwise):
    """The sum of the entries, element by element.  {(...), (...), ...} -> (...)"""

    row_dims = ANY_DIMS

    def __init__(self, inplace: bool | None = None) -> None:
        super().__init__(inplace=inplace, gradInput=Table())

    def compute(self, input: tuple[Tensor, ...]) -> Tensor:
        total, *others = input
        for other in others:
            total = total + like(other, total)
        return total


class CMulTable(Pointwise):
    """The product of the entries, element by element.  {(...), (...), ...} -> (...)"""

    row_dims = ANY_DIMS

    def __init__(self) -> None:
        super().__init__(gradInput=Table())

    def compute(self, input: tuple[Tensor, ...]) -> Tensor:
        product, *others = input
        for other in others:
            product = product * like(other, product)
        return product


class Pair(Pointwise, typename=""):
    """The base of layers that combine the first two entries; further ones are left alone."""

    checks_only = True

    def __init__(self) -> None:
        super().__init__(gradInput=Table())

    def prepare(self, input: Any) -> None:
        expect_table(input, 2)
        expect_equal_sizes(input[:2])


class CSubTable(Pair):
    """The first entry minus the second, element by element.  {(...), (...)} -> (...)"""

    row_dims = ANY_DIMS

    def compute(self, input: tuple[Tensor, ...]) -> Tensor:
        return input[0] - like(input[1], input[0])


class CDivTable(Pair):
    """The first entry divided by the second, element by element.  {(...), (...)} -> (...)"""

    row_dims = ANY_DIMS

    def compute(self, input: tuple[Tensor, ...]) -> Tensor:
        return input[0] / like(input[1], input[0])


class Extreme(Pointwise, typename=""):
    """The base of layers that take each element from one of the entries: of equal ones the first."""

    kind = ""

    def __init__(self) -> None:
        names = (f"{self.kind}Idx", "mask", f"{self.kind}Vals", "gradMaxVals")
        super().__init__(gradInput=Table(), **{name: new_tensor() for name in names})

    def compute(self, input: tuple[Tensor, ...]) -> Tensor:
        chosen, *others = input
        for other in others:
            x = like(other, chosen)
            chosen = torch.where(x > chosen if self.kind == "max" else x < chosen, x, chosen)
        return chosen

    def trace(self, tape: Tape, input: Any) -> Any:
        output = super().trace(tape, input)
        if not tape.is_replay:
            setattr(self, f"{self.kind}Idx", first_equal(input, output))
        return output


def first_equal(entries: tuple[Tensor, ...], chosen: Tensor) -> Tensor:
    """For each element the number of the first entry that has it, 1 for NaN."""
    chosen, index = chosen.data, torch.ones_like(chosen, requires_grad=False)
    for i, entry in reversed(list(enumerate(entries, 1))):
        index.masked_fill_(like(entry.data, chosen) == chosen, i)
    return index


class CMaxTable(Extreme):
    """The largest of the entries, element by element.  {(...), (...), ...} -> (...)

    `maxIdx` keeps which entry, counted from 1, each element was taken from.
    """

    kind = "max"


class CMinTable(Extreme):
    """The smallest of the entries, element by element.  {(...), (...), ...} -> (...)

    `minIdx` keeps which entry, counted from 1, each element was taken from.
    """

    kind = "min"


class CAddTensorTable(Module):
    """A tensor added to each entry of a table.  {(...), {(...), (...), ...}} -> {(...), (...), ...}"""

    def __init__(self) -> None:
        super().__init__(gradInput=Table())

    def compute(self, input: tuple[Any, ...]) -> tuple[Tensor, ...]:
        tensor, entries = input
        return tuple([like(entry, tensor) + tensor for entry in entries])

    def prepare(self, input: Any) -> None:
        expect_table(input, 2)
        expect(input[0])
        expect_table(input[1], 0)
        expect_equal_sizes(input[1], of=input[0])


class MixtureTable(Module):
    """The sum of what n experts give, weighted by a gater.

    {(n), {(...), ...}} -> (...), or {(batch, n), {(batch, ...), ...}} -> (batch, ...).  Instead of a table,
    the experts may be one tensor, in which `dim` counts them: 1 for a sample, 2 for a batch if it is not
    given.
    """

    scratch = ("_gaterView", "_expert", "_expertView", "_sum", "_expert2", "_expertView2")
    dim: int | None = None

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(
            dim=dim, size=LongStorage(), batchSize=0, size2=LongStorage(), backwardSetup=False,
            gradInput=Table(),
        )  # fmt: skip

    def compute(self, input: tuple[Any, ...]) -> Tensor:
        gater, experts = input
        if isinstance(experts, torch.Tensor):
            experts = experts.unbind(axis(self.dim or gater.dim(), experts.dim()))
        gates = gater.unbind(-1)
        total = experts[0] * over_sample(gates[0], experts[0])
        for expert, gate in zip(experts[1:], gates[1:], strict=True):
            total = total + expert * over_sample(gate, expert)
        return total

    def prepare(self, input: Any) -> None:
        expect_table(input, 2)
        gater, experts = input[:2]
        expect(gater, 1, 2)
        if isinstance(experts, tuple):
            expect_equal_sizes(experts)
            count = len(experts)
        else:
            along = axis(self.dim or gater.dim(), experts.dim())
            count = experts.shape[along] if along or gater.dim() == 1 else 0
        if gater.shape[-1] != count:
            raise InputError(
                f"expected one gater output for each expert, got {describe(gater)} and {describe(experts)}"
            )


def over_sample(gate: Tensor, expert: Tensor) -> Tensor:
    """One number, or one for each sample, in a shape that is expanded over what an expert gives."""
    return gate.reshape(gate.shape + (1,) * (expert.dim() - gate.dim()))


class ZipTable(Module):
    """{{a1, a2}, {b1, b2}, {c1, c2}} -> {{a1, b1, c1}, {a2, b2, c2}}"""

    def __init__(self) -> None:
        super().__init__(output=Table(), gradInput=Table())

    def compute(self, input: tuple[Any, ...]) -> tuple[Any, ...]:
        columns = max(map(len, input), default=0)
        return tuple([tuple([row[j] for row in input if j < len(row)]) for j in range(columns)])

    def prepare(self, input: Any) -> None:
        expect_table(input, 0)
        for i, row in enumerate(input):
            expect_table(row, 0)
            if len(row) > len(input[max(0, i - 1)]):  # Torch7 would leave a hole in the output
                raise InputError(f"expected tables that do not get longer, got {describe(input)}")


class ZipTableOneToMany(Module):
    """{x, {a, b, c}} -> {{x, a}, {x, b}, {x, c}}"""

    def __init__(self) -> None:
        super().__init__(output=Table(), gradInput=Table(), gradInputEl=new_tensor())

    def compute(self, input: tuple[Any, ...]) -> tuple[Any, ...]:
        element, entries = input
        return tuple([(element.view_as(element), entry) for entry in entries])

    def prepare(self, input: Any) -> None:
        expect_table(input, 2)
        expect(input[0])
        expect_table(input[1], 0)
        if len(input) > 2:
            raise InputError(f"expected a table of a tensor and a table, got {describe(input)}")


# ---- tables of another kind: the connections of SpatialConvolutionMap


def full(nin: int, nout: int) -> Tensor:
    """Connections of all of `nin` input planes with all of `nout` output planes: rows {from, to}."""
    return _table([(i, o) for o in range(1, nout + 1) for i in range(1, nin + 1)])


def oneToOne(nfeat: int) -> Tensor:
    """Connections of each input plane with the output plane of its number."""
    return _table([(i, i) for i in range(1, nfeat + 1)])


def random(nin: int, nout: int, nto: int) -> Tensor:
    """Connections of each output plane with `nto` input planes, drawn so that all of these get used."""
    if not 1 <= nto <= nin:
        raise InputError(f"nn.tables.random: expected 1 to {nin} connections for each plane, got {nto}")
    permutation, rows = mersenne.randperm(nin), []
    chunks = nin // nto
    for o in range(nout):
        start = o % chunks * nto
        rows += [(i, o + 1) for i in permutation[start : start + nto].tolist()]
        if o % chunks == chunks - 1:
            permutation = mersenne.randperm(nin)
    return _table(rows)


def _table(rows: list[tuple[Any, int]]) -> Tensor:
    return new_tensor(len(rows), 2).copy_(torch.tensor(rows, dtype=torch.float64).view(-1, 2))
