"""Sequences read in both directions."""

from __future__ import annotations

from typing import Any

from t7compat.dpnn.misc import ReverseTable
from t7compat.errors import InputError
from t7compat.nn.containers import Child, ConcatTable, Decorator, Sequential
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect, expect_table, zeros_of
from t7compat.nn.tables import CAddTable, JoinTable, ZipTable
from t7compat.rnn.recurrent import AbstractRecurrent
from t7compat.rnn.sequencer import AbstractSequencer, Remembering, Sequencer
from t7compat.table import Table


class ReverseSequence(Module):
    """A sequence in reverse order: a table of steps, or a tensor (time, ...).  Of the later fork of rnn."""

    def compute(self, input: Any) -> Any:
        return input[::-1] if isinstance(input, tuple) else input.flip(0)

    def prepare(self, input: Any) -> None:
        if not isinstance(input, tuple):
            expect(input)


class ReverseUnreverse(Decorator):
    """A module over sequences, run on the reverse of one; the output is reversed back.  Of the later fork."""

    def __init__(self, sequencer: Module) -> None:
        super().__init__(Sequential().add(ReverseSequence()).add(sequencer).add(ReverseSequence()))

    def getModule(self) -> Any:
        """The module inside."""
        return self.modules[1].modules[2]

    def setZeroMask(self, zeroMask: Any) -> None:
        super().setZeroMask(zeroMask if zeroMask is False else zeroMask.flip(0))


class TwoWay(AbstractSequencer, typename=""):
    """The base of BiSequencer and BiSequencerLM: the modules for both directions and for their outputs.

    Without `backward` it is a copy of `forward` with parameters of its own.  `merge` joins the outputs of a
    step: a module, or the dimensions of one sample for JoinTable(1, merge).
    """

    def __init__(self, forward: Module, backward: Module | None = None, merge: Any = None) -> None:
        super().__init__()
        self.output, self.gradInput = Table(), Table()
        if backward is None and isinstance(forward, Module):
            backward = forward.clone()
            backward.reset()
        if merge is None or isinstance(merge, int):
            merge = JoinTable(1, 1 if merge is None else merge)
        for value in (forward, backward, merge):
            if not isinstance(value, Module):
                raise InputError(f"{self.__typename__}: expected modules, got {describe(value)}")
        self.forwardModule, self.backwardModule, self.mergeModule = forward, backward, merge
        self.fwdSeq, self.bwdSeq = self.over_steps(forward), self.over_steps(self.backwardModule)
        self.mergeSeq = Sequencer(merge)

    def over_steps(self, module: Module) -> Module:
        """A module for one step as one for all steps."""
        return Sequencer(module)

    def reversed(self) -> Module:
        """The module for the way back, its input and output in the order of the sequence."""
        return Sequential().add(ReverseTable()).add(self.bwdSeq).add(ReverseTable())


class BiSequencer(TwoWay):
    """Runs a recurrent module over a sequence, another one over the reverse, and merges their outputs.

    A table of T steps -> a table of T outputs.  As in Torch7 `remember` changes nothing: each forward is a
    new sequence.  Schuster & Paliwal, 1997.

    As in the later fork of rnn, the first module may be one over sequences already (a Sequencer, a SeqLSTM):
    then the input is what that takes, the outputs of all steps are merged at once, by default added, and the
    first module may `remember`.
    """

    def __init__(self, forward: Module, backward: Module | None = None, merge: Any = None) -> None:
        if isinstance(forward, Remembering):
            self._from_sequencers(forward, backward, merge or CAddTable())
            return
        super().__init__(forward, backward, merge)
        both = ConcatTable().add(self.fwdSeq).add(self.reversed())
        self.module = Sequential().add(both).add(ZipTable()).add(self.mergeSeq)
        self.modules[1] = self.module

    def _from_sequencers(self, forward: Remembering, backward: Module | None, merge: Module) -> None:
        AbstractSequencer.__init__(self)
        if backward is None:
            backward = forward.clone()
            backward.reset()
        backward = backward if isinstance(backward, Remembering) else Sequencer(backward)
        both = ConcatTable().add(forward).add(ReverseUnreverse(backward))
        self.modules[1] = Sequential().add(both).add(merge)

    def compute(self, input: Any, child: Child) -> Any:
        return child(input)

    def remember(self, remember: str | None = None) -> Any:
        if "module" in vars(self):
            return super().remember(remember)
        self.getForward().remember(remember)
        self.getBackward().remember("neither")
        return self

    def getForward(self) -> Any:
        """The module for the way forth."""
        return self.modules[1].modules[1].modules[1]

    def getBackward(self) -> Any:
        """The module for the way back."""
        back = self.modules[1].modules[1].modules[2]
        return back.getModule() if isinstance(back, ReverseUnreverse) else back.modules[2]

    def __str__(self) -> str:
        if "module" in vars(self):
            return f"{self.__typename__} @ {self.module}"
        parts = {"forward": self.getForward(), "backward": self.getBackward()}
        parts["merge"] = self.modules[1].modules[2]
        lines = [
            f"  {name + ':':9} " + str(part).replace("\n", "\n    |    ") for name, part in parts.items()
        ]
        return "\n".join([f"{self.__typename__} {{", *lines, "}"])


class BiSequencerLM(TwoWay):
    """BiSequencer for language models: what is merged for a step has not seen the step itself.

    The module for the way forth is run on all steps but the last, that for the way back on all but the first;
    at the ends zeros stand for their outputs.  A table of T > 1 steps -> a table of T outputs.
    """

    shares_input = True

    def __init__(self, forward: Module, backward: Module | None = None, merge: Any = None) -> None:
        super().__init__(forward, backward, merge)
        self._fwd, self._bwd = self.fwdSeq, self.reversed()
        self._merge = Sequential().add(ZipTable()).add(self.mergeSeq)
        self.modules = Table(self._fwd, self._bwd, self._merge)

    def over_steps(self, module: Module) -> Module:
        return Sequencer(module) if isinstance(module, AbstractRecurrent) else module

    def compute(self, input: Any, forth: Child, back: Child, merge: Child) -> Any:
        before, after = forth(input[:-1]), back(input[1:])
        return merge(((zeros_of(before[0]), *before), (*after, zeros_of(after[0]))))

    def prepare(self, input: Any) -> None:
        expect_table(input, 2)

    def __str__(self) -> str:
        names = ("(  fwd  )", "(  bwd  )", "( merge )")
        lines = [
            f"  {name}: " + str(module).replace("\n", "\n    |    ")
            for name, module in zip(names, self.modules, strict=True)
        ]
        return "\n".join([f"{self.__typename__} {{", *lines, "}"])
