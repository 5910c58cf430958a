"""Shell completion, as the shells ask for it; and that it does not wait for PyTorch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import t7convert

from converters.formats import FORMATS
from converters.targets import SUFFIXES

WITHOUT_PYTORCH = "import sys; sys.modules['torch'] = None; from converters.cli import main; main()"
COMMANDS = ["batch", "completion", "convert", "diff", "inspect", "verify"]


def completed(line: str, shell: str = "bash") -> list[str]:
    """What the program answers when the cursor is at the end of a line."""
    words = line.split()
    begun = "" if line.endswith(" ") else words[-1]
    position = begun if shell == "fish" else str(len(words) - bool(begun))
    variables = {"_T7CONVERT_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": position}
    command = [sys.executable, "-c", WITHOUT_PYTORCH]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "answers"),
    [
        ("t7convert ins", ["file,ins", "plain,inspect"]),
        ("t7convert mod", ["file,mod"]),
        ("t7convert ", ["file,", *(f"plain,{name}" for name in COMMANDS)]),
        ("t7convert --in", ["plain,--input-shape"]),
        ("t7convert --li", ["plain,--list-supported"]),
        ("t7convert model.t7 --dr", ["plain,--dry-run"]),
        ("t7convert --to ", [f"plain,{name}" for name in FORMATS]),
        ("t7convert model.t7 --to py,o", ["plain,py,onnx"]),
        ("t7convert --to pt2,p", ["plain,pt2,py"]),
        ("t7convert batch --to t7", ["plain,t7", "plain,t7-ascii"]),
        ("t7convert batch a.t7 ", ["file,"]),
        ("t7convert batch -o ", ["dir,"]),
        ("t7convert inspect mod", ["file,mod"]),
        ("t7convert inspect model.t7 --ht", ["plain,--html"]),
        ("t7convert completion f", ["plain,fish"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_answers(line: str, answers: list[str]) -> None:
    assert completed(line) == answers


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_answers_for_other_shells(shell: str) -> None:
    text = "\n".join(completed("t7convert --to py,o", shell))
    assert "py,onnx" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script(shell: str) -> None:
    result = t7convert("completion", shell)
    assert result.exit_code == 0
    assert f"_T7CONVERT_COMPLETE={shell}_complete" in result.stdout
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=result.stdout, text=True, check=True)


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_in_bash(tmp_path: Path) -> None:
    """The shell's own way from words to answers, with the program under its name."""
    program = tmp_path / "t7convert"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m converters "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(t7convert completion bash)"
        compopt() { :; }
        COMP_WORDS=(t7convert model.t7 --to py,o) COMP_CWORD=3
        _t7convert_completion t7convert
        echo "${COMPREPLY[@]}"
    """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("py,onnx\n", "")


def test_formats_are_those_of_the_table() -> None:
    assert {name: row.suffix for name, row in FORMATS.items()} == SUFFIXES


@pytest.mark.parametrize("arguments", [["--help"], ["batch", "--help"], ["inspect", "--help"], ["--version"]])
def test_help_does_without_pytorch(arguments: list[str]) -> None:
    command = [sys.executable, "-c", WITHOUT_PYTORCH, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "t7convert" in done.stdout
