"""What Torch7 takes and what it refuses, and what the errors say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from golden import Case, cases
from torch7 import given, size_text, wave

from t7compat import InputError, Storage, Table, nn
from t7compat.nn.tape import label
from t7compat.t7file.objects import LongStorage
from t7compat.table import map_leaves

Make = Callable[[], Any]


def size(*numbers: int) -> Storage:
    return LongStorage(numbers)


def container(kind: str, *arguments: Any) -> Any:
    """A container of Linear(3, 2) and Linear(3, 4)."""
    return getattr(nn, kind)(*arguments).add(nn.Linear(3, 2)).add(nn.Linear(3, 4))


# The module, the inputs that Torch7 takes with the sizes of the outputs, and those that it refuses.
INPUTS: list[tuple[Make, str, str]] = [
    (nn.Identity, "2x3>2x3 {2x3;3}>{2x3;3}", ""),
    (nn.Sigmoid, "2x3>2x3 3>3", "{2x3} f2x3 i3 nil number"),
    (nn.Tanh, "2x3>2x3", "{2x3} f2x3 i3 nil"),
    (nn.HardTanh, "2x3>2x3", "{2x3} f2x3 nil"),
    (nn.Threshold, "2x3>2x3", "{2x3} f2x3"),
    (nn.ReLU, "2x3>2x3", "{2x3} f2x3 nil"),
    (nn.PReLU, "2x3>2x3", "f2x3"),
    (
        lambda: nn.PReLU(3),
        "2x3>2x3 3>3 2x3x4>2x3x4 2x3x4x5>2x3x4x5 2x3x4x5x6>2x3x4x5x6",
        "2x4 4 3x2x4 {2x3}",
    ),
    (nn.SoftMax, "3>3 2x3>2x3 2x3x4>2x3x4 2x3x4x5>2x3x4x5", "2x3x4x5x6 f2x3 {2x3}"),
    (nn.LogSoftMax, "3>3 2x3x4>2x3x4 2x3x4x5>2x3x4x5", "2x3x4x5x6 f2x3 nil"),
    (lambda: nn.Linear(3, 2), "3>2 2x3>2x2 1x3>1x2", "2x4 4 2x2x3 f2x3 i3 {2x3} nil number"),
    (lambda: nn.LinearNoBias(3, 2), "2x3>2x2", "2x4 2x2x3"),
    (
        lambda: nn.Add(3),
        "3>3 2x3>2x3 1x3>1x3 2x3x1>2x3x1 2x1x3>2x1x3 3x3>3x3",
        "4 2x4 3x1 2x2x3 f2x3 {2x3}",
    ),
    (lambda: nn.Add(size(2, 3)), "2x3>2x3 4x2x3>4x2x3 4x6>4x6", "6 3x2 2x2"),
    (lambda: nn.Add(1, True), "2x3>2x3 3>3", ""),
    (nn.Mul, "2x3>2x3", "f2x3 {2x3}"),
    (lambda: nn.CMul(3), "3>3 2x3>2x3 2x1x3>2x1x3 1x3>1x3 3x1>3x1", "4 2x4 2x3x2 f2x3 {2x3}"),
    (lambda: nn.CMul(2, 3), "2x3>2x3 6>6 3x2>3x2 4x2x3>4x2x3", "4x6 4x3"),
    (lambda: nn.CMul(1, 3), "4x3>4x3", "4x2x3"),
    (lambda: nn.CMul(2, 1), "2x3>2x3", "4x2x3 4x2"),
    (lambda: nn.CMul(1, 2, 1), "4x2x3>4x2x3", "4x3x3"),
    (lambda: nn.CMul(1), "3>3 2x3>2x3", ""),
    (
        lambda: nn.LookupTable(4, 2),
        "i3:1/2/3>3x2 3:1/2/3>3x2 f3:1/2/3>3x2 i2x2:1/2/3/4>2x2x2 2:1.5/2>2x2",
        "i2x2x1:1/2/3/4 i2:0/1 i2:5/1 i2:-1/1 {i2:1/2} nil number",
    ),
    (lambda: nn.Reshape(6), "2x3>6 4x2x3>4x6 4x6>4x6 1x6>1x6", "2x4 7 {2x3}"),
    (lambda: nn.Reshape(2, 3), "6>2x3 4x6>4x2x3", "4x4"),
    (lambda: nn.Reshape(2, 3, True), "4x6>4x2x3 1x6>1x2x3", "6"),
    (lambda: nn.Reshape(2, 3, False), "6>2x3", "4x6"),
    (lambda: nn.View(6), "2x3>6 4x2x3>4x6", "7 2x4 {2x3}"),
    (lambda: nn.View(-1, 3), "2x3>2x3", "2x4"),
    (lambda: nn.View(2, 3).setNumInputDims(1), "4x6>4x2x3 6>2x3 2x2x6>4x2x3", ""),
    (lambda: nn.View(-1).setNumInputDims(2), "4x2x3>4x6 2x3>6", ""),
    (lambda: nn.Dropout(0.5), "2x3>2x3", "{2x3} f2x3 nil"),
    (lambda: nn.SplitTable(1), "2x3>{3;3}", "{2x3}"),
    (lambda: nn.SplitTable(3), "", "2x3"),
    (lambda: nn.SplitTable(-1), "2x3>{2;2;2}", ""),
    (lambda: nn.SplitTable(-3), "", "2x3"),
    (lambda: nn.SplitTable(1, 1), "2x3>{2;2;2}", ""),
    (lambda: nn.SplitTable(2, 1), "", "2x3"),
    (lambda: nn.JoinTable(1), "{2x3;4x3}>6x3", "{2x3;4x2} {2x3;3} 2x3 {2x3;{2x3}}"),
    (lambda: nn.JoinTable(2), "{2x3;2x2}>2x5", "{2x3;3x2}"),
    (lambda: nn.JoinTable(3), "", "{2x3;2x3}"),
    (lambda: nn.JoinTable(-1), "{2x3;2x2}>2x5", ""),
    (lambda: nn.JoinTable(1, 1), "{2x3;2x2}>2x5 {3;2}>5", ""),
    (lambda: nn.SelectTable(1), "{2x3;3}>2x3", ""),
    (lambda: nn.SelectTable(3), "", "{2x3;3}"),
    (lambda: nn.SelectTable(-1), "{2x3;3}>3", ""),
    (lambda: nn.SelectTable(-3), "", "{2x3;3}"),
    (lambda: nn.SelectTable(0), "", "{2x3;3}"),
    (lambda: nn.NarrowTable(1, 2), "{2x3;3;4}>{2x3;3}", ""),
    (lambda: nn.NarrowTable(2, 2), "{2x3;3}>{3}", ""),
    (nn.FlattenTable, "{2x3;{3;4}}>{2x3;3;4}", "2x3"),
    (
        nn.CAddTable,
        "{2x3;2x3}>2x3 {2x3;6}>2x3 {2x3;3x2}>2x3 {2x3}>2x3",
        "{2x3;2x2} {2x3;1x3} {2x3;3} {2x3;1} {1;2x3} {2x3;f2x3} {} 2x3 {2x3;{2x3}}",
    ),
    (
        nn.CMulTable,
        "{2x3;2x3}>2x3 {2x3;6}>2x3 {2x3}>2x3",
        "{2x3;2x2} {2x3;1x3} {2x3;1} {2x3;f2x3} {} 2x3",
    ),
    (nn.Sequential, "2x3>2x3", ""),
    (lambda: container("Concat", 2), "2x3>2x6", "2x4"),
    (lambda: container("Concat", 1), "3>6", "2x3"),
    (lambda: container("Concat", 3), "", "2x3"),
    (lambda: container("ConcatTable"), "2x3>{2x2;2x4}", "2x4"),
    (lambda: container("ParallelTable"), "{2x3;3}>{2x2;4}", "{2x3} {2x3;4}"),
    (lambda: container("Parallel", 1, 1), "2x3>6 1x3>2", "3x3 2x5x3 {1x3}"),
    (lambda: container("Parallel", 1, 2), "2x5x3>5x6", ""),
    (lambda: container("Parallel", 3, 1), "", "2x3"),
    (lambda: nn.Sum(1), "2x3>3", "{2x3}"),
    (lambda: nn.Sum(3), "", "2x3"),
    (lambda: nn.Sum(-1), "2x3>2", ""),
    (lambda: nn.Sum(-3), "", "2x3"),
    (lambda: nn.Sum(1, 1), "2x3>2", ""),
    (lambda: nn.Mean(3), "", "2x3"),
    (lambda: nn.BatchNormalization(3), "2x3>2x3", "3 2x4 2x3x4 f2x3"),
    (lambda: nn.SpatialBatchNormalization(3), "2x3x4x4>2x3x4x4", "3x4x4 2x4x4x4"),
    (
        lambda: nn.SpatialConvolution(2, 3, 2, 2),
        "2x4x4>3x3x3 1x2x4x4>1x3x3x3",
        "1x3x4x4 4x4 2x1x1 f2x4x4",
    ),
    (lambda: nn.SpatialMaxPooling(2, 2), "2x4x4>2x2x2", "4x4 2x1x1"),
    (lambda: nn.SpatialMaxPooling(2, 2, 2, 2, 2, 2), "", "2x4x4"),
    (lambda: nn.LSTM(3, 2), "2x3>2x2", "2x4 2x2x3"),
    (lambda: nn.FastLSTM(3, 2), "2x3>2x2", "2x4"),
    (lambda: nn.Sequencer(nn.Linear(3, 2)), "{2x3;2x3}>{2x2;2x2} 4x2x3>4x2x2 4x3>4x2", "{2x3;2x4} nil"),
]


def inputs(column: int) -> list[Any]:
    """The modules with the inputs (and the sizes of the outputs) in one of the columns above."""
    return [
        pytest.param(row[0], *input.split(">"), id=f"{label(row[0]())} {input}")
        for row in INPUTS
        for input in row[column].split()
    ]


@pytest.mark.parametrize(("make", "input", "output"), inputs(1))
def test_accepted(make: Make, input: str, output: str) -> None:
    assert size_text(make().forward(given(input))) == output


@pytest.mark.parametrize(("make", "input"), inputs(2))
def test_refused(make: Make, input: str) -> None:
    """The error says where, what was expected, and what came."""
    module = make()
    net = nn.Sequential().add(nn.Identity()).add(module)
    with pytest.raises(InputError, match=r"expected|\(input: ") as caught:
        net.forward(given(input))
    assert str(caught.value).startswith("in module 2 of nn.Sequential")
    assert f"({label(module)})" in str(caught.value) or len(caught.value.place) > 1


# The module, the input, what was expected, and what came.
MESSAGES: list[tuple[Make, str, str, str]] = [
    (lambda: nn.Linear(5, 2), "2x4", "a 1-D or 2-D tensor with 5 elements", "torch.DoubleTensor of size 2x4"),
    (lambda: nn.Linear(5, 2), "f2x5", "a torch.DoubleTensor", "torch.FloatTensor of size 2x5"),
    (lambda: nn.PReLU(3), "2x4", "a tensor with 3 elements in dimension 2", "torch.DoubleTensor of size 2x4"),
    (nn.SoftMax, "nil", "a 1-D to 4-D torch.DoubleTensor", "nil"),
    (nn.CAddTable, "2x3", "a table with 1 entry or more", "torch.DoubleTensor of size 2x3"),
    (nn.CAddTable, "{2;3}", "torch.DoubleTensor of size 2", "torch.DoubleTensor of size 3"),
    (lambda: nn.LookupTable(4, 2), "i2:5/1", "indices from 1 to 4", "5"),
    (lambda: nn.View(6), "7", "a multiple of 6 elements", "torch.DoubleTensor of size 7"),
    (lambda: nn.Reshape(6), "7", "samples of 6 elements", "torch.DoubleTensor of size 7"),
    (lambda: nn.Add(3), "2x4", "samples of 3 elements", "torch.DoubleTensor of size 2x4"),
    (nn.FlattenTable, "2x3", "a table", "torch.DoubleTensor of size 2x3"),
    (lambda: nn.NarrowTable(1), "number", "a table", "number"),
    (lambda: nn.Concat(1), "2x3", "tensors to join", "{}"),
    (
        lambda: nn.SelectTable(3),
        "{2;{2;f2}}",
        "a table with an entry 3",
        "{torch.DoubleTensor of size 2, {torch.DoubleTensor of size 2, torch.FloatTensor of size 2}}",
    ),
    (
        lambda: nn.CMul(2, 1),
        "4x2",
        "a size to which the weight, torch.DoubleTensor of size 2x1, can be expanded",
        "torch.DoubleTensor of size 4x2",
    ),
    (
        lambda: nn.JoinTable(1),
        "{2x3;4x2}",
        "sizes that differ in dimension 1 only",
        "{torch.DoubleTensor of size 2x3, torch.DoubleTensor of size 4x2}",
    ),
]


@pytest.mark.parametrize(("make", "input", "expected", "got"), MESSAGES)
def test_message(make: Make, input: str, expected: str, got: str) -> None:
    with pytest.raises(InputError) as caught:
        make().forward(given(input))
    assert caught.value.message.removeprefix("entry 2: ") == f"expected {expected}, got {got}"


def test_place_lists_every_level() -> None:
    inner = nn.Concat(1).add(nn.Linear(3, 2))
    net = nn.Sequential().add(nn.Tanh()).add(nn.ParallelTable().add(nn.Identity()).add(inner))
    with pytest.raises(InputError) as caught:
        nn.Sequential().add(nn.ConcatTable().add(nn.Identity()).add(nn.Identity())).add(net.get(2)).forward(
            wave(4, 5)
        )
    assert caught.value.place == (
        "in module 2 of nn.Sequential",
        "in module 2 of nn.ParallelTable",
        "in module 1 of nn.Concat (nn.Linear(3 -> 2))",
    )


# ---- gradients with respect to the output

# The module and its input, the sizes of gradOutput that Torch7 takes, and those that it refuses.
GRADIENTS: list[tuple[Make, str, str, str]] = [
    (nn.Sigmoid, "2x3", "2x3 6 3x2 1x6", "2x2 1x3 3 f2x3 {2x3} nil 1"),
    (nn.HardTanh, "2x3", "2x3 6 3x2 1x6", "2x2 1x3 f2x3 {2x3} nil"),
    (nn.ReLU, "2x3", "2x3 6 3x2", "2x2 1x3 f2x3 {2x3} nil"),
    (nn.Tanh, "2x3", "2x3", "2x2 2x4 f2x3 {2x3} nil"),
    (nn.SoftMax, "2x3", "2x3", "2x2 1x3 f2x3 {2x3} nil"),
    (lambda: nn.Linear(4, 3), "2x4", "2x3", "2x2 1x3 3 f2x3 {2x3} nil 1"),
    (nn.Mul, "2x3", "2x3 6", "2x2 1x3 f2x3 nil"),
    (lambda: nn.CMul(3), "2x3", "2x3 6", "1x3 3 f2x3 nil"),
    (lambda: nn.SplitTable(1), "2x3", "{3;3}", "2x3 nil {3} {4;3} {3;f3} {{3};3}"),
    (lambda: nn.ConcatTable().add(nn.Tanh()).add(nn.Tanh()), "3", "{3;3} {3;3;3}", "{3} {4;3} {3;f3} nil"),
    (lambda: nn.ParallelTable().add(nn.Tanh()).add(nn.Tanh()), "{3;3}", "{3;3}", "{3} {4;3} {3;f3} nil"),
    (lambda: nn.LSTM(3, 2), "2x3", "2x2", "2x3 f2x2 nil {2x2}"),
    (lambda: nn.Sequencer(nn.LSTM(3, 2)), "{2x3;2x3}", "{2x2;2x2}", "{2x2} {2x2;2x3} nil"),
    (lambda: nn.Sequential().add(nn.Linear(4, 3)).add(nn.Tanh()), "2x4", "2x3", "2x4 f2x3 nil"),
]


@pytest.mark.parametrize(
    ("make", "input", "gradOutput"),
    [(make, input, g) for make, input, takes, _ in GRADIENTS for g in takes.split()],
)
def test_accepted_gradient(make: Make, input: str, gradOutput: str) -> None:
    module = make()
    module.forward(given(input))
    assert size_text(module.backward(given(input), given(gradOutput))) == input


@pytest.mark.parametrize("method", ["backward", "updateGradInput"])
@pytest.mark.parametrize(
    ("make", "input", "gradOutput"),
    [(make, input, g) for make, input, _, refuses in GRADIENTS for g in refuses.split()],
)
def test_refused_gradient(make: Make, input: str, gradOutput: str, method: str) -> None:
    module = make()
    module.forward(given(input))
    before = [gradient.clone() for gradient in (module.parameters() or ((), ()))[1]]
    with pytest.raises(InputError, match=r"gradOutput.*expected|expected .* gradOutput"):
        getattr(module, method)(given(input), given(gradOutput))
    for gradient, kept in zip((module.parameters() or ((), ()))[1], before, strict=True):
        assert torch.equal(gradient, kept)


def test_message_for_a_gradient() -> None:
    net = nn.Sequential().add(nn.Linear(3, 2)).add(nn.ConcatTable().add(nn.Tanh()).add(nn.Identity()))
    net.forward(wave(4, 3))
    with pytest.raises(InputError) as caught:
        net.backward(wave(4, 3), [wave(4, 2), wave(4, 3)])
    size = "torch.DoubleTensor of size 4x2, got torch.DoubleTensor of size 4x3"
    assert str(caught.value) == f"nn.Sequential: gradOutput[2]: expected {size}"


# ---- criterions

# The criterion, the pairs of input and target that Torch7 takes, and those that it refuses.
CRITERIONS: list[tuple[Make, str, str]] = [
    (
        nn.MSECriterion,
        "2x3,2x3 2x3,6 2x3,3x2",
        "2x3,2x2 2x3,1x3 2x3,1 2x3,f2x3 2x3,number 2x3,{2x3} {2x3},2x3 2x3,nil nil,2x3",
    ),
    (nn.AbsCriterion, "2x3,6", "2x3,2x2 2x3,1 2x3,f2x3"),
    (
        nn.BCECriterion,
        "2:.3/.6,2:1/0 2:.3/.6,1x2:1/0 2:.3/.6,2:3/-1",
        "2:.3/.6,3:1/0/1 2:.3/.6,1:1 2:.3/.6,f2:1/0 2:.3/.6,i2:1/0 2:.3/.6,nil 2:.3/.6,number "
        "2:.3/1.6,2:1/0 2:-.3/.6,2:1/0",
    ),
    (lambda: nn.BCECriterion(wave(2)), "2:.3/.6,2:1/0 2x2:.3/.6/.3/.6,2x2:1/0/1/0", ""),
    (lambda: nn.BCECriterion(wave(3)), "", "2:.3/.6,2:1/0"),
    (lambda: nn.BCECriterion(wave(1)), "", "2:.3/.6,2:1/0"),
    (lambda: nn.BCECriterion(wave(4)), "", "2x2:.3/.6/.3/.6,2x2:1/0/1/0"),
    (
        nn.ClassNLLCriterion,
        "2x3,i2:1/3 2x3,2:1/3 2x3,f2:1/3 2x3,i2:1/-100 8,number 3,i1:2 1x3,i1:2 8,1:2.7",
        "2x3,i2:0/3 2x3,i2:1/4 2x3,i3:1/2/3 2x3,i1:1 2x3,i2x1:1/2 2x3,number 3,number 1x3,number "
        "2x3x4,i2:1/2 2x3,nil 2x3,{i2:1/2} {2x3},i2:1/2",
    ),
    (lambda: nn.ClassNLLCriterion(wave(3)), "2x3,i2:1/3", ""),
    (lambda: nn.ClassNLLCriterion(wave(4)), "", "2x3,i2:1/3"),
    (lambda: nn.ClassNLLCriterion(wave(2)), "", "2x3,i2:1/2"),
    (
        nn.CrossEntropyCriterion,
        "2x3,i2:1/3 2x3,i2x1:1/3 2x1x3,i2:1/3 1x3,i1:2",
        "2x3,i2:1/4 1x3,number 3,number 2x3,nil",
    ),
    (
        lambda: nn.ParallelCriterion().add(nn.MSECriterion()).add(nn.MSECriterion()),
        "{2;3},{2;3}",
        "{2;3},{2} {2;3},{2;4}",
    ),
    (
        lambda: nn.SequencerCriterion(nn.MSECriterion()),
        "{2;2},{2;2} 3x2,3x2",
        "{2;2},{2} {2;2},{2;3} 3x2,{2;2;2}",
    ),
]


def pairs(column: int) -> list[Any]:
    """The criterions with the inputs and targets in one of the columns above."""
    return [
        pytest.param(row[0], *pair.split(","), id=f"{row[0]()} {pair}")
        for row in CRITERIONS
        for pair in row[column].split()
    ]


@pytest.mark.parametrize(("make", "input", "target"), pairs(1))
def test_accepted_target(make: Make, input: str, target: str) -> None:
    criterion = make()
    assert isinstance(criterion.forward(given(input), given(target)), float)
    assert size_text(criterion.backward(given(input), given(target))) == input.split(":")[0]


@pytest.mark.parametrize(("make", "input", "target"), pairs(2))
def test_refused_target(make: Make, input: str, target: str) -> None:
    criterion = make()
    for method in (criterion.forward, criterion.backward):
        with pytest.raises(InputError, match="expected"):
            method(given(input), given(target))


# ---- every class, with input that nobody meant


def strange(good: Any) -> Iterator[Any]:
    """Values of other kinds, structures, sizes and types than a good one."""

    def changed(change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        return map_leaves(lambda x: change(x) if isinstance(x, torch.Tensor) and x.dim() else x, good)

    yield from (None, 5, "text", Table(), Table(5), Table(good), Table(Table(good)))
    yield next(iter(good), None) if isinstance(good, torch.Tensor | Table) else None
    yield from (wave(1, 1, 1, 1, 1, 1), wave(1)[0], torch.zeros(0), object())
    yield from map(changed, (torch.Tensor.float, torch.Tensor.long, lambda x: x[:0]))
    yield changed(lambda x: torch.cat([x, x], -1))


def quietly(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function; it may refuse what it is given, but only by an InputError."""
    with contextlib.suppress(InputError):
        function(*arguments)


def one_of_each_class() -> list[Case]:
    """A golden case for each class."""
    found = [case for area in ("nn", "rnn", "dpnn") for case in cases(area) if case.content.dataset is None]
    return list({case.stem: case for case in found}.values())


@pytest.mark.parametrize("case", one_of_each_class(), ids=str)
def test_no_other_error(data: Table) -> None:
    if data.criterion is not None:
        for input in strange(data.input):
            quietly(data.criterion, input, data.target)
        for target in strange(data.target):
            quietly(data.criterion.forward, data.input, target)
            quietly(data.criterion.backward, data.input, target)
    turn = data.rounds[1] if data.rounds is not None else data
    good = turn.input if turn.input is not None else turn.steps and turn.steps[1].input
    if data.module is None or good is None:
        return
    for input in strange(good):
        quietly(data.module.clone().forward, input)
    output = data.module.forward(good)
    for gradOutput in strange(output if isinstance(output, torch.Tensor | Table) else Table()):
        quietly(data.module.backward, good, gradOutput)
        quietly(data.module.updateGradInput, good, gradOutput)
        quietly(data.module.accGradParameters, good, gradOutput)
