"""Programs in a Python process of their own: a fresh one for each, or one that is kept for many."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator

_OPTIONS = ("-I", "-B", "-c")
# It cannot import what the programs must do without, and has imported what they all need, which takes longer
# than most of them
_HOST = """
import json, sys, traceback
sys.modules["t7compat"] = sys.modules["converters"] = None
import torch
answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    program, *sys.argv[1:] = json.loads(line)
    failure = ""
    try:
        exec(program, {"__name__": "__main__"})
    except Exception:
        failure = traceback.format_exc()
    print(json.dumps(failure), file=answers, flush=True)
"""


class Host:
    """A Python process that runs one program after the other; one that dies is replaced by the next."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, *_OPTIONS, _HOST]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the text of a program to its end."""
        if self._child.poll() is not None:
            self._start()
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps([program, *arguments]) + "\n")
            child.stdin.flush()
        if answer := child.stdout.readline():
            failure = json.loads(answer)
            return subprocess.CompletedProcess(child.args, 1 if failure else 0, "", failure)
        child.communicate()  # it is at its end
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace")
        return subprocess.CompletedProcess(child.args, child.returncode, "", errors)

    def stop(self) -> None:
        """End the process."""
        self._child.kill()
        self._child.communicate()


_kept: list[Host] = []


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the text of a program: in a fresh interpreter, or within `kept()` in the one that is kept."""
    if _kept:
        return _kept[-1].run(program, *arguments)
    command = [sys.executable, *_OPTIONS, program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace")


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Within it all programs run in one interpreter, one after the other."""
    host = Host()
    _kept.append(host)
    try:
        yield
    finally:
        _kept.pop()
        host.stop()
