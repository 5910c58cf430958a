"""Clones over time: what is inside is computed again when somebody looks at it, and is what it was."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
from twins import NETWORKS, every_network, twins_of, values

import t7compat
from t7compat import Table, optnet
from t7compat.nn.gradients import tensors
from t7compat.nngraph import gModule

STEPS = "forward", "backward", "update"


@every_network
@pytest.mark.parametrize("field", ["output", "gradInput"])
@pytest.mark.parametrize("looks", range(1, 7))
def test_values_inside_are_those_that_are_kept_elsewhere(name: str, field: str, looks: int) -> None:
    twins = twins_of(name)
    for count in range(1, 10):
        step = STEPS[(count - 1) % 3]
        getattr(twins, step)()
        if count == looks and (field, step) != ("gradInput", "forward"):  # which is given up
            assert twins.waits(field)
            twins.compare(field)
            assert not twins.waits(field)


@every_network
def test_after_a_look_everything_is_kept(name: str) -> None:
    twins = twins_of(name)
    twins.forward()
    twins.compare("output")
    for _ in range(2):
        twins.backward()
        twins.compare("output")
        twins.compare("gradInput")
        twins.forward()
        assert not twins.waits("output")


def test_only_one_network_with_the_same_parameters_keeps_everything() -> None:
    twins = twins_of("lstm")
    twins.forward()
    assert all("output" in vars(module) for module in twins.firsts[0].modules)
    assert twins.waits("output")
    before = optnet.countUsedMemory(twins.clones[0])
    twins.compare("output")
    assert optnet.countUsedMemory(twins.clones[0]).outputs > 3 * before.outputs


@every_network
def test_values_of_the_first_pass_are_freed(name: str) -> None:
    twins = twins_of(name)
    clone = twins.clones[0]
    inner = [x for field in ("output", "gradInput") for x in tensors(list(values(clone, field)))]
    own = {x.data_ptr() for x in tensors(Table(clone.output, clone.gradInput))}
    seen = [weakref.ref(x) for x in inner if x.numel() and x.data_ptr() not in own]
    del inner
    assert all(ref() is not None for ref in seen)
    twins.forward()
    twins.backward()
    twins.update()
    twins.forward()
    assert not any(ref() is not None for ref in seen)


def test_a_network_alone_keeps_everything() -> None:
    make, sample = NETWORKS["lstm"]
    network, input = make(), sample()
    network.getParameters()
    for _ in range(3):
        network.forward(input)
        assert all("output" in vars(module) for module in network.modules)


@every_network
def test_a_second_backward_adds_the_same_again(name: str) -> None:
    twins = twins_of(name)
    twins.forward()
    for _ in range(3):
        twins.backward()
    twins.compare("gradInput")


@every_network
def test_gradients_one_after_the_other(name: str) -> None:
    twins = twins_of(name)
    twins.forward()
    twins.both(lambda clone: clone.updateGradInput(twins.input, clone.output))
    twins.both(lambda clone: clone.accGradParameters(twins.input, clone.output, 0.5))
    twins.compare("gradInput")


@every_network
@pytest.mark.parametrize("again", [gModule.clone, lambda clone: t7compat.loads(t7compat.dumps(clone))])
def test_a_copy_has_what_is_inside(name: str, again: Callable[[gModule], gModule]) -> None:
    twins = twins_of(name)
    twins.forward()
    twins.backward()
    twins.clones = [again(clone) for clone in twins.clones]
    assert not twins.waits("output")
    twins.compare("output")
    twins.compare("gradInput")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("step", ["forward", "backward"])
def test_outputs_changed_in_place_are_those_of_modules_inside(count: int, step: str) -> None:
    twins = twins_of("lstm")
    for do in STEPS[: STEPS.index(step) + 1]:
        getattr(twins, do)()
    twins.both(lambda clone: [output.exp_() for output in list(clone.output)[-count:]])
    if step == "forward":
        twins.backward()
    twins.compare("output")
    twins.compare("gradInput")


def test_values_that_are_not_numbers_are_found() -> None:
    twins = twins_of("lstm")
    twins.input[2][1] = float("nan")
    twins.input[3][2] = float("inf")
    twins.forward()
    twins.backward()
    assert any(x.isnan().any() for x in tensors(list(values(twins.clones[1], "output"))))
    twins.compare("output")
    twins.compare("gradInput")


@every_network
@pytest.mark.parametrize(
    "between", [t7compat.dumps, gModule.clone, gModule.evaluate], ids=lambda f: f.__name__
)
def test_what_is_done_between_forward_and_backward(name: str, between: Callable[[gModule], Any]) -> None:
    twins = twins_of(name)
    twins.forward()
    twins.both(between)
    twins.both(gModule.training)
    twins.backward()
    twins.compare("output")
    twins.compare("gradInput")


@every_network
def test_values_are_those_of_the_mode_of_the_pass(name: str) -> None:
    twins = twins_of(name)
    twins.forward()
    twins.backward()
    twins.both(gModule.evaluate)
    twins.compare("output")
    twins.compare("gradInput")


def test_a_gradient_changed_in_place_is_that_of_modules_inside() -> None:
    twins = twins_of("one_hot")
    twins.forward()
    twins.backward()
    twins.both(lambda clone: clone.gradInput[2].clamp_(-0.01, 0.01))
    twins.compare("gradInput")
    twins.compare("output")
