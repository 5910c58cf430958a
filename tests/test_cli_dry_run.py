"""t7convert --dry-run: what would be written, with the exit status, and nothing written."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import mlp, odd, t7convert
from golden import GOLDEN
from safetensors.torch import load_file

from t7compat import Table, nn

pytestmark = pytest.mark.usefixtures("kept_interpreter", "kept_registry")

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def files(report: dict[str, Any]) -> list[str]:
    return sorted(name for part in (report, *report["networks"]) for name in part["files"])


def checkpoint() -> Table:
    return Table(rnn=mlp(), embed=nn.LookupTable(9, 3), losses=torch.zeros(100), epoch=3)


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        (mlp, []),
        (mlp, ["--no-verify"]),
        (mlp, ["--to", "npz,state-dict,t7,pt2"]),
        (checkpoint, []),
        (odd, []),
        (odd, ["--to", "py,pt2"]),
        (lambda: nn.Sequential().add(nn.SelectTable(2)), []),
        (lambda: nn.Sequential().add(nn.SelectTable(2)), ["--to", "t7"]),
        (lambda: Table(x=torch.ones(3), f=Table(y=1)), ["--to", "npz,json"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value.__name__,
)
def test_it_says_what_the_conversion_does(
    value: Callable[[], Any], arguments: list[str], save: Callable[..., Path], tmp_path: Path
) -> None:
    path, out = save(value()), tmp_path / "out"
    dry = t7convert(path, "-o", out, *arguments, "--dry-run", "--json")
    assert os.listdir(tmp_path) == ["model.t7"]
    real = t7convert(path, "-o", out, *arguments, "--json")
    expected, found = json.loads(dry.stdout), json.loads(real.stdout)
    assert dry.exit_code == real.exit_code
    assert files(expected) == files(found) == sorted(os.listdir(out))
    assert expected["dry_run"]
    for name, size in expected["contents"].items():
        if name.endswith(".json"):
            assert (out / name).stat().st_size == size
        elif name.endswith(".safetensors"):
            assert sum(tensor.nbytes for tensor in load_file(out / name).values()) == size
    for before, after in zip(expected["networks"], found["networks"], strict=True):
        assert before["problems"] == after["problems"]
        assert before["verification"]["input"] == after["verification"]["input"]


def test_text(save: Callable[..., Path], tmp_path: Path) -> None:
    result = t7convert(save(mlp()), "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "this is a dry run; the input would be 2x3" in result.stdout
    assert f"would write {tmp_path / 'model.py'}\n" in result.stdout
    assert f"would write {tmp_path / 'model.safetensors'} (208 bytes of content)\n" in result.stdout


def test_what_cannot_be_written(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save(mlp())
    (tmp_path / "model.safetensors").write_text("mine")
    result = t7convert(path, "--dry-run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "model.safetensors exists already; --force replaces it" in result.stderr
    assert t7convert(path, "--dry-run", "--force").exit_code == 0
    assert (tmp_path / "model.safetensors").read_text() == "mine"
    result = t7convert(path, "--dry-run", "-o", path / "below_a_file")
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_folder_without_permission(save: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    result = t7convert(save(mlp()), "--dry-run", "-o", tmp_path / "out" / "new")
    assert result.exit_code == 2
    assert "Permission denied" in result.stderr


@pytest.mark.skipif(not ONNX, reason="needs the extra t7compat[onnx]")
def test_format_that_cannot_be_recorded(save: Callable[..., Path], tmp_path: Path) -> None:
    module = nn.Sequential().add(nn.Linear(3, 2)).add(nn.Padding(1, -(2**40)))
    result = t7convert(save(Table(net=module)), "--to", "py,onnx", "--dry-run")
    assert result.exit_code == 1
    assert "to onnx: T7Error: no input to record a run with" in result.stderr
    assert os.listdir(tmp_path) == ["model.t7"]


def test_batch(tmp_path: Path) -> None:
    before = sorted(os.listdir(GOLDEN / "traces"))
    result = t7convert(
        "batch", GOLDEN / "traces", "--pattern", "songs_*.t7", "--dry-run", "-o", tmp_path / "out"
    )
    assert result.exit_code == 0, result.output
    assert "convertible" in result.stdout
    assert not (tmp_path / "out").exists()
    assert sorted(os.listdir(GOLDEN / "traces")) == before
