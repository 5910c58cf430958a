"""What became of a file: the result of `convert`, as data and as text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from converters.compare import Difference
from converters.native import Problem
from converters.replay import Replay


@dataclass
class Gradients:
    """The gradients of the input and of all parameters, old against new, or why they were not compared.

    `largest` and `allowed` are those of the tensor that is farthest from what is allowed, which is `at`.
    """

    outcome: Literal["verified", "deviates", "skipped"] = "skipped"
    reason: str = "there are none"
    compared: int = 0  # tensors
    at: str = ""
    largest: float | None = None
    allowed: float | None = None
    without: list[str] = field(default_factory=list)  # the classes whose penalties were left out

    def judge(self, apart: Mapping[str, Difference]) -> None:
        """Set the outcome by how far the gradients of all tensors, by name, are apart."""
        self.compared = len(apart)
        if not apart:
            return
        self.at, worst = max(apart.items(), key=lambda item: item[1].excess)
        self.outcome, self.reason = "verified" if worst.within else "deviates", worst.problem
        if math.isfinite(worst.largest):
            self.largest, self.allowed = worst.largest, worst.allowed

    def __str__(self) -> str:
        if self.outcome == "skipped":
            return f"gradients not compared: {self.reason}"
        at = f" at {self.at}" if self.outcome == "deviates" and self.at else ""
        left_out = f" (without the penalty of {', '.join(self.without)})" if self.without else ""
        return f"gradients: {self.reason or _figures(self)}{at}{left_out}"


@dataclass
class Verification:
    """Old against new on random input: the largest difference and what is allowed, or why there is none."""

    outcome: Literal["verified", "deviates", "unverified", "skipped"] = "unverified"
    reason: str = ""
    input: str = ""
    output: str = ""
    largest: float | None = None
    allowed: float | None = None
    gradients: Gradients | None = None  # if these are compared, too

    @property
    def is_fine(self) -> bool:
        """Whether there is nothing to warn of."""
        return self.outcome in ("verified", "skipped")

    def judge(self, apart: Difference) -> None:
        """Set the outcome by how far old and new are apart."""
        self.outcome, self.reason = "verified" if apart.within else "deviates", apart.problem
        if math.isfinite(apart.largest):
            self.largest, self.allowed = apart.largest, apart.allowed

    def rehearse(self) -> None:
        """Set the outcome of a dry run, which looks for an input and compares nothing."""
        if self.outcome == "unverified" and not self.reason:
            self.outcome, self.reason = "skipped", f"this is a dry run; the input would be {self.input}"

    def judge_gradients(self, found: Gradients) -> None:
        """Note how far the gradients are apart, which may be too far."""
        self.gradients = found
        if found.outcome == "deviates":
            self.outcome, self.reason = "deviates", str(found)

    def __str__(self) -> str:
        if self.outcome in ("unverified", "skipped"):
            return f"not verified: {self.reason}"
        figures = _figures(self)
        what = f"on random input {self.input}"
        if self.outcome == "verified":
            return f"verified against the Torch network {what}: {figures}"
        return f"DEVIATES from the Torch network {what}: {self.reason or figures}"


def _figures(found: Verification | Gradients) -> str:
    if found.largest is None:
        return "a difference that is not finite" if found.outcome == "deviates" else ""
    return f"largest difference {found.largest:.2g}, allowed {found.allowed:.1g}"


@dataclass
class NetworkReport:
    """One network: where it is in the file, what was written, what could not be converted, and the proof."""

    name: str
    path: str
    typename: str
    tree: str
    parameters: int
    files: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verification: Verification = field(default_factory=Verification)
    replay: Replay = field(default_factory=Replay)
    exports: dict[str, Verification] = field(default_factory=dict)  # the proof of other files, by target

    @property
    def deviates(self) -> bool:
        """Whether the network gives something else than the Torch network does, or did."""
        return any(proof.outcome == "deviates" for proof in self.proofs) or (
            bool(self.replay.deviating) and not self.replay.updated
        )

    @property
    def unfinished(self) -> bool:
        """Whether something could not be converted or compared."""
        return bool(self.problems) or any(proof.outcome == "unverified" for proof in self.proofs)

    @property
    def proofs(self) -> list[Verification]:
        return [self.verification, *self.exports.values()]

    @property
    def results(self) -> list[str]:
        """What was proven, in words."""
        found = self.verification
        lines = [str(found)] if found.outcome == "verified" or (found.is_fine and found.reason) else []
        lines += [str(found.gradients)] if found.is_fine and found.gradients else []
        if self.replay.compared and not self.replay.deviating:
            lines.append(f"replayed {self.replay}: largest difference {self.replay.largest:.2g}")
        lines += [f"not replayed: {count} that {reason}" for reason, count in self.replay.skipped.items()]
        return lines + [f"{name}: {proof}" for name, proof in self.exports.items() if proof.is_fine]

    @property
    def warnings(self) -> list[str]:
        """What the user should know, in words."""
        lines = [f"not converted: {problem}" for problem in self.problems]
        if not self.verification.is_fine:
            lines.append(str(self.verification))
        lines += [f"{name}: {proof}" for name, proof in self.exports.items() if not proof.is_fine]
        if self.replay.deviating:
            first, apart = next(iter(self.replay.deviating.items()))
            reason = " (weights that changed after the last forward do that)" if self.replay.updated else ""
            lines.append(
                f"{len(self.replay.deviating)} of {self.replay} deviate{reason}; first {first}: {apart}"
            )
        return lines + self.notes


@dataclass
class Report:
    """What became of a file."""

    source: str
    folder: str
    networks: list[NetworkReport]
    files: list[str]  # those that belong to no network
    problems: list[Problem]  # outside of networks
    notes: list[str]
    dry_run: bool = False  # nothing was written
    contents: dict[str, int] = field(default_factory=dict)  # in a dry run: bytes of numbers or text by file

    @property
    def status(self) -> int:
        """The exit status: 0 fine, 1 something is not converted or verified, 3 a difference is too large."""
        if any(network.deviates for network in self.networks):
            return 3
        unfinished = any(network.unfinished for network in self.networks)
        return 1 if unfinished or self.problems or self.notes else 0

    @property
    def warnings(self) -> list[str]:
        """What the user should know, in words."""
        lines = [*self.notes, *(f"not converted: {problem}" for problem in self.problems)]
        for network in self.networks:
            place = f"{network.path}: " if network.path else ""
            lines += [place + warning for warning in network.warnings]
        return lines

    def as_dict(self) -> dict[str, Any]:
        """The form that `t7convert --json` prints."""
        return {**dataclasses.asdict(self), "status": self.status}
