"""optnet: the same numbers, with less kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import gradients, same

import t7compat
from t7compat import InputError, Table, nn, optnet
from t7compat.nn.gradients import tensors

SIZE = 6


def convnet() -> Any:
    branches = nn.Concat(2).add(nn.SpatialConvolution(4, 3, 1, 1))
    branches.add(nn.Sequential().add(nn.SpatialConvolution(4, 5, 3, 3, 1, 1, 1, 1)).add(nn.ReLU(True)))
    net = nn.Sequential().add(nn.SpatialConvolution(3, 4, 3, 3)).add(nn.SpatialBatchNormalization(4))
    net.add(nn.ReLU(True)).add(branches).add(nn.SpatialMaxPooling(2, 2)).add(nn.Dropout(0.3))
    return net.add(nn.View(-1).setNumInputDims(3)).add(nn.Linear(32, 5)).add(nn.LogSoftMax())


def residual() -> Any:
    block = nn.ConcatTable().add(nn.Sequential().add(nn.Linear(SIZE, SIZE)).add(nn.Tanh())).add(nn.Identity())
    return nn.Sequential().add(nn.Bottle(nn.Linear(SIZE, SIZE))).add(block).add(nn.CAddTable())


def cell() -> Any:
    x, h = nn.Identity()(), nn.Identity()()
    sums = nn.CAddTable()(nn.Linear(SIZE, SIZE)(x), nn.Linear(SIZE, SIZE)(h))
    gate, new = nn.Sigmoid()(sums), nn.Tanh()(sums)
    inner = nn.gModule([x, h], [nn.CMulTable()(gate, new), sums])
    a, b = nn.Identity()(), nn.Identity()()
    one, two = inner(a, b).split(2)
    return nn.gModule([a, b], [nn.CSubTable()(one, nn.Linear(SIZE, SIZE)(two)), one, two])


def indices() -> Any:
    return nn.Sequential().add(nn.LookupTable(7, SIZE)).add(nn.Dropout(0.4)).add(nn.Mean(1)).add(nn.Abs())


def rows(*size: int) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64)


NETWORKS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "convnet": (convnet, lambda: rows(2, 3, 6, 6)),
    "residual": (residual, lambda: rows(4, SIZE)),
    "cell": (cell, lambda: Table(rows(4, SIZE), rows(4, SIZE))),
    "indices": (indices, lambda: torch.tensor([[1, 3, 7], [2, 2, 5]])),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def trained(net: Any, input: Any) -> list[torch.Tensor]:
    """Output, gradInput and gradients of two training steps."""
    w, dw = net.getParameters()
    found: list[torch.Tensor] = []
    t7compat.manualSeed(1)
    for _ in range(2):
        dw.zero_()
        output = net.forward(input)
        gradInput = net.backward(input, output)
        found += [tensor.clone() for tensor in (*tensors(output), *tensors(gradInput), dw)]
        w.add_(dw, alpha=-0.1)
    return found


@every_network
def test_training_gives_the_same(name: str) -> None:
    make, sample = NETWORKS[name]
    net, input = make(), sample()
    other = net.clone()
    want = trained(net, input)
    before = optnet.countUsedMemory(net)
    optnet.optimizeMemory(other, input, {"mode": "training"})
    for found, wanted in zip(trained(other, input), want, strict=True):
        assert torch.equal(found, wanted)
    after = optnet.countUsedMemory(other)
    assert after.outputs < before.outputs
    assert after.gradInputs < before.gradInputs or name == "indices"  # which has but an empty one
    assert after.params == before.params


@every_network
def test_inference_gives_the_same_without_gradients(name: str) -> None:
    make, sample = NETWORKS[name]
    net, input = make(), sample()
    net.evaluate()
    want = [tensor.clone() for tensor in tensors(net.forward(input))]
    params = optnet.countUsedMemory(net).params
    optnet.optimizeMemory(net, input)
    output = net.forward(input)
    for found, wanted in zip(tensors(output), want, strict=True):
        assert torch.equal(found, wanted)
    assert optnet.countUsedMemory(net).params == params / 2
    with pytest.raises(InputError, match="no backward in inference"):
        net.backward(input, output)
    with pytest.raises(InputError, match="getParameters"):
        net.getParameters()
    optnet.removeOptimization(net)
    assert optnet.countUsedMemory(net).params == params
    net.training()
    trained(net, input)


def test_gradients_come_back_shared_as_the_parameters_are() -> None:
    first, second = nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE)
    second.share(first, "weight", "gradWeight")
    net = nn.Sequential().add(first).add(second)
    optnet.optimizeMemory(net)
    assert first.gradWeight.numel() == 0
    optnet.removeOptimization(net)
    first.gradWeight.fill_(2)
    assert (second.gradWeight == 2).all()
    assert (second.gradBias == 0).all()


def test_gradients_may_stay() -> None:
    net = nn.Sequential().add(nn.Linear(2, 2))
    optnet.optimizeMemory(net, None, Table(mode="inference", removeGradParams=False))
    assert len(net.getParameters()[1]) == 6


def test_afterwards_inner_values_are_there_again() -> None:
    net, input = residual(), rows(4, SIZE)
    optnet.optimizeMemory(net, input, {"mode": "training"})
    net.forward(input)
    assert not tensors(net.get(2).output)
    optnet.removeOptimization(net)
    output = net.forward(input)
    net.backward(input, output)
    assert net.get(2).output[1].shape == net.get(2).gradInput.shape == (4, SIZE)


@every_network
def test_backward_that_needs_the_forward_again(name: str) -> None:
    make, sample = NETWORKS[name]
    net, input, another = make(), sample(), sample()
    other = net.clone()
    optnet.optimizeMemory(other, None, {"mode": "training"})
    for module in (net, other):
        t7compat.manualSeed(1)
        module.forward(input)
        module.zeroGradParameters()
        for scale in (1, 0.5):
            module.backward(input, net.output, scale)
        module.updateGradInput(input, net.output)
        module.accGradParameters(input, net.output)
    same(other.gradInput, net.gradInput)
    same(gradients(other), gradients(net))
    if name == "cell":  # the backward of a graph is that of its last forward, whatever the input
        return
    for module in (net, other):
        module.evaluate()
    net.forward(another)
    same(other.backward(another, net.output), net.backward(another, net.output))


def test_what_keeps_its_gradient_has_that_of_its_branch() -> None:
    bottle, x = nn.Bottle(nn.Linear(SIZE, SIZE)), rows(3, SIZE)
    branch = nn.ConcatTable().add(nn.Sequential().add(bottle)).add(nn.Identity())
    net = nn.Sequential().add(branch).add(nn.CAddTable())
    optnet.optimizeMemory(net, x, {"mode": "training"})
    net.forward(x)
    net.backward(x, x)
    same(bottle.gradInput, x @ bottle.get(1).weight)


def test_graph_frees_what_its_nodes_gave_as_soon_as_it_is_used() -> None:
    seen: list[weakref.ref[torch.Tensor]] = []

    class Doubled(nn.Module):
        def compute(self, input: torch.Tensor) -> torch.Tensor:
            alive.append(sum(ref() is not None for ref in seen))
            seen.append(weakref.ref(input))
            return input * 2

    alive: list[int] = []
    x = nn.Identity()()
    node = x
    for _ in range(4):
        node = Doubled()(node)
    net = nn.gModule([x], [nn.CAddTable()(node, x)])
    optnet.optimizeMemory(net, None, {"mode": "inference"})
    assert net.forward(torch.ones(2)).tolist() == [17, 17]
    assert alive == [0, 1, 1, 1]  # the input of the graph


def test_a_forward_is_needed_first() -> None:
    net, input = NETWORKS["indices"][0](), NETWORKS["indices"][1]()
    gradOutput = net.forward(input)
    optnet.optimizeMemory(net, input, {"mode": "training"})
    with pytest.raises(InputError, match="expected a forward before backward"):
        net.backward(input, gradOutput)


def test_gradients_that_were_removed_are_missed() -> None:
    net = residual()
    optnet.optimizeMemory(net)
    with pytest.raises(InputError, match="updateParameters: expected gradients as large as the parameters"):
        net.updateParameters(0.1)


def test_clones_and_files_are_as_ever() -> None:
    net = residual()
    optnet.optimizeMemory(net, None, {"mode": "training"})
    for copy in (net.clone(), t7compat.loads(t7compat.dumps(net))):
        copy.forward(rows(2, SIZE))
        assert copy.get(2).output[1].shape == (2, SIZE)


def test_twice_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    net = residual()
    optnet.optimizeMemory(net)
    optnet.optimizeMemory(net, None, {"mode": "training"})
    assert "optimized for inference already" in capsys.readouterr().out
    assert net.optnet == "inference"


def test_what_it_does_not_take() -> None:
    with pytest.raises(InputError, match=r'opts.mode: expected "inference" or "training", got string'):
        optnet.optimizeMemory(residual(), None, {"mode": "test"})
    with pytest.raises(InputError, match="expected a network of nn modules"):
        optnet.optimizeMemory(torch.zeros(1))  # type: ignore[arg-type]
