"""Processes that convert one file after the other.

A process may die of a file, when memory runs out for example; that is the failure of this file only.  This
module needs no PyTorch: the workers import it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters import interpreter, interrupts
from converters.batch import Task
from converters.messages import explained
from converters.naming import STAGE, printable

if TYPE_CHECKING:
    from converters.report import Report

FAILED = 2  # the status of a file for which nothing was written
_PATIENCE = 3  # seconds that workers have to tidy up when they are stopped
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_IS_POSIX = os.name == "posix"
_KILL = signal.SIGKILL if _IS_POSIX else signal.SIGTERM


@dataclass
class Result:
    """What became of a file: its exit status, the outcome and the first warning in words, and the report.

    The outcome is one of verified, written (without a proof), unverified, incomplete (all is proven, but
    something in the file was not converted), deviates and failed; and convertible in a dry run.
    """

    source: str
    status: int
    outcome: str
    reason: str = ""
    largest: float | None = None
    seconds: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)
    trace: str = ""

    @classmethod
    def failed(cls, source: str, reason: str, seconds: float = 0.0, trace: str = "") -> Result:
        """The result for a file that could not be converted."""
        reason = printable(reason.removeprefix(f"{source}: "))
        report = {"source": source, "status": FAILED, "error": reason}
        return cls(source, FAILED, "failed", reason, None, seconds, report, trace)

    @property
    def files(self) -> list[Path]:
        """What was written."""
        parts = (self.report, *self.report.get("networks", ()))
        return [Path(self.report["folder"], name) for part in parts for name in part.get("files", ())]


def run(
    tasks: Sequence[Task], options: Mapping[str, Any], jobs: int, done: Callable[[Result], Any]
) -> list[Result]:
    """Convert files in up to `jobs` processes of one thread each; the results are in the order of the tasks.

    `options` are those of `converters.convert`.  `done` is called with each result when it is there.
    """
    results: dict[Task, Result] = {}
    pending = sorted(tasks, key=_size)  # the largest is the first that is taken
    workers: list[Worker] = []
    with _folders([] if options.get("dry_run") else [task.folder for task in tasks]):
        try:
            while len(results) < len(tasks):
                workers = [w for w in workers if w.task is not None or w.process.is_alive()]
                idle = [worker for worker in workers if worker.task is None]
                while pending and len(workers) - len(idle) < jobs:
                    if not idle:
                        idle.append(Worker(options))
                        workers.append(idle[0])
                    idle.pop().give(pending.pop())
                busy = {worker.channel: worker for worker in workers if worker.task is not None}
                for channel in wait(list(busy)):
                    worker = busy[channel]  # type: ignore[index]
                    assert worker.task is not None
                    task, result = worker.task, worker.result()
                    if worker.is_dead:
                        workers.remove(worker)
                    results[task] = result
                    done(result)
        finally:
            with interrupts.postponed():
                stop(workers)
    return _disputed([results[task] for task in tasks])


def _size(task: Task) -> int:
    try:
        return task.source.stat().st_size
    except OSError:
        return 0


def _disputed(results: list[Result]) -> list[Result]:
    """The results; those of files that wrote the same file, one over the other, as failures."""
    owners: dict[Path, list[str]] = {}
    for result in results:
        for path in result.files:
            owners.setdefault(path, []).append(result.source)

    def judged(result: Result) -> Result:
        for path in result.files:
            if others := [source for source in owners[path] if source != result.source]:
                reason = f"{path} is what {others[0]} becomes, too: convert them to different folders"
                return Result.failed(result.source, reason, result.seconds)
        return result

    return [judged(result) for result in results]


@contextlib.contextmanager
def _folders(folders: list[Path]) -> Iterator[None]:
    """Make folders; at the end those that nothing was written to go away again."""
    made = {new for folder in folders for new in (folder, *folder.parents) if not os.path.exists(new)}
    for new in sorted(made):
        with contextlib.suppress(OSError):  # it is told when a file is converted
            new.mkdir(exist_ok=True)
    try:
        yield
    finally:
        for new in sorted(made, reverse=True):
            with contextlib.suppress(OSError):
                new.rmdir()


# ---- a worker, seen from outside


class Worker:
    """A process, and the task that it has at present."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.task: Task | None = None
        self.is_dead = False
        self.channel, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, dict(options)), daemon=True)
        with _inherited_by_workers():
            self.process.start()
        other.close()

    def give(self, task: Task) -> None:
        """Let it convert a file."""
        self.task, self.begin = task, time.monotonic()
        with contextlib.suppress(OSError):  # it is dead, as the answer will show
            self.channel.send(task)

    def result(self) -> Result:
        """Its answer; that it died is one, too."""
        assert self.task is not None
        try:
            result: Result = self.channel.recv()
        except (EOFError, OSError):
            self.is_dead = True
            self.process.join(_PATIENCE)
            reason = _cause_of_death(self.process.exitcode)
            result = Result.failed(str(self.task.source), reason, time.monotonic() - self.begin)
            stop([self])
        self.task = None
        return result

    def signal(self, number: int) -> None:
        """Send a signal to the process and those that it started."""
        if not _IS_POSIX:
            self.process.terminate()
        elif self.process.pid is not None:
            for send in (os.killpg, os.kill):  # the group does not exist in the first moments
                with contextlib.suppress(OSError):
                    send(self.process.pid, number)


def stop(workers: Sequence[Worker]) -> None:
    """End processes, and remove what they left unfinished."""
    for worker in workers:
        worker.signal(signal.SIGTERM if worker.task else _KILL)
    end = time.monotonic() + _PATIENCE
    for worker in workers:
        worker.process.join(max(0, end - time.monotonic()))
        worker.signal(_KILL)
        worker.process.join()
        if worker.task is not None:
            for left in worker.task.folder.glob(f"{STAGE}{worker.process.pid}-*"):
                shutil.rmtree(left, ignore_errors=True)


def _cause_of_death(code: int | None) -> str:
    if code == -_KILL:
        return "its worker was killed, as the system does when memory runs out"
    if code is not None and (code < 0 or code > interrupts.STATUS):
        return f"its worker ended: {signal.strsignal(-code if code < 0 else code - interrupts.STATUS)}"
    return f"its worker ended with exit status {code}"


@contextlib.contextmanager
def _inherited_by_workers() -> Iterator[None]:
    """Within it processes are started: with one thread each, and out of the reach of Ctrl-C."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if _IS_POSIX else ()
    try:
        yield
    finally:
        if _IS_POSIX:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({name: value} if value is not None else {})


# ---- a worker, seen from inside


def _work(channel: Connection, options: dict[str, Any]) -> None:
    """Convert files until there are no more."""
    if _IS_POSIX:
        os.setpgid(0, 0)  # with the processes that it starts
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # stdout is for what the command prints
    needs_proof = options["check"] and not options["dry_run"]
    with (
        interrupts.as_exits(),
        interpreter.kept() if needs_proof else contextlib.nullcontext(),
        contextlib.suppress(EOFError, BrokenPipeError),
    ):
        import torch

        torch.set_num_threads(1)
        while True:
            channel.send(_converted(channel.recv(), options))


def _converted(task: Task, options: dict[str, Any]) -> Result:
    from converters.conversion import convert

    begin, source = time.monotonic(), str(task.source)
    try:
        report = convert(task.source, task.folder, **options)
    except Exception as error:
        seconds = time.monotonic() - begin
        return Result.failed(source, explained(error), seconds, traceback.format_exc())
    proofs = [proof for network in report.networks for proof in network.proofs]
    return Result(
        source,
        report.status,
        _outcome(report),
        printable(next(iter(report.warnings), "")),
        max((proof.largest for proof in proofs if proof.largest is not None), default=None),
        time.monotonic() - begin,
        report.as_dict(),
    )


def _outcome(report: Report) -> str:
    proofs = {proof.outcome for network in report.networks for proof in network.proofs}
    if any(network.deviates for network in report.networks):
        return "deviates"
    if "unverified" in proofs:
        return "unverified"
    if report.status:
        return "incomplete"
    if report.dry_run:
        return "convertible"
    return "verified" if "verified" in proofs else "written"
