"""Values inside a network that are not kept, but computed again when somebody looks at them.

A network that is cloned over time has as many outputs and gradInputs as it has modules and steps.  To write
them all takes a quarter of the time of a training step, and hardly any program looks at them.  A `Deferred`
tape keeps none; every module gets a `Recall` instead, which sets them all as soon as somebody asks for the
`output` or `gradInput` of one of them, or copies or saves the network.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from t7compat.errors import InputError
from t7compat.nn.gradients import data_of, tensors
from t7compat.nn.shapes import FAULTS, refuse
from t7compat.nn.stepping import PROTOCOL
from t7compat.nn.tape import Tape
from t7compat.table import map_leaves, to_tuples
from t7compat.tensortypes import new_tensor, sample_of

if TYPE_CHECKING:
    from t7compat.nn.module import Module

Tensor = torch.Tensor

_ROUNDING = 16  # how many units of the largest number in a tensor another order of additions may change


class Recalled:
    """A field of modules that, after a deferred pass, is missing until somebody looks at it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Module | None, owner: type) -> Any:
        """Called where a module has no such field of its own."""
        if module is None or module.recall is None:
            return None
        module.recall.settle()
        return vars(module).setdefault(self.name, empty(module))


class Recallable:
    """The part of nn.Module that concerns an output and gradInput that wait."""

    __slots__ = ()
    recall: Any
    optnet: Any
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
        """Have them now, if they can be had: the module is about to be copied, saved or run."""
        if self.recall is not None:
            self.recall.settle(strict=False)
            self.drop_recall()

    def drop_recall(self: Any) -> None:
        """Have empty tensors in their place."""
        self.recall = None
        for name in ("output", "gradInput"):
            vars(self).setdefault(name, empty(self))

    def keep_all(self: Any) -> None:
        """Keep every output and gradInput from the next forward on."""
        self.optnet = None

    @property
    def type_sample(self) -> Tensor | None:
        """A tensor without elements of the type that the module is of; None if that is not known."""
        kind = vars(self).get("_type")
        return vars(self).get("output") if kind is None else sample_of(kind)


class Weights(dict[int, Tensor]):
    """Copies of parameters, by the address of these."""

    __slots__ = ("__weakref__",)


class Family:
    """Networks with the same parameters, and the last copies of these for values that are asked for later.

    The copies are made by the first forward after a backward: before the next step of the training.
    """

    __slots__ = ("__weakref__", "first", "is_stale", "weights")

    def __init__(self, first: Module) -> None:
        self.first = weakref.ref(first)
        self.is_stale = True
        self.weights = Weights()

    def remembered(self, parameter: Tensor | None) -> Tensor | None:
        """A parameter, after a copy is made of it unless there is one."""
        if parameter is not None and (place := parameter.data_ptr()) not in self.weights:
            self.weights[place] = parameter.detach().clone()
        return parameter


class Seen(NamedTuple):
    """The tensors of a nested value and their versions, which changes in place raise."""

    tensors: list[Tensor]
    versions: list[int]

    @classmethod
    def of(cls, value: Any) -> Seen:
        found = tensors(value)
        return cls(found, [x._version for x in found])

    def are(self, value: Any) -> bool:
        """Whether they were those of another value, as far as they have not been changed in place."""
        others = tensors(value)
        triples = zip(self.tensors, self.versions, others, strict=False)
        unchanged = [(x, y.data) for x, version, y in triples if x._version == version]
        return len(self.tensors) == len(others) and bool(unchanged) and all(_equal(*p) for p in unchanged)


class Recall:
    """What it takes to compute the values inside of one pass again."""

    __slots__ = (
        "forms", "gradInputs", "gradOutput", "input", "is_lost", "module", "outputs", "waits", "weights"
    )  # fmt: skip

    def __init__(self, module: Module, weights: Weights, forms: Any) -> None:
        self.module, self.weights, self.forms = module, weakref.ref(weights), forms
        self.waits = False  # whether there is something that nobody has asked for yet
        self.is_lost = False  # whether it cannot be had any more
        self.gradOutput: Any = None

    def passed(self, tape: Tape) -> None:
        """Note what the pass was given, and what it gave."""
        self.input, self.outputs = tape.input, Seen.of(self.module.output)
        self.waits = True

    def passed_back(self, gradOutput: Any, gradInput: Any) -> None:
        """Note the same of the way back."""
        self.gradOutput, self.gradInputs = gradOutput, Seen.of(gradInput)
        self.waits = True

    def settle(self, strict: bool = True) -> None:
        """Give every module of the pass its output and, if there was a backward, its gradInput.

        If the network does not give the same any more, there is none, or if `strict` an InputError.
        """
        if not self.waits:
            return
        if not self.is_lost:
            self.waits = False
            with torch.set_grad_enabled(self.gradOutput is not None):
                if self._succeeds(self.weights() or Weights()) or self._succeeds(Weights()):
                    return
            self.waits = self.is_lost = True
        if strict:
            raise InputError(
                f"{self.module.__typename__}: what is inside is not kept where several networks have the "
                "same parameters, and cannot be computed again, as parameters, input or output have changed "
                "since: call t7compat.optnet.removeOptimization(network) before its forward"
            )

    def fits(self, tape: Tape) -> bool:
        """Whether another pass gave the same."""
        return self.outputs.are(tape.output)

    def _succeeds(self, weights: Weights) -> bool:
        """Whether the pass gives the same again, with these weights and for others the present ones."""
        filled: dict[Module, bool] = {}
        try:
            again = Again(self, weights, filled)
            if self.fits(again) and self._succeeds_back(again):
                again.take_over(self.outputs.tensors)
                return True
        except InputError:
            pass  # the network is another one now
        for module, is_new in filled.items():
            vars(module).pop("gradInput", None)
            if is_new:
                del module.output
        return False

    def _succeeds_back(self, again: Again) -> bool:
        gradOutput = self.gradOutput
        if gradOutput is None:
            return True
        gradInput = again.backward(gradOutput, parameters=False, keeps_graph=False)
        return self.gradInputs.are(gradInput)


class Deferred(Tape):
    """A pass after which only the network itself has its output and gradInput."""

    __slots__ = ("family", "recall")
    keeps_inside = False

    def __init__(self, module: Module, input: Any, family: Family, before: Recall | None) -> None:
        """`before` is the recall of the network's last pass."""
        if family.is_stale:
            family.weights, family.is_stale = Weights(), False
        forms = to_tuples(_form, input)
        is_known = before is not None and before.forms == forms
        self.family, self.recall = family, Recall(module, family.weights, forms)
        super().__init__(module, input, checks=not is_known)
        self.recall.passed(self)

    def operand(self, module: Module, name: str) -> Tensor | None:
        return self.family.remembered(super().operand(module, name))

    def leaf(self, module: Module, name: str) -> Tensor | None:
        return self.family.remembered(super().leaf(module, name))

    def call(self, module: Module, input: Any, as_opaque: bool | None = None) -> Any:
        """As that of any tape, in one step for most modules."""
        if not module.is_simple or not vars(module).keys().isdisjoint(PROTOCOL):
            return super().call(module, input, as_opaque)
        try:
            if self.checks:
                module.prepare(input)
            output = module.compute(input)
        except FAULTS as error:
            refuse(error, module.explain, input=input)
        self._defer(module)
        return output

    def record(self, module: Module, input: Any, output: Any) -> Any:
        if module is self.module or _has_own_gradient(module):
            return super().record(module, input, output)
        if module.adds_gradients:
            self.watch(module, input, output)
        self._defer(module)
        return output

    def _defer(self, module: Module) -> None:
        fields = vars(module)
        fields.pop("output", None)
        fields.pop("gradInput", None)
        module.recall, module.tape = self.recall, None

    def backward(self, gradOutput: Any, *, inputs: bool = True, **options: Any) -> Any:
        gradInput = super().backward(gradOutput, inputs=inputs, **options)
        self.family.is_stale = True
        if inputs:
            self.recall.passed_back(gradOutput, gradInput)
        return gradInput


class Again(Tape):
    """The pass of a recall once more, which fills the modules inside."""

    __slots__ = ("filled", "recall", "values", "weights")

    def __init__(self, recall: Recall, weights: Weights, filled: dict[Module, bool]) -> None:
        """Adds to `filled` each module, and whether it has got its output."""
        self.recall, self.weights, self.filled = recall, weights, filled
        self.values: dict[Module, Any] = {}
        super().__init__(recall.module, recall.input, is_replay=True, asks=False, keeps=True)

    def operand(self, module: Module, name: str) -> Tensor | None:
        parameter = getattr(module, name)
        return None if parameter is None else self.weights.get(parameter.data_ptr(), parameter).data

    leaf = operand

    def record(self, module: Module, input: Any, output: Any) -> Any:
        self.watch(module, input, output)
        if module is self.module:
            return output
        self.values[module] = map_leaves(data_of, output)
        if module.recall is self.recall:
            if self.filled.setdefault(module, "output" not in vars(module)):
                module.output = self.values[module]
        elif not _has_own_gradient(module):
            return output  # another network has run it since
        self.calls.append((module, input))
        return output

    def output_of(self, module: Module) -> Any:
        try:
            return self.values[module]
        except KeyError:
            return module.output  # it has a method of its own, and what that left

    def take_over(self, outputs: list[Tensor]) -> None:
        """Let the outputs of the network share memory with those of modules inside, as in any pass."""
        known = {y.data_ptr(): x for x, y in zip(outputs, tensors(self.output), strict=True)}
        for y in tensors(list(self.values.values())):
            x = known.get(y.data_ptr())
            if x is not None and x.shape == y.shape:
                y.set_(x.untyped_storage(), x.storage_offset(), x.shape, x.stride())  # type: ignore[call-overload]


def empty(module: Any) -> Tensor:
    """An empty tensor of a module's type."""
    return new_tensor() if module.type_sample is None else module.type_sample.clone()


def does_without(module: Module) -> bool:
    """Whether a module needs no output and gradInput of its own in a network."""
    return _is_usual(module) and not _has_own_gradient(module)


def can_wait(module: Module) -> bool:
    """Whether a module, and a container what is inside, gives what it gave when it is run again."""
    return _is_usual(module) and module.optnet is None and (module.is_plain or not module.children())


def _is_usual(module: Module) -> bool:
    looks_back = module.uses_output or module.keeps_state or module.has_own_accumulation
    return not (module.is_opaque() or looks_back or module.is_sparse)


def _has_own_gradient(module: Module) -> bool:
    """Whether the gradInput is not, or not only, what autograd gives: the next one depends on it."""
    return module.ends_gradient or module.gradient_has_own_type


def _form(value: Any) -> Any:
    return (value.shape, value.dtype) if isinstance(value, Tensor) else type(value)


def _equal(x: Tensor, y: Tensor) -> bool:
    """Whether tensors are equal up to the order of additions."""
    if x.shape != y.shape or not x.is_floating_point():
        return torch.equal(x, y)
    largest = x[x.isfinite()].abs().amax().item() if x.isfinite().any() else 0.0
    rounding = _ROUNDING * torch.finfo(x.dtype).eps * largest
    return torch.allclose(x, y.to(x.dtype), rtol=0, atol=rounding, equal_nan=True)
