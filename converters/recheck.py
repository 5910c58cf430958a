"""The proof once more: the Torch network of a file against a written file, as it is now."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from converters import checkpoint, gradients, graph_samples, samples, verify
from converters.compare import difference
from converters.conversion import file_names, read
from converters.naming import identifier, printable
from converters.native import FAILURES, Plan
from converters.report import Verification
from converters.trial import disagreeing
from t7compat.errors import InputError, T7Error
from t7compat.nested import type_name
from t7compat.nn.module import Module


def recheck(
    model: str | os.PathLike[str],
    written: str | os.PathLike[str],
    *,
    network: str | None = None,
    input_shape: str | None = None,
) -> tuple[str, Verification]:
    """Run a network of the .t7 file `model` and the written file again on the same random input.

    `network` is its path in the .t7 file, by default the one that has a name like the written file;
    `input_shape` is as in `convert`.  Gives the path and the result.  Raises T7Error or OSError where there
    is nothing to compare.
    """
    model, written = Path(model), Path(written)
    sizes = samples.parse(input_shape) if input_shape else None
    with written.open(encoding="utf-8"):  # an error now is better than one in the other process
        if written.suffix != ".py":
            raise InputError(f"{printable(str(written))}: expected a written network, NAME.py")
    found = checkpoint.networks(read(model)[0])
    where = _network(model, written, network, list(found))
    result = Verification()
    sample = _sample(found[where], sizes, result)
    if sample is None:
        return where, result
    module = found[where]
    with verify.preserved(module):
        lifted = disagreeing(Plan(module, frozenset()), sample.input)
        backward = gradients.backward(module, sample.input, sample.output)
    with tempfile.TemporaryDirectory(prefix="t7convert-") as folder:
        for file in (written, written.with_suffix(".safetensors")):
            Path(folder, file.name).symlink_to(file.absolute())
        slope = None if isinstance(backward, str) else backward.gradient
        given = {written.stem: (sample.input, slope)}
        answer = verify.in_fresh_process(Path(folder), given)[written.stem]
    if isinstance(answer["output"], str):
        result.outcome, result.reason = "deviates", f"the written network fails: {answer['output']}"
        return where, result
    result.judge(difference(answer["output"], sample.output))
    result.judge_gradients(gradients.compared(module, lifted, backward, answer.get("gradients")))
    return where, result


def _network(model: Path, written: Path, wanted: str | None, paths: list[str]) -> str:
    """The path of the network that is meant."""
    if not paths:
        raise T7Error(f"{printable(str(model))} holds no network")
    known = ", ".join(path or "the whole" for path in paths)
    if wanted is not None and wanted not in paths:
        raise T7Error(f"{printable(str(model))} has no network {wanted}, but {known}")
    by_name = file_names(identifier(model.stem), paths).get(written.stem)
    where = wanted if wanted is not None else by_name if by_name is not None else paths[0]
    if wanted is None and by_name is None and len(paths) > 1:
        raise T7Error(f"which network is {written.name}? --network PATH tells; there are {known}")
    return where


def _sample(module: Any, sizes: list[tuple[int, ...]] | None, result: Verification) -> verify.Sample | None:
    """An input and what the Torch network gives for it; None if there is none, for the reason in `result`."""
    if not isinstance(module, Module):
        result.reason = f"no class {type_name(module)} is known, so the Torch network cannot run"
        return None
    try:
        return verify.sampled(module, sizes, graph_samples.wishes(module, Plan(module).root), result)
    except FAILURES as error:
        result.reason = str(error)
        return None
