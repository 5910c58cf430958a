"""Residual blocks: layers side by side, of which the outputs are added."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from converters import emitted_layers
from converters.native import Layer


@dataclass(eq=False, kw_only=True)
class Residual(Layer):
    """Two layers with the same input, whose outputs are added; or one, to whose output its input is.

    `apart` are the layers that do so one after the other, as Torch has them.
    """

    apart: tuple[Layer, ...]

    def members(self) -> Iterable[tuple[str, Layer]]:
        return zip(("main", "shortcut"), self.children, strict=False)

    def changed(self, change: Callable[[Layer], Layer]) -> Layer:
        return replace(self, children=tuple(map(change, self.children)), apart=tuple(map(change, self.apart)))

    def _construct(self, made: dict[Layer, torch.nn.Module]) -> torch.nn.Module:
        if self not in made:
            for layer in self.apart:  # a replay runs them
                layer._construct(made)
        return super()._construct(made)


def with_residuals(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Layers that follow one another, those that branch and add as one."""
    found: list[Layer] = []
    for layer in layers:
        if found and layer.make.func is emitted_layers.Total and _is_fork(found[-1]):
            fork = found.pop()
            main, shortcut = sorted(fork.children, key=_size, reverse=True)
            children = (main,) if _is_identity(shortcut) else (main, shortcut)
            make: functools.partial[Any] = functools.partial(emitted_layers.Residual)
            layer = Residual(make, layer.origin, layer.path, children, apart=(fork, layer))
        found.append(layer)
    return tuple(found)


def one_by_one(layers: Iterable[Layer]) -> Iterator[Layer]:
    """The layers, with those that branch and those that add for residual blocks."""
    for layer in layers:
        if isinstance(layer, Residual):
            yield from layer.apart
        else:
            yield layer


def _is_fork(layer: Layer) -> bool:
    two = layer.make.func is emitted_layers.Branches and len(layer.children) == 2
    return two and not all(map(_is_identity, layer.children))


def _is_identity(layer: Layer) -> bool:
    return layer.make.func is torch.nn.Identity


def _size(layer: Layer) -> int:
    return 0 if _is_identity(layer) else sum(1 for _ in layer.walk())
