"""What all modules have in common, beside what Torch7 did with the same modules."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import gradients, layout, over, parameters, same

import t7compat
from t7compat import InputError, Table, nn

# ---- parameters


@over("nn_module", "parameters")
def test_parameters(data: Table) -> None:
    pair = data.module.parameters()
    assert (pair is None) == data.returns_nil
    if pair is not None:
        same(pair[0], data.params, "parameters")
        same(pair[1], data.gradParams, "gradients")


@over("nn_module", "getParameters", having="layout")
def test_flat_parameters(data: Table) -> None:
    module = data.before
    flat, flat_gradients = module.getParameters()
    same(flat, data.flat, "parameters")
    same(flat_gradients, data.flat_grad, "gradients")
    same(layout(parameters(module)), data.layout, "layout of the parameters")
    same(layout(gradients(module)), data.grad_layout, "layout of the gradients")
    flat.copy_(torch.arange(1, len(flat) + 1) * 0.01)
    flat_gradients.fill_(0.5)
    same(module, data.after, "module")


@over("nn_module", "getParameters", having="loss")
def test_descent_on_flat_parameters(data: Table) -> None:
    module, criterion = data.before, nn.MSECriterion()
    flat, flat_gradients = module.getParameters()
    same(criterion.forward(module.forward(data.input), data.target), data.loss, "loss")
    flat_gradients.zero_()
    module.backward(data.input, criterion.backward(module.output, data.target))
    same(flat_gradients, data.flat_grad, "gradients")
    flat.add_(flat_gradients, alpha=-0.1)
    same(flat, data.result, "parameters")
    same(parameters(module), parameters(data.after), "parameters of the module")


@over("nn_module", "getParameters", having="first_is_detached")
def test_flat_parameters_again(data: Table) -> None:
    module = data.before
    first, _ = module.getParameters()
    second, _ = module.getParameters()
    first.fill_(7)
    same(second, data.result, "parameters")
    same(module, data.after, "module")


@over("nn_module", "seeded_init")
def test_parameters_from_a_seed(data: Table) -> None:
    cls = t7compat.registry.lookup(data["class"])
    if cls is None:
        pytest.skip(f"t7compat has no {data['class']}")
    t7compat.manualSeed(data.seed)
    module = cls(*data.args)
    same(parameters(module), data.result, "parameters")
    t7compat.manualSeed(data.seed_of_reset)
    module.reset(data.reset_stdv)
    same(parameters(module), data.params_after_reset, "parameters after reset")


# ---- passes


@over("nn_module", "call")
def test_call(data: Table) -> None:
    thing = data.before or nn.MSECriterion()
    if data.target is None:
        same(thing(data.input), data.output, "output")
    output, gradInput = thing(data.input, data.gradOutput if data.target is None else data.target)
    same(output, data.output, "output")
    same(gradInput, data.gradInput, "gradInput")


@over("nn_module", "clearState")
def test_clearState(data: Table) -> None:
    module = data.before
    assert module.clearState() is module
    same(module, data.after, "module")
    same(module.forward(data.input), data.output_again, "output")


# ---- texts


@over("nn_module", "tostring")
def test_text(data: Table) -> None:
    assert str(data.module) == data.text


MISTAKES: dict[str, Callable[[], Any]] = {
    "sequential_wrong_size": lambda: nn.Sequential().add(nn.Tanh()).add(nn.Linear(3, 2)).forward(ones(4, 5)),
    "nested_container": lambda: nn.Sequential().add(nn.Concat(1).add(nn.Linear(3, 2))).forward(ones(4, 5)),
    "linear_3d": lambda: nn.Linear(3, 2).forward(ones(2, 2, 3)),
    "dropout_p": lambda: nn.Dropout(1),
    "view_mismatch": lambda: nn.View(5).forward(ones(2, 3)),
    "batchnorm_dims": lambda: nn.BatchNormalization(3).forward(ones(3)),
    "batchnorm_features": lambda: nn.BatchNormalization(3).forward(ones(2, 4)),
    "classnll_target_zero": lambda: nn.ClassNLLCriterion().forward(ones(2, 3), torch.tensor([0, 1])),
    "mse_size": lambda: nn.MSECriterion().forward(ones(3), ones(4)),
    "selecttable": lambda: nn.SelectTable(3).forward(Table(ones(1), ones(2))),
    "conv_channels": lambda: nn.SpatialConvolution(2, 3, 2, 2).forward(ones(1, 3, 4, 4)),
    "conv_too_small": lambda: nn.SpatialConvolution(1, 1, 5, 5).forward(ones(1, 3, 3)),
    "pool_pad": lambda: nn.SpatialMaxPooling(2, 2, 2, 2, 2, 2).forward(ones(1, 4, 4)),
    "lookup_range": lambda: nn.LookupTable(3, 2).forward(torch.tensor([4])),
    "nan_decorator": lambda: nn.NaN(nn.Log(), 3).forward(-ones(1)),
    "threshold_inplace": lambda: nn.Threshold(0, 1, True),
    "whitenoise_evaluate_backward": lambda: backward_in_evaluation(nn.WhiteNoise()),
}


def backward_in_evaluation(module: nn.Module) -> None:
    module.evaluate()
    module.forward(ones(2))
    module.backward(ones(2), ones(2))


def ones(*size: int) -> torch.Tensor:
    return torch.ones(size, dtype=torch.float64)


@over("nn_module", "errors")
def test_error(data: Table) -> None:
    """What Torch7 refuses is refused, with the place in the network where Torch7 names it."""
    if data.name not in MISTAKES:
        pytest.skip("the case does not show what was done")
    with pytest.raises((InputError, AttributeError)) as caught:
        MISTAKES[data.name]()
    if isinstance(caught.value, AttributeError):
        assert "t7compat has no class" in str(caught.value)
        pytest.skip(str(caught.value))
    steps = re.findall(r"In (\d+) module of ([\w.]+):", data.message)
    found = re.findall(r"in module (\d+) of ([\w.]+)", str(caught.value))
    assert found == steps


# ---- old files


@over("nn_module", "old_versions")
def test_old_version(data: Table) -> None:
    module = data.module
    if data.expected_running_var is not None:
        same(module.running_var, data.expected_running_var)
        module.evaluate()
        same(module.forward(data.input), data.output, "output")
    if data.gradOutput is not None:
        module.forward(data.input)
        same(module.backward(data.input, data.gradOutput), data.gradInput, "gradInput")
