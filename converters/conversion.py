"""The whole way from a .t7 file to verified PyTorch source."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from converters import checkpoint, emitted, interrupts, samples, values, verify
from converters.formats import Format, chosen
from converters.job import Job, Sizes
from converters.naming import STAGE, identifier, printable
from converters.report import Report
from converters.source import distinct
from converters.weights import Place, Tensors, write_safetensors
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
    dry_run: bool = False,
    progress: Callable[[str], Any] = lambda what: None,
) -> Report:
    """Write the networks of a .t7 file in the formats `to`, the rest as NAME.json; prove it.

    By default NAME.py and NAME.safetensors are written; `to` is one name of `formats.FORMATS`, or several.
    The files go to the folder `output` (by default that of the file); existing ones are replaced only with
    `force`. `input_shape` ("3x4", or "3x4,3x5" for a table) is the size of the input for the proof, if it
    cannot be found; without `check` there is no proof.  With `dry_run` nothing is written, and the report
    says what would be.  `progress` is called with what is being done.  Raises T7Error or OSError if the file
    cannot be converted, and then leaves nothing behind.
    """
    path = Path(path)
    folder = path.parent if output is None else Path(output)
    rows = chosen([to] if isinstance(to, str) else to)
    sizes = samples.parse(input_shape) if input_shape else None
    progress(f"reading {path.name}")
    conversion = _Conversion(path, folder, rows, check, force)
    if dry_run:
        return conversion.rehearsed(sizes)
    return conversion.done(sizes, progress)


class _Conversion:
    """A file that was read, and what is to become of it."""

    def __init__(
        self, path: Path, folder: Path, rows: Mapping[str, Format], check: bool, force: bool
    ) -> None:
        self.path, self.folder, self.rows, self.force = path, folder, rows, force
        self.root, self.notes = read(path)
        self.stem = identifier(path.stem)
        found = checkpoint.networks(self.root)
        _expect_possible(path, rows, bool(found))
        names = file_names(self.stem, list(found))
        self.jobs = [Job(path.name, name, at, found[at], rows, check) for name, at in names.items()]
        # The files that belong to no network
        self.own = [self._file(row) for row in rows.values() if row.whole or (row.data and not found)]
        self._expect_free([*(name for job in self.jobs for name in job.files), *self.own])

    def done(self, sizes: Sizes | None, progress: Callable[[str], Any]) -> Report:
        """Write and prove all files."""
        _expect_writable(self.folder)
        with _stage(self.folder) as stage:
            self._write_networks(stage, sizes, progress)
            if not self.jobs:
                self._write_values(stage, progress)
            for name, row in self.rows.items():
                if row.whole:
                    progress(f"writing {self._file(row)}")
                    row.whole(stage / self._file(row), self.root)
                    self._prove_resaved(name, stage / self._file(row))
            written = self._all_files()
            with interrupts.postponed():  # all files, or none
                for name in written:
                    os.replace(stage / name, self.folder / name)
        _note_shared_weights(self.jobs)
        return self._report()

    def rehearsed(self, sizes: Sizes | None) -> Report:
        """Convert the networks, and write nothing."""
        _expect_writable(self.folder)
        whole = [name for name, row in self.rows.items() if row.whole]
        owners: dict[Place, str] = {}
        contents: dict[str, int] = {}
        for job in self.jobs:
            job.convert(sizes, owners)
            job.rehearse(whole)
            contents |= job.contents()
        texts, tensors = self._rest()
        contents |= {name: len(text.encode()) for name, text in texts.items()}
        contents |= {name: sum(x.nbytes for x in content.values()) for name, content in tensors.items()}
        self.own += [*texts, *tensors]
        if not self.jobs and any(row.data for row in self.rows.values()):
            self.notes += values.flat(self.root)[1]
        self._all_files()
        _note_shared_weights(self.jobs)
        report = self._report()
        report.dry_run, report.contents = True, contents
        return report

    def _report(self) -> Report:
        networks, unknown = [job.report for job in self.jobs], checkpoint.unknown(self.root)
        return Report(str(self.path), str(self.folder), networks, self.own, unknown, self.notes)

    # ---- the files

    def _file(self, row: Format) -> str:
        return f"{self.stem}{row.suffix}"

    def _all_files(self) -> list[str]:
        """The names of all files.  T7Error if there are none, or one of them cannot be written."""
        files = [*(name for job in self.jobs for name in job.report.files), *self.own]
        if not files:
            raise T7Error("; ".join(str(problem) for job in self.jobs for problem in job.report.problems))
        self._expect_free(files)
        return files

    def _expect_free(self, names: list[str]) -> None:
        """Raise T7Error unless files of these names can be written: not over others, if not with `force`."""
        for target in (self.folder / name for name in names):
            place = printable(str(target))
            if target.is_dir():
                raise T7Error(f"{place} is a folder, and a file of this name is to be written")
            if target.exists() and target.samefile(self.path):
                raise T7Error(f"{place} is the file to convert; -o DIR writes elsewhere")
            if target.exists() and not self.force:
                raise T7Error(f"{place} exists already; --force replaces it")

    # ---- networks

    def _write_networks(self, stage: Path, sizes: Sizes | None, progress: Callable[[str], Any]) -> None:
        """Write the networks and the rest of the file."""
        owners: dict[Place, str] = {}
        for job in self.jobs:
            progress(f"converting {job.where or job.file}")
            job.convert(sizes, owners)
            job.write(stage, progress)
        progress("comparing old and new")
        _verify([job for job in self.jobs if job.network is not None and job.check], stage)
        for job in self.jobs:
            job.write_source(stage)
            if job.check:
                job.prove_exports(stage)
        progress("writing what else there is")
        texts, tensors = self._rest()
        for name, text in texts.items():
            (stage / name).write_text(text, "utf-8")
        for name, content in tensors.items():
            write_safetensors(stage / name, content)
        self.own += [*texts, *tensors]

    def _prove_resaved(self, name: str, path: Path) -> None:
        if any(job.check for job in self.jobs):
            networks = checkpoint.networks(read(path)[0])
            for job in self.jobs:
                job.prove_resaved(name, networks.get(job.where))

    # ---- everything else

    def _write_values(self, stage: Path, progress: Callable[[str], Any]) -> None:
        """Write the values of a file without networks, and note what is not among them."""
        written = [row for row in self.rows.values() if row.data]
        found, notes = values.flat(self.root) if written else ({}, [])
        for row in written:
            assert row.data is not None
            progress(f"writing {self._file(row)}")
            row.data(stage / self._file(row), found)
        self.notes += notes

    def _rest(self) -> tuple[dict[str, str], dict[str, Tensors]]:
        """What is no network, and fields of modules that were not converted: texts and tensors by file."""
        if not any(job.rows for job in self.jobs):
            return {}, {}
        converted: dict[int, tuple[str, str]] = {}
        missing: dict[str, Any] = {}
        for job in self.jobs:
            if job.network is not None:
                file = (job.report.files or [f"{job.name}.py"])[0]
                converted[id(job.module)] = file, ""
            for layer in distinct(job.network) if job.network else ():
                if layer.origin is not None:
                    converted.setdefault(id(layer.origin), (file, layer.path))
                if layer.make.func is emitted.Missing:
                    missing[".".join(filter(None, (job.where, layer.path)))] = layer.origin
        if id(self.root) in converted and not missing:
            return {}, {}
        data_file = f"{self.stem}.data.safetensors"
        rest = checkpoint.Rest(data_file, converted)
        texts = {f"{self.stem}.json": rest.text(self.root, missing)}
        return texts, {data_file: rest.tensors} if rest.tensors else {}


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


def _verify(jobs: list[Job], stage: Path) -> None:
    """Run the written networks on the samples, and note how far they are from the Torch networks."""
    results = verify.in_fresh_process(stage, {job.name: job.given for job in jobs})
    for job in jobs:
        job.prove(results[job.name])


def _note_shared_weights(jobs: list[Job]) -> None:
    """Note which networks have weights in common in the file: the written ones have not."""
    owners: dict[int, Job] = {}
    for job in jobs:
        tensors = job.network.tensors().values() if job.network else ()
        storages = {tensor.untyped_storage()._cdata for tensor in tensors if tensor.numel()}
        for other in {owners[storage].name: None for storage in storages if storage in owners}:
            job.report.notes.append(f"has weights in common with {other}, which are written for each of them")
        owners.update((storage, job) for storage in storages if storage not in owners)


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


def _expect_writable(folder: Path) -> None:
    """Raise OSError if files cannot be made in a folder, or the folder itself cannot."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


@contextlib.contextmanager
def _stage(folder: Path) -> Iterator[Path]:
    """A folder inside of `folder` for unfinished files; after an error nothing is left of what was made."""
    made = [new for new in (folder, *folder.parents) if not new.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f"{STAGE}{os.getpid()}-", dir=folder) as name:
            yield Path(name)
    except BaseException:
        for new in made:
            with contextlib.suppress(OSError):
                new.rmdir()
        raise
