"""The rules of the code that a program can check."""

from __future__ import annotations

import ast
import inspect
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from t7compat import nn, registry

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "fixtures" / "golden"
AREAS = ("nn", "rnn", "dpnn", "nngraph")
SOURCES = sorted(path for room in ("t7compat", "converters") for path in (ROOT / room).rglob("*.py"))
# From the ground up; a room imports only from itself and from those before it
ROOMS = (
    "t7compat.errors",
    "t7compat.tensortypes",
    "t7compat.registry",
    "t7compat.nested",
    "t7compat.table",
    "t7compat.choices",
    "t7compat.mersenne",
    "t7compat.t7file",
    "t7compat.nn",
    "t7compat.dpnn",
    "t7compat.nngraph",
    "t7compat.optnet",
    "t7compat.rnn",
    "t7compat.contrib",
    "t7compat.optim",
    "t7compat.distributed",
    "t7compat.foreign",
    "t7compat.cudnn",
    "converters",
)
LONGEST_FILE, LONGEST_FUNCTION = 400, 50  # lines
# Abstract ones, and those that golden/serialization has instead
WITHOUT_CASES = {"Module", "Container", "Criterion", "AbstractRecurrent", "AbstractSequencer", "Reinforce"}
OF_NNX = {"SpatialReSampling"}
# Of the later fork of rnn, which wrote none of the golden data; tests/test_rnn_fork.py has them
OF_THE_FORK = {
    "AbstractSequencerCriterion", "LinearRNN", "LookupRNN", "RecGRU", "RecLSTM", "ReverseSequence",
    "ReverseUnreverse", "SeqBGRU", "SeqBLSTM", "StepGRU", "StepLSTM", "VariableLength",
}  # fmt: skip
# Of other projects: golden/models and tests/test_contrib.py have them
OF_PROJECTS = {
    name
    for name in registry.names("nn")
    if str(getattr(registry.lookup(f"nn.{name}"), "__module__", "")).startswith("t7compat.contrib.")
}
IN_FILES = {"DataParallelTable", "DataParallelTable.Basic", "DataParallelTable.Threads"}

every_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


def room_of(module: str) -> int | None:
    """The number of the room that a module is in; None for other packages and for t7compat as a whole."""
    return next((i for i, room in enumerate(ROOMS) if f"{module}.".startswith(f"{room}.")), None)


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports when it runs."""
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "an import by a relative path"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            pending += ast.iter_child_nodes(node)


@every_source
def test_imports_go_downwards(path: Path) -> None:
    own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found = {name: room_of(name) for name in imports(path)}
    above = [name for name, room in found.items() if own is not None and room is not None and room > own]
    assert not above


@every_source
def test_one_place_for_bytes(path: Path) -> None:
    assert path.name == "wire.py" or "struct" not in set(imports(path))


@every_source
def test_size(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST_FILE
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= LONGEST_FUNCTION] == []


@every_source
def test_names_say_something(path: Path) -> None:
    assert path.stem not in ("utils", "util", "helpers", "common")


def public_methods(cls: type) -> Iterator[tuple[str, object]]:
    """The methods that a class adds: those of its bases are explained there."""
    inherited = set().union(*(vars(base) for base in cls.__mro__[1:]))
    for name, value in vars(cls).items():
        if inspect.isfunction(value) and not name.startswith("_") and name not in inherited:
            yield name, value


@pytest.mark.parametrize("name", registry.names("nn"))
def test_class_is_explained(name: str) -> None:
    cls = registry.lookup(f"nn.{name}")
    assert cls is not None
    assert cls.__doc__
    assert "__doc__" in vars(cls)
    assert [method for method, value in public_methods(cls) if not value.__doc__] == []


@pytest.mark.parametrize(
    "name", sorted({*registry.names("nn")} - WITHOUT_CASES - OF_NNX - OF_THE_FORK - OF_PROJECTS - IN_FILES)
)
def test_class_has_golden_cases(name: str) -> None:
    assert any((FIXTURES / area / f"{name}.t7").exists() for area in AREAS)


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*nn/*.t7")), ids=lambda path: path.stem)
def test_golden_file_has_its_class(path: Path) -> None:
    """The tests leave out classes that are not known: none that once was may get lost."""
    assert path.stem in registry.names("nn")


@pytest.mark.parametrize("name", registry.names("nn"))
def test_fields_are_those_of_the_file(name: str) -> None:
    """What is no field of the Torch table lives in slots, so that vars(module) is the table."""
    cls = registry.lookup(f"nn.{name}")
    assert cls is not None
    blank = cls.__new__(cls)
    assert vars(blank) == {}


def test_no_path_of_a_machine() -> None:
    files = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "Makefile", ".ci/*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if files.returncode:
        pytest.skip("not in a git checkout")
    names = [name for name in files.stdout.split() if name != "tests/test_house.py"]
    assert [name for name in names if "/work/" in (ROOT / name).read_text()] == []


def test_all_of_nn_is_reachable() -> None:
    assert {"Linear", "LSTM", "Sequencer"} <= set(dir(nn))
    assert issubclass(nn.LSTM, nn.Module)
    assert not isinstance(nn.LSTM, torch.nn.Module)
