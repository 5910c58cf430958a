"""Parameters that share memory: clones, share, flat vectors, other types."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from golden import gradients
from torch7 import gives, wave

import t7compat
from t7compat import InputError, nn

x, g = wave(2, 3), wave(2, 2) + 0.5
ALL = ("weight", "bias", "gradWeight", "gradBias")


def seeded(inputs: int, outputs: int) -> nn.Linear:
    """A Linear whose numbers are those that Torch7 draws after manualSeed(4)."""
    t7compat.manualSeed(4)
    layer = nn.Linear(inputs, outputs)
    layer.zeroGradParameters()
    return layer


def chain(*modules: nn.Module) -> nn.Sequential:
    net = nn.Sequential()
    for module in modules:
        net.add(module)
    return net


def share_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def layout(module: nn.Module) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    return [(p.storage_offset() + 1, tuple(p.shape), p.stride()) for p in module.parameters()[0]]


# ---- training


def test_clone_that_shares_weights_but_not_gradients() -> None:
    a = seeded(3, 2)
    b = a.clone("weight", "bias")
    for module, input in ((a, x), (b, x * 2)):
        module.forward(input)
        module.backward(input, g)
    gives(a.gradWeight, "1.19378 0.649378 -0.200441 1.23666 1.17094 0.554499")
    gives(b.gradWeight, "2.38757 1.29876 -0.400882 2.47333 2.34187 1.109")
    a.updateParameters(0.1)
    gives(b.weight, "0.419901 0.39766 0.0745832 -0.501605 0.428715 0.355186")
    b.updateParameters(0.1)
    gives(a.weight, "0.181144 0.267784 0.114671 -0.748938 0.194528 0.244286")
    gives(a.bias, "-0.253437 -0.338184")


def test_layer_used_twice_through_a_clone() -> None:
    a = seeded(3, 3)
    b = a.clone(*ALL)
    m = chain(a, nn.Tanh(), b)
    m.forward(x)
    gives(m.backward(x, wave(2, 3)), "-0.120031 0.584538 0.499833 0.0161274 -0.0186534 -0.0740454")
    gives(a.gradWeight, "0.594616 -0.00672693 -0.142075 1.23495 1.43616 1.0377 0.899913 1.64127 1.2638")
    m.updateParameters(0.1)  # once for each of the two
    gives(b.weight, "0.420356 0.463943 0.082954 -0.62493 0.258576 0.203095 0.0680656 -0.20235 -0.0244418")
    m.forward(x)
    m.updateGradInput(x, wave(2, 3))
    m.accUpdateGradParameters(x, wave(2, 3), 0.1)
    gives(
        b.weight,
        "0.391637 0.552995 0.173725 -0.711207 0.258634 0.232041 -0.0105691 -0.242116 -0.0203022",
    )


def test_layer_used_twice_with_gradients_of_its_own() -> None:
    a = seeded(3, 3)
    b = a.clone("weight", "bias")
    b.zeroGradParameters()
    m = chain(a, nn.Tanh(), b)
    m.forward(x)
    m.backward(x, wave(2, 3))
    gives(a.gradWeight, "0.086373 0.0489439 -0.0115043 0.529409 0.862534 0.789997 0.328893 0.708125 0.754315")
    gives(b.gradWeight, "0.508243 -0.0556708 -0.13057 0.705546 0.573629 0.247706 0.571019 0.933142 0.509482")
    m.updateParameters(0.1)
    gives(b.weight, "0.479818 0.463271 0.0687466 -0.501434 0.402193 0.306865 0.158057 -0.0382233 0.101938")


def test_flat_vector_moves_a_shared_layer_once() -> None:
    a = seeded(3, 3)
    b = a.clone(*ALL)
    m = chain(a, nn.Tanh(), b)
    flat, flat_gradients = m.getParameters()
    assert flat.numel() == 12
    m.forward(x)
    m.backward(x, wave(2, 3))
    gives(
        flat_gradients,
        "0.594616 -0.00672693 -0.142075 1.23495 1.43616 1.0377 0.899913 1.64127 1.2638 "
        "1.15953 1.42714 0.388157",
    )
    flat.add_(flat_gradients, alpha=-0.1)
    gives(b.weight, "0.479818 0.463271 0.0687466 -0.501434 0.402193 0.306865 0.158057 -0.0382233 0.101938")


def test_shared_clone() -> None:
    m = chain(seeded(3, 2), nn.Tanh())
    copy = m.sharedClone()
    m.forward(x)
    copy.forward(x * 2)
    m.backward(x, g)
    copy.backward(x * 2, g)
    gives(m.output, "0.799926 0.649689 0.215464 -0.500567")
    gives(copy.output, "0.960223 0.890351 0.187495 -0.841423")
    gives(copy.get(1).gradWeight, "1.69707 -0.796858 -2.91601 1.32271 1.06222 0.302156")
    m.updateParameters(0.1)
    gives(copy.get(1).weight, "0.369573 0.542284 0.34614 -0.51021 0.439586 0.38042")


@pytest.mark.parametrize(("weights", "gradients_too"), [(True, False), (False, True), (True, True)])
def test_what_a_shared_clone_shares(weights: bool, gradients_too: bool) -> None:
    layer = nn.Linear(3, 2)
    copy = layer.sharedClone(weights, gradients_too)
    assert share_memory(copy.weight, layer.weight) == share_memory(copy.bias, layer.bias) == weights
    assert share_memory(copy.gradWeight, layer.gradWeight) == gradients_too
    assert share_memory(copy.gradBias, layer.gradBias) == gradients_too


def test_shared_clone_of_flat_parameters() -> None:
    m = chain(nn.Linear(3, 2), nn.Tanh())
    flat, _ = m.getParameters()
    copy = m.sharedClone()
    flat.fill_(3)
    assert copy.get(1).weight.sum() == 18
    assert copy.get(1).bias.sum() == 6


def test_clones_keep_what_is_one_module_one() -> None:
    layer = nn.Linear(3, 3)
    m = chain(layer, nn.Tanh(), layer)
    for copy in (m.clone(), m.clone("weight"), m.sharedClone()):
        assert copy.get(1) is copy.get(3)
        assert copy.get(1) is not layer


def test_step_clone_keeps_recurrent_modules() -> None:
    m = chain(nn.LSTM(3, 2), nn.Linear(2, 2))
    step, shared = m.stepClone(), m.sharedClone()
    assert step.get(1) is m.get(1)
    assert shared.get(1) is not m.get(1)
    for copy in (step, shared):
        for mine, theirs in zip(copy.parameters()[0], m.parameters()[0], strict=True):
            assert share_memory(mine, theirs)


def test_share_of_share() -> None:
    a, b, c = (nn.Linear(3, 2) for _ in range(3))
    b.share(a, "weight")
    c.share(b, "weight")
    a.weight.fill_(1)
    assert c.weight.sum() == 6
    assert a.shared is b.shared is c.shared is True
    with pytest.raises(InputError, match=r"share: expected a container of 1 modules, got one of 2"):
        chain(a).share(chain(a, b), "weight")
    with pytest.raises(
        InputError, match=r"share: expected a module with the field bias, got nn.LinearNoBias"
    ):
        a.share(nn.LinearNoBias(3, 2), "weight", "bias")


# ---- flat vectors


def test_clone_of_a_flattened_network_is_flat_too() -> None:
    m = chain(nn.Linear(3, 2), nn.Linear(2, 2))
    flat, _ = m.getParameters()
    independent, shared = m.clone(), m.clone("weight", "bias")
    assert layout(independent) == layout(shared) == layout(m)
    kept = independent.get(1).weight.clone()
    flat.fill_(2)
    assert torch.equal(independent.get(1).weight, kept)
    assert (shared.get(1).weight.sum(), shared.get(2).bias.sum()) == (12, 4)


def test_layers_added_and_taken_later() -> None:
    m = chain(nn.Linear(2, 2))
    m.getParameters()
    m.add(nn.Linear(2, 1))
    before = torch.cat([p.reshape(-1) for p in m.parameters()[0]])
    flat, flat_gradients = m.getParameters()
    assert torch.equal(flat, before)
    assert layout(m) == [(1, (2, 2), (2, 1)), (5, (2,), (1,)), (7, (1, 2), (2, 1)), (9, (1,), (1,))]
    part, _ = m.get(1).getParameters()
    assert part.numel() == 6
    part.fill_(3)
    assert m.get(1).weight.sum() == 12
    assert torch.equal(flat, before)  # the old vector has what it had
    assert flat_gradients.numel() == 9


def test_networks_that_share_a_layer() -> None:
    shared = nn.Linear(2, 2)
    first, second = chain(shared, nn.Linear(2, 2)), chain(nn.Linear(3, 2), shared)
    first.getParameters()
    flat, _ = second.getParameters()
    assert flat.numel() == 8 + 6
    flat.fill_(1)
    assert first.get(1).weight.sum() == 4
    assert first.parameters()[0][1] is second.parameters()[0][3]


@pytest.mark.parametrize("names", [(), ALL])
def test_reset_reaches_the_flat_vector(names: tuple[str, ...]) -> None:
    layer = nn.Linear(4, 4)
    m = chain(layer, layer.clone(*names) if names else layer.clone())
    flat, _ = m.getParameters()
    m.reset()
    assert torch.equal(flat, torch.cat([p.reshape(-1) for p in m.parameters()[0]])[: flat.numel()])
    assert flat.numel() == (20 if names else 40)


Change = Callable[[nn.Linear], None]


def views(layer: nn.Linear, weight: torch.Tensor, bias: torch.Tensor) -> None:
    layer.weight, layer.bias = weight, bias


def everywhere(storage: torch.Tensor, *places: int) -> Change:
    """Put the weight and bias of a layer, and their gradients likewise, at places of one storage."""

    def change(layer: nn.Linear) -> None:
        weight, bias = places
        layer.weight, layer.bias = storage[weight : weight + 9].view(3, 3), storage[bias : bias + 3]
        zeros = torch.zeros_like(storage)
        layer.gradWeight, layer.gradBias = zeros[weight : weight + 9].view(3, 3), zeros[bias : bias + 3]

    return change


def transposed(layer: nn.Linear) -> None:
    layer.weight, layer.gradWeight = wave(3, 3).t(), torch.zeros(3, 3).double().t()


def expanded(layer: nn.Linear) -> None:
    layer.weight, layer.gradWeight = wave(3, 1).expand(3, 3), torch.zeros(3, 1).double().expand(3, 3)


def row(layer: nn.Linear) -> None:
    layer.bias = wave(3, 3)[1]


@pytest.mark.parametrize(
    ("change", "elements", "wanted"),
    [
        (row, 12, [(1, (3, 3), (3, 1)), (10, (3,), (1,))]),
        (transposed, 12, [(1, (3, 3), (1, 3)), (10, (3,), (1,))]),
        (expanded, 6, [(1, (3, 3), (1, 0)), (4, (3,), (1,))]),
        (everywhere(wave(20), 2, 13), 12, [(1, (3, 3), (3, 1)), (10, (3,), (1,))]),
        (everywhere(wave(20), 8, 2), 12, [(4, (3, 3), (3, 1)), (1, (3,), (1,))]),
        (everywhere(wave(20), 0, 7), 10, [(1, (3, 3), (3, 1)), (8, (3,), (1,))]),
    ],
)
def test_unusual_places(change: Change, elements: int, wanted: object) -> None:
    """Elements that no parameter uses are left out, those that two of them use are there once."""
    layer = nn.Linear(3, 3)
    change(layer)
    before = [p.clone() for p in layer.parameters()[0]]
    flat, flat_gradients = layer.getParameters()
    assert flat.numel() == flat_gradients.numel() == elements
    assert layout(layer) == wanted
    for parameter, value in zip(layer.parameters()[0], before, strict=True):
        assert share_memory(parameter, flat)
        assert torch.equal(parameter, value)


def column(layer: nn.Linear) -> None:
    layer.bias = wave(3, 3)[:, 1]


def hole(layer: nn.Linear) -> None:
    layer.weight = wave(10, 6)[1:4, 1:4]


def other_type(layer: nn.Linear) -> None:
    layer.bias = layer.bias.float()


def bias_first(layer: nn.Linear) -> None:
    storage = wave(20)
    layer.weight, layer.bias = storage[7:16].view(3, 3), storage[2:5]


def overlapping(layer: nn.Linear) -> None:
    storage = wave(10)
    layer.weight, layer.bias = storage[:9].view(3, 3), storage[7:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (column, "not compact"),
        (hole, "not compact"),
        (other_type, "different types: torch.DoubleTensor, torch.FloatTensor"),
        (bias_first, "sharing parameters and gradParameters alike"),
        (overlapping, "sharing parameters and gradParameters alike"),
    ],
)
def test_what_cannot_be_flattened(change: Change, message: str) -> None:
    layer = nn.Linear(3, 3)
    change(layer)
    with pytest.raises(InputError, match=message):
        layer.getParameters()


def test_weights_shared_but_not_their_gradients_cannot_be_flattened() -> None:
    layer = nn.Linear(3, 3)
    with pytest.raises(InputError, match="sharing parameters and gradParameters alike"):
        chain(layer, layer.clone("weight", "bias")).getParameters()


def test_recurrent_clones_follow_the_flat_vector() -> None:
    lstm = nn.Sequencer(nn.LSTM(3, 2))
    lstm.forward([wave(2, 3)] * 3)  # which makes clones for the steps
    flat, _ = lstm.getParameters()
    flat.mul_(0.5)
    halved = lstm.forward([wave(2, 3)] * 3)
    fresh = lstm.clone().forward([wave(2, 3)] * 3)
    for mine, theirs in zip(halved, fresh, strict=True):
        assert torch.equal(mine, theirs)


# ---- other types


def test_types_keep_sharing() -> None:
    a = nn.Linear(3, 2)
    m = nn.ParallelTable().add(a).add(a.clone("weight")).float()
    a.weight.fill_(3)
    assert m.get(2).weight.sum() == 18
    assert a.weight.dtype == a.bias.dtype == torch.float32
    assert not share_memory(a.bias, m.get(2).bias)


def test_a_flat_network_stays_flat_in_another_type() -> None:
    m = chain(nn.Linear(3, 2), nn.Linear(2, 2))
    m.getParameters()
    before = layout(m)
    m.float()
    assert layout(m) == before
    flat, flat_gradients = m.getParameters()
    assert flat.dtype == flat_gradients.dtype == torch.float32
    assert flat.numel() == 14


def test_default_type() -> None:
    t7compat.setdefaulttensortype("torch.FloatTensor")
    try:
        m = chain(nn.Linear(3, 2), nn.Tanh())
        empty, _ = nn.Tanh().getParameters()
        assert m.type() == "torch.FloatTensor"
        assert m.forward(x.float()).dtype == m.backward(x.float(), g.float()).dtype == torch.float32
        assert {p.dtype for p in (*m.parameters()[0], *gradients(m), empty)} == {torch.float32}
        with pytest.raises(InputError, match=r"expected a torch.FloatTensor, got torch.DoubleTensor"):
            m.forward(x)
    finally:
        t7compat.setdefaulttensortype("torch.DoubleTensor")
