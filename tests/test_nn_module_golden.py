"""What all modules have in common, beside what Torch7 did with the same modules."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
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


# ---- nn.utils, nn.Jacobian, nn.hessian


@over("nn_module", "utils")
def test_tables_of_tensors(data: Table) -> None:
    got = UTILS[data.name](data)
    for name, value in got.items():
        same(value, data[name], name)


def cleared() -> nn.Module:
    module = nn.Identity()
    module.a, module.b, module.c, module.d = ones(2), Table(1, 2), 5, ones(3)
    return nn.utils.clear(module, "a", "b", "c")


def added(data: Table, *arguments: float) -> Any:
    before = deepcopy(data.before)
    result, other = nn.utils.recursiveAdd(before.a, *arguments, before.b)
    assert (result, other) == (before.a, before.b)
    return result


def resized(data: Table) -> Table:
    first = Table(ones(2), ones(1), extra=ones(1))
    result, _ = nn.utils.recursiveResizeAs(first, data.reference)
    return Table(result=nn.utils.recursiveFill(result, 0), extra_removed=first.extra is None)


UTILS: dict[str, Callable[[Table], Table]] = {
    "recursiveResizeAs": resized,
    "recursiveFill": lambda data: Table(
        result=nn.utils.recursiveFill(Table(ones(2), Table(ones(3), a=ones(1))), 2.5)
    ),
    "recursiveAdd": lambda data: Table(result=added(data, 0.5), again=added(data)),
    "recursiveCopy": lambda data: Table(
        result=nn.utils.recursiveCopy(Table(ones(5)), data.before)[0],
        from_nil_type=nn.utils.recursiveCopy(torch.empty(0), data.before[1])[0],
    ),
    "recursiveType": lambda data: Table(result=nn.utils.recursiveType(data.before, "torch.FloatTensor")),
    "addSingletonDimension": lambda data: Table(
        result=Table(
            *[Table(*nn.utils.addSingletonDimension(data.before, *dim).shape) for dim in ((), (2,), (3,))]
        )
    ),
    "contiguousView": lambda data: Table(
        result=nn.utils.contiguousView(ones(1), data.before.t(), 6),
        contiguous=nn.utils.contiguousView(None, data.before, 3, 2),
    ),
    "clear": lambda data: Table(
        a_elements=cleared().a.numel(),
        b_is_empty_table=not cleared().b,
        c_is_nil="c" not in vars(cleared()),
    ),
}


@over("nn_module", "jacobian")
def test_jacobian(data: Table) -> None:
    module, input = data.before, data.input
    same(nn.Jacobian.backward(module, input), data.result, "derivatives")
    close = {"rtol": 1e-6, "atol": 1e-8}  # of what rounding leaves of a difference
    torch.testing.assert_close(nn.Jacobian.forward(module, input), data.finite_differences, **close)
    if data.weight_jacobian is not None:
        found = nn.Jacobian.backward(module, input, module.weight, module.gradWeight)
        same(found, data.weight_jacobian, "derivatives by the weight")
        differences = nn.Jacobian.forward(module, input, module.weight)
        torch.testing.assert_close(differences, data.weight_jacobian, **close)


@over("nn_module", "hessian")
def test_second_derivatives(data: Table) -> None:
    nn.hessian.enable()
    module, criterion, input = data.before, nn.MSECriterion(), data.input
    same(module.forward(input), data.output, "output")
    criterion.forward(module.output, data.target)
    module.backward(input, criterion.backward(module.output, data.target))
    wanted = criterion.updateDiagHessianInput(module.output, data.target)
    same(wanted, data.criterion_hessian, "second derivatives of the loss")
    same(module.updateDiagHessianInput(input, wanted), data.result, "second derivatives")
    module.accDiagHessianParameters(input, wanted)
    layers = [layer for layer in module.listModules() if hasattr(layer, "diagHessianWeight")]
    same(Table(*[layer.diagHessianWeight for layer in layers]), data.weight_hessians, "weights")
    same(Table(*[layer.diagHessianBias for layer in layers]), data.bias_hessians, "biases")


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
