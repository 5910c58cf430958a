"""ONNX graphs and programs of torch.export, over the golden cases of all classes.

It takes half a second to export a network.  So every tenth class is taken, with its first case; with
T7COMPAT_ONNX=classes in the environment every class (three minutes), with T7COMPAT_ONNX=all every case and
model (ten minutes).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from deviations import NOT_ONNX, NOT_RECORDED
from golden import Case, cases
from test_converters import AREAS, convertible, planned, prepared, random_in_evaluation

from converters import exports, onnx_forms, verify
from converters.compare import difference
from converters.formats import FORMATS, Export
from converters.graphs import as_network
from t7compat.nested import type_name
from t7compat.table import leaves

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
pytestmark = [
    pytest.mark.skipif(not ONNX, reason="needs the extra t7compat[onnx]"),
    pytest.mark.usefixtures("kept_registry"),
]
aten = torch.ops.aten
DOCS = Path(__file__).parents[1] / "docs" / "formats.md"
_STEP = 10


def recordable(case: Case) -> bool:
    """Whether there are tensors to record a run with, and the output is the same at each run."""
    data = case.content
    is_plain = all(isinstance(leaf, torch.Tensor) for leaf in leaves(data.input))
    return str(case) not in NOT_RECORDED and is_plain and not random_in_evaluation(data.module)


def chosen() -> list[Case]:
    """The cases to be exported, and the first ones of the classes that cannot be."""
    extent = os.environ.get("T7COMPAT_ONNX")
    assert extent in (None, "classes", "all")
    found: dict[Any, Case] = {}
    for area in AREAS if extent == "all" else AREAS[:-1]:
        for case in cases(area):
            key = str(case) if extent == "all" else (area, case.stem)
            if key not in found and convertible(case) and recordable(case):
                found[key] = case
    every = list(found.values())
    return every if extent else [case for case in every if f"nn.{case.stem}" in NOT_ONNX] + every[::_STEP]


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


def random(*size: int) -> torch.Tensor:
    return torch.randn(size, dtype=torch.float64)


STATE = [random(1, 3, 2), random(1, 3, 5)]
PROJECTED = [random(20, 4), random(20, 2), random(20), random(20), random(2, 5)]
OPERANDS: dict[Any, tuple[Any, ...]] = {
    aten.cdist.default: (random(2, 3, 4), random(2, 5, 4), 2.0, 2),
    aten._cdist_forward.default: (random(3, 4), random(5, 4), 3.0, 2),
    aten.log_sigmoid.default: (torch.tensor([-1e4, -1.0, 0.0, 2.0, 1e4]),),
    aten.rrelu.default: (random(3, 4), 0.2, 0.5),
    aten.mv.default: (random(3, 4), random(4)),
    aten.matmul.default: (random(2, 3, 4), random(4)),
    aten.avg_pool2d.default: (random(2, 3, 7, 8), [2, 3], [2, 2], [1, 1], False, True, 5),
    aten.avg_pool3d.default: (random(2, 3, 5, 6, 7), [2, 3, 2], [2, 1, 1], [1], False, True, 1),
    aten.adaptive_max_pool2d.default: (random(2, 3, 7, 5), [3, 2]),
    aten.repeat_interleave.self_Tensor: (random(4, 2), torch.tensor([2, 0, 3, 1]), 0),
    aten.argsort.stable: (torch.tensor([[3.0, 1.0, 3.0, 2.0], [0.0, 0.0, 1.0, 1.0]]),),
    aten.masked_select.default: (random(3, 4), torch.tensor([True, False, True, True])),
    aten.im2col.default: (random(2, 5, 6), [2, 3], [1, 1], [1, 0], [1, 2]),
    aten.lstm.input: (random(6, 3, 4), STATE, PROJECTED, True, 1, 0.0, False, False, False),
}
OPTIONS: dict[Any, dict[str, Any]] = {
    aten.repeat_interleave.self_Tensor: {"output_size": 6},
    aten.argsort.stable: {"stable": True, "dim": -1, "descending": True},
}


@pytest.mark.parametrize("operation", onnx_forms.FORMS, ids=str)
def test_forms_give_what_the_operations_give(operation: Any) -> None:
    operands, options = OPERANDS[operation], OPTIONS.get(operation, {})
    got, want = onnx_forms.FORMS[operation](*operands, **options), operation(*operands, **options)
    torch.testing.assert_close(got, want)


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
