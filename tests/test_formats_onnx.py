"""ONNX graphs and programs of torch.export, over the golden cases of all classes."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from deviations import NOT_ONNX, NOT_RECORDED
from golden import Case, cases
from test_converters import AREAS, convertible, planned, prepared, random_in_evaluation

from converters import exports, verify
from converters.compare import difference
from converters.formats import FORMATS, Export
from converters.graphs import as_network
from t7compat.nested import type_name
from t7compat.table import leaves

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
pytestmark = pytest.mark.skipif(not ONNX, reason="needs the extra t7compat[onnx]")
DOCS = Path(__file__).parents[1] / "docs" / "formats.md"
_REGISTRY = "torch.onnx._internal.exporter._registration"


@pytest.fixture(scope="module", autouse=True)
def made_once() -> Iterator[None]:
    """The exporter makes its table of operations anew for each network, which takes most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec(_REGISTRY):
            kind = importlib.import_module(_REGISTRY).ONNXRegistry
            patch.setattr(kind, "from_torchlib", staticmethod(functools.cache(kind.from_torchlib)))
        yield


def recordable(case: Case) -> bool:
    """Whether there are tensors to record a run with, and the output is the same at each run."""
    data = case.load()
    is_plain = all(isinstance(leaf, torch.Tensor) for leaf in leaves(data.input))
    return str(case) not in NOT_RECORDED and is_plain and not random_in_evaluation(data.module)


def chosen() -> list[Case]:
    """The first case of each class; with T7COMPAT_ONNX=all in the environment all cases, and the models."""
    every = os.environ.get("T7COMPAT_ONNX") == "all"
    found: dict[Any, Case] = {}
    for area in AREAS if every else AREAS[:-1]:
        for case in cases(area):
            key = str(case) if every else (area, case.stem)
            if key not in found and convertible(case) and recordable(case):
                found[key] = case
    return list(found.values())


def exported(case: Case) -> tuple[Export, Any]:
    """A case to be exported, and the output of Torch7."""
    module, input, output = prepared(case)
    network = as_network(planned(module, input).root)
    module, _, _ = prepared(case)  # the plan ran it

    def run(input: Any) -> Any:
        with verify.preserved(module):
            return verify.run(module, input)

    return Export(network, input, run), output


def assert_equal(got: Any, want: Any) -> None:
    """Raise AssertionError if the tensors are further apart than a written file may be."""
    apart = difference(tuple(leaves(got)), tuple(leaves(want)))
    assert apart.within, str(apart)


@pytest.mark.parametrize("case", chosen(), ids=str)
def test_recorded_networks_give_the_output_of_torch7(case: Case, tmp_path: Path) -> None:
    export, output = exported(case)
    if type_name(case.load().module) in NOT_ONNX:
        with pytest.raises(torch.onnx.errors.OnnxExporterError):
            result(export, "onnx", tmp_path)
    else:
        assert_equal(result(export, "pt2", tmp_path), output)
        assert_equal(result(export, "onnx", tmp_path), exports.single(output))


def result(export: Export, target: str, folder: Path) -> Any:
    """What the written file gives for the input of the case."""
    row, path = FORMATS[target], folder / "network"
    assert row.network is not None
    assert row.output is not None
    row.network(path, export)
    return row.output(path, export, exports.single(export.input) if row.is_single else export.input)


def test_what_onnx_cannot_express_is_told_by_the_manual() -> None:
    section = DOCS.read_text("utf-8").partition("### Not in ONNX")[2].partition("\n#")[0]
    rows = re.findall(r"^\| `(nn\.\w+)` \| (.*) \|$", section, re.MULTILINE)
    assert dict(rows) == NOT_ONNX


@pytest.mark.parametrize(
    "name", ["lenet", "old_reshape", "dcgan_discriminator", "fns_batch", "recurrent_simple"]
)
def test_batch_stays_free(name: str) -> None:
    """Behind View and Reshape, where Torch7 ran a batch of one, and in sequences of batches."""
    (case,) = (case for case in cases("models") if case.stem == name)
    export, _ = exported(case)
    assert all(free[0] for free in export.recorded.free)


def test_batch_behind_the_steps_stays_free() -> None:
    (case,) = (case for case in cases("models") if case.stem == "rnnlm_experiment")
    export, _ = exported(case)
    assert export.recorded.sizes(export.input) == "3x*"
