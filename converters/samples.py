"""What to give to a network: the shape of its input, found from what the file holds, and random numbers."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import torch

from t7compat.contrib import torch_rnn
from t7compat.dpnn.reinforce import TwoParameters
from t7compat.errors import InputError
from t7compat.nn.classification import BCECriterion, Binary, CrossEntropyCriterion, MultiLabelMarginCriterion
from t7compat.nn.composites import PartialLinear
from t7compat.nn.containers import Container, Decorator, ParallelTable, Sequential
from t7compat.nn.convolution import Windowed
from t7compat.nn.criterion import Classifying, Criterion
from t7compat.nn.devices import DataParallelTable
from t7compat.nn.distances import Euclidean, WeightedEuclidean
from t7compat.nn.embedding import LookupTable
from t7compat.nn.formats import OneHot
from t7compat.nn.pairwise import HingeEmbeddingCriterion, Pairwise
from t7compat.nn.products import Bilinear
from t7compat.nn.regression import DistKLDivCriterion
from t7compat.nn.scaling import CAdd, CMul
from t7compat.nn.weightnorm import LinearWeightNorm
from t7compat.nn.wrappers import MapTable
from t7compat.nngraph import ModuleFromCriterion
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


OF_CLASSES = Classifying, CrossEntropyCriterion  # criterions whose target are classes
_WORDS = {"any": "", "signs": " of -1 and 1", "shares": " from 0 to 1"}


class Entry(NamedTuple):
    """A tensor: its size, and the kind of its numbers, or the largest where they are indices (from 1)."""

    size: tuple[int, ...]
    largest: int | None = None
    kind: Literal["any", "signs", "shares"] = "any"

    def __str__(self) -> str:
        words = f" of indices 1..{self.largest}" if self.largest else _WORDS[self.kind]
        return ("x".join(map(str, self.size)) or "1") + words


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
    known = _entries(next(iter(wishes), ANY[0]))
    entries = tuple(known[min(i, len(known) - 1)]._replace(size=size) for i, size in enumerate(sizes))
    return entries if len(entries) > 1 else entries[0]


def candidates(module: Any, wishes: Iterable[Shape] | None = None) -> Iterator[Shape]:
    """Shapes that a network may take, the best guess first; `wishes` are what its first layers want."""
    wishes = iter(wanted(module) if wishes is None else wishes)
    first = next(wishes, ANY[0])
    known = itertools.cycle(_entries(first))
    gradInput = _tensors(vars(module).get("gradInput"))
    stored = to_tuples(lambda x: next(known)._replace(size=tuple(x.shape)), gradInput)
    seen = {()}
    for shape in itertools.chain((stored, first), wishes, ANY):
        for variant in (shape, *_stacked(shape)):
            if variant not in seen:
                seen.add(variant)
                yield variant


def draw(shape: Shape, dtype: torch.dtype, seed: int = 1) -> Any:
    """Random numbers of type `dtype`, normal ones where any will do, or indices.  Tables are tuples."""
    generator = torch.Generator().manual_seed(seed)

    def fill(shape: Shape) -> Any:
        if not isinstance(shape, Entry):
            return tuple(map(fill, shape))
        if shape.largest:
            return torch.randint(1, shape.largest + 1, shape.size, generator=generator)
        numbers = torch.randn(shape.size, generator=generator, dtype=torch.float64)
        return {"any": numbers, "signs": numbers.sign(), "shares": numbers.sigmoid()}[shape.kind].to(dtype)

    return fill(shape)


def _stacked(shape: Shape) -> Iterator[Shape]:
    """A table of equal tensors as one tensor: what is split in the network may come in one piece."""
    if not isinstance(shape, Entry) and shape and isinstance(shape[0], Entry) and len(set(shape)) == 1:
        size = shape[0].size
        for at in (0, 1)[: len(size) + 1]:
            yield shape[0]._replace(size=(*size[:at], len(shape), *size[at:]))


def _tensors(value: Any) -> Any:
    """A stored buffer, or an empty table if it holds nothing."""
    found = leaves(value)
    filled = found and all(isinstance(leaf, torch.Tensor) and leaf.numel() for leaf in found)
    return value if filled else Table()


def _entries(shape: Shape) -> list[Entry]:
    """The tensors of a shape, in order."""
    return [shape] if isinstance(shape, Entry) else [entry for part in shape for entry in _entries(part)]


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
def _distribution(module: TwoParameters) -> Iterator[Shape]:
    second = getattr(module, module.second)
    if isinstance(second, torch.Tensor):
        yield from (Entry((BATCH, *second.shape)), Entry(tuple(second.shape)))


@wanted.register
def _loss(module: ModuleFromCriterion) -> Iterator[Shape]:
    for size in ((BATCH, 8), (BATCH,)):
        one = prediction(module.criterion, size)
        is_pair = isinstance(module.criterion, Pairwise)
        yield (one, one) if is_pair else one, target(module.criterion, size)


def prediction(criterion: Criterion, size: tuple[int, ...]) -> Entry:
    """A prediction of this size, as a criterion takes it."""
    return Entry(size, kind="shares" if isinstance(criterion, BCECriterion) else "any")


@functools.singledispatch
def target(criterion: Criterion, size: tuple[int, ...]) -> Entry:
    """What a criterion takes as the target of a prediction of this size, or of two such."""
    return Entry(size)


@target.register(Classifying)
@target.register(CrossEntropyCriterion)
def _class(criterion: Criterion, size: tuple[int, ...]) -> Entry:
    return Entry(size[:-1], size[-1])


@target.register
def _classes(criterion: MultiLabelMarginCriterion, size: tuple[int, ...]) -> Entry:
    return Entry(size, size[-1])


@target.register
def _sign(criterion: Pairwise, size: tuple[int, ...]) -> Entry:
    return Entry(size[:1], kind="signs")


@target.register
def _signs(criterion: HingeEmbeddingCriterion, size: tuple[int, ...]) -> Entry:
    return Entry(size, kind="signs")


@target.register(Binary)
@target.register(DistKLDivCriterion)
def _shares(criterion: Criterion, size: tuple[int, ...]) -> Entry:
    return Entry(size, kind="shares")


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
