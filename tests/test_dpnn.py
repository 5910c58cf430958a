"""What dpnn adds to modules, REINFORCE, and what the golden data of its classes do not show."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import GOLDEN, Case, cases, gradients, over, parameters, same
from torch7 import gives, wave

import t7compat
from t7compat import InputError, Storage, Table, mersenne, nn

REWARD = torch.tensor([1.0, -2.0], dtype=torch.float64)


# ---- what every module has


@over("dpnn", "Module", having="actions")
def test_methods_of_modules(data: Table) -> None:
    module = data.module
    module.zeroGradParameters()
    same(module.forward(data.input), data.output, "output")
    same(module.backward(data.input, data.gradOutput), data.gradInput, "gradInput")
    for number, action in enumerate(data.actions, 1):
        name, *arguments = (action[i] for i in range(1, max(action.keys()) + 1))
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


# ---- constructors


def unigrams() -> torch.Tensor:
    return wave(9).abs()


MADE: list[tuple[str, str, Callable[[], Any]]] = [
    ("NCEModule", "batchnoise_Z1", lambda: nn.NCEModule(4, 9, 5, unigrams(), 1)),
    ("PCAColorTransform", "batch", lambda: nn.PCAColorTransform(2, wave(2, 2), wave(2), 0.2)),
    ("PCAColorTransform", "online_default", lambda: nn.PCAColorTransform(2, wave(2, 2), wave(2))),
    ("ReinforceNormal", "tensor_stdev", lambda: nn.ReinforceNormal(wave(4))),
    ("SimpleColorTransform", "batch", lambda: nn.SimpleColorTransform(2, wave(2))),
    ("SpatialFeatNormalization", "batch", lambda: nn.SpatialFeatNormalization(wave(2), wave(2))),
    ("SpatialRegionDropout", "online", lambda: nn.SpatialRegionDropout(0.25)),
    (
        "Inception",
        "default",
        lambda: nn.Inception({"inputSize": 2, "outputSize": (3, 2), "reduceSize": (2, 3, 2, 1)}),
    ),
    (
        "Inception",
        "batchnorm_tanh",
        lambda: nn.Inception(
            Table(
                inputSize=2, outputSize=Table(3, 2), reduceSize=Table(2, 3, 2, 1), batchNorm=True,
                transfer=nn.Tanh(),
            )
        ),
    ),
    (
        "Inception",
        "no_pool_reduce",
        lambda: nn.Inception({"inputSize": 2, "outputSize": (3, 2), "reduceSize": (2, 2)}),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("stem", "name", "make"), MADE)
def test_constructor_sets_the_fields_of_torch7(stem: str, name: str, make: Callable[[], Any]) -> None:
    wanted = next(case for case in cases("dpnn") if (case.stem, case.name) == (stem, name)).load().module
    made = make()
    assert set(vars(made)) == set(vars(wanted))
    assert str(made) == str(wanted)
    for key, value in vars(wanted).items():
        if not isinstance(value, torch.Tensor | Table | nn.Module):
            assert getattr(made, key) == value or key == "aliasmultinomial"
    same(Table(*[p.size() for p in parameters(made)]), Table(*[p.size() for p in parameters(wanted)]))


MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: nn.TotalDropout(1), "illegal percentage"),
    (lambda: nn.SpatialRegionDropout(-0.1), "illegal percentage"),
    (lambda: nn.Inception({"inputSize": 2}), "expected a table with inputSize, outputSize and reduceSize"),
    (lambda: nn.NCEModule(4, 9, 5, wave(8)), "expected a 1-D tensor with 9 elements"),
    (lambda: nn.NCEModule(4, 9, 0, unigrams()), "expected a number of samples"),
    (lambda: nn.PCAColorTransform(3, wave(2, 2), wave(2)), "expected 3 vectors and values"),
    (lambda: nn.SimpleColorTransform(3, wave(2)), "expected 3 ranges"),
    (lambda: nn.SpatialFeatNormalization(wave(2, 2)), "expected a 1-D tensor"),
    (lambda: nn.Clip(None, 1), "minval: expected a number"),
    (lambda: nn.SpatialGlimpse("a"), "height: expected a number"),
    (lambda: nn.SpatialUniformCrop(3, 3, 5), "expected a table as scale"),
    (lambda: nn.SpatialReSampling(5), "expected a table"),
]


@pytest.mark.parametrize(("make", "message"), MISTAKES)
def test_refused_argument(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_warnings() -> None:
    with pytest.warns(UserWarning, match="s1x1 should be smaller"):
        nn.FireModule(2, 5, 2, 2)
    with pytest.warns(UserWarning, match="differ in size"):
        nn.Inception({"inputSize": 2, "outputSize": (3, 2), "reduceSize": (2, 2), "poolStride": 2})


# ---- REINFORCE


@pytest.mark.parametrize(
    "case", [case for case in cases("dpnn") if case.stem.endswith("ClassReward")], ids=str
)
def test_reward_of_the_module(case: Case) -> None:
    data = case.load()
    data.criterion.forward(data.input, data.target)
    data.criterion.backward(data.input, data.target)
    same(data.criterion.module.reward, data.reward, "reward")
    same(data.criterion.vrReward, data.vrReward, "vrReward")


def test_reward_reaches_the_layers_of_a_network() -> None:
    agent = nn.Sequential().extend(nn.Linear(3, 2), nn.SoftMax(), nn.ReinforceCategorical(True))
    network = nn.Sequential().add(agent).add(nn.ConcatTable().extend(nn.Identity(), nn.Linear(2, 1)))
    criterion = nn.VRClassReward(network, 2)
    target = torch.tensor([1, 2, 1, 2])
    network.zeroGradParameters()
    criterion.forward(network.forward(wave(4, 3)), target)
    network.backward(wave(4, 3), criterion.backward(network.output, target))
    assert agent.get(3).reward.shape == (4,)
    assert agent.get(1).gradWeight.abs().sum() > 0


def test_float_leaves_the_rewarded_module() -> None:
    criterion = nn.VRClassReward(nn.Linear(3, 2)).float()
    assert criterion.module.weight.dtype == torch.float64
    assert criterion.gradInput[1].dtype == torch.float32


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: nn.ReinforceBernoulli().forward(Table(wave(2))), "expected a tensor"),
    (lambda: nn.ReinforceCategorical().forward(wave(3).abs()), "expected a 2-D tensor"),
    (lambda: nn.ReinforceNormal().forward(wave(3)), "stdev: expected torch.DoubleTensor of size 3, got nil"),
    (lambda: nn.ReinforceNormal().forward([wave(3)]), "expected a tensor or two"),
    (lambda: nn.ReinforceNormal(wave(4)).forward(wave(2, 3)), "stdev: expected"),
    (lambda: rewarded(nn.ReinforceNormal(1), None), "expected a call of reinforce"),
    (lambda: rewarded(nn.ReinforceNormal(1), wave(3)), "expected a reward for each of 2 samples"),
    (lambda: rewarded(nn.ReinforceNormal(1), REWARD.float()), "expected a 1-D torch.DoubleTensor"),
    (lambda: nn.ReinforceNormal(1).backward(wave(2, 3), wave(2, 3)), "expected the input of the last"),
    (lambda: nn.Reinforce().forward(wave(3)), "an abstract class"),
    (lambda: nn.VRClassReward(nn.Tanh()).forward([wave(3, 2), wave(3)], wave(3)), "expected a 2-D"),
    (lambda: nn.VRClassReward(nn.Tanh()).forward([wave(3, 2), wave(3, 1)], wave(2)), "each of 3 samples"),
    (lambda: nn.VRClassReward(nn.Tanh()).backward([wave(3, 2), wave(3, 1)], wave(3)), "expected a forward"),
    (lambda: nn.BinaryClassReward(nn.Tanh()).forward([wave(3), wave(2)], wave(3)), "a baseline for each"),
    (lambda: nn.BinaryClassReward(nn.Tanh()).forward(wave(3), wave(3)), "a prediction and a baseline"),
]


def rewarded(module: Any, reward: Any) -> Any:
    module.forward(wave(2, 3))
    module.reinforce(reward)
    return module.backward(wave(2, 3), wave(2, 3))


@pytest.mark.parametrize(("run", "message"), REFUSED)
def test_refused_input(run: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run()


def test_gamma_samples() -> None:
    """The numbers of Torch7 with the package randomkit, which draws from Torch's stream."""
    shape = wave(2, 3).abs() * 3
    t7compat.manualSeed(5)
    module = nn.ReinforceGamma(0.5)
    gives(module.forward(shape), "1.11236 1.06141 4.11562 0.242747 0.0953853 0.749684")
    module.reinforce(REWARD)
    found = module.backward(shape, shape)
    gives(found, "-0.421225 0.152656 -1.36175 -0.307022 -2.32487 -0.705739")
    gives(module.forward(shape), "0.257716 1.1525 0.282847 0.122858 0.02405 1.70029")
    assert mersenne.uniform() == pytest.approx(0.32756394147873)


def test_gamma_with_shape_and_scale() -> None:
    input = [wave(2, 3).abs() * 3, wave(2, 3).abs() + 1]
    t7compat.manualSeed(5)
    module = nn.ReinforceGamma()
    gives(module.forward(input), "3.65793 4.21473 15.3365 0.648128 0.25769 2.80618")
    module.reinforce(REWARD)
    shape = "-0.421225 0.152656 -1.36175 -0.307022 -2.32487 -0.705739"
    scale = "-0.177635 0.419823 -3.0279 -0.778241 -1.27567 -1.19189"
    gives(module.backward(input, wave(2, 3)), f"{shape} {scale}")


# ---- noise contrastive estimation


def test_aliases_draw_the_given_probabilities() -> None:
    weights = torch.tensor([0.5, 0.1, 0.0, 0.4], dtype=torch.float64)
    t7compat.manualSeed(1)
    drawn = nn.NCEModule(2, 4, 3, weights).aliasmultinomial.batchdraw(torch.empty(40000, dtype=torch.int64))
    shares = drawn.bincount(minlength=5)[1:] / len(drawn)
    torch.testing.assert_close(shares.double(), weights, atol=0.01, rtol=0)


def test_noise_keeps_its_type_and_is_drawn_again() -> None:
    module = nn.NCEModule(4, 9, 5, unigrams(), 1)
    input = [wave(3, 4), torch.tensor([1, 9, 4])]
    module.forward(input)
    module.float()
    assert (module.unigrams.dtype, module.sampleidx) == (torch.float64, None)
    assert module.forward([input[0].float(), input[1]])[3].dtype == torch.float32
    assert module.clearState() is module
    assert [part.numel() for part in module.output] == [0] * 4
    assert module.sampleidx is None


@pytest.mark.parametrize(
    ("input", "message"),
    [
        (wave(3, 4), "expected a table of an input and targets"),
        ([wave(3, 5), torch.tensor([1, 2, 3])], "with 4 elements"),
        ([wave(3, 4), wave(3)], "expected a torch.LongTensor of targets"),
        ([wave(3, 4), torch.tensor([1, 2])], "with 3 elements"),
        ([wave(3, 4), torch.tensor([1, 2, 10])], "expected target classes from 1 to 9, got 10"),
        ([wave(3, 4), torch.tensor([1, 0, 2])], "expected target classes from 1 to 9, got 0"),
    ],
)
@pytest.mark.parametrize("batchnoise", [True, False])
def test_refused_targets(input: Any, message: str, batchnoise: bool) -> None:
    module = nn.NCEModule(4, 9, 5, unigrams(), 1)
    module.batchnoise = batchnoise
    with pytest.raises(InputError, match=message):
        module.forward(input)


# ---- images: Torch7 with the package nnx gave these numbers


def test_resampling() -> None:
    module = nn.SpatialReSampling({"owidth": 5, "oheight": 3})
    top = "0.644218 0.814834 0.98545 0.92433 0.863209"
    middle = "0.489603 0.403468 0.317333 0.156575 -0.0041832"
    gives(module.forward(wave(1, 2, 3)), f"{top} {middle} 0.334988 -0.00789754 -0.350783 -0.61118 -0.871576")
    found = module.backward(wave(1, 2, 3), wave(1, 3, 5))
    gives(found, "0.455542 0.966385 0.149408 0.734067 0.00611525 -0.730239")
    half = nn.SpatialReSampling({"rwidth": 0.5, "rheight": 1})
    gives(half.forward(wave(1, 1, 2, 4)), "0.644218 0.334988 -0.350783 -0.631267")
    with pytest.raises(InputError, match="rwidth: expected a number"):
        nn.SpatialReSampling({"oheight": 3}).forward(wave(1, 2, 3))


def test_scaled_crops() -> None:
    t7compat.manualSeed(3)
    module = nn.SpatialUniformCrop(2, 2, {"min": 0.6, "max": 1.4})
    output = module.forward(wave(2, 1, 6, 6))
    gives(output, "0.863209 -0.350783 -0.879696 -0.618137 0.694165 0.827328 0.254682 -0.909667")
    gives(module.coord, "1 3 1 1")
    gives(module.scales, "1.04064 1.27196")
    found = module.backward(wave(2, 1, 6, 6), wave(2, 1, 2, 2))
    places = found.nonzero()[:, 2:].flatten()
    assert places.tolist() == [0, 2, 0, 4, 2, 2, 2, 4, 0, 0, 0, 2, 2, 0, 2, 2]
    gives(
        found[found != 0],
        "0.644218 0.98545 0.863209 0.334988 -0.350783 -0.871576 -0.982453 -0.631267",
    )


def test_glimpse_of_another_scale() -> None:
    module = nn.SpatialGlimpse(2, 2, 1.5)
    input = [wave(1, 1, 5, 4), torch.tensor([[0.3, -0.2]], dtype=torch.float64)]
    near, far = "-0.350783 -0.871576 0.0168139 0.656987", "-0.350783 -0.982453 0.319098 -0.879696"
    gives(module.forward(input), f"{near} {far}")
    first = "0 0 0 0 0.293434 0.98545 -0.871576 0 0.863209 0.334988 0 0 -0.982453 0 -0.631267 0 0 0 0 0"
    gives(module.backward(input, wave(1, 2, 2, 2)), f"{first} 0 0")


@pytest.mark.parametrize(
    ("make", "input"),
    [
        (lambda: nn.SpatialUniformCrop(5), wave(1, 4, 6)),
        (lambda: nn.SpatialGlimpse(4, 2), [wave(1, 6, 6), wave(1, 2)]),
        (lambda: nn.SpatialGlimpse(4, 2), [wave(2, 1, 6, 6), wave(3, 2)]),
        (lambda: nn.SimpleColorTransform(2, wave(2)), wave(3, 4, 4)),
        (lambda: nn.SpatialRegionDropout(), wave(4, 4)),
        (lambda: nn.SpatialFeatNormalization(wave(2)), wave(3, 4, 4)),
    ],
)
def test_refused_image(make: Callable[[], Any], input: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        make().forward(input)


@pytest.mark.parametrize(
    "module",
    [nn.TotalDropout(), nn.SpatialRegionDropout(), nn.SimpleColorTransform(2, wave(2).abs())],
    ids=str,
)
def test_no_backward_in_evaluation(module: Any) -> None:
    module.evaluate()
    same(module.forward(wave(2, 3, 3)), wave(2, 3, 3))
    with pytest.raises(InputError, match="expected training mode"):
        module.backward(wave(2, 3, 3), wave(2, 3, 3))


def test_inception_of_one_sample() -> None:
    module = nn.Inception({"inputSize": 2, "outputSize": (3, 2), "reduceSize": (2, 3, 2, 1)})
    module.evaluate()
    same(module.forward(wave(2, 5, 5)), module.clone().forward(wave(1, 2, 5, 5))[0])


def test_clip_of_extremes() -> None:
    input = torch.tensor([math.inf, -math.inf, math.nan, 2], dtype=torch.float64)
    module = nn.Clip(-1, 1)
    gives(module.forward(input)[[0, 1, 3]], "1 -1 1")
    assert module.output[2].isnan()
    same(module.backward(input, wave(4)), wave(4))
    gives(nn.Clip(1, -1).forward(wave(3)), "1 1 1")


def test_binary_weights_are_not_seen() -> None:
    """Torch7 leaves only the signs in the weight until the gradients are accumulated."""
    module = nn.SpatialBinaryConvolution(2, 3, 2, 2)
    before = module.weight.clone()
    module.forward(wave(2, 3, 3))
    same(module.weight, before)


def test_all_cases_are_there() -> None:
    assert len(cases("dpnn")) >= 100, GOLDEN
