"""Scripts and checkpoints for several GPUs, on one device."""

from __future__ import annotations

import pytest
import torch
from golden import GOLDEN, gradients, same
from torch7 import wave

import t7compat
from converters import to_native
from t7compat import InputError, Table, nn


def network() -> nn.Sequential:
    return nn.Sequential().add(nn.Linear(3, 2)).add(nn.Tanh())


def test_script_for_several_gpus() -> None:
    """What a training script calls, and a checkpoint in the middle."""
    net = network()
    parallel = nn.DataParallelTable(1, True, True).add(net, [1, 2, 3, 4]).threads()
    flat, flat_gradients = parallel.getParameters()
    parallel.training()
    parallel.syncParameters()
    for _ in range(2):
        parallel.zeroGradParameters()
        output = parallel.forward(wave(4, 3))
        parallel.backward(wave(4, 3), output)
        assert flat_gradients.abs().sum() > 0
        flat.add_(flat_gradients, alpha=-0.1)
        same(net.get(1).weight, flat[:6].reshape(2, 3))
        parallel.clearState()
    again = t7compat.loads(t7compat.dumps(parallel))
    assert (list(again.gpuAssignments), again.impl.dpt is again) == ([1, 2, 3, 4], True)
    again.evaluate()
    same(again.forward(wave(4, 3)), net.forward(wave(4, 3)))
    assert again.get(1).train is False
    assert str(parallel) == f"DataParallelTable: 4 x {net}"
    assert parallel.get(1) is net


def test_parameters_are_flat_when_it_runs() -> None:
    parallel = nn.DataParallelTable(1, True).add(network(), 1)
    same(parallel.moduleParameters()[1][1][2], parallel.get(1).get(1).bias)
    parallel.forward(wave(4, 3))
    assert parallel.moduleParameters()[1][1][1].numel() == 8
    parallel.get(1).get(1).weight = wave(2, 3)  # somewhere else
    flat, _ = parallel.getParameters()
    same(flat[:6], wave(6))


def test_flat_parameters_stay_where_they_are() -> None:
    net = network()
    flat, flat_gradients = net.getParameters()
    parallel = nn.DataParallelTable(1, True).add(net, Table(1, 2))
    parallel.forward(wave(4, 3))
    flat.zero_()
    assert parallel.forward(wave(4, 3)).abs().sum() == 0
    assert [tensor.data_ptr() for tensor in parallel.getParameters()] == [
        flat.data_ptr(),
        flat_gradients.data_ptr(),
    ]


def test_inside_a_network() -> None:
    lone = nn.Sequential().add(nn.Linear(2, 3)).add(network())
    outer = nn.Sequential().add(lone.get(1).clone())
    outer.add(nn.DataParallelTable(1).add(lone.get(2).clone(), 1).add(None, 2))
    for net in (lone, outer):
        net.zeroGradParameters()
        net.forward(wave(4, 2))
        net.backward(wave(4, 2), wave(4, 2))
    same(outer.output, lone.output)
    same(gradients(outer), gradients(lone))


def test_checkpoint_of_several_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    path = GOLDEN / "serialization" / "dataparallel.t7"
    module = t7compat.load(path).model
    weight = module.get(1).weight
    assert list(module.gpuAssignments) == [1, 2]
    module.float()
    assert module.typeStr == "torch.FloatTensor"
    x = torch.ones(4, 2)
    torch.testing.assert_close(module.forward(x), x @ weight.float().cpu().t() + module.get(1).bias)
    monkeypatch.setattr(nn.DataParallelTable, "deserializeNGPUs", 3)
    assert list(t7compat.load(path).model.gpuAssignments) == [1, 2, 3]


def test_checkpoint_with_all_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 1 wrote the fields alone."""
    old = nn.DataParallelTable(1).add(network(), 1)
    old.modules[2] = network()
    with monkeypatch.context() as patch:
        patch.setattr(nn.DataParallelTable, "__version__", 1)
        patch.setattr(nn.DataParallelTable, "write", lambda self, file: file.writeObject(Table(**vars(self))))
        saved = t7compat.dumps(old)
    again = t7compat.loads(saved)
    assert again.size() == 1
    same(again.forward(wave(4, 3)), old.get(1).forward(wave(4, 3)))


def test_converted() -> None:
    parallel = nn.DataParallelTable(1, True).add(network(), Table(1, 2))
    parallel.evaluate()
    torch.testing.assert_close(to_native(parallel)(wave(4, 3)), parallel.forward(wave(4, 3)))


def test_wrong_use() -> None:
    with pytest.raises(InputError, match="one call of add"):
        nn.DataParallelTable(1).add(network(), Table())
    with pytest.raises(InputError, match="one call of add"):
        nn.DataParallelTable(1).add(network(), 1).add(network(), Table(1, 2))
    with pytest.raises(InputError, match="flattenParams"):
        nn.DataParallelTable(1, False, True)
    with pytest.raises(InputError, match="expected a module"):
        nn.DataParallelTable(1).forward(wave(4, 3))


def test_device_of_a_module() -> None:
    module = nn.GPU(nn.Linear(3, 2), 2)
    assert module.setDevice(3) is module
    assert (module.device, module.outdevice, str(module)) == (3, 2, "nn.GPU(3) @ nn.Linear(3 -> 2)")
