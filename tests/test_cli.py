"""The command t7convert, from the file to its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from command import mlp, t7convert
from deviations import UNCONVERTIBLE
from golden import GOLDEN, unknown_classes
from safetensors.torch import load_file

import t7compat
from converters import to_native
from converters.cli import main
from t7compat import Table, nn
from t7compat.t7file.wire import BinarySink
from t7compat.t7file.writer import Writer
from t7compat.tensortypes import parse, tag

pytestmark = pytest.mark.usefixtures("kept_interpreter")

SONGS = sorted((GOLDEN / "traces").glob("songs_*.t7"))
MODELS = sorted((GOLDEN / "models").glob("*.full.t7"))


# ---- what Torch7 saved


def verified(report: dict[str, Any], folder: Path) -> None:
    assert report["networks"]
    for network in report["networks"]:
        found = network["verification"]
        assert found["outcome"] == "verified"
        assert found["largest"] <= (1e-9 if "Double" in found["output"] else 1e-5)
        assert network["problems"] == []
        assert not network["replay"]["deviating"] or network["replay"]["updated"]
        for name in network["files"]:
            assert (folder / name).exists()


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The real command, with a fresh interpreter for the proof."""
    command = [sys.executable, "-m", "converters", str(SONGS[0]), "-o", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verified(json.loads(done.stdout), tmp_path)


@pytest.mark.parametrize("path", SONGS + MODELS, ids=lambda path: path.stem)
def test_networks_of_torch7(path: Path, tmp_path: Path) -> None:
    result = t7convert(path, "-o", tmp_path, "--json")
    report = json.loads(result.stdout)
    refused = {problem["typename"] for network in report["networks"] for problem in network["problems"]}
    reasons = dict.fromkeys(unknown_classes(t7compat.load(path)), "an unknown class") | UNCONVERTIBLE
    if refused:
        assert result.exit_code == 1
        assert refused <= reasons.keys()
        pytest.skip(", ".join(f"{name}: {reasons[name]}" for name in sorted(refused)))
    assert result.exit_code == 0
    verified(report, tmp_path)


@pytest.mark.parametrize("path", SONGS, ids=lambda path: path.stem)
def test_song_network_predicts_what_torch7_predicted(path: Path, tmp_path: Path) -> None:
    """The trained network of a trace, saved by us, converted, and used without t7compat."""
    trace = t7compat.load(path)[1]
    if not isinstance(trace.data.input, torch.Tensor) or trace.predictions_evaluate is None:
        pytest.skip("one prediction for all data is wanted")
    for parameter, final in zip(trace.model.parameters()[0], trace.params_final, strict=True):
        parameter.copy_(final)
    t7compat.save(tmp_path / "songs.t7", Table(model=trace.model))
    assert t7convert(tmp_path / "songs.t7").exit_code == 0
    torch.save(trace.data.input, tmp_path / "input")
    program = (
        "import sys, torch; sys.modules['t7compat'] = sys.modules['converters'] = None; "
        "import songs; torch.save(songs.load()(torch.load('input'))[0].detach(), 'output')"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    torch.testing.assert_close(torch.load(tmp_path / "output"), trace.predictions_evaluate, rtol=0, atol=1e-9)


# ---- what is written


def test_checkpoint_with_nested_networks(save: Callable[..., Path], tmp_path: Path) -> None:
    rnn = nn.Sequential().add(nn.Linear(3, 4)).add(nn.LogSoftMax())
    protos = Table(rnn=rnn, embed=nn.LookupTable(9, 3), criterion=nn.ClassNLLCriterion())
    path = save(Table(protos=protos, best=rnn, opt=Table(rnn_size=4), losses=Table(2.5, 2.0)), "lm-1.5.t7")
    result = t7convert(path, "-o", tmp_path / "a" / "b")
    assert result.exit_code == 0
    assert sorted(os.listdir(tmp_path / "a" / "b")) == [
        "lm_1_5.json",
        "lm_1_5_protos_embed.py",
        "lm_1_5_protos_embed.safetensors",
        "lm_1_5_protos_rnn.py",
        "lm_1_5_protos_rnn.safetensors",
    ]
    content = json.loads((tmp_path / "a" / "b" / "lm_1_5.json").read_text("utf-8"))
    assert content["protos"]["rnn"] == {"$network": "lm_1_5_protos_rnn.py"}
    assert content["best"] == {"$network": "lm_1_5_protos_rnn.py"}
    assert content["protos"]["criterion"]["$class"] == "nn.ClassNLLCriterion"
    assert content["opt"] == {"rnn_size": 4}
    assert content["losses"] == [2.5, 2]
    assert "nn.Linear(3 -> 4)" in result.stdout
    assert result.stdout.count("verified against the Torch network") == 2
    assert result.stderr == ""


def test_network_alone_needs_no_json(save: Callable[..., Path], tmp_path: Path) -> None:
    network = mlp()
    assert t7convert(save(network)).exit_code == 0
    assert sorted(os.listdir(tmp_path)) == ["model.py", "model.safetensors", "model.t7"]
    weights = load_file(tmp_path / "model.safetensors")
    assert torch.equal(weights["2.weight"], network.get(3).weight)
    text = (tmp_path / "model.py").read_text("utf-8")
    assert "Verified against the Torch network on random input 2x3" in text


def test_several_values_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "model.t7"
    with open(path, "wb") as file:
        writer = Writer(BinarySink(file.write))
        for value in (mlp(), Table(epoch=3)):
            writer.writeObject(value)
    assert t7convert(path).exit_code == 0
    content = json.loads((tmp_path / "model.json").read_text("utf-8"))
    assert content == {"$content": [{"$network": "model.py"}, {"epoch": 3}]}


def test_json_on_stdout(save: Callable[..., Path], tmp_path: Path) -> None:
    result = t7convert(save(Table(net=mlp())), "--json")
    report = json.loads(result.stdout)
    assert report["status"] == result.exit_code == 0
    (network,) = report["networks"]
    assert network["path"] == "net"
    assert network["parameters"] == 26
    assert network["files"] == ["model.py", "model.safetensors"]
    assert report["files"] == ["model.json"]


def test_quiet(save: Callable[..., Path]) -> None:
    result = t7convert("--quiet", save(mlp()))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_weights_that_are_views_of_one_tensor(save: Callable[..., Path]) -> None:
    network = mlp()
    network.getParameters()
    assert t7convert(save(network)).exit_code == 0


@pytest.mark.parametrize("options", [{"format": "ascii"}, {"long_size": 4}], ids=str)
def test_other_formats(save: Callable[..., Path], options: dict[str, Any]) -> None:
    assert t7convert(save(mlp(), **options)).exit_code == 0


def test_cuda_types(save: Callable[..., Path]) -> None:
    """A file from a machine with a GPU."""
    network = mlp().float()
    for tensor in network.parameters()[0]:
        tag(tensor, parse("torch.CudaTensor"))
    path = save(network)
    assert b"torch.CudaTensor" in path.read_bytes()
    assert t7convert(path).exit_code == 0


# ---- help, inspect, defaults


def test_help() -> None:
    result = t7convert("--help")
    assert result.exit_code == 0
    for word in ("--input-shape", "--version", "inspect", "Exit status", "t7convert model.t7"):
        assert word in result.stdout
    assert "Examples" in t7convert("inspect", "--help").stdout
    assert "0." in t7convert("--version").stdout


def test_inspect(save: Callable[..., Path]) -> None:
    shared = torch.randn(2, 3)
    checkpoint = Table(
        net=mlp(), a=shared, b=shared.view(6), opt=Table(x=1, name="a\x1b[31m"), ids=Table(*range(50))
    )
    checkpoint["again"] = checkpoint.opt
    result = t7convert("inspect", save(checkpoint))
    assert result.exit_code == 0
    lines = result.stdout.split("\n")
    for line in (
        "  net: nn.Sequential (26 parameters)",
        "      [1]: nn.Linear(3 -> 4)",
        "        weight: DoubleTensor 4x3",
        "  a: FloatTensor 2x3 &1",
        "  b: FloatTensor 6 &1",
        "    x: 1",
        '    name: "a\\x1b[31m"',
        "    ... 30 more",
        "  again: table of 2 &2 (above)",
    ):
        assert line in lines
    assert "26 parameters; " in lines[-2]


def test_inspect_to_a_depth(save: Callable[..., Path]) -> None:
    lines = t7convert("inspect", save(Table(a=Table(b=Table(c=1)))), "--depth", "1").stdout.split("\n")
    assert lines[:2] == ["table of 1", "  a: table of 1"]


def test_inspect_as_json(save: Callable[..., Path]) -> None:
    content = json.loads(t7convert("inspect", save(Table(net=mlp())), "--json").stdout)
    assert content["totals"]["parameters"] == 26
    (row,) = [row for row in content["rows"] if row["path"] == "net.modules[1].weight"]
    assert row["size"] == [4, 3]
    assert row["bytes"] == 96
    assert row["type"] == "torch.DoubleTensor"


def test_inspect_to_a_page_as_json(save: Callable[..., Path], tmp_path: Path) -> None:
    path, page = save(Table(x=1)), tmp_path / "page.html"
    content = json.loads(t7convert("inspect", path, "--html", page, "--json").stdout)
    assert content == {"file": str(path), "page": str(page)}


def test_inspect_deep_and_cyclic_tables(save: Callable[..., Path]) -> None:
    deep = value = Table()
    for _ in range(3000):
        value["x"] = Table()
        value = value.x
    value["x"] = deep
    assert t7convert("inspect", save(deep)).stdout.count("\n") == 102


@t7compat.register("test.Doubled")
class Doubled(nn.Module):
    """A class that uses a function."""

    def compute(self, input: torch.Tensor) -> torch.Tensor:
        return scaled(input)


def scaled(x: torch.Tensor) -> torch.Tensor:
    """The function."""
    return x * 2


def test_class_with_a_function(save: Callable[..., Path], tmp_path: Path) -> None:
    assert t7convert(save(nn.Sequential().add(nn.Linear(3, 2)).add(Doubled()))).exit_code == 0
    assert "def scaled(x):" in (tmp_path / "model.py").read_text("utf-8")


def test_weights_that_two_networks_share(save: Callable[..., Path]) -> None:
    encoder = mlp()
    result = t7convert(save(Table(enc=encoder, dec=encoder.clone("weight", "bias"))))
    assert result.exit_code == 0
    assert "dec: has weights in common with model_enc" in result.stderr


def test_files_of_others_stay(save: Callable[..., Path], tmp_path: Path) -> None:
    """Where a network is all that a file holds, there is no NAME.json."""
    (tmp_path / "model.json").write_text("mine")
    assert t7convert(save(mlp()), "--force").exit_code == 0
    assert (tmp_path / "model.json").read_text() == "mine"


def test_network_from_a_pipe(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "converters", "/dev/stdin", "-o", str(tmp_path)]
    done = subprocess.run(command, input=t7compat.dumps(mlp()), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "stdin.py").exists()


def test_output_that_nobody_reads(save: Callable[..., Path]) -> None:
    command = [sys.executable, "-m", "converters", "inspect", str(save(mlp()))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_file_with_the_name_of_a_command(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(mlp(), "inspect")
    monkeypatch.chdir(path.parent)
    assert t7convert("./inspect").exit_code == 0
    assert Path("_inspect.py").exists()  # inspect is a module of Python


def test_colours_only_on_a_terminal(save: Callable[..., Path]) -> None:
    assert "\x1b" not in t7convert(save(mlp())).output


def test_unexpected_errors_are_one_line(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(mlp())
    monkeypatch.setattr("converters.conversion.convert", lambda *arguments, **options: 1 / 0)
    result = t7convert(path)
    assert result.exit_code == 2
    assert "ZeroDivisionError" in result.stderr
    assert "--debug" in result.stderr
    debugged = CliRunner().invoke(main, [str(path), "--debug"])
    assert isinstance(debugged.exception, ZeroDivisionError)


def test_python_api(save: Callable[..., Path], tmp_path: Path) -> None:
    from converters import convert

    said: list[str] = []
    report = convert(save(mlp()), tmp_path / "out", progress=said.append)
    assert report.status == 0
    assert report.networks[0].verification.largest == 0
    assert said[0] == "reading model.t7"
    assert "writing model.safetensors" in said
    x = torch.randn(2, 3, dtype=torch.float64)
    module = mlp()
    torch.testing.assert_close(to_native(module)(x), module.forward(x))
