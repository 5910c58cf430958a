"""Transfer functions and layers for training: what the golden cases do not show."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch7 import given, size_text, wave

import t7compat
from converters import to_native
from t7compat import InputError, nn

Make = Callable[[], Any]


def numbers(text: str) -> torch.Tensor:
    """A vector written as "1/-2"."""
    return torch.tensor([float(number) for number in text.split("/")], dtype=torch.float64)


def evaluating(module: nn.Module) -> nn.Module:
    module.evaluate()
    return module


# The function, input, and what Torch7 gives: output, and gradInput for a gradOutput of ones
POINTS: list[tuple[Make, str, str, str]] = [
    (nn.Abs, "-1/0/1", "1/0/1", "-1/1/1"),
    (nn.Sqrt, "0/4", "0/2", "0/.25"),
    (nn.Log, "0/1", "-inf/0", "inf/1"),
    (nn.LogSigmoid, "-1000/1000", "-1000/0", "1/0"),
    (lambda: nn.SoftPlus(2), "-400/10.01/400", "0/10.01/400", "0/1/1"),
    (nn.SoftSign, "-1/0/1", "-.5/0/.5", ".25/1/.25"),
    (nn.HardTanh, "-2/-1/0/1/2", "-1/-1/0/1/1", "0/0/1/0/0"),
    (lambda: nn.Clamp(0, 2), "-1/0/1/2/3", "0/0/1/2/2", "0/0/1/0/0"),
    (nn.ReLU6, "-1/0/3/6/7", "0/0/3/6/6", "0/0/1/0/0"),
    (lambda: nn.Threshold(1, 0.5), "0/1/2", ".5/.5/2", "0/0/1"),
    (nn.ReLU, "-1/0/1", "0/0/1", "0/0/1"),
    (lambda: nn.LeakyReLU(0.25), "-1/0/1", "-.25/0/1", ".25/.25/1"),
    (lambda: nn.LeakyReLU(True), "-1/0/1", "-.01/0/1", ".01/.01/1"),
    (lambda: nn.LeakyReLU(-0.5, True), "-1/0/1", ".5/0/1", "-.5/-.5/1"),
    (nn.PReLU, "-1/0/1", "-.25/0/1", ".25/.25/1"),
    (lambda: evaluating(nn.RReLU(0.25, 0.75)), "-1/0/1", "-.5/0/1", ".5/.5/1"),
    (lambda: nn.RReLU(0.5, 0.5), "-1/0/1", "-.5/0/1", ".5/.5/1"),
    (lambda: nn.ELU(2), "0/1", "0/1", "2/1"),
    (nn.HardShrink, "-1/-.5/0/.5/1", "-1/0/0/0/1", "1/0/0/0/1"),
    (nn.SoftShrink, "-1/-.5/0/.5/1", "-.5/0/0/0/.5", "1/0/0/0/1"),
    (lambda: nn.L1Penalty(3), "-1/0/1", "-1/0/1", "-2/1/4"),
    (lambda: nn.AddConstant(numbers("1/2/3")), "0/1/2", "1/3/5", "1/1/1"),
]


@pytest.mark.parametrize(("make", "input", "output", "gradInput"), POINTS)
def test_edges(make: Make, input: str, output: str, gradInput: str) -> None:
    module, x = make(), numbers(input)
    torch.testing.assert_close(module.forward(x), numbers(output))
    torch.testing.assert_close(module.backward(x, torch.ones_like(x)), numbers(gradInput))
    assert torch.equal(x, numbers(input))


# The module, the inputs that Torch7 takes with the sizes of the outputs, and those that it refuses
INPUTS: list[tuple[Make, str, str]] = [
    (nn.Exp, "2x3>2x3 3>3", "{2x3} f2x3 i3 nil number"),
    (nn.ELU, "2x3>2x3", "{2x3} f2x3"),
    (nn.RReLU, "2x3>2x3", "{2x3} f2x3 nil"),
    (nn.SoftMin, "3>3 2x3x4x5>2x3x4x5", "2x3x4x5x6 f2x3 {2x3}"),
    (nn.SpatialSoftMax, "2x3x4>2x3x4 2x3>2x3", "2x3x4x5x6 nil"),
    (nn.GatedLinearUnit, "4>2 2x4>2x2", "3 2x3 f4 nil"),
    (lambda: nn.GatedLinearUnit(2), "2x4>2x2 2x4x3>2x2x3", "4 2x3x4"),
    (lambda: nn.AddConstant(wave(3)), "3>3 2x3>2x3", "2 3x2 2x2x3 f2x3"),
    (lambda: nn.CReLU(1), "3>6 2x3>2x6 2x3x4>4x3x4", "{3} f3 nil"),
    (lambda: nn.CReLU(3), "2x3x4>4x3x4 2x3x4x5>2x6x4x5 2x3>4x3", ""),
    (nn.SpatialDropout, "2x3x4>2x3x4 2x3x4x5>2x3x4x5", "2x3 2x3x4x5x6 f2x3x4 nil"),
    (nn.VolumetricDropout, "2x3x4x5>2x3x4x5 2x3x4x5x6>2x3x4x5x6", "2x3x4 nil"),
    (lambda: evaluating(nn.SpatialDropout()), "3>3 2x3x4x5x6>2x3x4x5x6", "f3"),
    (nn.WhiteNoise, "2x3>2x3", "f2x3 {2x3} nil"),
    (lambda: nn.WhiteNoise(0, 0), "", "2x3"),
    (nn.GradientReversal, "2x3>2x3", "f2x3 {2x3} nil"),
    (lambda: nn.L1Penalty(1), "2x3>2x3", "f2x3 {2x3} nil"),
]


@pytest.mark.parametrize(
    ("make", "input", "output"),
    [(make, *input.split(">")) for make, taken, _ in INPUTS for input in taken.split()],
)
def test_accepted(make: Make, input: str, output: str) -> None:
    assert size_text(make().forward(given(input))) == output


@pytest.mark.parametrize(
    ("make", "input"), [(make, input) for make, _, refused in INPUTS for input in refused.split()]
)
def test_refused(make: Make, input: str) -> None:
    with pytest.raises(InputError, match=r"expected|\(input: "):
        make().forward(given(input))


def test_message_for_halves() -> None:
    with pytest.raises(InputError, match=r"expected an even size of dimension 2, got .* of size 2x3"):
        nn.GatedLinearUnit().forward(wave(2, 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.HardTanh(1, 1),
        lambda: nn.Clamp(2, 1),
        lambda: nn.HardTanh(-1, 1, 2),
        lambda: nn.ReLU6(3),
        lambda: nn.ReLU("yes"),
        lambda: nn.AddConstant(1, 2),
        lambda: nn.MulConstant(wave(2)),
        lambda: nn.RReLU(0.5, 0.2),
        lambda: nn.RReLU(-0.1, 0.2),
    ],
)
def test_refused_arguments(make: Make) -> None:
    with pytest.raises(InputError, match="expected"):
        make()


@pytest.mark.parametrize(
    ("make", "missing"),
    [
        (nn.HardTanh, ["min_val", "max_val", "inplace"]),
        (lambda: nn.Threshold(0.5, 0.25), ["inplace"]),
        (nn.Sqrt, ["eps"]),
        (nn.SoftPlus, ["threshold"]),
        (nn.ELU, ["inplace"]),
        (lambda: evaluating(nn.SpatialDropout()), ["stochastic_inference", "noise"]),
    ],
)
def test_files_without_later_fields(make: Make, missing: list[str]) -> None:
    module, x = make(), wave(2, 3)
    old = module.clone()
    for name in missing:
        del vars(old)[name]
    torch.testing.assert_close(
        t7compat.loads(t7compat.dumps(old)).forward(x), module.forward(x), equal_nan=True
    )


# ---- gradients that are not those of the function


@pytest.mark.parametrize(
    ("make", "gradInput"),
    [
        (lambda: nn.GradientReversal(0.5), "-1/-1/-1"),
        (lambda: nn.L1Penalty(0.5), "2.5/1.5/2"),
        (lambda: nn.L1Penalty(0.6, True, False), ".2/-.2/0"),
    ],
)
def test_gradient_inside_of_a_network(make: Make, gradInput: str) -> None:
    """It concerns neither the module behind, nor another one that is given the same input."""
    x, ones = numbers("3/-2/0"), torch.ones(3, dtype=torch.float64)
    net = nn.Sequential().add(nn.Identity())
    net.add(nn.ConcatTable().add(nn.Sequential().add(make()).add(nn.MulConstant(2))).add(nn.Identity()))
    net.forward(x)
    torch.testing.assert_close(net.backward(x, [ones, ones]), numbers(gradInput) + 1)
    _, changed, behind = net.get(2).get(1).listModules()
    torch.testing.assert_close(behind.gradInput, 2 * ones)
    torch.testing.assert_close(changed.gradInput, numbers(gradInput))


@pytest.mark.parametrize("make", [lambda: nn.GradientReversal(3), lambda: nn.L1Penalty(0.5)])
def test_gradient_is_kept_by_conversion(make: Make) -> None:
    module, x = make(), wave(2, 3)
    module.forward(x)
    leaf = x.clone().requires_grad_()
    output = to_native(module)(leaf)
    assert torch.equal(output, x)
    output.sum().backward()
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, module.backward(x, torch.ones_like(x)))


@pytest.mark.parametrize("make", [nn.GradientReversal, lambda: nn.L1Penalty(0.5)])
def test_graph_does_not_keep_its_module(make: Make) -> None:
    module = make()
    module.backward(module.forward(wave(3)), wave(3))
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None


def test_penalty() -> None:
    module = nn.L1Penalty(2, True)
    module.forward(numbers("1/-2/3/0"))
    assert module.loss == 3


@pytest.mark.parametrize("make", [nn.WhiteNoise, nn.SpatialDropout, lambda: nn.VolumetricDropout(0.5, True)])
def test_no_backward_in_evaluation(make: Make) -> None:
    net = evaluating(nn.Sequential().add(nn.Identity()).add(make()))
    net.forward(wave(1, 2, 3, 4))
    with pytest.raises(InputError, match=f"{net.get(2).__typename__}: expected training mode"):
        net.backward(wave(1, 2, 3, 4), wave(1, 2, 3, 4))


# ---- random numbers


def test_slopes_are_drawn_where_they_are_needed() -> None:
    """One number for each element up to 0, in the order of the elements."""
    t7compat.manualSeed(5)
    want = [t7compat.mersenne.uniform(0.25, 0.5) for _ in range(3)]
    t7compat.manualSeed(5)
    module = nn.RReLU(0.25, 0.5)
    module.forward(numbers("1/-1/0/2/-3/4"))
    assert module.noise.tolist() == [1, want[0], want[1], 1, want[2], 1]


def test_gradient_of_dropout_of_version_1_that_drops_in_evaluation() -> None:
    module = evaluating(nn.Dropout(0.4, True, False, True))
    module.forward(wave(5))
    torch.testing.assert_close(module.backward(wave(5), torch.ones_like(wave(5))), wave(5) * 0 + 0.6)


@pytest.mark.parametrize(
    ("make", "size"), [(nn.SpatialDropout, (40, 50, 2, 3)), (nn.VolumetricDropout, (40, 50, 2, 3, 1))]
)
def test_converted_dropout_of_planes_in_training(make: Any, size: tuple[int, ...]) -> None:
    network = to_native(make(0.3)).train()
    torch.manual_seed(1)
    planes = network(torch.ones(size)).flatten(2)
    assert torch.equal(planes.amin(2), planes.amax(2))
    assert planes.mean().item() == pytest.approx(0.7, abs=0.05)


def test_converted_white_noise_in_training() -> None:
    network = to_native(nn.WhiteNoise(2, 0.5)).train()
    torch.manual_seed(1)
    noise = network(torch.zeros(10000))
    assert noise.mean().item() == pytest.approx(2, abs=0.02)
    assert noise.std().item() == pytest.approx(0.5, abs=0.02)


def test_clearState_of_white_noise() -> None:
    module = nn.WhiteNoise()
    module.forward(wave(3))
    assert module.clearState() is None
    assert (module.noise.numel(), module.output.numel()) == (0, 3)


# ---- types


def test_constant_vector_is_converted() -> None:
    module = nn.AddConstant(numbers("1/2/3")).float()
    assert module.forward(torch.zeros(2, 3)).tolist() == [[1, 2, 3]] * 2
    assert to_native(module)(torch.zeros(2, 3)).tolist() == [[1, 2, 3]] * 2
