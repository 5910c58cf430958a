"""The conversion of one network of a file: its plan, its files, and the proof of each."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from converters import gradients, graph_samples, verify
from converters.compare import difference
from converters.exports import single
from converters.formats import FORMATS, Export, Format
from converters.graphs import as_network
from converters.native import FAILURES, Layer, Plan, Problem, is_stateful
from converters.replay import replay
from converters.report import NetworkReport, Verification
from converters.tree import count_parameters
from converters.trial import disagreeing
from converters.weights import Place, place_of
from t7compat.errors import T7Error
from t7compat.nested import type_name
from t7compat.nn.shapes import describe
from t7compat.table import leaves

Sizes = list[tuple[int, ...]]
_PROVEN = ("py", "safetensors")  # the files with which the fresh interpreter proves the network


class Job:
    """One network, which is to be written in the formats of `rows`; with `check` it is compared, too."""

    def __init__(
        self, file: str, name: str, where: str, module: Any, rows: Mapping[str, Format], check: bool
    ) -> None:
        self.file, self.name, self.where, self.module = file, name, where, module
        self.check = check
        self.rows = {key: row for key, row in rows.items() if row.network}
        if "py" in self.rows:
            self.rows["safetensors"] = FORMATS["safetensors"]
        self.export: Export | None = None
        self.sample: verify.Sample | None = None
        self.backward: gradients.Backward | str = ""  # that of the sample, or why there is none
        self.written: frozenset[int] = frozenset()  # as for Plan
        self.report = NetworkReport(name, where, type_name(module), _text(module), count_parameters(module))

    @property
    def files(self) -> list[str]:
        return [self._file(row) for row in self.rows.values()]

    @property
    def network(self) -> Layer | None:
        """The converted network."""
        return self.export.network if self.export else None

    def _file(self, row: Format) -> str:
        return f"{self.name}{row.suffix}"

    # ---- writing

    def convert(self, sizes: Sizes | None, owners: dict[Place, str]) -> None:
        """Plan the network, and find an input for it.

        `owners` has the tensors that were written already, with their places.
        """
        try:
            plan = self._plan(sizes)
            network = as_network(plan.root)
            if self.check and self.rows:
                self.report.replay = replay(network)
        except (T7Error, *FAILURES) as error:  # a network that cannot be, such as one that contains itself
            self.sample, self.report.verification.reason = None, "it was not converted"
            self.report.problems.append(Problem("", self.report.typename, str(error)))
            return
        if not self.rows:  # the file is only saved again
            self.report.verification.outcome = "skipped"
            return
        self.export = Export(network, self.sample and self.sample.input, self._run)
        self.report.problems += plan.problems.values()
        self.report.notes += plan.notes
        self.export.metadata = self._shared(network, owners)
        self.export.about = self._about()

    def write(self, stage: Path | None, progress: Callable[[str], Any] = lambda what: None) -> None:
        """Write the files of the network, each of which `progress` is told.

        Without a folder for them only tell which these are.
        """
        if self.export is not None:
            for name in dict.fromkeys((*self.rows, *(_PROVEN if self.check and stage else ()))):
                progress(f"writing {self._file(FORMATS[name])}")
                self._write(name, self.export, stage)

    def _write(self, name: str, export: Export, stage: Path | None) -> None:
        row = FORMATS[name]
        assert row.network is not None
        target = stage and stage / self._file(row)
        if row.recorded:
            try:
                if self.sample is None:
                    raise T7Error(f"no input to record a run with: {self.report.verification.reason}")
                if target is None:
                    row.recorded(export)
                else:
                    row.network(target, export)
            except Exception as error:  # PyTorch's exporters raise all kinds of them
                reason = f"to {name}: {_first_line(error)}"
                self.report.problems.append(Problem("", self.report.typename, reason))
                if target is not None:
                    target.unlink(missing_ok=True)
                return
        elif target is not None:
            row.network(target, export)
        if name in self.rows:
            self.report.files.append(self._file(row))
            beside = f"{self._file(row)}.data"  # the weights of a large ONNX graph
            if stage is not None and (stage / beside).exists():
                self.report.files.append(beside)

    def _plan(self, sizes: Sizes | None) -> Plan:
        """The plan that is right for an input, if there is one, which is then the sample."""
        plan, found = Plan(self.module, frozenset()), self.report.verification
        if not self.check:
            found.outcome, found.reason = "skipped", "as was asked for"
            if not any(row.recorded for row in self.rows.values()):
                return Plan(self.module)
        if plan.problems:
            found.reason = "not all of it was converted"
            return Plan(self.module)
        with verify.preserved(self.module):
            wishes = graph_samples.wishes(self.module, plan.root)
            self.sample = verify.sampled(self.module, sizes, wishes, found)
            if self.sample is None:
                return Plan(self.module)
            self.written = disagreeing(plan, self.sample.input)
            if self.check:
                self.backward = gradients.backward(self.module, self.sample.input, self.sample.output)
        return Plan(self.module, self.written)

    def _shared(self, network: Layer, owners: dict[Place, str]) -> dict[str, str]:
        """Which tensors are the same memory as others, in this network or in one that was written before."""
        prefix, shared = f"{self.name}{FORMATS['safetensors'].suffix}/", {}
        for name, tensor in network.tensors().items():
            first = owners.setdefault(place_of(tensor), prefix + name) if tensor.numel() else prefix + name
            if first != prefix + name:
                shared[name] = first.removeprefix(prefix)
        return shared

    def rehearse(self, whole: Iterable[str]) -> None:
        """Note which files and proofs there would be; `whole` are the formats of whole files."""
        self.write(None)
        files = self.report.files
        proven = [name for name, row in self.rows.items() if row.output and self._file(row) in files]
        for name in (*proven, *whole) if self.check else ():
            self.report.exports[name] = self._unproven()
        for proof in self.report.proofs:
            proof.rehearse()

    def contents(self) -> dict[str, int]:
        """How many bytes of weights there are for the files of weights, each counted once."""
        tensors = self.network.tensors().values() if self.network else ()
        size = sum({place_of(tensor): tensor.nbytes for tensor in tensors}.values())
        kinds = (row for name, row in self.rows.items() if name != "py" and not row.recorded)
        return {self._file(row): size for row in kinds}

    def write_source(self, stage: Path) -> None:
        """Write NAME.py again, with what is known by now in its docstring."""
        row = self.rows.get("py")
        if self.export is not None and row is not None and row.network is not None:
            self.export.about = self._about()
            row.network(stage / self._file(row), self.export)

    def _about(self) -> list[str]:
        report, found = self.report, self.report.verification
        place = f" ({self.where})" if self.where else ""
        lines = [f"{self.report.typename} of {self.file}{place}, converted from Lua Torch7.", ""]
        if found.input:
            output = re.sub(r"torch\.\w+ of size ", "", found.output)
            lines += [f"Input, for example: {_in_tuples(found.input)}", f"Output: {_in_tuples(output)}"]
        if not found.input or "indices" in found.input:
            lines.append("Indices in tensors count from 1, as in Lua.")
        lines += ["", *(_in_tuples(f"{_begun(line)}.") for line in report.results)]
        lines += [f"{_begun(line)}." for line in report.warnings]
        lines = [
            part for line in lines for part in textwrap.wrap(line, 100, subsequent_indent="    ") or [""]
        ]
        lines += ["", f"    from {self.name} import load", ""]
        lines.append("    network = load()")
        if self.network is not None and is_stateful(self.network):
            lines.append("    output, state = network(input)")
            lines.append("    output, state = network(more, state)  # goes on")
        else:
            lines.append("    output = network(input)")
        return lines

    # ---- the proof

    @property
    def given(self) -> tuple[Any, Any]:
        """The input for the written network, and the gradient of its output; None where there is none."""
        slope = None if isinstance(self.backward, str) else self.backward.gradient
        return self.sample and self.sample.input, slope

    def prove(self, result: Mapping[str, Any]) -> None:
        """Compare what the written network gave with the Torch network."""
        found, output = self.report.verification, result["output"]
        if isinstance(output, str):
            found.outcome, found.reason = "deviates", f"the written network fails: {output}"
        elif self.sample is not None:
            found.judge(difference(output, self.sample.output))
            slopes = result.get("gradients")
            found.judge_gradients(gradients.compared(self.module, self.written, self.backward, slopes))

    def prove_exports(self, stage: Path) -> None:
        """Compare what the other files give with the output of the Torch network."""
        for name, row in self.rows.items():
            if row.output and self._file(row) in self.report.files:
                self.report.exports[name] = self._proof(row, stage / self._file(row))

    def prove_resaved(self, name: str, module: Any) -> None:
        """Compare the network in the file that was saved again."""
        found, sample = self._unproven(), self.sample
        self.report.exports[name] = found
        if sample is not None:
            _judge(found, lambda: verify.run(module, sample.input), sample.output)

    def _run(self, input: Any) -> Any:
        with verify.preserved(self.module):
            return verify.run(self.module, input)

    def _unproven(self) -> Verification:
        known = self.report.verification
        return Verification(reason=known.reason, input=known.input, output=known.output)

    def _proof(self, row: Format, path: Path) -> Verification:
        found, sample, export = self._unproven(), self.sample, self.export
        if sample is None or row.output is None or export is None:
            return found
        output, change = row.output, single if row.is_single else _unchanged
        input = change(sample.input)
        found.output = describe(change(sample.output))
        _judge(found, lambda: output(path, export, input), change(sample.output))
        recorded = row.recorded(export) if row.recorded else None
        if recorded and (sizes := recorded.sizes(input)):
            found.input += f" (of sizes {sizes})"
        return found


def _judge(found: Verification, run: Callable[[], Any], want: Any) -> None:
    """Note how far the output of `run` is from the one that is wanted."""
    try:
        with torch.no_grad():
            got = run()
    except Exception as error:  # runtimes have errors of their own
        found.outcome, found.reason = "deviates", f"the written file fails: {_first_line(error)}"
        return
    found.judge(difference(tuple(leaves(got)), tuple(leaves(want))))


def _in_tuples(text: str) -> str:
    """A text with Torch's tables as tuples."""
    return text.translate(str.maketrans("{}", "()"))


def _begun(sentence: str) -> str:
    """A sentence, which begins with a capital unless with the place of a module."""
    return sentence if re.match(r"\w*[.\[]", sentence) else sentence[:1].upper() + sentence[1:]


def _unchanged(value: Any) -> Any:
    return value


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _text(module: Any) -> str:
    """The text that Torch prints for a module; its class, if its fields are not those of the class."""
    try:
        return str(module)
    except (RecursionError, *FAILURES):
        return type_name(module)
