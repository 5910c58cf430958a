"""Values inside a network that are not kept, but computed again when somebody looks at them.

A network that is cloned over time has as many outputs and gradInputs as it has modules and steps.  To write
them all takes a quarter of the time of a training step, and hardly any program looks at them.  A `Deferred`
tape keeps none; every module gets a `Recall` instead.  As soon as somebody asks for the `output` or
`gradInput` of one of them, this runs the pass again, sets them all, and has the network keep everything from
then on.  To copy or save a network, or to change its mode, also sets them all.

What has to be as it was is checked: input and gradOutput by their versions, the parameters by what the
network gives.  If it is not, there is an InputError.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from t7compat.errors import InputError
from t7compat.nn.again import Again, Weights
from t7compat.nn.gradients import tensors
from t7compat.nn.shapes import FAULTS
from t7compat.tensortypes import new_tensor, sample_of

if TYPE_CHECKING:
    from t7compat.nn.module import Module
    from t7compat.nn.tape import Tape

Tensor = torch.Tensor

_ROUNDING = 16  # how many units of the largest number in a gradient another order of additions may change


class Recalled:
    """A field of modules that, after a deferred pass, is missing until somebody looks at it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Module | None, owner: type) -> Any:
        """Called where a module has no such field of its own."""
        if module is None or module.recall is None:
            return None
        module.recall.look(self.name)
        return vars(module).setdefault(self.name, module.recall.blank())


class Recallable:
    """The part of nn.Module that concerns an output and gradInput that wait."""

    __slots__ = ()
    recall: Any
    output: Any = Recalled()
    gradInput: Any = Recalled()
    # Whether the class needs its output after a forward, as one with a `trace` of its own may
    uses_output = False
    # Whether a container needs nothing of its children but what these return: each class says so itself
    is_plain = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "trace" in vars(cls):
            cls.uses_output = vars(cls).get("uses_output", True)
        cls.is_plain = vars(cls).get("is_plain", False)

    def __settle__(self: Any) -> None:
        """Have both now, empty if they cannot be had: the module is about to be copied or saved."""
        if self.recall is not None:
            self.recall.settle()
            for name in ("output", "gradInput"):
                vars(self).setdefault(name, self.recall.blank())

    def keep_inside(self) -> None:
        """Keep every output and gradInput inside from the next forward on."""

    @property
    def type_sample(self) -> Tensor | None:
        """A tensor without elements of the type that the module is of; None if that is not known."""
        kind = vars(self).get("_type")
        return vars(self).get("output") if kind is None else sample_of(kind)


class Family:
    """Networks with the same parameters, and the last copies of these for values that are asked for later.

    The copies are made by the first forward after a backward: before the next step of the training.
    """

    __slots__ = ("__weakref__", "first", "is_stale", "weights")

    def __init__(self, first: Module) -> None:
        self.first = weakref.ref(first)
        self.is_stale = True
        self.weights = Weights()

    def copy(self, network: Module) -> None:
        """Copy the parameters, for what one of the networks computes with them from now on."""
        self.weights, self.is_stale = Weights(), False
        self.weights.remember(_parameters(network))


class Seen(NamedTuple):
    """The tensors of a nested value and their versions, which changes in place raise."""

    tensors: list[Tensor]
    versions: list[int]

    @classmethod
    def of(cls, value: Any) -> Seen:
        found = tensors(value)
        return cls(found, [x._version for x in found])

    def is_unchanged(self) -> bool:
        """Whether nobody has changed them in place."""
        return all(x._version == version for x, version in zip(*self, strict=True))

    def agreement(self, value: Any, *, exactly: bool) -> bool | None:
        """Whether they are those of another value; None if all of them have been changed in place."""
        others = tensors(value)
        if len(others) != len(self.tensors):
            return False
        triples = zip(*self, others, strict=True)
        pairs = [(x, y.data) for x, version, y in triples if x._version == version]
        return all(_equal(x, y, exactly) for x, y in pairs) if pairs else None

    def pass_on(self, value: Any) -> None:
        """Let the tensors of another value be as those that somebody has changed in place."""
        for x, version, y in zip(*self, tensors(value), strict=True):
            if x._version != version:
                y.data.copy_(x)


_NOTHING = Seen([], [])


class Recall:
    """What it takes to compute the values inside of one pass again."""

    __slots__ = (
        "at_once", "filled", "given", "gradInputs", "gradOutput", "input", "kind", "module", "outputs",
        "outputs_wait", "seeds", "slopes_wait", "was_changed", "weights",
    )  # fmt: skip

    def __init__(self, module: Module) -> None:
        self.module = module
        self.at_once = False  # whether nothing may wait any more, as others use the same modules
        self.begin(_NOTHING, Weights())

    def begin(self, given: Seen, weights: Weights) -> None:
        """Forget the last pass, for one with this input and copies of the parameters."""
        self.given, self.weights = given, weakref.ref(weights)
        self.kind = vars(self.module).get("_type")
        self.outputs = self.seeds = self.gradInputs = _NOTHING
        self.gradOutput: Any = None
        self.outputs_wait = self.slopes_wait = False  # what nobody has asked for yet
        self.was_changed = False  # whether the backward found outputs that were changed in place
        self.filled: list[Module] = []  # the modules that have got their outputs

    def is_known(self, given: Seen) -> bool:
        """Whether the last pass, of a network of the same type, was given tensors of these forms."""
        ours, kind = self.given.tensors, vars(self.module).get("_type")
        return self.kind == kind and len(ours) == len(given.tensors) and all(map(_alike, ours, given.tensors))

    def passed(self, tape: Tape) -> None:
        """Note what the pass gave."""
        self.input, self.outputs = tape.input, Seen.of(self.module.output)
        self.outputs_wait = True
        if self.at_once:
            self.settle()

    def passed_back(self, gradOutput: Any, gradInput: Any) -> None:
        """Note what the way back was given and gave."""
        self.gradOutput, self.seeds, self.gradInputs = gradOutput, Seen.of(gradOutput), Seen.of(gradInput)
        self.slopes_wait = True
        for module in self.filled:
            vars(module).pop("gradInput", None)
        if self.at_once:
            self.settle()

    def look(self, field: str) -> None:
        """Have all values, or raise InputError, and have the network keep them from its next forward on."""
        self.module.keep_inside()
        self.settle()
        if self.slopes_wait if field == "gradInput" else self.outputs_wait:
            raise InputError(
                f"{self.module.__typename__}: what is inside is not kept where several networks have the "
                "same parameters, and cannot be computed again, as parameters, input, gradOutput or mode "
                "have changed since: call t7compat.optnet.removeOptimization(network) before its forward"
            )

    def disturb(self) -> None:
        """Let nothing wait any more: another network, or nobody's, uses a module of this one."""
        self.at_once = True
        self.module.keep_inside()
        self.settle()

    def taken(self, module: Module, network: Module) -> None:
        """Called when a pass of a network that keeps everything runs a module."""
        if network is self.module:
            module.recall = None
            vars(module).setdefault("gradInput", self.blank())
        else:
            self.disturb()

    def give_up(self) -> None:
        """Forget the values: there is a new forward."""
        self.outputs_wait = self.slopes_wait = False

    def settle(self) -> None:
        """Give the modules their outputs and, if there was a backward, gradInputs, if they can be had."""
        outputs, slopes = self.outputs_wait, self.slopes_wait
        if not (outputs or slopes):
            return
        self.outputs_wait = self.slopes_wait = False
        again = self._again(slopes)
        if again is not None:
            if outputs:
                again.fill(with_blanks=not slopes)
                self.filled, outputs = [module for module, _ in again.calls], False
            if self.was_changed:
                again.take_changes()
            if slopes:
                slopes = not again.leads_back()
            if not self.was_changed:
                again.take_changes()
        self.outputs_wait, self.slopes_wait = outputs, slopes

    def _again(self, leads_back: bool) -> Again | None:
        """The pass once more, if it is certain that it is the same.

        If the parameters are not what they were when they were copied, these or those must be the ones with
        which the network gives what it gave.
        """
        if not self.given.is_unchanged():
            return None
        copies = self.weights() or Weights()
        differ = any(not torch.equal(copies.of(p), p) for p in _parameters(self.module))
        choices = [copies, Weights()] if differ else [copies]
        fitting = []
        for weights in choices:
            try:
                with torch.set_grad_enabled(leads_back):
                    again = Again(self, weights)
            except FAULTS:
                continue  # the network is another one now
            agreement = self.outputs.agreement(again.output, exactly=True)
            if agreement or (agreement is None and len(choices) == 1):
                fitting.append(again)
        return fitting[0] if len(fitting) == 1 else None

    def fits(self, tape: Tape) -> bool:
        """Whether another pass gave the same."""
        return bool(self.outputs.agreement(tape.output, exactly=True))

    def blank(self) -> Tensor:
        """An empty tensor of the type of the network's output."""
        return next(iter(self.outputs.tensors), new_tensor()).new_empty(0)


def _parameters(network: Module) -> Iterator[Tensor]:
    for module in network.listModules():
        for name in module.parameter_names:
            if (parameter := getattr(module, name)) is not None:
                yield parameter


def _alike(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and x.dtype == y.dtype


def _equal(x: Tensor, y: Tensor, exactly: bool) -> bool:
    """Whether tensors are equal, or not `exactly` up to the order of additions; nan is equal to itself."""
    if x.shape != y.shape or x.dtype != y.dtype or not x.is_floating_point():
        return torch.equal(x, y.to(x.dtype))
    finite = x[x.isfinite()]
    is_rounded = finite.numel() and (x.is_cuda or not exactly)
    rounding = _ROUNDING * torch.finfo(x.dtype).eps * finite.abs().amax().item() if is_rounded else 0.0
    return torch.allclose(x, y, rtol=0, atol=rounding, equal_nan=True)
