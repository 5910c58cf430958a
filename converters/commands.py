"""The commands of t7convert that show, compare and prove, and write no network.

What needs PyTorch is imported where it is used: the help and the completion do not wait for it.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from converters import supported
from converters.messages import say, show, show_json, warning_lines
from converters.naming import STAGE, printable
from converters.options import A_PATH, debug_option, file_argument, json_option, shape_option

if TYPE_CHECKING:
    from converters import differences, tree
    from converters.report import Report

# ---- inspect


@click.command("inspect", short_help="Show what is in FILE.")
@file_argument
@click.option(
    "--depth", metavar="N", type=click.IntRange(0), default=100, help="Show N levels (default: 100)."
)
@click.option(
    "--html", "page", metavar="PAGE", type=A_PATH, help="Write a page for the browser, with a proof."
)
@click.option("-f", "--force", is_flag=True, help="Replace PAGE if it is there.")
@shape_option
@json_option
@debug_option
def inspect_command(
    file: Path, depth: int, page: Path | None, force: bool, input_shape: str | None, as_json: bool
) -> int:
    """Show the tree of a .t7 file: types, sizes, numbers of parameters, and what is shared or unusual.

    `&1` marks a table or object that occurs several times, or the memory of several tensors; `!` what is
    unusual: NaNs, infinities, rectifiers whose units are 0 for every input, fields of old formats.  Long
    tables are abbreviated.

    With --html the page shows the tree, a picture of each network, histograms of the weights, and the result
    of converting the file (to a temporary folder), for which --input-shape may be needed.

    \b
    Examples:
      t7convert inspect model.t7
      t7convert inspect model.t7 --depth 3
      t7convert inspect model.t7 --html model.html
      t7convert inspect model.t7 --json | jq '.rows[] | select(.remarks != [])'
    """
    from converters import tree
    from converters.conversion import read
    from converters.page import Page
    from converters.unusual import remarks
    from t7compat.errors import T7Error

    upgraded: list[tuple[Any, list[str]]] = []
    root, notes = read(file, lambda value, names: upgraded.append((value, names)))
    found, sums = tree.rows(root, depth, remarks(root, upgraded)), tree.totals(root)
    if page is not None:
        if page.exists() and (not force or page.samefile(file)):
            raise T7Error(f"{printable(str(page))} exists already; --force replaces it, if it is not FILE")
        _write(page, lambda: Page(file.name, root, found, notes, _proof(file, input_shape)).text())
        if as_json:
            show_json({"file": str(file), "page": str(page)})
        else:
            say(f"wrote {printable(str(page))}")
        return 0
    if as_json:
        content = {"file": str(file), "totals": dataclasses.asdict(sums), "notes": notes}
        show_json({**content, "rows": [dataclasses.asdict(row) for row in found]})
        return 0
    lines = [_row_line(row) for row in found]
    lines.append(Text(f"{sums.parameters:,} parameters; {sums.bytes:,} bytes in {sums.storages:,} storages"))
    show(lines)
    show(warning_lines(notes), error=True)
    return 0


def _row_line(row: tree.Row) -> Text:
    from converters import tree

    line = Text("  " * row.depth + tree.line(row))
    if row.remarks:
        line.append("  ! " + "; ".join(row.remarks), style="yellow")
    return line


def _proof(file: Path, input_shape: str | None) -> Report | str:
    """What the conversion of a file gives; a text if it cannot be converted."""
    from converters.conversion import convert
    from t7compat.errors import T7Error

    with tempfile.TemporaryDirectory(prefix="t7convert-") as folder:
        try:
            return convert(file, folder, input_shape=input_shape)
        except T7Error as error:
            return f"Nothing was converted: {error}"


def _write(target: Path, text: Callable[[], str]) -> None:
    """Write a file; an older one stays until the new one is complete."""
    try:
        stage = tempfile.TemporaryDirectory(prefix=STAGE, dir=target.parent)
    except OSError as error:
        error.filename = str(target)
        raise
    with stage as folder:
        new = Path(folder, "page")
        new.write_text(text(), "utf-8")
        os.replace(new, target)


# ---- diff


@click.command("diff", short_help="Show what is different between two files.")
@click.argument("a", type=A_PATH)
@click.argument("b", type=A_PATH)
@click.option(
    "--tolerance", metavar="X", type=click.FloatRange(0), default=0.0, help="Take closer numbers for equal."
)
@click.option("--buffers", is_flag=True, help="Compare outputs and gradients of modules, too.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(0),
    default=20,
    help="Show N lines of each kind (default: 20).",
)
@json_option
@debug_option
def diff_command(a: Path, b: Path, tolerance: float, buffers: bool, limit: int, as_json: bool) -> int:
    """Show what is different between two .t7 files: structure, plain values, and numbers in tensors.

    Tensors with other numbers come as a table, the largest change first: the norm of the difference by that
    in A, and the largest difference of one number.

    \b
    Examples:
      t7convert diff epoch1.t7 epoch2.t7
      t7convert diff model.t7 again.t7 --tolerance 1e-6

    \b
    Exit status:
      0  nothing is different
      1  something is
      2  bad usage or a bad file
    """
    from converters import differences
    from converters.conversion import read

    found = differences.differences(read(a)[0], read(b)[0], tolerance=tolerance, with_buffers=buffers)
    status = 1 if found.changes else 0
    if as_json:
        changes = [_change_fields(change) for change in found.structure + found.numbers]
        show_json({"a": str(a), "b": str(b), "tensors": found.tensors, "status": status, "changes": changes})
        return status
    lines = [_change_line(change) for change in found.structure[:limit]]
    lines += _more(found.structure, limit)
    if found.numbers:
        lines.append(Text("relative  largest   tensor", style="bold"))
        lines += [
            Text(f"{x.relative:<9.2g} {x.largest:<9.2g} {x.path or 'the whole'} {x.a}")
            for x in found.numbers[:limit]
        ]
        lines += _more(found.numbers, limit)
    apart = f"{len(found.numbers):,} with other numbers; {len(found.structure):,} other differences"
    show([*lines, Text(f"{found.tensors:,} tensors compared, {apart}")])
    return status


def _change_fields(change: differences.Change) -> dict[str, Any]:
    """A change as JSON, which has no infinities."""
    fields = dataclasses.asdict(change)
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}


def _change_line(change: differences.Change) -> Text:
    style = {"only in A": "red", "only in B": "green"}.get(change.kind, "yellow")
    what = " -> ".join(filter(None, (change.a, change.b)))
    return Text.assemble((change.kind, style), f": {change.path or 'the whole'}: {what}")


def _more(changes: list[differences.Change], limit: int) -> list[Text]:
    return [Text(f"... {len(changes) - limit:,} more")] if len(changes) > limit else []


# ---- verify


@click.command("verify", short_help="Prove a written file again.")
@click.argument("model", metavar="MODEL.t7", type=A_PATH)
@click.argument("written", metavar="MODEL.py", type=A_PATH)
@click.option("--network", metavar="PATH", help="Which network of the file, as in protos.rnn.")
@shape_option
@json_option
@debug_option
def verify_command(
    model: Path, written: Path, network: str | None, input_shape: str | None, as_json: bool
) -> int:
    """Run the network of a .t7 file and a written file, as it is now, on the same random input.

    The written file may have been changed by hand: its `load()` has to give the network, in a process that
    has torch but not t7compat.  It is run, so it should be one that you trust.

    \b
    Examples:
      t7convert verify model.t7 model.py
      t7convert verify lm.t7 edited.py --network protos.rnn --input-shape 5x3

    \b
    Exit status:
      0  the difference is as small as it should be
      1  nothing was compared, for the reason on stderr
      2  bad usage or a bad file
      3  the difference is too large, or the written file fails
    """
    from converters.recheck import recheck

    place, found = recheck(model, written, network=network, input_shape=input_shape)
    status = {"verified": 0, "unverified": 1, "deviates": 3}[found.outcome]
    if as_json:
        content = {"model": str(model), "network": place, "written": str(written), "status": status}
        show_json({**content, "verification": dataclasses.asdict(found)})
    else:
        texts = [f"{place}: {found}" if place else str(found)]
        texts += [str(found.gradients)] if found.is_fine and found.gradients else []
        style = "yellow" if status else "green"
        show([Text(printable(text), style=style) for text in texts], error=status > 0)
    return status


# ---- list-supported


@click.command("list-supported", hidden=True)
@json_option
@debug_option
def supported_command(as_json: bool) -> int:
    """List every class of Lua Torch that is known, how far it is supported, and what it becomes."""
    found = supported.classes()
    if as_json:
        show_json([dataclasses.asdict(one) for one in found])
        return 0
    width = max(len(one.name) for one in found)
    levels = max(len(one.support) for one in found)
    show([Text(f"{one.name:{width}}  {one.support:{levels}}  {one.counterpart}".rstrip()) for one in found])
    return 0
