"""The layers and losses of dpnn: constructors, REINFORCE, noise contrastive estimation, images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import Case, cases, parameters, same
from torch7 import gives, wave

import t7compat
from t7compat import InputError, Table, TorchObject, mersenne, nn

Tensor = torch.Tensor
REWARD = torch.tensor([1.0, -2.0], dtype=torch.float64)


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


@pytest.mark.filterwarnings("ignore:nn.Inception")
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


class Even(nn.NCEModule, typename="test.Even"):
    """Its noise are the classes 2, 4, 6, ..., all equally probable."""

    def noiseSample(self, sampleidx: Tensor, batchsize: int, k: int) -> Tensor:
        return sampleidx.resize_(batchsize, k).copy_(torch.arange(2, 2 * k + 1, 2))

    def noiseProb(self, sampleprob: Tensor, sampleidx: Tensor) -> Tensor:
        return sampleprob.resize_(sampleidx.shape).fill_(0.25)


@pytest.mark.parametrize("batchnoise", [True, False])
def test_noise_of_the_user(batchnoise: bool) -> None:
    module = Even(4, 9, 3, unigrams(), 1)
    module.batchnoise = batchnoise
    _, of_samples, noise_target, noise_samples = module.forward([wave(2, 4), torch.tensor([1, 9])])
    weight, bias = module.weight[[1, 3, 5]], module.bias[[1, 3, 5]]
    torch.testing.assert_close(of_samples, (wave(2, 4) @ weight.t() + bias).exp())
    assert (noise_target.tolist(), noise_samples.tolist()) == ([0.25] * 2, [[0.25] * 3] * 2)


def test_weight_on_two_gpus_becomes_one() -> None:
    module = nn.NCEModule(4, 9, 5, unigrams(), 1)
    file = module.clone()
    for name in ("weight", "gradWeight"):
        halves = Table(*vars(module)[name].float().chunk(2, 1))
        vars(file)[name] = TorchObject("torch.MultiCudaTensor", catdim=2, tensors=halves)
    loaded = t7compat.loads(t7compat.dumps(file))
    assert torch.equal(loaded.weight, module.weight.float())
    assert torch.equal(loaded.gradWeight, module.gradWeight.float())


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


@pytest.mark.filterwarnings("ignore:nn.Inception")
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
