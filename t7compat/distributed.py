"""Training by several processes, on one machine or many: the old loop, with PyTorch's own communication.

Every process has the whole model and works on its part of each batch; `backward` leaves the gradients
averaged over the processes in `gradWeight`, `gradBias`, ...  Two lines are new (docs/distributed.md):

    rank, size = distributed.start()
    model = distributed.wrap(model)

The averaging is one `torch.distributed.all_reduce` after the backward pass, by NCCL on GPUs and by gloo on
CPUs.  `torch.nn.parallel.DistributedDataParallel` does not apply: it acts in hooks that `Tensor.backward`
calls on its way to `.grad`, while a tape asks `torch.autograd.grad` for the gradients and adds them to
Torch7's tensors by itself.  For the same reason communication does not overlap with the pass.  PyTorch's
FSDP, for models that one GPU cannot hold, needs a torch.nn model: that is what t7convert writes.
"""

from __future__ import annotations

import atexit
import itertools
import os
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.distributed as dist

from t7compat.errors import InputError
from t7compat.nested import walk
from t7compat.nn.containers import Container
from t7compat.nn.flatten import stretches
from t7compat.nn.gradients import gradient_of
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe
from t7compat.optim.settings import Opfunc, Options, expect_vector, number, objective

Tensor = torch.Tensor
_BY_TORCHRUN = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def start() -> tuple[int, int]:
    """Join the processes that torchrun started; the number of this one, from 0 on, and how many there are.

    On a machine with GPUs each takes the one of its number there (LOCAL_RANK), so call it before `cuda()`.
    Without torchrun there is this process alone.  A process group that is there already stays as it is.
    """
    if not dist.is_available():
        raise InputError("distributed: expected a PyTorch that was built with torch.distributed")
    if not dist.is_initialized():
        if torch.cuda.is_available():  # more processes than GPUs can still work on the CPU
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        if os.environ.keys() >= _BY_TORCHRUN:
            dist.init_process_group()
        else:
            dist.init_process_group(store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
        atexit.register(_leave)
    return dist.get_rank(), dist.get_world_size()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def wrap(model: Module, samples: Callable[[Any], float] | None = None) -> Any:
    """Let `backward` and `accGradParameters` leave gradients that are averaged over the processes.

    The model itself is returned, of a class derived from its own: it prints, saves and clones as before.
    Parameters, gradients and statistics become those of process 0.  Each process must make the same calls.

    The average is that of the batch as a whole if all parts of it have one size, and the criterion averages.
    For parts of different sizes, `samples(input)` is the number of samples in an input: `len` for a tensor
    whose first dimension is the batch.  Running statistics (BatchNormalization) stay those of each process,
    as do random numbers.
    """
    if not isinstance(model, Module):
        raise InputError(f"wrap: expected a module, got {describe(model)}")
    if isinstance(model, Distributed):
        raise InputError(f"wrap: expected a module that is not wrapped yet, got {model.__typename__}")
    own = vars(model).keys() & {"backward", "accGradParameters"}
    if own:
        raise InputError(f"wrap: expected a module without {own.pop()} in its fields; wrap a Decorator of it")
    _expect_group("wrap")
    state = _state_of(model)
    _expect_same(state)
    _together(state.values(), lambda memory: dist.broadcast(memory, 0))
    model.__class__ = _derived(type(model), Team(samples))
    return model


def average(value: Any, samples: float | None = None) -> Any:
    """The mean over the processes of a number or a tensor, such as a loss.

    With the number of samples behind the value of each process, these are its weights.
    """
    _expect_group("average")
    if isinstance(value, Tensor):
        mean = value * _share(samples)
        dist.all_reduce(mean)
        return mean
    return average(_scalar("average: value", value), samples).item()


# ---- a wrapped model


@dataclass(slots=True)
class Team:
    """What a wrapped model knows of its part in the work."""

    samples: Callable[[Any], float] | None
    is_silent: bool = False  # in a block of `no_sync`
    is_inside: bool = False  # in a method of the model's own class


class Distributed(Module, typename=""):
    """What `wrap` adds to the class of a model.

    All processes have the same gradients before a backward, and again after it.  So the average of what has
    accumulated is the old value plus the average of what is new: Torch7's accumulation is kept.
    """

    __slots__ = ()
    team: ClassVar[Team]

    def backward(self, input: Any, gradOutput: Any, scale: float = 1) -> Any:
        with self._averaged(input):
            return super().backward(input, gradOutput, scale)

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        with self._averaged(input):
            super().accGradParameters(input, gradOutput, scale)

    def accUpdateGradParameters(self, input: Any, gradOutput: Any, lr: float) -> None:
        """Refuse: the parameters would move by the gradient of this process alone."""
        instead = "backward and updateParameters"
        raise InputError(f"{self.__typename__}: expected {instead}, instead of an update without gradients")

    def is_opaque(self) -> bool:
        """To a container around it always, which then calls the methods above."""
        return not self.team.is_inside or super().is_opaque()

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """A block in which gradients accumulate in each process; the first backward after it averages them.

        For several small batches, or the steps of a sequence.  The weight of a process is that of the last.
        """
        before, self.team.is_silent = self.team.is_silent, True
        try:
            yield
        finally:
            self.team.is_silent = before

    @contextmanager
    def _averaged(self, input: Any) -> Iterator[None]:
        """A block that adds to the gradients, which are averaged after it, unless in a larger such block."""
        team = self.team
        if team.is_inside:
            yield
            return
        team.is_inside = True
        try:
            yield
        finally:
            team.is_inside = False
        if not team.is_silent and dist.get_world_size() > 1:
            share = _share(team.samples and team.samples(input))
            _together(_gradients(self), lambda memory: dist.all_reduce(memory.mul_(share)))

    def __reduce__(self) -> Any:
        """`torch.save` keeps the model as it was, too."""
        kind = type(self).__bases__[1]
        return kind.__new__, (kind,), self.__getstate__()


def _derived(base: type[Module], team: Team) -> Any:
    """The class of a wrapped model: `base` with the methods of Distributed, under its name."""
    body = {"__slots__": (), "__doc__": base.__doc__, "__module__": base.__module__, "team": team}
    kind: Any = types.new_class(
        base.__name__, (Distributed, base), {"typename": ""}, lambda ns: ns.update(body)
    )
    kind.__typename__, kind._is_opaque = base.__typename__, base._is_opaque
    return kind


def _gradients(model: Module) -> list[Tensor]:
    found = [gradient for gradient in (model.parameters() or ((), ()))[1] if gradient is not None]
    for gradient in found:
        if not isinstance(gradient, Tensor):
            raise InputError(f"{model.__typename__}: expected dense gradients, got {describe(gradient)}")
    return found


def _state_of(model: Module) -> dict[str, Tensor]:
    """All tensors that outlast a pass, by their place in the model; gradients that are absent are made."""
    for value, _ in walk(model):
        if isinstance(value, Container):
            value.expect_modules()
    state = {}
    for index, module in enumerate(model.listModules(), 1):
        for name in module.parameter_names:
            if vars(module).get(name) is not None:
                gradient_of(module, name)
        for name in sorted(vars(module), key=str):  # a file has them in another order
            value = vars(module)[name]
            if isinstance(value, Tensor) and name not in ("output", "gradInput", *module.scratch):
                state[f"{index}: {module.__typename__}.{name}"] = value
    _gradients(model)
    parameters, gradients = model.parameters() or ((), ())
    for kind, tensors in (("parameter", parameters), ("gradient", gradients)):
        state.update((f"{kind} {i}", tensor) for i, tensor in enumerate(tensors, 1) if tensor is not None)
    return state


# ---- communication


def _expect_group(name: str) -> None:
    """Join the processes of torchrun, if the script has not done so."""
    if dist.is_available() and dist.is_initialized():
        return
    if not os.environ.keys() >= _BY_TORCHRUN:
        raise InputError(
            f"{name}: expected a script that torchrun started, or one that called distributed.start() or "
            "torch.distributed.init_process_group() before"
        )
    start()


def _expect_same(state: dict[str, Tensor]) -> None:
    """Raise InputError, in every process, unless all have tensors of the same types and sizes."""
    mine = [f"{place} = {describe(tensor)}" for place, tensor in state.items()]
    mine.append(
        f"{sum(map(len, stretches(state.values())))} elements in memory"
    )  # others, if they share more
    everyones: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyones, mine)
    for rank, theirs in enumerate(everyones):
        for want, got in itertools.zip_longest(everyones[0], theirs, fillvalue="nothing"):
            if want != got:
                raise InputError(
                    "wrap: expected the same model in all processes; "
                    f"process 0 has {want}, where process {rank} has {got}"
                )


def _scalar(name: str, value: Any) -> Tensor:
    """A number as a tensor that can be communicated: NCCL by itself knows only GPUs."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return torch.tensor(number(name, value), dtype=torch.float64, device=device)


def _share(samples: float | None) -> float:
    """The weight of this process in an average."""
    if samples is None:
        return 1 / dist.get_world_size()
    total = _scalar("samples", samples)
    dist.all_reduce(total)
    if not total > 0:
        raise InputError(f"expected a positive number of samples in all processes together, got {total}")
    return samples / total.item()


def _together(tensors: Iterable[Tensor], collective: Callable[[Tensor], Any]) -> None:
    """Call `collective` on the memory of some tensors, as one flat tensor for each type.

    The tensors of `getParameters` are that already; others are copied there and back.
    """
    by_type: dict[Any, list[Tensor]] = {}
    for stretch in stretches(tensors):
        by_type.setdefault((stretch.dtype, stretch.device), []).append(stretch)
    for parts in by_type.values():
        flat = parts[0] if len(parts) == 1 else torch.cat(parts)
        collective(flat)
        if len(parts) > 1:
            torch._foreach_copy_(parts, torch.split(flat, [len(part) for part in parts]))


# ---- an optimiser in parts


def sharded(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method` of optim with its state divided: each process keeps, and moves, one part of the parameters.

        x, fs = distributed.sharded(optim.adam)(feval, x, config)

    Then all processes get the whole x, which must be the same in each, as must the gradient that opfunc
    returns (that of a wrapped model is).  For the methods that treat each parameter by itself (_BY_ELEMENT).
    A saved state is that of one part: go on with as many processes, each with its own.
    Stage 1 of ZeRO, https://arxiv.org/abs/1910.02054
    """
    name = getattr(method, "__name__", "")
    if name not in _BY_ELEMENT:
        raise InputError(f"sharded: expected one of {', '.join(_BY_ELEMENT)} of optim, got {name or method}")

    def step(opfunc: Opfunc, x: Tensor, config: Options = None, state: Options = None) -> tuple[Tensor, Any]:
        expect_vector(name, "x", x, flat=True)
        _expect_group("sharded")
        rank, evaluate = dist.get_rank(), objective(name, opfunc)
        parts = x.tensor_split(dist.get_world_size())

        def evaluate_part(part: Tensor) -> tuple[Any, Tensor]:
            value, gradient = evaluate(x)
            # a copy: weight decay would change the gradients of this process alone
            return value, gradient.tensor_split(len(parts))[rank].clone()

        _, values = method(evaluate_part, parts[rank], config, state)
        sent = [dist.broadcast(part, owner, async_op=True) for owner, part in enumerate(parts) if len(part)]
        for handle in sent:
            handle.wait()
        return x, values

    return step


_BY_ELEMENT = ("sgd", "adam", "adamax", "adagrad", "adadelta", "rmsprop")
