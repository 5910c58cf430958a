"""Scripts that torchrun starts."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import t7compat
from t7compat import nn

ROOT = Path(__file__).parents[1]


def run(*command: str, cwd: Path) -> list[str]:
    """The lines that a Python command prints."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = (sys.executable, *command)
    found = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


def torchrun(count: int) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]


def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A script that torchrun starts twice prints the losses that it prints alone."""
    example = str(ROOT / "examples" / "distributed.py")
    joined = run(*torchrun(2), example, cwd=tmp_path)
    monkeypatch.chdir(tmp_path)
    try:
        runpy.run_path(example)
    finally:
        dist.destroy_process_group()
    alone = capsys.readouterr().out.splitlines()
    assert (alone[0], joined[0]) == ("training with 1 process", "training with 2 processes")
    assert alone[1:] == joined[1:]
    assert len(alone) == 6
    assert type(t7compat.load(tmp_path / "distributed.t7")) is nn.Sequential


ON_GPUS = """
import torch
from t7compat import distributed, nn

rank, size = distributed.start()
model = distributed.wrap(nn.Sequential().add(nn.Linear(3, 2)).cuda())
x, gradient = torch.ones(4, 3).cuda() * (rank + 1), torch.ones(4, 2).cuda()
model.zeroGradParameters()
model.forward(x)
model.backward(x, gradient)
assert model.get(1).gradWeight.is_cuda
assert torch.all(model.get(1).gradWeight == 4 * (size + 1) / 2)
assert distributed.average(rank) == (size - 1) / 2
"""


@pytest.mark.cuda
def test_nccl(tmp_path: Path) -> None:
    """On GPUs the gradients go through NCCL: with as many processes as there are GPUs, at most two."""
    if not dist.is_nccl_available():
        pytest.skip("needs a PyTorch with NCCL")
    (tmp_path / "train.py").write_text(ON_GPUS)
    run(*torchrun(min(2, torch.cuda.device_count())), "train.py", cwd=tmp_path)
