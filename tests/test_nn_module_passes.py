"""Forward and backward in every order that Lua programs use; the numbers are those of Torch7."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden import gradients
from torch7 import gives, wave

import t7compat
from t7compat import InputError, Table, nn

x, x2, g = wave(2, 3), wave(2, 3) * 2, wave(2, 2) + 0.5

GRAD_INPUT = "-0.2132 -0.27622 -0.010736 -0.00621755 -0.34154 -0.124126"
GRADIENTS = (
    "-0.978676 -0.847429 -0.317623 -0.466894 -0.578835 -0.418541 -1.88041 -0.80002 "
    "-0.284831 1.13428 0.185257 0.662245 2.50743 2.32044"
)


def mlp(seed: int = 1) -> nn.Sequential:
    t7compat.manualSeed(seed)
    net = nn.Sequential().add(nn.Linear(3, 2)).add(nn.Tanh()).add(nn.Linear(2, 2))
    net.zeroGradParameters()
    return net


def test_backward_after_forward() -> None:
    m = mlp()
    m.forward(x)
    gives(m.backward(x, g), GRAD_INPUT)
    gives(gradients(m), GRADIENTS)


def test_separate_calls_with_scale() -> None:
    m = mlp()
    m.forward(x)
    gives(m.updateGradInput(x, g), GRAD_INPUT)
    assert all((gradient == 0).all() for gradient in gradients(m))
    m.accGradParameters(x, g, 0.5)
    m.accGradParameters(x, g, -2)
    gives(
        gradients(m),
        "1.46801 1.27114 0.476434 0.700342 0.868253 0.627811 2.82062 1.20003 "
        "0.427246 -1.70142 -0.277886 -0.993367 -3.76114 -3.48066",
    )


def test_backward_twice_after_one_forward() -> None:
    m = mlp()
    m.forward(x)
    m.backward(x, g)
    gives(m.backward(x, g), GRAD_INPUT)
    gives([gradient / 2 for gradient in gradients(m)], GRADIENTS)


def test_equal_input_in_other_memory() -> None:
    m = mlp()
    m.forward(x)
    gives(m.backward(x.clone(), g), GRAD_INPUT)
    gives(gradients(m), GRADIENTS)


def test_children_by_hand() -> None:
    m = mlp()
    m.forward(x)
    gradient = g
    for module, input in ((m.get(3), m.get(2).output), (m.get(2), m.get(1).output), (m.get(1), x)):
        gradient = module.backward(input, gradient)
    gives(gradient, GRAD_INPUT)
    gives(gradients(m), GRADIENTS)


def test_forward_without_recording() -> None:
    m = mlp()
    with torch.no_grad():
        m.forward(x)
    gives(m.backward(x, g), GRAD_INPUT)
    gives(gradients(m), GRADIENTS)
    with torch.inference_mode():
        gives(m.forward(x), "-0.657263 -0.416778 -0.470606 0.0570166")


def test_backward_without_recording() -> None:
    m = mlp()
    m.forward(x)
    with torch.no_grad():
        gives(m.backward(x, g), GRAD_INPUT)


# ---- what changes between forward and backward


def test_other_input() -> None:
    """The first layer goes by the input that it is given now, the others by what their forward left."""
    m = mlp()
    output = m.forward(x).clone()
    gives(m.backward(x2, g), GRAD_INPUT)
    gives(
        gradients(m),
        "-1.95735 -1.69486 -0.635245 -0.933789 -1.15767 -0.837082 -1.88041 -0.80002 "
        "-0.284831 1.13428 0.185257 0.662245 2.50743 2.32044",
    )
    assert torch.equal(m.output, output)


def test_two_forwards() -> None:
    m = mlp()
    m.forward(x)
    m.forward(x2)
    gives(m.backward(x, g), "-0.173941 0.00550339 0.0769518 0.0179234 -0.202472 -0.0828907")
    gives(
        gradients(m),
        "-0.403217 -0.278198 -0.0223374 -0.289676 -0.409135 -0.336172 -0.814187 -0.46855 "
        "-0.149198 0.658844 0.567175 -0.0498062 2.50743 2.32044",
    )


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("ReLU", "1.14422 1.48545 1.36321 0.834988 0 0"),
        ("HardTanh", "0 0 0 0.834988 0.149217 0"),
    ],
)
def test_other_input_of_one_layer(name: str, printed: str) -> None:
    m = getattr(nn, name)()
    m.forward(x)
    gives(m.backward(x2, wave(2, 3) + 0.5), printed)


def test_other_input_of_layers_with_weights() -> None:
    t7compat.manualSeed(1)
    linear = nn.Linear(3, 2)
    t7compat.manualSeed(1)
    cmul = nn.CMul(3)
    for m in (linear, cmul):
        m.zeroGradParameters()
        m.forward(x)
    gives(linear.backward(x2, g), "0.632311 -0.200534 -0.34676 0.286439 0.300648 -0.0117355")
    gives(linear.gradWeight, "2.38757 1.29876 -0.400882 2.47333 2.34187 1.109")
    gives(cmul.backward(x2, wave(2, 3) + 0.5), "-0.109633 0.852796 0.346812 -0.0800042 0.0856653 -0.0945321")
    gives(cmul.gradWeight, "2.03367 2.82299 3.00118")
    assert linear.backward(wave(4, 3), wave(4, 2)).shape == (4, 3)


def test_weights() -> None:
    m = mlp()
    m.forward(x)
    m.get(1).weight.fill_(0.5)
    m.get(3).weight.mul_(2)
    gives(m.backward(x, g), "-1.77103 -1.77103 -1.77103 -0.909399 -0.909399 -0.909399")
    gives(
        gradients(m),
        "-1.95735 -1.69486 -0.635245 -0.933789 -1.15767 -0.837082 -3.76083 -1.60004 "
        "-0.284831 1.13428 0.185257 0.662245 2.50743 2.32044",
    )


def test_weights_through_a_flat_vector_made_in_between() -> None:
    m = mlp()
    m.forward(x)
    flat, flat_gradients = m.getParameters()
    flat.mul_(2)
    gives(m.backward(x, g), "-0.852801 -1.10488 -0.042944 -0.0248702 -1.36616 -0.496502")
    gives(
        flat_gradients,
        "-1.95735 -1.69486 -0.635245 -0.933789 -1.15767 -0.837082 -3.76083 -1.60004 "
        "-0.284831 1.13428 0.185257 0.662245 2.50743 2.32044",
    )


def test_output_of_a_child() -> None:
    m = mlp()
    m.forward(x)
    m.get(2).output.fill_(0.5)
    gives(m.backward(x, g), "-0.138744 -0.33593 -0.0649696 -0.152811 -0.227369 -0.0186064")
    gives(
        gradients(m),
        "-0.981999 -0.749605 -0.16466 -0.469817 -0.310217 -0.00471708 -1.9428 -0.956414 "
        "1.25371 1.25371 1.16022 1.16022 2.50743 2.32044",
    )


def test_input_in_place() -> None:
    m, input = mlp(), x.clone()
    m.forward(input)
    input.fill_(1)
    gives(m.backward(input, g), GRAD_INPUT)
    gives(m.get(1).gradWeight, "-1.88041 -1.88041 -1.88041 -0.80002 -0.80002 -0.80002")


def test_a_cleared_network_needs_a_forward() -> None:
    m = mlp()
    m.forward(x)
    m.clearState()
    with pytest.raises(InputError, match="expected a forward before backward"):
        m.backward(x, g)
    m.forward(x)
    gives(m.backward(x, g), GRAD_INPUT)


def test_a_clone_goes_back_through_the_forward_of_the_original() -> None:
    m = mlp()
    m.forward(x)
    copy = m.clone()
    gives(copy.backward(x, g), GRAD_INPUT)
    assert all((gradient == 0).all() for gradient in gradients(m))


# ---- layers with a state


def test_running_statistics_change_in_forward_only() -> None:
    t7compat.manualSeed(1)
    norm = nn.BatchNormalization(3)
    m = nn.Sequential().add(norm)
    m.forward(wave(4, 3))
    gives(norm.running_mean, "0.0163435 0.0247892 0.0215762")
    gives(
        norm.backward(wave(4, 3), wave(4, 3).cos()),
        "-0.0326943 -0.0108855 -0.0694562 0.0886409 0.138753 -0.125718 "
        "-0.0171576 -0.114696 0.258317 -0.0387889 -0.0131714 -0.0631428",
    )
    norm.backward(wave(4, 3) * 2, wave(4, 3).cos())
    gives(norm.running_mean, "0.0163435 0.0247892 0.0215762")
    assert norm.momentum == 0.1


def test_the_mask_of_dropout_is_that_of_the_last_forward() -> None:
    t7compat.manualSeed(5)
    ones = torch.ones(2, 4).double()
    dropout = nn.Dropout(0.5)
    m = nn.Sequential().add(dropout)
    gives(dropout.forward(ones), "2 2 0 0 2 2 0 0")
    gives(m.forward(ones), "2 2 0 2 0 2 0 2")
    gives(dropout.backward(ones, ones), "2 2 0 2 0 2 0 2")


def test_dropout_in_a_network() -> None:
    t7compat.manualSeed(9)
    m = nn.Sequential().add(nn.Dropout(0.5)).add(nn.Linear(3, 2)).add(nn.Dropout(0.3))
    m.zeroGradParameters()
    t7compat.manualSeed(10)
    gives(m.forward(x), "0 0 -1.15054 1.11192")
    gives(m.backward(x, g), "0 0 0 -2.20445 0 -1.34816")
    gives(gradients(m), "1.30474 0 -3.39469 0.799175 0 -2.0793 1.94744 1.19284")
    m.evaluate()
    gives(m.forward(x), "-0.939401 -0.708518 -0.559197 0.284783")


# ---- shapes and tables


def test_strides_of_input_and_gradOutput() -> None:
    m = mlp(6)
    input = wave(3, 2).t()
    gives(m.forward(input), "-0.0187411 0.11621 -0.0427212 0.141167")
    gives(
        m.backward(input, wave(2, 2).t()),
        "-0.0859917 -0.13279 0.0666959 -0.374942 -0.0633555 -0.151943",
    )
    gives(
        gradients(m),
        "-0.60664 -0.350383 0.487532 0.446107 0.121842 -0.404689 -0.693086 0.436674 "
        "0.4247 0.164382 0.318459 0.139496 1.62967 1.1982",
    )


def test_one_sample_with_and_without_a_batch() -> None:
    m = mlp(6)
    gives(m.forward(wave(1, 3)), "-0.296597 0.399361")
    gives(m.backward(wave(1, 3), wave(1, 2)), "-0.068466 -0.150888 0.0918802")
    gives(m.forward(wave(3)), "-0.296597 0.399361")
    gives(m.backward(wave(3), wave(2)), "-0.068466 -0.150888 0.0918802")
    gives(
        gradients(m),
        "-0.286716 -0.438585 -0.384181 -0.124723 -0.190787 -0.167121 -0.445061 -0.193604 "
        "0.134467 -0.527553 0.205692 -0.80699 1.28844 1.9709",
    )


def test_empty_batch() -> None:
    m = mlp().add(nn.View(2)).add(nn.ReLU()).add(nn.Add(2))
    input = torch.zeros(0, 3).double()
    assert m.forward(input).shape == (0, 2)
    assert m.backward(input, torch.zeros(0, 2).double()).shape == (0, 3)
    assert all((gradient == 0).all() for gradient in gradients(m))


def test_nested_tables_of_outputs() -> None:
    t7compat.manualSeed(6)
    inner = nn.ConcatTable().add(nn.Linear(3, 2)).add(nn.Tanh())
    m = nn.ConcatTable().add(inner).add(nn.Identity())
    gives(
        m.forward(x),
        "0.104746 -0.434953 -0.389393 0.0460348 0.567764 0.755415 0.697908 0.322996 -0.33707 -0.702174 "
        "0.644218 0.98545 0.863209 0.334988 -0.350783 -0.871576",
    )
    gradOutput = Table(Table(g, wave(2, 3)), wave(2, 3))
    gives(m.backward(x, gradOutput), "1.10139 2.55076 0.336566 0.97325 0.352376 -1.99803")
    gives(inner.gradInput, "0.457167 1.56531 -0.526643 0.638262 0.70316 -1.12646")
    gives(m.get(2).gradInput, "0.644218 0.98545 0.863209 0.334988 -0.350783 -0.871576")


def test_table_through_branches() -> None:
    branches = nn.ConcatTable().add(nn.SelectTable(1)).add(nn.SelectTable(2)).add(nn.Identity())
    m = nn.Sequential().add(branches).add(nn.FlattenTable()).add(nn.CMulTable())
    squares = "0.688955 3.77223 2.22088 0.0503707 0.0605641 2.30824"
    gives(m.forward([x, x2]), squares)
    gradInput = m.backward([x, x2], wave(2, 3))
    assert isinstance(gradInput, Table)
    gives(gradInput[1], "1.37791 7.54446 4.44175 0.100741 0.121128 4.61648")
    gives(gradInput[2], squares)
    gives(branches.get(1).gradInput, f"{squares} 0 0 0 0 0 0")
    gives(branches.get(3).gradInput, f"{squares} 0.344477 1.88611 1.11044 0.0251853 0.0302821 1.15412")


@pytest.mark.parametrize("table", [list, tuple, lambda values: Table(*values)])
def test_one_tensor_twice_in_a_table(table: Any) -> None:
    m = nn.CMulTable()
    squares = "0.415016 0.971111 0.74513 0.112217 0.123049 0.759644"
    gives(m.forward(table([x, x])), squares)
    gives(m.backward(table([x, x]), wave(2, 3)), f"{squares} {squares}")


def test_named_entries() -> None:
    m = nn.Sequential().add(nn.SelectTable("a")).add(nn.Tanh())
    input = Table(a=x, b=x2)
    m.forward(input)
    gradInput = m.backward(input, wave(2, 3))
    assert list(gradInput.keys()) == ["a", "b"]
    assert torch.equal(gradInput.a, m.get(2).gradInput)
    assert (gradInput.b == 0).all()


def test_criterion_with_another_target_in_backward() -> None:
    criterion = nn.MSECriterion()
    assert criterion.forward(x, x * 2) == pytest.approx(0.52102804503102)
    gives(criterion.backward(x, x * 2), "-0.214739 -0.328483 -0.287736 -0.111663 0.116928 0.290525")
    gives(criterion.backward(x, x * 3), "-0.429478 -0.656966 -0.575473 -0.223325 0.233855 0.581051")
    assert criterion.output == pytest.approx(0.52102804503102)


def test_criterion_without_recording() -> None:
    criterion = nn.MSECriterion()
    with torch.no_grad():
        criterion.forward(x, x * 2)
        gives(criterion.backward(x, x * 2), "-0.214739 -0.328483 -0.287736 -0.111663 0.116928 0.290525")


def test_results_need_no_gradient() -> None:
    m, input = mlp(), x.clone().requires_grad_()
    output = m.forward(input)
    gradInput = m.backward(input, g)
    for tensor in (output, gradInput, m.get(1).output, m.get(2).gradInput, *gradients(m)):
        assert not tensor.requires_grad
    assert input.grad is None


def test_layer_behind_indices_has_a_gradient() -> None:
    network = nn.Sequential().add(nn.OneHot(4)).add(nn.Linear(4, 2))
    indices, gradient = torch.tensor([1, 2, 4]), torch.randn(3, 2, dtype=torch.float64)
    network.forward(indices)
    assert not network.backward(indices, gradient).any()
    torch.testing.assert_close(network.get(2).gradInput, gradient @ network.get(2).weight)
