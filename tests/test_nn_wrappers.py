"""Table layers and containers: what the golden cases do not show."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from golden import over, same
from torch7 import given, size_text, wave

import t7compat
from t7compat import InputError, Table, nn
from t7compat.t7file.objects import LongStorage

PAIR = "{2x3;2x3}"

# The layer, the inputs that Torch7 takes with the sizes of the outputs, and those that it refuses.
INPUTS: list[tuple[Any, str, str]] = [
    (nn.CSubTable(), f"{PAIR}>2x3 {{2x3;6}}>2x3 {{2x3;2x3;4}}>2x3", "{2x3} {2x3;2x2} {2x3;f2x3} 2x3 nil"),
    (nn.CDivTable(), f"{PAIR}>2x3", "{2x3;1} {1;2x3} number"),
    (nn.CMaxTable(), f"{PAIR}>2x3 {{2x3;6}}>2x3 {{3}}>3", "{2x3;2x2} {2x3;3} {} nil"),
    (nn.CMinTable(), "{3;3;3}>3", "{3;4}"),
    (nn.CAddTensorTable(), "{2x3;{6;3x2}}>{2x3;2x3} {3;{}}>{}", "{2x3;{3}} {2x3} {2x3;2x3} {3;{f3}}"),
    (
        nn.MixtureTable(),
        "{3x2;{3x4;3x4}}>3x4 {2;{4;4}}>4 {3x2;3x2x4}>3x4 {2;2x4}>4 {2;{3x4;3x4}}>3x4",
        "{3x2;{3x4}} {3x2;{3x4;2x4}} {3x2;3x3x4} {3x2x2;{3x4;3x4}} 3x2 {3x2}",
    ),
    (nn.MixtureTable(2), "{3x2;{3x4x5;3x4x5}}>3x4x5 {2;4x2}>4", ""),
    (nn.MixtureTable(3), "{3x2;3x4x2}>3x4", "{3x2;3x2x4}"),
    (nn.MixtureTable(1), "{2;2x4}>4", "{3x2;2x3x4}"),
    (nn.ZipTable(), "{{2;3};{4;5}}>{{2;4};{3;5}} {{2;3};{4}}>{{2;4};{3}} {}>{}", "{{2};{4;5}} {2;3} 3"),
    (nn.ZipTableOneToMany(), "{3;{4;5}}>{{3;4};{3;5}} {3;{}}>{}", "{3} {3;4} {3;{4};5} {{3};{4}}"),
    (nn.MapTable(nn.Linear(3, 2)), "{2x3;3}>{2x2;2} {}>{}", "2x3 {2x4} {2x3;4}"),
    (nn.MapTable(), "", "{3} 3"),
    (nn.Bottle(nn.Linear(3, 2)), "3>2 2x3>2x2 5x4x3>5x4x2 2x5x4x3>2x5x4x2", "{2x3} 5x4x2 nil"),
    (nn.Bottle(nn.Linear(3, 2), 2, 3), "2x3>2x2", "5x4x3"),
    (nn.Bottle(nn.View(-1).setNumInputDims(2), 3, 2), "5x4x2x3>5x4x6", ""),
    (nn.Bottle(nn.Identity(), 1), "2x3>2x3", ""),
]


@pytest.mark.parametrize(
    ("layer", "input", "output"),
    [(layer, *pair.split(">")) for layer, takes, _ in INPUTS for pair in takes.split()],
    ids=str,
)
def test_accepted(layer: nn.Module, input: str, output: str) -> None:
    assert size_text(layer.clone().forward(given(input))) == output


@pytest.mark.parametrize(
    ("layer", "input"), [(layer, input) for layer, _, refuses in INPUTS for input in refuses.split()], ids=str
)
def test_refused(layer: nn.Module, input: str) -> None:
    with pytest.raises(InputError, match=r"expected|\(input: "):
        layer.clone().forward(given(input))


def test_entries_that_were_taken() -> None:
    nan, module = float("nan"), nn.CMaxTable()
    module.forward(Table(torch.tensor([1, nan, 3, 4.0]), torch.tensor([nan, 2, 4, 4.0])))
    assert module.maxIdx.tolist() == [1, 1, 2, 1]
    assert str(module.output.tolist()) == "[1.0, nan, 4.0, 4.0]"
    smallest = nn.CMinTable()
    smallest.forward(Table(wave(3), wave(3) - 1, wave(3) + 1))
    assert smallest.minIdx.tolist() == [2, 2, 2]


def test_each_consumer_of_a_zipped_tensor_has_its_gradient() -> None:
    net = nn.Sequential().add(nn.ZipTableOneToMany()).add(nn.MapTable(nn.CMulTable()))
    x, a, b = wave(3), wave(3) + 1, wave(3) - 2
    net.forward(Table(x, Table(a, b)))
    gradInput = net.backward(Table(x, Table(a, b)), Table(wave(3), wave(3)))
    for child, factor in zip(net.get(2).modules, (a, b), strict=True):
        same(child.gradInput, Table(wave(3) * factor, wave(3) * x))
    same(gradInput[1], wave(3) * (a + b))


# ---- Concat, DepthConcat


def test_concat_of_an_old_file() -> None:
    old = nn.Concat(1).add(nn.Linear(3, 2)).add(nn.Linear(3, 1))
    del old.outputSize
    vars(old)["size"] = LongStorage([3])
    again = t7compat.loads(t7compat.dumps(old))
    assert (list(again.outputSize), again.size()) == ([3], 2)
    same(again.forward(wave(3)), old.forward(wave(3)))


def test_scale_in_depth_concat() -> None:
    """Torch7's backward forgets it, accGradParameters does not."""
    net = nn.DepthConcat(1).add(nn.Linear(3, 2))
    net.zeroGradParameters()
    outer = nn.Sequential().add(net).add(nn.Linear(2, 2))
    outer.zeroGradParameters()
    outer.forward(wave(3))
    outer.backward(wave(3), wave(2), 0.5)
    whole = net.get(1).gradBias.clone()
    outer.zeroGradParameters()
    outer.accGradParameters(wave(3), wave(2), 0.5)
    same(net.get(1).gradBias, whole / 2)


def test_depth_concat_of_other_dimensions() -> None:
    net = nn.DepthConcat(1).add(nn.Identity()).add(nn.Sum(1))
    with pytest.raises(InputError, match="tensors of as many dimensions"):
        net.forward(wave(2, 3))


# ---- MapTable


@pytest.mark.parametrize("shared", [True, False])
def test_clones_of_a_map_table(shared: bool) -> None:
    module = nn.MapTable(nn.Linear(3, 2), shared)
    module.zeroGradParameters()
    module.resize(3)
    assert module.size() == 3
    module.get(2).weight.zero_()
    assert (module.get(1).weight.abs().sum() == 0) == shared
    module.resize(1)
    assert module.size() == 1
    x = Table(wave(3), wave(3) + 1, wave(3))
    module.forward(x)
    module.backward(x, Table(wave(2), wave(2), wave(2)))
    before = module.module.bias.clone()
    module.updateParameters(1)
    same(module.module.bias, before - module.module.gradBias)
    module.zeroGradParameters()
    assert [child.gradBias.abs().sum().item() for child in module.modules] == [0, 0, 0]
    module.clearState()
    assert list(module.modules) == [module.module]


def test_one_module_only() -> None:
    with pytest.raises(InputError, match="expected a single module"):
        nn.MapTable(nn.Tanh()).add(nn.Tanh())
    with pytest.raises(InputError, match="expected a module, added before"):
        nn.MapTable().forward(Table(wave(3)))


def test_text_of_a_map_table() -> None:
    inner = nn.Sequential().add(nn.Tanh()).add(nn.Sigmoid())
    assert str(nn.MapTable()) == "nn.MapTable { }"
    assert str(nn.MapTable(inner)) == (
        "nn.MapTable {\n  nn.Sequential {\n          [input -> (1) -> (2) -> output]\n"
        "          (1): nn.Tanh\n          (2): nn.Sigmoid\n        }\n}"
    )


# ---- DontCast


@over("nn", "DontCast", having="output")
def test_as_exact_as_single_precision(data: Table) -> None:
    module = data.module
    module.zeroGradParameters()
    for got, want in (
        (module.forward(data.input), data.output),
        (module.backward(data.input, data.gradOutput), data.gradInput),
    ):
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_part_of_a_network_that_keeps_its_type() -> None:
    kept = nn.DontCast(nn.Linear(3, 3).float(), True)
    net = nn.Sequential().add(nn.Linear(3, 3)).add(kept).add(nn.Linear(3, 2))
    assert (kept.moduleType, kept.castout) == ("torch.FloatTensor", True)
    for type in ("torch.DoubleTensor", "torch.FloatTensor", "torch.DoubleTensor"):
        assert net.type(type) is net
        x = torch.ones(2, 3).to(net.get(1).weight)
        assert net.forward(x).dtype == kept.output.dtype == x.dtype
        assert net.backward(x, net.output).dtype == kept.gradInput.dtype == x.dtype
        assert kept.modules[1].weight.dtype == torch.float32


def test_type_of_a_part_that_does_not_tell() -> None:
    assert nn.DontCast(nn.ConcatTable().add(nn.Linear(2, 2)), True).moduleType == "torch.DoubleTensor"
    with pytest.raises(InputError, match="expected a moduleType"):
        nn.DontCast(nn.ConcatTable(), True)


# ---- NaN, Profile

NOTHING, INFINITE = torch.tensor([float("nan")]), torch.tensor([float("inf"), -float("inf")])


def test_nan_is_found() -> None:
    module = nn.NaN(nn.Linear(1, 1).float(), 9)
    net = nn.Sequential().add(nn.Identity()).add(module)
    where = "in module 2 of nn.Sequential: nn.NaN(9) @ nn.Linear(1 -> 1): NaN found in "
    with pytest.raises(InputError) as caught:
        net.forward(NOTHING)
    assert str(caught.value) == where + "input"
    net.forward(torch.ones(1))
    with pytest.raises(InputError) as caught:
        net.backward(torch.ones(1), NOTHING)
    assert str(caught.value) == where + "gradOutput"
    module.get(1).weight.fill_(NOTHING[0])
    with pytest.raises(InputError, match="NaN found in parameters"):
        net.forward(torch.ones(1))


def test_sum_that_is_nan() -> None:
    with pytest.raises(InputError, match="NaN found in input"):
        nn.NaN(nn.Identity()).forward(INFINITE)


def test_numbers_of_nan_modules() -> None:
    first, second = nn.NaN(nn.Tanh()), nn.NaN(nn.Tanh())
    assert second.id == first.id + 1


def test_profile(capsys: pytest.CaptureFixture[str]) -> None:
    net = nn.Sequential().add(nn.Profile(nn.Tanh(), 2, "tanh")).add(nn.Profile(nn.Tanh()))
    for _ in range(3):
        net.forward(wave(3))
        net.backward(wave(3), wave(3))
    lines = re.sub(r"\d\.\d{3}", "1.234", capsys.readouterr().out).splitlines()
    assert lines == [f"tanh took 1.234 seconds for 2 {passes} passes" for passes in ("forward", "backward")]
    assert (net.get(1).numFwds, net.get(2).numBwds, net.get(2).name) == (1, 3, "nn.Tanh")
