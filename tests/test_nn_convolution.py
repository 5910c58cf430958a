"""Convolutions: what Torch7 takes and refuses, old formats, tables of connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import same
from torch7 import given, gives, size_text, wave

import t7compat
from converters import to_native
from t7compat import InputError, Table, nn

Make = Callable[[], Any]
tables = nn.tables

# The module, the inputs that Torch7 takes with the sizes of the outputs, and those that it refuses.
INPUTS: list[tuple[Make, str, str]] = [
    (lambda: nn.TemporalConvolution(3, 2, 2), "4x3>3x2 2x4x3>2x3x2", "4x2 1x3 2x2x4x3 f4x3 3"),
    (lambda: nn.TemporalRowConvolution(3, 2), "4x3>3x3 2x4x3>2x3x3", "4x2 1x3 3"),
    (lambda: nn.TemporalRowConvolution(3, 2, 1, True), "3x4>3x3 2x3x4>2x3x3", "4x3 2x4x3"),
    (lambda: nn.TemporalSubSampling(3, 2), "4x3>3x3", "4x2 1x3 2x4x3"),
    (lambda: nn.SpatialConvolution(1, 1, 4, 4, 2, 2), "1x4x4>1x1x1", "1x3x3"),
    (lambda: nn.SpatialConvolution(1, 1, 2, 2, 1, 1, 5, 5), "1x3x3>1x12x12", ""),
    (lambda: nn.SpatialConvolutionMM(2, 3, 2, 2), "2x4x4>3x3x3 5x2x4x4>5x3x3x3", "3x4x4 4x4 f2x4x4"),
    (lambda: nn.SpatialDilatedConvolution(2, 3, 2, 2, None, None, None, None, 2), "2x4x4>3x3x2", "3x4x4"),
    (lambda: nn.SpatialDepthWiseConvolution(2, 3, 2, 2), "2x4x4>6x3x3 5x2x4x4>5x6x3x3", "3x4x4 4x4"),
    (
        lambda: nn.SpatialConvolutionLocal(2, 3, 5, 4, 2, 2),
        "2x4x5>3x3x4 1x2x4x5>1x3x3x4",
        "2x5x4 2x4x6 3x4x5",
    ),
    (lambda: nn.SpatialConvolutionMap(tables.full(2, 3), 2, 2), "2x4x4>3x3x3 4x4x4>3x3x3", "1x4x4 4x4 2x1x1"),
    (lambda: nn.SpatialFullConvolutionMap(tables.full(2, 3), 2, 2), "2x4x4>3x5x5", "1x4x4 1x2x4x4"),
    (lambda: nn.SpatialSubSampling(2, 2, 2, 3, 3), "2x4x4>2x1x1 5x2x4x4>5x2x1x1", "3x4x4 2x1x1 4x4"),
    (
        lambda: nn.SpatialFullConvolution(1, 1, 3, 3, 2, 2, 1, 1),
        "1x3x3>1x5x5 {1x3x3;1x9x9}>1x5x5 {1x3x3;6x5}>1x6x5 {1x3x3;i6x6}>1x6x6",
        "2x3x3 {1x3x3} {1x3x3;7} {1x3x3;nil} {2x3x3;6x6}",
    ),
    (lambda: nn.SpatialFullConvolution(1, 1, 2, 2, 1, 1, 3, 3), "", "1x3x3"),
    (lambda: nn.VolumetricConvolution(2, 3, 2, 2, 2), "2x3x3x3>3x2x2x2", "3x3x3x3 2x3x3 1x3x3x3"),
    (lambda: nn.VolumetricFullConvolution(2, 3, 2, 2, 2), "2x3x3x3>3x4x4x4", "3x3x3x3 {2x3x3x3;4x4}"),
]


def inputs(column: int) -> list[Any]:
    return [
        pytest.param(row[0], *input.split(">"), id=f"{row[0]()} {input}")
        for row in INPUTS
        for input in row[column].split()
    ]


@pytest.mark.parametrize(("make", "input", "output"), inputs(1))
def test_accepted(make: Make, input: str, output: str) -> None:
    module = make()
    assert size_text(module.forward(given(input))) == output
    gradInput = module.backward(given(input), module.output)
    assert size_text(gradInput) == input.replace("i", "")


@pytest.mark.parametrize(("make", "input"), inputs(2))
def test_refused(make: Make, input: str) -> None:
    with pytest.raises(InputError, match=r"expected|\(input: "):
        make().forward(given(input))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.SpatialConvolution(1, 1, 0, 2), "above 0, got windows of 0x2 by 1,1"),
        (lambda: nn.VolumetricConvolution(1, 1, 2, 2, 2, 1, 0, 1), "above 0, got windows of 2x2x2 by 1,0,1"),
        (
            lambda: nn.SpatialFullConvolution(1, 1, 2, 2, 1, 2, 0, 0, 0, 2),
            "adjW, adjH below the strides, got 0,2",
        ),
        (lambda: nn.SpatialConvolutionLocal(1, 1, 2, 2, 3, 3), "expected an output, got one of 0x0"),
        (lambda: nn.SpatialConvolutionMap(wave(3, 3), 2, 2), "a 2-D tensor with 2 elements"),
        (lambda: nn.SpatialConvolutionMap(torch.zeros(3, 2), 2, 2), "planes counted from 1"),
        (lambda: tables.random(2, 3, 4), "1 to 2 connections for each plane, got 4"),
    ],
)
def test_refused_arguments(make: Make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nn.VolumetricConvolution(1, 2, 2, 3, 4).noBias(), "nn.VolumetricConvolution(1 -> 2, 2x3x4)"),
        (nn.VolumetricFullConvolution(1, 2, 2, 3, 4).noBias(), "nn.VolumetricFullConvolution(1 -> 2, 2x3x4)"),
        (nn.SpatialConvolution(1, 2, 3, 4, 1, 2), "nn.SpatialConvolution(1 -> 2, 3x4, 1,2)"),
        (nn.SpatialConvolutionMap(torch.ones(1, 2), 2, 2), "nn.SpatialConvolutionMap"),
    ],
    ids=str,
)
def test_text(module: nn.Module, text: str) -> None:
    assert str(module) == text


# ---- old formats


def loaded(module: nn.Module) -> Any:
    return t7compat.loads(t7compat.dumps(module))


def test_volumetric_full_convolution_without_adj() -> None:
    """Its weight had the output planes first; after loading that is put right once."""
    module = nn.VolumetricFullConvolution(2, 3, 2, 3, 2, 2, 2, 2, 1, 0, 1)
    old = module.clone()
    fields = vars(old)
    for name in ("weight", "gradWeight"):
        fields[name] = fields[name].transpose(0, 1).contiguous()
    for letter in "TWH":
        fields[f"p{letter}"] = fields.pop(f"pad{letter}")
        del fields[f"adj{letter}"]
    for found in (loaded(old), loaded(loaded(old))):
        same(found.forward(wave(2, 3, 3, 3)), module.forward(wave(2, 3, 3, 3)))
        same(found.backward(wave(2, 3, 3, 3), found.output), module.backward(wave(2, 3, 3, 3), module.output))
        assert found.gradWeight.shape == module.gradWeight.shape


@pytest.mark.parametrize("kind", [nn.SpatialConvolutionMM, nn.SpatialDepthWiseConvolution])
def test_one_padding(kind: Any) -> None:
    module = kind(2, 2, 3, 3, 1, 1, 1, 1)
    old = module.clone()
    del vars(old)["padW"], vars(old)["padH"]
    old.padding = 1
    found = loaded(old)
    same(found.forward(wave(2, 4, 4)), module.forward(wave(2, 4, 4)))
    assert "padding" not in vars(found)


def test_volumetric_convolution_with_a_matrix() -> None:
    module = nn.VolumetricConvolution(2, 3, 2, 2, 2)
    old = module.clone()
    old.weight = old.weight.view(3, 16)
    same(loaded(old).forward(wave(2, 3, 3, 3)), module.forward(wave(2, 3, 3, 3)))


# ---- single classes


def test_depth_wise_weight_gets_four_dimensions() -> None:
    module = nn.SpatialDepthWiseConvolution(2, 3, 2, 2)
    weight, _ = module.getParameters()
    assert size_text(module.weight) == size_text(module.gradWeight) == "3x8"
    module.forward(wave(2, 4, 4))
    module.backward(wave(2, 4, 4), module.output)
    assert size_text(module.weight) == size_text(module.gradWeight) == "3x2x2x2"
    weight.zero_()
    assert not module.weight.any()


def test_depth_wise_input_need_not_be_square() -> None:
    """Torch7 takes the height for the width there, and fails in backward."""
    module, plane = nn.SpatialDepthWiseConvolution(2, 1, 3, 2, 2, 1), nn.SpatialConvolution(1, 1, 3, 2, 2, 1)
    x = wave(2, 5, 8)
    output = module.forward(x)
    for i in range(2):
        plane.weight.copy_(module.weight[:, i : i + 1])
        plane.bias.copy_(module.bias[:, i])
        same(output[i : i + 1], plane.forward(x[i : i + 1]))


def test_temporal_output_is_contiguous() -> None:
    """As in Torch7, where a program may take a view of it."""
    assert nn.TemporalConvolution(3, 2, 2).forward(wave(2, 4, 3)).is_contiguous()


def test_target_size_of_a_full_convolution_in_pytorch() -> None:
    module = nn.SpatialFullConvolution(1, 2, 3, 3, 2, 2, 1, 1)
    input = wave(1, 1, 3, 3), wave(1, 4, 6, 5)
    same(to_native(module, Table(*input))(input), module.forward(Table(*input)))


# ---- tables of connections


def test_tables() -> None:
    gives(tables.full(2, 3), "1 1 2 1 1 2 2 2 1 3 2 3")
    gives(tables.oneToOne(3), "1 1 2 2 3 3")
    t7compat.manualSeed(3)
    gives(tables.random(6, 4, 2), "5 1 1 1 4 2 3 2 2 3 6 3 1 4 2 4")
    gives(tables.random(5, 7, 2), "5 1 1 1 2 2 3 2 2 3 3 3 1 4 4 4 1 5 2 5 3 6 5 6 2 7 4 7")
    assert t7compat.mersenne.uniform() == pytest.approx(0.2784872839693)


@pytest.mark.parametrize("kind", [nn.SpatialConvolutionMap, nn.SpatialFullConvolutionMap])
def test_numbers_drawn_for_a_table(kind: Any) -> None:
    t7compat.manualSeed(5)
    module = kind(tables.oneToOne(2), 2, 2)
    gives(
        Table(module.weight, module.bias),
        "-0.27800683 -0.44481988 0.3707323 0.33132784 -0.29328085 -0.1362631 0.4186109 0.479445 "
        "-0.01158881 -0.41017897",
    )
    module.reset(0.1)
    gives(
        Table(module.weight, module.bias),
        "0.038709209 -0.035771489 0.092113185 -0.050528064 0.0063801793 -0.0046287331 -0.070390373 "
        "0.17002536 -0.10817654 0.10679191",
    )


def test_planes_without_connection_and_beyond_the_table() -> None:
    module = nn.SpatialConvolutionMap(torch.tensor([[1.0, 1.0], [2.0, 3.0]]), 2, 2)
    assert module.bias.isnan().tolist() == [False, True, False]
    x = wave(2, 4, 3, 3)
    output = module.forward(x).clone()
    for sample, result in zip(x, output, strict=True):
        same(result, module.forward(sample[:2]))


def test_decay() -> None:
    module = nn.SpatialConvolutionMap(tables.oneToOne(2), 2, 2)
    weight, bias = module.weight.clone(), module.bias.clone()
    module.decayParameters(0.1)
    same(module.weight, weight * 0.9)
    same(module.bias, bias * 0.9)
