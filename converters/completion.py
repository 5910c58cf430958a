"""The command that prints what a shell needs to complete the commands, options and formats of t7convert."""

from __future__ import annotations

import click
from click.shell_completion import FishComplete, add_completion_class, get_completion_class

PROGRAM = "t7convert"


@add_completion_class
class Fish(FishComplete):
    """The completion for fish, with values that have commas in them, as those of --to."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


@click.command("completion", short_help="Print the completion for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> int:
    """Print a script that makes a shell complete commands, options, formats and files.

    \b
    Examples:
      eval "$(t7convert completion bash)"         in ~/.bashrc
      eval "$(t7convert completion zsh)"          in ~/.zshrc, after compinit
      t7convert completion fish | source          in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
    return 0
