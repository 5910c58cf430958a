"""Layers that take a part of their input, or put something else in its place."""

from __future__ import annotations

import math
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.module import Module, TensorLayer
from t7compat.nn.shapes import (
    axis,
    describe,
    expect,
    expect_table,
    from_start,
    like,
    position,
    zero_based,
)
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class Select(TensorLayer):
    """The slice at `index` (from the end if negative) along a dimension.  (..., n, ...) -> (..., ...)"""

    def __init__(self, dimension: int, index: int) -> None:
        super().__init__(dimension=dimension, index=index)

    def compute(self, input: Tensor) -> Tensor:
        along = axis(self.dimension, input.dim())
        return input.select(along, position(self.index, input.shape[along])).contiguous()

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        if input.dim() < 2:
            raise InputError(f"expected a tensor of 2 dimensions or more, got {describe(input)}")


class Narrow(Module):
    """`length` slices from `offset` on along a dimension.  (..., n, ...) -> (..., length, ...)

    A negative length counts the last slice from the end, -1 being the last of all.  With a negative offset,
    whichever, all are taken but the last `length`.  Of tensors of any type.
    """

    length: int = 1

    def __init__(self, dimension: int, offset: int, length: int = 1) -> None:
        super().__init__(dimension=dimension, index=offset, length=length)

    def compute(self, input: Tensor) -> Tensor:
        along = axis(self.dimension, input.dim())
        size = input.shape[along]
        length = self.length if self.length >= 0 else size - self.index + self.length + 2
        length = length if self.index >= 0 else size - length
        start = from_start(self.index if self.index >= 0 else 1, size)
        if not 1 <= length <= size - start:
            raise IndexError(f"{length} slices from {start + 1} on are not within the {size} that there are")
        return input.narrow(along, start, length).contiguous()


class Index(Module):
    """The slices with the given indices along a dimension.  {(..., n, ...), (m)} -> (..., m, ...)

    The indices, which may repeat, are a LongTensor.  Their gradient is zeros.
    """

    gradient_has_own_type = True

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension=dimension, gradInput=Table(new_tensor(), new_tensor()))

    def compute(self, input: tuple[Tensor, Tensor]) -> Tensor:
        along = from_start(self.dimension, input[0].dim())
        return input[0].index_select(along, zero_based(input[1]).to(input[0].device))

    def prepare(self, input: Any) -> None:
        expect_table(input, 2)
        expect(input[0], like=self.type_sample)
        expect(input[1], 1)
        if not input[1].numel() or (input[1].dtype != torch.int64 and not input[1].is_cuda):
            raise InputError(f"expected indices in a torch.LongTensor, got {describe(input[1])}")

    def explain(self, input: Any) -> None:
        count = input[0].shape[from_start(self.dimension, input[0].dim())]
        wrong = input[1][(input[1] < 1) | (input[1] > count)]
        if wrong.numel():
            raise InputError(f"expected indices from 1 to {count}, got {wrong[0].item():g}")

    def clearState(self) -> Any:
        super().clearState()
        self.gradInput = Table(self.output.new_empty(0), self.output.new_empty(0))
        return self


class MaskedSelect(Module):
    """The elements where the mask has a 1, one after the other.  {(...), (...)} -> (n)

    The mask is a ByteTensor of zeros and ones, of as many elements; its gradient is zeros.
    """

    scratch = ("_maskIndices", "_maskIndexBuffer", "_maskIndexBufferCPU", "_gradBuffer", "_gradMask")

    def __init__(self) -> None:
        super().__init__(_gradBuffer=new_tensor(), _gradMask=torch.empty(0, dtype=torch.uint8))
        self._maskIndices = torch.empty(0, dtype=torch.int64)
        self._maskIndexBuffer = torch.empty(0, dtype=torch.int64)
        self._maskIndexBufferCPU = torch.empty(0, dtype=torch.float32)

    def compute(self, input: tuple[Tensor, Tensor]) -> Tensor:
        return input[0].masked_select(like(input[1], input[0]).bool())

    def prepare(self, input: Any) -> None:
        expect_table(input, 2)
        values, mask = input[:2]
        expect(values, like=self.type_sample)
        expect(mask)
        if mask.numel() != values.numel() or not (mask.dtype in (torch.uint8, torch.bool) or mask.is_cuda):
            wanted = f"a mask of {values.numel()} elements in a torch.ByteTensor"
            raise InputError(f"expected {wanted}, got {describe(mask)}")
        if mask.dtype != torch.bool and (mask > 1).any():
            raise InputError(f"expected a mask of zeros and ones, got {mask.max().item():g}")

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        kept = {name: vars(self).get(name) for name in self.scratch if name != "_gradBuffer"}
        result = super().type(type, tensorCache)
        vars(self).update((name, value) for name, value in kept.items() if value is not None)
        return result


class TemporalDynamicKMaxPooling(Module):
    """The k largest of each column, in their order.  (n, columns) or (batch, n, columns) -> (..., k, columns)

    k is minK, or factor * n rounded up if that is more.  `indices` keeps which rows they are from.
    Kalchbrenner, Grefenstette and Blunsom, 2014.
    """

    scratch = ("indices",)

    def __init__(self, minK: int, factor: float | None = None) -> None:
        super().__init__(minK=minK, factor=factor or 0)

    def compute(self, input: Tensor) -> Tensor:
        count = max(self.minK, math.ceil(self.factor * input.shape[-2]))
        order = input.transpose(-2, -1).argsort(dim=-1, descending=True, stable=True)
        where = order.narrow(-1, 0, count).sort(-1)[0].transpose(-2, -1)
        self.indices = where + 1
        return input.gather(-2, where)

    def prepare(self, input: Any) -> None:
        expect(input, 2, 3)
        rows = input.shape[-2]
        if not 1 <= max(self.minK, math.ceil(self.factor * rows)) <= rows:
            wanted = f"at least {max(self.minK, 1)} rows, and minK or a factor from which 1 to all follow"
            raise InputError(f"expected {wanted}, got {describe(input)}")
