"""The command t7convert inside the process of the tests, and a check of what it writes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner, Result

from converters.cli import main
from t7compat import TorchObject, nn


def t7convert(*arguments: Any) -> Result:
    """The command, in this process."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def started(*arguments: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, which heeds all signals: a background job ignores some."""
    command = [sys.executable, "-m", "converters", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_signals
    )


def _heed_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def assert_formatted(folder: Path) -> None:
    """Raise AssertionError if ruff would format the source text in a folder otherwise."""
    options = ["--isolated", "--line-length=110", "--diff"]
    command = [sys.executable, "-m", "ruff", "format", *options, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def odd() -> nn.Sequential:
    """A network with a layer of an unknown class."""
    network = mlp()
    network.modules[2] = TorchObject("my.Layer", 1, output=torch.zeros(0), gradInput=torch.zeros(0))
    return network


def mlp() -> nn.Sequential:
    return nn.Sequential().add(nn.Linear(3, 4)).add(nn.Tanh()).add(nn.Linear(4, 2))
