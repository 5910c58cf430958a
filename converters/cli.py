"""The command t7convert."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem
from rich.text import Text

from converters import interrupts
from converters.batch_command import batch_command
from converters.commands import diff_command, inspect_command, supported_command, verify_command
from converters.completion import PROGRAM, completion_command
from converters.messages import (
    OutputError,
    discard_output,
    explained,
    open_streams,
    report_lines,
    say,
    show,
    show_json,
    warning_lines,
)
from converters.naming import printable
from converters.options import converting_options, debug_option, file_argument

BAD_USAGE = 2
NO_OUTPUT = 74  # as sysexits.h has it: an error of input or output
INTERRUPTED = 130  # as a shell says of a program that ended by SIGINT or
NOBODY_READS = 141  # by SIGPIPE
_LIST = "--list-supported"
_LARGE = 100 * 2**20  # bytes: with larger files it is good to see that something goes on


class Commands(click.Group):
    """A group with the default command `convert`, whose errors are one line on stderr."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if _LIST in args:
            args = [supported_command.name or "", *(word for word in args if word != _LIST)]
        if ctx.resilient_parsing and not args:  # the first word is being completed
            return super().parse_args(ctx, args)
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if not args or args[0] not in own | self.commands.keys():
            args = ["convert", *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the options of `convert` in the general help, too."""
        commands = (self.commands["convert"], self)
        options = {p.name: p for c in commands for p in c.get_params(ctx) if isinstance(p, click.Option)}
        records = [record for option in options.values() if (record := option.get_help_record(ctx))]
        with formatter.section("Options"):
            formatter.write_dl(records)
        self.format_commands(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What can be the first word: a command, a file, or an option of the group or of `convert`."""
        convert = self.commands["convert"]
        found = {item.value: item for item in convert.shell_complete(ctx, incomplete)}
        found |= {item.value: item for item in super().shell_complete(ctx, incomplete)}
        files = [CompletionItem(incomplete, type="file")]  # first: bash forgets what comes before files
        return [*([] if incomplete.startswith("-") else files), *found.values()]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, until the end or until nobody reads its output any more."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            discard_output()
            return NOBODY_READS
        except OutputError as error:
            discard_output()
            say(f"t7convert: {error}; what was written to files stays", error=True)
            return NO_OUTPUT

    def main(self, args: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Run a command and exit with its status."""
        args = sys.argv[1:] if args is None else list(args)
        open_streams()
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        try:
            with interrupts.as_exits():
                sys.exit(super().main(args, **{"prog_name": PROGRAM, **options, "standalone_mode": False}))
        except click.Abort:
            sys.exit(INTERRUPTED)
        except Exception as error:
            if "--debug" in args:
                raise
            text = printable(explained(error))
            say(f"t7convert: {text}", error=True)
            if "--json" in args:
                try:
                    show_json({"status": BAD_USAGE, "error": text})
                except (OutputError, BrokenPipeError):
                    discard_output()
            sys.exit(BAD_USAGE)


@click.group(cls=Commands, options_metavar="[OPTIONS] FILE", subcommand_metavar="| COMMAND ...")
@click.version_option(package_name="t7compat")
@click.option(
    "--list-supported", is_flag=True, expose_value=False, help="List all classes, and what becomes of them."
)
def main() -> None:
    """Convert the networks in a .t7 file of Lua Torch7 to PyTorch, and prove that they give the same numbers.

    For each network NAME.py (source text that needs only torch) and NAME.safetensors (weights) are written;
    whatever else is in the file goes to NAME.json.  Then the written files are loaded in a fresh interpreter,
    old and new network run on the same random input, and the largest difference is reported.  If the file
    holds what the layers gave in the last forward pass of Torch7, each layer is compared with that, too.

    \b
    Examples:
      t7convert model.t7                          write model.py, ... beside model.t7
      t7convert model.t7 -o converted --force     write to a folder, replace what is there
      t7convert model.t7 --to onnx,state-dict     other formats (docs/formats.md)
      t7convert model.t7 --input-shape 1x3x32x32  if no input is found that the network takes
      t7convert inspect model.t7                  show what is in the file
      t7convert inspect model.t7 --html page.html the same as a page for the browser, with pictures
      t7convert diff before.t7 after.t7           show what is different
      t7convert verify model.t7 model.py          prove a written file again
      t7convert batch models -o converted         convert all files in a folder
      t7convert model.t7 --dry-run                only say what would be written
      t7convert --list-supported                  list the classes that are known
      t7convert ./inspect                         a file that has the name of a command

    \b
    Exit status:
      0  fine
      1  written, but something could not be converted or verified; it is named on stderr
      2  nothing was written: bad usage, a bad file, or output that cannot be written
      3  written, but a difference between old and new is larger than it may be
    """


@main.command("convert", short_help="Convert FILE; the default.")
@file_argument
@click.argument("others", nargs=-1, metavar="")
@converting_options
@debug_option
def convert_command(
    file: Path,
    others: tuple[str, ...],
    output: Path | None,
    force: bool,
    input_shape: str | None,
    to: list[str],
    no_verify: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Convert the networks in FILE to PyTorch; `t7convert --help` says how."""
    if others:
        raise click.UsageError(f"unexpected {others[0]}: for several files there is t7convert batch")
    from converters.conversion import convert

    large = file.stat().st_size > _LARGE

    def progress(what: str) -> None:
        if large and not quiet:
            show([Text(printable(what) + " ...", style="dim")], error=True)

    report = convert(
        file,
        output,
        to=to,
        check=not no_verify,
        force=force,
        input_shape=input_shape,
        dry_run=dry_run,
        progress=progress,
    )
    if as_json:
        show_json(report.as_dict())
    elif not quiet:
        show(report_lines(report))
    show(warning_lines(report.warnings), error=True)
    return report.status


for command in (
    batch_command,
    inspect_command,
    diff_command,
    verify_command,
    supported_command,
    completion_command,
):
    main.add_command(command)
