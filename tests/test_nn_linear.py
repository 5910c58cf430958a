"""Layers with weights on vectors, and distances: what the golden data does not show.

The numbers were printed by Torch7, for the same steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch7 import given, gives, size_text, tensor, wave

import t7compat
from t7compat import InputError, Table, nn


def filled(module: Any, *tensors: torch.Tensor) -> Any:
    """The module with parameters that need no random generator, and gradients of zero."""
    for i, parameter in enumerate(tensors or module.parameters()[0], 1):
        parameter.copy_((wave(parameter.numel()) + i * 0.1).reshape(parameter.shape))
    module.zeroGradParameters()
    return module


def keys(*values: int) -> torch.Tensor:
    return torch.tensor(values)


X, G = wave(2, 3), wave(2, 2)

# ---- weight normalisation


def two_passes(module: Any) -> None:
    for factor, scale in ((1, 1), (2, 0.5)):
        module.forward(X * factor)
        module.backward(X * factor, G, scale)


def test_weight_norm_projects_accumulated_gradients_again() -> None:
    module = filled(nn.WeightNorm(nn.Linear(3, 2)))
    two_passes(module)
    gradV = "0.400328 0.0379023 -0.352009 2.68475 2.23541 0.787065 "
    gives(module.parameters()[1], gradV + "0.426418 -0.347832 2.26114 1.98066")
    gives(module.gradWeight, gradV)
    module.updateParameters(0.1)
    module.evaluate()
    gives(module.weight, "0.34591 0.531333 0.49044 0.205689 -0.585923 -1.05033")


def test_weight_norm_over_another_dimension() -> None:
    t7compat.manualSeed(4)
    module = nn.WeightNorm(nn.SpatialConvolution(2, 3, 2, 1), 2)
    gives(module.g, "1.25792 2.05043")
    assert (list(module.viewIn), list(module.viewOut)) == ([2, 6], [2, 3, 1, 2])
    module.forward(wave(1, 2, 2, 2))
    gives(
        module.modules[1].weight,
        "-0.140415 -0.41799 0.382986 0.0124192 0.506081 -0.352466 "
        "-1.03421 -0.505498 -0.673364 -0.744357 -1.06555 1.26365",
    )


def test_weight_norm_file_has_no_weight(tmp_path: Path) -> None:
    module = filled(nn.WeightNorm(nn.Linear(3, 2)))
    want = module.forward(X)
    t7compat.save(tmp_path / "model.t7", module)
    assert module.weight is module.modules[1].weight
    assert list(vars(module.modules[1])).index("weight") == list(vars(nn.Linear(3, 2))).index("weight")
    again = t7compat.load(tmp_path / "model.t7")
    assert again.weight is again.modules[1].weight
    again.evaluate()
    torch.testing.assert_close(again.forward(X), want)


def test_linear_weight_norm() -> None:
    module = filled(nn.LinearWeightNorm(3, 2))
    two_passes(module)
    gives(
        module.parameters()[1],
        "0.400334 0.0378977 -0.352023 2.68503 2.23561 0.787094 0.426418 -0.3478 2.26114 1.98066",
    )
    module.updateParameters(0.1)
    linear = module.toLinear()
    gives(linear.weight, "0.345916 0.531343 0.490449 0.205664 -0.585971 -1.05038")
    again = nn.LinearWeightNorm.fromLinear(linear)
    gives(Table(again.g, again.bias), "0.801576 1.22023 0.718104 1.08738")


# ---- parts of a weight


def test_partial_linear_moves_only_its_part() -> None:
    module = filled(nn.PartialLinear(3, 4))
    module.setPartition(tensor(4, 2))
    module.forward(X)
    module.accUpdateGradParameters(X, G, 0.1)
    gives(module.bias, "0.844218 1.05341 1.06321 0.384245")
    module.zeroGradParameters()
    module.backward(X, G, 2)
    module.updateParameters(0.1)
    gives(
        module.network.get(1).get(2).weight,
        "0.744218 1.08545 0.963209 0.21087 -0.506864 -0.93918 -0.882453 -0.531267 0.116814 "
        "0.545732 0.988555 1.01348",
    )


@pytest.mark.parametrize(
    ("prepare", "gradient"),
    [
        (lambda table: table.setPadding(4), "0.644218 0.98545 0 0 0 0 0 0"),
        (lambda table: table.setPadding(-1), "0.644218 0.98545 0 0 0 0 0.863209 0.334988"),
        (lambda table: table.setPadding(9), "0.644218 0.98545 0 0 0 0 0.863209 0.334988"),
    ],
)
def test_padding_of_lookup_table(prepare: Callable[[Any], Any], gradient: str) -> None:
    table = prepare(filled(nn.LookupTable(4, 2)))
    table.forward(keys(1, 4))
    table.backward(keys(1, 4), G)
    gives(table.gradWeight, gradient)


def test_lookup_table_with_a_norm_of_zero() -> None:
    assert not filled(nn.LookupTable(4, 2)).setMaxNorm(0).forward(keys(1, 2)).any()


def test_lookup_table_of_an_old_file() -> None:
    table = filled(nn.LookupTable(4, 2))
    for name in ("paddingValue", "_count", "_input"):
        vars(table).pop(name, None)
    again = t7compat.loads(t7compat.dumps(table))
    again.forward(keys(1, 4))
    again.backward(keys(1, 4), G)
    gives(again.gradWeight, "0.644218 0.98545 0 0 0 0 0.863209 0.334988")


def test_types_of_scratch_tensors_of_lookup_table() -> None:
    table = nn.LookupTable(4, 2).float()
    assert (table._count.dtype, table._input.dtype) == (torch.int32, torch.int64)


@pytest.mark.parametrize("make", [lambda: nn.CMul(3), lambda: nn.CAdd(3), lambda: nn.Euclidean(2, 3)])
def test_conversion_empties_scratch_tensors(make: Callable[[], Any]) -> None:
    assert make().float().output.numel() == 0


# ---- sparse input

A = Table(tensor([1, 0.5], [3, 2]), tensor([2, 1], [3, -1]))
B = Table(tensor([4, 1]), tensor([1, 2]))


def test_sparse_updates() -> None:
    module = filled(nn.SparseLinear(4, 2))
    module.weightDecay = 0.1
    module.forward(A)
    module.backward(A, G, 0.5)
    gives(module.lastInput, "1 1 0.5 1 3 2 2 2 1 2 3 -1")
    module.updateParameters(0.1)
    gives(module.weight, "0.72067 1.03143 0.932316 0.434988 -0.272912 -0.780609 -0.955424 -0.531267")
    module.zeroGradParameters()
    gives(module.gradWeight, "0 0 0 0.0434988 0 0 0 -0.0531267")
    for x in (B, A):
        module.forward(x)
        module.backward(x, G)
    module.updateParameters(0.1)
    gives(module.weight, "0.501404 0.924485 0.871147 0.357517 -0.383724 -0.798496 -1.09991 -0.613874")
    module.zeroGradParameters()
    assert not module.gradWeight.any()
    module.forward(A)
    module.accUpdateGradParameters(A, G, 0.1)
    gives(module.weight, "0.516112 0.921981 0.911487 0.393268 -0.476296 -0.915194 -1.38985 -0.675261")


def test_values_of_zero_may_be_anywhere() -> None:
    module = filled(nn.SparseLinear(4, 2))
    x = tensor([[1, 0.5], [3, 2]], [[2, 1], [0, 0]])
    gives(module.forward(x), "3.14275 -0.704847 1.92967 0.413874")
    module.backward(x, G)
    gives(module.gradWeight, "0.322109 0.863209 1.28844 0 0.492725 0.334988 1.9709 0")
    module.clearState()
    module.zeroGradParameters()
    assert not module.gradWeight.any()


K = Table(keys(1, 3), keys(3, 3, 2))
SMALL = Table(K, Table(tensor(0.5, 2), tensor(-3, 1, -1)))
LARGE = Table(K, Table(tensor(0.5, 5), tensor(-3, 1, -1)))

# Weight decay, and Torch7's output and weight with normalisation for 1 or 2 outputs
INDEXED = [
    (
        0,
        "-0.812763 -0.592873",
        "0.5 2 0 0.0753306 -0.481091 1 1 0 -0.305924 1.13369 5 0.2 0 0.786994 -1.0379 0 0 0 0 1.09061",
    ),
    (
        0.1,
        "-1.83289 -1.24067",
        "0.5 2 0 0.0867515 -0.628732 1 1 0 -0.35629 1.53615 5 0.2 0 1.47088 -2.94232 0 0 0 0 1.09061",
    ),
    (
        0,
        "-0.426666 -0.0533543 -0.805021 -0.212109",
        "0.5 2 1 0.387056 -0.502248 -1.15624 1 1 1 -0.48092 1.43562 1.08943 "
        "5 0.2 1 0.494211 -0.689299 -0.182283 0 0 0 0 -0.282071 -0.787567",
    ),
    (
        0.1,
        "-0.0565577 0.092981 -0.52728 0.0200124",
        "0.5 2 1 0.331814 -0.385355 -0.84401 1 1 1 -0.408077 1.01883 0.74463 "
        "5 0.2 1 0.289436 -0.232838 -0.12435 0 0 0 0 -0.282071 -0.787567",
    ),
]


@pytest.mark.parametrize(("decay", "output", "weight"), INDEXED)
def test_keys_that_occur_more_than_once(decay: float, output: str, weight: str) -> None:
    outputs = len(output.split()) // 2
    gradOutput = wave(2, outputs)
    module = nn.IndexLinear(4, outputs, normalize=True)
    filled(module, module.weight, module.bias).weight[:, :4] = 0
    module.weightDecay = decay
    module.training()
    for x, scale in ((SMALL, 0.5), (LARGE, 1)):
        module.forward(x)
        module.backward(x, gradOutput, scale)
    module.updateParameters(0.1)
    module.zeroGradParameters()
    module.evaluate()
    gives(module.forward(LARGE), output)
    module.backward(LARGE, gradOutput)
    module.updateParameters(0.1)
    module.training()
    module.forward(SMALL)
    module.accUpdateGradParameters(SMALL, gradOutput, 0.1)
    gives(module.weight, weight)


def test_indexed_samples_in_one_list() -> None:
    module = nn.IndexLinear(4, 2)
    filled(module, module.weight, module.bias)
    gives(module.forward(Table(keys(1, 3, 2), tensor(1, 2, 3), 3)), "3.9765 2.03271")
    empty_first = Table(keys(1, 3, 2), tensor(1, 2, 3), keys(0, 3))
    gives(module.forward(empty_first), "0.844218 1.18545 3.9765 2.03271")
    module.clearState()
    module.updateParameters(0.1)
    gives(module.forward(empty_first), "0.844218 1.18545 3.9765 2.03271")


def test_sparse_layer_is_the_first_of_a_network() -> None:
    network = nn.Sequential().add(nn.SparseLinear(4, 2, True)).add(nn.Tanh())
    network.forward(A)
    network.backward(A, G)
    assert size_text(network.get(1).gradInput) == "{4x2;4x2}"
    assert network.gradInput is network.get(1).gradInput


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("form", ["table", "one sample", "tensor"])
def test_containers_have_the_gradient_of_a_sparse_layer(form: str, wanted: bool) -> None:
    sample = tensor([1, 0.5], [3, 2])
    batch = Table(sample, sample[:1])
    input = {"table": batch, "one sample": sample, "tensor": torch.stack([sample, sample])}[form]
    layer = nn.SparseLinear(4, 2, wanted)
    network = nn.ParallelTable().add(nn.Sequential().add(nn.Identity()).add(layer)).add(nn.Linear(2, 2))
    output = network.forward([input, tensor(1, 2)])
    gradInput = network.backward([input, tensor(1, 2)], output)
    known = layer.updateGradInput(input, output[1])
    assert size_text(gradInput[1]) == size_text(known) == size_text(network.get(1).gradInput)
    if wanted:
        torch.testing.assert_close(list(gradInput[1]), list(known))
    assert isinstance(known, Table) == (form != "tensor")
    assert gradInput[2].shape == (2,)


# ---- what is refused

REFUSED: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: nn.Bilinear(3, 2, 4), "{2x3;2x2}>2x4", "{2x3;2x3} {2x3;3x2} {2x3} {3;2} {2x3;f2x2} 2x3"),
    (lambda: nn.CAdd(3), "3>3 2x3>2x3 2x1x3>2x1x3", "4 2x4 2x3x2 f2x3 {2x3}"),
    (lambda: nn.CAdd(1, 3), "4x3>4x3 1x3>1x3", "4x2x3"),
    (lambda: nn.CAdd(1, 1, 1), "2x3>2x3", ""),
    (lambda: nn.LinearWeightNorm(3, 2), "3>2 2x3>2x2", "2x4 2x2x3 f2x3 {2x3}"),
    (lambda: nn.WeightNorm(nn.Linear(3, 2)), "3>2 2x3>2x2", "2x4 2x2x3 f2x3 {2x3}"),
    (lambda: nn.PartialLinear(3, 2), "2x3>2x2", "3 2x4 f2x3 {2x3}"),
    (nn.DotProduct, "{2x3;2x3}>2 {3;3}>1 {2x3;3x2}>2", "{2x3;1x3} {2x3} {2x3;2x3;2x3} {2x3;f2x3} 2x3"),
    (nn.CosineDistance, "{2x3;2x3}>2 {3;3}>1", "{2x3;1x3} {2x3} {2x3;f2x3} {2x2x3;2x2x3} 2x3"),
    (nn.PairwiseDistance, "{2x3;2x3}>2 {3;3}>1", "{2x3;1x3} {2x3} {2x3;f2x3} {2x2x3;2x2x3} 2x3"),
    (nn.MM, "{2x3;3x4}>2x4 {5x2x3;5x3x4}>5x2x4", "{2x3;2x3} {5x2x3;1x3x4} {5x2x3;3x4} {3;3x4} 2x3"),
    (lambda: nn.MM(True, True), "{3x2;4x3}>2x4", "{2x3;3x4}"),
    (nn.MV, "{2x3;3}>2 {5x2x3;5x3}>5x2", "{2x3;2} {2x3;3x1} {5x2x3;1x3} {3;3} 2x3"),
    (lambda: nn.MV(True), "{3x2;3}>2", "{2x3;3}"),
    (lambda: nn.Cosine(3, 2), "3>2 2x3>2x2", "2x4 2x2x3 f2x3 {2x3}"),
    (lambda: nn.Euclidean(3, 2), "3>2 2x3>2x2", "2x4 2x2x3 f2x3"),
    (lambda: nn.WeightedEuclidean(3, 2), "3>2 2x3>2x2", "2x4 2x2x3 f2x3"),
    (lambda: nn.Kmeans(2, 3), "4x3>4", "3 4x2 f4x3"),
    (lambda: nn.SparseLinear(4, 3), "1x2:1/5>3 {1x2:4/1;2x2:1/1/2/1}>2x3", "1x2:5/1 1x2:-1/1 1x3 2 {} f1x2"),
    (lambda: nn.IndexLinear(4, 3), "{i2:1/4;2}>3", "{i2:0/1;2} {i2:1/5;2} {i2:1/2;3} {i2:1/2;f2} {2} 2"),
]


@pytest.mark.parametrize(("make", "taken", "refused"), REFUSED)
def test_inputs(make: Callable[[], Any], taken: str, refused: str) -> None:
    for case in taken.split():
        input, output = case.split(">")
        assert size_text(make().forward(given(input))) == output, case
    for case in refused.split():
        with pytest.raises(InputError, match="expected"):
            make().forward(given(case))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Bilinear(0, 1, 1),
        lambda: nn.Kmeans(0, 1),
        lambda: nn.MV(1),
        lambda: nn.WeightNorm(nn.Tanh()),
        lambda: nn.WeightNorm(5),
        lambda: nn.Kmeans(2, 3).initRandom(wave(1, 3)),
        lambda: nn.IndexLinear(4, 2).backward(SMALL, G),
    ],
)
def test_refused_arguments(make: Callable[[], Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        make()


# ---- gradients of Linear, which are added without autograd


class Squared:
    """What a class may have instead of Linear's mathematics."""

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(input, weight * weight, bias)


class Clamped:
    def accumulate(self: Any, name: str, gradient: Tensor, scale: float) -> None:
        vars(self)["grad" + name.capitalize()].add_(gradient.clamp(-0.1, 0.1), alpha=scale)


class Doubling(nn.Module):
    """Changes its input, as a `compute` should not."""

    def compute(self, input: Tensor) -> Tensor:
        return input.mul_(2)


def gradient(layer: nn.Module, network: nn.Module | None = None) -> tuple[Tensor, Tensor]:
    """The gradient of the weight for random rows, and these."""
    x = torch.randn(5, 3, dtype=torch.float64)
    network = layer if network is None else network
    layer.zeroGradParameters()
    network.forward(x)
    network.backward(x, torch.ones(5, 2).double())
    return layer.gradWeight, x


def test_gradients_of_another_compute() -> None:
    mixed = type("Mixed", (Squared, nn.Linear), {})(3, 2)
    own = nn.Linear(3, 2)
    own.compute = functools.partial(Squared.compute, own)
    for layer in (mixed, own):
        found, x = gradient(layer)
        torch.testing.assert_close(found, 2 * layer.weight * x.sum(0))


def test_gradients_added_in_another_way() -> None:
    found, _ = gradient(type("Mixed", (Clamped, nn.Linear), {})(3, 2))
    assert found.abs().max() == 0.1


def test_gradients_where_the_output_is_overwritten() -> None:
    layer = nn.Linear(3, 2)
    found, x = gradient(layer, nn.Sequential().add(layer).add(Doubling()))
    torch.testing.assert_close(found, 2 * x.sum(0).expand(2, 3))


def test_gradients_of_another_type() -> None:
    layer = nn.Linear(3, 2).type("torch.HalfTensor")
    layer.gradWeight, layer.gradBias = torch.zeros(2, 3), torch.zeros(2)
    layer.forward(torch.ones(4, 3).half())
    layer.backward(torch.ones(4, 3).half(), torch.ones(4, 2).half())
    assert (layer.gradWeight == 4).all()
    assert (layer.gradBias == 4).all()
