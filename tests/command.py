"""The command t7convert inside the process of the tests."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from converters.cli import main
from t7compat import nn


def t7convert(*arguments: Any) -> Result:
    """The command, in this process."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def mlp() -> nn.Sequential:
    return nn.Sequential().add(nn.Linear(3, 4)).add(nn.Tanh()).add(nn.Linear(4, 2))
