"""Every property that a golden case can show, each written once over all cases of all classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import cases, gradients, one_pass, parameters, same

import t7compat
from t7compat import Table, nn, optnet
from t7compat.nested import walk
from t7compat.table import leaves, map_leaves
from t7compat.tensortypes import whole_storage

AREAS = ("nn", "rnn", "dpnn", "nngraph")


def over(wanted: Callable[[Table], Any]) -> pytest.MarkDecorator:
    """Run a test once for each golden case of a kind."""
    chosen = [case for area in AREAS for case in cases(area) if wanted(case.content)]
    return pytest.mark.parametrize("case", chosen, ids=str)


modules = over(one_pass)
recurrents = over(lambda case: case.module is not None and case.rounds is not None)
criterions = over(lambda case: case.criterion is not None and case.module is None)
everything = over(lambda case: case.module is not None or case.criterion is not None)


def takes_samples(module: Any, input: Any) -> bool:
    """Whether the module says that it treats the samples of this input one by one."""
    rows = leaves(input)
    return (
        isinstance(module, nn.Module)
        and bool(module.row_dims)
        and not [*module.children()]  # which decide, for a container
        and not vars(module).get("stochastic_inference")
        and all(isinstance(x, torch.Tensor) and x.dim() - 1 in module.row_dims for x in rows)
        and len({len(x) for x in rows}) == 1
    )


def thing_of(data: Table) -> Any:
    return data.module if data.module is not None else data.criterion


def seed(number: int | None) -> None:
    if number is not None:
        t7compat.manualSeed(number)


def prepared(data: Table) -> nn.Module:
    """The module of a case, ready for its forward."""
    module: nn.Module = data.module
    if data.train is False:
        module.evaluate()
    module.zeroGradParameters()
    seed(data.seed)
    return module


# ---- modules


@over(lambda case: one_pass(case) and case.between is None and case.gradOutput is not None)
def test_inside_a_network_that_keeps_less(data: Table) -> None:
    network = nn.Sequential().add(prepared(data))
    keeps_all = network.clone()
    optnet.optimizeMemory(network, data.input, {"mode": "training"})
    found = []
    for net in (keeps_all, network):
        t7compat.manualSeed(data.seed or 0)
        output = net.forward(data.input)
        found.append((output, net.backward(data.input, data.gradOutput, data.scale or 1), gradients(net)))
    for got, want, where in zip(*reversed(found), ("output", "gradInput", "gradients"), strict=True):
        same(got, want, where)


@modules
def test_forward_and_backward(data: Table) -> None:
    module = prepared(data)
    same(module.forward(data.input), data.output, "output")
    act(module, data.between)
    if data.gradOutput is None:
        return
    gradInput = module.backward(data.input, data.gradOutput, data.scale or 1)
    if data.gradInput is not None:
        same(gradInput, data.gradInput, "gradInput")
        same(module.gradInput, data.gradInput, "field gradInput")
    same(module.output, data.output, "field output")
    if data.gradParams is not None:
        same(gradients(module), data.gradParams, "gradients of parameters")
    if data.params_after is not None:
        module.updateParameters(data.lr or 0.1)
        same(parameters(module), data.params_after, "updated parameters")
    if data.output2 is None:
        return
    seed(data.seed and data.seed + 1)
    same(module.forward(data.input2), data.output2, "second output")
    same(module.backward(data.input2, data.gradOutput2), data.gradInput2, "second gradInput")
    if data.gradParams2 is not None:
        same(gradients(module), data.gradParams2, "accumulated gradients")


@modules
def test_separate_backward_calls(data: Table) -> None:
    if data.gradInput is None:
        pytest.skip("no gradient")
    module = prepared(data)
    module.forward(data.input)
    act(module, data.between)
    same(module.updateGradInput(data.input, data.gradOutput), data.gradInput, "gradInput")
    module.accGradParameters(data.input, data.gradOutput, data.scale or 1)
    if data.gradParams is not None:
        same(gradients(module), data.gradParams, "gradients of parameters")


@modules
def test_evaluation(data: Table) -> None:
    if data.evaluate_output is None:
        pytest.skip("no output in evaluation mode")
    data.module.evaluate()
    seed(data.seed)
    same(data.module.forward(data.input), data.evaluate_output, "output")


@modules
def test_cleared(data: Table) -> None:
    """clearState takes nothing that the next forward needs."""
    module = prepared(data)
    module.forward(data.input)
    module.clearState()
    seed(data.seed)
    same(module.forward(data.input), data.output, "output")


@modules
def test_inside_a_container(data: Table) -> None:
    """Two branches of a container give the same: one in which the module is traced, one that calls it."""
    if data.seed is not None or data.between is not None or data.gradInput is None:
        pytest.skip("only where two copies draw no random numbers")
    module = prepared(data)
    opaque = module.clone()
    opaque.updateOutput = lambda input: type(opaque).updateOutput(opaque, input)
    outer = nn.Sequential().add(nn.Identity()).add(nn.ConcatTable().add(module).add(opaque))
    same(outer.forward(data.input), Table(data.output, data.output), "output")
    outer.backward(data.input, Table(data.gradOutput, data.gradOutput), data.scale or 1)
    for branch in (module, opaque):
        same(branch.gradInput, data.gradInput, "gradInput")
        if data.gradParams is not None:
            same(gradients(branch), data.gradParams, "gradients of parameters")


@pytest.mark.cuda
@modules
def test_cuda(data: Table) -> None:
    if data.seed is not None:
        pytest.skip("other random numbers on CUDA")
    module = prepared(data).cudaDouble()
    output = module.forward(to_cuda(data.input))
    same(from_cuda(output), to_double(data.output), "output")
    if data.gradInput is not None:
        gradInput = module.backward(to_cuda(data.input), to_cuda(data.gradOutput), data.scale or 1)
        same(from_cuda(gradInput), to_double(data.gradInput), "gradInput")
    if data.gradParams is not None:
        same(from_cuda(gradients(module)), to_double(data.gradParams), "gradients of parameters")


def floating(change: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    return map_leaves(
        lambda x: change(x) if isinstance(x, torch.Tensor) and x.is_floating_point() else x, value
    )


def to_double(value: Any) -> Any:
    return floating(torch.Tensor.double, value)


def to_cuda(value: Any) -> Any:
    return map_leaves(lambda x: x.cuda() if isinstance(x, torch.Tensor) else x, to_double(value))


def from_cuda(value: Any) -> Any:
    return map_leaves(lambda x: x.cpu() if isinstance(x, torch.Tensor) else x, value)


@over(lambda case: one_pass(case) and takes_samples(case.module, case.input))
def test_samples_one_by_one(data: Table) -> None:
    """What `row_dims` promises: steps of a sequence may be run as one batch."""
    module = prepared(data)
    module.evaluate()
    whole, count = leaves(module.forward(data.input)), len(leaves(data.input)[0])
    parts = [
        leaves(module.forward(map_leaves(lambda x, i=i: x[i : i + 1], data.input))) for i in range(count)
    ]
    for output, *samples in zip(whole, *parts, strict=True):
        same(torch.cat(samples), output, "output")


# ---- recurrent modules


def act(module: nn.Module, actions: Table | None) -> None:
    """Run a list of {method, arguments...}; {"set", field, value} assigns."""
    for action in actions or ():
        name, *arguments = action
        if name == "set":
            setattr(module, arguments[0], arguments[1] if len(arguments) > 1 else None)
        else:
            getattr(module, name)(*arguments)


@recurrents
def test_rounds(data: Table) -> None:
    module = data.module
    for number, turn in enumerate(data.rounds, 1):
        act(module, turn.actions)
        module.zeroGradParameters()
        seed(turn.seed)
        (run_steps if turn.steps else run_whole)(module, turn)
        same_internals(module, turn)
        if turn.gradParams is not None:
            same(gradients(module), turn.gradParams, f"gradients of parameters in round {number}")
            module.updateParameters(0.1)
        if turn.params_after is not None:
            same(parameters(module), turn.params_after, f"updated parameters in round {number}")


def run_steps(module: nn.Module, turn: Table) -> None:
    steps = list(enumerate(turn.steps, 1))
    for t, step in steps:
        same(module.forward(step.input), step.output, f"output of step {t}")
    act(module, turn.between)
    for t, step in reversed(steps):
        if step.gradOutput is None:
            break
        same(
            module.backward(step.input, step.gradOutput, turn.scale or 1),
            step.gradInput,
            f"gradInput of step {t}",
        )


def run_whole(module: nn.Module, turn: Table) -> None:
    same(module.forward(turn.input), turn.output, "output")
    act(module, turn.between)
    if turn.gradOutput is not None:
        same(module.backward(turn.input, turn.gradOutput, turn.scale or 1), turn.gradInput, "gradInput")


def same_internals(module: nn.Module, turn: Table) -> None:
    """In training mode, the recurrent modules inside have the tables of the steps that Torch7's have.

    Those of this round, and at most rho: Torch7 writes later ones over the memory of older ones.
    """
    count = len(turn.steps or turn.input)
    for found in turn.internals or () if turn.train is not False else ():
        inner = module
        for index in found.path.split("/")[1:]:
            inner = inner.modules[int(index)]
        for name in ("h0", "c0", "cell", "gates", "userGradPrevOutput", "userGradPrevCell"):
            if found[name] is not None:
                same(getattr(inner, name, None), found[name], f"{name} of {inner}")
        for name in ("step", "outputs", "cells", "gradOutputs", "gradCells", "gradInputs"):
            got, want = getattr(inner, name, None), found[name]
            if isinstance(want, Table):
                kept = range(inner.step - min(count, inner.rho), inner.step)
                got, want = (Table.from_items((t, table[t]) for t in kept) for table in (got, want))
            if want is not None:
                same(got, want, f"{name} of {inner}")


@recurrents
def test_evaluation_of_steps(data: Table) -> None:
    if data.evaluate_output is None:
        pytest.skip("no output in evaluation mode")
    turn = data.rounds[1]
    data.module.evaluate()
    seed(turn.seed)
    if not turn.steps:
        same(data.module.forward(turn.input), data.evaluate_output, "output")
    for t, step in enumerate(turn.steps or (), 1):
        same(data.module.forward(step.input), data.evaluate_output[t], f"output of step {t}")


# ---- criterions


@criterions
def test_loss_and_gradient(data: Table) -> None:
    criterion = data.criterion
    seed(data.seed)
    same(criterion.forward(data.input, data.target), data.loss, "loss")
    if data.gradInput is not None:
        target = data.target if data.backwardTarget is None else data.backwardTarget
        same(criterion.backward(data.input, target), data.gradInput, "gradInput")
    if data.loss2 is not None:
        same(criterion.forward(data.input2, data.target2), data.loss2, "second loss")
        same(criterion.backward(data.input2, data.target2), data.gradInput2, "second gradInput")


# ---- all objects


@everything
def test_text(data: Table) -> None:
    if data.tostring is None:
        pytest.skip("no text")
    assert str(thing_of(data)) == data.tostring


@everything
def test_saved_and_loaded(data: Table) -> None:
    saved = t7compat.dumps(thing_of(data))
    again = t7compat.loads(saved)
    assert type(again) is type(thing_of(data))
    assert t7compat.dumps(again) == saved


@everything
def test_clone_is_equal_and_independent(data: Table) -> None:
    thing = thing_of(data)
    before = t7compat.dumps(thing)
    copy = thing.clone()
    assert t7compat.dumps(copy) == before
    for _, content in walk(copy):
        for tensor in content.values():
            if isinstance(tensor, torch.Tensor):
                whole_storage(tensor).fill_(1)
    assert t7compat.dumps(thing) == before


@everything
def test_single_precision(data: Table) -> None:
    """In 32 bits all tensors are of that type, and the numbers the same as far as they go."""
    if data.rounds is not None or data.seed is not None or data.between is not None:
        pytest.skip("only where a forward needs nothing before it")
    want = data.loss if data.module is None else data.output
    if want is None:
        pytest.skip("without an output")
    thing = thing_of(data) if data.module is None else prepared(data)
    thing.float()
    for value, content in walk(thing):
        for name, tensor in content.items():
            assert not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.float64, f"{value}.{name}"
    arguments = [
        floating(torch.Tensor.float, data[name]) for name in ("input", "target") if data[name] is not None
    ]
    got = thing.forward(*arguments)
    if isinstance(want, float | int):
        assert got == pytest.approx(want, rel=1e-4, abs=1e-5)
    else:
        same(got, floating(torch.Tensor.float, want), "output")


@everything
def test_constructor_sets_the_fields_of_torch7(data: Table) -> None:
    thing, arguments = thing_of(data), constructor_arguments(data)
    built = type(thing)(*arguments)
    if vars(thing).get("train") is not None and data.module is not None:
        built.training() if thing.train else built.evaluate()
    assert set(vars(built)) == set(vars(thing))
    for name, value in vars(thing).items():
        got = vars(built)[name]
        if isinstance(value, torch.Tensor):
            assert (got.numel() == value.numel() == 0) or got.shape == value.shape, name
        elif isinstance(value, int | float | str | bool):
            assert got == value, name


def constructor_arguments(data: Table) -> list[Any]:
    """The arguments with which Torch7 made the object, where the case shows them."""
    arguments = [{"<nil>": None, "inf": float("inf")}.get(str(a), a) for a in data.args or ()]
    converted = vars(thing_of(data)).get("_type", "torch.DoubleTensor") != "torch.DoubleTensor"
    if (
        any(isinstance(a, str) and a.startswith("<") for a in arguments)
        or data.setup
        or data.setters
        or converted
    ):
        pytest.skip("the case does not show how it was made")
    if data.nargs is not None and data.nargs != len(arguments):
        pytest.skip("arguments that are nil are not in the case")
    try:
        inspect.signature(type(thing_of(data))).bind(*arguments)
    except TypeError:
        pytest.skip("the case does not show the arguments")
    return arguments
