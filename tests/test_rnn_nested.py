"""rnn.recursiveCopy and its like; the numbers are Torch7's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import t7compat
from t7compat import InputError, Table, nn, rnn


def tensor(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64)


def test_reached_as_in_lua() -> None:
    kept, source = Table(tensor(0)), Table(tensor(1, 2), Table(tensor(3)))
    assert nn.rnn.recursiveCopy(kept, source)[0] is kept
    assert rnn.recursiveTensorEq(kept, source)


def test_comparison() -> None:
    value = Table(tensor(1, 2), Table(tensor(3)))
    assert rnn.recursiveTensorEq(value, [tensor(1, 2.000001), [tensor(3)]])
    assert not rnn.recursiveTensorEq(value, [tensor(1, 2), [tensor(3.1)]])
    assert not rnn.recursiveTensorEq(tensor(1), [tensor(1)])


def test_sum_and_random_numbers() -> None:
    assert rnn.recursiveSum([tensor(1, 2), [tensor(3)]]) == 6
    t7compat.manualSeed(3)
    drawn = rnn.recursiveNormal(Table(tensor(0, 0), Table(tensor(0))))
    assert drawn[1].tolist() == pytest.approx([-0.3636714399, -0.1201830259], abs=1e-10)
    assert drawn[2][1].tolist() == pytest.approx([-0.4976109894], abs=1e-10)


def test_sizes() -> None:
    resized, _ = rnn.recursiveResizeAs(Table(tensor(1, 2, 3), tensor(1)), [tensor(5, 5)])
    assert [len(part) for part in resized] == [2, 1]  # what the other one lacks stays
    empty = rnn.recursiveNew([tensor(1), [tensor(2).float()]])
    assert (empty[1].shape, empty[2][1].shape, empty[2][1].dtype) == ((0,), (0,), torch.float32)


def test_set_shares_memory() -> None:
    value = tensor(1, 2)
    mine, _ = rnn.recursiveSet(None, [value])
    mine[1][0] = 9
    assert value.tolist() == [9, 2]


@pytest.mark.parametrize("function", [rnn.recursiveSum, rnn.recursiveNormal, rnn.recursiveNew])
def test_refused(function: Any) -> None:
    with pytest.raises(InputError, match="expected a tensor or a table of tensors, got"):
        function([tensor(1), 5])
