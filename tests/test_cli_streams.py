"""The command t7convert where its streams are closed or full, and where a signal ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import mlp, started

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell and signals")
COMMAND = f"{sys.executable} -m converters"


def shell(text: str) -> subprocess.CompletedProcess[str]:
    """A line of the shell; `t7convert` is the command."""
    return subprocess.run(text.replace("t7convert", COMMAND), shell=True, capture_output=True, text=True)


@pytest.mark.parametrize("closed", ["--no-verify >&-", "--no-verify 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["", "batch"])
def test_closed_streams(command: str, closed: str, save: Callable[..., Path], tmp_path: Path) -> None:
    done = shell(f"t7convert {command} {save(mlp())} -o {tmp_path / 'out'} {closed}")
    assert done.returncode == 0, done.stderr
    assert "rror" not in done.stdout + done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["model.py", "model.safetensors"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(save: Callable[..., Path], tmp_path: Path) -> None:
    """The files are there, so this is not the status of "nothing was written"."""
    for options in ("--no-verify", "--no-verify --json"):
        done = shell(f"t7convert {save(mlp())} -o {tmp_path} --force {options} >/dev/full")
        assert done.returncode == 74
        assert done.stderr == "t7convert: stdout: No space left on device; what was written to files stays\n"
    assert (tmp_path / "model.py").exists()
    assert shell(f"t7convert {tmp_path / 'none.t7'} 2>/dev/full").returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("command", [[], ["batch"]], ids=str)
def test_signals(
    command: list[str], number: signal.Signals, save: Callable[..., Path], tmp_path: Path
) -> None:
    """Nothing that was begun is left."""
    out = tmp_path / "new" / "out"
    with started(*command, save(mlp()), "-o", out) as process:
        while process.poll() is None and not list(out.glob(".t7convert-*")):
            time.sleep(0.01)
        process.send_signal(number)
        output, errors = process.communicate()
    assert (process.returncode, output, errors) == (128 + number, "", "")
    assert os.listdir(tmp_path) == ["model.t7"]
