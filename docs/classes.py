"""Writes docs/classes.md and converters/classes.json, which `t7convert --list-supported` shows.

Which classes of Lua Torch there are, how they are proven, what they become.

python docs/classes.py
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from converters.graphs import Graph  # noqa: E402
from converters.native import FAILURES, Plan  # noqa: E402
from converters.supported import Supported  # noqa: E402
from converters.text import is_torch  # noqa: E402
from t7compat import Table, contrib, foreign, load, nn, registry  # noqa: E402
from t7compat.errors import T7Error  # noqa: E402
from t7compat.nested import walk  # noqa: E402

GOLDEN = ROOT / "fixtures" / "golden"
AREAS = ("nn", "rnn", "dpnn", "nngraph")

BASES = (torch.nn.Module, torch.nn.Sequential)  # of written classes

INTRODUCTION = """# Classes

Written by `make docs` from the code and the golden data; a test compares. `t7convert --list-supported` shows
the same. For each class of Lua Torch: the file that has it, the number of golden cases (written by Torch7;
the tests run them in all ways that a case allows), how far it is supported, and what `t7convert` makes of
it; of a loss, which it does not convert, the equal in torch.nn. *own source* is a small class in the written
file, with the mathematics of the Torch class; where there are both, the input or the options decide.

| supported | |
|---|---|
| converts | runs here as in Torch7, and can be converted |
| converts in part | not with all options |
| runs | runs here as in Torch7, and has no form in PyTorch alone |
| loss | a criterion: runs here as in Torch7 |
| base | others are derived from it |
| data | loads, and saves as it was; no layer |
"""

PROJECTS = """
## Of other projects

Classes that came with well-known programs; see [custom_classes.md](custom_classes.md).  Their golden cases
are whole models.

| class | file | supported | in PyTorch |
|---|---|---|---|
"""

FOREIGN = """
## Other names

The names that checkpoints of GPU programs carry. An object keeps its name and all its fields when it is
saved again.

| class | is | file | supported | in PyTorch |
|---|---|---|---|---|
"""

# From which others are derived, and which no file has
ABSTRACT = {
    "nn.Module", "nn.Container", "nn.Decorator", "nn.Criterion", "nn.Reinforce", "nn.AbstractRecurrent",
    "nn.AbstractSequencer", "nn.AbstractSequencerCriterion",
}  # fmt: skip

# What the constructors of classes are tried with that are in no golden file
ARGUMENTS: tuple[tuple[Any, ...], ...] = (
    (), (4,), (4, 4), (4, 4, 1), (nn.SeqLSTM(4, 4),), (Table(oheight=4, owidth=4),),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Entry:
    """A class: what `--list-supported` tells, and what else the page does."""

    supported: Supported
    cls: type
    cases: int = 0
    original: str = ""


def counterpart(thing: Any) -> str:
    """What a module or criterion becomes: a class of torch.nn, source of its own, or nothing."""
    if not isinstance(thing, nn.Module):
        native = getattr(thing, "native", lambda: None)()
        return f"nn.{native.func.__name__}" if native else "none"
    pooling = getattr(thing, "pooling", None)  # that of an unpooling
    plan = Plan(thing if pooling is None else nn.Sequential().add(pooling).add(thing))
    if "" in plan.problems:
        return "none"
    layer = plan.root if pooling is None else plan.root.children[-1]
    while own := [child for child in layer.children if child.origin is thing]:
        (layer,) = own  # what is around it adapts its input and output
    if layer.make.func is torch.nn.Sequential and [type(child) for child in layer.children] == [Graph]:
        return "own source"
    family = layer.make.func.__mro__
    native = next((kind for kind in family if is_torch(kind) and kind not in BASES), None)
    if is_torch(family[0]) or native:
        return f"nn.{(native or family[0]).__name__}"
    return "own source"


def counterparts(things: list[Any]) -> str:
    """What the objects of a class become, the most frequent first."""
    counts = collections.Counter(map(counterpart, things))
    without = len(counts) > 1 and counts.pop("none", 0)
    return ", ".join(kind for kind, _ in counts.most_common()) + (" or none" if without else "")


@functools.cache
def cases() -> dict[str, list[Any]]:
    """The golden cases by class of nn."""
    found: dict[str, list[Any]] = {}
    for path in (path for area in AREAS for path in sorted((GOLDEN / area).glob("*.t7"))):
        found.setdefault(path.stem, []).extend(load(path))
    return found


@functools.cache
def in_models() -> dict[type, list[Any]]:
    """The objects in the golden models, by class."""
    found: dict[type, list[Any]] = {}
    for path in sorted((GOLDEN / "models").glob("*.full.t7")):
        for value, _ in walk(load(path)):
            found.setdefault(type(value), []).append(value)
    return found


def objects(typename: str, cls: type) -> list[Any]:
    """Objects of a class: of its golden cases, of golden models, or made here."""
    found = [
        thing
        for case in cases().get(typename.removeprefix("nn."), ())
        for thing in (case.module if case.module is not None else case.criterion,)
        if type(thing) is cls
    ]
    return found or in_models().get(cls, []) or made(cls)


def made(cls: Any) -> list[Any]:
    """An object of a class with small arguments, if its constructor takes these."""
    for arguments in ARGUMENTS:
        try:
            thing = cls(*arguments)
            str(thing)
            return [thing]
        except (T7Error, NotImplementedError, AssertionError, *FAILURES):
            continue
    return []


def entry(typename: str, cls: Any, note: str = "", original: str = "") -> Entry:
    """What there is to say about a class."""
    is_layer, is_loss = (issubclass(cls, kind) for kind in (nn.Module, nn.Criterion))
    is_base = typename in ABSTRACT
    found = counterparts(objects(typename, cls)) if (is_layer or is_loss) and not is_base else ""
    found = found or "none" * (is_loss and not is_base)
    if is_base:
        support = "base"
    elif is_loss:
        support = "loss"
    elif not is_layer:
        support = "data"
    elif found.endswith(" or none"):
        support = "converts in part"
    else:
        support = "converts" if found not in ("", "none") else "runs"
    count = len(cases().get(typename.removeprefix("nn."), ())) if not note else 0
    name = f"{typename} ({note})" if note else typename
    return Entry(Supported(name, support, found, place(cls), original), cls, count, original)


def place(cls: type) -> str:
    """The file of a class."""
    return str(Path(inspect.getsourcefile(cls) or "").relative_to(ROOT / "t7compat"))


@functools.cache
def of_nn() -> list[Entry]:
    """The classes of nn, rnn, dpnn and nngraph."""
    found = ((f"nn.{name}", registry.lookup(f"nn.{name}")) for name in registry.names("nn"))
    return [
        entry(typename, cls)
        for typename, cls in found
        if cls and not cls.__module__.startswith(contrib.__name__)
    ]


@functools.cache
def of_projects() -> list[Entry]:
    """The classes of projects; a name that another class has, too, comes with that of the project."""
    found = []
    for module in (getattr(contrib, name) for name in contrib.__all__):
        for cls in vars(module).values():
            typename = getattr(cls, "__typename__", "")
            own = typename and getattr(cls, "__module__", None) == module.__name__
            is_known = registry.lookup(typename) is cls
            if own and (is_known or typename != cls.__name__):
                other = "" if is_known else module.__name__.rpartition(".")[2]
                found.append(entry(typename, cls, other))
    return found


@functools.cache
def of_packages() -> list[Entry]:
    """The classes of other packages."""
    found = []
    for package in ("cudnn", "fbnn", "inn"):
        for typename in (f"{package}.{name}" for name in registry.names(package)):
            original, addition = foreign.ALIASES.get(typename, ("", None))
            cls = addition or registry.lookup(typename)
            if original:
                base = entry(original, registry.lookup(original))
                told = dataclasses.replace(base.supported, name=typename, file=place(cls), original=original)
                found.append(Entry(told, cls, 0, original))
            else:
                found.append(entry(typename, cls))
    return found


def table(lines: Iterator[tuple[str, ...]]) -> str:
    """The rows of a table."""
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def link(one: Supported) -> str:
    """The file of a class, as a link."""
    return f"[{one.file}](../t7compat/{one.file})"


def page() -> str:
    """The text of docs/classes.md."""
    found = of_nn()
    kinds = [one.supported.counterpart for one in found]
    native, own = sum("nn." in kind for kind in kinds), sum(kind == "own source" for kind in kinds)
    counts = (
        f"\n{len(found)} classes with {sum(one.cases for one in found)} golden cases. {native} have an equal"
    )
    counts += f" in torch.nn, at least for some options; {own} are written as source.\n"
    head = "\n| nn. | file | golden cases | supported | in PyTorch |\n|---|---|---|---|---|\n"
    main = (
        (s.name.removeprefix("nn."), link(s), str(one.cases or ""), s.support, s.counterpart)
        for one in found
        for s in (one.supported,)
    )
    projects = ((s.name, link(s), s.support, s.counterpart) for s in map(supported, of_projects()))
    packages = (
        (s.name, s.original or "a class of its own", link(s), s.support, s.counterpart)
        for s in map(supported, of_packages())
    )
    return INTRODUCTION + counts + head + table(main) + PROJECTS + table(projects) + FOREIGN + table(packages)


def supported(one: Entry) -> Supported:
    """What `--list-supported` tells of a class."""
    return one.supported


def listing() -> str:
    """The text of converters/classes.json."""
    found = sorted(map(supported, [*of_nn(), *of_projects(), *of_packages()]), key=lambda one: one.name)
    return "[\n" + ",\n".join(json.dumps(dataclasses.asdict(one)) for one in found) + "\n]\n"


if __name__ == "__main__":
    (ROOT / "docs" / "classes.md").write_text(page())
    (ROOT / "converters" / "classes.json").write_text(listing())
