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
from t7compat.nn.gradients import data_of, tensors
from t7compat.nn.shapes import FAULTS, refuse
from t7compat.nn.stepping import PROTOCOL
from t7compat.nn.tape import Tape
from t7compat.table import Table, map_leaves, to_tuples
from t7compat.tensortypes import new_tensor, sample_of

if TYPE_CHECKING:
    from t7compat.nn.module import Module

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


class Weights(dict[tuple[int, torch.Size, tuple[int, ...]], Tensor]):
    """Copies of parameters, by the place and form of these."""

    __slots__ = ("__weakref__",)

    def of(self, parameter: Tensor) -> Tensor:
        """The copy of a parameter, or if there is none the parameter."""
        return self.get(_place(parameter), parameter)

    def remembered(self, parameter: Tensor | None) -> Tensor | None:
        """A parameter, after a copy is made of it unless there is one."""
        if parameter is not None and (place := _place(parameter)) not in self:
            self[place] = parameter.detach().clone()
        return parameter


def _place(parameter: Tensor) -> tuple[int, torch.Size, tuple[int, ...]]:
    return parameter.data_ptr(), parameter.shape, parameter.stride()


class Family:
    """Networks with the same parameters, and the last copies of these for values that are asked for later.

    The copies are made by the first forward after a backward: before the next step of the training.
    """

    __slots__ = ("__weakref__", "first", "is_stale", "weights")

    def __init__(self, first: Module) -> None:
        self.first = weakref.ref(first)
        self.is_stale = True
        self.weights = Weights()


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


class Recall:
    """What it takes to compute the values inside of one pass again."""

    __slots__ = (
        "at_once", "filled", "forms", "given", "gradInputs", "gradOutput", "input", "module", "outputs",
        "outputs_wait", "seeds", "slopes_wait", "was_changed", "weights",
    )  # fmt: skip

    def __init__(self, module: Module, input: Any, forms: Any, weights: Weights) -> None:
        self.module, self.forms, self.weights = module, forms, weakref.ref(weights)
        self.given, self.outputs = Seen.of(input), Seen([], [])
        self.outputs_wait = self.slopes_wait = False  # what nobody has asked for yet
        self.at_once = False  # whether nothing may wait any more, as others use the same modules
        self.was_changed = False  # whether the backward found outputs that were changed in place
        self.filled: list[Module] = []  # the modules that have got their outputs

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
        are_copied = [not torch.equal(copies.of(p), p) for p in _parameters(self.module)]
        choices = [copies, Weights()] if any(are_copied) else [copies]
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


class Deferred(Tape):
    """A pass after which only the network itself has its output and gradInput."""

    __slots__ = ("family", "recall")
    keeps_inside = False

    def __init__(self, module: Module, input: Any, family: Family, before: Recall | None) -> None:
        """`before` is the recall of the network's last pass."""
        if family.is_stale:
            family.weights, family.is_stale = Weights(), False
        forms = vars(module).get("_type"), to_tuples(_form, input)
        is_known = before is not None and before.forms == forms
        self.family, self.recall = family, Recall(module, input, forms, family.weights)
        super().__init__(module, input, checks=not is_known)
        self.recall.passed(self)

    def operand(self, module: Module, name: str) -> Tensor | None:
        return self.family.weights.remembered(super().operand(module, name))

    def leaf(self, module: Module, name: str) -> Tensor | None:
        return self.family.weights.remembered(super().leaf(module, name))

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
        if module is self.module:
            return super().record(module, input, output)
        if _has_own_gradient(module):
            super().record(module, input, output)
            module.recall = self.recall
            return output
        if module.adds_gradients:
            self.watch(module, input, output)
        self._defer(module)
        return output

    def _defer(self, module: Module) -> None:
        recall = module.recall
        if recall is not None and recall.module is not self.module:
            recall.disturb()
            self.module.keep_inside()
            self.recall.at_once = True
        fields = vars(module)
        fields.pop("output", None)
        fields.pop("gradInput", None)
        module.recall, module.tape = self.recall, None

    def needs_fork(self, module: Module | None) -> bool:
        return module is not None and (_has_own_gradient(module) or bool(module.children()))

    def keep_inputs(self, network: Any, input: Any) -> None:
        network.defer_inputs()

    def backward(self, gradOutput: Any, *, inputs: bool = True, **options: Any) -> Any:
        if not self.recall.outputs.is_unchanged():
            self.recall.was_changed = True
            self.recall.disturb()
        gradInput = super().backward(gradOutput, inputs=inputs, **options)
        self.family.is_stale = True
        if inputs:
            self.recall.passed_back(gradOutput, gradInput)
        return gradInput


class Again(Tape):
    """The pass of a recall once more; it leaves nothing in the modules until `fill`."""

    __slots__ = ("networks", "recall", "values", "weights")

    def __init__(self, recall: Recall, weights: Weights) -> None:
        self.recall, self.weights = recall, weights
        self.values: dict[Module, Any] = {}
        self.networks: list[tuple[Any, Any]] = []  # with nodes, and their inputs
        super().__init__(recall.module, recall.input, is_replay=True, asks=False, keeps=True)

    def operand(self, module: Module, name: str) -> Tensor | None:
        parameter = getattr(module, name)
        return None if parameter is None else self.weights.of(parameter).data

    leaf = operand

    def record(self, module: Module, input: Any, output: Any) -> Any:
        if self._has_changed(module):
            raise InputError("another network has run the module since")
        self.watch(module, input, output)
        self.values[module] = map_leaves(data_of, output)
        if module is not self.module and self._is_mine(module):
            self.calls.append((module, input))
        return output

    def _is_mine(self, module: Module) -> bool:
        """Whether no other network has run a module since."""
        return module is self.module or self.recall.at_once or module.recall is self.recall

    def _has_changed(self, module: Module) -> bool:
        """Whether a module does something else now, such as with random numbers of another pass."""
        return module.acts and not self._is_mine(module)

    def keep_inputs(self, network: Any, input: Any) -> None:
        if self._is_mine(network):
            self.networks.append((network, map_leaves(data_of, input)))

    def output_of(self, module: Module) -> Any:
        try:
            return self.values[module]
        except KeyError:
            return module.output  # it has a method of its own, and what that left

    def fill(self, with_blanks: bool) -> None:
        """Give the modules their outputs, the nodes their inputs, and `with_blanks` empty gradInputs."""
        for module, input in self.calls:
            fields = vars(module)
            fields.setdefault("output", self.values[module])
            if with_blanks:
                fields.setdefault("gradInput", Table() if isinstance(input, tuple) else self.recall.blank())
        for network, input in self.networks:
            network.hold_inputs(input, self)

    def take_changes(self) -> None:
        """Change the outputs as those of before have been: some are outputs of modules inside, too."""
        self.recall.outputs.pass_on(self.output)

    def leads_back(self) -> bool:
        """Give the modules their gradInputs; whether they are those of before."""
        recall = self.recall
        if not recall.seeds.is_unchanged():
            return False
        found = self.backward(recall.gradOutput, parameters=False, keeps_graph=False)
        if recall.gradInputs.agreement(found, exactly=False) is not False:
            recall.gradInputs.pass_on(found)
            return True
        for module, _ in self.calls:
            vars(module).pop("gradInput", None)
        return False


def does_without(module: Module) -> bool:
    """Whether a module needs no output and gradInput of its own in a network."""
    return _is_usual(module) and not _has_own_gradient(module)


def can_wait(network: Module) -> bool:
    """Whether a network gives again what it gave, and its containers need nothing of what is inside."""
    modules = list(network.listModules())
    acting = [module for module in modules if module.acts]
    return len({id(module) for module in acting}) == len(acting) and all(
        _is_usual(module) and module.optnet is None and (module.is_plain or not module.children())
        for module in modules
    )


def _is_usual(module: Module) -> bool:
    looks_back = module.uses_output or module.keeps_state or module.has_own_accumulation
    return not (module.is_opaque() or looks_back or module.is_sparse)


def _has_own_gradient(module: Module) -> bool:
    """Whether the gradInput is not, or not only, what autograd gives: the next one depends on it."""
    return module.ends_gradient or module.gradient_has_own_type


def _parameters(network: Module) -> Iterator[Tensor]:
    for module in network.listModules():
        for name in module.parameter_names:
            if (parameter := getattr(module, name)) is not None:
                yield parameter


def _form(value: Any) -> Any:
    return (value.shape, value.dtype, value.device) if isinstance(value, Tensor) else type(value)


def _equal(x: Tensor, y: Tensor, exactly: bool) -> bool:
    """Whether tensors are equal, or not `exactly` up to the order of additions; nan is equal to itself."""
    if x.shape != y.shape or x.dtype != y.dtype or not x.is_floating_point():
        return torch.equal(x, y.to(x.dtype))
    finite = x[x.isfinite()]
    is_rounded = finite.numel() and (x.is_cuda or not exactly)
    rounding = _ROUNDING * torch.finfo(x.dtype).eps * finite.abs().amax().item() if is_rounded else 0.0
    return torch.allclose(x, y, rtol=0, atol=rounding, equal_nan=True)
