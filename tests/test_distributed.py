"""Two processes that train on the halves of a batch do what one does on the whole."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from golden import same
from torch7 import wave

import t7compat
from t7compat import InputError, distributed, nn, optim

# ---- the two processes


def join(rank: int, meeting: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=2)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ProcessPoolExecutor]]:
    meeting = tmp_path_factory.mktemp("distributed") / "meeting"
    pools = [
        ProcessPoolExecutor(1, get_context("spawn"), functools.partial(join, rank, meeting))
        for rank in range(2)
    ]
    yield pools
    for pool in pools:
        pool.shutdown(wait=False)


@dataclass
class Part:
    """The part that one of `size` processes has."""

    rank: int
    size: int

    def wrap(self, model: nn.Module, **options: Any) -> Any:
        return distributed.wrap(model, **options) if self.size > 1 else model

    def mean(self, loss: float, samples: float | None = None) -> float:
        return distributed.average(loss, samples) if self.size > 1 else loss

    def of(self, tensor: torch.Tensor, dimension: int = 0) -> torch.Tensor:
        return tensor.tensor_split(self.size, dimension)[self.rank]


def together(processes: list[ProcessPoolExecutor], work: Callable[[Part], Any]) -> list[Any]:
    """What `work` gives in each of the two processes."""
    futures = [pool.submit(work, Part(rank, 2)) for rank, pool in enumerate(processes)]
    return [future.result(timeout=180) for future in futures]


# ---- training runs, which return losses, then tensors


def network() -> nn.Sequential:
    return nn.Sequential().add(nn.Linear(3, 5)).add(nn.Tanh()).add(nn.Linear(5, 2)).add(nn.LogSoftMax())


def of_rows(part: Part) -> tuple[torch.Tensor, torch.Tensor]:
    return part.of(wave(8, 3)), part.of(torch.tensor([1, 2, 2, 1, 1, 1, 2, 2]))


def descend(part: Part) -> Any:
    """The loop of the README, from the weights of the first process."""
    t7compat.manualSeed(part.rank + 1)
    model, criterion, (x, y) = part.wrap(network()), nn.ClassNLLCriterion(), of_rows(part)
    losses = []
    for _ in range(5):
        model.zeroGradParameters()
        losses.append(part.mean(criterion.forward(model.forward(x), y)))
        model.backward(x, criterion.backward(model.output, y))
        model.updateParameters(0.5)
    return losses, list(model.parameters()[0])


def minimise(part: Part, method: str, *, sharded: bool = False, **config: Any) -> Any:
    """The loop of optim, over flat parameters."""
    t7compat.manualSeed(part.rank + 1)
    model, criterion, (x, y) = part.wrap(network()), nn.ClassNLLCriterion(), of_rows(part)
    flat, gradients = model.getParameters()

    def feval(_: torch.Tensor) -> tuple[float, torch.Tensor]:
        gradients.zero_()
        loss = part.mean(criterion.forward(model.forward(x), y))
        model.backward(x, criterion.backward(model.output, y))
        return loss, gradients

    step = getattr(optim, method)
    if sharded and part.size > 1:
        step = distributed.sharded(step)
    losses = [loss for _ in range(4) for loss in step(feval, flat, config)[1]]
    sizes = {value.numel() for value in config.values() if isinstance(value, torch.Tensor)}
    assert not sharded or sizes == {part.of(flat).numel()}
    return losses, [flat]


def recur(part: Part, *, steps_are_calls: bool = False) -> Any:
    """A recurrent model: a whole sequence at once, or one forward and backward for each step."""
    t7compat.manualSeed(part.rank + 1)
    cell = nn.FastLSTM(3, 4)
    model = part.wrap(cell if steps_are_calls else nn.Sequencer(cell))
    x, target = part.of(wave(6, 8, 3), 1), part.of(wave(6, 8, 4).cos(), 1)
    criterion, losses = nn.MSECriterion(), []
    for _ in range(4):
        model.zeroGradParameters()
        model.forget()
        output = torch.stack([model.forward(step) for step in x]) if steps_are_calls else model.forward(x)
        losses.append(part.mean(criterion.forward(output, target)))
        gradient = criterion.backward(output, target)
        if steps_are_calls:
            for t in range(5, -1, -1):
                model.backward(x[t], gradient[t])
        else:
            model.backward(x, gradient)
        model.updateParameters(0.5)
    return losses, list(model.parameters()[0])


def accumulate(part: Part, *, silently: bool = False) -> Any:
    """Several backwards, with a scale, and in two halves, before the gradients are set to zero."""
    t7compat.manualSeed(part.rank + 1)
    model, criterion, (x, y) = part.wrap(network()), nn.ClassNLLCriterion(), of_rows(part)
    model.zeroGradParameters()

    def go(x: torch.Tensor) -> None:
        criterion.forward(model.forward(x), y)
        model.backward(x, criterion.backward(model.output, y), 0.3)

    if silently and part.size > 1:
        with model.no_sync():
            go(x)
            go(x * 2)
    else:
        go(x)
        go(x * 2)
    criterion.forward(model.forward(x), y)
    model.updateGradInput(x, criterion.backward(model.output, y))
    model.accGradParameters(x, criterion.gradInput, 2)
    return [], list(model.parameters()[1])


def unevenly(part: Part) -> Any:
    """Six rows for one process, and two for the other; the second backward has them the other way round."""
    t7compat.manualSeed(part.rank + 1)
    model, criterion = part.wrap(network(), samples=len), nn.ClassNLLCriterion()
    x, y, losses = *of_rows(Part(0, 1)), []
    model.zeroGradParameters()
    for cut in (6, 2):
        rows = slice(None) if part.size == 1 else (slice(cut), slice(cut, None))[part.rank]
        loss = criterion.forward(model.forward(x[rows]), y[rows])
        losses.append(part.mean(loss, len(x[rows])))
        model.backward(x[rows], criterion.backward(model.output, y[rows]))
    return losses, list(model.parameters()[1])


def within(part: Part) -> Any:
    """A wrapped part of a network, which in one process lacks a gradient, as some files do."""
    t7compat.manualSeed(1)
    inner = nn.Linear(3, 2)
    if part.rank:
        del inner.gradWeight
    outer = nn.Sequential().add(nn.Linear(3, 3)).add(part.wrap(inner)).add(nn.LogSoftMax())
    criterion, (x, y) = nn.ClassNLLCriterion(), of_rows(part)
    outer.zeroGradParameters()
    criterion.forward(outer.forward(x), y)
    outer.backward(x, criterion.backward(outer.output, y))
    return [], list(outer.get(2).parameters()[1])


def with_custom_class(part: Part) -> Any:
    """A class with methods of its own, which `backward` calls one after the other."""

    class Scale(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__(weight=wave(size) + part.rank, gradWeight=torch.zeros(size).double())

        def updateOutput(self, input: torch.Tensor) -> torch.Tensor:
            self.output = input * self.weight
            return self.output

        def updateGradInput(self, input: torch.Tensor, gradOutput: torch.Tensor) -> torch.Tensor:
            self.gradInput = gradOutput * self.weight
            return self.gradInput

        def accGradParameters(self, input: torch.Tensor, gradOutput: torch.Tensor, scale: float = 1) -> None:
            self.gradWeight.add_((input * gradOutput).sum(0), alpha=scale)

    model, criterion, x = part.wrap(Scale(3)), nn.MSECriterion(), part.of(wave(8, 3))
    losses = []
    for _ in range(3):
        losses.append(part.mean(criterion.forward(model.forward(x), x.cos())))
        model.backward(x, criterion.backward(model.output, x.cos()))
        model.updateParameters(0.5)
    return losses, [model.weight]


RUNS = {
    "descend": descend,
    "sgd": functools.partial(minimise, method="sgd", learningRate=0.5, momentum=0.9, weightDecay=0.01),
    "adam": functools.partial(minimise, method="adam", learningRate=0.05),
    "lbfgs": functools.partial(minimise, method="lbfgs", maxIter=5, learningRate=0.5),
    "sharded sgd": functools.partial(
        minimise, method="sgd", sharded=True, learningRate=0.5, momentum=0.9, weightDecay=0.01
    ),
    "sharded adam": functools.partial(minimise, method="adam", sharded=True, learningRate=0.05),
    "sequence": recur,
    "step by step": functools.partial(recur, steps_are_calls=True),
    "accumulate": accumulate,
    "accumulate silently": functools.partial(accumulate, silently=True),
    "unevenly": unevenly,
    "within": within,
    "custom class": with_custom_class,
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_two_processes_are_as_one(processes: list[ProcessPoolExecutor], run: Callable[[Part], Any]) -> None:
    losses, tensors = run(Part(0, 1))
    first, second = together(processes, run)
    assert first[0] == second[0] == pytest.approx(losses, rel=1e-12)
    for got, other, want in zip(first[1], second[1], tensors, strict=True):
        assert torch.equal(got, other)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


# ---- what a wrapped model is


def look(part: Part) -> None:
    """The same module as before: in files, in text, for containers and copies."""
    model = network()
    text, saved = str(model), t7compat.dumps(model)
    _, gradients = model.getParameters()
    assert distributed.wrap(model) is model
    assert isinstance(model, nn.Sequential)
    assert str(model) == text
    assert model.findModules("nn.Sequential")[0][1] is model
    same(t7compat.loads(saved).get(1).weight.shape, model.get(1).weight.shape)
    assert type(t7compat.loads(t7compat.dumps(model))) is nn.Sequential
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    assert type(torch.load(buffer, weights_only=False)) is nn.Sequential
    model.forward(wave(2, 3))
    model.backward(wave(2, 3), wave(2, 2) * (1 + part.rank))
    assert model.get(1).gradWeight.data_ptr() == gradients.data_ptr()  # wrap has not moved what was flat
    copy = model.clone()
    copy.zeroGradParameters()
    copy.forward(wave(2, 3))
    copy.backward(wave(2, 3), wave(2, 2) * (1 + part.rank))
    same(copy.get(1).gradWeight, model.get(1).gradWeight)


def keep_statistics(part: Part) -> float:
    """Those of the first process at the start, then those of each."""
    model = nn.Sequential().add(nn.BatchNormalization(3))
    model.get(1).running_mean.fill_(part.rank + 1)
    distributed.wrap(model)
    assert model.get(1).running_mean[0] == 1
    model.forward(wave(4, 3) + 10 * part.rank)
    return model.get(1).running_mean[0].item()


def test_wrapped_model(processes: list[ProcessPoolExecutor]) -> None:
    together(processes, look)
    first, second = together(processes, keep_statistics)
    assert second == pytest.approx(first + 1)


# ---- wrong use


def different_sizes(part: Part) -> Any:
    distributed.wrap(nn.Sequential().add(nn.Linear(3, 2 + part.rank)))


def different_depths(part: Part) -> Any:
    distributed.wrap(nn.Sequential().add(nn.Linear(3, 2)).add(nn.Linear(2, 2) if part.rank else nn.Tanh()))


def different_sharing(part: Part) -> Any:
    model = nn.Sequential().add(nn.Linear(3, 3)).add(nn.Linear(3, 3))
    if part.rank:
        model.get(1).share(model.get(2), "weight")
    distributed.wrap(model)


def twice(part: Part) -> Any:
    distributed.wrap(distributed.wrap(network()))


def update_at_once(part: Part) -> Any:
    model = distributed.wrap(network())
    model.forward(wave(4, 3))
    model.backwardUpdate(wave(4, 3), wave(4, 2), 0.1)


def no_samples(part: Part) -> Any:
    model = distributed.wrap(network(), samples=lambda input: 0)
    model.forward(wave(4, 3))
    model.backward(wave(4, 3), wave(4, 2))


def own_backward(part: Part) -> Any:
    distributed.wrap(network().dontBackward())


def sparse(part: Part) -> Any:
    distributed.wrap(nn.Sequential().add(nn.IndexLinear(5, 2)))


def unknown_class(part: Part) -> Any:
    model = network()
    model.modules[2] = t7compat.TorchObject("old.Layer")
    distributed.wrap(model)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (different_sizes, r"process 0 has 2: nn.Linear.bias = .* size 2, where process 1 has .* size 3"),
        (different_depths, r"process 0 has .*, where process 1 has 3: nn.Linear.bias = .* size 2"),
        (different_sharing, r"process 0 has 48 elements in memory, where process 1 has 39"),
        (twice, "not wrapped yet"),
        (update_at_once, "expected backward and updateParameters"),
        (no_samples, "positive number of samples"),
        (own_backward, "in its fields"),
        (sparse, "expected dense gradients"),
        (unknown_class, "got old.Layer, which is no registered class"),
    ],
)
def test_mistake(processes: list[ProcessPoolExecutor], mistake: Callable[[Part], Any], message: str) -> None:
    """Every process says what is wrong, and goes on."""
    futures = [pool.submit(mistake, Part(rank, 2)) for rank, pool in enumerate(processes)]
    for future in futures:
        with pytest.raises(InputError, match=message):
            future.result(timeout=180)


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match=r"torchrun .* distributed.start\(\)"):
        distributed.wrap(network())
    with pytest.raises(InputError, match="torchrun"):
        distributed.average(1.0)
    with pytest.raises(InputError, match=r"expected a module, got torch.DoubleTensor"):
        distributed.wrap(wave(2))
    with pytest.raises(InputError, match=r"expected one of sgd, .* got lbfgs"):
        distributed.sharded(optim.lbfgs)
