"""The options and arguments that several commands of t7convert have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from converters.targets import SUFFIXES

Command = TypeVar("Command", bound=Callable[..., Any])


class Targets(click.ParamType):  # type: ignore[type-arg]
    """Names of formats, with commas between them."""

    name = "formats"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A list of names: a default may be one already."""
        names = value.split(",") if isinstance(value, str) else value
        for name in names:
            if name not in SUFFIXES:
                self.fail(f"expected targets among {', '.join(SUFFIXES)}, got {name!r}", param, ctx)
        return names

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that can follow the last comma."""
        before, comma, begun = incomplete.rpartition(",")
        free = [name for name in SUFFIXES if name not in before.split(",")]
        return [CompletionItem(f"{before}{comma}{name}") for name in free if name.startswith(begun)]


A_PATH = click.Path(path_type=Path)
file_argument = click.argument("file", type=A_PATH)
DEBUG = "Show where in the program an error arose."
debug_option = click.option("--debug", is_flag=True, expose_value=False, help=DEBUG)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON (see docs/convert.md)."
)
shape_option = click.option(
    "--input-shape", metavar="SIZE", help="The size of the input, as in 3x4, or 3x4,3x5 for a table."
)
_CONVERTING = (
    click.option(
        "-o",
        "--output",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="Write to DIR (default: where FILE is).",
    ),
    click.option("-f", "--force", is_flag=True, help="Replace files that are there."),
    shape_option,
    click.option(
        "--to",
        metavar="FORMAT,...",
        type=Targets(),
        default="py",
        help=f"What to write, of {', '.join(SUFFIXES)} (default: py; see docs/formats.md).",
    ),
    click.option("--no-verify", is_flag=True, help="Do not compare old and new."),
    click.option("--dry-run", is_flag=True, help="Write nothing; say what would be written."),
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but what is wrong."),
    json_option,
)


def converting_options(command: Command) -> Command:
    """Give a command the options of `convert`."""
    for option in reversed(_CONVERTING):
        command = option(command)
    return command
