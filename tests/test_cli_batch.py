"""The command t7convert batch, with its processes, and --dry-run."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import mlp, odd, started, t7convert

import t7compat
from converters import workers
from converters.batch import Selection, Task, without_own_output
from t7compat import Table

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def tree(folder: Path) -> list[str]:
    """All files in a folder and in those below, hidden ones, too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with networks, and with what is none."""
    folder = tmp_path / "models"
    (folder / "old" / "deep").mkdir(parents=True)
    t7compat.save(folder / "a.t7", mlp())
    t7compat.save(folder / "old" / "b.net", Table(model=mlp(), epoch=3))
    t7compat.save(folder / "old" / "deep" / "c.T7", mlp(), format="ascii")
    t7compat.save(folder / "odd.t7", odd())
    (folder / "bad.t7").write_bytes(b"")
    (folder / "graph.net").write_text("*Vertices 3")  # of Pajek
    (folder / "notes.txt").write_text("notes")
    return folder


WRITTEN = [
    f"{name}{suffix}" for name in ("a", "odd", "old/b", "old/deep/c") for suffix in (".py", ".safetensors")
]


# ---- what is converted


def test_folder(models: Path, tmp_path: Path) -> None:
    result = t7convert("batch", models, "-o", tmp_path / "out", "--jobs", "2")
    assert result.exit_code == 2
    assert tree(tmp_path / "out") == sorted([*WRITTEN, "odd.json", "old/b.json"])
    rows = [line.removeprefix(f"{models}{os.sep}").split() for line in result.stdout.splitlines()[1:-1]]
    assert [row[:2] for row in rows] == [
        ["a.t7", "verified"],
        ["bad.t7", "failed"],
        ["odd.t7", "unverified"],
        [os.path.join("old", "b.net"), "verified"],
        [os.path.join("old", "deep", "c.T7"), "verified"],
    ]
    assert "the file is empty" in result.stdout
    assert "my.Layer" in result.stdout
    assert result.stdout.endswith("5 files: 3 verified, 1 failed, 1 unverified\n")
    assert sorted(line[:6] for line in result.stderr.splitlines()) == [f"[{i}/5] " for i in range(1, 6)]


def test_reports_as_json(models: Path) -> None:
    result = t7convert("batch", models / "a.t7", models / "none.t7", models / "odd.t7", "--json", "-qj1")
    a, none, odd = json.loads(result.stdout)
    assert result.exit_code == 2
    assert a["status"] == 0
    assert a["networks"][0]["verification"]["outcome"] == "verified"
    assert none == {"source": str(models / "none.t7"), "status": 2, "error": "No such file or directory"}
    assert odd["status"] == 1
    assert {"a.py", "odd.py"} <= set(tree(models))  # beside their sources


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["a.t7"], 0), (["a.t7", "odd.t7"], 1), (["odd.t7", "bad.t7"], 2), (["a.t7", "--to", "json"], 2)],
    ids=str,
)
def test_status_is_the_highest(
    arguments: list[str], status: int, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    result = t7convert("batch", *arguments, "--quiet", "--jobs", "1", "--no-verify")
    assert (result.exit_code, result.stdout) == (status, "")
    assert bool(result.stderr) == bool(status)


def sources(*paths: Path, output: Path | None = None, pattern: str | None = None) -> list[str]:
    """Which files a batch would convert."""
    selection = Selection(paths, output, pattern)
    assert selection.problems == {}
    return [task.source.name for task in without_own_output(selection.tasks)]


def test_which_files_are_chosen(models: Path) -> None:
    assert sources(models, pattern="*.t7") == ["a.t7", "bad.t7", "odd.t7"]
    assert sources(models, pattern="old/*") == ["b.net", "c.T7"]
    assert sources(models / "a.t7", models / "old" / ".." / "a.t7", models / "old") == [
        "a.t7",
        "b.net",
        "c.T7",
    ]
    (models / ".hidden").mkdir()
    t7compat.save(models / ".hidden" / "x.t7", mlp())
    t7compat.save(models / "old" / "deep" / "a.t7", mlp())
    assert sources(models, output=models / "old", pattern="a.t7") == ["a.t7"]


def test_what_was_saved_again_is_no_source(models: Path) -> None:
    """Whatever it is converted to; but it is converted if it is given itself."""
    for _ in range(2):
        result = t7convert("batch", models, "--pattern", "a*.t7", "--to", "t7,t7-ascii", "-f", "--no-verify")
        assert result.exit_code == 0, result.output
    assert [name for name in tree(models) if name.startswith("a")] == ["a.ascii.t7", "a.clean.t7", "a.t7"]
    assert sources(models, pattern="a*.t7") == ["a.t7"]
    assert sources(models, pattern="a*.t7", output=models / "out") == ["a.t7"]
    assert sources(models / "a.clean.t7") == sources(models, pattern="*.clean.t7") == ["a.clean.t7"]


@POSIX
def test_links_to_folders(models: Path, tmp_path: Path) -> None:
    """Each folder is entered once, under its own name if it can be."""
    (tmp_path / "far").mkdir()
    t7compat.save(tmp_path / "far" / "x.t7", mlp())
    for link, place in (("again", models / "old"), ("far", tmp_path / "far"), ("old/loop", models)):
        (models / link).symlink_to(place)
    out = tmp_path / "out"
    result = t7convert("batch", models, "-o", out, "--no-verify", "-qj1", "--pattern", "[!bo]*.[tT]7")
    assert result.exit_code == 0, result.stderr
    assert [name for name in tree(out) if name.endswith(".py")] == ["a.py", "far/x.py", "old/deep/c.py"]


# ---- what is refused before anything is written


def test_collisions(models: Path, tmp_path: Path) -> None:
    t7compat.save(models / "a.t7b", mlp())
    result = t7convert("batch", models, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert f"{models / 'a.t7'} and {models / 'a.t7b'} would be written to the same files" in result.stderr
    assert not (tmp_path / "out").exists()
    t7compat.save(models / "a.clean.t7", mlp())
    result = t7convert("batch", models / "a.t7", models / "a.clean.t7", "--to", "t7", "--force")
    assert result.exit_code == 2
    assert "a.clean.t7 is to be read, and would be written" in result.stderr


def test_written_over_by_another_file(tmp_path: Path) -> None:
    """Only when it is read does a file show that it becomes several."""
    t7compat.save(tmp_path / "lm.t7", Table(enc=mlp(), dec=mlp()))
    t7compat.save(tmp_path / "lm_enc.t7", mlp())
    result = t7convert("batch", tmp_path, "--force", "--no-verify", "--jobs", "1")
    assert result.exit_code == 2
    assert result.stdout.endswith("2 files: 2 failed\n")
    assert "lm_enc.py is what" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["empty"], ("empty", "holds no .t7 file", "--pattern")),
        (["empty", "--pattern", "*.x"], ("holds no *.x",)),
        ([], ("FILE_OR_FOLDER",)),
        (["a.t7", "--jobs", "0"], ("--jobs",)),
        (["a.t7", "--to", "py,keras"], ("keras",)),
        (["a.t7", "--input-shape", "3by"], ("3by",)),
        (["a.t7", "-o", "bad.t7"], ("bad.t7",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_usage(
    arguments: list[str], words: tuple[str, ...], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (models / "empty").mkdir()
    before = tree(models)
    monkeypatch.chdir(models)
    result = t7convert("batch", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("t7convert: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr
    assert tree(models) == before


def test_several_files_without_the_command(models: Path) -> None:
    for arguments in ([models / "a.t7", models / "odd.t7"], [models]):
        result = t7convert(*arguments)
        assert result.exit_code == 2
        assert "t7convert batch" in result.stderr


def test_folders_for_nothing_go_away(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    assert t7convert("batch", models, "--pattern", "bad*", "-o", out, "--no-verify").exit_code == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_folder_that_cannot_be_read(models: Path) -> None:
    (models / "old").chmod(0)
    result = t7convert("batch", models, "--pattern", "a.t7")
    (models / "old").chmod(0o700)
    assert result.exit_code == 2
    assert "Permission denied" in result.stdout
    assert "2 files: 1 failed, 1 verified" in result.stdout


# ---- processes that end early


@contextmanager
def running(*arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own."""
    with started(*arguments) as process:
        yield process


def until(found: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """What is found, as soon as there is something."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if result := found():
            return result
        time.sleep(0.01)
    raise AssertionError(f"nothing was found: {process.communicate()}")


@POSIX
def test_worker_that_is_killed(models: Path, tmp_path: Path) -> None:
    """Its file fails, and the others are converted by another worker."""
    out = tmp_path / "out"
    with running("batch", models / "a.t7", models / "odd.t7", "-o", out, "--jobs", "1", "--json") as process:
        (stage,) = until(lambda: list(out.glob(".t7convert-*")), process)
        os.kill(int(stage.name.split("-")[1]), signal.SIGKILL)
        reports = json.loads(process.communicate()[0])
    assert process.returncode == 2
    assert [report["status"] for report in reports] in ([1, 2], [0, 2], [2, 0], [2, 1])
    (failed,) = [report for report in reports if report["status"] == 2]
    assert "its worker was killed" in failed["error"]
    name = "odd" if Path(failed["source"]).name == "a.t7" else "a"
    assert {Path(file).stem for file in tree(out)} == {name}


@POSIX
def test_worker_that_is_ended(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running("batch", models / "a.t7", "-o", out, "--json", "-q") as process:
        (stage,) = until(lambda: list(out.glob(".t7convert-*")), process)
        os.kill(int(stage.name.split("-")[1]), signal.SIGTERM)
        (report,) = json.loads(process.communicate()[0])
    assert report["error"] == "its worker ended: Terminated"
    assert not out.exists()


def test_worker_that_dies_between_two_files(models: Path, tmp_path: Path) -> None:
    """The next file gets another one."""

    def done(result: workers.Result) -> None:
        for worker in multiprocessing.active_children():
            worker.kill()
            worker.join()

    tasks = [Task(models / "a.t7", tmp_path / "out"), Task(models / "odd.t7", tmp_path / "out")]
    results = workers.run(tasks, {"check": False, "dry_run": False}, 1, done)
    assert [result.status for result in results] == [0, 1]


@POSIX
def test_ctrl_c(models: Path, tmp_path: Path) -> None:
    """All that was begun goes away, and so do the workers."""
    out = tmp_path / "new" / "out"
    with running("batch", models, "-o", out, "--jobs", "2") as process:
        stages = until(lambda: list(out.glob(".t7convert-*")), process)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert process.returncode == 130, output + errors
    assert "Traceback" not in output + errors
    for stage in stages:
        with pytest.raises(ProcessLookupError):
            os.kill(int(stage.name.split("-")[1]), 0)
    stems = {Path(name).stem for name in tree(tmp_path / "new")} if (tmp_path / "new").exists() else set()
    assert all({f"{stem}.py", f"{stem}.safetensors"} <= {Path(n).name for n in tree(out)} for stem in stems)
