"""What a checkpoint holds besides networks, as JSON; and the networks in it."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import t7compat
from converters.checkpoint import Rest, networks, unknown
from converters.weights import write_safetensors
from t7compat import LongStorage, LuaFunction, Table, TorchObject, nn


def encoded(value: Any) -> Any:
    """The JSON of a checkpoint, read again."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(Rest("x.data.safetensors", {}).text(value, {}), parse_constant=refuse)


def test_tables_keep_their_keys() -> None:
    opt = Table(rnn_size=128, rate=0.5, gpu=False, name="größe")
    checkpoint = Table(opt=opt, losses=Table(1.5, 2, 3), empty=Table(), words=Table("a", "b"))
    assert encoded(checkpoint) == {
        "opt": {"rnn_size": 128, "rate": 0.5, "gpu": False, "name": "größe"},
        "losses": [1.5, 2, 3],
        "empty": [],
        "words": ["a", "b"],
    }


def test_other_keys_stand_beside_their_values() -> None:
    table = Table.from_items([(50, 2), (0.5, "half"), (True, "yes"), ("x", 1)])
    assert encoded(Table(t=table)) == {"t": {"$table": [[50, 2], [0.5, "half"], [True, "yes"], ["x", 1]]}}
    assert encoded(Table.from_items([("$x", 1)])) == {"$table": [["$x", 1]]}
    assert encoded(Table("a", "b")) == {"$content": ["a", "b"]}
    key = encoded(Table(t=Table.from_items([(Table(1), 2)])))
    assert key == {"t": {"$table": [[[1], 2]]}}


def test_numbers_that_json_does_not_have() -> None:
    assert encoded(Table(math.nan, math.inf, -math.inf, -0.0))["$content"] == [
        {"$number": "nan"}, {"$number": "inf"}, {"$number": "-inf"}, -0.0,
    ]  # fmt: skip


def test_small_tensors_are_text() -> None:
    tensor = torch.tensor([[1, 2], [3, 4]], dtype=torch.int32)
    assert encoded(Table(x=tensor.t(), size=LongStorage([2, 2]))) == {
        "x": {"$tensor": "torch.IntTensor", "size": [2, 2], "data": [1, 3, 2, 4]},
        "size": {"$storage": "torch.LongStorage", "data": [2, 2]},
    }


def test_large_tensors_have_a_file(tmp_path: Path) -> None:
    rest = Rest("x.data.safetensors", {})
    large = torch.randn(10, 20)
    content = json.loads(rest.text(Table(data=Table(large, large.t(), large)), {}))
    assert content["data"][0] == {
        "$tensor": "torch.FloatTensor", "size": [10, 20], "file": "x.data.safetensors", "name": "data[1]",
    }  # fmt: skip
    assert content["data"][2] == {"$same": "data[1]"}
    write_safetensors(tmp_path / "x", rest.tensors)
    found = load_file(tmp_path / "x")
    assert found.keys() == {"data[1]", "data[2]"}
    assert torch.equal(found["data[2]"], large.t())


def test_names_of_tensors_are_distinct() -> None:
    nested, flat = Table(b=torch.zeros(100)), torch.ones(100)
    rest = Rest("file", {})
    rest.text(
        Table.from_items(
            [("a", Table.from_items([("c d", nested)])), ('a["c d"].b', flat), ("__metadata__", flat.clone())]
        ),
        {},
    )
    assert len(rest.tensors) == 3
    assert "__metadata__" not in rest.tensors


def test_sharing_and_cycles() -> None:
    inner = Table(x=1)
    checkpoint = Table(a=inner, b=Table(inner))
    checkpoint["self"] = checkpoint
    assert encoded(checkpoint) == {"a": {"x": 1}, "b": [{"$same": "a"}], "self": {"$same": ""}}


def test_deep_tables() -> None:
    deep = value = Table()
    for _ in range(100_000):
        value["x"] = Table()
        value = value.x
    value["end"] = "here"
    content = place = encoded(deep)
    for _ in range(100_000):
        place = place["x"]
        if place.keys() == {"$continued"}:
            place = content["$continued"][place["$continued"]]
    assert place == {"end": "here"}


def test_objects() -> None:
    unknown_object = TorchObject("my.Vocabulary", 1, size=3)
    function = LuaFunction(b"\x1bLJ", Table(5))
    content = encoded(Table(criterion=nn.CrossEntropyCriterion(), vocabulary=unknown_object, f=function))
    assert content["criterion"]["$class"] == "nn.CrossEntropyCriterion"
    assert content["criterion"]["fields"]["lsm"]["$class"] == "nn.LogSoftMax"
    assert content["vocabulary"] == {"$class": "my.Vocabulary", "fields": {"size": 3}}
    assert base64.b64decode(content["f"]["$function"]) == b"\x1bLJ"
    assert content["f"]["upvalues"] == [5]


def test_text_that_is_not_unicode_survives() -> None:
    text = b"caf\xe9".decode("utf-8", "surrogateescape")
    written = Rest("file", {}).text(Table(name=text), {})
    written.encode("utf-8")
    assert json.loads(written)["name"].encode("utf-8", "surrogateescape") == b"caf\xe9"


# ---- networks


def test_networks_in_nested_tables_are_found_once() -> None:
    rnn, embed = nn.Linear(2, 2), nn.LookupTable(3, 2)
    protos = Table(rnn=rnn, embed=embed, criterion=nn.CrossEntropyCriterion())
    checkpoint = Table(protos=protos, again=rnn, opt=Table(size=3), list=Table(0, nn.Tanh()))
    assert networks(checkpoint) == {"protos.rnn": rnn, "protos.embed": embed, "list[2]": checkpoint.list[2]}


def test_parts_of_a_network_are_no_networks() -> None:
    part = nn.Linear(2, 2)
    assert list(networks(Table(first=part, whole=nn.Sequential().add(part)))) == ["whole"]


def test_objects_of_unknown_classes() -> None:
    strange = TorchObject("my.Net", 1, modules=Table(nn.Linear(2, 2)))
    layer = TorchObject("my.Layer", 1, output=torch.zeros(0), gradInput=torch.zeros(0))
    wrapper = TorchObject("my.Model", 1, net=nn.Tanh(), options=Table(x=1))
    checkpoint = Table(strange=strange, layer=layer, wrapper=wrapper)
    assert list(networks(checkpoint)) == ["strange", "layer", "wrapper.net"]
    assert [(problem.path, problem.typename) for problem in unknown(checkpoint)] == [("wrapper", "my.Model")]


# ---- the format of weights


def test_safetensors_of_all_types_and_layouts(tmp_path: Path) -> None:
    flat = torch.arange(24, dtype=torch.float64)
    tensors = {
        "view": flat[2:14].view(3, 4).t(),
        "shared": flat[:5],
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.5),
        **{str(t): torch.arange(3).to(t) for t in (torch.float32, torch.float16, torch.int64, torch.int32)},
        **{str(t): torch.arange(3).to(t) for t in (torch.int16, torch.int8, torch.uint8)},
    }
    write_safetensors(tmp_path / "x", tensors)
    found = load_file(tmp_path / "x")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_large_files_are_read_where_they_lie(tmp_path: Path) -> None:
    """Mapped tensors may start at any byte."""
    network = nn.Linear(2000, 2000)
    t7compat.save(tmp_path / "x.t7", Table("odd length", network))
    loaded = t7compat.load(tmp_path / "x.t7")[2]
    write_safetensors(tmp_path / "x", {"weight": loaded.weight})
    assert torch.equal(load_file(tmp_path / "x")["weight"], network.weight)
