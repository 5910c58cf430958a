"""The command that converts many files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from converters import workers
from converters.batch import Selection, Task, collisions, without_own_output
from converters.messages import say, show, show_json
from converters.naming import printable
from converters.options import DEBUG, converting_options
from converters.workers import Result

_ANY_PATH = click.Path(path_type=Path, readable=False)  # one that cannot be read does not stop the others
_SHOWN = 3  # collisions: the others are like them
_STYLES = {"failed": "red", "deviates": "red", "unverified": "yellow", "incomplete": "yellow"}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@click.command("batch", short_help="Convert many files, or those in folders.")
@click.argument("paths", metavar="FILE_OR_FOLDER...", nargs=-1, required=True, type=_ANY_PATH)
@click.option("--pattern", metavar="GLOB", help="Of the files in folders convert those with such names.")
@click.option(
    "-j",
    "--jobs",
    metavar="N",
    type=click.IntRange(1),
    help="Convert N files at a time (default: one per core).",
)
@converting_options
@click.option("--debug", is_flag=True, help=DEBUG)
def batch_command(
    paths: tuple[Path, ...],
    pattern: str | None,
    jobs: int | None,
    output: Path | None,
    to: list[str],
    no_verify: bool,
    quiet: bool,
    as_json: bool,
    debug: bool,
    **options: Any,
) -> int:
    """Convert many files, and all .t7 files in folders and in those below, several at a time.

    With -o DIR the files of a folder keep their places below it.  A file that fails does not stop the others.
    Besides .t7 and .t7b, files that end in .th, .net, .torch, .model, .checkpoint or .chkpt are converted if
    they begin as Torch's do; with --pattern those whose name fits, whatever they are.

    \b
    Examples:
      t7convert batch models -o converted
      t7convert batch a.t7 b.t7 --to onnx --jobs 4
      t7convert batch models --pattern 'epoch*.dat' --dry-run

    \b
    Exit status: that of the file with the highest
      0  fine
      1  written, but something could not be converted or verified
      2  a file failed, and nothing was written for it; or bad usage, and nothing was written at all
      3  a difference between old and new is larger than it may be
    """
    if options["input_shape"]:
        from converters.samples import parse

        parse(options["input_shape"])  # what is wrong with it is better told once
    tasks, failed = _selected(paths, output, pattern, to)
    options |= {"to": to, "check": not no_verify}
    with _progress(len(tasks), quiet) as done:
        results = failed + workers.run(tasks, options, jobs or _cores(), done)
    if as_json:
        show_json([result.report for result in results])
    elif not quiet:
        show(_table(results))
    if quiet or as_json:
        show([_line(result) for result in results if result.status], error=True)
    if debug:
        say("".join(result.trace for result in results), error=True, nl=False)
    return max(result.status for result in results)


def _selected(
    paths: tuple[Path, ...], output: Path | None, pattern: str | None, to: list[str]
) -> tuple[list[Task], list[Result]]:
    """The tasks, and what cannot even be looked at."""
    found = Selection(paths, output, pattern)
    tasks = without_own_output(found.tasks)
    if problems := collisions(tasks, to):
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        advice = "; nothing was written: choose with --pattern, or convert them to different folders"
        raise click.ClickException("; ".join(problems[:_SHOWN]) + more + advice)
    failed = [Result.failed(place, reason) for place, reason in found.problems.items()]
    if not tasks:
        raise click.ClickException("; ".join(f"{one.source}: {one.reason}" for one in failed))
    return tasks, failed


@contextmanager
def _progress(count: int, quiet: bool) -> Iterator[Callable[[Result], None]]:
    """What is to be called with each result: it moves a bar on a terminal, or else writes a line."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if quiet or not console.is_terminal:
        number = iter(range(1, count + 1))

        def tell(result: Result) -> None:
            if not quiet:
                say(f"[{next(number)}/{count}] {_line(result).plain}", error=True)

        yield tell
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=count)

        def advance(result: Result) -> None:
            progress.update(bar, advance=1, description=escape(printable(result.source)))
            if result.status:
                progress.console.print(_line(result))

        yield advance


def _line(result: Result) -> Text:
    """A result in one line."""
    reason = f": {result.reason}" if result.reason else ""
    style = _STYLES.get(result.outcome, "green")
    return Text.assemble(f"{printable(result.source)}: ", (result.outcome, style), reason)


def _table(results: list[Result]) -> list[Text]:
    """All results, and how many there are of each kind."""
    names = [printable(result.source) for result in results]
    width = max(map(len, ("file", *names)))
    lines = [Text(f"{'file':{width}}  outcome      largest  seconds", style="bold")]
    for name, result in zip(names, results, strict=True):
        largest = "" if result.largest is None else f"{result.largest:.2g}"
        outcome = Text(f"{result.outcome:11}", style=_STYLES.get(result.outcome, "green"))
        end = f"  {largest:>7}  {result.seconds:>7.1f}  {result.reason}".rstrip()
        lines.append(Text.assemble(f"{name:{width}}  ", outcome, end))
    counts = Counter(result.outcome for result in results)
    sums = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return [*lines, Text(f"{len(results)} file{'s' * (len(results) > 1)}: {sums}")]
