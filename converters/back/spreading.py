"""Expanding a tensor over another one, of any size, with modules that Torch7 has.

Torch7's modules do not broadcast.  What is of size 1 along the last dimensions, or along the first ones after
the batch, is multiplied as a column, or as a row, by ones that are made of the other tensor: nn.MM gives the
elements in their order.  CAddTable and its like take tensors that have as many elements as the first one.
"""

from __future__ import annotations

import math
from typing import Any

from converters.back.setting import chain
from t7compat import nn

Size = tuple[int, ...]


def filled(value: float, *modules: Any) -> Any:
    """This number for each element of what modules give: none of them is above infinity."""
    return chain(*modules, nn.Threshold(math.inf, value))


def column(rank: int) -> Any:
    """(batch, n, ..., 1, ...) -> (batch, n ..., 1)"""
    return chain(nn.Contiguous(), nn.View(-1, 1).setNumInputDims(rank - 1))


def row(rank: int) -> Any:
    """(batch, 1, ..., n, ...) -> (batch, 1, n ...)"""
    return chain(nn.Contiguous(), nn.View(1, -1).setNumInputDims(rank - 1))


def first_only(dims: range) -> list[Any]:
    """The first slice along each of these dimensions."""
    return [nn.Narrow(dim, 1, 1) for dim in dims]


def over_last(rank: int, first: int) -> tuple[Any, Any]:
    """Factors for nn.MM: of the small tensor, of size 1 from dimension `first` on, and of the large one."""
    return column(rank), filled(1, *first_only(range(2, first)), row(rank))


def over_first(rank: int, last: int) -> tuple[Any, Any]:
    """Factors for nn.MM: of the large tensor, and of the small one, of size 1 from 2 to `last`."""
    return filled(1, *first_only(range(last + 1, rank + 1)), column(rank)), row(rank)


def differing(small: Size, large: Size) -> tuple[int, int]:
    """The first and the last dimension, counted from 1, along which the small tensor is to be expanded."""
    dims = [i for i, (one, other) in enumerate(zip(small, large, strict=True), 1) if one != other]
    return dims[0], dims[-1]
