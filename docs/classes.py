"""Writes docs/classes.md: which classes of Lua Torch there are, how they are proven, what they become.

python docs/classes.py
"""

from __future__ import annotations

import collections
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from converters.native import Plan  # noqa: E402
from converters.text import is_torch  # noqa: E402
from t7compat import contrib, foreign, load, nn, registry  # noqa: E402
from t7compat.nested import type_name  # noqa: E402

GOLDEN = ROOT / "fixtures" / "golden"
AREAS = ("nn", "rnn", "dpnn", "nngraph")

BASES = (torch.nn.Module, torch.nn.Sequential)  # of written classes

INTRODUCTION = """# Classes

Written by `make docs` from the code and the golden data; a test compares. For each class of Lua Torch: the
file that has it, the number of golden cases (written by Torch7; the tests run them in all ways that a case
allows), and what `t7convert` makes of it; of a loss, which it does not convert, the equal in torch.nn. *own
source* is a small class in the written file, with the mathematics of the Torch class; where there are both,
the input or the options decide.
"""

PROJECTS = """
## Of other projects

Classes that came with well-known programs; see [custom_classes.md](custom_classes.md).  Their golden cases
are whole models.

| class | file |
|---|---|
"""

FOREIGN = """
## Other names

The names that checkpoints of GPU programs carry. An object keeps its name and all its fields when it is
saved again.

| class | is | file |
|---|---|---|
"""


def cases(name: str) -> list[Any]:
    """The golden cases of a class of nn."""
    files = [path for area in AREAS if (path := GOLDEN / area / f"{name}.t7").exists()]
    return [case for path in files for case in load(path)]


def counterpart(thing: Any) -> str:
    """What a module or criterion becomes: a class of torch.nn, source of its own, or nothing."""
    if not isinstance(thing, nn.Module):
        native = getattr(thing, "native", lambda: None)()
        return f"nn.{native.func.__name__}" if native else "none"
    plan = Plan(thing)
    if "" in plan.problems:
        return "none"
    layer = plan.root
    while [child.origin for child in layer.children] == [thing]:  # what is around it adapts its input
        layer = layer.children[0]
    family = layer.make.func.__mro__
    native = next((kind for kind in family if is_torch(kind) and kind not in BASES), None)
    if is_torch(family[0]) or native:
        return f"nn.{(native or family[0]).__name__}"
    return "own source"


def counterparts(name: str, found: list[Any]) -> str:
    """What the objects of a class become, the most frequent first."""
    things = [case.module if case.module is not None else case.criterion for case in found]
    of_class = [thing for thing in things if type_name(thing) == f"nn.{name}"]
    counts = collections.Counter(map(counterpart, of_class))
    without = len(counts) > 1 and counts.pop("none", 0)
    return ", ".join(kind for kind, _ in counts.most_common()) + (" or none" if without else "")


def place(cls: type) -> str:
    """The file of a class, as a link."""
    path = Path(inspect.getsourcefile(cls) or "").relative_to(ROOT)
    return f"[{path.relative_to('t7compat')}](../{path})"


def rows() -> Iterator[tuple[str, ...]]:
    """A row for each class of nn."""
    for name in registry.names("nn"):
        cls = registry.lookup(f"nn.{name}")
        assert cls
        if cls.__module__.startswith(contrib.__name__):
            continue
        found = cases(name)
        yield name, place(cls), str(len(found) or ""), counterparts(name, found)


def project_rows() -> Iterator[tuple[str, ...]]:
    """A row for each class of a project."""
    for module in (getattr(contrib, name) for name in contrib.__all__):
        for cls in vars(module).values():
            typename = getattr(cls, "__typename__", "")
            own = getattr(cls, "__module__", None) == module.__name__
            if own and (registry.lookup(typename) is cls or typename != cls.__name__):
                yield typename, place(cls)


def foreign_rows() -> Iterator[tuple[str, ...]]:
    """A row for each class of another package."""
    for package in ("cudnn", "fbnn", "inn"):
        for name in registry.names(package):
            typename = f"{package}.{name}"
            original, addition = foreign.ALIASES.get(typename, ("", None))
            cls: Any = addition or registry.lookup(typename)
            yield typename, original or "a class of its own", place(cls)


def table(lines: Iterator[tuple[str, ...]]) -> str:
    """The rows of a table."""
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page() -> str:
    """The text of docs/classes.md."""
    found = list(rows())
    total = sum(int(row[2] or 0) for row in found)
    native = sum("nn." in row[3] for row in found)
    own = sum(row[3] == "own source" for row in found)
    counts = (
        f"\n{len(found)} classes with {total} golden cases. {native} have an equal in torch.nn, at least "
    )
    counts += f"for some options; {own} are written as source.\n"
    head = "\n| nn. | file | golden cases | in PyTorch |\n|---|---|---|---|\n"
    others = PROJECTS + table(project_rows()) + FOREIGN + table(foreign_rows())
    return INTRODUCTION + counts + head + table(iter(found)) + others


if __name__ == "__main__":
    (ROOT / "docs" / "classes.md").write_text(page())
