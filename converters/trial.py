"""Which layers to write out for a given input, and `to_native`, which knows that."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch

from converters import verify
from converters.child import output_of
from converters.compare import difference
from converters.emitted_states import Recurrence
from converters.folding import folded
from converters.native import FAILURES, Layer, Plan, is_stateful
from converters.residual import Residual
from converters.text import Unconvertible
from t7compat.nn.module import Module
from t7compat.table import to_tuples


def disagreeing(plan: Plan, input: Any) -> frozenset[int]:
    """The modules (by identity) whose torch.nn form gives something else for what they are given, or fails.

    torch.nn's layers are equal for batched input; a network that is run on single samples needs some written
    out.  `input` has tuples for tables; the modules are in evaluation mode.
    """
    found: set[int] = set()
    copies: dict[Layer, Layer] = {}

    def on_trial(layer: Layer) -> Layer:
        if layer not in copies:
            if layer in natives:
                kind = _RecurrentTrial if is_stateful(layer) else _Trial
                trial = functools.partial(kind, layer, found)
                copies[layer] = Layer(trial, layer.origin, layer.path, state=layer.state)
            elif isinstance(layer, Residual):
                in_row = functools.partial(torch.nn.Sequential)
                copies[layer] = Layer(in_row, None, layer.path, tuple(map(on_trial, layer.apart)))
            else:
                copies[layer] = layer.changed(on_trial)
        return copies[layer]

    natives = set(plan.natives)
    network = on_trial(plan.root).build()
    try:
        with torch.no_grad():
            network(input)
    except FAILURES:
        pass  # the verification will say what is wrong
    return frozenset(found)


class _Trial(torch.nn.Module):
    """Gives what the Torch module gives, and notes whether its torch.nn form does so, too."""

    def __init__(self, layer: Layer, found: set[int]) -> None:
        super().__init__()
        self.layer, self.found = layer, found
        for name, tensor in layer.state.items():  # layers around it may ask for the type of its parameters
            self.register_parameter(name, torch.nn.Parameter(torch.empty_like(tensor), requires_grad=False))

    def forward(self, input: Any) -> Any:
        want = self.wanted(self.layer.origin, input)
        try:
            equal = difference(output_of(self.layer.build(), input), want).within
        except FAILURES:
            equal = False
        if not equal:
            self.found.add(id(self.layer.origin))
        return want

    def wanted(self, module: Any, input: Any) -> Any:
        return module.compute(input, *[getattr(module, name) for name in module.parameter_names])


class _RecurrentTrial(_Trial, Recurrence):
    """The same for a recurrent layer, which starts from zeros at each call."""

    def forward(self, input: Any, state: Any = None) -> Any:
        return super().forward(input), None

    def wanted(self, module: Any, input: Any) -> Any:
        return verify.run(module, input)


def to_native(module: Module, input: Any = None) -> torch.nn.Module:
    """A torch.nn.Module that is equal to a Torch module, in evaluation mode, with weights of its own.

    Torch's tables are tuples in PyTorch.  A recurrent layer, or a network that can go on from a state, is
    called as torch.nn.LSTM is: `output, state = network(input, state)`, or without a state.  torch.nn's own
    layers take the place of Torch's where they are equal for batched input; given an example `input`, only
    where they are equal for that.  Raises Unconvertible, with a list of all problems, if a part has no form
    in PyTorch alone.
    """
    plan = Plan(module)
    if input is not None:
        module = module.clone()
        module.evaluate()
        plan = Plan(module, disagreeing(Plan(module, frozenset()), to_tuples(lambda x: x, input)))
    if plan.problems:
        raise Unconvertible("\n".join(map(str, plan.problems.values())))
    return copy.deepcopy(folded(plan.root).build())
