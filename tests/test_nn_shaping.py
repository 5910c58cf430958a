"""Layers that reshape, select and reduce: what golden data do not show.  The sizes are those of Torch7."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch7 import given, gives, size_text, wave

from t7compat import InputError, LuaFunction, Table, dumps, loads, nn
from t7compat.nn.tape import label

Make = Callable[[], Any]

# The module, the inputs that Torch7 takes with the sizes of the outputs, and those that it refuses (or, where
# only one number would be left, answers with an empty tensor).
INPUTS: list[tuple[Make, str, str]] = [
    (lambda: nn.Select(1, 2), "2x3>3 3x2x2>2x2", "1x3 3 f2x3 i2x3 {2x3} nil"),
    (lambda: nn.Select(1, -2), "2x3>3 4x3>3", "1x3"),
    (lambda: nn.Select(1, 0), "", "2x3"),
    (lambda: nn.Select(0, 1), "", "2x3"),
    (lambda: nn.Select(-3, 1), "2x3x4>3x4", "2x3"),
    (lambda: nn.Narrow(1, 2, -4), "5x3>1x3 6x2>2x2", "4x3"),
    (lambda: nn.Narrow(1, -3, 1), "4x3>3x3 f4x3>3x3 i4x3>3x3", "1x3"),
    (lambda: nn.Narrow(1, -1, -1), "", "4x3"),
    (lambda: nn.Narrow(1, 0, 1), "", "4x3"),
    (lambda: nn.Narrow(1, 2, 0), "", "4x3"),
    (lambda: nn.Narrow(1, 3, 3), "5x3>3x3", "4x3 {4x3}"),
    (lambda: nn.Index(1), "{3x2;i2:1/3}>2x2 {3;i2:1/1}>2", "{3x2;i1:0} {3x2;i1:4} {3x2;2:1/2} {3x2;i1x2:1/2} "
     "{f3x2;i1:1} {3x2} 3x2 {3x2;nil}"),
    (lambda: nn.Index(3), "{1x2x3;i2:3/1}>1x2x2", "{3x2;i1:1}"),
    (lambda: nn.Index(-1), "", "{3x2;i1:1}"),
    (nn.MaskedSelect, "{2x2;b2x2:1/0/0/1}>2 {2x2;b4:1/0/0/1}>2 {2x2;b2x2:0/0/0/0}>0",
     "{2x2;b2:1/0} {2x2;b2x2:1/2/0/0} {2x2;i2x2:1/0/0/1} {f2x2;b2x2:1/0/0/1} {2x2} 2x2"),
    (lambda: nn.OneHot(3), "i2:1/3>2x3 1:1.7>1x3 2x1:1/2>2x1x3 f1:1>1x3 b1:1>1x3",
     "i1:0 i1:4 {i1:1} nil number"),
    (lambda: nn.TemporalDynamicKMaxPooling(3), "3x2>3x2 2x4x2>2x3x2", "2x2 4 2x2x4x2 {3x2}"),
    (lambda: nn.TemporalDynamicKMaxPooling(1, 1.5), "", "4x2"),
    (lambda: nn.TemporalDynamicKMaxPooling(0), "", "4x2"),
    (lambda: nn.Collapse(2), "2x3>6 2x3x4>2x12 2x3x4x5>2x60 3>3", "f2x3 {2x3}"),
    (lambda: nn.Transpose(), "4x3>4x3", "f4x3"),
    (lambda: nn.Transpose((1, 2)), "4x3>3x4 4x3x2>3x4x2", "4"),
    (lambda: nn.Transpose((1, -1)), "", "4x3"),
    (lambda: nn.Transpose((0, 1)), "", "4x3"),
    (lambda: nn.Transpose((1, 2)).setNumInputDims(2), "4x3>3x4 5x4x3>5x3x4 6x5x4x3>6x5x3x4", "3"),
    (nn.Squeeze, "2x1x3>2x3 2x3>2x3 1x1x2>2", "1x1 1 f2x1"),
    (lambda: nn.Squeeze(2), "2x3>2x3 2x1x3>2x3 1x1>1", "2"),
    (lambda: nn.Squeeze(0), "", "1x2"),
    (lambda: nn.Squeeze(1, 1), "2x1>2 1x1>1 2x1x3>2x1x3", "1"),
    (lambda: nn.Squeeze(None, 2), "1x1x3>1x3 2x1x3>2x3 1x3>3 1x1x1x3>3 1x2x3>1x2x3", ""),
    (lambda: nn.Unsqueeze(2), "2>2x1 2x3>2x1x3", "f2"),
    (lambda: nn.Unsqueeze(4), "2x3x4>2x3x4x1", "2x3"),
    (lambda: nn.Unsqueeze(0), "", "2x3"),
    (lambda: nn.Unsqueeze(1, 2), "2x3>1x2x3 4x2x3>4x1x2x3 5x4x2x3>5x4x1x2x3", "3"),
    (lambda: nn.Unsqueeze(3, 2), "2x3>2x3x1 4x2x3>4x2x3x1", ""),
    (lambda: nn.Replicate(3, 3), "2x4>2x4x3", "2 f2x4"),
    (lambda: nn.Replicate(3, 2, 1), "2>2x3 5x2>5x2x3 5x2x4>5x2x3x4", ""),
    (lambda: nn.Replicate(3, 3, 1), "", "5x2"),
    (lambda: nn.Replicate(3, 1, 2), "2x4>3x2x4 5x2x4>5x3x2x4 6x5x2x4>6x3x5x2x4", ""),
    (lambda: nn.Padding(1, 2), "3x2>5x2 3>5", "{3x2}"),
    (lambda: nn.Padding(1, 0), "3x2>3x2", ""),
    (lambda: nn.Padding(3, 2), "", "3x2"),
    (lambda: nn.Padding(1, 1, None, 0, 4), "3x2>4x2", "2x2"),
    (lambda: nn.Padding(1, -1, None, 0, 0), "", "3x2"),
    (lambda: nn.Padding(1, 1, 3), "3x2>3x3 5x3x2>6x3x2 4x5x3x2>4x6x3x2", ""),
    (lambda: nn.Constant(wave(2, 2), 1), "3>2x2 4x3>4x2x2 4x3x2>4x2x2", "{3}"),
    (lambda: nn.Constant(3, 0), "3>3x1 4x3>4x1", ""),
    (nn.Contiguous, "2x3>2x3", "f2 {2}"),
    (lambda: nn.Copy(None, None, True), "3>3 i3:1/2/3>3 f3>3", "{3} nil"),
    (nn.Convert, "3>3 3x2>3x2 f3x2>3x2 i2:1/2>2", "{3}"),
    (lambda: nn.Convert("bf", "b"), "3x1>3", "3x2 3"),
    (lambda: nn.Convert("tb", "b"), "3x2>2", "3"),
    (lambda: nn.Convert("b", "bt"), "3>3x1", ""),
    (lambda: nn.Convert("tb", "bf"), "3x2>2x3 3>3", ""),
    (lambda: nn.Convert("chw", "f"), "3x2x2>12 4x3x2x2>4x12", ""),
    (lambda: nn.Convert("cbw", "bf"), "3x2x4>2x12 3x4>12", ""),
    (lambda: nn.Convert("cbw", "bwc"), "3x2x4>2x4x3 3x4>4x3", ""),
    (lambda: nn.Convert("bf", "fb"), "3x2x4>2x3x4", ""),
    (lambda: nn.Convert("bt", "bf"), "", "3x2"),
    (lambda: nn.Convert("bchw", "bc"), "", "3x2x2x2"),
    (nn.ZeroGrad, "2x3>2x3", "{2} f2"),
    (nn.PrintSize, "2x3>2x3 {2;{3}}>{2;{3}}", "number"),
    (lambda: nn.Max(1), "3>1 2x3>3 2x3x2>3x2", "f2x3 {2x3}"),
    (lambda: nn.Max(-3), "", "2x3"),
    (lambda: nn.Max(0), "", "2x3"),
    (lambda: nn.Min(1, 1), "3>1 2x3>2 2x3x2>3x2", "i2x3"),
    (lambda: nn.Sum(0), "", "2x3 f2x3"),
    (lambda: nn.Sum(1, None, False, False), "3>1 3x2>1x2", "f2x3"),
    (lambda: nn.Normalize(2), "3>3 2x3>2x3", "2x3x4 f2x3 {3}"),
    (lambda: nn.View(6).setNumInputDims(3), "1x2x3>6 4x1x2x3>4x6", "2x3"),
    (lambda: nn.View(6), "2x3>6", "f2x3"),
    (lambda: nn.Reshape(6), "2x3>6", "f2x3 i2x3"),
]  # fmt: skip


def inputs(column: int) -> list[Any]:
    return [
        pytest.param(row[0], *input.split(">"), id=f"{row_number} {label(row[0]())} {input}")
        for row_number, row in enumerate(INPUTS)
        for input in row[column].split()
    ]


@pytest.mark.parametrize(("make", "input", "output"), inputs(1))
def test_accepted(make: Make, input: str, output: str) -> None:
    module = make()
    assert size_text(module.forward(given(input))) == output
    gradInput = module.backward(given(input), module.output)
    assert size_text(gradInput) == size_text(given(input))


@pytest.mark.parametrize(("make", "input"), inputs(2))
def test_refused(make: Make, input: str) -> None:
    with pytest.raises(InputError):
        make().forward(given(input))


@pytest.mark.parametrize(
    ("make", "input", "message"),
    [
        (lambda: nn.Select(3, 1), "2x3", "dimension 3 is out of the range of a 2-D tensor"),
        (lambda: nn.Select(1, 3), "2x3", "index 3 is out of the range of 2 elements"),
        (lambda: nn.Select(1, 1), "3", "expected a tensor of 2 dimensions or more"),
        (lambda: nn.Narrow(1, 3, 3), "4x3", "3 slices from 3 on are not within the 4"),
        (lambda: nn.Index(1), "{3x2;i2:1/4}", "expected indices from 1 to 3, got 4"),
        (
            lambda: nn.Index(1),
            "{3x2;2:1/2}",
            "expected indices in a torch.LongTensor, got torch.DoubleTensor",
        ),
        (nn.MaskedSelect, "{2x2;b2:1/0}", "expected a mask of 4 elements in a torch.ByteTensor"),
        (nn.MaskedSelect, "{2;b2:1/3}", "expected a mask of zeros and ones, got 3"),
        (lambda: nn.OneHot(3), "i2:1/4", "expected indices from 1 to 3, got 4"),
        (lambda: nn.TemporalDynamicKMaxPooling(3), "2x2", "expected at least 3 rows"),
        (lambda: nn.Transpose((1, 3)), "4x3", "expected an index from 1 to 2, got 3"),
        (nn.Squeeze, "1x1", "expected more than one element"),
        (lambda: nn.Unsqueeze(1, 2), "3", "expected samples of 2 dimensions"),
        (lambda: nn.View(6).setNumInputDims(3), "2x3", "expected samples of 3 dimensions"),
        (lambda: nn.Convert("bt", "b"), "3", r"expected a batch \(bt\)"),
        (lambda: nn.Convert("bt", "bf"), "3x2", "no conversion of this from bt to bf"),
    ],
)
def test_message(make: Make, input: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make().forward(given(input))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Convert(None, "bf"),
        lambda: nn.Convert("b*", "bf"),
        lambda: nn.Normalize(0),
        lambda: nn.Replicate(2, 0),
        lambda: nn.Constant(Table(1)),
        lambda: nn.Copy("torch.Doubletensor"),
    ],
)
def test_refused_arguments(make: Make) -> None:
    with pytest.raises(InputError, match="expected"):
        make()


# ---- types


@pytest.mark.parametrize(
    ("make", "input", "dtypes"),
    [
        (lambda: nn.Copy("torch.FloatTensor", "torch.DoubleTensor"), "2", (torch.float64, torch.float32)),
        (lambda: nn.Copy("torch.DoubleTensor", "torch.FloatTensor"), "f2", (torch.float32, torch.float64)),
        (lambda: nn.Copy().float(), "2", (torch.float32, torch.float32)),
        (lambda: nn.Convert(), "f2", (torch.float64, torch.float64)),
        (lambda: nn.OneHot(3).float(), "i2:1/2", (torch.float32, torch.float32)),
    ],
)
@pytest.mark.parametrize("is_inside", [False, True])
def test_output_and_gradInput_have_types_of_their_own(
    make: Make, input: str, dtypes: tuple[torch.dtype, torch.dtype], is_inside: bool
) -> None:
    module = make()
    outer = nn.Sequential().add(nn.Identity()).add(module) if is_inside else module
    for _ in range(2):
        outer.forward(given(input))
        outer.backward(given(input), module.output.clone())
        assert (module.output.dtype, module.gradInput.dtype) == dtypes


def test_gradient_of_indices() -> None:
    module = nn.Index(1)
    for _ in range(2):
        module.forward(given("{3x2;i2:1/3}"))
        values, indices = module.backward(given("{3x2;i2:1/3}"), wave(2, 2))
        gives(values, ".644218 .98545 0 0 .863209 .334988")
        assert indices.dtype == torch.float64
        gives(indices, "0 0")
        module.clearState()
        assert size_text(module.gradInput) == "{0;0}"


def test_number_as_index() -> None:
    module = nn.OneHot(3)
    gives(module.forward(2), "0 1 0")
    gives(module.forward(2.7), "0 1 0")
    module.backward(2, wave(3))
    assert module.gradInput.shape == (0,)
    with pytest.raises(InputError, match="from 1 to 3, got 4"):
        module.forward(4)


def test_copy_that_keeps_its_types() -> None:
    module = nn.Copy("torch.DoubleTensor", "torch.FloatTensor", False, True)
    assert nn.Sequential().add(module).float().get(1) is module
    assert (module.output.dtype, module.gradInput.dtype) == (torch.float32, torch.float64)
    assert module.type() == "torch.DoubleTensor"


def test_copy_with_functions_of_lua() -> None:
    """Torch7 puts functions into the object where the types are equal."""
    module = nn.Copy()
    module.updateOutput = module.updateGradInput = LuaFunction(b"\x1bLJ")
    module = loads(dumps(module))
    assert torch.equal(nn.Sequential().add(module).forward(wave(2)), wave(2))
    gives(module.backward(wave(2), wave(2)), ".644218 .98545")


def test_masks_keep_their_types() -> None:
    module = nn.MaskedSelect().float()
    kinds = {"_maskIndices": torch.int64, "_gradMask": torch.uint8, "_gradBuffer": torch.float32}
    assert {name: vars(module)[name].dtype for name in kinds} == kinds


# ---- what Lua programs read


@pytest.mark.parametrize(
    ("make", "name", "input", "size", "values"),
    [
        (lambda: nn.Max(1), "_indices", "3x2:1/2/1/3/0/3", "1x2", "1 2"),
        (lambda: nn.Min(1), "_indices", "3x2:1/2/1/3/0/2", "1x2", "3 1"),
        (lambda: nn.Max(1), "_indices", "3:1/4/4", "1", "2"),
        (lambda: nn.TemporalDynamicKMaxPooling(2), "indices", "3x2:1/2/5/9/4/7", "2x2", "2 2 3 3"),
        (lambda: nn.Normalize(2), "norm", "2x2:3/4/0/0", "2x1", "5 .00001"),
        (lambda: nn.Normalize(math.inf), "norm", "2:3/-4", "1x1", "4"),
    ],
)
def test_buffers(make: Make, name: str, input: str, size: str, values: str) -> None:
    module = make()
    module.forward(given(input))
    buffer = vars(module)[name]
    assert (size_text(buffer), buffer.requires_grad) == (size, False)
    gives(buffer, values)
    module.clearState()
    assert not vars(module)[name].numel()


@pytest.mark.parametrize("kind", [nn.Max, nn.Min])
def test_indices_do_not_outlive_a_conversion(kind: Any) -> None:
    module = kind(1)
    module.forward(wave(3))
    assert "_indices" not in vars(module.float())


def test_nan_is_the_largest_and_the_smallest() -> None:
    for module, places in ((nn.Max(2), "2 1"), (nn.Min(2), "2 3")):
        assert module.forward(torch.tensor([[1, math.nan, 3], [5, 2, 1]]).double())[0].isnan()
        gives(module._indices, places)


def test_of_equal_rows_the_first_are_kept() -> None:
    module = nn.TemporalDynamicKMaxPooling(2)
    module.forward(torch.zeros(20, 1).double())
    gives(module.indices, "1 2")


def test_first_input_says_how_many_dimensions_a_sample_has() -> None:
    module = nn.Unsqueeze(1)
    assert [size_text(module.forward(wave(*size))) for size in ((2,), (2, 3), (2, 3, 4))] == [
        "1x2", "2x1x3", "2x3x1x4",
    ]  # fmt: skip
    assert module.numInputDims == 1
    assert size_text(module.setNumInputDims(2).forward(wave(2, 3))) == "1x2x3"


def test_outputs_are_compact_and_of_their_own() -> None:
    for module in (nn.Transpose((1, 2)), nn.Select(2, 1), nn.Narrow(2, 1, 1), nn.Convert("bf", "fb")):
        assert module.forward(wave(3, 2)).is_contiguous()
    constant = nn.Constant(wave(2), 1)
    constant.forward(wave(1, 3)).zero_()
    gives(constant.value, ".644218 .98545")


@pytest.mark.parametrize(
    ("p", "eps", "gradInput"),
    [
        (0.5, 0.1, ".1581961 .2750403 .5291269"),
        (1, 0.1, ".3225806 .5460582 1.0623404"),
        (1.5, 0.1, ".4016559 .6622025 1.3024531"),
        (2, 0.1, ".4428074 .7119649 1.4152473"),
        (3, 0.1, ".4789824 .7474231 1.4895826"),
        (math.inf, 0.1, ".4761905 .7364216 1.4285714"),
        (0.5, None, ".1715729 .2928932 .5857864"),
    ],
)
def test_slope_of_the_norm(p: float, eps: float | None, gradInput: str) -> None:
    module, x = nn.Normalize(p, eps), given("3:0/2/-1")
    module.forward(x)
    gives(module.backward(x, given("3:1/2/3")), gradInput)


# ---- printing


def test_sizes_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    module = nn.PrintSize("p")
    module.forward(wave(10, 3))
    module.backward(wave(10, 3), Table(wave(2)))
    module.backward(wave(10, 3), None)
    assert capsys.readouterr().out == (
        "p:input\n\t 10\n  3\n[torch.LongStorage of size 2]\n\n"
        "p:gradOutput\n\t{\n  1 : DoubleTensor - size: 2\n}\n"
        "p:gradOutput\n\tmissing size\n"
    )


# ---- old files


@pytest.mark.parametrize(
    ("make", "missing", "input", "output"),
    [
        (lambda: nn.Replicate(2), "dim", "2:3/4", "3 4 3 4"),
        (lambda: nn.Padding(1, 1), "index", "2:3/4", "3 4 0"),
        (lambda: nn.Sum(1), "sizeAverage squeeze", "2x2:1/2/3/4", "4 6"),
        (lambda: nn.Mean(1), "sizeAverage squeeze", "2x2:1/2/3/4", "2 3"),
        (lambda: nn.View(2), "output gradInput", "2x1:3/4", "3 4"),
    ],
)
def test_files_without_later_fields(make: Make, missing: str, input: str, output: str) -> None:
    module = make()
    for name in missing.split():
        del vars(module)[name]
    module = loads(dumps(module))
    gives(module.forward(given(input)), output)
    assert size_text(module.backward(given(input), module.output)) == size_text(given(input))


def test_old_sum_whose_output_is_a_number() -> None:
    module = nn.Sum(1)
    module.output = 3.5
    gives(loads(dumps(module)).forward(given("2:3/4")), "7")
