"""Classes of cudnn, inn and fbnn: as those of nn under another name, with what they do otherwise."""

from __future__ import annotations

import io
import pickle
from typing import Any

import pytest
import torch
from golden import GOLDEN, Case, cases, gradients, same

import t7compat
from t7compat import LongStorage, LuaFunction, Table, TorchObject, cudnn, nn, registry
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
    "cudnn.SpatialAveragePooling/pad_exclude": _PADDING,
    "cudnn.SpatialAveragePooling/ceil_pad_exclude": _PADDING,
    "cudnn.SpatialAveragePooling/old_no_divide": "it never sums",
    "inn.SpatialMaxPooling/pad": _UP,
    "inn.SpatialMaxPooling/floor": _UP,
    "inn.SpatialMaxPooling/old_fields": _UP,
    "inn.SpatialAveragePooling/pad_include": _UP,
    "inn.SpatialAveragePooling/pad_exclude": _UP,
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
        and case.content.output is not None
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
    fields |= {"mode": "CUDNN", "nElem": 7, "adjW": 0, "convDescData": Table(padA=Table(1))}
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


@pytest.mark.parametrize("name", ["LSTMCell", "SpatialDivisiveNormalization", "Nothing"])
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
