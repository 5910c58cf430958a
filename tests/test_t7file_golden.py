"""The codec against files that Torch7 wrote (golden area `serialization`), and against torchfile."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchfile
from describe import Describer, assert_same
from deviations import DEVIATIONS
from golden import GOLDEN

from t7compat import (
    LuaFunction,
    Storage,
    T7FormatError,
    Table,
    dumps,
    from_torchfile,
    load,
    load_all,
    loads,
    register,
    registry,
)
from t7compat.nested import walk
from t7compat.t7file import Reader, Writer
from t7compat.t7file.ascii import AsciiSink, AsciiSource
from t7compat.t7file.objects import Hash, Vec
from t7compat.t7file.wire import BinarySink, BinarySource
from t7compat.tensortypes import BY_STORAGE, type_of

FOLDER = GOLDEN / "serialization"


def listed(name: str) -> list[dict[str, Any]]:
    path = FOLDER / name
    return json.loads(path.read_text()) if path.exists() else []


def over(wanted: Callable[[dict[str, Any]], bool]) -> pytest.MarkDecorator:
    """Run a test once for each file of a kind."""
    chosen = [case for case in listed("expected.json") if wanted(case)]
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case["file"].removesuffix(".t7"))


described = over(lambda case: "objects" in case)
streams = over(lambda case: "stream" in case)


@pytest.fixture(autouse=True)
def classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the classes of the format, and three with a layout of their own, but none of nn."""
    own = {name: cls for name, cls in registry._classes.items() if name.startswith(("torch.", "tds"))}
    monkeypatch.setattr(registry, "_classes", own)

    @register("golden.CustomIO")
    class CustomIO:
        def read(self, file: Any) -> None:
            self.n = file.readInt()
            self.v = file.readObject()

        def write(self, file: Any) -> None:
            file.writeInt(self.n)
            file.writeObject(self.v)

    @register("nn.GPU")
    class GPU:
        def read(self, file: Any) -> None:
            file.readObject()
            vars(self).update(file.readObject().items())

        def write(self, file: Any) -> None:
            file.writeObject([self._type, self.device])
            file.writeObject(vars(self))

    @register("nn.DataParallelTable")
    class DataParallelTable(Table):
        __slots__ = ()
        __version__ = 3

        def read(self, file: Any) -> None:
            assert file.version == 3
            self.gpuAssignments = file.readObject()
            self.fields = file.readObject()

        def write(self, file: Any) -> None:
            file.writeObject(self.gpuAssignments)
            file.writeObject(self.fields)


@pytest.fixture
def excluded(case: dict[str, Any], request: pytest.FixtureRequest) -> None:
    """Skip a check that is listed in deviations.py."""
    check = request.node.originalname.removeprefix("test_")
    name = case["file"].removesuffix(".t7")
    if reason := DEVIATIONS.get(f"serialization/{name}:{check}"):
        pytest.skip(reason)


def loaded(case: dict[str, Any]) -> list[Any]:
    """The values of a file as its description counts them: bytes that follow the last one do not matter."""
    path = FOLDER / case["file"]
    return list(load_all(path)) if "count" in case else [load(path)]


def descriptions(values: list[Any]) -> list[dict[str, Any]]:
    describer = Describer()
    return [describer.describe(value) for value in values]


def saved(values: list[Any], case: dict[str, Any]) -> bytes:
    """The values in the encoding of a case."""
    content = io.BytesIO()
    if case["mode"] == "ascii":
        writer = Writer(AsciiSink(content.write))
    else:
        endian, long_size = case.get("endian", "little"), case.get("longSize", 8)
        writer = Writer(BinarySink(content.write, endian=endian, long_size=long_size))
    for value in values:
        writer.writeObject(value)
    return content.getvalue()


# ---- files that Torch7 wrote


@described
@pytest.mark.usefixtures("excluded")
def test_reads_as_described(case: dict[str, Any]) -> None:
    assert_same(descriptions(loaded(case)), case["objects"])


@described
@pytest.mark.usefixtures("excluded")
def test_saved_again_it_has_the_same_bytes(case: dict[str, Any]) -> None:
    assert saved(loaded(case), case) == (FOLDER / case["file"]).read_bytes()


@described
@pytest.mark.usefixtures("excluded")
@pytest.mark.parametrize("format", ["binary", "ascii"])
def test_saved_again_it_reads_as_described(case: dict[str, Any], format: str, tmp_path: Path) -> None:
    path = tmp_path / "again.t7"
    path.write_bytes(saved(loaded(case), {"mode": format}))
    assert_same(descriptions(list(load_all(path))), case["objects"])


@over(lambda case: case.get("check") == "deep")
def test_deep_nesting(case: dict[str, Any]) -> None:
    value = load(FOLDER / case["file"])
    for level in range(case["levels"], 0, -1):
        assert list(value.keys()) in ([1, "depth"], ["depth", 1])
        assert value.depth == level
        value = value[1]
    assert value.to_python() == {"depth": 0}


@streams
def test_reads_a_stream_of_numbers(case: dict[str, Any]) -> None:
    data = (FOLDER / case["file"]).read_bytes()
    reader = Reader(AsciiSource(data) if case["mode"] == "ascii" else BinarySource(data, long_size=8))
    for kind, want in case["stream"]:
        if kind == "String":
            assert reader.readString("*a") == want
        elif kind.endswith("Array"):
            assert list(getattr(reader, f"read{kind.removesuffix('Array')}")(len(want))) == want
        else:
            assert getattr(reader, f"read{kind}")() == want
    assert reader.source.at_end()


@streams
def test_writes_a_stream_of_numbers(case: dict[str, Any]) -> None:
    content = io.BytesIO()
    writer = Writer(AsciiSink(content.write) if case["mode"] == "ascii" else BinarySink(content.write))
    for kind, value in case["stream"]:
        prefix = kind.removesuffix("Array")
        if prefix != kind:
            row = BY_STORAGE[f"torch.{prefix}Storage"]
            value = Storage(row, torch.tensor(value, dtype=row.dtype))
        getattr(writer, f"write{prefix}")(value)
    assert content.getvalue() == (FOLDER / case["file"]).read_bytes()


# ---- broken files


@pytest.fixture(scope="module")
def verdicts() -> dict[str, dict[str, Any]]:
    """What came of each broken file, loaded with no more memory than the size of the file and 64 MB."""
    cases = listed("malformed/malformed.json")
    script = Path(__file__).with_name("load_in_little_memory.py")
    paths = [str(FOLDER / "malformed" / case["file"]) for case in cases]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    run = subprocess.run([sys.executable, script, *paths], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    return dict(zip((case["file"] for case in cases), map(json.loads, run.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("case", listed("malformed/malformed.json"), ids=lambda case: case["file"])
@pytest.mark.usefixtures("excluded")
def test_malformed(case: dict[str, Any], verdicts: dict[str, dict[str, Any]]) -> None:
    verdict = verdicts[case["file"]]
    assert verdict["outcome"] in {"value": ["value"], "error": ["error"]}.get(
        case["acceptable"], ["value", "error"]
    )
    assert verdict["seconds"] < 1
    if verdict["outcome"] == "error":
        assert case["file"] in verdict["message"]
        assert f"at byte {verdict['offset']}" in verdict["message"]
        assert 0 <= verdict["offset"] <= case["bytes"]


@pytest.mark.parametrize("case", listed("malformed/malformed.json"), ids=lambda case: case["file"])
def test_malformed_in_the_mode_that_it_was_meant_for(case: dict[str, Any]) -> None:
    if case["acceptable"] == "error":
        with pytest.raises(T7FormatError):
            load(FOLDER / "malformed" / case["file"], format=case["mode"], endian="little", long_size=8)


@pytest.mark.parametrize(
    "path", list(FOLDER.glob("malformed/truncation_base.t7")), ids=lambda path: path.name
)
def test_every_prefix_of_a_file_is_an_error(path: Path) -> None:
    data = path.read_bytes()
    assert isinstance(loads(data), Table)
    for length in range(len(data)):
        with pytest.raises(T7FormatError):
            loads(data[:length])


@described
def test_prefixes_give_an_error_or_a_value(case: dict[str, Any]) -> None:
    data = (FOLDER / case["file"]).read_bytes()
    for length in [*range(min(len(data), 100)), *range(100, len(data), 1 + len(data) // 100)]:
        with contextlib.suppress(T7FormatError):
            loads(data[:length])


# ---- torchfile


@over(lambda case: case["mode"] == "binary" and "objects" in case)
@pytest.mark.usefixtures("excluded")
def test_from_torchfile(case: dict[str, Any]) -> None:
    path = FOLDER / case["file"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            theirs = torchfile.load(str(path))
        except Exception as error:
            pytest.skip(f"torchfile cannot read it: {error}")
    value = load(path, map_location="cpu")
    if any(isinstance(table, Hash | Vec) for table, _ in walk(value)):
        pytest.skip("torchfile makes plain tables of those of tds")
    assert dumps(from_torchfile(theirs)) == dumps(as_torchfile_sees(value))


def as_torchfile_sees(root: Any) -> Any:
    """Without what torchfile does not keep: CUDA types, the sign of 0, the tags of functions."""
    for _, content in walk(box := Table(root)):
        for key, value in content.items():
            if isinstance(value, float) and value == 0:
                content[key] = 0
            elif isinstance(value, torch.Tensor):
                vars(value).pop("torch_type", None)
            elif isinstance(value, Storage):
                value.type = type_of(value.data)
            elif isinstance(value, LuaFunction):
                value.tag = 8
    return box[1]
