"""Files as files: paths, pipes, mapped memory, devices, and what is said about foreign and broken ones."""

from __future__ import annotations

import io
import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from t7compat import (
    InputError,
    LuaFunction,
    Storage,
    T7FormatError,
    Table,
    TorchObject,
    dumps,
    load,
    load_all,
    loads,
    save,
)
from t7compat.t7file import Writer
from t7compat.t7file.objects import Vec
from t7compat.t7file.wire import BinarySink
from t7compat.tensortypes import BY_TENSOR, TENSOR_TYPES, tag, type_of

# ---- files


@pytest.fixture
def value() -> Table:
    return Table(torch.arange(3.0), name="value")


def test_paths_and_file_objects(tmp_path: Path, value: Table) -> None:
    path = tmp_path / "x.t7"
    save(path, value)
    with path.open("rb") as file:
        found = [load(path), load(str(path)), load(file), loads(memoryview(path.read_bytes()))]
    assert all(x.name == "value" and x[1].tolist() == [0, 1, 2] for x in found)
    with path.open("wb") as file:
        save(file, value, "ascii")
    assert load(path).name == "value"


class InPieces(io.RawIOBase):
    """A file that returns fewer bytes than it was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data, self.random = io.BytesIO(data), random.Random(1)

    def read(self, size: int = -1) -> bytes:
        return self.data.read(self.random.randint(1, 50))


def test_a_file_object_may_return_few_bytes_at_a_time(value: Table) -> None:
    assert load(InPieces(dumps(value))).name == "value"


def test_a_file_in_text_mode_is_refused() -> None:
    with pytest.raises(InputError, match="binary mode"):
        load(io.StringIO("3\n1\n0\n"))


def test_what_is_no_file_is_refused() -> None:
    with pytest.raises(InputError, match="expected a path or a binary file, got bytes"):
        load(b"content")  # type: ignore[arg-type]


def test_saving_to_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder.*'/.*none/x\.t7'"):
        save(tmp_path / "none" / "x.t7", 1)


def test_a_pipe_is_read(tmp_path: Path, value: Table) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as source, open(writing, "wb") as target:
        save(target, value)
        target.close()
        assert load(source).name == "value"


def test_several_values_share_one_table_of_references(tmp_path: Path) -> None:
    path, shared = tmp_path / "x.t7", Table(1)
    with path.open("wb") as file:
        writer = Writer(BinarySink(file.write))
        for each in (shared, [shared], "end"):
            writer.writeObject(each)
    first, second, third = load_all(path)
    assert (second[1], third) == (first, "end")
    assert load(path).to_python() == [1]
    with path.open("ab") as file:
        file.write(b"garbage")
    assert load(path).to_python() == [1]
    with pytest.raises(T7FormatError):
        list(load_all(path))


def test_saving_replaces_a_file_as_a_whole(tmp_path: Path, value: Table) -> None:
    path, link = tmp_path / "x.t7", tmp_path / "link.t7"
    save(path, "old")
    path.chmod(0o640)
    link.symlink_to(path)
    with pytest.raises(InputError, match=r"list\[2\]: a value of the Python type object"):
        save(link, {"weight": torch.ones(1000), "list": [1, object()]})
    assert (load(path), sorted(tmp_path.iterdir())) == ("old", [link, path])
    save(link, value)
    assert load(path).name == "value"
    assert (stat.S_IMODE(path.stat().st_mode), link.is_symlink()) == (0o640, True)
    assert sorted(tmp_path.iterdir()) == [link, path]


def test_a_wrong_option_is_an_error(tmp_path: Path) -> None:
    for option, value in {"format": "text", "long_size": 16, "endian": "middle"}.items():
        with pytest.raises(InputError, match=f"{option}: expected .* or .*, got '?{value}"):
            dumps(1, **{option: value})
        with pytest.raises(InputError, match=f"{option}: expected .* or .*, got '?{value}"):
            loads(dumps(1), **{option: value})
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.t7")


# ---- mapped files


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is large enough to be mapped, with storages at odd places."""
    path = tmp_path_factory.mktemp("large") / "large.t7"
    weight = torch.arange(2_500_000, dtype=torch.float64)
    save(
        path,
        {"a": 1, "weight": weight.view(2500, 1000), "half": weight[::2], "bytes": torch.zeros(99_999).byte()},
    )
    return path


def rss() -> int:
    """The bytes of memory that this process really uses."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_large_file_is_mapped_and_not_changed(large: Path) -> None:
    before, used = large.read_bytes(), rss()
    value = load(large)
    assert rss() - used < 5_000_000
    assert value.weight.data_ptr() % 8 != 0
    assert value.weight.sum() == 2_500_000 * 2_499_999 / 2
    value.weight.zero_()
    assert value.half.sum() == 0  # still one storage
    assert large.read_bytes() == before
    assert load(large).weight[0, 1] == 1


def test_without_mmap_tensors_are_aligned_copies(large: Path) -> None:
    value = load(large, mmap=False)
    assert value.weight.data_ptr() % 64 == 0
    assert torch.equal(value.weight, load(large).weight)


def test_what_was_mapped_outlives_the_file(large: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.t7"
    path.write_bytes(large.read_bytes())
    value = load(path)
    save(path, "another")
    path.unlink()
    assert value.weight[-1, -1] == 2_499_999


def test_pytorch_computes_with_unaligned_tensors(large: Path) -> None:
    weight = load(large).weight[:512, :512] / 1e6
    data = bytearray(b"\0" + weight.numpy().tobytes())
    unaligned = torch.frombuffer(data, dtype=weight.dtype, offset=1).view(512, 512)
    assert unaligned.data_ptr() % 8 == 1
    for compute in (
        lambda x: x @ x, lambda x: x @ x[0], lambda x: x + x.t(), lambda x: x.sum(1), lambda x: x.exp(),
        lambda x: x.tanh(), lambda x: x.clone(), lambda x: x.index_select(0, torch.tensor([5, 3])),
        lambda x: x.sort(1).values, lambda x: x.float(), lambda x: x.softmax(0),
        lambda x: torch.conv2d(x.view(1, 1, 512, 512), x[:5, :5].reshape(1, 1, 5, 5)),
    ):  # fmt: skip
        torch.testing.assert_close(compute(unaligned), compute(weight))


# ---- devices and types


CUDA = [row for row in TENSOR_TYPES if row.device != "cpu"]


@pytest.mark.parametrize("row", CUDA, ids=lambda row: row.prefix)
def test_types_of_other_devices_keep_their_name_on_the_cpu(row: Any) -> None:
    numbers = tag(torch.arange(4).to(row.dtype), row)
    data = dumps(
        [numbers, tag(numbers[1:3], row), Storage(row, numbers), tag(torch.empty(0, dtype=row.dtype), row)]
    )
    assert row.tensor.encode() in data
    value = loads(data, map_location="cpu")
    assert [type_of(x) for x in (value[1], value[2], value[4])] == [row] * 3
    assert (value[1].device.type, value[3].type) == ("cpu", row)
    value[1][1] = 7
    assert value[2].tolist() == [7, 2]
    assert dumps(loads(data, map_location="cpu")) == data


def test_map_location() -> None:
    data = dumps({"cpu": torch.ones(2), "cuda": tag(torch.ones(3), BY_TENSOR["torch.CudaTensor"])})
    for location in ("meta", torch.device("meta")):
        value = loads(data, map_location=location)
        assert (value.cpu.device.type, value.cuda.device.type, value.cuda.shape) == ("meta", "meta", (3,))
    value = loads(data, map_location={"cuda:0": "meta"})
    assert (value.cpu.device.type, value.cuda.device.type) == ("cpu", "meta")
    seen = []

    def choose(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage | None:
        seen.append((location, storage.nbytes()))
        return storage if location == "cuda:0" else None

    value = loads(data, map_location=choose)
    assert (seen, value.cuda.device.type) == ([("cpu", 8), ("cuda:0", 12)], "cpu")


@pytest.mark.cuda
def test_cuda_tensors_come_to_the_gpu() -> None:
    row = BY_TENSOR["torch.CudaTensor"]
    numbers = tag(torch.arange(6.0), row)
    data = dumps([tag(numbers[2:], row), Storage(row, numbers), tag(torch.empty(0), row), torch.ones(2)])
    value = loads(data)
    assert [value[i].device.type for i in (1, 3, 4)] == ["cuda", "cuda", "cpu"]
    value[1][0] = 9
    assert value[2][3] == 9
    value[1][0] = 2
    assert dumps(value) == data
    moved = loads(data, map_location="cuda")
    assert [type_of(moved[i]).prefix for i in (1, 3, 4)] == ["Cuda", "Cuda", "Cuda"]


# ---- messages


def test_a_broken_file_is_named_with_offset_and_path(tmp_path: Path) -> None:
    model = {
        "protos": {"rnn": TorchObject("nn.Foo", modules=[1, 2, TorchObject("nn.Bar", weight=torch.ones(9))])}
    }
    path = tmp_path / "model.t7"
    path.write_bytes(dumps(model)[:-4])
    with pytest.raises(T7FormatError) as caught:
        load(path)
    error = caught.value
    assert (error.path, error.source) == ("protos.rnn.modules[3].weight", str(path))
    assert error.offset == path.stat().st_size - 32
    assert str(error) == (
        f"{path}: expected 36 bytes of the elements of a storage, found 32 "
        f"(at byte {error.offset}, in protos.rnn.modules[3].weight)"
    )


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a b": "x"}, '["a b"]'),
        ({True: "x"}, "[true]"),
        ({1.5: "x"}, "[1.5]"),
        ([1, Vec(1, "x")], "[2][2]"),
        (Table.from_items([(Table("x"), 1)]), "[table][1]"),
        ({"f": LuaFunction(b"", Table(Table(name="x")))}, "f[1].name"),
    ],
)
def test_paths_go_through_every_kind_of_key(value: Any, path: str) -> None:
    data = dumps(value)
    with pytest.raises(T7FormatError) as caught:
        loads(data[: data.rindex(b"x")])
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"\x03\x00", "ends after 2 bytes"),
        (b"PK\x03\x04 archive", "zip archive.* torch.load"),
        (b"\x80\x02}q\x00.", "pickle.* torch.load"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256", "Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b"\n<html lang=en>", "web page"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"model.t7".ljust(257, b"\0") + b"ustar\x0000", "tar archive"),
        (b"\x89PNG\r\n\x1a\n", "PNG image"),
        (b"\xff\xd8\xff\xe0 JFIF", "JPEG image"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x93NUMPY\x01\x00", "NumPy array"),
        (b'\x40\x01\0\0\0\0\0\0{"__metadata__"', "safetensors"),
        (b"no such model\n", "text"),
        (b"\xff\xfe\xfd\xfc", "starts with"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_another_kind_of_file_is_recognised(data: bytes, kind: str) -> None:
    with pytest.raises(T7FormatError, match=kind) as caught:
        loads(data)
    assert caught.value.offset == 0
