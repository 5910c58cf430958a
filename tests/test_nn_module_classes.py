"""Classes of the user's own: written by `compute` or in the old style, saved and loaded."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch7 import gives, wave

import t7compat
from t7compat import InputError, Table, TorchObject, dumps, loads, nn, register, registry
from t7compat.table import to_tuples

x, g = wave(2, 3), wave(2, 3) + 0.5


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten afterwards."""
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    for cls in (Scale, Halve):
        monkeypatch.setattr(cls, "__typename__", cls.__name__)


class Scale(nn.Module):
    """w * x with one w for each column, by its mathematics alone."""

    parameter_names = ("weight",)
    __version__ = 3

    def __init__(self, n: int) -> None:
        super().__init__(weight=wave(n))

    def compute(self, input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return input * weight

    def upgrade(self, version: int) -> None:
        self.came_from = version


class Halve(nn.Module):
    """x / 2 in the old style, without anything that the base class would set."""

    def __init__(self) -> None:
        self.divisor = 2

    def updateOutput(self, input: Any) -> Any:
        self.output = input / self.divisor
        return self.output

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        self.gradInput = gradOutput / self.divisor
        return self.gradInput


class Cross(nn.Module):
    """{a, {b}, name = c} -> {total = a + b, {c}}"""

    def compute(self, input: Any) -> Any:
        return {"total": input[1] + input[2][0], 1: (input["name"],)}


class Residual(nn.Container):
    """The sum of what the children give for the same input."""

    shares_input = True

    def compute(self, input: Any, *children: Callable[[Any], Any]) -> Any:
        return sum(child(input) for child in children)


class Huber(nn.Criterion):
    """A loss by its mathematics."""

    def compute(self, input: Any, target: Any) -> Any:
        return torch.nn.functional.huber_loss(input, target)


class Half(nn.Criterion):
    """Half the squared distance, in the old style."""

    def updateOutput(self, input: Any, target: Any) -> Any:
        self.output = (input - target).pow(2).sum().item() / 2
        return self.output

    def updateGradInput(self, input: Any, target: Any) -> Any:
        self.gradInput = input - target
        return self.gradInput


def net() -> nn.Sequential:
    t7compat.manualSeed(1)
    return nn.Sequential().add(nn.Linear(3, 3)).add(Scale(3)).add(Halve())


def results(module: nn.Module) -> Iterator[Any]:
    """What one step of training gives."""
    module.zeroGradParameters()
    yield module.forward(x)
    yield module.backward(x, g)
    yield from module.parameters()[1]
    module.updateParameters(0.1)
    yield from module.parameters()[0]


def same(got: Iterator[Any], want: Iterator[Any]) -> None:
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine, theirs)


# ---- at work


def test_by_its_mathematics() -> None:
    layer, known = Scale(3), nn.CMul(3)
    known.weight.copy_(layer.weight)
    same(results(layer), results(known))


class Shift(nn.Module):
    """x + b, whose parameter comes after the constructor of the base class."""

    parameter_names = ("bias",)

    def __init__(self, n: int) -> None:
        super().__init__()
        self.bias = torch.zeros(n, dtype=torch.float64)

    def compute(self, input: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return input + bias


@pytest.mark.parametrize("cls", [Scale, Shift])
def test_parameters_are_trained(cls: Callable[[int], nn.Module]) -> None:
    module = cls(3)
    before = module.parameters()[0][1].clone()
    module.forward(x)
    module.backward(x, g)
    assert not torch.equal(module.parameters()[1][1], torch.zeros(3).double())
    module.updateParameters(1)
    assert not torch.equal(module.parameters()[0][1], before)


@pytest.mark.parametrize(
    "module", [nn.Linear(3, 2), nn.Sequencer(nn.LSTM(3, 2)), nn.Sequential().add(nn.Linear(3, 2))], ids=str
)
def test_saved_by_pytorch(module: nn.Module) -> None:
    """The copy is the module without its recorded pass: it computes that again, or says that it cannot."""
    input = Table(x, x) if isinstance(module, nn.Sequencer) else x
    output = module.forward(input)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    copy = torch.load(file, weights_only=False)
    assert dumps(copy) == dumps(module)
    if isinstance(module, nn.Sequencer):
        with pytest.raises(InputError, match="expected a forward"):
            copy.backward(input, output)
        copy.forget()
        copy.forward(input)
    torch.testing.assert_close(
        to_tuples(lambda x: x, copy.backward(input, output)),
        to_tuples(lambda x: x, module.backward(input, output)),
    )


def test_tables_in_and_out() -> None:
    m = nn.Sequential().add(Cross()).add(nn.SelectTable("total")).add(nn.Tanh())
    input = Table(x, Table(2 * x), name=x)
    torch.testing.assert_close(m.forward(input), (3 * x).tanh())
    gradInput = m.backward(input, g)
    torch.testing.assert_close(gradInput[1], g * (1 - (3 * x).tanh() ** 2))
    assert torch.equal(gradInput[2][1], gradInput[1])
    assert torch.equal(gradInput.name, torch.zeros_like(x))
    output = m.get(1).output
    assert isinstance(output, Table)
    assert torch.equal(output[1][1], x)


def test_container() -> None:
    m = Residual().add(nn.Identity()).add(nn.Tanh())
    torch.testing.assert_close(m.forward(x), x + x.tanh())
    slope = 1 - x.tanh() ** 2
    torch.testing.assert_close(m.backward(x, g), g * (1 + slope))
    torch.testing.assert_close(m.get(1).gradInput, g)
    torch.testing.assert_close(m.get(2).gradInput, g * slope)


@pytest.mark.parametrize("criterion", [Huber(), Half()], ids=str)
def test_criterion(criterion: nn.Criterion) -> None:
    both = nn.ParallelCriterion().add(criterion).add(criterion.clone(), 0.5)
    loss = criterion.forward(x, g)
    gradInput = criterion.backward(x, g)
    assert both.forward([x, x], [g, g]) == pytest.approx(1.5 * loss)
    torch.testing.assert_close(both.backward([x, x], [g, g])[2], 0.5 * gradInput)
    assert nn.SequencerCriterion(criterion).forward([x, x], [g, g]) == pytest.approx(2 * loss)


def test_copies() -> None:
    m = net()
    for copy in (m.clone(), m.clone("weight"), m.sharedClone()):
        assert [type(child) for child in copy.modules] == [nn.Linear, Scale, Halve]
        assert copy.get(3).divisor == 2
    assert m.clone("weight").get(2).weight.data_ptr() == m.get(2).weight.data_ptr()


def test_other_type() -> None:
    m = net().float()
    assert m.get(2).weight.dtype == m.forward(x.float()).dtype == torch.float32


def test_parameters_that_a_class_lists_itself() -> None:
    class WithScale(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 2)
            self.scale, self.gradScale = torch.ones(1).double(), torch.ones(1).double()

        def parameters(self) -> Any:
            weights, gradients = super().parameters()
            return [*weights, self.scale], [*gradients, self.gradScale]

    layer = WithScale()
    m = nn.Sequential().add(nn.Linear(3, 3)).add(layer)
    m.zeroGradParameters()
    assert (layer.gradScale, len(m.parameters()[1])) == (0, 5)
    layer.gradScale.fill_(2)
    m.updateParameters(0.1)
    gives(layer.scale, "0.8")
    flat, _ = m.getParameters()
    gives(flat[-1], "0.8")
    assert flat.numel() == 12 + 9


# ---- in files


def test_saved_and_loaded() -> None:
    register("my.Scale")(Scale)
    register("my.Halve")(Halve)
    m = net()
    again = loads(dumps(m))
    assert [type(child) for child in again.modules] == [nn.Linear, Scale, Halve]
    assert again.get(2).came_from == 3
    same(results(again), results(m))
    assert [str(child) for child in m.modules] == ["nn.Linear(3 -> 3)", "my.Scale", "my.Halve"]


def test_unknown_when_loaded() -> None:
    loaded = loads(dumps(net()))
    assert isinstance(loaded.get(2), TorchObject)
    gives(loaded.get(2).weight, "0.644218 0.98545 0.863209")
    with pytest.raises(InputError, match=r"expected a module at index 2, got Scale, which is no"):
        loaded.forward(x)
    register("Scale")(Scale)
    register("Halve")(Halve)
    same(results(loads(dumps(loaded))), results(net()))


def test_a_name_has_one_class() -> None:
    register("my.Layer")(Scale)
    with pytest.raises(ValueError, match=r"my.Layer is .*Scale already; say replaces=True to put .*Halve"):
        register("my.Layer")(Halve)
    register("my.Layer", replaces=True)(Halve)
    assert registry.lookup("my.Layer") is Halve


def test_a_subclass_has_a_name_of_its_own() -> None:
    register("my.Scale")(Scale)

    class Wider(Scale):
        pass

    assert str(Wider(3)) == "Wider"
    assert isinstance(loads(dumps(Wider(3))), TorchObject)


def test_fields_that_a_file_cannot_hold() -> None:
    m = net()
    m.get(1).accGradParameters = lambda *arguments: None
    with pytest.raises(InputError, match=r"modules\[1\].accGradParameters.*function.*cannot be saved"):
        dumps(m)


def test_what_is_no_module_is_refused() -> None:
    for change in (nn.Sequential().add, nn.Sequential().insert):
        with pytest.raises(InputError, match=r"nn.Sequential: expected a module, got torch.DoubleTensor"):
            change(x)
