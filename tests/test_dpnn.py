"""What dpnn adds to every module, and the files of nn.Serial."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from golden import gradients, over, parameters, same
from torch7 import wave

import t7compat
from t7compat import InputError, Storage, Table, nn

# ---- what every module has


@over("dpnn", "Module", having="actions")
def test_methods_of_modules(data: Table) -> None:
    module = data.module
    module.zeroGradParameters()
    same(module.forward(data.input), data.output, "output")
    same(module.backward(data.input, data.gradOutput), data.gradInput, "gradInput")
    for number, action in enumerate(data.actions, 1):
        name, *arguments = action  # up to the first nil, as Torch7 got them
        result = getattr(module, name)(*arguments)
        result = Table(*result) if isinstance(result, Storage) else result
        if result is not None or data.results[number] is not None:
            same(result, data.results[number], f"result of {name}")
    same(gradients(module), data.gradParams, "gradients")
    same(parameters(module), data.params_after, "parameters")
    for mine, theirs in zip(module.modules, data.after.modules, strict=True):
        same(mine.momGradParams, theirs.momGradParams, "momGradParams")


@over("dpnn", "Module", having="args")
def test_norms_of_a_lookup_table(data: Table) -> None:
    data.module.maxParamNorm(data.args[1], data.args[2])
    same(parameters(data.module), data.params_after, "parameters")


@over("dpnn", "Module", having="gradOutput")
def test_clone_shares_parameters(data: Table) -> None:
    if data.pair is None:
        pytest.skip("one module only")
    module, clone = data.pair
    module.zeroGradParameters()
    clone.updateParameters(-0.1)  # the data are from after a step of gradient descent
    for one in (module, clone):
        one.zeroGradParameters()
    for one in (module, clone):
        one.forward(data.input)
        one.backward(data.input, data.gradOutput)
    same(gradients(module), gradients(clone), "gradients")
    assert parameters(module)[1].data_ptr() == parameters(clone)[1].data_ptr()


def trained() -> Any:
    """A network with gradients."""
    t7compat.manualSeed(1)
    module = nn.Sequential().extend(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    module.zeroGradParameters()
    module.forward(wave(5, 3))
    module.backward(wave(5, 3), wave(5, 2))
    return module


def test_extend_returns_the_container() -> None:
    module = nn.Sequential()
    assert module.extend(nn.Tanh(), nn.Linear(3, 2)) is module
    assert module.size() == 2


def test_settings_of_a_module_come_before_the_arguments() -> None:
    module = trained()
    first, last = module.get(1), module.get(3)
    before = [first.gradWeight.clone(), last.gradWeight.clone()]
    last.wdFactor, last.momFactor, last.cutoffNorm = 0.5, -1, 1e-3
    module.weightDecay(0.1)
    same(first.gradWeight, before[0] + 0.1 * first.weight)
    same(last.gradWeight, before[1] + 0.5 * last.weight)
    kept = last.gradWeight.clone()
    module.updateGradParameters(0.9)
    assert last.momGradParams is None
    same(last.gradWeight, kept)
    module.gradParamClip(100, True)
    assert math.hypot(last.gradWeight.norm(), last.gradBias.norm()) == pytest.approx(1e-3)


def test_nothing_happens_without_need() -> None:
    module = trained()
    before = t7compat.dumps(module)
    module.weightDecay(0)
    module.updateGradParameters(0)
    module.maxParamNorm()
    assert module.gradParamClip(0) is None
    assert nn.Tanh().gradParamClip(1) == 0
    nn.Tanh().updateGradParameters(0.9)
    assert t7compat.dumps(module) == before


def test_norm_of_the_weights_from_each_input() -> None:
    module = trained()
    weight, bias = module.get(1).weight.clone(), module.get(1).bias.clone()
    module.maxParamNorm(None, 0.4)
    found = module.get(1).weight
    torch.testing.assert_close(found.norm(dim=0), weight.norm(dim=0).clamp(max=0.4), rtol=1e-6, atol=0)
    torch.testing.assert_close(found / found.norm(dim=0), weight / weight.norm(dim=0))
    same(module.get(1).bias, bias)


def test_nan_is_found() -> None:
    module = trained()
    module.checkParameters()
    module.get(3).bias[1] = math.nan
    with pytest.raises(InputError, match="index 4"):
        module.checkParameters()


@pytest.mark.parametrize("method", ["weightDecay", "updateGradParameters", "gradParamClip"])
@pytest.mark.parametrize("argument", [None, "a", True])
def test_factor_that_is_no_number(method: str, argument: Any) -> None:
    with pytest.raises(InputError, match="expected a number"):
        getattr(trained(), method)(argument)


def test_decay_where_a_field_hides_the_method() -> None:
    module = nn.Sequential().add(nn.SparseLinear(3, 2))
    module.zeroGradParameters()
    module.weightDecay(0.5)
    same(module.get(1).gradWeight, 0.5 * module.get(1).weight)


def test_small_methods() -> None:
    module = trained()
    seen: list[Any] = []

    class Visitor:
        visit = seen.append

    module.accept(Visitor)
    assert seen == [module]
    assert module.extrapolateType() == "torch.DoubleTensor"
    assert list(nn.Linear(3, 2).outside(3)) == [2]
    crossed = wave(2, 3).t()
    assert module.contiguousInput(crossed).is_contiguous()
    assert module.contiguousInput(crossed, True).stride() == (2, 1)
    one = module.toBatch(wave(3), 1)
    assert (one.shape, module.fromBatch(one, 1).shape) == ((1, 3), (3,))
    assert module.toBatch(wave(2, 3), 1).shape == module.fromBatch(wave(2, 3), 1).shape == (2, 3)


def test_no_backward() -> None:
    frozen = trained().dontBackward()
    module = nn.Sequential().add(frozen).add(nn.Linear(2, 2))
    before = [gradient.clone() for gradient in gradients(frozen)]
    module.forward(wave(5, 3))
    module.backward(wave(5, 3), wave(5, 2))
    same(gradients(frozen), Table(*before))


def test_profile_prints_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    module, plain = trained(), trained()
    module.profile()
    module.forward(wave(5, 3))
    module.backward(wave(5, 3), wave(5, 2))
    plain.forward(wave(5, 3))
    plain.backward(wave(5, 3), wave(5, 2))
    printed = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    names = ["nn.Linear", "nn.Tanh", "nn.Linear"]
    assert printed == [f"{name} updateOutput" for name in names] + [f"{name} backward" for name in names]
    same(gradients(module), gradients(plain))


# ---- files of nn.Serial


@pytest.mark.parametrize(
    ("mode", "output", "gradient"),
    [("heavySerial", 10, 12), ("mediumSerial", 0, 12), ("lightSerial", 0, 0)],
)
def test_serial_modes(mode: str, output: int, gradient: int) -> None:
    serial = getattr(nn.Serial(trained()), mode)()
    serial.forward(wave(5, 3))
    again = t7compat.loads(t7compat.dumps(serial))
    inner = again.get(1)
    assert (inner.output.numel(), inner.get(1).gradWeight.numel()) == (output, gradient)
    assert serial.get(1).output.numel() == 10
    same(again.forward(wave(5, 3)), serial.output)
    again.backward(wave(5, 3), wave(5, 2))
    assert inner.get(1).gradWeight.shape == (4, 3)


def test_serial_with_a_type() -> None:
    serial = trained().Serial("torch.FloatTensor")
    again = t7compat.loads(t7compat.dumps(serial))
    assert again.get(1).get(1).weight.dtype == torch.float32
    assert serial.get(1).get(1).weight.dtype == torch.float64
    with pytest.raises(InputError, match="expected a type"):
        nn.Serial(nn.Tanh(), "float")


def test_serial_keeps_what_is_shared() -> None:
    layer = nn.Linear(3, 3)
    again = t7compat.loads(t7compat.dumps(nn.Serial(nn.Sequential().extend(layer, layer)).mediumSerial()))
    assert again.get(1).get(1) is again.get(1).get(2)


def test_serial_mode_of_chosen_fields() -> None:
    module = nn.Sequential().add(nn.Linear(3, 2)).serialMode(["weight"])
    state = module.getSerialState()
    assert state.dpnn_typename == "nn.Sequential"
    assert state.modules[1].weight.numel() == 0 < state.modules[1].bias.numel()
    assert list(nn.SpatialMaxPooling(2, 2).mediumSerial().dpnn_serialEmpty)[-1] == "indices"
