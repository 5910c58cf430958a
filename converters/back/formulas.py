"""Functions, methods and layers of PyTorch in terms of others, which a recording has in their place.

A formula gets the stand-ins of torch.fx for tensors, whose sizes and types are not known yet.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import torch

from converters.text import Unconvertible

tnn = torch.nn
Formula = Callable[..., Any]
_FORMULAS: dict[Any, Formula] = {}


def formula(*keys: Any) -> Callable[[Formula], Formula]:
    """Decorator: the formula for functions and methods of these names, a function, or a class of layers."""

    def decorate(rule: Formula) -> Formula:
        _FORMULAS.update(dict.fromkeys(keys, rule))
        return rule

    return decorate


def of_function(target: Any) -> Formula | None:
    """The formula for a function, or the name of a method, if there is one; in place or not."""
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    return _FORMULAS.get(target) or _FORMULAS.get(name.rstrip("_"))


def of_layer(kind: type) -> Formula | None:
    """The formula for a class of layers, or for the one that it has its forward from."""
    forward = getattr(kind, "forward", None)
    owners = (cls for cls in kind.__mro__ if getattr(cls, "forward", None) is forward)
    return next((_FORMULAS[cls] for cls in owners if cls in _FORMULAS), None)


def spelled_out(layer: tnn.Module) -> tnn.Module:
    """The layer, with the formula for its class as its forward if there is one."""
    kind, rule = type(layer), of_layer(type(layer))
    if rule is None:
        return layer
    made: tnn.Module = kind.__new__(type(kind.__name__, (kind,), {"forward": rule}))
    vars(made).update(vars(layer))
    return made


# ---- of the elements


_OF_ONE = {
    "log1p": lambda x: (x + 1).log(),
    "expm1": lambda x: x.exp() - 1,
    "log2": lambda x: x.log() / math.log(2),
    "log10": lambda x: x.log() / math.log(10),
    "exp2": lambda x: (x * math.log(2)).exp(),
    "sinh": lambda x: (x.exp() - (-x).exp()) / 2,
    "cosh": lambda x: (x.exp() + (-x).exp()) / 2,
    "expit": lambda x: x.sigmoid(),
    "logit": lambda x: (x / (1 - x)).log(),
}
_FORMULAS.update(_OF_ONE)


@formula("lerp")
def _between(input: Any, end: Any, weight: Any) -> Any:
    return input + (end - input) * weight


@formula("addcmul")
def _plus_product(input: Any, one: Any, other: Any, *, value: float = 1) -> Any:
    return input + one * other * value


@formula("addcdiv")
def _plus_quotient(input: Any, one: Any, other: Any, *, value: float = 1) -> Any:
    return input + one / other * value


@formula("addmm", "baddbmm")
def _plus_matrices(input: Any, one: Any, other: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    return input * beta + (one @ other) * alpha


@formula("einsum")
def _einsum(equation: str, *operands: Any) -> Any:
    """The product of two tensors that is one of matrices, for each element of what they have in common."""
    terms = re.fullmatch(r"(\w+),(\w+)->(\w+)", equation.replace(" ", ""))
    given = operands[0] if isinstance(operands[0], tuple | list) else operands
    if terms is None or len(given) != 2 or any(len(set(term)) != len(term) for term in terms.groups()):
        raise Unconvertible(f"einsum({equation!r}): only products of two tensors can be converted")
    one, other, result = terms.groups()
    shared = [d for d in one if d in other and d in result]
    summed = [d for d in one if d in other and d not in result]
    rows, columns = ([d for d in x if d not in y] for x, y in ((one, other), (other, one)))
    is_matrix = len(summed) == len(columns) == 1 and (len(rows) == 1 or not shared)
    if not is_matrix or {*rows, *columns, *shared} != set(result):
        raise Unconvertible(f"einsum({equation!r}): only products of matrices can be converted")

    def ordered(x: Any, have: Any, want: list[str]) -> Any:
        return x if list(have) == want else x.permute(*[have.index(d) for d in want])

    product = ordered(given[0], one, shared + rows + summed) @ ordered(
        given[1], other, shared + summed + columns
    )
    return ordered(product, shared + rows + columns, list(result))


@formula(torch.where)
def _chosen(condition: Any, input: Any, other: Any) -> Any:
    """For a condition that does not depend on the input."""
    if isinstance(input, int | float):
        return other.masked_fill(condition, input)
    if isinstance(other, int | float):
        return input.masked_fill(~condition, other)
    return input.masked_fill(~condition, 0.0) + other.masked_fill(condition, 0.0)


# ---- statistics


@formula("var")
def _variance(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *,
    correction: float | None = None,
) -> Any:  # fmt: skip
    if dim is None or isinstance(dim, bool):
        raise Unconvertible("the variance of the whole batch cannot be converted")
    variance = (input - input.mean(dim, keepdim=True)).square().mean(dim, keepdim=keepdim)
    correction = float(unbiased) if correction is None else correction
    if correction == 0:
        return variance
    count = math.prod(input.size(d) for d in (dim if isinstance(dim, tuple | list) else (dim,)))
    if count == correction:
        raise Unconvertible("an unbiased variance of as few numbers is not defined")
    return variance * (count / (count - correction))


@formula("std")
def _deviation(input: Any, *arguments: Any, **named: Any) -> Any:
    return _variance(input, *arguments, **named).sqrt()


@formula("var_mean")
def _variance_and_mean(input: Any, dim: Any, *arguments: Any, keepdim: bool = False, **named: Any) -> Any:
    return _variance(input, dim, *arguments, keepdim=keepdim, **named), input.mean(dim, keepdim=keepdim)


@formula("logsumexp")
def _log_of_sum(input: Any, dim: int, keepdim: bool = False) -> Any:
    greatest = input.amax(dim, keepdim=True)
    logarithm = (input - greatest).exp().sum(dim, keepdim=True).log() + greatest
    return logarithm if keepdim else logarithm.squeeze(dim)


@formula("norm", "linalg_norm", "linalg_vector_norm")
def _norm(input: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, **named: Any) -> Any:
    if dim is None or isinstance(p, str) or math.isinf(p) or not p:
        raise Unconvertible("a norm is converted along dimensions, for a number p")
    if p == 1:
        return input.abs().sum(dim, keepdim=keepdim)
    if p == 2:
        return input.square().sum(dim, keepdim=keepdim).sqrt()
    return input.abs().pow(p).sum(dim, keepdim=keepdim).pow(1 / p)


# ---- shapes


@formula("pixel_unshuffle")
def _pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    blocks = input.unflatten(3, (-1, downscale_factor)).unflatten(2, (-1, downscale_factor))
    return blocks.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


@formula("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(input: Any, groups: int) -> Any:
    return input.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
