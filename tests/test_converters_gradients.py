"""The proof of gradients: the written networks go back as the Torch modules do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import mlp, t7convert
from deviations import NO_BACKWARD
from golden import Case
from test_converters import ABOUT, golden, planned, prepared, random_in_evaluation, written

from converters import child, gradients, verify
from converters.gradients import OTHERS
from converters.graph_samples import wishes
from converters.graphs import as_network
from converters.native import Plan
from converters.report import Gradients
from converters.source import source
from t7compat import Table, nn
from t7compat.nested import type_name, walk

pytestmark = pytest.mark.usefixtures("kept_interpreter")


def compared(module: nn.Module, input: Any) -> Gradients:
    """The gradients of the network that is written for a module against its own."""
    with verify.preserved(module):
        output = verify.run(module, input)
        plan = planned(module, input)
        wanted = gradients.backward(module, input, output)
    layer = as_network(plan.root)
    network = written(source("written", ABOUT, layer))
    network.load_state_dict(layer.tensors(), assign=True)
    found = None if isinstance(wanted, str) else child.gradients(network, input, wanted.gradient)
    return gradients.compared(module, plan.written, wanted, found)


@golden
def test_written_source_goes_back_as_the_torch_module_does(case: Case) -> None:
    module, input, _ = prepared(case)
    if random_in_evaluation(module):
        pytest.skip("it draws random numbers in evaluation, too")
    found = compared(module, input)
    if found.outcome == "skipped":
        without = {type_name(value) for value, _ in walk(module)} & (NO_BACKWARD.keys() | OTHERS.keys())
        assert without, found
        pytest.skip(", ".join(f"{name}: {NO_BACKWARD.get(name) or OTHERS[name]}" for name in without))
    assert found.outcome == "verified", found


def random(*size: int) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64)


def test_transposed_weights_have_their_gradient_in_common() -> None:
    """As in an autoencoder; Torch adds both up, PyTorch has a parameter for each."""
    encoder, decoder = nn.Linear(3, 4), nn.Linear(4, 3)
    decoder.weight, decoder.gradWeight = encoder.weight.t(), encoder.gradWeight.t()
    found = compared(nn.Sequential().add(encoder).add(nn.Tanh()).add(decoder), random(2, 3))
    assert (found.outcome, found.compared) == ("verified", 5)


def test_gradients_are_of_evaluation_mode() -> None:
    """Dropout lets everything pass, normalizations take their running statistics."""
    network = nn.Sequential().add(nn.Linear(3, 4)).add(nn.BatchNormalization(4)).add(nn.Dropout(0.5))
    network.add(nn.Sequencer(nn.Sequential().add(nn.LSTM(4, 4)).add(nn.Dropout(0.5))))
    assert compared(network, random(5, 3)).outcome == "verified"


def test_nothing_changes() -> None:
    network = mlp()
    network.forward(random(2, 3))
    network.backward(random(2, 3), random(2, 2))
    before = [tensor.clone() for part in network.parameters() or () for tensor in part]
    assert compared(network, random(2, 3)).outcome == "verified"
    after = [tensor for part in network.parameters() or () for tensor in part]
    assert all(map(torch.equal, before, after))
    assert not any(tensor.requires_grad for tensor in after)


def test_penalties_are_left_out() -> None:
    network = nn.Sequential().add(nn.TotalVariation(0.1)).add(nn.Tanh())
    found = compared(network, random(1, 2, 4, 4))
    assert found.outcome == "verified"
    assert str(found).endswith("(without the penalty of nn.TotalVariation)")
    assert network.get(1).strength == 0.1


def rewarded() -> nn.Module:
    """A layer that has got a reward for its last sample, as in a checkpoint between two steps of training."""
    layer = nn.ReinforceNormal(0.4)
    layer.forward(random(2, 3))
    layer.reinforce(random(2))
    return layer


SIGNED = torch.tensor([[-1.0, 2, 3]]).double()
NOT_COMPARED = {
    "ReinforceNormal": (rewarded(), SIGNED, "nn.ReinforceNormal gives the gradient of its reward"),
    "MapTable": (nn.MapTable(nn.Linear(3, 2), False), (SIGNED, SIGNED), "its forward makes new parameters"),
    "CategoricalEntropy": (nn.CategoricalEntropy(), SIGNED, "the penalty of nn.CategoricalEntropy is not"),
}


@pytest.mark.parametrize(("module", "input", "reason"), NOT_COMPARED.values(), ids=NOT_COMPARED)
def test_what_cannot_be_compared_is_said(module: nn.Module, input: Any, reason: str) -> None:
    found = compared(module, input)
    assert found.outcome == "skipped"
    assert found.reason.startswith(reason)


def test_entries_that_have_parameters_already_are_compared() -> None:
    table = nn.MapTable(nn.Linear(3, 2), False)
    table.forward(Table(SIGNED, SIGNED))
    table.get(2).weight.mul_(2)
    found = compared(table, (SIGNED, SIGNED))
    assert (found.outcome, found.compared) == ("verified", 6)


@pytest.mark.parametrize("slope", [1.0, 1.25])
def test_gradients_that_are_not_finite_hide_no_others(slope: float) -> None:
    """Square roots have an infinite slope at 0, and none below it."""
    module, input = nn.Sequential().add(nn.Linear(2, 4)).add(nn.Sqrt()), torch.zeros(1, 2).double()
    module.get(1).bias.copy_(torch.tensor([0.0, -1.0, 1.0, 4.0]))
    output = verify.run(module, input)
    wanted = gradients.backward(module, input, output)
    assert not isinstance(wanted, str)
    assert not wanted.slopes[1][1].isfinite().all()
    network = as_network(Plan(module).root).build()
    places, slopes = child.gradients(network, input, wanted.gradient)
    slopes["0.bias"][-1] *= slope
    found = gradients.compared(module, frozenset(), wanted, (places, slopes))
    assert found.outcome == ("verified" if slope == 1 else "deviates")


# ---- losses as layers


LOSSES = (
    nn.AbsCriterion, nn.BCECriterion, nn.ClassNLLCriterion, nn.CosineEmbeddingCriterion,
    nn.CrossEntropyCriterion, nn.DistKLDivCriterion, nn.HingeEmbeddingCriterion, nn.MSECriterion,
    nn.MarginRankingCriterion, nn.MultiLabelMarginCriterion, nn.MultiLabelSoftMarginCriterion,
    nn.MultiMarginCriterion, nn.SmoothL1Criterion, nn.SoftMarginCriterion,
)  # fmt: skip


def in_graph(loss: nn.Module) -> nn.Module:
    """The loss of what layers make of the first input, with the second one as its target."""
    input, target = nn.Identity()(), nn.Identity()()
    layers = nn.Sequential().add(nn.Linear(4, 3)).add(nn.Sigmoid())
    if isinstance(loss.criterion, nn.CosineEmbeddingCriterion | nn.MarginRankingCriterion):
        size = 3 if isinstance(loss.criterion, nn.CosineEmbeddingCriterion) else 1
        layers = nn.ConcatTable().add(nn.Linear(4, size)).add(nn.Linear(4, size))
    return nn.gModule([input, target], [loss([layers(input), target])])


@pytest.mark.parametrize("place", [lambda loss: loss, in_graph], ids=["alone", "in_graph"])
@pytest.mark.parametrize("kind", LOSSES)
def test_losses_get_targets_of_the_kind_that_they_are_for(kind: Callable[[], Any], place: Any) -> None:
    module = place(nn.ModuleFromCriterion(kind()))
    found = verify.sample(module, None, wishes(module, as_network(Plan(module).root)))
    assert found is not None
    assert compared(module, found.input).outcome == "verified"


@pytest.mark.parametrize("kind", [nn.MSECriterion, nn.HingeEmbeddingCriterion])
def test_target_has_as_many_numbers_as_the_prediction(kind: Callable[[], Any]) -> None:
    """Torch counts them; PyTorch would compare each of a column with each of a vector."""
    assert compared(nn.ModuleFromCriterion(kind()), (random(3, 1), random(3).sign())).outcome == "verified"


@pytest.mark.parametrize(("size", "targets"), [((4,), (1,)), ((5, 4), (5,)), ((5, 4), (5, 1))])
def test_target_has_a_number_for_each_sample(size: tuple[int, ...], targets: tuple[int, ...]) -> None:
    module = nn.ModuleFromCriterion(nn.CosineEmbeddingCriterion(0.1))
    input = (random(*size), random(*size)), random(*targets).sign()
    assert compared(module, input).outcome == "verified"


# ---- the command


# A layer that changes nothing but the gradient
WRONG = """
class Same(nn.Module):
    def forward(self, input):
        return input.detach() + (input - input.detach()) * 1.25


def load("""


def test_verify_names_the_parameter_with_another_gradient(save: Callable[..., Path], tmp_path: Path) -> None:
    path, file = save(mlp()), tmp_path / "model.py"
    assert "\ngradients: largest difference " in t7convert(path).stdout
    text = file.read_text()
    assert "Gradients: largest difference" in text
    file.write_text(text.replace("nn.Tanh()", "nn.Sequential(nn.Tanh(), Same())").replace("def load(", WRONG))
    result = t7convert("verify", path, file)
    assert result.exit_code == 3
    assert "DEVIATES" in result.stderr
    assert "gradients: largest difference" in result.stderr
    found = json.loads(t7convert("verify", path, file, "--json").stdout)["verification"]
    assert found["largest"] == 0
    assert found["gradients"]["outcome"] == "deviates"
    assert found["gradients"]["at"] in ("input", "0.weight", "0.bias")


@pytest.mark.parametrize(
    ("forward", "status", "word"),
    [
        ("self.own = nn.Parameter(torch.zeros(2)); return input", 0, "has a parameter 'own' of its own"),
        ("return input.detach().requires_grad_()", 3, "gradients: largest difference"),
        ("assert not torch.is_grad_enabled(); return input", 3, "the written network fails: AssertionError"),
    ],
)
def test_verify_what_goes_back_otherwise(
    forward: str, status: int, word: str, save: Callable[..., Path], tmp_path: Path
) -> None:
    path, file = save(mlp()), tmp_path / "model.py"
    t7convert(path)
    header = "class Model(nn.Sequential):\n    def forward(self, input):\n        "
    body = f"{forward.replace('return input', 'return super().forward(input)')}\n"
    text = file.read_text().replace("class Model(nn.Sequential):\n", header + body + "\n")
    file.write_text(text.replace("import nn\n", "import nn\nimport torch\n"))
    result = t7convert("verify", path, file)
    assert (result.exit_code, word in result.output) == (status, True), result.output
