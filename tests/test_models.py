"""Whole networks that Torch7 saved: before and after use, cleared, and as older versions wrote them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import GOLDEN, Case, cases, gradients, parameters, same, unknown_classes

import t7compat
from t7compat import Table, nn, optnet

models = pytest.mark.parametrize("case", cases("models"), ids=str)


def run(module: nn.Module, data: Table) -> None:
    """Forward and backward in training mode as Torch7 did."""
    t7compat.manualSeed(data.seed)
    same(module.forward(data.input), data.output, "output")
    if data.gradInput is None:
        return
    module.zeroGradParameters()
    same(module.backward(data.input, data.gradOutput), data.gradInput, "gradInput")
    _, gradients = module.parameters() or ((), ())
    same_gradients(list(gradients), list(data.gradParams))


def same_gradients(got: list[torch.Tensor], want: list[Table]) -> None:
    """Compare the first elements and the sums, which the file has of each.

    Gradients that cancel to zero, as that of a bias before a batch normalisation, differ by rounding errors
    of the others' size.
    """
    if not want:
        assert not got
        return
    tolerance = 1e-5 if got[0].dtype == torch.float32 else 1e-9
    scale = max(abs(x) for gradient in want for x in gradient.first)
    for i, (gradient, known) in enumerate(zip(got, want, strict=True), 1):
        flat = gradient.double().reshape(-1)
        assert list(gradient.shape) == list(known.size), f"gradient {i}"
        numbers = [*flat[: len(known.first)].tolist(), flat.sum().item(), flat.abs().sum().item()]
        close = [tolerance * scale] * len(known.first) + [tolerance * scale * flat.numel()] * 2
        for number, wanted, atol in zip(
            numbers, [*known.first, known.sum, known.abs_sum], close, strict=True
        ):
            assert number == pytest.approx(wanted, rel=tolerance, abs=atol), f"gradient {i}"


def evaluated(module: nn.Module, data: Table) -> Any:
    module.evaluate()
    module.forget()
    t7compat.manualSeed(data.seed)
    return module.forward(data.input)


@models
def test_text(data: Table) -> None:
    assert str(data.module) == data.tostring


@models
def test_training(data: Table) -> None:
    run(data.module, data)


@models
def test_training_with_less_kept(data: Table) -> None:
    if not data.module.is_opaque():
        optnet.optimizeMemory(data.module, data.input, {"mode": "training"})
        run(data.module, data)


@models
def test_evaluation(data: Table) -> None:
    same(evaluated(data.module, data), data.evaluate_output, "output")


@models
@pytest.mark.parametrize(
    ("variant", "field"), [("full", "evaluate_output_after"), ("clear", "evaluate_output_clear")]
)
def test_after_use(case: Case, data: Table, variant: str, field: str) -> None:
    """Saved with all buffers, or after clearState, it goes on as it would in Torch7."""
    if data[field] is None:
        pytest.skip("not saved in this form")
    module = t7compat.load(GOLDEN / "models" / f"{case.stem}.{variant}.t7")
    same(evaluated(module, data), data[field], "output")


@models
def test_old_format(data: Table) -> None:
    """A file of an older version is, once loaded, what the compatibility code of Torch7 makes of it."""
    if data.module_file is None:
        pytest.skip("no file of an older version")
    path = GOLDEN / "models" / data.module_file
    run(t7compat.load(path), data)
    same(evaluated(t7compat.load(path), data), data.evaluate_output, "output in evaluation mode")


@models
def test_trained_network_saved(data: Table) -> None:
    """Forward, backward, an update; saved and loaded it goes on as it would have."""
    module = data.module
    run(module, data)
    before = [parameter.clone() for parameter in parameters(module)]
    times = Counter(
        parameter.data_ptr() for parameter in parameters(module)
    )  # moved once for each that has it
    module.updateParameters(0.1)
    for was, gradient, parameter in zip(before, gradients(module), parameters(module), strict=True):
        same(parameter, was - 0.1 * times[parameter.data_ptr()] * gradient, "parameter")
    again = t7compat.loads(t7compat.dumps(module))
    assert type(again) is type(module)
    same(evaluated(again, data), evaluated(module, data), "output")


FILES = sorted((GOLDEN / "models").glob("*.t7"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_saved_again(path: Path) -> None:
    """Nothing in it is unknown; it is saved as Torch7 wrote it, an old one in the form of today."""
    content = t7compat.load(path)
    assert unknown_classes(content) == []
    saved = t7compat.dumps(content)
    assert t7compat.dumps(t7compat.loads(saved)) == saved
    if not path.stem.startswith("old_"):
        assert saved == path.read_bytes()
