"""What t7convert says to people and to programs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from converters.naming import printable

if TYPE_CHECKING:
    from converters.report import Report


class OutputError(Exception):
    """stdout takes no text: the disk is full, for example."""


def open_streams() -> None:
    """Let what is read from closed standard streams be nothing, and what is written to them go nowhere.

    cron and daemons start programs with such streams, and a file that is opened would take their place.
    """
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(free, True)
    os.close(free)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def discard_output() -> None:
    """Let what is still to be printed go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str, error: bool = False, nl: bool = True) -> None:
    """Print a text; OutputError if stdout takes none.  What stderr does not take is lost."""
    try:
        click.echo(text, err=error, nl=nl)
    except BrokenPipeError:
        raise
    except OSError as problem:
        if not error:
            raise OutputError(f"stdout: {problem.strerror}") from problem


def show(lines: list[Text], error: bool = False) -> None:
    """Print lines, in colours where a terminal shows them."""
    console = Console(stderr=error, highlight=False, soft_wrap=True)
    if console.is_terminal:
        for line in lines:
            console.print(line)
    else:  # the console is slow with the long output that programs read
        say("\n".join(line.plain for line in lines), error, nl=bool(lines))


def show_json(content: Any) -> None:
    """Print a value as JSON."""
    say(json.dumps(content, indent=2))


def report_lines(report: Report) -> list[Text]:
    """What was done, or in a dry run what would be."""
    lines = []
    for network in report.networks:
        place = f"{network.path}: " if network.path else ""
        lines.append(Text(printable(f"{place}{network.parameters:,} parameters"), style="bold"))
        lines += [Text(printable(line)) for line in network.tree.split("\n")]
        lines += [Text(printable(line), style="green") for line in network.results]
        lines += [_file_line(report, name) for name in network.files]
    return lines + [_file_line(report, name) for name in report.files]


def _file_line(report: Report, name: str) -> Text:
    size = f" ({report.contents[name]:,} bytes of content)" if name in report.contents else ""
    return Text(
        printable(f"{'would write' if report.dry_run else 'wrote'} {Path(report.folder, name)}{size}")
    )


def warning_lines(warnings: list[str]) -> list[Text]:
    """What the user should know."""
    return [Text(printable(warning), style="yellow") for warning in warnings]


def explained(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, click.UsageError):
        return f"{error.format_message()} (t7convert --help shows how it is used)"
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, IsADirectoryError):
        return f"{error.filename}: {error.strerror}; t7convert batch converts the files in it"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, _errors()):
        return str(error)
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)"


def _errors() -> tuple[type[Exception], ...]:
    """The errors of t7compat, if that has been imported: if not, they cannot have been raised."""
    module = sys.modules.get("t7compat.errors")
    return (module.T7Error,) if module else ()
