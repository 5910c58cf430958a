"""Recurrent modules that look at one input several times."""

from __future__ import annotations

from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.containers import Child
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect
from t7compat.rnn.sequencer import AbstractSequencer, recurrent
from t7compat.table import Table, map_leaves

Tensor = torch.Tensor


class Repeater(AbstractSequencer):
    """Runs a recurrent module for `rho` steps on the same input.  x -> a table of the outputs"""

    def __init__(self, module: Module, rho: int) -> None:
        super().__init__()
        self.module = recurrent(module)
        self.modules[1], self.output = self.module, Table()
        self.maxBPTTstep(rho)

    def compute(self, input: Any, child: Child) -> Any:
        return tuple([child(input) for _ in range(self.rho)])

    def prepare(self, input: Any) -> None:
        self.module.forget()

    def maxBPTTstep(self, rho: int) -> None:
        self.rho = rho
        self.module.maxBPTTstep(rho)

    def upgrade(self, version: int) -> None:
        """Old files say rnn for `module`, those of the later fork of rnn seqlen for rho."""
        fields = vars(self)
        fields.setdefault("module", self.modules[1])
        if "seqlen" in fields:
            self.rho = fields.pop("seqlen")

    def __str__(self) -> str:
        flow = "     V         V             V     "
        lines = [f"{self.__typename__} {{", "[  input,    input,  ...,  input  ]", flow]
        lines += [*str(self.modules[1]).split("\n"), flow]
        return "\n  ".join([*lines, f"[output(1),output(2),...,output({self.rho})]"]) + "\n}"


class RecurrentAttention(AbstractSequencer):
    """Looks at an input `nStep` times, each time at a place that it chooses itself.

    x -> a table of the outputs of `rnn`, or (`forwardActions`) of tables {output, action}

    `action` chooses from the last output of `rnn`, which is of size `hiddenSize` (zeros at first), and `rnn`
    takes {x, action}.  The choice is no differentiable function of the loss: `action` has REINFORCE modules,
    which learn from a reward.  `actions` has those of the last forward.  Mnih et al., 2014.
    """

    scratch = ("actions",)

    def __init__(self, rnn: Module, action: Module, nStep: int, hiddenSize: Any) -> None:
        super().__init__()
        self.rnn, self.action = recurrent(rnn), recurrent(action)
        self.hiddenSize, self.nStep = Table.from_python(hiddenSize), nStep
        if not isinstance(self.hiddenSize, Table) or not isinstance(self.hiddenSize[1], int):
            raise InputError(f"{self.__typename__}: expected a table of sizes, got {describe(hiddenSize)}")
        self.modules, self.output = Table(self.rnn, self.action), Table()
        self.actions, self.gradHidden, self.forwardActions = Table(), Table(), False

    def compute(self, input: Tensor, rnn: Child, act: Child) -> Any:
        output, outputs, actions = input.new_zeros(len(input), *self.hiddenSize), [], []
        for _ in range(self.nStep):
            actions.append(act(output))
            output = rnn((input, map_leaves(Tensor.detach, actions[-1])))
            outputs.append((output, actions[-1]) if self.forwardActions else output)
        self.actions = Table(*[map_leaves(Tensor.detach, action) for action in actions])
        return tuple(outputs)

    def prepare(self, input: Any) -> None:
        expect(input, *range(1, 9))
        self.rnn.forget()
        self.action.forget()

    def __str__(self) -> str:
        lines = [
            f"  {name} : " + str(module).replace("\n", "\n    |    ")
            for name, module in (("action", self.action), ("rnn    ", self.rnn))
        ]
        return "\n".join([f"{self.__typename__} {{", *lines, "}"])
