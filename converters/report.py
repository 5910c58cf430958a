"""What became of a file: the result of `convert`, as data and as text."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from converters.compare import Difference
from converters.native import Problem
from converters.replay import Replay


@dataclass
class Verification:
    """Old against new on random input: the largest difference and what is allowed, or why there is none."""

    outcome: Literal["verified", "deviates", "unverified", "skipped"] = "unverified"
    reason: str = ""
    input: str = ""
    output: str = ""
    largest: float | None = None
    allowed: float | None = None

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

    def __str__(self) -> str:
        if self.outcome in ("unverified", "skipped"):
            return f"not verified: {self.reason}"
        figures = (
            ""
            if self.largest is None
            else f"largest difference {self.largest:.2g}, allowed {self.allowed:.1g}"
        )
        what = f"on random input {self.input}"
        if self.outcome == "verified":
            return f"verified against the Torch network {what}: {figures}"
        return f"DEVIATES from the Torch network {what}: {self.reason or figures}"


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
