"""A deferred pass once more, see recall.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from t7compat.errors import InputError
from t7compat.nn.gradients import data_of
from t7compat.nn.tape import Tape
from t7compat.table import Table, map_leaves

if TYPE_CHECKING:
    from t7compat.nn.module import Module
    from t7compat.nn.recall import Recall

Tensor = torch.Tensor


class Weights(dict[tuple[int, torch.Size, tuple[int, ...]], Tensor]):
    """Copies of parameters, by the place and form of these."""

    __slots__ = ("__weakref__",)

    def of(self, parameter: Tensor) -> Tensor:
        """The copy of a parameter, or if there is none the parameter."""
        return self.get(_place(parameter), parameter)

    def remember(self, parameters: Iterable[Tensor]) -> None:
        """Copy parameters."""
        self.update((_place(parameter), parameter.detach().clone()) for parameter in parameters)


def _place(parameter: Tensor) -> tuple[int, torch.Size, tuple[int, ...]]:
    return parameter.data_ptr(), parameter.shape, parameter.stride()


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
