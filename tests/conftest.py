"""Settings of the whole suite."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from deviations import DEVIATIONS
from golden import Case, unknown_classes

import t7compat
from converters import interpreter
from t7compat import Table

torch.set_num_threads(1)
# The former notes at each call, with the whole stack, what it will do once there is CUDA
_seed = torch.manual_seed if torch.cuda.is_available() else torch.default_generator.manual_seed


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test sees the same random numbers in each run, whichever tests run before it."""
    _seed(0)
    t7compat.manualSeed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def data(case: Case, request: pytest.FixtureRequest) -> Table:
    """The table of a golden case, unless it, or this check of it, is excluded."""
    check = request.node.originalname.removeprefix("test_")
    for key in (str(case), f"{case}:{check}", f"{case.area}/{case.stem}:{check}"):
        if key in DEVIATIONS:
            pytest.skip(DEVIATIONS[key])
    data = case.load()
    if unknown := unknown_classes(data):
        pytest.skip(f"t7compat has no {', '.join(unknown)}")
    return data


@pytest.fixture(scope="session")
def kept_interpreter() -> Iterator[None]:
    """Prove what is converted in one interpreter: a fresh one for each file has to import PyTorch again."""
    with interpreter.kept():
        yield


@pytest.fixture(scope="session")
def kept_registry() -> Iterator[None]:
    """The exporter to ONNX makes its table of operations anew for each network, for most of its time."""
    name = "torch.onnx._internal.exporter._registration"
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("onnxscript") and importlib.util.find_spec(name):
            kind = importlib.import_module(name).ONNXRegistry
            patch.setattr(kind, "from_torchlib", staticmethod(functools.cache(kind.from_torchlib)))
        yield


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Save a value as a .t7 file."""

    def save(value: Any, name: str = "model.t7", **options: Any) -> Path:
        t7compat.save(tmp_path / name, value, **options)
        return tmp_path / name

    return save
