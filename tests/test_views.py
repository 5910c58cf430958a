"""What t7convert shows: inspect with its page, diff, verify, and the list of classes."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from command import mlp, t7convert
from golden import GOLDEN

import t7compat
from converters.drawing import _Layout
from converters.flow import flow
from t7compat import Table, nn, registry
from t7compat.mersenne import Generator

pytestmark = pytest.mark.usefixtures("kept_interpreter")

MODELS = GOLDEN / "models"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = '</style><script>alert("x")</script>\x1b[31m\udcff'


def rectified(first: list[float], second: list[float]) -> nn.Sequential:
    """Two units and two more, with these weights in each row and no bias."""
    network = nn.Sequential().add(nn.Linear(1, 2)).add(nn.ReLU()).add(nn.Linear(2, 2)).add(nn.ReLU())
    for index, rows in ((1, first), (3, second)):
        weight = network.get(index).weight
        weight.copy_(torch.tensor(rows).double().unsqueeze(1).expand_as(weight))
        network.get(index).bias.zero_()
    return network


# ---- inspect


@pytest.mark.parametrize(
    ("value", "remarks"),
    [
        (torch.tensor([1.0, math.nan, math.inf, -math.inf]), {"": ["1 NaN, 2 infinite"]}),
        (torch.zeros(0), {}),
        (rectified([1, -1], [1, 1]), {}),
        (rectified([1, 0], [1, 1]), {"modules[2]": ["1 of 2 units are 0 for every input"]}),
        (rectified([1, -1], [-1, 1]), {"modules[4]": ["1 of 2 units are 0 for every input"]}),
        (nn.Sequential().add(nn.ReLU()), {}),
    ],
    ids=("not finite", "empty", "all active", "no weight", "negative after ReLU", "nothing known"),
)
def test_unusual_values(value: Any, remarks: dict[str, list[str]], save: Callable[..., Path]) -> None:
    rows = json.loads(t7convert("inspect", save(value), "--json").stdout)["rows"]
    assert {row["path"]: row["remarks"] for row in rows if row["remarks"]} == remarks


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("old_bn_running_std", "! old format: running_std, running_var brought up to date"),
        ("old_conv_2d_weight", "! old format: gradWeight, weight brought up to date"),
        ("lenet", None),
    ],
)
def test_old_formats(name: str, line: str | None) -> None:
    path = next(MODELS / f"{name}.{kind}.t7" for kind in ("checkpoint", "full") if
                (MODELS / f"{name}.{kind}.t7").exists())  # fmt: skip
    output = t7convert("inspect", path).stdout
    assert line in output if line else "old format" not in output


def test_bytes_and_parameters_of_parts(save: Callable[..., Path]) -> None:
    network = nn.Sequential().add(mlp()).add(nn.Linear(2, 200))
    lines = t7convert("inspect", save(network)).stdout.split("\n")
    assert lines[0] == "nn.Sequential (626 parameters)"
    assert "    [1]: nn.Sequential (26 parameters)" in lines
    assert "      weight: DoubleTensor 200x2 (3.12 KB)" in lines


# ---- the picture


def branches() -> nn.ConcatTable:
    return nn.ConcatTable().add(nn.Tanh()).add(nn.Identity())


@pytest.mark.parametrize(
    ("network", "edges"),
    [
        (nn.Tanh(), "input>Tanh Tanh>output"),
        (nn.Sequential().add(branches()).add(nn.CAddTable()),
         "input>Tanh input>Identity Tanh>CAddTable Identity>CAddTable CAddTable>output"),
        (nn.Sequential().add(branches()).add(nn.ParallelTable().add(nn.Sigmoid()).add(nn.ReLU())),
         "input>Tanh input>Identity Tanh>Sigmoid Identity>ReLU Sigmoid>output ReLU>output"),
        (nn.Concat(1).add(nn.Tanh()).add(nn.ReLU()),
         "input>Tanh input>ReLU Tanh>Concat ReLU>Concat Concat>output"),
        (nn.Sequencer(nn.Linear(2, 2)), "input>Sequencer Sequencer>output"),
    ],
    ids=("layer", "branches", "side by side", "joined", "closed"),
)  # fmt: skip
def test_flow(network: Any, edges: str) -> None:
    boxes = flow(network)
    assert " ".join(f"{boxes[s].title}>{box.title}" for box in boxes for s in box.sources) == edges


def test_flow_of_a_graph() -> None:
    x, y = nn.Identity()(), nn.Identity()()
    shared = nn.Linear(2, 2)(x).annotate(name="fc")
    network = nn.gModule(Table(x, y), Table(nn.CAddTable()(Table(shared, y))))
    boxes = {box.title: box for box in flow(network)}
    assert "fc: Linear" in boxes
    assert len(boxes["CAddTable"].sources) == 2


def test_flow_of_many_layers() -> None:
    network = nn.Sequential()
    for _ in range(300):
        network.add(nn.Tanh())
    assert [box.title for box in flow(network)] == ["input", "Sequential", "output"]


@pytest.mark.parametrize("name", ["attention_graph", "inception_concat", "resnet_basic", "unet_nngraph"])
def test_boxes_do_not_overlap(name: str) -> None:
    layout = _Layout(flow(t7compat.load(MODELS / f"{name}.full.t7")))
    for row in layout.rows:
        ends = [(layout.corner(i)[0], layout.corner(i)[0] + layout.sizes[i][0]) for i in row]
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))
    for upper, *_, lower in layout.chains:
        assert layout.corner(upper)[1] + layout.sizes[upper][1] < layout.corner(lower)[1]


# ---- the page


@pytest.fixture
def page(save: Callable[..., Path], tmp_path: Path) -> Path:
    """The page of a checkpoint with a hostile name, a NaN, and a layer of an unknown class."""
    network = mlp()
    network.get(1).weight[0, 0] = math.nan
    unknown = t7compat.TorchObject("my.<script>alert(1)</script>", 1, modules=Table(), output=torch.ones(2))
    path = save(Table(Table(a=1, name=HOSTILE), net=network, other=unknown, **{HOSTILE: 1}))
    result = t7convert("inspect", path, "--html", tmp_path / "page.html")
    assert (result.exit_code, result.stderr) == (0, "")
    return tmp_path / "page.html"


def test_page(page: Path) -> None:
    text = page.read_text("utf-8")
    root = ElementTree.fromstring(
        text.removeprefix("<!DOCTYPE html>\n")
    )  # well-formed: all that opens closes
    tags = {element.tag for element in root.iter()}
    assert {"details", "svg", "table", "style"} <= tags
    assert not {"script", "link", "img", "iframe"} & tags
    assert not {key for element in root.iter() for key in element.attrib} & {"href", "src", "onclick"}
    assert "prefers-color-scheme" in text
    for word in ("net.modules[1].weight", "1 NaN", "not verified", "nn.Linear(3 -&gt; 4)"):
        assert word in text


def test_page_with_its_proof(tmp_path: Path) -> None:
    t7convert("inspect", MODELS / "attention_graph.full.t7", "--html", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert text.count("✓ equal") == 3  # outputs, gradients, and what Torch7 stored
    assert text.count('class="bars"') == 4


def test_page_that_is_there(page: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.t7"
    before = model.read_bytes()
    assert t7convert("inspect", model, "--html", page).exit_code == 2
    assert t7convert("inspect", model, "--html", page, "--force").exit_code == 0
    assert t7convert("inspect", model, "--html", model, "--force").exit_code == 2
    assert model.read_bytes() == before


def test_page_without_networks(save: Callable[..., Path], tmp_path: Path) -> None:
    assert t7convert("inspect", save(Table(1, 2)), "--html", tmp_path / "page.html").exit_code == 0
    assert "holds no network" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_page_in_a_browser(page: Path, tmp_path: Path) -> None:
    def browse(*options: str) -> str:
        command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", *options, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path).stdout

    document = browse("--dump-dom")
    assert document.count("<details") > 5
    assert "<script" not in document
    shots = []
    for scheme in ("0", "1"):  # dark, light
        browse(f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={tmp_path}/{scheme}.png")
        shots.append((tmp_path / f"{scheme}.png").read_bytes())
    assert min(map(len, shots)) > 10_000  # not an empty page
    assert shots[0] != shots[1]


# ---- diff


def changed(change: Callable[[Any], Any]) -> tuple[Table, Table]:
    """Two equal checkpoints, of which the second is then changed."""
    first = Table(net=mlp(), epoch=3, list=Table(1, 2))
    second = t7compat.loads(t7compat.dumps(first))
    change(second)
    return first, second


put = Table.__setitem__


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (lambda x: x.net.get(1).output.resize_(2).fill_(1), ["4 tensors compared, 0 with other"]),
        (lambda x: put(x, "epoch", 4), ["other value: epoch: 3 -> 4"]),
        (lambda x: put(x, "epoch", "x"), ['other type: epoch: 3 -> "x"']),
        (lambda x: put(x, "new", True), ["only in B: new: true"]),
        (lambda x: x.list.remove(), ["only in A: list[2]: 2"]),
        (lambda x: put(x.net.modules, 2, nn.ReLU()), ["other type: net.modules[2]: nn.Tanh -> nn.ReLU"]),
        (lambda x: put(x.net.modules, 3, nn.Linear(4, 5)), ["other size: net.modules[3].bias: 2 -> 5"]),
        (lambda x: x.net.get(1).bias.add_(0.5), ["0.5       net.modules[1].bias 4", "1 with other numbers"]),
        (lambda x: setattr(x.net.get(3), "gradBias", x.net.get(3).bias), ["0 other differences"]),
        (lambda x: put(x, "list", x), ["other sharing: list: on its own -> same as the whole"]),
    ],
    ids=("buffer", "value", "type", "new", "gone", "class", "numbers", "size", "gradient", "sharing"),
)  # fmt: skip
def test_diff(change: Callable[[Any], Any], lines: list[str], save: Callable[..., Path]) -> None:
    first, second = changed(change)
    result = t7convert("diff", save(first, "a.t7"), save(second, "b.t7"))
    assert [line for line in lines if line not in result.stdout] == []
    same = "0 with other numbers; 0 other differences" in result.stdout
    assert result.exit_code == (0 if same else 1)


def test_diff_with_a_tolerance_and_as_json(save: Callable[..., Path]) -> None:
    first, second = changed(lambda x: x.net.get(1).bias.add_(0.5))
    paths = save(first, "a.t7"), save(second, "b.t7")
    assert t7convert("diff", *paths, "--tolerance", "0.6").exit_code == 0
    content = json.loads(t7convert("diff", *paths, "--json").stdout)
    (change,) = content["changes"]
    assert (change["path"], change["kind"]) == ("net.modules[1].bias", "other numbers")
    assert change["largest"] == pytest.approx(0.5)


def test_diff_of_generators(save: Callable[..., Path]) -> None:
    one, again, other = (save(Table(state=Generator(seed)), f"{i}.t7") for i, seed in enumerate((1, 1, 2)))
    assert t7convert("diff", one, again).exit_code == 0
    result = t7convert("diff", one, other)
    assert result.exit_code == 1
    assert "other value: state: torch.Generator" in result.stdout


@pytest.mark.parametrize("name", ["attention_graph", "resnet_basic", "tagger_bisequencer"])
def test_networks_that_torch7_cleared_are_not_different(name: str) -> None:
    result = t7convert("diff", MODELS / f"{name}.full.t7", MODELS / f"{name}.clear.t7")
    assert result.exit_code == 0, result.stdout


# ---- verify


@pytest.mark.parametrize(
    ("edit", "status", "word"),
    [
        (lambda text: text, 0, "verified against"),
        (lambda text: text.replace("nn.Tanh()", "nn.ReLU()"), 3, "DEVIATES"),
        (lambda text: text.replace("def load", "def loaded"), 3, "has no attribute 'load'"),
        (lambda text: text + "import t7compat", 3, "t7compat"),
        (lambda text: text + "import sys; sys.exit(0)", 3, "SystemExit: 0"),
        (lambda text: text + "import os; os._exit(0)", 3, "the fresh interpreter failed: exit status 0"),
    ],
    ids=("as written", "other layer", "no load", "imports t7compat", "ends", "ends at once"),
)
def test_verify(
    edit: Callable[[str], str], status: int, word: str, save: Callable[..., Path], tmp_path: Path
) -> None:
    path, written = save(mlp()), tmp_path / "model.py"
    t7convert(path)
    written.write_text(edit(written.read_text()))
    before = sorted(tmp_path.iterdir())
    result = t7convert("verify", path, written)
    assert result.exit_code == status
    assert word in result.output
    assert sorted(tmp_path.iterdir()) == before
    content = json.loads(t7convert("verify", path, written, "--json").stdout)
    assert content["status"] == status


def test_verify_one_of_several_networks(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save(Table(a=mlp(), b=mlp()))
    t7convert(path)
    assert t7convert("verify", path, tmp_path / "model_b.py").exit_code == 0
    assert t7convert("verify", path, tmp_path / "model_b.py", "--network", "a").exit_code == 3
    (tmp_path / "other.py").write_text((tmp_path / "model_b.py").read_text())
    result = t7convert("verify", path, tmp_path / "other.py")
    assert (result.exit_code, "--network" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    "names", [("model.t7", "none.py"), ("none.t7", "model.py"), ("model.t7", "model.t7")]
)
def test_verify_what_is_not_there(names: tuple[str, str], save: Callable[..., Path]) -> None:
    folder = save(mlp()).parent
    (folder / "model.py").touch()
    result = t7convert("verify", *(folder / name for name in names))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


# ---- the list of classes


def test_list_of_classes() -> None:
    listed = {one["name"]: one for one in json.loads(t7convert("--list-supported", "--json").stdout)}
    assert listed.keys() >= {f"nn.{name}" for name in registry.names("nn")}
    assert listed["nn.Linear"]["counterpart"] == "nn.Linear"
    assert listed["cudnn.ReLU"]["original"] == "nn.ReLU"
    assert listed["nn.MSECriterion"]["support"] == "loss"
    lines = t7convert("--list-supported").stdout.splitlines()
    assert len(lines) == len(listed)
    assert ["nn.Linear", "converts", "nn.Linear"] in [line.split() for line in lines]
