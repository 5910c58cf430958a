"""What is worth a look in a checkpoint: NaNs and infinities, units that are never active, old formats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch

from converters.native import FAILURES, native_form
from t7compat.nested import walk
from t7compat.nn.containers import Sequential
from t7compat.nn.module import Module
from t7compat.t7file.objects import LuaFunction, Storage

_AT_ONCE = 1 << 22  # numbers: so that little of a mapped file is in memory
_OLD_FUNCTION = 7  # the last type tag of functions before that of today

_LINEAR = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_NORMALIZING = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
_INTERVALS = {
    torch.nn.ReLU: (0.0, math.inf), torch.nn.ReLU6: (0.0, 6.0), torch.nn.Sigmoid: (0.0, 1.0),
    torch.nn.Softmax: (0.0, 1.0), torch.nn.Tanh: (-1.0, 1.0), torch.nn.Softplus: (0.0, math.inf),
}  # fmt: skip
_RECTIFYING = (torch.nn.ReLU, torch.nn.ReLU6)
# What gives numbers that it was given, or means of them, and perhaps zeros
_HANDING_ON = (
    torch.nn.Identity, torch.nn.Flatten, torch.nn.MaxPool1d, torch.nn.MaxPool2d, torch.nn.MaxPool3d,
    torch.nn.AvgPool2d, torch.nn.AvgPool3d, torch.nn.Dropout, torch.nn.Dropout2d, torch.nn.ZeroPad2d,
)  # fmt: skip

Remarks = dict[int, list[str]]
Upgraded = Iterable[tuple[Any, list[str]]]


def remarks(root: Any, upgraded: Upgraded = ()) -> Remarks:
    """What is unusual, by the identity of the table, object or tensor.

    `upgraded` are the objects whose class changed fields of an old format when they were loaded.
    """
    found: Remarks = {}
    for value, names in upgraded:
        found.setdefault(id(value), []).append(f"old format: {', '.join(names)} brought up to date")
    for value, content in [(None, {1: root}), *walk(root)]:
        for one in content.values():
            if isinstance(one, torch.Tensor | Storage) and id(one) not in found and (text := _special(one)):
                found[id(one)] = [text]
        if isinstance(value, LuaFunction) and value.tag <= _OLD_FUNCTION:
            found.setdefault(id(value), []).append("old format: a function without names of its upvalues")
        if isinstance(value, Sequential):
            for layer, text in _never_active(value):
                if text not in found.setdefault(id(layer), []):  # Sequentials inside of others come again
                    found[id(layer)].append(text)
    return found


def _special(value: Any) -> str:
    """How many numbers are NaN or infinite, in words."""
    data = value.data if isinstance(value, Storage) else value
    if not data.is_floating_point():
        return ""
    nans = infinite = 0
    numbers = data.detach().reshape(-1) if data.is_contiguous() else data.detach().flatten()
    for part in numbers.split(_AT_ONCE):
        if not part.isfinite().all():
            nans += int(part.isnan().sum())
            infinite += int(part.isinf().sum())
    return ", ".join([f"{nans:,} NaN"] * bool(nans) + [f"{infinite:,} infinite"] * bool(infinite))


# ---- rectifiers whose input is never positive


class _Interval(NamedTuple):
    """What the numbers after a layer lie between: for all of them, or a number for each unit."""

    low: torch.Tensor
    high: torch.Tensor


_ANYTHING = _Interval(torch.tensor(-math.inf), torch.tensor(math.inf))


def _never_active(network: Sequential) -> Iterator[tuple[Any, str]]:
    """The rectifiers in a row of layers whose units give 0 for every input, judged by the weights."""
    values = _ANYTHING
    for layer in _in_a_row(network):
        try:
            make = native_form(layer) if isinstance(layer, Module) else None
            kind = make.func if make is not None else None
            if kind in _RECTIFYING and values.high.dim():
                dead = int((values.high <= 0).sum())
                if dead:
                    yield layer, f"{dead:,} of {len(values.high):,} units are 0 for every input"
            values = _after(kind, layer, values)
        except FAILURES:  # fields that are not those of the class
            values = _ANYTHING


def _in_a_row(network: Sequential, depth: int = 0) -> Iterator[Any]:
    for layer in network.children():
        if isinstance(layer, Sequential) and depth < 60:
            yield from _in_a_row(layer, depth + 1)
        else:
            yield layer


def _after(kind: Any, layer: Any, values: _Interval) -> _Interval:
    """Between what the numbers lie after a layer, by those before it."""
    if kind in _INTERVALS:
        low, high = map(torch.tensor, _INTERVALS[kind])
        return _Interval(low, high)
    if kind in _HANDING_ON:
        return _Interval(values.low.min().clamp(max=0), values.high.max().clamp(min=0))
    state = layer.native_state() if kind in (*_LINEAR, *_NORMALIZING) else {}
    weight, bias = state.get("weight"), state.get("bias")
    if weight is None:
        return _ANYTHING
    weight = weight.detach().double()
    shift = torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias.detach().double()
    if kind in _NORMALIZING:
        weight = weight / (state["running_var"].double() + layer.eps).sqrt()
        shift = shift - weight * state["running_mean"].double()
        ends = torch.stack([_times(weight, values.low), _times(weight, values.high)])
        return _Interval(ends.amin(0) + shift, ends.amax(0) + shift)
    # 0 is among the values where there is padding
    low, high = values.low.min().clamp(max=0), values.high.max().clamp(min=0)
    rising, falling = (weight.clamp(**side).flatten(1).sum(1) for side in ({"min": 0}, {"max": 0}))
    return _Interval(
        _times(rising, low) + _times(falling, high) + shift,
        _times(rising, high) + _times(falling, low) + shift,
    )


def _times(factor: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """The product, where 0 times infinity is 0."""
    return torch.where(factor == 0, 0.0, factor * end)
