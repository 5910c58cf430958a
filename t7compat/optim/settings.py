"""What all optimisers share: how they are called, and how they read and write the tables config and state."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t7compat.errors import InputError
from t7compat.nn.shapes import describe
from t7compat.table import Table

Opfunc = Callable[..., Any]
Options = Table | dict[str, Any] | None


class Settings:
    """A table of options or of an optimiser's state, with the names that Lua has: a Table or a dict.

    Numbers come as numpy's, which divide by zero and overflow as Lua's do; Python's own are stored.
    """

    def __init__(self, method: str, table: Any) -> None:
        if not isinstance(table, Table | dict):
            raise InputError(f"{method}: expected config and state to be tables, got {describe(table)}")
        self.method, self.table = method, table

    def __getitem__(self, name: str) -> Any:
        """The value, None where there is none or, as Lua's `config.name or default` has it, false."""
        value = self.table[name] if isinstance(self.table, Table) else self.table.get(name)
        return None if value is False else value

    def __setitem__(self, name: str, value: Any) -> None:
        self.table[name] = value.item() if isinstance(value, np.generic) else value

    def number(self, name: str, default: float | None = None) -> Any:
        """A number."""
        value = self[name]
        return np.float64(number(f"{self.method}: {name}", default if value is None else value))

    def whole(self, name: str, default: float | None = None) -> int:
        """A number of things."""
        value = self.number(name, default)
        if value != np.floor(value) or np.isinf(value):
            raise InputError(f"{self.method}: {name}: expected a whole number, got {value}")
        return int(value)

    def tensor(self, name: str, like: Tensor) -> Tensor | None:
        """A tensor of the state, None if there is none yet; it has as many elements as `like`."""
        value = self[name]
        if value is not None and not fits(value, like):
            raise InputError(f"{self.method}: {name}: expected {describe(like)}, got {describe(value)}")
        return value

    def buffer(self, name: str, like: Tensor, fill: float = 0) -> Tensor:
        """A tensor of the state, which is made where there is none yet."""
        value = self.tensor(name, like)
        if value is None:
            value = self[name] = torch.full_like(like, fill)
        return value

    def vector(self, name: str, like: Tensor) -> Tensor | None:
        """An option for each parameter, in the type of `like`; None if it is not given."""
        value = self[name]
        if value is not None and not (isinstance(value, Tensor) and value.numel() == like.numel()):
            raise InputError(
                f"{self.method}: {name}: expected a tensor with {like.numel()} elements, "
                f"got {describe(value)}"
            )
        return None if value is None else value.to(like).view_as(like)


def fits(value: Any, like: Tensor) -> bool:
    """Whether `value` is a tensor of the type and the device of `like`, with as many elements."""
    return (
        isinstance(value, Tensor)
        and (value.dtype, value.device) == (like.dtype, like.device)
        and value.numel() == like.numel()
    )


def number(name: str, value: Any) -> Any:
    """`value`, as a Python number where it is a tensor with one element; InputError if it is no number."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{name}: expected a number, got {describe(value)}")
    return value


def dot(a: Tensor, b: Tensor) -> Any:
    """The product of two vectors, a number."""
    return np.float64(a.dot(b).item())


def expect_vector(method: str, name: str, value: Any, *, flat: bool = False) -> None:
    """Raise InputError unless `value` is a floating point tensor (`flat`: with one dimension)."""
    if not (isinstance(value, Tensor) and value.is_floating_point() and (value.dim() == 1 or not flat)):
        kind = "1-D floating point tensor" if flat else "floating point tensor"
        raise InputError(f"{method}: {name}: expected a {kind}, got {describe(value)}")


def as_called(opfunc: Opfunc) -> Opfunc:
    """`opfunc` under the modes of PyTorch (gradients) and numpy (errors) that there are now."""
    records, errors = torch.is_grad_enabled(), np.geterr()

    def evaluate(*point: Any) -> Any:
        with torch.set_grad_enabled(records), np.errstate(**errors):  # type: ignore[arg-type]
            return opfunc(*point)

    return evaluate


def objective(method: str, opfunc: Opfunc) -> Callable[[Tensor], tuple[Any, Tensor]]:
    """`opfunc`, with a check of what it returns: the value at a point, and the gradient."""
    opfunc = as_called(opfunc)

    def evaluate(x: Tensor) -> tuple[Any, Tensor]:
        result = opfunc(x)
        try:
            f, g = result
        except (TypeError, ValueError):
            raise InputError(
                f"{method}: expected opfunc to return f(x) and df/dx, got {describe(result)}"
            ) from None
        if not fits(g, x):
            raise InputError(f"{method}: expected df/dx to be {describe(x)}, got {describe(g)}")
        return f, g if g.shape == x.shape else g.view_as(x)

    return evaluate


def value_of(method: str, opfunc: Opfunc) -> Callable[..., Any]:
    """`opfunc`, of whose results only the first is asked for: the value at a point, a number."""
    opfunc = as_called(opfunc)

    def evaluate(*point: Any) -> Any:
        result = opfunc(*point)
        first = result[0] if isinstance(result, tuple | list) else result
        return number(f"{method}: f(x)", first)

    return evaluate


def optimiser(
    announcement: str = "", *, flat: bool = False, gradients: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give `step(evaluate, x, config, state)` the interface that all methods of optim have in Lua.

    Without `state` it is in config, and without both it is lost.  `announcement` is what Lua prints in that
    case; `flat` says that x must be a vector; without `gradients`, opfunc need not return one.
    """

    def decorate(step: Callable[..., Any]) -> Callable[..., Any]:
        name = step.__name__
        checked = objective if gradients else value_of

        @functools.wraps(step, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
        def method(opfunc: Opfunc, x: Tensor, config: Options = None, state: Options = None) -> Any:
            expect_vector(name, "x", x, flat=flat)
            if announcement and config is None and state is None:
                print(announcement)
            options = Settings(name, {} if config is None else config)
            evaluate = checked(name, opfunc)  # outside of the modes of the next line
            with torch.no_grad(), np.errstate(all="ignore"):
                return step(evaluate, x, options, options if state is None else Settings(name, state))

        method.__signature__ = inspect.signature(method, follow_wrapped=False)  # type: ignore[attr-defined]
        return method

    return decorate
