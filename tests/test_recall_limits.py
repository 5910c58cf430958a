"""Clones over time: what ends the waiting of the values inside, and what is refused."""

from __future__ import annotations

import pytest
import torch
from golden import same
from twins import BATCH, SHARED, SIZE, SYMBOLS, Twins, rows, twins_of, values

import t7compat
from t7compat import InputError, Table, nn, optnet
from t7compat.nn.gradients import tensors
from t7compat.nngraph import gModule


def test_weights_that_change_before_the_backward_count_as_in_torch7() -> None:
    twins = twins_of("lstm")
    for _ in range(2):
        twins.forward()
        for w, _ in twins.flat:
            w.mul_(1.5)
        twins.backward()
        (_, ours), (_, theirs) = twins.flat
        same(ours, theirs)
        same(twins.clones[0].gradInput, twins.clones[1].gradInput)
    with pytest.raises(InputError, match="cannot be computed again"):
        twins.compare("gradInput")


def test_values_that_cannot_be_had_again() -> None:
    twins = twins_of("lstm")
    clone, inner = twins.clones[0], twins.clones[0].modules[4]
    twins.forward()
    twins.input[2].add_(1)
    with pytest.raises(InputError, match=r"changed since: call t7compat\.optnet\.removeOptimization"):
        _ = inner.output
    saved = t7compat.loads(t7compat.dumps(clone))  # without them, as after clearState
    assert saved.modules[4].output.numel() == 0
    same(saved.output, clone.output)
    optnet.removeOptimization(clone)
    twins.forward()
    twins.input[2].add_(1)
    twins.compare("output")


def test_modules_inside_run_on_their_own() -> None:
    twins = twins_of("lstm")
    twins.forward()
    twins.backward()
    x = rows(BATCH, SIZE)
    for clone in twins.clones:
        linear = clone.findModules("nn.Linear")[0][2]
        linear.forward(x)
        linear.backward(x, linear.output)
    twins.compare("output")
    twins.compare("gradInput")


def test_an_output_that_a_program_sets_stays() -> None:
    twins = twins_of("lstm")
    twins.forward()
    mine = rows(2)
    twins.both(lambda clone: setattr(clone.modules[4], "output", mine))
    assert twins.clones[0].modules[4].output is mine
    twins.compare("output")
    twins.forward()
    twins.compare("output")


def test_a_module_of_two_networks_has_the_values_of_the_last_pass() -> None:
    twins, linear = twins_of("one_hot"), "nn.Linear"
    others = []
    for clone in twins.clones:
        x = nn.Identity()()
        others.append(nn.gModule([x], [nn.Tanh()(clone.findModules(linear)[0][1](x))]))
    family = nn.gModule.clone(others[0], *SHARED)
    x = rows(BATCH, SYMBOLS)
    for _ in range(2):
        family.forward(x)
        for other in others:
            other.forward(x)
        twins.forward()
        for other in others:
            other.forward(x)
        twins.compare("output")


def test_methods_that_an_instance_overrides_are_called() -> None:
    twins = twins_of("lstm")
    for clone in twins.clones:
        tanh = clone.findModules("nn.Tanh")[0][1]
        tanh.updateOutput = lambda input, tanh=tanh: setattr(tanh, "output", input * 2) or tanh.output
        tanh.updateGradInput = lambda input, gradOutput, tanh=tanh: (
            setattr(tanh, "gradInput", gradOutput * 2) or tanh.gradInput
        )
    twins.forward()
    twins.backward()
    twins.compare("output")
    twins.compare("gradInput")


def test_other_forms_are_refused_in_a_later_pass() -> None:
    twins = twins_of("nested")
    twins.forward()
    clone = twins.clones[0]
    for wrong in (rows(BATCH, SIZE).float(), rows(BATCH, SIZE + 1), "text"):
        with pytest.raises(InputError, match="expected"):
            clone.forward(Table(wrong, twins.input[2]))
    twins.forward()
    twins.compare("output")


def test_a_network_that_failed_has_no_values() -> None:
    twins = twins_of("lstm")
    clone = twins.clones[0]
    twins.forward()
    with pytest.raises(InputError, match="expected"):
        clone.forward(Table(torch.tensor([99]), *tensors(twins.input)[1:]))
    assert clone.modules[4].output.numel() == 0


def test_old_weights_are_not_kept_for_networks_that_run_no_more() -> None:
    twins = twins_of("lstm")
    late = twins.firsts[0].clone(*SHARED)
    for clone in (twins.clones[0], late, late):
        clone.forward(twins.input)
    copies = late.deferred.weights
    for _ in range(2):
        twins.forward()
        twins.backward()
        twins.update()
    assert copies() is None
    with pytest.raises(InputError, match="cannot be computed again"):
        _ = late.modules[4].output


def test_values_that_the_outputs_do_not_tell_are_refused() -> None:
    def dead() -> gModule:
        x = nn.Identity()()
        return nn.gModule([x], [nn.ReLU()(nn.AddConstant(-1e9)(nn.Linear(SIZE, SIZE)(x)))])

    twins = Twins(dead, lambda: rows(BATCH, SIZE))
    twins.forward()
    for w, _ in twins.flat:
        w.mul_(2)
    with pytest.raises(InputError, match="cannot be computed again"):
        twins.compare("output")
    twins.forward()
    twins.compare("output")


def test_networks_with_one_dropout_at_two_places_keep_everything() -> None:
    def twice() -> gModule:
        x, dropout = nn.Identity()(), nn.Dropout(0.5)
        return nn.gModule([x], [dropout(nn.Linear(SIZE, SIZE)(dropout(x)))])

    network = twice()
    network.getParameters()
    clones = [network.clone(*SHARED) for _ in range(2)]
    for clone in clones * 2:
        clone.forward(rows(BATCH, SIZE))
    assert all("output" in vars(module) for clone in clones for module in clone.modules)


def test_a_network_of_its_own_and_inside_of_another_one() -> None:
    def inner() -> gModule:
        x = nn.Identity()()
        return nn.gModule([x], [nn.Tanh()(nn.Linear(SIZE, SIZE)(x))])

    base = inner()
    base.getParameters()
    family = [base.clone(*SHARED) for _ in range(3)]
    optnet.removeOptimization(family[2])
    outers = []
    for clone in family[1:]:
        x = nn.Identity()()
        outers.append(nn.gModule([x], [nn.Sigmoid()(clone(x))]))
    one, two = rows(BATCH, SIZE), rows(BATCH, SIZE)
    for _ in range(2):
        for clone in family:
            clone.forward(one)
        for outer in outers:
            outer.forward(two)
        same(family[1].backward(two, two), family[2].backward(two, two))
        for mine, other in zip(*(values(outer, "output") for outer in outers), strict=True):
            same(mine, other)
