"""Graphs of nngraph as PyTorch: names, what is a layer and what an expression, and guessing the inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command import assert_formatted
from golden import GOLDEN, Case, cases, same, unknown_classes
from test_converters import convertible

import converters
import t7compat
from converters import to_native, verify
from converters.graph_samples import wishes
from converters.graphs import as_network
from converters.native import Plan
from converters.replay import replay
from converters.source import source
from t7compat import Table, nn
from t7compat.nested import walk
from t7compat.table import to_tuples

pytestmark = pytest.mark.usefixtures("kept_interpreter")

GRAPHS = {case.name: case for case in cases("nngraph") if case.stem == "gModule"}


def golden(name: str) -> tuple[Any, Any]:
    """The graph of a golden case in evaluation mode, and its input."""
    data = GRAPHS[name].load()
    data.module.evaluate()
    return data.module, data.input


def label(graph: Any, *names: Any) -> Any:
    """Annotate the nodes that have a layer, one after the other."""
    nodes = [node for node in graph.forwardnodes if node.data.module is not None]
    for node, name in zip(nodes, names, strict=False):
        node.data.annotations["name"] = name
    return graph


def text_of(module: Any) -> str:
    return source("written", ["A test.", "", "Of a graph."], as_network(Plan(module).root))


def body(text: str) -> str:
    """The class of a written network."""
    return text[text.index("class Written(") : text.index("def load(")].rstrip()


def agrees(module: Any, input: Any) -> torch.nn.Module:
    """The network of the text, which gives what the module gives."""
    namespace: dict[str, Any] = {"__name__": "written"}
    exec(text_of(module), namespace)
    network: torch.nn.Module = namespace["Written"]()
    network.load_state_dict(as_network(Plan(module).root).tensors(), assign=True)
    given = to_tuples(lambda x: x, input)
    for converted in (network.eval(), to_native(module)):
        same(Table.from_python(converted(given)), module.forward(input))
    return network


LSTM = """\
class Written(nn.Module):
    def __init__(self):
        super().__init__()
        self.i2h = nn.Linear(4, 12)
        self.h2h = nn.Linear(3, 12)
        self.decoder = nn.Linear(3, 4)

    def forward(self, input):
        x, prev_c, prev_h = input
        i2h = self.i2h(x)
        h2h = self.h2h(prev_h)
        part1, part2, part3, part4 = (i2h + h2h).reshape(-1, 4, 3).unbind(1)
        next_c = torch.sigmoid(part2) * prev_c + torch.sigmoid(part1) * torch.tanh(part4)
        product = torch.sigmoid(part3) * torch.tanh(next_c)
        decoder = self.decoder(product)
        return next_c, product, torch.log_softmax(decoder, 1)"""


def test_annotations_are_the_names() -> None:
    graph, input = golden("lstm_cell_1_layer")
    names = {"Linear(4 -> 12)": "i2h", "Linear(3 -> 12)": "h2h", "Linear(3 -> 4)": "decoder"}
    inputs = iter(["x", "prev_h", "prev_c"])  # in the order in which the graph comes to them
    for node in graph.forwardnodes:
        layer = str(node.data.module).removeprefix("nn.")
        name = next(inputs) if layer == "Identity" else names.get(layer)
        if layer == "CAddTable" and any(child.data.module is None for child in node.children):
            name = "next_c"
        if name:
            node.data.annotations["name"] = name
    assert body(text_of(graph)) == LSTM
    agrees(graph, input)


def test_layers_without_annotations_are_named_by_their_kind() -> None:
    graph, input = golden("convolution")
    network = agrees(graph, input)
    assert [name for name, _ in network.named_children()] == ["conv1", "conv2", "pool"]
    assert "return self.pool(torch.cat((conv1, conv2), 1))" in text_of(graph)


@pytest.mark.parametrize(
    "name",
    [
        "1x1 conv", "class", "self", "forward", "training", "T_destination", "torch", "F", "nn", "input", "x",
        "tie", "sum", "x); import os; (", '"""\n', "größe/2", "²", "", " ", "__init__", "_", "a" * 500, 5,
    ],
)  # fmt: skip
def test_any_annotation(name: Any) -> None:
    for place in range(3):
        graph, input = golden("annotated")
        names = ["one", "two", "three"]
        names[place] = name
        agrees(label(graph, *names), input)
        assert "import os" not in text_of(graph)


def test_annotation_that_several_have() -> None:
    graph, input = golden("chain")
    network = agrees(label(graph, "h", "h", "h", "h"), input)
    assert [name for name, _ in network.named_children()] == ["h", "h2"]


def test_layer_of_several_nodes_is_one_layer() -> None:
    graph, input = golden("shared_module_twice")
    first, second = [node for node in graph.forwardnodes if "Linear" in str(node.data.module)]
    graph.modules[[*graph.modules].index(second.data.module) + 1] = first.data.module
    second.data.module = first.data.module
    network = agrees(graph, input)
    assert [name for name, _ in network.named_children()] == ["linear"]


def test_equal_graphs_are_one_class() -> None:
    graph, input = golden("chain")
    twins = nn.ConcatTable().add(graph).add(graph.clone())
    agrees(nn.Sequential().add(twins), input)
    assert text_of(nn.Sequential().add(twins)).count("class Graph") == 1
    agrees(nn.Sequential().add(twins.add(golden("dropout")[0])), input)


def test_graphs_share_what_they_share() -> None:
    graph, input = golden("chain")
    network = nn.Sequential().add(nn.ConcatTable().add(graph).add(graph.clone("weight", "bias")))
    assert "self[0][1].linear1.weight = self[0][0].linear1.weight" in text_of(network)
    found = agrees(network, input)
    assert len(list(found.parameters())) == 8  # before tie()
    assert len(list(to_native(network).parameters())) == 4


def test_layer_inside_and_outside_of_a_graph() -> None:
    graph, input = golden("residual_batchnorm")
    inner = next(module for module in graph.modules if "Linear" in str(module))
    network = nn.Sequential().add(inner).add(graph)
    network.evaluate()
    agrees(network, input)
    assert "self[1].linear.weight = self[0].weight" in text_of(network)


def test_layer_that_is_not_converted_keeps_its_place() -> None:
    graph, _ = golden("chain")
    unknown = t7compat.TorchObject("my.Layer", 1)
    node = next(node for node in graph.forwardnodes if "Tanh" in str(node.data.module))
    graph.modules[[*graph.modules].index(node.data.module) + 1] = unknown
    node.data.module = unknown
    assert 'self.layer = Missing(layer="my.Layer at modules[3]")' in text_of(graph)
    assert "layer = self.layer(linear1)" in text_of(graph)


def test_shapes_of_which_an_expression_would_make_another_one() -> None:
    """Torch7 adds tensors of as many elements; PyTorch would repeat them."""
    graph, _ = golden("three_in_two_out")
    input = Table(*(torch.randn(*size, dtype=torch.float64) for size in ((2, 4), (4, 2), (2, 5))))
    given = to_tuples(lambda x: x, input)
    with pytest.raises(RuntimeError):
        to_native(graph)(given)
    same(Table.from_python(to_native(graph, given)(given)), graph.forward(input))


def test_broken_graph_is_refused_by_name() -> None:
    graph, _ = golden("two_inputs")
    graph.outnode.data.mapindex = None
    plan = Plan(nn.Sequential().add(graph))
    assert [problem.typename for problem in plan.problems.values()] == ["nn.gModule"]


def test_long_lines_are_formatted(tmp_path: Path) -> None:
    for name in GRAPHS:
        data = GRAPHS[name].load()
        if isinstance(data.module, nn.gModule) and not unknown_classes(data):
            label(data.module, *(f"{'long' * 8}_{i}" for i in range(99)))
            (tmp_path / f"{name}.py").write_text(text_of(data.module))
    assert_formatted(tmp_path)


# ---- the proof


@pytest.mark.parametrize("case", [case for case in GRAPHS.values() if convertible(case)], ids=str)
def test_input_is_found(case: Case) -> None:
    module = case.load().module.clearState()
    network = Plan(module).root
    assert verify.sample(module, None, wishes(module, network)) is not None


def test_replay_of_a_graph() -> None:
    graph, input = golden("lstm_cell_2_layers")
    graph.forward(input)
    found = replay(Plan(graph).root)
    assert found.deviating == {}
    assert found.compared > 25
    graph.get(4).output.add_(1)
    assert "modules[4]" in replay(Plan(graph).root).deviating


def has_graph(case: Case) -> bool:
    return convertible(case) and any(isinstance(found, nn.gModule) for found, _ in walk(case.content.module))


@pytest.mark.parametrize("case", [case for case in cases("models") if has_graph(case)], ids=str)
def test_whole_models(case: Case, tmp_path: Path) -> None:
    for path in sorted((GOLDEN / "models").glob(f"{case.stem}.*t7")):
        report = converters.convert(path, tmp_path)
        assert (report.status, report.warnings) == (0, [])
    data = case.load()
    found = verify.in_fresh_process(tmp_path, {case.stem: (to_tuples(lambda x: x, data.input), None)})
    same(Table.from_python(found[case.stem]["output"]), data.evaluate_output)
