"""Permutations and categories from random numbers, as Torch7 makes them, for many numbers at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def swapped(offsets: Array) -> Array:
    """0..n after swapping the places i and i + offsets[i] for i = 0..n-1.

    About sqrt(n - i) steps are taken at once, up to the first that needs the result of another of them.
    """
    n = len(offsets)
    order = np.arange(n + 1)
    targets = order[:-1] + offsets
    first = np.full(n + 1, n)  # the first step with this place as its target
    start = 0
    while start < n:
        there = targets[start : start + 2 * math.isqrt(n - start)]
        steps = np.arange(start, start + len(there))
        first[there[::-1]] = steps[::-1]
        needs = (first[there] < steps) | (first[steps] < steps)
        first[there] = n
        count = int(needs.argmax()) or len(steps)
        here, there = steps[:count], there[:count]
        order[here], order[there] = order[there], order[here]
        start += count
    return order


def categories(table: Array, samples: Array, with_replacement: bool) -> Array:
    """Where the samples (rows, n) fall in the rows of cumulative probabilities, from 0 on."""
    table[:, -1] = 1
    if with_replacement:
        return _search(table, samples)
    found = _search(table, samples[:, :1])
    for sample in samples.T[1:]:
        table = _without(table, found[:, -1:])
        found = np.append(found, _search(table, sample[:, None]), axis=1)
    return found


def _without(table: Array, taken: Array) -> Array:
    """The cumulative probabilities when the category `taken` of each row is no longer there."""
    below = np.where(taken > 0, np.take_along_axis(table, np.maximum(taken - 1, 0), 1), 0)
    mass = np.take_along_axis(table, taken, 1) - below
    table = (table - np.where(np.arange(table.shape[1]) >= taken, mass, 0)) / (1 - mass)
    table[:, -1] = 1
    return table


def _search(table: Array, samples: Array) -> Array:
    """Torch7's binary search in each row; its steps matter in rows that are not sorted (rounding, NaN)."""
    low, high = np.zeros(samples.shape, np.int64), np.full(samples.shape, table.shape[1])
    while (low < high).any():
        middle = (low + high) // 2
        above = np.take_along_axis(table, middle, 1) < samples
        low = np.where(above, middle + 1, low)
        high = np.where(above, high, middle)
    return low
