"""The targets of `t7convert --to`."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import mlp, t7convert
from golden import GOLDEN
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_model

import t7compat
from converters.formats import FORMATS
from t7compat import Table, nn
from t7compat.t7file.objects import LongStorage
from t7compat.tensortypes import parse, tag

pytestmark = pytest.mark.usefixtures("kept_interpreter", "kept_registry")

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not ONNX, reason="needs the extra t7compat[onnx]")
# One of each kind: old layers, images, graphs, several inputs, recurrent cells and sequences
SAMPLE = (
    "attention_graph", "charrnn_lstm", "crnn", "lenet", "rnnlm_seqlstm", "siamese", "torchrnn_lstm_bn",
)  # fmt: skip


@needs_onnx
@pytest.mark.parametrize("name", SAMPLE)
def test_recorded_networks_of_torch7(name: str, tmp_path: Path) -> None:
    result = t7convert(GOLDEN / "models" / f"{name}.full.t7", "-o", tmp_path, "--to", "onnx,pt2", "--json")
    (network,) = json.loads(result.stdout)["networks"]
    assert result.exit_code == 0, result.stderr
    for target in ("onnx", "pt2"):
        assert network["exports"][target]["outcome"] == "verified"
        assert network["exports"][target]["largest"] <= 1e-5


@needs_onnx
def test_onnx_takes_batches_of_any_size(save: Callable[..., Path], tmp_path: Path) -> None:
    import onnxruntime

    network = mlp()
    assert t7convert(save(network), "--to", "onnx").exit_code == 0
    assert sorted(os.listdir(tmp_path)) == ["model.onnx", "model.t7"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = torch.randn(7, 3, dtype=torch.float64)
    (output,) = session.run(["output"], {"input": x.float().numpy()})
    torch.testing.assert_close(torch.from_numpy(output), network.forward(x).float())


@needs_onnx
def test_what_cannot_be_recorded_is_named(save: Callable[..., Path], tmp_path: Path) -> None:
    """No input is small enough for this network: other targets are written, this one is not."""
    module = nn.Sequential().add(nn.Linear(3, 2)).add(nn.Padding(1, -(2**40)))
    result = t7convert(save(Table(net=module)), "--to", "py,onnx")
    assert result.exit_code == 1
    assert "onnx" in result.stderr
    assert not (tmp_path / "model.onnx").exists()
    assert (tmp_path / "model.py").exists()


def test_missing_packages_are_named(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = t7convert(save(mlp()), "--to", "onnx")
    assert result.exit_code == 2
    assert "t7compat[onnx]" in result.stderr


# ---- weights


def test_weights_in_all_formats(save: Callable[..., Path], tmp_path: Path) -> None:
    network = mlp()
    network.getParameters()  # views of one tensor, together with nothing else
    result = t7convert(save(network), "--to", "state-dict,safetensors,npz,pt2", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("verified against") == 4
    assert sorted(os.listdir(tmp_path / "out")) == [
        f"model.{suffix}" for suffix in ("npz", "pt", "pt2", "safetensors")
    ]
    found = (
        torch.load(tmp_path / "out/model.pt", weights_only=True),
        load_file(tmp_path / "out/model.safetensors"),
        {k: torch.from_numpy(v) for k, v in np.load(tmp_path / "out/model.npz").items()},
    )
    for weights in found:
        assert list(weights) == ["0.weight", "0.bias", "2.weight", "2.bias"]
        assert torch.equal(weights["2.weight"], network.get(3).weight)


def test_state_dict_holds_nothing_but_its_weights(save: Callable[..., Path], tmp_path: Path) -> None:
    """The network is a small part of one flat tensor."""
    both = nn.Sequential().add(nn.Linear(300, 300)).add(mlp())
    both.getParameters()
    assert t7convert(save(both.get(2)), "--to", "state-dict").exit_code == 0
    assert (tmp_path / "model.pt").stat().st_size < 10_000


def tied() -> nn.Sequential:
    """One layer that stands twice, and two with common weights; all of it views of one tensor."""
    layer = nn.Linear(3, 3)
    network = nn.Sequential().add(layer).add(nn.Tanh()).add(layer).add(nn.Linear(3, 3)).add(nn.Linear(3, 3))
    network.get(5).share(network.get(4), "weight", "gradWeight")
    network.float().getParameters()
    return network


SAME = {"2.weight": "0.weight", "2.bias": "0.bias", "4.weight": "3.weight"}


def test_shared_weights_are_stored_once(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert t7convert(save(tied(), "tied.t7"), "--to", "py,state-dict").exit_code == 0
    with safe_open(tmp_path / "tied.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["0.bias", "0.weight", "3.bias", "3.weight", "4.bias"]
        assert file.metadata() == SAME
    monkeypatch.syspath_prepend(tmp_path)
    written = importlib.import_module("tied")
    network, stored = written.load(), torch.load(tmp_path / "tied.pt", weights_only=True)
    for name, first in SAME.items():
        assert network.state_dict()[name].data_ptr() == network.state_dict()[first].data_ptr()
        assert stored[name].data_ptr() == stored[first].data_ptr()
    assert len(list(network.parameters())) == 5

    other, x = written.Tied(), torch.randn(2, 3)
    assert load_model(other, tmp_path / "tied.safetensors") == (set(), [])
    assert torch.equal(other(x), network(x))
    save_model(network, str(tmp_path / "again.safetensors"))
    assert torch.equal(written.load(tmp_path / "again.safetensors")(x), network(x))


def test_overlapping_weights_are_not_the_same(save: Callable[..., Path], tmp_path: Path) -> None:
    network, numbers = nn.Sequential().add(nn.Linear(3, 3)).add(nn.Linear(3, 3)).float(), torch.randn(14)
    for i, start in enumerate((0, 5)):
        network.get(i + 1).weight = numbers[start : start + 9].view(3, 3)
    assert t7convert(save(network), "--to", "safetensors,state-dict").exit_code == 0
    for weights in (load_file(tmp_path / "model.safetensors"), torch.load(tmp_path / "model.pt")):
        assert torch.equal(weights["0.weight"].view(-1), numbers[:9])
        assert torch.equal(weights["1.weight"].view(-1), numbers[5:])


def test_files_of_networks_with_common_weights_are_complete(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = tied()
    path = save(Table(enc=encoder, dec=encoder.clone("weight", "gradWeight")))
    assert t7convert(path, "--to", "safetensors").exit_code == 0
    with safe_open(tmp_path / "model_dec.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["0.bias", "0.weight", "3.bias", "3.weight", "4.bias"]
        others = {f"{n}.weight": f"model_enc.safetensors/{n}.weight" for n in "03"}
        assert file.metadata() == SAME | others


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded(save: Callable[..., Path]) -> None:
    """Of a file of 200 MB at most 80 are in memory at a time, whatever is written.

    It is an interpreter of its own that tells the most memory that it had.
    """
    network = nn.Sequential().add(nn.Linear(1, 1)).add(nn.Linear(1, 1)).add(nn.Linear(1, 1)).float()
    for layer in network.modules:
        layer.weight = torch.zeros(4096, 4096)
    path = save(network)
    assert path.stat().st_size > 200e6
    program = (
        "import re, sys, torch, converters\n"
        "def peak(): return int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = peak()\n"
        "converters.convert(sys.argv[1], to=['py', 'state-dict', 'npz', 't7'], check=False)\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 80_000


def test_without_verification(save: Callable[..., Path], tmp_path: Path) -> None:
    result = t7convert(save(mlp()), "--no-verify")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "not verified: as was asked for" in result.stdout
    assert sorted(os.listdir(tmp_path)) == ["model.py", "model.safetensors", "model.t7"]


# ---- what deviates


@t7compat.register("test.Twofold")
class Twice(nn.Sequential):
    """A class that says it is another one in PyTorch than it is."""

    def compute(self, input: Any, *children: Any) -> Any:
        return 2 * super().compute(input, *children)

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Sequential)


@pytest.mark.parametrize("target", ["npz", "state-dict", "pt2", pytest.param("onnx", marks=needs_onnx)])
def test_difference_that_is_too_large(target: str, save: Callable[..., Path], tmp_path: Path) -> None:
    result = t7convert(save(Twice().add(nn.Linear(3, 2))), "--to", target)
    assert result.exit_code == 3
    assert f"{target}: DEVIATES from the Torch network" in result.stderr
    assert (tmp_path / f"model{FORMATS[target].suffix}").exists()


# ---- .t7 again


@pytest.mark.parametrize("target", ["t7", "t7-ascii"])
def test_saved_again_for_the_cpu(target: str, save: Callable[..., Path], tmp_path: Path) -> None:
    network = nn.Sequential().add(nn.SpatialConvolution(3, 4, 3, 3)).add(nn.ReLU()).float()
    network.forward(torch.randn(2, 3, 8, 8))
    for tensor in [*network.parameters()[0], *network.parameters()[1]]:
        tag(tensor, parse("torch.CudaTensor"))
    network.get(1)._type = "torch.CudaTensor"
    path = save(Table(net=network, opt=Table(epoch=3)))
    result = t7convert(path, "--to", target)
    assert result.exit_code == 0, result.stderr
    assert f"{target}: verified" in result.stdout
    written = tmp_path / f"model{FORMATS[target].suffix}"
    assert b"Cuda" not in written.read_bytes()
    again = t7compat.load(written)
    assert again.opt.epoch == 3
    assert again.net.output.numel() == again.net.get(1).output.numel() == 0
    assert torch.equal(again.net.get(1).weight, network.get(1).weight)


def test_cudnn_becomes_nn(save: Callable[..., Path], tmp_path: Path) -> None:
    from t7compat import registry

    convolution: Any = registry.lookup("cudnn.SpatialConvolution")
    path = save(nn.Sequential().add(convolution(3, 4, 3, 3)))
    assert b"cudnn" in path.read_bytes()
    assert t7convert(path, "--to", "t7").exit_code == 0
    assert type(t7compat.load(tmp_path / "model.clean.t7").get(1)) is nn.SpatialConvolution


# ---- data


def data() -> Table:
    shared = Table(rate=0.5)
    return Table(
        train=Table(x=torch.arange(6.0).view(2, 3), labels=LongStorage([3, 1])),
        opt=shared, again=shared, name="caf\udce9", bad=float("inf"), flags=Table(True, 2),
        grid=torch.tensor([[1.0, float("nan")]]),
    )  # fmt: skip


KEYS = ["train.x", "train.labels", "opt.rate", "name", "bad", "flags[1]", "flags[2]", "grid"]


def test_data_files(save: Callable[..., Path], tmp_path: Path) -> None:
    result = t7convert(save(data(), "data.t7"), "--to", "npz,safetensors,json")
    assert result.exit_code == 1
    assert "again is the same table as opt" in result.stderr
    with np.load(tmp_path / "data.npz") as arrays:
        assert arrays.files == KEYS
        assert arrays["train.x"].shape == (2, 3)
        assert arrays["flags[2]"] == 2
    content = json.loads((tmp_path / "data.json").read_text("utf-8"))
    assert list(content) == KEYS
    assert content["train.x"] == [[0, 1, 2], [3, 4, 5]]
    assert content["train.labels"] == [3, 1]
    assert content["grid"] == [[1, {"$number": "nan"}]]
    assert content["bad"] == {"$number": "inf"}
    assert content["name"] == "caf\udce9"
    with safe_open(tmp_path / "data.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["grid", "train.labels", "train.x"]
        assert json.loads(file.metadata()["opt.rate"]) == 0.5


def test_tensor_alone(save: Callable[..., Path], tmp_path: Path) -> None:
    assert t7convert(save(torch.arange(3.0).expand(2, 3), "x.t7"), "--to", "npz,json").exit_code == 0
    assert np.load(tmp_path / "x.npz")["data"].tolist() == [[0, 1, 2]] * 2
    assert json.loads((tmp_path / "x.json").read_text()) == {"data": [[0, 1, 2]] * 2}


@pytest.mark.parametrize(
    ("value", "target", "word"),
    [
        (Table(x=1), "onnx" if ONNX else "py", "no network"),
        (mlp(), "json", "holds networks"),
        (mlp(), "py,keras", "keras"),
    ],
    ids=["onnx", "json", "keras"],
)
def test_target_that_does_not_fit(
    value: Any, target: str, word: str, save: Callable[..., Path], tmp_path: Path
) -> None:
    result = t7convert(save(value), "--to", target, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert word in result.stderr
    assert not (tmp_path / "out").exists()


def test_files_are_replaced_only_by_force(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save(mlp())
    (tmp_path / "model.npz").write_text("mine")
    assert t7convert(path, "--to", "npz").exit_code == 2
    assert (tmp_path / "model.npz").read_text() == "mine"
    assert t7convert(path, "--to", "npz", "--force").exit_code == 0
    assert sorted(os.listdir(tmp_path)) == ["model.npz", "model.t7"]
