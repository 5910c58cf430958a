"""What the operations of a forward become: functions, methods and operators of PyTorch, by their names.

A rule gets the forward and the arguments, which hold a Value for what depends on the input, a Constant for
any other tensor, and plain values; it returns a Value, or Parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from converters.back import indexing
from converters.back.forward import OPERATIONS, Constant, Forward, Operation, Parts, Value, operation
from converters.back.layers import divided
from converters.back.setting import chain, name_of
from converters.back.states import LastOutputs, recurrent
from converters.back.unpooling import pooled, unpooled
from converters.child import gives_state
from converters.native import FAILURES
from converters.text import Unconvertible
from t7compat import nn

tnn = torch.nn
Tensor = torch.Tensor


def converted(forward: Forward, node: fx.Node, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What an operation gives."""
    if node.op == "call_module":
        layer = forward.root.get_submodule(str(node.target))
        return of_layer(forward, layer, str(node.target), arguments, named)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    forward.operation = name if name in OPERATIONS else name.rstrip("_")
    rule = OPERATIONS.get(forward.operation)
    if rule is None:
        is_loss = hasattr(torch.nn.functional, name) and forward.once.dim() == 0
        raise Unconvertible(
            f"its forward calls {name}, which has no counterpart"
            + (": losses are criterions, as from_native makes of torch.nn.MSELoss()" if is_loss else "")
        )
    if name != "getitem":
        arguments = tuple(x.whole(forward) if isinstance(x, LastOutputs) else x for x in arguments)
    try:
        return rule(forward, *arguments, **named)
    except FAILURES as error:
        raise Unconvertible(f"its forward calls {name} in a way that is not known: {error}") from None


def of_layer(
    forward: Forward, layer: tnn.Module, name: str, arguments: tuple[Any, ...], named: dict[str, Any]
) -> Any:
    """The call of a layer inside."""
    if gives_state(type(layer)) and isinstance(arguments[0], Value):
        return recurrent(forward, layer, name, *arguments, **named)
    if (
        getattr(layer, "return_indices", False)
        and len(arguments) == 1
        and name_of(layer).startswith("MaxPool")
    ):
        return pooled(forward, layer, name, arguments[0])
    if isinstance(layer, tnn.modules.pooling._MaxUnpoolNd):
        return unpooled(forward, *arguments, **named)
    if named or not all(isinstance(value, Value) for value in arguments):
        raise Unconvertible(f"its forward calls {name} with more than tensors that depend on the input")
    return forward.layer(layer, *arguments, name=name)


# ---- pointwise, of one tensor


_POINTWISE: dict[str, Callable[[], Any]] = {
    "abs": lambda: nn.Abs(), "exp": lambda: nn.Exp(), "log": lambda: nn.Log(), "sqrt": lambda: nn.Sqrt(),
    "square": lambda: nn.Square(), "rsqrt": lambda: nn.Power(-0.5), "reciprocal": lambda: nn.Power(-1),
    "neg": lambda: nn.MulConstant(-1), "negative": lambda: nn.MulConstant(-1),
    "contiguous": lambda: nn.Contiguous(),
}  # fmt: skip


def _pointwise(make: Callable[[], Any]) -> Operation:
    return lambda forward, input: forward.apply(make(), input)


for _name, _make in _POINTWISE.items():
    OPERATIONS[_name] = _pointwise(_make)


@operation("clone", "to", "float", "double", "half", "type_as", "cuda", "cpu", "type", "long")
def _same(forward: Forward, input: Value, *arguments: Any, **named: Any) -> Value:
    if input.is_index == forward.once.is_floating_point():
        raise Unconvertible(f"{forward.name} makes numbers of indices, or indices of numbers")
    return input


@operation("detach")
def _detach(forward: Forward, input: Value) -> Value:
    raise Unconvertible("its forward calls detach: Torch7 has no module that stops gradients")


@operation("clamp", "clip", "clamp_min", "clamp_max")
def _clamp(forward: Forward, input: Value, min: Any = None, max: Any = None) -> Value:
    if forward.operation.startswith("clamp_max"):
        min, max = None, min
    if min is not None and max is not None:
        return forward.apply(nn.HardTanh(min, max), input)
    if min is not None:
        return forward.apply(nn.Threshold(min, min), input)
    return forward.apply(chain(nn.MulConstant(-1), nn.Threshold(-max, -max), nn.MulConstant(-1)), input)


@operation("pow")
def _power(forward: Forward, input: Any, exponent: Any) -> Value:
    if not isinstance(input, Value):
        return forward.apply(chain(nn.MulConstant(math.log(input)), nn.Exp()), exponent)
    return forward.apply(nn.Square() if exponent == 2 else nn.Power(exponent), input)


# ---- reductions


def positions(forward: Forward, input: Value, dim: Any) -> list[int]:
    """Dimensions, counted from 1, the last one first; all of them for None."""
    rank = forward.example(input).once[0].dim()
    dims = range(rank) if dim is None else (dim,) if isinstance(dim, int) else dim
    return sorted({d % rank + 1 for d in dims}, reverse=True)


@operation("mean", "sum")
def _sum(forward: Forward, input: Value, dim: Any = None, keepdim: bool = False) -> Value:
    if dim is None:
        raise Unconvertible(f"{forward.name} over the whole batch cannot be converted")
    is_mean = forward.operation.startswith("mean")
    sums = [nn.Sum(place, None, is_mean, not keepdim) for place in positions(forward, input, dim)]
    return forward.apply(chain(*sums), input)


@operation("amax", "amin", "max", "min")
def _extreme(forward: Forward, input: Value, dim: Any = None, keepdim: bool = False) -> Any:
    if dim is None:
        raise Unconvertible(f"{forward.name} over the whole batch cannot be converted")
    if isinstance(dim, Value | Constant):
        return OPERATIONS[f"{forward.operation}imum"](forward, input, dim)
    is_max = "max" in forward.operation
    places = positions(forward, input, dim)
    modules = [(nn.Max if is_max else nn.Min)(place) for place in places]
    back = [nn.Unsqueeze(place) for place in reversed(places)] if keepdim else []
    value = forward.apply(chain(*modules, *back), input)
    if isinstance(forward.once, Tensor):
        return value
    value.once, value.twice = forward.once[0], forward.twice[0]
    return Parts((value, None))


@operation("cat", "concat", "concatenate", "stack")
def _join(forward: Forward, tensors: Any, dim: int = 0) -> Value:
    rank = forward.once.dim()
    values = [indexing.as_value(forward, value, tensors) for value in tensors]
    if forward.operation.startswith("stack"):
        values = [forward.apply(nn.Unsqueeze(dim % rank + 1), value) for value in values]
    return forward.apply(nn.JoinTable(dim % rank + 1), *values) if len(values) > 1 else values[0]


@operation("split", "chunk", "unbind", "tensor_split", "split_with_sizes")
def _split(forward: Forward, input: Value, sizes: Any = None, dim: int | None = None, **named: Any) -> Parts:
    is_unbind, memory = forward.operation == "unbind", forward.setting.memory
    dim = (sizes if is_unbind else dim) or 0
    dim %= input.once.dim()
    if input.once.shape[dim] != input.twice.shape[dim]:
        raise Unconvertible(f"{forward.name} divides the batch")
    lengths = [1 if is_unbind else once.shape[dim] for once in forward.once]
    if forward.operation == "chunk" and len(set(lengths)) == 1:
        memory.has_parts = True
        if memory.of_any_length:
            input, is_unbind = _in_parts(forward, input, dim, len(lengths)), True
    parts, start = list[Value](), 1
    for once, twice, length in zip(forward.once, forward.twice, lengths, strict=True):
        module = nn.Select(dim + 1, len(parts) + 1) if is_unbind else nn.Narrow(dim + 1, start, length)
        parts.append(forward.apply(module, input))
        parts[-1].once, parts[-1].twice = once, twice
        start += length
    return Parts(parts)


def _in_parts(forward: Forward, input: Value, dim: int, count: int) -> Value:
    """A value whose dimension, counted from 0, is two: so many parts, and the length of one."""
    parts = forward.apply(divided(dim, (count, -1), input.once.dim()), input)
    parts.once, parts.twice = (run.unflatten(dim, (count, -1)) for run in (input.once, input.twice))
    return parts


@operation("getitem")
def _item(forward: Forward, value: Any, index: Any) -> Any:
    if isinstance(value, Parts):
        found = value[index]
        if found is None:
            raise Unconvertible("indices of maxima, and the cells c_n of an LSTM, cannot be converted")
        return found
    if isinstance(value, LastOutputs):
        first, *rest = index if isinstance(index, tuple) else (index,)
        part = value.part(forward, first)
        return _item(forward, part, tuple(rest)) if rest else part
    if isinstance(value.once, tuple | list):
        places = [i for i, part in enumerate(value.once) if part is not None]
        place = places.index(index % len(value.once)) + 1
        return forward.apply(nn.SelectTable(place), value) if len(places) > 1 else value
    return forward.apply(indexing.item(forward, value, index), value)


@operation("getattr")
def _attribute(forward: Forward, value: Any, name: str) -> Any:
    if isinstance(value, Parts) and name == "values":
        return value[0]
    if isinstance(value, Value) and name == "mT":
        return OPERATIONS["transpose"](forward, value, -2, -1)
    raise Unconvertible(f"its forward asks for .{name}")
