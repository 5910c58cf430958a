"""What classes of cudnn do otherwise than those of nn; the way from nn to cudnn and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from golden import cases, gradients, same

import converters
import t7compat
from converters import to_native
from t7compat import InputError, LongStorage, TorchObject, cudnn, nn, registry


def loaded(typename: str, **fields: Any) -> Any:
    return t7compat.loads(t7compat.dumps(TorchObject(typename, 1, **fields)))


def test_groups() -> None:
    """Each half of the planes has a convolution of its own."""
    module = cudnn.SpatialConvolution(4, 6, 3, 2, 1, 2, 1, 0, 2)
    assert module.weight.shape == (6, 2, 2, 3)
    assert str(module) == "cudnn.SpatialConvolution(4 -> 6, 3x2, 1,2, 1,0)"
    input = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    gradOutput = torch.randn(3, 6, 2, 6, dtype=torch.float64)
    module.zeroGradParameters()
    same(module.forward(input), torch.cat([half(module, i).forward(input[:, at(i, 2)]) for i in (0, 1)], 1))
    gradInput = module.backward(input, gradOutput)
    for i in (0, 1):
        alone = half(module, i)
        alone.forward(input[:, at(i, 2)])
        same(gradInput[:, at(i, 2)], alone.backward(input[:, at(i, 2)], gradOutput[:, at(i, 3)]))
        same(module.gradWeight[at(i, 3)], alone.gradWeight)
    same(to_native(module)(input).detach(), module.output)
    with pytest.raises(InputError, match="expected planes for 3 groups"):
        cudnn.SpatialConvolution(4, 6, 3, 3, 1, 1, 0, 0, 3)


def at(i: int, size: int) -> slice:
    return slice(i * size, i * size + size)


def half(module: Any, i: int) -> Any:
    alone = nn.SpatialConvolution(2, 3, 3, 2, 1, 2, 1, 0)
    alone.weight.copy_(module.weight[at(i, 3)])
    alone.bias.copy_(module.bias[at(i, 3)])
    alone.zeroGradParameters()
    return alone


def test_padding_of_convolutions() -> None:
    """padH is 0 unless it is given; in nn it is padW."""
    assert cudnn.SpatialConvolution(1, 1, 3, 3, 1, 1, 1).padH == 0


def test_algorithms_of_convolutions() -> None:
    module = cudnn.SpatialConvolution(1, 1, 1, 1).fastest().setMode("A", None, "C")
    assert (module.fastest_mode, module.fmode, module.bwmode) == (True, "A", "C")
    assert not {"fmode", "bdmode", "bwmode"} & vars(module.resetMode()).keys()
    module.input_slice = torch.ones(2)
    module.clearState()
    assert module.input_slice.numel() == 0


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(registry.lookup(f"nn.{name}") is None, reason=f"there is no nn.{name} yet")


@needs("TemporalConvolution")
def test_temporal_convolution() -> None:
    """That of nn over frames padded with zeros."""
    module, other = cudnn.TemporalConvolution(4, 5, 3, 2, 1), nn.TemporalConvolution(4, 5, 3, 2)
    other.weight.copy_(module.weight)
    other.bias.copy_(module.bias)
    module.zeroGradParameters()
    input = torch.randn(2, 9, 4, dtype=torch.float64)
    padded = torch.nn.functional.pad(input, (0, 0, 1, 1))
    output = other.forward(padded)
    same(module.forward(input), output)
    same(module.backward(input, output), other.backward(padded, output)[:, 1:-1])
    same(gradients(module), gradients(other))
    same(to_native(module, input)(input).detach(), output)
    assert str(module) == "cudnn.TemporalConvolution"
    with pytest.raises(InputError, match="expected"):
        module.forward(input[..., :3])


@needs("VolumetricAveragePooling")
def test_average_of_volumes() -> None:
    module = cudnn.VolumetricAveragePooling(3, 2, 2, 2, 2, 2, 1, 1, 1).ceil().float()
    input = torch.randn(2, 2, 5, 6, 5)
    want = torch.nn.functional.avg_pool3d(input, (3, 2, 2), 2, 1, ceil_mode=True)
    same(module.forward(input), want)
    same(to_native(module)(input), want)
    assert cudnn.convert(module, nn).__typename__ == "cudnn.VolumetricAveragePooling"


@needs("SpatialAveragePooling")
def test_average_counts_padding() -> None:
    """Also after conversion, which in Torch7 loses sight of it."""
    module = cudnn.SpatialAveragePooling(2, 2, 2, 2, 1, 1)
    input = torch.ones(1, 2, 2, dtype=torch.float64)
    want = torch.full((1, 2, 2), 0.25, dtype=torch.float64)
    same(module.forward(input), want)
    same(cudnn.convert(module, nn).forward(input), want)
    assert module.__typename__ == "nn.SpatialAveragePooling"
    module.setCountExcludePad()
    same(cudnn.convert(module, cudnn).forward(input), want)
    module.divide = False
    with pytest.raises(InputError, match="divide"):
        module.forward(input)


@needs("SpatialCrossMapLRN")
def test_normalization_across_planes() -> None:
    old = loaded("cudnn.SpatialCrossMapLRN", size=5, alpha=1.0, beta=0.75, K=2.0, output=torch.zeros(0))
    assert (old.k, "K" in vars(old), cudnn.SpatialCrossMapLRN().size) == (2, False, 5)
    assert cudnn.convert(loaded("inn.SpatialCrossResponseNormalization"), nn).__typename__ == (
        "nn.SpatialCrossMapLRN"
    )


@needs("SpatialConvolutionMM")
def test_weight_of_two_dimensions() -> None:
    module = nn.SpatialConvolutionMM(2, 3, 3, 3)
    input = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    output = module.forward(input).clone()
    assert cudnn.convert(module, cudnn).__typename__ == "cudnn.SpatialConvolution"
    same(module.forward(input), output)


X = torch.randn(2, 3, 2, 4, dtype=torch.float64)


@pytest.mark.parametrize(
    ("module", "input", "want"),
    [
        (cudnn.ClippedReLU(0.5), X, X.clamp(0, 0.5)),
        (cudnn.SoftMax(), X, X.flatten(1).softmax(1).view_as(X)),
        (cudnn.SoftMax(True), X[0], X[0].flatten().softmax(0).view_as(X[0])),
        (cudnn.SoftMax(), X[0, 0], X[0, 0].softmax(1)),
        (cudnn.LogSoftMax(), X, X.flatten(1).log_softmax(1).view_as(X)),
        (cudnn.LogSoftMax(), X[0, 0, 0], X[0, 0, 0].log_softmax(0)),
        (cudnn.SpatialSoftMax(), X, X.softmax(1)),
        (cudnn.SpatialSoftMax(), X[0], X[0].softmax(0)),
        (cudnn.SpatialLogSoftMax(), X, X.log_softmax(1)),
        (cudnn.VolumetricSoftMax(), X, X.softmax(0)),
        (cudnn.VolumetricSoftMax(), X[None], X.softmax(0)[None]),
        (cudnn.VolumetricLogSoftMax(), X[None], X.log_softmax(0)[None]),
        (cudnn.BatchNormalization(3), X[:, :, 0, 0], None),
        (cudnn.Tanh(True), X, X.tanh()),
        (cudnn.Sigmoid(True), X, X.sigmoid()),
    ],
    ids=lambda value: str(value) if isinstance(value, nn.Module) else "",
)
def test_functions(module: nn.Module, input: torch.Tensor, want: torch.Tensor | None) -> None:
    module.evaluate()
    before = input.clone()
    output = module.forward(input)
    if want is not None:
        same(output, want)
    same(input, before)
    same(to_native(module, input)(input).detach(), output)
    leaf = input.clone().requires_grad_()
    gradOutput = torch.randn_like(output)
    if want is not None:
        module.compute(leaf).backward(gradOutput)
        same(module.backward(input, gradOutput), leaf.grad)
    saved = t7compat.dumps(module)
    assert t7compat.dumps(t7compat.loads(saved)) == saved
    assert str(module) == module.__typename__


@pytest.mark.parametrize("name", ["SoftMax", "LogSoftMax"])
def test_softmax_of_vectors_is_that_of_pytorch(name: str) -> None:
    """Only after a run on vectors, which iSize tells, is it certain that PyTorch's own layer is equal."""
    module = getattr(cudnn, name)()
    assert module.native() is None
    for size, is_native in (((2, 3, 1, 1), True), ((2, 3, 4, 4), False)):
        module.iSize = LongStorage(size)
        assert (module.native() is not None) == is_native


def test_batch_of_one_has_its_own_statistics() -> None:
    module, other = cudnn.SpatialBatchNormalization(3), nn.SpatialBatchNormalization(3)
    output = module.forward(X[:1])
    mean = (output / module.weight.view(1, 3, 1, 1)).mean((0, 2, 3))
    same(mean, torch.zeros(3, dtype=torch.float64))
    assert module.running_mean.abs().sum() > 0
    other.forward(X[:1])
    assert other.running_mean.abs().sum() == 0


# ---- losses


def nll(weights: torch.Tensor | None = None) -> Any:
    """The loss inside: since December 2016 that over pixels, before that the one over rows."""
    return [
        kind(weights)
        for kind in (registry.lookup("nn.SpatialClassNLLCriterion"), nn.ClassNLLCriterion)
        if kind
    ]


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)])
@pytest.mark.parametrize("sizeAverage", [True, False])
@pytest.mark.parametrize("volumes", [False, True])
def test_cross_entropy(weights: torch.Tensor | None, sizeAverage: bool, volumes: bool) -> None:
    target = torch.randint(1, 4, (2, 2, 4)).double()
    leaf = X.clone().requires_grad_()
    reduction = "mean" if sizeAverage else "sum"
    want = torch.nn.functional.cross_entropy(leaf, target.long() - 1, weights, reduction=reduction)
    want.backward()
    for inner in nll(weights):
        fields = {"slsm": cudnn.SpatialLogSoftMax(), "nll": inner, "sizeAverage": sizeAverage}
        criterion = loaded("cudnn.SpatialCrossEntropyCriterion", **fields)
        input, wanted, gradient = X, target, leaf.grad
        if volumes:
            criterion = loaded("cudnn.VolumetricCrossEntropyCriterion", scec=criterion)
            input, wanted, gradient = X[:, :, None], target[:, None], leaf.grad[:, :, None]
        assert criterion.forward(input, wanted) == pytest.approx(want.item())
        same(criterion.backward(input, wanted), gradient)
        with pytest.raises(InputError, match="expected"):
            criterion.forward(input, wanted + 3)
        with pytest.raises(InputError, match="expected"):
            criterion.forward(input, wanted[:1])


# ---- conversion


def network() -> nn.Sequential:
    inner = nn.ConcatTable().add(nn.ReLU(True)).add(nn.Tanh())
    layers = [
        nn.SpatialConvolution(2, 4, 3, 3),
        nn.SpatialBatchNormalization(4),
        inner,
        nn.JoinTable(2),
        nn.SpatialMaxPooling(2, 2),
        nn.View(-1),
        nn.LogSoftMax(),
    ]
    whole = nn.Sequential()
    for layer in layers:
        whole.add(layer)
    return whole


def test_there_and_back() -> None:
    whole = network()
    input = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    gradOutput = torch.randn(3, 32, dtype=torch.float64)
    whole.evaluate()
    before, saved = whole.clone(), t7compat.dumps(whole)
    assert cudnn.convert(whole, cudnn) is whole
    names = [module.__typename__ for module in whole.listModules()]
    assert names == [
        "nn.Sequential",
        "cudnn.SpatialConvolution",
        "cudnn.SpatialBatchNormalization",
        "nn.ConcatTable",
        "cudnn.ReLU",
        "cudnn.Tanh",
        "nn.JoinTable",
        "cudnn.SpatialMaxPooling",
        "nn.View",
        "cudnn.LogSoftMax",
    ]
    again = t7compat.loads(t7compat.dumps(whole))
    same(again.forward(input), before.forward(input))
    same(again.backward(input, gradOutput), before.backward(input, gradOutput))
    assert t7compat.dumps(cudnn.convert(whole, nn)) == saved


def test_exclusion() -> None:
    whole = cudnn.convert(network(), cudnn, lambda module: isinstance(module, nn.SpatialConvolution))
    assert whole.findModules("nn.SpatialConvolution")[0]
    assert whole.findModules("cudnn.ReLU")[0]


def test_groups_have_no_form_in_nn() -> None:
    module = cudnn.SpatialConvolution(2, 2, 1, 1, 1, 1, 0, 0, 2)
    assert cudnn.convert(module, nn).__typename__ == "cudnn.SpatialConvolution"


def test_fields_that_nn_needs() -> None:
    module = cudnn.convert(nn.Sequential().add(cudnn.ReLU()), nn).get(1)
    assert {"threshold": 0, "val": 0}.items() <= vars(module).items()


def test_conversion_of_a_graph() -> None:
    data = next(case for case in cases("nngraph") if case.stem == "gModule").load()
    names = [module.__typename__ for module in data.module.listModules()]
    cudnn.convert(data.module, cudnn)
    converted = [module.__typename__ for module in data.module.listModules()]
    assert [name.replace("cudnn.", "nn.") for name in converted] == names
    same(data.module.forward(data.input), data.output)


def test_conversion_after_a_forward() -> None:
    """The gradient is that of the new modules, not of what the old ones have recorded."""
    module = nn.Sequential().add(nn.SoftMax())
    module.forward(X)
    same(cudnn.convert(module, cudnn).backward(X, X), cudnn.SoftMax()(X, X)[1])


def test_conversion_to_something_else() -> None:
    with pytest.raises(InputError, match="expected nn or cudnn"):
        cudnn.convert(network(), torch)


def test_settings() -> None:
    assert (cudnn.benchmark, cudnn.fastest, cudnn.verbose) == (False, False, False)


def test_written_source(tmp_path: Path) -> None:
    """A checkpoint of a GPU program becomes PyTorch, and gives the same numbers there."""
    whole = cudnn.convert(network(), cudnn)
    whole.insert(cudnn.SpatialConvolution(2, 2, 3, 3, 1, 1, 1, 1, 2), 1)
    whole.float().forward(torch.randn(1, 2, 6, 6))
    t7compat.save(tmp_path / "net.t7", {"model": whole})
    report = converters.convert(tmp_path / "net.t7", tmp_path, input_shape="1x2x6x6")
    assert report.status == 0, report
    text = (tmp_path / "net.py").read_text()
    assert "nn.Conv2d(2, 2, 3, padding=1, groups=2)" in text
