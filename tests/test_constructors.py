"""None as an argument of a constructor is Lua's nil: the default takes its place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from golden import cases

import t7compat
from t7compat import nn, registry

AREAS = ("nn", "rnn", "dpnn", "nngraph")
OTHERS: dict[str, Callable[[], list[Any]]] = {
    "PCAColorTransform": lambda: [3, torch.eye(3), torch.ones(3)],
    "SequencerCriterion": lambda: [nn.MSECriterion()],
    "TrimZero": lambda: [nn.Linear(2, 2), 1],
}
SIZES: list[list[Any]] = [[], [3], [3, 2], [3, 2, 2]]


def optional(name: str) -> list[str]:
    """The arguments of a class that have a default other than None."""
    parameters = inspect.signature(getattr(nn, name)).parameters.values()
    return [p.name for p in parameters if p.default not in (None, p.empty)]


def required_arguments(name: str) -> Iterator[list[Any]]:
    """Values for the other arguments that may do: those of the golden cases, then what many classes take."""
    count = sum(
        p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        for p in inspect.signature(getattr(nn, name)).parameters.values()
    )
    if name in OTHERS:
        yield OTHERS[name]()
    for case in (case for area in AREAS for case in cases(area) if case.stem == name):
        yield [*(case.load().args or ())][:count]
    yield from SIZES


def built(name: str, arguments: list[Any], **named: Any) -> bytes:
    t7compat.manualSeed(1)
    return t7compat.dumps(getattr(nn, name)(*arguments, **named))


def first_that_works(name: str) -> list[Any]:
    for arguments in required_arguments(name):
        try:
            built(name, arguments)
        except Exception:  # any class may refuse what is not meant for it in its own way
            continue
        return arguments
    raise AssertionError(f"no arguments for nn.{name}")


@pytest.mark.parametrize("name", [name for name in registry.names("nn") if optional(name)])
def test_none_is_the_default(name: str) -> None:
    arguments = first_that_works(name)
    plain = built(name, arguments)
    for argument in optional(name):
        assert built(name, arguments, **{argument: None}) == plain, argument


def test_by_position() -> None:
    assert built("Linear", [3, 2, None]) == built("Linear", [3, 2])


class Own(nn.Linear, typename="test.OwnDefaults"):
    """A class of the user's, whose constructor may mean None."""

    def __init__(self, size: int | None = 3) -> None:
        super().__init__(size or 1, 2, None)


def test_constructors_of_users_get_what_they_are_given() -> None:
    assert Own(None).weight.shape == (2, 1)
    assert Own(None).bias is not None
