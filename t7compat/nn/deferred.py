"""A pass of a network that leaves nothing in the modules inside, see recall.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from t7compat.nn.recall import Family, Recall, Seen
from t7compat.nn.shapes import FAULTS, refuse
from t7compat.nn.stepping import PROTOCOL
from t7compat.nn.tape import Tape

if TYPE_CHECKING:
    from t7compat.nn.module import Module

Tensor = torch.Tensor


class Deferred(Tape):
    """A pass after which only the network itself has its output and gradInput."""

    __slots__ = ("recall",)
    keeps_inside = False

    def __init__(self, module: Module, input: Any, given: Seen, family: Family, recall: Recall) -> None:
        """`recall` is that of the network's last pass."""
        if family.is_stale:
            family.copy(module)
        checks = not recall.is_known(given)
        self.recall = recall
        recall.begin(given, family.weights)
        super().__init__(module, input, checks=checks)
        self.recall.passed(self)

    def call(self, module: Module, input: Any, as_opaque: bool | None = None) -> Any:
        """As `Tape.call`, in one step for most modules."""
        fields = vars(module)
        if not module.is_simple or not fields.keys().isdisjoint(PROTOCOL):
            return super().call(module, input, as_opaque)
        try:
            if self.checks:
                module.prepare(input)
            output = module.compute(input)
        except FAULTS as error:
            refuse(error, module.explain, input=input)
        if module.recall is not self.recall:
            self._take(module)
        fields.pop("output", None)
        fields.pop("gradInput", None)
        return output

    def record(self, module: Module, input: Any, output: Any) -> Any:
        if module is self.module:
            return super().record(module, input, output)
        if _has_own_gradient(module):
            super().record(module, input, output)
            self._take(module)
            return output
        if module.adds_gradients:
            self.watch(module, input, output)
        self._take(module)
        vars(module).pop("output", None)
        vars(module).pop("gradInput", None)
        return output

    def _take(self, module: Module) -> None:
        """Let a module have what it gave from the recall."""
        before = module.recall
        if before is not None and before.module is not self.module:
            before.disturb()
            self.module.keep_inside()
            self.recall.at_once = True
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
