"""What t7convert does where something is wrong: its messages and exit status."""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import test_cli
import torch
from click.testing import Result
from command import mlp, t7convert
from safetensors.torch import load_file

import t7compat
from converters import interpreter
from converters.native import Layer, Plan, layer_of
from t7compat import Table, TorchObject, nn

pytestmark = pytest.mark.usefixtures("kept_interpreter")


def refused(result: Result, folder: Path, *words: str) -> None:
    """Check that nothing was done, and that one line says why."""
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("t7convert: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr
    assert not folder.exists() or list(folder.iterdir()) == []


# ---- what could not be converted: status 1


def test_unknown_class(save: Callable[..., Path], tmp_path: Path) -> None:
    layer = TorchObject(
        "my.Scale", 1, factor=3, weight=torch.randn(5), output=torch.zeros(0), gradInput=torch.zeros(0)
    )
    network = mlp()
    network.modules[2] = layer
    result = t7convert(save(Table(net=network, vocabulary=TorchObject("my.Dict", 1, words=Table("a", "b")))))
    assert result.exit_code == 1
    assert "not converted: vocabulary: my.Dict: no class of this name is known" in result.stderr
    assert "net: not converted: modules[2]: my.Scale: no class of this name is known" in result.stderr
    content = json.loads((tmp_path / "model.json").read_text("utf-8"))
    assert content["vocabulary"] == {"$class": "my.Dict", "fields": {"words": ["a", "b"]}}
    assert content["$missing"]["net.modules[2]"]["fields"]["factor"] == 3
    assert set(load_file(tmp_path / "model.safetensors")) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert "Missing(layer=" in (tmp_path / "model.py").read_text("utf-8")


def test_unknown_class_at_the_top(save: Callable[..., Path], tmp_path: Path) -> None:
    network = TorchObject("my.Net", 1, modules=Table(nn.Linear(2, 3), nn.Tanh()))
    result = t7convert(save(network))
    assert result.exit_code == 1
    assert "not converted: my.Net" in result.stderr
    assert "nn.Linear(2, 3)" in (tmp_path / "model.py").read_text("utf-8")


def test_input_that_cannot_be_found(save: Callable[..., Path]) -> None:
    strange = save(nn.Sequential().add(nn.SelectTable(2)).add(nn.Linear(3, 2)), "strange.t7")
    result = t7convert(strange)
    assert result.exit_code == 1
    assert "--input-shape" in result.stderr
    result = t7convert(strange, "--input-shape", "2x5,2x3", "--force")
    assert result.exit_code == 0
    assert "{2x5, 2x3}" in result.stdout


def test_input_that_does_not_fit(save: Callable[..., Path]) -> None:
    result = t7convert(save(mlp()), "--input-shape", "2x5")
    assert result.exit_code == 1
    assert "it does not take an input of 2x5" in result.stderr


def test_network_inside_of_itself(save: Callable[..., Path], tmp_path: Path) -> None:
    network = mlp()
    network.modules[2] = network
    result = t7convert(save(Table(strange=network, fine=mlp())))
    assert result.exit_code == 1
    assert "one inside the other" in result.stderr
    assert (tmp_path / "model_fine.py").exists()


def test_proof_that_would_prove_nothing(save: Callable[..., Path]) -> None:
    network = mlp()
    network.get(3).weight.fill_(math.nan)
    result = t7convert(save(network))
    assert result.exit_code == 1
    assert "not verified: its output has no finite number" in result.stderr


def test_input_that_is_too_large(save: Callable[..., Path], tmp_path: Path) -> None:
    result = t7convert(save(mlp()), "--input-shape", "999999999999x3")
    assert result.exit_code == 1
    assert "it does not take an input of" in result.stderr
    assert (tmp_path / "model.py").exists()


def test_file_that_is_broken_later_on(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save(mlp())
    path.write_bytes(path.read_bytes() + b"no value of Torch")
    result = t7convert(path)
    assert result.exit_code == 1
    assert "only the beginning of the file was read, 1 of its values" in result.stderr
    assert (tmp_path / "model.py").exists()


@t7compat.register("test.Halved")
class Halved(nn.Module):
    """A class that uses a function."""

    def compute(self, input: torch.Tensor) -> torch.Tensor:
        return scaled(input)


def scaled(x: torch.Tensor) -> torch.Tensor:
    """The function."""
    return x / 2


def test_two_functions_of_one_name(save: Callable[..., Path]) -> None:
    network = nn.Sequential().add(nn.Linear(3, 2)).add(Halved()).add(test_cli.Doubled())
    result = t7convert(save(network))
    assert result.exit_code == 1
    assert "modules[3]: test.Doubled: another layer means another thing by scaled" in result.stderr


# ---- a difference: status 3


@t7compat.register("test.Wrong")
class Wrong(nn.Module):
    """A class with a wrong rule."""

    def compute(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * input


@layer_of.register
def _wrong(module: Wrong, plan: Plan, path: str) -> Layer:
    return Layer(functools.partial(torch.nn.Identity), module, path)


def test_difference_that_is_too_large(save: Callable[..., Path], tmp_path: Path) -> None:
    result = t7convert(save(nn.Sequential().add(nn.Linear(3, 2)).add(Wrong())))
    assert result.exit_code == 3
    assert "DEVIATES" in result.stderr
    assert "DEVIATES" in (tmp_path / "model.py").read_text("utf-8")


def test_replay_that_deviates(save: Callable[..., Path]) -> None:
    network = mlp()
    network.forward(torch.randn(2, 3, dtype=torch.float64))
    network.get(2).output.add_(1)
    result = t7convert(save(network))
    assert result.exit_code == 3
    assert "first modules[2]: 1" in result.stderr


# ---- nothing done: status 2


def test_bad_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(t7convert(tmp_path / "none.t7", "-o", out), out, "none.t7", "No such file")
    refused(t7convert(tmp_path, "-o", out), out, "directory")
    for content, word in (
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(99), "zip"),
        (b"<!DOCTYPE html>", "web page"),
    ):
        (tmp_path / "x.t7").write_bytes(content)
        refused(t7convert(tmp_path / "x.t7", "-o", out), out, "x.t7", word)
        refused(t7convert("inspect", tmp_path / "x.t7"), out, "x.t7", word)
    (tmp_path / "x.t7").write_bytes(t7compat.dumps(mlp())[:-20])
    refused(t7convert(tmp_path / "x.t7", "-o", out), out, "x.t7", "byte")


@pytest.mark.parametrize(
    "arguments",
    [
        ["bad.t7"],
        ["inspect", "bad.t7"],
        ["inspect", "model.t7", "--html", "none/page.html"],
        ["diff", "model.t7", "bad.t7"],
        ["verify", "bad.t7", "bad.py"],
        ["batch", "empty"],
        ["batch", "model.t7", "model.t7b"],
        ["--list-supported", "--no-such-option"],
    ],
    ids=" ".join,
)
def test_errors_as_json(
    arguments: list[str], save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the same on stderr as without --json."""
    monkeypatch.chdir(save(mlp()).parent)
    save(mlp(), "model.t7b")
    Path("empty").mkdir()
    Path("bad.t7").touch()
    without, result = t7convert(*arguments), t7convert(*arguments, "--json")
    error = result.stderr.removeprefix("t7convert: ").removesuffix("\n")
    assert (result.exit_code, result.stderr) == (without.exit_code, without.stderr)
    assert (result.exit_code, without.stdout) == (2, "")
    assert json.loads(result.stdout) == {"status": 2, "error": error}
    assert ".t7convert-" not in error


def test_file_without_a_network(save: Callable[..., Path], tmp_path: Path) -> None:
    refused(t7convert(save(Table(x=1)), "-o", tmp_path / "out"), tmp_path / "out", "no network", "inspect")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "FILE"),
        (["model.t7", "--no-such-option"], "--no-such-option"),
        (["model.t7", "other.t7"], "other.t7"),
        (["model.t7", "--input-shape", "3by4"], "3by4"),
        (["model.t7", "--input-shape", "0x3"], "0x3"),
        (["model.t7", "--input-shape", "99999999999999999999x3"], "99999999999999999999x3"),
        (["inspect"], "FILE"),
        (["inspect", "model.t7", "--depth", "x"], "depth"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_bad_usage(
    arguments: list[str], word: str, save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(save(mlp()).parent)
    refused(t7convert(*arguments), Path("out"), word)


def test_existing_output(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save(Table(net=mlp()))
    (tmp_path / "model.json").write_text("mine")
    result = t7convert(path)
    assert result.exit_code == 2
    assert "model.json" in result.stderr
    assert "--force" in result.stderr
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.t7"]
    assert (tmp_path / "model.json").read_text() == "mine"
    assert t7convert(path, "--force").exit_code == 0
    assert "model.py" in (tmp_path / "model.json").read_text()


def test_output_that_cannot_be_written(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save(mlp())
    result = t7convert(path, "-o", path / "below_a_file")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["model.t7"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_folder_without_permission(save: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    refused(t7convert(save(mlp()), "-o", tmp_path / "out" / "new"), tmp_path / "out", "denied")


def test_nothing_is_left_after_an_error_in_between(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(mlp())
    monkeypatch.setattr(interpreter, "_kept", [])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no_such_python"))
    result = t7convert(path, "-o", tmp_path / "new" / "out")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["model.t7"]


def test_output_in_the_place_of_a_folder(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save(mlp())
    (tmp_path / "model.safetensors").mkdir()
    result = t7convert(path, "--force")
    assert result.exit_code == 2
    assert "model.safetensors is a folder" in result.stderr
    assert sorted(os.listdir(tmp_path)) == ["model.safetensors", "model.t7"]


def test_output_in_the_place_of_the_input(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save(Table(net=mlp()), "model.json")
    before = path.read_bytes()
    result = t7convert(path, "--force")
    assert result.exit_code == 2
    assert "is the file to convert" in result.stderr
    assert os.listdir(tmp_path) == ["model.json"]
    assert path.read_bytes() == before
