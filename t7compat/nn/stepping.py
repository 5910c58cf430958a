"""What the rnn and dpnn packages add to every module: a network over time steps.

Most modules pass these calls on to their children; recurrent modules give them their meaning.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nested import copy_graph, walk
from t7compat.table import Table
from t7compat.tensortypes import alias

PROTOCOL = ("updateOutput", "updateGradInput", "accGradParameters", "accUpdateGradParameters", "backward")
ANY_DIMS = range(8)


class Stepping:
    """The part of nn.Module that concerns sequences."""

    __slots__ = ()

    # Whether the clones of a network for its time steps share a module, which keeps the states of all steps
    dpnn_stepclone = False
    # The fields that sharedClone shares
    dpnn_parameters: tuple[str, ...] = ("weight", "bias")
    dpnn_gradParameters: tuple[str, ...] = ("gradWeight", "gradBias")
    # The numbers of dimensions of a sample for which a batch gives what its samples give one by one: then the
    # steps of a sequence can be run as one batch.  Empty: never
    row_dims: Collection[int] = ()
    # Whether a forward leaves something for its backward, or the next forward, in the fields of the module
    keeps_state = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "row_dims" not in vars(cls) and not vars(cls).keys().isdisjoint(("compute", "prepare", *PROTOCOL)):
            cls.row_dims = ()  # what was said of another class's methods

    def children(self) -> Iterable[Any]:
        """The modules in the field `modules`."""
        raise NotImplementedError

    def is_opaque(self) -> bool:
        """Whether containers call the module's own methods."""
        raise NotImplementedError

    def whole_parts(self) -> list[Any] | None:
        """This module and those inside that run the steps of a sequence as one batch; None if they cannot."""
        if not self.row_dims or not vars(self).keys().isdisjoint((*PROTOCOL, "dpnn_profile")):
            return None
        parts: list[Any] = [self]
        for child in self.children():
            inner = child.whole_parts()
            if inner is None:
                return None
            parts += inner
        return parts

    def forget(self) -> Any:
        """Start a new sequence: drop the memory of all recurrent modules."""
        for module in self.children():
            module.forget()
        return self

    def remember(self, remember: str | None = None) -> Any:
        """Let sequencers go on from one forward to the next: "both", "train", "eval" or "neither"."""
        for module in self.children():
            module.remember(remember)
        return self

    def maxBPTTstep(self, rho: int) -> None:
        """Limit back-propagation through time to `rho` steps."""
        for module in self.children():
            module.maxBPTTstep(rho)

    def setOutputStep(self, step: int) -> None:
        """Let `output` be that of an earlier step."""
        for module in self.children():
            module.setOutputStep(step)

    def backwardOnline(self) -> None:
        """Do nothing: all recurrent modules go back through time step by step."""

    def maskZero(self, nInputDim: Any = None) -> Any:
        """Let all recurrent modules heed samples that are no part of a sequence."""
        for module in self.children():
            module.maskZero(nInputDim)
        return self

    def setZeroMask(self, zeroMask: Any) -> None:
        """Tell which samples are no part of a sequence: (time, batch), or False for none."""
        for module in self.children():
            module.setZeroMask(zeroMask)

    def setStartState(self, startState: Any = None) -> None:
        """Choose the hidden state before the first step of each sequence; None for zeros."""
        self._to_children("setStartState", Table() if startState is None else startState)

    def getHiddenState(self, step: int | None = None, input: Any = None) -> Any:
        """The hidden state after a step, a table with one entry for each child; None without children."""
        return self._from_children("getHiddenState", step)

    def setHiddenState(self, step: int | None, hiddenState: Any) -> None:
        """Replace the hidden state after a step."""
        self._to_children("setHiddenState", hiddenState, step)

    def getGradHiddenState(self, step: int | None = None) -> Any:
        """The gradient with respect to the hidden state after a step."""
        return self._from_children("getGradHiddenState", step)

    def setGradHiddenState(self, step: int | None, gradHiddenState: Any) -> None:
        """Replace the gradient with respect to the hidden state after a step."""
        self._to_children("setGradHiddenState", gradHiddenState, step)

    def _from_children(self, method: str, step: int | None) -> Table | None:
        if "modules" not in vars(self):
            return None
        return Table(*[getattr(module, method)(step) for module in self.children()])

    def _to_children(self, method: str, states: Any, *step: int | None) -> None:
        states = Table.from_python(states)
        for i, module in enumerate(self.children(), 1):
            if not isinstance(states, Table):
                raise InputError(f"{method}: expected a table with a state for each child of {self}")
            getattr(module, method)(*step, states[i])

    def sharedClone(
        self, shareParams: bool = True, shareGradParams: bool = True, stepClone: bool = False
    ) -> Any:
        """A copy whose parameters (and gradients) share memory with the original's.

        With `stepClone`, recurrent modules inside are not copied: original and copy hold the same ones.
        """
        if stepClone and self.dpnn_stepclone:
            return self
        memo: dict[int, Any] = {}
        storages: set[int] = set()

        def enters(value: Any) -> bool:
            if stepClone and getattr(value, "dpnn_stepclone", False):
                memo[id(value)] = value
                return False
            return True

        for value, fields in walk(self, enters):
            if isinstance(value, Stepping):
                names = ((shareParams and value.dpnn_parameters) or ()) + (
                    (shareGradParams and value.dpnn_gradParameters) or ()
                )
                storages.update(_storage(fields[name]) for name in names if fields.get(name) is not None)
                for tensor in fields.values():
                    if isinstance(tensor, torch.Tensor) and _storage(tensor) in storages:
                        memo[id(tensor)] = alias(tensor)
        return copy_graph(self, memo)

    def stepClone(self, shareParams: bool = True, shareGradParams: bool = True) -> Any:
        """The module for one more step: a copy with shared parameters, or itself if it keeps no state."""
        return self.sharedClone(shareParams, shareGradParams, True) if self._needs_clone() else self

    def _needs_clone(self) -> bool:
        if self.dpnn_stepclone:
            return False
        return (
            self.keeps_state or self.is_opaque() or any(module._needs_clone() for module in self.children())
        )


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
