"""The written source: blocks that a network has several times, and what is left out of a call."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from golden import same
from test_converters import ABOUT, written

from converters import to_native
from converters.graphs import as_network
from converters.native import Plan
from converters.replay import replay
from converters.source import source
from t7compat import Table, nn


def convolution(inputs: int, outputs: int) -> list[nn.Module]:
    layer = nn.SpatialConvolution(inputs, outputs, 3, 3, 1, 1, 1, 1)
    return [layer, nn.SpatialBatchNormalization(outputs), nn.ReLU()]


def in_row(layers: Iterable[nn.Module]) -> nn.Sequential:
    network = nn.Sequential()
    for layer in layers:
        network.add(layer)
    return network


def residual(planes: int) -> nn.Sequential:
    body = in_row(convolution(planes, planes) + convolution(planes, planes))
    return in_row([nn.ConcatTable().add(body).add(nn.Identity()), nn.CAddTable(), nn.ReLU()])


ARGUMENTS = [(3, 4), (4, 4), (4, 8), (8, 8), (8, 8)]


@pytest.mark.parametrize(
    ("network", "block", "calls"),
    [
        (
            in_row(layer for _ in range(16) for layer in convolution(3, 3)),
            "def conv_block():\n    return [\n        nn.Conv2d(3, 3, 3, padding=1),\n",
            "super().__init__(*[layer for _ in range(16) for layer in conv_block()])",
        ),
        (
            in_row(layer for sizes in ARGUMENTS for layer in convolution(*sizes)),
            "def conv_block(in_channels, out_channels):\n    return [\n        nn.Conv2d(in_channels, out_ch",
            "".join(f"            *conv_block({i}, {o}),\n" for i, o in ARGUMENTS),
        ),
        (
            in_row(residual(3) for _ in range(8)),
            "def residual_block():\n    return nn.Sequential(\n        Residual(\n",
            "super().__init__(*[residual_block() for _ in range(8)])",
        ),
        (
            in_row([residual(3), in_row(convolution(3, 5) + convolution(5, 5)), residual(5), residual(5)]),
            "        Residual(conv_block(channels, channels)),\n",
            "residual_block(3),\n            conv_block(3, 5),\n            residual_block(5),\n",
        ),
        (
            in_row([residual(3), nn.SpatialConvolution(3, 5, 1, 1), residual(5)]),
            "                nn.BatchNorm2d(channels),\n",
            "residual_block(3),\n            nn.Conv2d(3, 5, 1),\n            residual_block(5),\n",
        ),
    ],
    ids=("equal parts", "other sizes", "equal blocks", "blocks in blocks", "blocks of other sizes"),
)
def test_blocks(network: nn.Sequential, block: str, calls: str) -> None:
    network.evaluate()
    layer = as_network(Plan(network).root)
    text = source("written", ABOUT, layer)
    assert block in text
    assert calls in text
    converted = written(text)
    converted.load_state_dict(layer.tensors(), assign=True)
    input = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    same(converted(input), network.forward(input))


def test_what_is_shared_is_not_made_several_times() -> None:
    shared = nn.SpatialConvolution(3, 3, 1, 1)
    layers = [layer for _ in range(6) for layer in (shared, nn.Tanh(), nn.Linear(5, 5))]
    text = source("written", ABOUT, as_network(Plan(in_row(layers)).root))
    assert text.count("nn.Conv2d(") == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nn.SpatialConvolution(3, 4, 5, 3, 2, 2, 2, 1), "nn.Conv2d(3, 4, (3, 5), stride=2, padding=(1, 2))"),
        (nn.SpatialConvolution(3, 4, 3, 3).noBias(), "nn.Conv2d(3, 4, 3, bias=False)"),
        (nn.SpatialMaxPooling(2, 2), "nn.MaxPool2d(2)"),
        (nn.SpatialMaxPooling(3, 3, 1, 1), "nn.MaxPool2d(3, stride=1)"),
        (nn.SpatialBatchNormalization(4, 1e-3), "nn.BatchNorm2d(4, eps=0.001)"),
        (nn.BatchNormalization(4, None, None, False), "nn.BatchNorm1d(4, affine=False)"),
        (nn.Dropout(0.5), "nn.Dropout(0.5)"),
        (nn.Threshold(0, 1e-6), "nn.Threshold(0, 1e-06)"),
    ],
    ids=str,
)
def test_usual_arguments_are_left_out(module: nn.Module, text: str) -> None:
    assert f"super().__init__({text})" in source("written", ABOUT, as_network(Plan(module).root))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nn.Reshape(4), "nn.Flatten()"),
        (nn.View(4), "Reshape(-1, 4)"),
        (nn.View(2, 2).setNumInputDims(3), "Reshape(-1, 2, 2)"),
        (nn.View(2, -1).setNumInputDims(3), "ReshapeEach(2, -1)"),
        (nn.JoinTable(1, 2), "Join(-2)"),
        (nn.Transpose(Table(2, 3)), "Transpose(1, 2)"),
        (nn.Mean(3), "Mean(2)"),
        (nn.SelectTable(-1), "Entry(-1)"),
        (nn.MulConstant(2), "Scale(2)"),
        (nn.LookupTable(5, 3, 1), "OneBasedEmbedding(5, 3, padding_idx=0)"),
        (nn.Normalize(2), "Normalize(2)"),
        (nn.SpatialLogSoftMax(), "nn.LogSoftmax(dim=1)"),
        (nn.Concat(2).add(nn.Tanh()), "Concat(nn.Tanh())"),
    ],
    ids=str,
)
def test_short_forms(module: nn.Module, text: str) -> None:
    assert f"super().__init__({text})" in source("written", ABOUT, as_network(Plan(module).root))


@pytest.mark.parametrize("size", [(3, 2, 4), (2, 4)])
def test_short_form_for_samples_and_batches(size: tuple[int, ...]) -> None:
    """With a batch nn.SplitTable(1, 2) counts its dimension from the second."""
    module = nn.SplitTable(1, 2)
    input = torch.randn(*size)
    network = to_native(module, input)
    assert type(network).__name__ == "Split"
    same(Table.from_python(network(input)), module.forward(input))


def shortcut(planes: int) -> nn.Sequential:
    return in_row([nn.SpatialConvolution(3, planes, 1, 1)])


@pytest.mark.parametrize(
    ("branches", "names"),
    [
        ([in_row(convolution(3, 3)), nn.Identity()], {"main"}),
        ([nn.Identity(), in_row(convolution(3, 3))], {"main"}),
        ([shortcut(5), in_row(convolution(3, 5))], {"main", "shortcut"}),
        ([nn.Identity(), nn.Identity()], set()),
    ],
    ids=("identity last", "identity first", "shortcut", "nothing else"),
)
def test_residual(branches: list[nn.Module], names: set[str]) -> None:
    table = nn.ConcatTable()
    for branch in branches:
        table.add(branch)
    network = in_row([table, nn.CAddTable(), nn.Tanh()])
    network.evaluate()
    input = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    output = network.forward(input)
    converted = to_native(network)
    same(converted(input), output)
    assert {name.split(".")[1] for name in converted.state_dict()} == names
    found = replay(Plan(network).root)
    assert (found.deviating, found.compared >= 2) == ({}, True)


def test_two_identities_are_no_residual() -> None:
    network = in_row([nn.ConcatTable().add(nn.Identity()).add(nn.Identity()), nn.CAddTable()])
    assert "Residual" not in source("written", ABOUT, as_network(Plan(network).root))


def test_sum_of_other_shapes_is_no_residual() -> None:
    """Torch7 adds tensors of as many elements; PyTorch would repeat them."""
    network = in_row([nn.ConcatTable().add(nn.Reshape(4, 1)).add(nn.Identity()), nn.CAddTable()])
    input = torch.randn(3, 4, dtype=torch.float64)
    same(to_native(network, input)(input), network.forward(input))
