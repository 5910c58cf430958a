"""The whole way from a .t7 file to verified PyTorch source."""

from __future__ import annotations

import contextlib
import math
import os
import re
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from converters import checkpoint, emitted, graph_samples, samples, verify
from converters.compare import difference
from converters.graphs import as_network
from converters.naming import identifier, printable
from converters.native import FAILURES, Layer, Plan, Problem, disagreeing
from converters.replay import replay
from converters.report import NetworkReport, Report
from converters.source import distinct, source
from converters.tree import count_parameters
from converters.weights import write_safetensors
from t7compat.errors import InputError, T7Error, T7FormatError
from t7compat.nested import type_name
from t7compat.nn.shapes import describe
from t7compat.t7file import load_all
from t7compat.t7file.reader import OnUpgrade
from t7compat.table import Table

_LONGEST_NAME = 100

Sizes = list[tuple[int, ...]]


def convert(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
    input_shape: str | None = None,
    progress: Callable[[str], Any] = lambda what: None,
) -> Report:
    """Write the networks of a .t7 file as NAME.py and NAME.safetensors, the rest as NAME.json; prove it.

    The files go to the folder `output` (by default that of the file); existing ones are replaced only with
    `force`. `input_shape` ("3x4", or "3x4,3x5" for a table) is the size of the input for the proof, if it
    cannot be found.  `progress` is called with what is being done.  Raises T7Error or OSError if the file
    cannot be converted, and then leaves nothing behind.
    """
    path = Path(path)
    folder = path.parent if output is None else Path(output)
    sizes = samples.parse(input_shape) if input_shape else None
    progress(f"reading {path.name}")
    root, notes = read(path)
    found = checkpoint.networks(root)
    if not found:
        raise T7Error(f"{printable(str(path))} holds no network; t7convert inspect shows what it holds")
    stem = identifier(path.stem)
    jobs = [
        Job(path.name, name, where, found[where]) for name, where in file_names(stem, list(found)).items()
    ]
    others = [f"{stem}.json", f"{stem}.data.safetensors"]
    _expect_free(folder, [name for job in jobs for name in job.files], path, force)
    with _stage(folder) as stage:
        for job in jobs:
            progress(f"converting {job.where or path.name}")
            job.convert(stage, sizes)
        progress("comparing old and new")
        _verify([job for job in jobs if job.network is not None], stage)
        for job in jobs:
            job.write_source(stage)
        progress("writing what else there is")
        _write_rest(root, jobs, stage, *others)
        own = [name for name in others if (stage / name).exists()]
        written = [*(name for job in jobs for name in job.report.files), *own]
        _expect_free(folder, written, path, force)
        for name in written:
            os.replace(stage / name, folder / name)
    _note_shared_weights(jobs)
    return Report(str(path), str(folder), [job.report for job in jobs], own, checkpoint.unknown(root), notes)


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


class Job:
    """The conversion of one network."""

    def __init__(self, file: str, name: str, where: str, module: Any) -> None:
        self.file, self.name, self.where, self.module = file, name, where, module
        self.network: Layer | None = None
        self.sample: verify.Sample | None = None
        self.report = NetworkReport(name, where, type_name(module), _text(module), count_parameters(module))

    @property
    def files(self) -> list[str]:
        return [f"{self.name}.py", f"{self.name}.safetensors"]

    def convert(self, stage: Path, sizes: Sizes | None) -> None:
        """Plan the network, find an input for it, and write its files."""
        try:
            plan = self._plan(sizes)
            network = as_network(plan.root)
            self.report.replay = replay(network)
        except (T7Error, *FAILURES) as error:  # a network that cannot be, such as one that contains itself
            self.sample, self.report.verification.reason = None, "it was not converted"
            self.report.problems.append(Problem("", self.report.typename, str(error)))
            return
        self.network = network
        self.report.problems += plan.problems.values()
        self.report.notes += plan.notes
        self.report.files = self.files
        write_safetensors(stage / f"{self.name}.safetensors", network.tensors())
        self.write_source(stage)

    def _plan(self, sizes: Sizes | None) -> Plan:
        """The plan that is right for an input, if there is one, which is then the sample."""
        plan, found = Plan(self.module), self.report.verification
        if plan.problems:
            found.reason = "not all of it was converted"
            return plan
        with verify.preserved(self.module):
            try:
                wishes = graph_samples.wishes(self.module, plan.root)
                shape = samples.shaped(sizes, wishes) if sizes else None
                sample = verify.sample(self.module, shape, wishes)
            except InputError as error:
                found.reason = str(error)
                return plan
            if sample is None:
                found.reason = "no input was found that it takes; give its size with --input-shape"
                return plan
            found.input, found.output = sample.shape, describe(sample.output)
            if sample.is_random or not sample.tells_something:
                random = "it draws random numbers in evaluation"
                found.reason = random if sample.is_random else "its output has no finite number"
                return plan
            self.sample = sample
            written = disagreeing(plan, sample.input)
        return Plan(self.module, written)

    def write_source(self, stage: Path) -> None:
        """Write NAME.py, with what is known by now in its docstring."""
        if self.network is not None:
            (stage / f"{self.name}.py").write_text(source(self.name, self._about(), self.network), "utf-8")

    def _about(self) -> list[str]:
        report, found = self.report, self.report.verification
        place = f" ({self.where})" if self.where else ""
        lines = [f"{self.report.typename} of {self.file}{place}, converted from Lua Torch7.", ""]
        if found.input:
            lines += [f"Input, for example: {found.input}", f"Output: {found.output}"]
        lines.append("Where Torch has a table, this is a tuple.  Indices in tensors count from 1, as in Lua.")
        lines += ["", *(line[0].upper() + line[1:] + "." for line in (*report.results, *report.warnings))]
        lines = [
            part for line in lines for part in textwrap.wrap(line, 100, subsequent_indent="    ") or [""]
        ]
        return [*lines, "", f"    from {self.name} import load", "", "    output = load()(input)"]


def _verify(jobs: list[Job], stage: Path) -> None:
    """Run the written networks on the samples, and note how far they are from the Torch networks."""
    inputs = {job.name: job.sample and job.sample.input for job in jobs}
    results = verify.in_fresh_process(stage, inputs)
    for job in jobs:
        found, result = job.report.verification, results[job.name]
        if isinstance(result, str):
            found.outcome, found.reason = "deviates", f"the written network fails: {result}"
        elif job.sample is not None:
            apart = difference(result, job.sample.output)
            found.outcome, found.reason = "verified" if apart.within else "deviates", apart.problem
            if math.isfinite(apart.largest):
                found.largest, found.allowed = apart.largest, apart.allowed


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
            converted[id(job.module)] = f"{job.name}.py", ""
        for layer in distinct(job.network) if job.network else ():
            if layer.origin is not None:
                converted.setdefault(id(layer.origin), (f"{job.name}.py", layer.path))
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


def _text(module: Any) -> str:
    """The text that Torch prints for a module; its class, if its fields are not those of the class."""
    try:
        return str(module)
    except (RecursionError, *FAILURES):
        return type_name(module)
