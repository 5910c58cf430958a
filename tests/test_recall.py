"""Clones over time: what is inside is computed again when somebody looks at it, and is what it was."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from golden import same

import t7compat
from t7compat import InputError, Table, nn, optnet
from t7compat.nn.gradients import tensors
from t7compat.nngraph import gModule
from t7compat.table import to_tuples

SIZE, BATCH, SYMBOLS = 5, 4, 7
SHARED = "weight", "bias", "gradWeight", "gradBias"


def rows(*size: int) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64)


def lstm() -> gModule:
    """char-rnn's cell: indices, dropout, gates, and outputs that are used inside, too."""
    x, c, h = nn.Identity()(), nn.Identity()(), nn.Identity()()
    embedded = nn.Dropout(0.3)(nn.LookupTable(SYMBOLS, SIZE)(x))
    sums = nn.CAddTable()(nn.Linear(SIZE, 4 * SIZE)(embedded), nn.Linear(SIZE, 4 * SIZE)(h))
    n1, n2, n3, n4 = nn.SplitTable(2)(nn.Reshape(4, SIZE)(sums)).split(4)
    kept, new = nn.CMulTable()(nn.Sigmoid()(n1), c), nn.CMulTable()(nn.Sigmoid()(n2), nn.Tanh()(n4))
    after = nn.CAddTable()(kept, new)
    output = nn.CMulTable()(nn.Sigmoid()(n3), nn.Tanh()(after))
    return nn.gModule([x, c, h], [after, output, nn.LogSoftMax()(nn.Linear(SIZE, SYMBOLS)(output))])


def one_hot() -> gModule:
    """A module whose gradInput is of a type of its own, an input that several get, and one output."""
    x, h = nn.Identity()(), nn.Identity()()
    sums = nn.CAddTable()(nn.Linear(SYMBOLS, SIZE)(nn.OneHot(SYMBOLS)(x)), h, nn.Copy()(h), nn.Tanh()(h))
    return nn.gModule([x, h], [nn.Sigmoid()(sums)])


def nested() -> gModule:
    """Networks and containers inside, statistics, a module used twice, and a table of tables as input."""
    inner_x = nn.Identity()()
    inner = nn.gModule([inner_x], [nn.Tanh()(inner_x), nn.Linear(SIZE, SIZE)(inner_x)])
    block = nn.Sequential().add(nn.Linear(SIZE, SIZE)).add(nn.BatchNormalization(SIZE)).add(nn.ReLU())
    branches = nn.ConcatTable().add(block).add(nn.Identity())
    pair = nn.Identity()()
    first, second = nn.SelectTable(1)(pair), nn.FlattenTable()(nn.SelectTable(2)(pair))
    one, two = inner(first).split(2)
    twice = nn.Tanh()
    joined = nn.CAddTable()(one, two, nn.CAddTable()(branches(first)), twice(twice(nn.CAddTable()(second))))
    return nn.gModule([pair], [joined, one])


NETWORKS: dict[str, tuple[Callable[[], gModule], Callable[[], Any]]] = {
    "lstm": (lstm, lambda: Table(torch.tensor([1, 7, 3, 3]), rows(BATCH, SIZE), rows(BATCH, SIZE))),
    "one_hot": (one_hot, lambda: Table(torch.tensor([1, 7, 3, 3]), rows(BATCH, SIZE))),
    "nested": (nested, lambda: Table(rows(BATCH, SIZE), Table(rows(BATCH, SIZE), Table(rows(BATCH, SIZE))))),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


class Twins:
    """Two clones of equal networks: of the first one what is inside waits, the other one keeps it."""

    def __init__(self, name: str) -> None:
        make, self.sample = NETWORKS[name]
        network = make()
        self.firsts, self.clones, self.flat = [], [], []
        for _ in range(2):
            copy = network.clone()
            self.flat.append(copy.getParameters())
            for clones in (self.firsts, self.clones):
                clones.append(copy.clone(*SHARED))
                clones[-1].forward(self.sample())
        optnet.removeOptimization(self.clones[1])
        self.input = self.sample()

    def both(self, do: Callable[[gModule], Any]) -> None:
        """Do the same with both, with the same random numbers."""
        for clone in self.clones:
            t7compat.manualSeed(1)
            do(clone)

    def forward(self) -> None:
        self.both(lambda clone: clone.forward(self.input))

    def backward(self) -> None:
        self.gradOutputs = [to_tuples(torch.clone, clone.output) for clone in self.clones]
        self.both(lambda clone: clone.backward(self.input, self.gradOutputs[self.clones.index(clone)]))

    def update(self) -> None:
        for w, dw in self.flat:
            w.add_(dw, alpha=-0.1)

    def waits(self, field: str) -> bool:
        return any(field not in vars(module) for module in self.clones[0].modules)

    def compare(self, field: str) -> None:
        """What all modules have in a field, the inputs of nodes, and gradients of the parameters."""
        (_, ours), (_, theirs) = self.flat
        same(ours, theirs)
        for mine, other in zip(*(values(clone, field) for clone in self.clones), strict=True):
            same(mine, other)


def values(clone: gModule, field: str) -> Iterator[Any]:
    for module in clone.listModules():
        yield getattr(module, field)
    for module in clone.listModules():
        for node in module.forwardnodes if isinstance(module, gModule) else ():
            yield node.data.input


STEPS = "forward", "backward", "update"


@every_network
@pytest.mark.parametrize("field", ["output", "gradInput"])
@pytest.mark.parametrize("looks", range(1, 7))
def test_values_inside_are_those_that_are_kept_elsewhere(name: str, field: str, looks: int) -> None:
    twins = Twins(name)
    for count in range(1, 10):
        step = STEPS[(count - 1) % 3]
        getattr(twins, step)()
        if count == looks and (field, step) != ("gradInput", "forward"):  # which is given up
            assert twins.waits(field)
            twins.compare(field)
            assert not twins.waits(field)


@every_network
def test_after_a_look_everything_is_kept(name: str) -> None:
    twins = Twins(name)
    twins.forward()
    twins.compare("output")
    for _ in range(2):
        twins.backward()
        twins.compare("output")
        twins.compare("gradInput")
        twins.forward()
        assert not twins.waits("output")


def test_only_one_network_with_the_same_parameters_keeps_everything() -> None:
    twins = Twins("lstm")
    twins.forward()
    assert all("output" in vars(module) for module in twins.firsts[0].modules)
    assert twins.waits("output")
    before = optnet.countUsedMemory(twins.clones[0])
    twins.compare("output")
    assert optnet.countUsedMemory(twins.clones[0]).outputs > 3 * before.outputs


@every_network
def test_values_of_the_first_pass_are_freed(name: str) -> None:
    twins = Twins(name)
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
    network, sample = lstm(), NETWORKS["lstm"][1]()
    network.getParameters()
    for _ in range(3):
        network.forward(sample)
        assert all("output" in vars(module) for module in network.modules)


@every_network
def test_a_second_backward_adds_the_same_again(name: str) -> None:
    twins = Twins(name)
    twins.forward()
    for _ in range(3):
        twins.backward()
    twins.compare("gradInput")


@every_network
def test_gradients_one_after_the_other(name: str) -> None:
    twins = Twins(name)
    twins.forward()
    twins.both(lambda clone: clone.updateGradInput(twins.input, clone.output))
    twins.both(lambda clone: clone.accGradParameters(twins.input, clone.output, 0.5))
    twins.compare("gradInput")


def test_weights_that_change_before_the_backward_count_as_in_torch7() -> None:
    twins = Twins("lstm")
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


@every_network
@pytest.mark.parametrize("again", [gModule.clone, lambda clone: t7compat.loads(t7compat.dumps(clone))])
def test_a_copy_has_what_is_inside(name: str, again: Callable[[gModule], gModule]) -> None:
    twins = Twins(name)
    twins.forward()
    twins.backward()
    twins.clones = [again(clone) for clone in twins.clones]
    assert not twins.waits("output")
    twins.compare("output")
    twins.compare("gradInput")


def test_values_that_cannot_be_had_again() -> None:
    twins = Twins("lstm")
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


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("step", ["forward", "backward"])
def test_outputs_changed_in_place_are_those_of_modules_inside(count: int, step: str) -> None:
    twins = Twins("lstm")
    for do in STEPS[: STEPS.index(step) + 1]:
        getattr(twins, do)()
    twins.both(lambda clone: [output.exp_() for output in list(clone.output)[-count:]])
    if step == "forward":
        twins.backward()
    twins.compare("output")
    twins.compare("gradInput")


def test_values_that_are_not_numbers_are_found() -> None:
    twins = Twins("lstm")
    twins.input[2][1] = float("nan")
    twins.input[3][2] = float("inf")
    twins.forward()
    twins.backward()
    assert any(x.isnan().any() for x in tensors(list(values(twins.clones[1], "output"))))
    twins.compare("output")
    twins.compare("gradInput")


def test_modules_inside_run_on_their_own() -> None:
    twins = Twins("lstm")
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
    twins = Twins("lstm")
    twins.forward()
    mine = rows(2)
    twins.both(lambda clone: setattr(clone.modules[4], "output", mine))
    assert twins.clones[0].modules[4].output is mine
    twins.compare("output")
    twins.forward()
    twins.compare("output")


def test_a_module_of_two_networks_has_the_values_of_the_last_pass() -> None:
    twins, linear = Twins("one_hot"), "nn.Linear"
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
    twins = Twins("lstm")
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
    twins = Twins("nested")
    twins.forward()
    clone = twins.clones[0]
    for wrong in (rows(BATCH, SIZE).float(), rows(BATCH, SIZE + 1), "text"):
        with pytest.raises(InputError, match="expected"):
            clone.forward(Table(wrong, twins.input[2]))
    twins.forward()
    twins.compare("output")


def test_a_network_that_failed_has_no_values() -> None:
    twins = Twins("lstm")
    clone = twins.clones[0]
    twins.forward()
    with pytest.raises(InputError, match="expected"):
        clone.forward(Table(torch.tensor([99]), *tensors(twins.input)[1:]))
    assert clone.modules[4].output.numel() == 0


def test_old_weights_are_not_kept_for_networks_that_run_no_more() -> None:
    twins = Twins("lstm")
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


@every_network
@pytest.mark.parametrize(
    "between", [t7compat.dumps, gModule.clone, gModule.evaluate], ids=lambda f: f.__name__
)
def test_what_is_done_between_forward_and_backward(name: str, between: Callable[[gModule], Any]) -> None:
    twins = Twins(name)
    twins.forward()
    twins.both(between)
    twins.both(gModule.training)
    twins.backward()
    twins.compare("output")
    twins.compare("gradInput")


@every_network
def test_values_are_those_of_the_mode_of_the_pass(name: str) -> None:
    twins = Twins(name)
    twins.forward()
    twins.backward()
    twins.both(gModule.evaluate)
    twins.compare("output")
    twins.compare("gradInput")


def test_values_that_the_outputs_do_not_tell_are_refused() -> None:
    def dead() -> gModule:
        x = nn.Identity()()
        return nn.gModule([x], [nn.ReLU()(nn.AddConstant(-1e9)(nn.Linear(SIZE, SIZE)(x)))])

    NETWORKS["dead"] = dead, lambda: rows(BATCH, SIZE)
    try:
        twins = Twins("dead")
    finally:
        del NETWORKS["dead"]
    twins.forward()
    for w, _ in twins.flat:
        w.mul_(2)
    with pytest.raises(InputError, match="cannot be computed again"):
        twins.compare("output")
    twins.forward()
    twins.compare("output")


def test_a_gradient_changed_in_place_is_that_of_modules_inside() -> None:
    twins = Twins("one_hot")
    twins.forward()
    twins.backward()
    twins.both(lambda clone: clone.gradInput[2].clamp_(-0.01, 0.01))
    twins.compare("gradInput")
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
