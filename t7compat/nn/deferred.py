"""A pass of a network that leaves nothing in the modules inside, see recall.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from t7compat.nn.again import Weights
from t7compat.nn.recall import Family, Recall
from t7compat.nn.shapes import FAULTS, refuse
from t7compat.nn.stepping import PROTOCOL
from t7compat.nn.tape import Tape
from t7compat.table import to_tuples

if TYPE_CHECKING:
    from t7compat.nn.module import Module

Tensor = torch.Tensor


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
        if inputs:
            self.recall.passed_back(gradOutput, gradInput)
        return gradInput


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


def _form(value: Any) -> Any:
    return (value.shape, value.dtype, value.device) if isinstance(value, Tensor) else type(value)
