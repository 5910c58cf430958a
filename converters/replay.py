"""Proof without Lua: what Torch7 itself computed.

A checkpoint often holds the `output` of every layer in the last forward pass.  So each converted layer can be
run on what the layer before it gave, and compared with what Torch7 got.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from converters.compare import Difference, difference
from converters.graphs import Graph
from converters.native import CHAINS, FAILURES, Layer, outputs_alone
from converters.recurrent import remembers
from converters.residual import one_by_one
from t7compat import mersenne
from t7compat.nn.containers import ParallelTable
from t7compat.nn.module import Module
from t7compat.nn.unpooling import MaxUnpooling
from t7compat.rnn.sequencer import AbstractSequencer
from t7compat.table import Table, leaves, to_tuples


@dataclass
class Replay:
    """How many outputs were compared, how far apart they are, and how many were left out for which reason.

    `deviating` are the layers (by path) that give something else than Torch7 did.  `updated` says that there
    are such, and all have parameters, which may have changed since the last forward.
    """

    compared: int = 0
    largest: float = 0.0
    deviating: dict[str, str] = field(default_factory=dict)
    updated: bool = False
    skipped: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.compared} stored output{'s' * (self.compared != 1)} of Torch7"

    def skip(self, reason: str) -> None:
        """Count a layer that is left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


class Place(NamedTuple):
    """Where a value is: an output, or the entry of it at these positions; or a table of `parts`."""

    step: Step | None = None
    picks: tuple[int, ...] = ()
    parts: tuple[Place, ...] = ()

    def entry(self, i: int) -> Place:
        """The place of an entry of the value."""
        return self.parts[i] if self.parts else self._replace(picks=(*self.picks, i))

    def steps(self) -> Iterator[Step]:
        """The outputs that the value is made of."""
        if self.step is not None:
            yield self.step
        for part in self.parts:
            yield from part.steps()


@dataclass(eq=False)
class Step:
    """One layer in the pass, what it was given, the steps inside of it, and when it was done."""

    layer: Layer
    given: Place
    inside: list[Step]
    time: int

    @functools.cached_property
    def stored(self) -> Any:
        """The output that the file holds; None if there is none."""
        output = getattr(self.layer.origin, "output", None)
        found = leaves(output)
        filled = found and all(isinstance(leaf, torch.Tensor) and leaf.numel() for leaf in found)
        return to_tuples(lambda x: x, output) if filled else None


def replay(network: Layer) -> Replay:
    """Run each layer whose input and output the file holds, in the mode of its last forward."""
    made: dict[Layer, torch.nn.Module] = {}
    network = outputs_alone(network)
    network.build(made)
    steps: list[Step] = []
    for layer in (network,) if network.origin is not None else network.children:
        _enter(layer, Place(), steps)
    return _Comparison(steps, made).result()


def _enter(layer: Layer, given: Place, steps: list[Step]) -> Place:
    """Go through a layer and note the steps; gives what comes out of it."""
    module, begin = layer.origin, len(steps)
    children = list(one_by_one(layer.children))
    if isinstance(layer, Graph):
        result = _enter_graph(layer, given, steps)
        if module is None:  # a part of a graph, of which Torch kept no output
            return result
    elif module is None and layer.make.func is torch.nn.Sequential:
        for child in children:
            given = _enter(child, given, steps)
        return given
    elif isinstance(module, Module) and [child.origin for child in children] == list(module.children()):
        if layer.make.func in CHAINS:
            for child in children:
                given = _enter(child, given, steps)
            return given
        for i, child in enumerate(children):
            if module.shares_input:
                _enter(child, given, steps)
            else:
                _enter(child, given.entry(i) if isinstance(module, ParallelTable) else Place(), steps)
    steps.append(Step(layer, given, steps[begin:], len(steps)))
    return Place(steps[-1])


def _enter_graph(graph: Graph, given: Place, steps: list[Step]) -> Place:
    """Go through the nodes of a graph; gives what comes out of it."""
    places = [given]
    for node in graph.nodes[1:]:
        sources = tuple(places[source] for source in node.sources)
        value = sources[0] if len(sources) == 1 else Place(parts=sources)
        if node.entry is not None:
            value = value.entry(node.entry)
        places.append(value if node.layer is None else _enter(node.layer, value, steps))
    return places[-1]


class _Comparison:
    """The comparison of all steps of a pass."""

    def __init__(self, steps: list[Step], made: dict[Layer, torch.nn.Module]) -> None:
        self.steps, self.made = steps, made
        self.written: dict[int, int] = {}  # when something was last written into each storage
        for step in steps:
            before = set[int]().union(*(_storages(one.stored) for one in (*step.given.steps(), *step.inside)))
            for storage in _storages(step.stored):
                if storage not in before or getattr(step.layer.origin, "inplace", False):
                    self.written[storage] = step.time

    def result(self) -> Replay:
        result = Replay()
        weighted: list[bool] = []  # whether the deviating layers have parameters
        for step in self.steps:
            if step.stored is None or not self._is_intact(step):
                continue
            if reason := _reason_to_skip(step.layer.origin):
                result.skip(reason)
                continue
            try:
                found = self._apart(step)
            except (_Unknown, NotImplementedError):  # the latter: something inside could not be converted
                continue
            if found is None:
                result.skip("draws random numbers in training mode")
                continue
            result.compared += 1
            if math.isfinite(found.largest):
                result.largest = max(result.largest, found.largest)
            if not found.within:
                result.deviating[step.layer.path] = str(found)
                weighted.append(bool(step.layer.tensors()))
        result.updated = bool(weighted) and all(weighted)
        return result

    def _apart(self, step: Step) -> Difference | None:
        """How far the layer is from Torch7; None if either gives something else each time.

        In training mode torch.nn's layers may have other rules than Torch's: what agrees in evaluation mode
        is right.
        """
        try:
            got = self._run(step, as_last=True)
            found = difference(got, step.stored)
            if not found.within:
                evaluated = difference(self._run(step, as_last=False), step.stored)
                if evaluated.within:
                    return evaluated
                if self._draws(step) or not difference(self._run(step, as_last=True), got).within:
                    return None
            return found
        except NotImplementedError:
            raise
        except FAILURES as error:
            return Difference(math.inf, problem=f"{type(error).__name__}: {error}")

    def _draws(self, step: Step) -> bool:
        """Whether the Torch module draws random numbers, which the written layer need not do."""
        module = step.layer.origin.clone()
        before = mersenne.getRNGState()
        with contextlib.suppress(*FAILURES):
            module.forward(Table.from_python(self._value(step.given, as_last=True)))
        return not torch.equal(mersenne.getRNGState(), before)

    def _is_intact(self, step: Step) -> bool:
        """Whether no later layer has written over an output: in-place layers do."""
        return all(self.written[storage] <= step.time for storage in _storages(step.stored))

    def _run(self, step: Step, as_last: bool) -> Any:
        """What the layer gives now, in the mode of its last forward or in evaluation mode."""
        mode = getattr(step.layer.origin, "train", None) is not False
        layer = self.made[step.layer].train(as_last and mode)
        statistics = {name: buffer.clone() for name, buffer in layer.named_buffers()}  # training changes them
        input = self._value(step.given, as_last)
        with torch.no_grad():
            return torch.func.functional_call(layer, statistics, (input,))

    def _value(self, place: Place, as_last: bool) -> Any:
        """What a layer was given: as stored, or computed again where a later layer has written over it."""
        if place.parts:
            return tuple(self._value(part, as_last) for part in place.parts)
        if place.step is None or place.step.stored is None:
            raise _Unknown
        step = place.step
        value = step.stored if self._is_intact(step) else self._run(step, as_last)
        for i in place.picks:
            value = value[i]
        return value


class _Unknown(Exception):
    """The file does not hold what a layer was given."""


def _reason_to_skip(module: Any) -> str:
    if isinstance(module, AbstractSequencer):
        return "goes on from the sequence before" if module.hasMemory() else ""
    if isinstance(module, MaxUnpooling):
        return "needs what its pooling layer was given"
    return "goes on from the step before" if remembers(module) else ""


def _storages(value: Any) -> set[int]:
    return {leaf.untyped_storage()._cdata for leaf in leaves(value) if isinstance(leaf, torch.Tensor)}
