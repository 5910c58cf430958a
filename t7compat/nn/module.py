"""nn.Module: what every layer has.

A layer writes its mathematics once, as `compute(input, *parameters)`; from it the base class derives forward
and backward (tape.py).  A class that has no useful form of this kind, or a user's own class in the old style,
overrides `updateOutput`, `updateGradInput` and `accGradParameters` instead, and works inside containers just
the same.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nested import copy_graph, type_name, walk
from t7compat.nn.calls import asks_for_node, node_of
from t7compat.nn.descent import Descent
from t7compat.nn.flatten import flatten
from t7compat.nn.gradients import add_all, gradient_name, same, tensors
from t7compat.nn.luaobject import LuaObject, clear
from t7compat.nn.recall import Recall, Recallable
from t7compat.nn.serializing import Serializing
from t7compat.nn.shapes import describe, expect
from t7compat.nn.stepping import PROTOCOL, Stepping
from t7compat.nn.tape import Tape
from t7compat.nn.tree import Tree
from t7compat.table import Table
from t7compat.tensortypes import alias, default_type, new_tensor

INFERENCE = "inference"
_UNLIKE = "expected gradients as large as the parameters (optnet removes them for inference)"


class Module(Tree, Stepping, Descent, Serializing, Recallable, LuaObject):
    """The base of all layers.

    A class gives `compute`, a pure function of the input and of the parameters named in `parameter_names`;
    nested tables reach it as tuples (dicts where the keys are not 1..n) and are returned so.  `prepare` is
    for the rest: refusing wrong input, drawing random numbers.  `native` says which torch.nn layer is equal.
    """

    __slots__ = ("deferred", "optnet", "recall", "tape")
    tape: Tape | None
    recall: Recall | None  # gives output and gradInput, if the last pass left none
    deferred: Recall | None  # gives those of the modules inside, if the last forward left none
    optnet: str | None  # the mode in which t7compat.optnet lets the network keep less

    parameter_names: tuple[str, ...] = ()
    # Fields that hold nothing between two passes, which clearState empties with output and gradInput
    scratch: tuple[str, ...] = ()
    # Whether accUpdateGradParameters moves shared parameters at once, without using the gradient tensors
    updates_when_shared = False
    # Whether gradInput is of the type that it was before, and not of that of the input
    gradient_has_own_type = False
    # Whether the Lua class does without updateGradInput: gradInput, without elements, stays what it was
    ends_gradient = False
    # Whether the input lists places and values: its gradient, of another form, goes no further back
    is_sparse = False
    has_own_accumulation = False  # whether the class overrides `accumulate`
    adds_gradients = False  # whether `add_gradients` takes the place of autograd for the parameters
    train: bool | None = None
    shared: bool | None = None
    keeps_type = True
    uses_output = False
    _type: str
    _computes = False
    _has_operands = False  # whether `compute` gets more than the input
    _is_opaque = True
    _lists_parameters = False  # whether the class overrides `parameters`
    # Whether `prepare` does nothing but refuse input for its form: each class that has one says so itself
    checks_only = False
    acts = False  # whether it may do more, such as to draw random numbers
    # Whether a tape has to do nothing for the class but check the input and call `compute` with it
    is_simple = False
    _is_bare = False  # whether the class has no parameters, nor may have modules with some inside
    _steps_itself: frozenset[str] = frozenset()  # which of these it overrides: {zeroGrad,update}Parameters
    _parameter_fields: tuple[tuple[str, str], ...] = ()  # names of the parameters and of their gradients

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._computes = cls.compute is not Module.compute
        cls._has_operands = bool(cls.parameter_names) or cls.operands is not Module.operands
        cls._is_opaque = not cls._computes or any(getattr(cls, m) is not getattr(Module, m) for m in PROTOCOL)
        if "prepare" in vars(cls):
            cls.checks_only = vars(cls).get("checks_only", False)
        cls.acts = cls.prepare is not Module.prepare and not cls.checks_only
        cls.is_simple = (
            cls.trace is Module.trace and not cls._is_opaque and not cls._has_operands
            and not cls.acts and not (cls.ends_gradient or cls.gradient_has_own_type)
        )  # fmt: skip
        names = cls.parameter_names if cls._computes else cls.parameter_names or ("weight", "bias")
        cls.has_own_accumulation = cls.accumulate is not Module.accumulate
        cls._lists_parameters = cls.parameters is not Module.parameters
        steps = ("zeroGradParameters", "updateParameters")
        cls._steps_itself = frozenset(m for m in steps if getattr(cls, m) is not getattr(Module, m))
        cls._parameter_fields = tuple((name, gradient_name(name)) for name in names)
        cls._is_bare = not names and not cls._lists_parameters and cls.affected is Module.affected

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        module = super().__new__(cls)
        module.tape = module.optnet = module.deferred = module.recall = None
        return module

    def __init__(self, **fields: Any) -> None:
        """Set the fields of every module and those given; None stands for a field that is not there.

        Parameters among them get a tensor for their gradient.
        """
        self.output, self.gradInput = new_tensor(), new_tensor()
        self._type = default_type().tensor
        vars(self).update((name, value) for name, value in fields.items() if value is not None)
        for name, gradient in self._parameter_fields:
            if name in vars(self):
                vars(self).setdefault(gradient, torch.zeros_like(vars(self)[name]))

    # ---- what a class is made of

    def compute(self, input: Any, *parameters: Any) -> Any:
        """The output as a differentiable function.

        For a class without one forward and backward change nothing, as in Torch7.
        """
        raise NotImplementedError

    def prepare(self, input: Any) -> None:
        """Called before `compute`: raise InputError for wrong input, draw random numbers, and the like."""

    def explain(self, input: Any) -> None:
        """Called when `compute` failed: raise InputError for what is too costly to look for every time."""
        if self.compute.__annotations__.get("input") in ("Tensor", "torch.Tensor", torch.Tensor):
            expect(input, like=next((getattr(self, name) for name in self.parameter_names), None))

    def passed_back(self) -> None:
        """Called after a gradient went back through the module, if it keeps state."""

    def accumulate(self, name: str, gradient: torch.Tensor, scale: float) -> None:
        """Add `scale` times the gradient with respect to a parameter to its gradient tensor.

        Overridden where Torch7 adds in another way.
        """
        vars(self)[gradient_name(name)].add_(gradient, alpha=scale)

    def add_gradients(self, input: Any, gradOutput: Any, scale: float, *sums: torch.Tensor | None) -> None:
        """Add `scale` times the gradients with respect to the parameters to these tensors.

        For classes with `adds_gradients`: autograd would need memory and time for the gradients first.
        """

    def native(self) -> functools.partial[Any] | None:
        """The torch.nn layer that is equal for batched input, as a call yet to be made; None without one."""
        return None

    def native_state(self) -> dict[str, torch.Tensor]:
        """The tensors of the layer that `native` makes, under the names that they have there."""
        return {name: value for name in self.parameter_names if (value := getattr(self, name)) is not None}

    def reset(self, stdv: float | None = None) -> Any:
        """Draw the parameters anew."""

    # ---- forward and backward

    def is_opaque(self) -> bool:
        """Whether the class, or this instance, overrides the protocol: then containers call its methods."""
        return self._is_opaque or not vars(self).keys().isdisjoint(PROTOCOL)

    def trace(self, tape: Tape, input: Any) -> Any:
        """Run `compute` in the graph of a tape."""
        if not tape.is_replay and (tape.checks or not self.checks_only):
            self.prepare(input)
        output = self.compute(input, *self.operands(tape)) if self._has_operands else self.compute(input)
        if self.optnet is None or self is tape.module or self.adds_gradients:
            return tape.record(self, input, output)
        return output

    def operands(self, tape: Tape) -> list[Any]:
        """What `compute` gets besides the input: the parameters as leaves of the graph."""
        return [tape.operand(self, name) for name in self.parameter_names]

    def forward(self, input: Any) -> Any:
        """The output for an input: tensors or tables, as the class takes them."""
        return self.updateOutput(input)

    def updateOutput(self, input: Any) -> Any:
        """Compute and set `output`."""
        if self._computes:
            self.tape = None  # frees the graph of the last pass before this one is built
            if self.optnet == INFERENCE:
                with torch.no_grad():
                    self.tape = Tape(self, input)
            else:
                self.tape = self._new_tape(input)
        return self.output

    def _new_tape(self, input: Any) -> Tape:
        return Tape(self, input)

    def backward(self, input: Any, gradOutput: Any, scale: float = 1) -> Any:
        """`updateGradInput` and `accGradParameters` in one pass; the gradient with respect to the input.

        `input` should be that of the last forward.  With another one, the modules that it reaches take their
        derivatives there, and all others where their last forward was.
        """
        if self.is_opaque():
            self.updateGradInput(input, gradOutput)
            self.accGradParameters(input, gradOutput, scale)
        else:
            tape = self._tape(input)
            keeps_graph = self.optnet is None and tape.keeps_inside
            tape.backward(gradOutput, scale=scale, keeps_graph=keeps_graph)
            self.tape = self.tape if keeps_graph else None
        return self.gradInput

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        """Compute and set `gradInput`, the gradient with respect to the input."""
        if self._computes:
            self._tape(input).backward(gradOutput, parameters=False)
        return self.gradInput

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        """Add `scale` times the gradients with respect to the parameters to `gradWeight`, `gradBias`, ..."""
        if self._computes:
            self._tape(input).backward(gradOutput, inputs=False, scale=scale)

    def accUpdateGradParameters(self, input: Any, gradOutput: Any, lr: float) -> None:
        """Move the parameters by -lr times their gradients at once, without changing the gradient tensors."""
        if not self.is_opaque():
            self._tape(input).backward(gradOutput, inputs=False, learningRate=lr)
        elif self.shared:
            self.zeroGradParameters()
            self.accGradParameters(input, gradOutput, 1)
            self.updateParameters(lr)
        else:  # the class adds to its gradient tensors: let these be the parameters
            fields = vars(self)
            names = [(name, gradient) for name, gradient in self._parameter_fields if name in fields]
            gradients = {gradient: fields.get(gradient) for _, gradient in names}
            fields.update((gradient, fields[name]) for name, gradient in names)
            self.accGradParameters(input, gradOutput, -lr)
            fields.update(gradients)

    def backwardUpdate(self, input: Any, gradOutput: Any, lr: float) -> Any:
        """`updateGradInput` and `accUpdateGradParameters`."""
        self.updateGradInput(input, gradOutput)
        self.accUpdateGradParameters(input, gradOutput, lr)
        return self.gradInput

    def _tape(self, input: Any) -> Tape:
        tape = self.tape
        if self.optnet == INFERENCE:
            raise InputError(f"{self.__typename__}: no backward in inference: see optnet.removeOptimization")
        if tape is None or not tape.is_recorded or not same(tape.input, input):
            if self.recall is not None:
                self.recall.disturb()
            if self.optnet is not None and not any(tensor.numel() for tensor in tensors(self.output)):
                raise InputError(f"{self.__typename__}: expected a forward before backward")
            with torch.enable_grad():
                tape = self.tape = Tape(self, input, is_replay=True)
        return tape

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """With an input forward; with a gradOutput also backward, giving (output, gradInput).

        With nodes of nngraph, one by one or in a table, or with nothing: a node that has this module.
        """
        asks = not named and asks_for_node(arguments)
        return node_of(self, *arguments) if asks else self._called(*arguments, **named)

    def _called(self, input: Any, gradOutput: Any = None) -> Any:
        self.forward(input)
        if gradOutput is None:
            return self.output
        self.backward(input, gradOutput)
        return self.output, self.gradInput

    def __neg__(self) -> Any:
        """`- module` is the node `module()`."""
        return node_of(self)

    def __rsub__(self, source: Any) -> Any:
        """`node - module` is the node `module(node)`."""
        return node_of(self, source)

    # ---- parameters

    def _usual_parameters(self) -> list[tuple[Any, Any]]:
        """The parameters, each with the tensor in which its gradient accumulates (None if there is none)."""
        pairs, fields = [], vars(self)
        for name, gradient in self._parameter_fields:
            parameter = fields.get(name)
            if parameter is not None:
                pairs.append((parameter, fields.get(gradient)))
        return pairs

    def parameters(self) -> tuple[Table, Table] | None:
        """The parameters and their gradients; None for a module without parameters."""
        pairs = self._usual_parameters()
        return (Table(*[p for p, _ in pairs]), Table(*[g for _, g in pairs])) if pairs else None

    def getParameters(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All parameters in one flat tensor, and all gradients in another, which they become views of.

        Shared parameters appear once.  Modules that are not among the children but share their parameters
        (clones over time) go on sharing them.
        """
        modules = [value for value, _ in walk(self) if isinstance(value, Module)]
        for module in modules:
            module.tape = None  # its leaves stay where the parameters were
        inner = [pair for module in modules if (pair := module.parameters())]
        own = [_tensors(part) for part in self.parameters() or ((), ())]
        if [t.numel() for t in own[0]] != [t.numel() for t in own[1]]:
            raise InputError(f"getParameters: {_UNLIKE}")
        flat, gradients = (
            flatten(own[i], [tensor for pair in inner for tensor in _tensors(pair[i])]) for i in (0, 1)
        )
        places = [[tensor.storage_offset() for tensor in tensors] for tensors in own]
        if flat.numel() != gradients.numel() or places[0] != places[1]:
            raise InputError("getParameters: check that you are sharing parameters and gradParameters alike")
        return flat, gradients

    def zeroGradParameters(self) -> None:
        """Set all gradients to zero."""
        gradients = [g for _, g in self.affected("zeroGradParameters") if g is not None]
        if gradients:
            torch._foreach_zero_(gradients)

    def updateParameters(self, learningRate: float) -> None:
        """One step of gradient descent: parameter -= learningRate * gradient."""
        pairs = self.affected("updateParameters", learningRate)
        try:
            add_all([pair for pair in pairs if pair[1] is not None], -learningRate)
        except RuntimeError as error:
            raise InputError(f"updateParameters: {_UNLIKE}: {error}") from None

    def affected(self, method: str, *arguments: Any) -> Iterable[tuple[Any, Any]]:
        """The parameters, with their gradients, that a method of this class is about to change."""
        if self._lists_parameters or "parameters" in vars(self):
            pair = self.parameters()
            return zip(*pair, strict=True) if pair else ()
        return self._usual_parameters()

    def share(self, other: Module, *names: str) -> Any:
        """Let the tensors of these names be those of `other`."""
        for name in names:
            if vars(self).get(name) is None:
                continue
            mine, theirs = vars(self)[name], vars(other).get(name)
            if theirs is None:
                raise InputError(f"share: expected a module with the field {name}, got {describe(other)}")
            if mine.dtype != theirs.dtype:
                raise InputError(f"share: expected {name} to be a {type_name(mine)}, got {describe(theirs)}")
            mine.set_(theirs)
            self.shared = other.shared = True
        return self

    def clone(self, *names: str) -> Any:
        """A copy; the tensors of these names ("weight", "bias", ...) share memory with the original's."""
        memo: dict[int, Any] = {}
        for value, fields in walk(self) if names else ():
            shared = [fields[name] for name in names if fields.get(name) is not None]
            if isinstance(value, Module):
                memo.update((id(tensor), alias(tensor)) for tensor in shared)
        copy = copy_graph(self, memo)
        return copy.share(self, *names) if names else copy

    # ---- state

    def training(self) -> None:
        """Go to training mode."""
        self._switch(True)

    def evaluate(self) -> None:
        """Go to evaluation mode."""
        self._switch(False)

    def _switch(self, train: bool) -> None:
        if self.recall is not None and train != (self.train is not False):
            self.recall.settle()  # in the mode in which the values were computed
        self.train = train

    def clearState(self) -> Any:
        """Empty `output`, `gradInput` and other scratch fields (before saving, say)."""
        return clear(self, "output", "gradInput", *self.scratch)


class TensorLayer(Module, typename=""):
    """The base of layers that take a tensor of their own type, with one of `dims` dimensions (none: any)."""

    dims: tuple[int, ...] = ()
    checks_only = True

    def prepare(self, input: Any) -> None:
        expect(input, *self.dims, like=self.type_sample)


def _tensors(values: Iterable[Any]) -> list[torch.Tensor]:
    return [value for value in values if value is not None]
