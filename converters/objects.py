"""`convert` for what is in memory, as if it had been saved."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from converters import conversion
from converters.naming import identifier
from converters.report import Report
from t7compat.errors import T7Error
from t7compat.t7file import save


def convert(
    source: Any, output: str | os.PathLike[str] | None = None, *, name: str = "model", **options: Any
) -> Report:
    """Write the networks of a .t7 file, or of a t7compat module or table, in other formats; prove it.

    A `source` that is no path needs the folder `output`; its files are called `name`.  The `options` are
    those of `conversion.convert`: to, check, force, input_shape, ...
    """
    if isinstance(source, str | os.PathLike):
        return conversion.convert(source, output, **options)
    if isinstance(source, torch.nn.Module):
        raise T7Error("expected a path or a t7compat module; converters.from_native makes one of a torch.nn")
    if output is None:
        raise T7Error("expected a folder, output, for what comes from no file")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{identifier(name)}.t7")
        save(path, source)
        report = conversion.convert(path, output, **options)
    return dataclasses.replace(report, source=name)
