"""Parts that a graph has several times: which become layers of their own, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command import assert_formatted
from golden import same
from test_converters_graph import agrees, text_of

from converters.graphs import as_network
from converters.native import Plan
from converters.replay import replay
from converters.source import source
from t7compat import Table, nn
from t7compat.nngraph import Node, gModule

SIZE = 4


def draw(*size: int) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64)


def lstm(layers: int, share: bool = False) -> tuple[gModule, Any]:
    """The step of char-rnn, with annotations and states as its inputs and outputs."""
    first, *states = [nn.Identity()() for _ in range(2 * layers + 1)]
    outputs: list[Node] = []
    x, weights = first, nn.Linear(SIZE, 4 * SIZE)
    for i in range(layers):
        c, h = states[2 * i : 2 * i + 2]
        of_x = weights.clone("weight", "bias") if share else nn.Linear(SIZE, 4 * SIZE)
        sums = nn.CAddTable()(
            [
                of_x(x).annotate(name=f"i2h_{i + 1}"),
                nn.Linear(SIZE, 4 * SIZE)(h).annotate(name=f"h2h_{i + 1}"),
            ]
        )
        a, b, o, g = nn.SplitTable(2)(nn.Reshape(4, SIZE)(sums)).split(4)
        new = nn.CMulTable()([nn.Sigmoid()(a), nn.Tanh()(g)])
        c = nn.CAddTable()([nn.CMulTable()([nn.Sigmoid()(b), c]), new])
        h = nn.CMulTable()([nn.Sigmoid()(o), nn.Tanh()(c)])
        outputs += [c, h]
        x = nn.Dropout(0.5)(h)
    outputs.append(nn.LogSoftMax()(nn.Linear(SIZE, SIZE)(x)))
    return nn.gModule([first, *states], outputs), Table(*(draw(2, SIZE) for _ in range(2 * layers + 1)))


def convolution(x: Node, inputs: int, outputs: int, stride: int = 1) -> Node:
    layer = nn.SpatialConvolution(inputs, outputs, 3, 3, stride, stride, 1, 1)
    return nn.SpatialBatchNormalization(outputs)(layer(x))


def resnet(*blocks: tuple[int, int]) -> tuple[gModule, Any]:
    """Basic blocks, each of so many planes and such a stride."""
    x = nn.Identity()()
    value, planes = nn.ReLU()(convolution(x, 3, 4)), 4
    for count, stride in blocks:
        main = convolution(nn.ReLU()(convolution(value, planes, count, stride)), count, count)
        shortcut = value if (count, stride) == (planes, 1) else convolution(value, planes, count, stride)
        value, planes = nn.ReLU()(nn.CAddTable()([main, shortcut])), count
    return nn.gModule([x], [value]), draw(2, 3, 8, 8)


def unet(levels: int) -> tuple[gModule, Any]:
    """Levels as those of pix2pix, from fine to coarse and back."""
    x = nn.Identity()()
    downs = [convolution(x, 3, 4, 2)]
    for _ in range(levels - 1):
        downs.append(convolution(nn.LeakyReLU(0.2)(downs[-1]), 4, 4, 2))
    value, planes = downs[-1], 4
    for down in reversed(downs[:-1]):
        up = nn.SpatialFullConvolution(planes, 4, 4, 4, 2, 2, 1, 1)(nn.ReLU()(value))
        value, planes = nn.JoinTable(2)([nn.SpatialBatchNormalization(4)(up), down]), 8
    return nn.gModule([x], [nn.Tanh()(value)]), draw(1, 3, 2**levels, 2**levels)


CELL = """\
class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.i2h = nn.Linear(4, 16)
        self.h2h = nn.Linear(4, 16)
        self.dropout = nn.Dropout(0.5)

    def forward(self, input):
        x1, x2, x3 = input
        i2h = self.i2h(x1)
        h2h = self.h2h(x2)
        part1, part2, part3, part4 = (i2h + h2h).reshape(-1, 4, 4).unbind(1)
        total = torch.sigmoid(part2) * x3 + torch.sigmoid(part1) * torch.tanh(part4)
        product = torch.sigmoid(part3) * torch.tanh(total)
        dropout = self.dropout(product)
        return total, product, dropout
"""


@pytest.mark.parametrize(
    ("made", "texts"),
    [
        (lstm(3), [CELL, "total2, product2, dropout2 = self.cell2((dropout1, x5, x4))\n"]),
        (lstm(2), ["self.i2h_2 = nn.Linear(4, 16)\n"]),
        (resnet(*[(4, 1)] * 5), ["def conv_block():\n", "relu2 = torch.relu(conv_block1 + relu1)\n"]),
        (
            resnet((4, 1), (4, 1), (8, 2), (8, 1), (12, 2), (12, 1)),
            [
                "def conv_block(in_channels, channels, stride):\n",
                "conv_block3 = conv_block(4, 8, stride=2)\n",
            ],
        ),
        (
            unet(6),
            [
                "def conv_block():\n    return nn.Sequential(\n        nn.LeakyReLU(0.2),\n",
                "deconv_block3 = self.deconv_block3(torch.cat((deconv_block2, conv_block3), 1))\n",
            ],
        ),
    ],
    ids=("three layers", "two layers", "equal blocks", "blocks of other sizes", "levels"),
)
def test_parts(made: tuple[gModule, Any], texts: list[str], tmp_path: Path) -> None:
    graph, input = made
    graph.evaluate()
    agrees(graph, input)
    text = text_of(graph)
    for part in texts:
        assert part in text
    (tmp_path / "written.py").write_text(text)
    assert_formatted(tmp_path)


def test_names_are_those_of_the_written_file() -> None:
    graph, _ = lstm(3)
    names = as_network(Plan(graph).root).tensors()
    assert {"cell1.i2h.weight", "cell3.h2h.bias", "linear.weight"} < set(names)


def test_parts_share_what_they_share() -> None:
    graph, input = lstm(3, share=True)
    graph.evaluate()
    agrees(graph, input)
    network = as_network(Plan(graph).root)
    assert "self.cell3.i2h.weight = self.cell1.i2h.weight" in source("written", ["A test."], network)
    assert len(list(network.build().parameters())) == 2 + 3 * 2 + 2


def test_replay_goes_into_parts() -> None:
    for graph, input in (lstm(3), resnet(*[(4, 1)] * 4)):
        graph.evaluate()
        graph.forward(input)
        network = as_network(Plan(graph).root)
        found = replay(network)
        assert (found.deviating, found.compared > 20) == ({}, True)
        *_, index, _ = [i for i, m in enumerate(graph.modules, 1) if str(m) in ("nn.Tanh", "nn.ReLU")]
        graph.get(index).output.add_(1)
        assert f"modules[{index}]" in replay(network).deviating


def test_layer_that_is_shared_is_in_no_part() -> None:
    shared = nn.Linear(SIZE, SIZE)
    x = value = nn.Identity()()
    for _ in range(8):
        value = nn.Tanh()(nn.Linear(SIZE, SIZE)(nn.Sigmoid()(shared(value))))
    graph = nn.gModule([x], [value])
    network = agrees(graph, draw(2, SIZE))
    assert len(list(network.parameters())) == 2 * 9


def test_blocks_in_a_class_with_parameters() -> None:
    """What a function is given there may be a parameter of the class."""

    def inner(planes: int) -> nn.Sequential:
        block = nn.Sequential()
        for _ in range(6):
            block.add(nn.Linear(planes, planes)).add(nn.Tanh())
        return block

    def graph(planes: int) -> gModule:
        x = nn.Identity()()
        parts = [inner(planes)(x) for _ in range(3)]
        return nn.gModule([x], [nn.CAddTable()(parts)])

    twins = nn.ParallelTable().add(graph(3)).add(graph(5))
    input = Table(draw(2, 3), draw(2, 5))
    agrees(nn.Sequential().add(twins), input)
    text = text_of(nn.Sequential().add(twins))
    assert text.count("class Graph") == 1
    same(Table.from_python(as_network(Plan(twins).root).build()((input[1], input[2]))), twins.forward(input))
