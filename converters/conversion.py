"""The whole way from a .t7 file to verified PyTorch source."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from converters import checkpoint, emitted, samples, values, verify
from converters.compare import difference
from converters.formats import Format, chosen
from converters.job import Job, Sizes
from converters.naming import identifier, printable
from converters.report import Report
from converters.source import distinct
from converters.weights import Place, write_safetensors
from t7compat.errors import T7Error, T7FormatError
from t7compat.t7file import load_all
from t7compat.t7file.reader import OnUpgrade
from t7compat.table import Table

_LONGEST_NAME = 100


def convert(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    to: str | Iterable[str] = "py",
    check: bool = True,
    force: bool = False,
    input_shape: str | None = None,
    progress: Callable[[str], Any] = lambda what: None,
) -> Report:
    """Write the networks of a .t7 file in the formats `to`, the rest as NAME.json; prove it.

    By default NAME.py and NAME.safetensors are written; `to` is one name of `formats.FORMATS`, or several.
    The files go to the folder `output` (by default that of the file); existing ones are replaced only with
    `force`. `input_shape` ("3x4", or "3x4,3x5" for a table) is the size of the input for the proof, if it
    cannot be found; without `check` there is no proof.  `progress` is called with what is being done.  Raises
    T7Error or OSError if the file cannot be converted, and then leaves nothing behind.
    """
    path = Path(path)
    folder = path.parent if output is None else Path(output)
    rows = chosen([to] if isinstance(to, str) else to)
    sizes = samples.parse(input_shape) if input_shape else None
    progress(f"reading {path.name}")
    root, notes = read(path)
    found = checkpoint.networks(root)
    _expect_possible(path, rows, bool(found))
    stem = identifier(path.stem)
    jobs = [
        Job(path.name, name, where, found[where], rows, check)
        for name, where in file_names(stem, list(found)).items()
    ]
    own = [f"{stem}{row.suffix}" for row in rows.values() if row.whole or (row.data and not found)]
    _expect_free(folder, [*(name for job in jobs for name in job.files), *own], path, force)
    with _stage(folder) as stage:
        own += _write_networks(root, stem, jobs, stage, sizes, progress)
        if not found:
            notes += _write_values(root, stem, rows, stage, progress)
        for name, row in rows.items():
            if row.whole:
                progress(f"writing {stem}{row.suffix}")
                row.whole(stage / f"{stem}{row.suffix}", root)
                _prove_resaved(name, stage / f"{stem}{row.suffix}", jobs)
        written = [*(name for job in jobs for name in job.report.files), *own]
        if not written:
            raise T7Error("; ".join(str(problem) for job in jobs for problem in job.report.problems))
        _expect_free(folder, written, path, force)
        for name in written:
            os.replace(stage / name, folder / name)
    _note_shared_weights(jobs)
    return Report(str(path), str(folder), [job.report for job in jobs], own, checkpoint.unknown(root), notes)


def _expect_possible(path: Path, rows: Mapping[str, Format], has_networks: bool) -> None:
    """Raise T7Error for a target that is for files with networks only, or for those without."""
    place = printable(str(path))
    for name, row in rows.items():
        if not has_networks and not (row.data or row.whole):
            raise T7Error(
                f"{place} holds no network, which --to {name} is for; --to npz, safetensors or json writes "
                "its values; t7convert inspect shows what it holds"
            )
        if has_networks and not (row.network or row.whole):
            raise T7Error(f"{place} holds networks, and --to {name} is for files without")


def _write_networks(
    root: Any, stem: str, jobs: list[Job], stage: Path, sizes: Sizes | None, progress: Callable[[str], Any]
) -> list[str]:
    """Write the networks, and the rest of the file, of which the names are returned."""
    owners: dict[Place, str] = {}
    for job in jobs:
        progress(f"converting {job.where or job.file}")
        job.convert(stage, sizes, owners, progress)
    progress("comparing old and new")
    _verify([job for job in jobs if job.network is not None and job.check], stage)
    for job in jobs:
        job.write_source(stage)
        if job.check:
            job.prove_exports(stage)
    others = [f"{stem}.json", f"{stem}.data.safetensors"]
    if any(job.rows for job in jobs):
        progress("writing what else there is")
        _write_rest(root, jobs, stage, *others)
    return [name for name in others if (stage / name).exists()]


def _write_values(
    root: Any, stem: str, rows: Mapping[str, Format], stage: Path, progress: Callable[[str], Any]
) -> list[str]:
    """Write the values of a file without networks, and tell what is not among them."""
    written = [row for row in rows.values() if row.data]
    found, notes = values.flat(root) if written else ({}, [])
    for row in written:
        assert row.data is not None
        progress(f"writing {stem}{row.suffix}")
        row.data(stage / f"{stem}{row.suffix}", found)
    return notes


def _prove_resaved(name: str, path: Path, jobs: list[Job]) -> None:
    if any(job.check for job in jobs):
        networks = checkpoint.networks(read(path)[0])
        for job in jobs:
            job.prove_resaved(name, networks.get(job.where))


def read(path: Path, on_upgrade: OnUpgrade | None = None) -> tuple[Any, list[str]]:
    """What a file holds, as a table if it is several values; and what the user should know about it.

    `on_upgrade` is that of `load_all`.
    """
    values: list[Any] = []
    notes = []
    try:
        for value in load_all(path, map_location="cpu", on_upgrade=on_upgrade):
            values.append(value)
    except T7FormatError as error:
        if not values:
            raise
        notes.append(f"only the beginning of the file was read, {len(values)} of its values: {error}")
    return (values[0] if len(values) == 1 else Table(*values)), notes


def _expect_free(folder: Path, names: list[str], source: Path, force: bool) -> None:
    """Raise T7Error unless files of these names can be written: not over others, if not with `force`."""
    for target in (folder / name for name in names):
        place = printable(str(target))
        if target.is_dir():
            raise T7Error(f"{place} is a folder, and a file of this name is to be written")
        if target.exists() and target.samefile(source):
            raise T7Error(f"{place} is the file to convert; -o DIR writes elsewhere")
        if target.exists() and not force:
            raise T7Error(f"{place} exists already; --force replaces it")


def _verify(jobs: list[Job], stage: Path) -> None:
    """Run the written networks on the samples, and note how far they are from the Torch networks."""
    inputs = {job.name: job.sample and job.sample.input for job in jobs}
    results = verify.in_fresh_process(stage, inputs)
    for job in jobs:
        found, result = job.report.verification, results[job.name]
        if isinstance(result, str):
            found.outcome, found.reason = "deviates", f"the written network fails: {result}"
        elif job.sample is not None:
            found.judge(difference(result, job.sample.output))


def _note_shared_weights(jobs: list[Job]) -> None:
    """Note which networks have weights in common in the file: the written ones have not."""
    owners: dict[int, Job] = {}
    for job in jobs:
        tensors = job.network.tensors().values() if job.network else ()
        storages = {tensor.untyped_storage()._cdata for tensor in tensors if tensor.numel()}
        for other in {owners[storage].name: None for storage in storages if storage in owners}:
            job.report.notes.append(f"has weights in common with {other}, which are written for each of them")
        owners.update((storage, job) for storage in storages if storage not in owners)


def _write_rest(root: Any, jobs: list[Job], stage: Path, text_file: str, data_file: str) -> None:
    """Write what is no network, and the fields of modules that could not be converted."""
    converted: dict[int, tuple[str, str]] = {}
    missing: dict[str, Any] = {}
    for job in jobs:
        if job.network is not None:
            file = (job.report.files or [f"{job.name}.py"])[0]
            converted[id(job.module)] = file, ""
        for layer in distinct(job.network) if job.network else ():
            if layer.origin is not None:
                converted.setdefault(id(layer.origin), (file, layer.path))
            if layer.make.func is emitted.Missing:
                missing[".".join(filter(None, (job.where, layer.path)))] = layer.origin
    if id(root) in converted and not missing:
        return
    rest = checkpoint.Rest(data_file, converted)
    (stage / text_file).write_text(rest.text(root, missing), "utf-8")
    if rest.tensors:
        write_safetensors(stage / data_file, rest.tensors)


def file_names(stem: str, paths: list[str]) -> dict[str, str]:
    """Names for the networks at these paths, each with its path."""
    names: dict[str, str] = {}
    for path in paths:
        words = "_".join(re.findall(r"\w+", path))[:_LONGEST_NAME]
        name = stem if len(paths) == 1 or not words else identifier(f"{stem}_{words}")
        while name in names:
            name += "_"
        names[name] = path
    return names


@contextlib.contextmanager
def _stage(folder: Path) -> Iterator[Path]:
    """A folder inside of `folder` for unfinished files; after an error nothing is left of what was made."""
    made = [new for new in (folder, *folder.parents) if not new.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".t7convert-", dir=folder) as name:
            yield Path(name)
    except BaseException:
        for new in made:
            with contextlib.suppress(OSError):
                new.rmdir()
        raise
