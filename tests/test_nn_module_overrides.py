"""Old-style classes, and functions put into single modules: what they override is called everywhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden import gradients
from torch7 import gives, wave

import t7compat
from t7compat import InputError, Table, nn

x, g = wave(2, 3), wave(2, 2) + 0.5


class Square(nn.Module):
    """w x^2 with one number w, written as in Lua."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.weight, self.gradWeight = torch.tensor([w]).double(), torch.zeros(1).double()

    def updateOutput(self, input: Any) -> Any:
        self.output = input * input * self.weight
        return self.output

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        self.gradInput = gradOutput * input * (2 * self.weight)
        return self.gradInput

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        self.gradWeight += scale * (input * input * gradOutput).sum()


class Swap(nn.Module):
    """{a, b} -> {b, {a}}"""

    def updateOutput(self, input: Any) -> Any:
        self.output = Table(input[2], Table(input[1]))
        return self.output

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        self.gradInput = Table(gradOutput[2][1], gradOutput[1])
        return self.gradInput


class Pass(nn.Module):
    """Hands on the very tensors that it is given."""

    def updateOutput(self, input: Any) -> Any:
        self.output = input
        return self.output

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        self.gradInput = gradOutput
        return self.gradInput


class HalfLinear(nn.Linear):
    """A Linear that learns half as fast."""

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        super().accGradParameters(input, gradOutput, 0.5 * scale)


def add(container: Any, *modules: nn.Module) -> Any:
    for module in modules:
        container.add(module)
    container.zeroGradParameters()
    return container


def mlp() -> nn.Sequential:
    t7compat.manualSeed(3)
    return add(nn.Sequential(), nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2))


# ---- classes


def test_in_a_sequence() -> None:
    t7compat.manualSeed(2)
    m = add(nn.Sequential(), nn.Linear(3, 2), Square(0.5), nn.Tanh())
    gives(m.forward(x), "0.425402 0.313994 0.126939 0.0516035")
    gives(m.backward(x, g, 0.5), "0.603926 0.386728 1.04707 -0.183453 -0.261761 -0.50932")
    gives(
        gradients(m),
        "-0.17423 -0.558987 -0.680843 0.302881 0.578832 0.58255 -0.107817 0.405916 1.07505",
    )
    gives(m.get(2).gradInput, "-0.893268 1.07948 0.677634 -0.267652")
    gives(m.get(1).gradInput, "0.603926 0.386728 1.04707 -0.183453 -0.261761 -0.50932")
    m.updateParameters(0.1)
    gives(
        m.parameters()[0],
        "-0.0564837 -0.307737 -0.479329 0.468012 -0.000537956 0.45874 -0.0639016 -0.0582018 0.392495",
    )
    m.zeroGradParameters()
    m.forward(x)
    gives(m.updateGradInput(x, g), "0.378543 0.210677 0.661827 -0.11885 -0.144884 -0.316246")
    m.accGradParameters(x, g, 2)
    gives(gradients(m), "-0.568041 -1.68232 -2.00538 0.803432 1.56925 1.59702 -0.429442 1.05794 3.29264")
    m.backwardUpdate(x, g, 0.1)
    gives(
        m.parameters()[0],
        "-0.0280817 -0.223621 -0.37906 0.427841 -0.0790002 0.378889 -0.0424295 -0.111099 0.227863",
    )


def test_side_by_side() -> None:
    t7compat.manualSeed(2)
    inner = nn.Sequential().add(Square(2)).add(nn.Tanh())
    m = add(nn.Concat(2), nn.Linear(3, 2), Square(0.5), inner)
    gives(
        m.forward(x),
        "-0.953172 0.806189 0.207508 0.485556 0.372565 0.680494 0.95971 0.903373 "
        "0.505228 -0.321401 0.0561085 0.0615244 0.379822 0.22074 0.241247 0.908574",
    )
    gives(m.backward(x, wave(2, 8)), "-0.206375 -0.153407 -0.546859 0.190022 0.894274 0.648008")
    gives(
        gradients(m),
        "0.420649 0.628946 0.54144 0.854927 0.740651 0.278036 0.661032 1.64244 0.880626 -0.626918",
    )
    gives(m.get(1).gradInput, "0.443438 -0.17775 0.156819 0.326134 0.0315609 0.330454")
    gives(m.get(2).gradInput, "0.556095 0.330114 -0.302799 0.331025 -0.299779 -0.278118")
    gives(m.get(3).gradInput, "-1.20591 -0.305771 -0.400878 -0.467137 1.16249 0.595672")


def test_in_a_table() -> None:
    t7compat.manualSeed(2)
    m = add(nn.ConcatTable(), nn.Linear(3, 2), Square(0.5))
    gives(
        m.forward(x),
        "-0.953172 0.806189 0.505228 -0.321401 0.207508 0.485556 0.372565 0.0561085 0.0615244 0.379822",
    )
    gives(m.backward(x, [g, wave(2, 3)]), "1.07065 0.640216 0.88674 0.427542 -0.32478 0.44509")
    gives(gradients(m), "1.19378 0.649378 -0.200441 1.23666 1.17094 0.554499 2.50743 2.32044 1.19989")
    gives(m.get(1).gradInput, "0.655635 -0.330895 0.14161 0.315325 -0.447829 -0.314554")
    gives(m.get(2).gradInput, "0.415016 0.971111 0.74513 0.112217 0.123049 0.759644")


def test_on_slices() -> None:
    t7compat.manualSeed(2)
    m = add(nn.Parallel(1, 1), nn.Linear(3, 2), Square(0.5))
    gives(m.forward(x), "-0.953172 0.806189 0.0561085 0.0615244 0.379822")
    gives(m.backward(x, wave(5)), "0.443438 -0.17775 0.156819 0.289165 -0.117508 0.305734")
    gives(
        gradients(m),
        "0.415016 0.634844 0.556095 0.634844 0.971111 0.850649 0.644218 0.98545 -0.128384",
    )
    gives(m.get(2).gradInput, "0.289165 -0.117508 0.305734")


def test_on_a_table_that_holds_one_tensor_twice() -> None:
    t7compat.manualSeed(2)
    m = add(nn.ParallelTable(), nn.Linear(3, 2), Square(0.5))
    m.forward([x, x])
    gives(
        m.backward([x, x], [g, wave(2, 3)]),
        "0.655635 -0.330895 0.14161 0.315325 -0.447829 -0.314554 "
        "0.415016 0.971111 0.74513 0.112217 0.123049 0.759644",
    )


def test_nested_tables() -> None:
    t7compat.manualSeed(3)
    m = add(
        nn.Sequential(),
        nn.ConcatTable().add(nn.Linear(3, 2)).add(nn.Tanh()),
        Swap(),
        nn.FlattenTable(),
        nn.ParallelTable().add(nn.Linear(3, 2)).add(nn.Identity()),
        nn.CAddTable(),
    )
    gives(m.forward(x), "-0.0466795 -1.58586 -0.491763 0.724904")
    gives(m.backward(x, g), "0.442655 -1.23726 -0.510091 0.546138 -1.28512 0.0542516")
    gives(
        gradients(m),
        "1.19378 0.649378 -0.200441 1.23666 1.17094 0.554499 2.50743 2.32044 "
        "1.08996 0.404863 -0.158652 1.11308 0.840682 0.4504 2.50743 2.32044",
    )


def test_output_that_is_the_input() -> None:
    t7compat.manualSeed(3)
    m = add(nn.Sequential(), Pass(), nn.Linear(3, 2), Pass())
    gives(m.forward(x), "-0.230711 -0.282455 -0.00345231 0.677322")
    gives(m.backward(x, g), "0.650213 -0.925821 -0.374505 0.407727 -0.877323 -0.0374551")
    gives(gradients(m), "1.19378 0.649378 -0.200441 1.23666 1.17094 0.554499 2.50743 2.32044")


def test_class_that_calls_the_one_above() -> None:
    t7compat.manualSeed(3)
    m = add(nn.Sequential(), HalfLinear(3, 2), nn.Tanh())
    gives(m.forward(x), "-0.226703 -0.275176 -0.0034523 0.589776")
    gives(m.backward(x, g), "0.602611 -0.869514 -0.339457 0.293717 -0.807191 0.0895358")
    gives(gradients(m), "0.577947 0.295717 -0.125594 0.533454 0.580987 0.355272 1.2243 0.958759")
    m.accUpdateGradParameters(x, g, 0.1)
    gives(
        m.parameters()[0],
        "0.000861622 -0.525256 0.252908 0.339194 -0.299541 -0.472779 -0.109928 -0.0158421",
    )


# ---- single modules


def test_layer_frozen_by_its_accGradParameters() -> None:
    m = mlp()
    m.get(1).accGradParameters = lambda input, gradOutput, scale=1: None
    m.forward(x)
    gives(m.backward(x, g), "-0.32205 -0.442099 0.784524 -0.10466 -0.498872 0.4912")
    gives(gradients(m), "0 0 0 0 0 0 0 0 -0.264103 0.489127 -0.339638 0.0836963 2.50743 2.32044")
    m.updateParameters(0.1)
    gives(
        m.parameters()[0],
        "0.0586564 -0.495684 0.240348 0.392539 -0.241442 -0.437252 0.0125026 0.0800338 "
        "0.582121 -0.137921 0.594407 -0.688963 -0.780245 -0.88169",
    )


def test_layer_frozen_by_its_updateParameters() -> None:
    m = mlp()
    m.get(1).updateParameters = lambda learningRate: None
    m.forward(x)
    m.backward(x, g)
    gives(
        gradients(m),
        "1.30786 0.942747 0.134248 -0.813281 -0.855836 -0.495878 2.6184 -1.47831 "
        "-0.264103 0.489127 -0.339638 0.0836963 2.50743 2.32044",
    )
    m.updateParameters(0.1)
    gives(
        m.parameters()[0],
        "0.0586564 -0.495684 0.240348 0.392539 -0.241442 -0.437252 0.0125026 0.0800338 "
        "0.582121 -0.137921 0.594407 -0.688963 -0.780245 -0.88169",
    )


def test_parameters_hidden_from_the_optimiser() -> None:
    m = mlp()
    m.get(1).parameters = lambda: None
    gives(m.parameters()[0], "0.555711 -0.0890079 0.560443 -0.680593 -0.529502 -0.649646")
    before = m.get(1).weight.clone()
    flat, _ = m.getParameters()
    assert flat.numel() == 6
    m.forward(x)
    m.backward(x, g)
    m.updateParameters(0.1)
    assert torch.equal(m.get(1).weight, before)


def test_first_layer_without_gradInput() -> None:
    m = mlp()
    first = m.get(1)
    first.updateGradInput = lambda input, gradOutput: first.gradInput
    m.forward(x)
    m.backward(x, g)
    assert first.gradInput.numel() == 0
    gives(
        gradients(m),
        "1.30786 0.942747 0.134248 -0.813281 -0.855836 -0.495878 2.6184 -1.47831 "
        "-0.264103 0.489127 -0.339638 0.0836963 2.50743 2.32044",
    )


def test_forward_and_gradInput_of_one_module() -> None:
    m = mlp()
    tanh = m.get(2)

    def updateOutput(input: Any) -> Any:
        tanh.output = input * 2
        return tanh.output

    def updateGradInput(input: Any, gradOutput: Any) -> Any:
        tanh.gradInput = gradOutput * 2
        return tanh.gradInput

    tanh.updateOutput, tanh.updateGradInput = updateOutput, updateGradInput
    gives(m.forward(x), "-0.735638 -0.523773 -0.653913 -1.57548")
    gives(m.backward(x, g), "-0.701402 -0.918321 1.67901 -0.39764 -0.881927 1.19218")
    gives(
        gradients(m),
        "2.71296 2.03422 0.398756 -1.89584 -1.70946 -0.719094 5.38776 -3.60491 "
        "-0.537379 1.20028 -0.691184 0.291967 2.50743 2.32044",
    )


def test_backward_of_one_module_is_called_once() -> None:
    m, calls = mlp(), []
    first = m.get(1)

    def backward(input: Any, gradOutput: Any, scale: float = 1) -> Any:
        calls.append(scale)
        return nn.Linear.backward(first, input, gradOutput, scale)

    first.backward = backward
    m.forward(x)
    gives(m.backward(x, g, 0.5), "-0.32205 -0.442099 0.784524 -0.10466 -0.498872 0.4912")
    assert calls == [0.5]


# ---- around them


def test_gradients_that_do_not_reach_a_module_are_zero() -> None:
    inner = Square(1)
    m = add(nn.Sequential(), nn.ConcatTable().add(nn.Identity()).add(inner), nn.SelectTable(1))
    m.forward(x)
    assert torch.equal(m.backward(x, wave(2, 3)), wave(2, 3))
    assert torch.equal(inner.gradInput, torch.zeros(2, 3).double())


def test_input_of_whole_numbers() -> None:
    class Embed(nn.Module):
        def updateOutput(self, input: Any) -> Any:
            self.output = input.double()[:, None] * torch.ones(1, 3).double()
            return self.output

        def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
            self.seen = gradOutput
            return self.gradInput

    m = add(nn.Sequential(), Embed(), nn.Linear(3, 2))
    indices = torch.tensor([2, 1])
    m.forward(indices)
    m.backward(indices, g)
    torch.testing.assert_close(m.get(1).seen, g @ m.get(2).weight)


def test_without_gradients() -> None:
    m = add(nn.Sequential(), nn.Linear(3, 2), Square(0.5))
    with torch.no_grad():
        output = m.forward(x)
    assert torch.equal(output, m.forward(x))
    assert not output.requires_grad


@pytest.mark.parametrize("fault", [TypeError, AttributeError, KeyError, ZeroDivisionError, RuntimeError])
@pytest.mark.parametrize("method", ["updateOutput", "updateGradInput"])
def test_errors_of_a_class_name_its_place(fault: type[Exception], method: str) -> None:
    class Broken(Square):
        pass

    def fail(*arguments: Any) -> Any:
        raise fault("went wrong")

    setattr(Broken, method, fail)
    m = add(nn.Sequential(), nn.Linear(3, 2), nn.ConcatTable().add(nn.Identity()).add(Broken(1)))
    with pytest.raises(InputError) as caught:
        m(x, [g, g])
    assert str(caught.value).startswith("in module 2 of nn.Sequential: in module 2 of nn.ConcatTable")
    assert "Broken" in str(caught.value)
    assert "went wrong" in str(caught.value)
    assert isinstance(caught.value.__cause__, fault)


def test_other_exceptions_pass_as_they_are() -> None:
    class Stop(Exception):
        pass

    class Stopping(Square):
        def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
            raise Stop

    m = add(nn.Sequential(), nn.Linear(3, 2), Stopping(1))
    m.forward(x)
    with pytest.raises(Stop):
        m.backward(x, g)


def test_gradInput_that_does_not_fit_is_refused() -> None:
    class Wrong(Square):
        def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
            self.gradInput = gradOutput[0]
            return self.gradInput

    m = add(nn.Sequential(), nn.Linear(3, 2), Wrong(1))
    m.forward(x)
    with pytest.raises(InputError, match=r"in module 2 of nn.Sequential: Wrong: gradInput: expected"):
        m.backward(x, g)


class Twice(nn.Container, typename="test.Twice"):
    """A container in the style of Lua: its module is applied twice."""

    def updateOutput(self, input: Any) -> Any:
        for _ in range(2):
            input = self.rethrowErrors(self.modules[1], 1, "updateOutput", input)
        self.output = input
        return input


def test_containers_of_users_name_the_module_that_fails() -> None:
    net = Twice().add(nn.Linear(3, 2))
    with pytest.raises(InputError, match=r"in module 1 of test\.Twice: nn\.Linear\(3 -> 2\): "):
        net.forward(torch.zeros(3, dtype=torch.float64))
    assert Twice().add(nn.Linear(3, 3)).forward(torch.zeros(3, dtype=torch.float64)).shape == (3,)
