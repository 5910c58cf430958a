"""Programs in other interpreters, fresh and kept."""

from __future__ import annotations

from pathlib import Path

from converters import interpreter

ALONE = "import sys, t7compat"
COUNT = "import os, sys; open(sys.argv[1], 'a').write(f'{os.getpid()} ')"


def test_they_have_nothing_of_the_project() -> None:
    with interpreter.kept():
        done = interpreter.run(ALONE)
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_one_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "numbers"
    for _ in range(2):
        with interpreter.kept():
            assert [interpreter.run(COUNT, str(file)).returncode for _ in range(2)] == [0, 0]
    assert interpreter.run(COUNT, str(file)).returncode == 0
    first, second, third, fourth, fifth = file.read_text().split()
    assert first == second != third == fourth != fifth


def test_one_that_dies_is_replaced() -> None:
    with interpreter.kept():
        done = interpreter.run("import os, sys; print('dying', file=sys.stderr, flush=True); os._exit(7)")
        assert (done.returncode, done.stderr.strip()) == (7, "dying")
        assert interpreter.run("pass").returncode == 0
