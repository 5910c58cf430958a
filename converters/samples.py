"""What to give to a network: the shape of its input, found from what the file holds, and random numbers."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch

from t7compat.contrib import torch_rnn
from t7compat.errors import InputError
from t7compat.nn.composites import PartialLinear
from t7compat.nn.containers import Container, Decorator, ParallelTable, Sequential
from t7compat.nn.convolution import Windowed
from t7compat.nn.devices import DataParallelTable
from t7compat.nn.distances import Euclidean, WeightedEuclidean
from t7compat.nn.embedding import LookupTable
from t7compat.nn.formats import OneHot
from t7compat.nn.products import Bilinear
from t7compat.nn.scaling import CAdd, CMul
from t7compat.nn.weightnorm import LinearWeightNorm
from t7compat.nn.wrappers import MapTable
from t7compat.rnn.flat import RNN
from t7compat.rnn.recurrences import Recurrent
from t7compat.rnn.recurrent import AbstractRecurrent
from t7compat.rnn.sequence import Sequence
from t7compat.rnn.sequencer import AbstractSequencer, Sequencer
from t7compat.table import Table, leaves, to_tuples

BATCH, STEPS = 2, 3
_LARGEST = 1 << 48  # numbers of a tensor, with which a processor of today can address them
_MOST = 1 << 18  # places of a plane or volume
_WIDTHS = (8, 16, 28, 32, 64, 96, 128, 224, 227, 256)  # of images, from small to large
_LENGTHS = (8, 32, 128)  # of texts for windows


class Entry(NamedTuple):
    """A tensor: its size, and the largest index where its numbers are indices (from 1)."""

    size: tuple[int, ...]
    largest: int | None = None

    def __str__(self) -> str:
        return ("x".join(map(str, self.size)) or "1") + (
            f" of indices 1..{self.largest}" if self.largest else ""
        )


Shape = Entry | tuple[Any, ...]
# Where nothing is known
ANY = (
    Entry((BATCH, 8)), Entry((BATCH, 3, 8, 8)), Entry((BATCH, 4, 8)), (Entry((BATCH, 8)), Entry((BATCH, 8))),
    (Entry((BATCH, 4, 4)), Entry((BATCH, 4, 4))),
)  # fmt: skip


def describe(shape: Shape) -> str:
    """A shape in words: `7x3 of indices 1..16`, `{2x4, 2x4}`."""
    return str(shape) if isinstance(shape, Entry) else "{" + ", ".join(map(describe, shape)) + "}"


def parse(text: str) -> list[tuple[int, ...]]:
    """The sizes that `3x4` stands for, or `3x4,3x5` for a table of two tensors."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*(,[1-9]\d*(x[1-9]\d*)*)*", text):
        raise InputError(f"expected a size such as 3x4, or 3x4,3x5 for a table of two tensors, got {text!r}")
    sizes = [tuple(map(int, part.split("x"))) for part in text.split(",")]
    if max(map(math.prod, sizes)) > _LARGEST:
        raise InputError(f"expected a size that can be in memory, got {text}")
    return sizes


def shaped(sizes: list[tuple[int, ...]], wishes: Iterable[Shape]) -> Shape:
    """The shape with these sizes; what the network wants says which of its tensors are indices."""
    limits = _limits(next(iter(wishes), ANY[0]))
    entries = tuple(Entry(size, limits[min(i, len(limits) - 1)]) for i, size in enumerate(sizes))
    return entries if len(entries) > 1 else entries[0]


def candidates(module: Any, wishes: Iterable[Shape] | None = None) -> Iterator[Shape]:
    """Shapes that a network may take, the best guess first; `wishes` are what its first layers want."""
    wishes = iter(wanted(module) if wishes is None else wishes)
    first = next(wishes, ANY[0])
    limits = itertools.cycle(_limits(first))
    stored = to_tuples(lambda x: Entry(tuple(x.shape), next(limits)), _tensors(vars(module).get("gradInput")))
    seen = {()}
    for shape in itertools.chain((stored, first), wishes, ANY):
        for variant in (shape, *_stacked(shape)):
            if variant not in seen:
                seen.add(variant)
                yield variant


def draw(shape: Shape, dtype: torch.dtype, seed: int = 1) -> Any:
    """Random numbers: normal ones of type `dtype`, or indices.  Tables are tuples."""
    generator = torch.Generator().manual_seed(seed)

    def fill(shape: Shape) -> Any:
        if not isinstance(shape, Entry):
            return tuple(map(fill, shape))
        if shape.largest:
            return torch.randint(1, shape.largest + 1, shape.size, generator=generator)
        return torch.randn(shape.size, generator=generator, dtype=torch.float64).to(dtype)

    return fill(shape)


def _stacked(shape: Shape) -> Iterator[Shape]:
    """A table of equal tensors as one tensor: what is split in the network may come in one piece."""
    if not isinstance(shape, Entry) and shape and isinstance(shape[0], Entry) and len(set(shape)) == 1:
        size, largest = shape[0]
        for at in (0, 1)[: len(size) + 1]:
            yield Entry((*size[:at], len(shape), *size[at:]), largest)


def _tensors(value: Any) -> Any:
    """A stored buffer, or an empty table if it holds nothing."""
    found = leaves(value)
    filled = found and all(isinstance(leaf, torch.Tensor) and leaf.numel() for leaf in found)
    return value if filled else Table()


def _limits(shape: Shape) -> list[int | None]:
    """The largest index of each tensor."""
    if isinstance(shape, Entry):
        return [shape.largest]
    return [limit for part in shape for limit in _limits(part)]


# ---- what the first layers with parameters take


@functools.singledispatch
def wanted(module: Any) -> Iterator[Shape]:
    """The shapes that a layer takes, judged by its parameters and by the size of its last output."""
    fields = vars(module)
    weight = next(
        (fields[name] for name in ("weight", "bias") if isinstance(fields.get(name), torch.Tensor)), None
    )
    if weight is None:
        if count := fields.get("nelement") or fields.get("numElements"):  # of Reshape and View
            yield Entry((BATCH, count))
    elif weight.dim():
        yield from _vectors(module, weight.shape[-1])
        yield Entry((BATCH, weight.shape[-1], 8, 8))


def _vectors(module: Any, size: int) -> Iterator[Shape]:
    for leading in (*_leading(module), (BATCH,), (), (STEPS, BATCH)):
        yield Entry((*leading, size))


def _leading(module: Any) -> list[tuple[int, ...]]:
    """The dimensions of a layer's last output before the features."""
    output = vars(module).get("output")
    return [tuple(output.shape[:-1])] if isinstance(output, torch.Tensor) and output.numel() else []


@wanted.register
def _windowed(module: Windowed) -> Iterator[Shape]:
    for width in (n for n in _WIDTHS if n ** len(module.axes) <= _MOST):
        if "inputFrameSize" in vars(module):
            yield Entry((BATCH, width, module.inputFrameSize))
            yield Entry((width, module.inputFrameSize))
        else:  # some have the size of their input
            sides = [vars(module).get(f"i{axis}", width) for axis in module.axes]
            yield Entry((BATCH, module.nInputPlane, *sides))


@wanted.register
def _normalized(module: LinearWeightNorm) -> Iterator[Shape]:
    yield Entry((BATCH, module.inputSize))


@wanted.register
def _one_hot(module: OneHot) -> Iterator[Shape]:
    yield Entry((BATCH,), module.outputSize)


@wanted.register
def _bilinear(module: Bilinear) -> Iterator[Shape]:
    yield tuple(Entry((BATCH, size)) for size in module.weight.shape[1:])


@wanted.register(CAdd)
@wanted.register(CMul)
def _of_size(module: CAdd | CMul) -> Iterator[Shape]:
    yield Entry((BATCH, *module.size))


@wanted.register(Euclidean)
@wanted.register(WeightedEuclidean)
def _to_columns(module: Euclidean | WeightedEuclidean) -> Iterator[Shape]:
    yield Entry((BATCH, len(module.weight)))


@wanted.register
def _partial(module: PartialLinear) -> Iterator[Shape]:
    yield Entry((BATCH, module.inputsize))


@wanted.register
def _lookup(module: LookupTable) -> Iterator[Shape]:
    for size in (*_leading(module), (STEPS, BATCH), (STEPS,), (BATCH,), *((BATCH, n) for n in _LENGTHS)):
        yield Entry(size, len(module.weight))


@wanted.register
def _container(module: Container) -> Iterator[Shape]:
    if module.shares_input or isinstance(module, Sequential | Decorator | DataParallelTable):
        # the first child that says something: those before it hand on what they are given, or so we hope
        yield from next(filter(None, (list(wanted(child)) for child in module.children())), [])


@wanted.register
def _parallel(module: ParallelTable) -> Iterator[Shape]:
    yield from zip(*(wanted(child) for child in module.children()), strict=False)


@wanted.register
def _map(module: MapTable) -> Iterator[Shape]:
    for child in list(module.children())[:1]:
        yield from ((shape,) * STEPS for shape in wanted(child))


@wanted.register
def _flat(module: RNN) -> Iterator[Shape]:
    yield from _vectors(module, module.inputSize)


@wanted.register
def _recurrent(module: AbstractRecurrent) -> Iterator[Shape]:
    if size := module.inputSize or vars(module).get("inputsize"):  # the fork of rnn has another name
        yield from _vectors(module, size)
    elif isinstance(module, Recurrent):
        yield from wanted(module.inputModule)
    else:
        for shape in wanted(module.modules[1]):
            yield shape if isinstance(shape, Entry) else shape[0]


@wanted.register
def _sequence(module: Sequence) -> Iterator[Shape]:
    inputs, *_ = module.sizes()
    yield Entry((STEPS, BATCH, inputs))


@wanted.register
def _of_torch_rnn(module: torch_rnn.Recurrence) -> Iterator[Shape]:
    yield Entry((BATCH, STEPS, module.input_dim))


@wanted.register
def _over_sequences(module: AbstractSequencer) -> Iterator[Shape]:
    for child in module.children():
        yield from wanted(child)


@wanted.register
def _sequencer(module: Sequencer) -> Iterator[Shape]:
    for shape in wanted(module.modules[1]):
        yield (shape,) * STEPS
