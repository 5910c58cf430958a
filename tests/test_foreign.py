"""Classes of cudnn, inn and fbnn: as those of nn under another name, with what they do otherwise."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import GOLDEN, Case, cases, gradients, same

import converters
import t7compat
from converters import to_native
from t7compat import InputError, LongStorage, LuaFunction, Table, TorchObject, cudnn, nn, registry
from t7compat.foreign import ALIASES

KNOWN = [name for name, (original, _) in ALIASES.items() if registry.lookup(original)]

_OWN = "a batch of one has its own statistics"
_UP = "sizes are always rounded up"
_PADDING = "padding always counts as zeros"

# Golden cases that say something else of the class with the other name
OTHERWISE = {
    "cudnn.BatchNormalization/evaluate_single": "deviates in nn as well",
    "cudnn.SpatialBatchNormalization/evaluate_3d": "deviates in nn as well",
    "cudnn.SpatialBatchNormalization/batch_of_one_train": _OWN,
    "cudnn.VolumetricBatchNormalization/batch_of_one_train": _OWN,
    "cudnn.SpatialAveragePooling/pad_exclude": _PADDING,
    "cudnn.SpatialAveragePooling/ceil_pad_exclude": _PADDING,
    "cudnn.SpatialAveragePooling/old_no_divide": "it never sums",
    "inn.SpatialMaxPooling/pad": _UP,
    "inn.SpatialMaxPooling/floor": _UP,
    "inn.SpatialMaxPooling/old_fields": _UP,
    "inn.SpatialAveragePooling/stride": _UP,
    "inn.SpatialAveragePooling/old_no_divide": "it never sums",
}
# A kernel of kH frames of kW numbers
NOT_ALIKE = {"cudnn.TemporalConvolution"}


def renamed(module: nn.Module, typename: str) -> Any:
    """A file with the same fields under another class name, loaded."""
    found = TorchObject(typename, registry.lookup(typename).__version__, **vars(module))
    return t7compat.loads(t7compat.dumps(found))


def golden_cases() -> list[Any]:
    return [
        pytest.param(typename, case, id=f"{typename}/{case.name}")
        for typename in KNOWN
        for case in cases("nn")
        if typename not in NOT_ALIKE
        and f"nn.{case.stem}" == ALIASES[typename][0]
        and case.load().output is not None
    ]


@pytest.mark.parametrize(("typename", "case"), golden_cases())
def test_numbers_of_nn(typename: str, case: Case) -> None:
    data = case.load()
    if reason := OTHERWISE.get(f"{typename}/{case.name}"):
        pytest.skip(reason)
    module = renamed(data.module, typename)
    assert module.__typename__ == typename
    assert isinstance(module, registry.lookup(ALIASES[typename][0]))
    if data.train is False:
        module.evaluate()
    module.zeroGradParameters()
    if data.seed is not None:
        t7compat.manualSeed(data.seed)
    same(module.forward(data.input), data.output, "output")
    if data.gradOutput is not None:
        gradInput = module.backward(data.input, data.gradOutput, data.scale or 1)
        if data.gradInput is not None:
            same(gradInput, data.gradInput, "gradInput")
    if data.gradParams is not None:
        same(gradients(module), data.gradParams, "gradients of parameters")


@pytest.mark.parametrize("typename", [name for name in KNOWN if name.startswith("cudnn.")])
def test_fields_are_kept(typename: str) -> None:
    fields = {
        "nInputPlane": 2,
        "nOutputPlane": 2,
        "kW": 1,
        "kH": 1,
        "groups": 1,
        "iSize": LongStorage([2, 3]),
    }
    fields |= {"mode": "CUDNN", "nElem": 7, "convDescData": Table(padA=Table(1))}
    found = TorchObject(typename, registry.lookup(typename).__version__, **fields)
    again = t7compat.loads(t7compat.dumps(found))
    assert isinstance(again, registry.lookup(typename))
    assert t7compat.dumps(again) == t7compat.dumps(found)


def test_network_of_a_file() -> None:
    path = GOLDEN / "serialization" / "cudnn_net.t7"
    network = t7compat.load(path)
    assert t7compat.dumps(network) == path.read_bytes()
    assert [str(module) for module in network.modules] == [
        "cudnn.SpatialConvolution(2 -> 3, 3x3, 1,1, 1,1)",
        "cudnn.SpatialBatchNormalization",
        "cudnn.ReLU",
        "cudnn.SpatialMaxPooling(2x2, 2,2)",
        "cudnn.SoftMax",
    ]
    output = network.float().forward(torch.ones(2, 2, 4, 4))
    assert output.sum().item() == pytest.approx(2)


def test_classes_can_be_pickled() -> None:
    network = nn.Sequential().add(cudnn.ReLU()).add(cudnn.SoftMax())
    again = pickle.loads(pickle.dumps(network))
    assert [type(module) for module in again.modules] == [cudnn.ReLU, cudnn.SoftMax]
    buffer = io.BytesIO()
    torch.save(network, buffer)
    buffer.seek(0)
    assert str(torch.load(buffer, weights_only=False)) == str(network)


@pytest.mark.parametrize("name", ["LSTM", "SpatialDivisiveNormalization", "Nothing"])
def test_classes_that_are_not_there(name: str) -> None:
    with pytest.raises(AttributeError, match=f"cudnn.{name}"):
        getattr(cudnn, name)
    assert isinstance(t7compat.loads(t7compat.dumps(TorchObject(f"cudnn.{name}", 1, x=1))), TorchObject)
    assert name not in dir(cudnn)


def test_classes_are_listed() -> None:
    assert {"ReLU", "SpatialConvolution", "SoftMax", "convert"} <= set(dir(cudnn))


# ---- old files


def loaded(typename: str, version: int = 1, **fields: Any) -> Any:
    return t7compat.loads(t7compat.dumps(TorchObject(typename, version, **fields)))


SIZES = {"nInputPlane": 1, "nOutputPlane": 1, "kW": 3, "kH": 2, "dW": 1, "dH": 1, "padW": 0, "padH": 0}
WEIGHT = torch.arange(6.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"weight": WEIGHT.view(1, 1, 2, 3)},
        {"weight": WEIGHT.view(1, 1, 3, 2)},
        {"weight": WEIGHT.view(1, 6)},
        {"weight": WEIGHT.view(1, 1, 2, 3), "reset": LuaFunction(b"")},
    ],
)
def test_old_convolution(fields: dict[str, Any]) -> None:
    module = loaded("cudnn.SpatialConvolution", **SIZES, **fields, output=torch.zeros(0))
    got = module.forward(torch.arange(6.0).view(1, 2, 3))
    same(got, (WEIGHT * WEIGHT).sum().view(1, 1, 1))
    module.reset()
    assert module.weight.abs().max() <= 6**-0.5


def test_old_batch_normalization() -> None:
    std = torch.tensor([0.5, 0.25])
    fields = {"running_mean": torch.zeros(2), "running_std": std, "eps": 0.0, "momentum": 0.1, "train": False}
    module = loaded("cudnn.SpatialBatchNormalization", 1, **fields, output=torch.zeros(0))
    got = module.forward(torch.ones(1, 2, 1, 1))
    same(got, std.view(1, 2, 1, 1))
    assert t7compat.dumps(module) == t7compat.dumps(
        loaded("cudnn.SpatialBatchNormalization", 2, **vars(module))
    )


def test_old_max_pooling() -> None:
    """Files of 2014 have neither padding nor `ceil_mode`."""
    fields = {"kW": 2, "kH": 2, "dW": 2, "dH": 2}
    input = torch.arange(25.0).view(1, 5, 5)
    for typename, side in (("cudnn.SpatialMaxPooling", 2), ("inn.SpatialMaxPooling", 3)):
        assert loaded(typename, **fields, output=torch.zeros(0)).forward(input).shape == (1, side, side)


# ---- what cudnn does otherwise


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
    assert "nn.Conv2d(2, 2, (3, 3), (1, 1), (1, 1), groups=2)" in text
