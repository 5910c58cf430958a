"""Containers around one module."""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nested import type_name
from t7compat.nn.containers import Child, Container, Decorator
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect, expect_table
from t7compat.nn.tape import Tape, label
from t7compat.t7file.objects import Timer
from t7compat.table import Table, leaves, map_leaves, to_tuples
from t7compat.tensortypes import convert, new_tensor, parse, type_of


class MapTable(Container):
    """One module works on every entry of the input.  {a, b, ...} -> {f(a), f(b), ...}

    Each further entry has a clone of it, with the same parameters unless `shared` is false.
    """

    shared = False
    module: Module | None = None
    sharedparams = Table("weight", "bias", "gradWeight", "gradBias")  # for old files without the field

    def __init__(self, module: Module | None = None, shared: bool = True) -> None:
        super().__init__(shared=bool(shared), output=Table(), gradInput=Table())
        self.sharedparams = Table(*type(self).sharedparams)
        if module is not None:
            self.add(module)

    def compute(self, input: tuple[Any, ...], *children: Child) -> tuple[Any, ...]:
        # there is a child for each entry, except in a written file
        return tuple([children[i if i < len(children) else 0](x) for i, x in enumerate(input)])

    def trace(self, tape: Tape, input: Any) -> Any:
        expect_table(input, 0)
        self._extend(len(input))
        return super().trace(tape, input)

    def _extend(self, n: int) -> None:
        """Make as many clones as n entries need."""
        if self.module is None:
            raise InputError("expected a module, added before the first forward")
        self.modules[1] = self.module
        names = self.sharedparams if self.shared else ()
        for i in range(len(self.modules) + 1, n + 1):
            self.modules[i] = self.module.clone(*names)

    def add(self, module: Module) -> Any:
        """Choose the module: there is only one."""
        if self.module is not None:
            raise InputError(f"{self.__typename__}: expected a single module, got {describe(module)} as well")
        self.module = self._expected(module)
        self.modules[1] = module
        return self

    def resize(self, n: int) -> None:
        """Have clones for n entries."""
        self._extend(n)
        for i in range(len(self.modules), max(n, 1), -1):
            self.modules[i].clearState()
            self.modules[i] = None

    # Parameters that are shared change once

    def zeroGradParameters(self) -> None:
        if not self.shared:
            super().zeroGradParameters()
        elif self.module is not None:
            self.module.zeroGradParameters()

    def updateParameters(self, learningRate: float) -> None:
        if not self.shared:
            super().updateParameters(learningRate)
        elif self.module is not None:
            self.module.updateParameters(learningRate)

    def clearState(self) -> Any:
        for i in range(len(self.modules), 1, -1):
            self.modules[i].clearState()
            self.modules[i] = None
        return super().clearState()

    def __str__(self) -> str:
        if self.module is None:
            return f"{self.__typename__} {{ }}"
        inner = str(self.module).replace("\n", "\n        ")
        return f"{self.__typename__} {{\n  {inner}\n}}"


class Bottle(Decorator):
    """A module for `nInputDim` dimensions, applied to more: the first ones are taken for one.

    (a, b, ...) -> the module gets (a * b, ...), and (a * b, ...) of `nOutputDim` dimensions -> (a, b, ...)
    """

    def __init__(self, module: Module, nInputDim: int | None = None, nOutputDim: int | None = None) -> None:
        super().__init__(module)
        self.nInputDim = nInputDim or 2
        self.nOutputDim = nOutputDim or self.nInputDim
        self.dimDelta = self.nInputDim - self.nOutputDim
        self.inShape, self.outShape = new_tensor(self.nInputDim), new_tensor(self.nOutputDim)

    def compute(self, input: torch.Tensor, child: Child) -> torch.Tensor:
        further = input.dim() - self.nInputDim
        if further <= 0:
            return child(input)
        return child(input.flatten(0, further)).unflatten(0, (*input.shape[:further], -1))

    def trace(self, tape: Tape, input: Any) -> Any:
        output = super().trace(tape, input)
        inner = self.modules[1].output
        if input.dim() > self.nInputDim and inner.dim() != self.nOutputDim:
            raise InputError(f"expected a {self.nOutputDim}-D output of the module, got {describe(inner)}")
        return output

    def prepare(self, input: Any) -> None:
        expect(input)


class DontCast(Decorator):
    """A module that keeps its type when the network around it is converted.

    With `castin` and `castout`, what it takes and what it gives is converted from and to the type of the
    network; the module works in `moduleType`.
    """

    __slots__ = ("outer",)
    outer: str | None  # type of the gradInput
    castin: bool | None = None
    castout: bool | None = None
    moduleType: str | None = None

    def __init__(
        self, module: Module, castin: bool | None = None, castout: bool | None = None,
        moduleType: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(module)
        castout = castin if castout is None else castout
        if (castin or castout) and moduleType is None:
            moduleType = first_type(module.output) or first_type(module.parameters())
            if moduleType is None:
                raise InputError(f"{self}: expected a moduleType, which the module does not tell")
        fields = {"castin": castin, "castout": castout, "moduleType": moduleType}
        vars(self).update((name, value) for name, value in fields.items() if value is not None)

    def compute(self, input: Any, child: Child) -> Any:
        output = child(cast(input, self.moduleType) if self.castin else input)
        return cast(output, first_type(self.output)) if self.castout else output

    def trace(self, tape: Tape, input: Any) -> Any:
        self.outer = first_type(self.gradInput)
        return super().trace(tape, input)

    @property
    def keeps_state(self) -> bool:  # type: ignore[override]
        return bool(self.castin)

    def passed_back(self) -> None:
        if self.castin:
            self.gradInput = map_leaves(lambda x: x, cast(self.gradInput, self.outer))

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        """Convert what is given to others, but not the module."""
        if type is None:
            return super().type()
        self.tape = None
        row = parse(type)
        for name, casts in (("output", self.castout), ("gradInput", self.castin)):
            if casts:
                vars(self)[name] = map_leaves(lambda x: convert(x, row), getattr(self, name))
        return self


def first_type(value: Any) -> str | None:
    """The type of the first tensor in a nested value."""
    return next((type_of(leaf).tensor for leaf in leaves(value) if isinstance(leaf, torch.Tensor)), None)


def cast(value: Any, type: str | None) -> Any:
    """A nested value as one of a type, judged by its first tensor; gradients go back in their own."""
    if type is None or first_type(value) == type:
        return value
    row = parse(type)
    device = "cuda" if row.device == "cuda" else "cpu"
    return to_tuples(lambda x: x.to(device, row.dtype) if isinstance(x, torch.Tensor) else x, value)


class NaN(Decorator):
    """A module whose outputs and gradients must not contain NaN: where one comes up, that is an error."""

    identities = itertools.count(1)

    def __init__(self, module: Module, id: int | None = None) -> None:
        super().__init__(module)
        self.id = next(self.identities) if id is None else id

    native = Decorator.native  # updateOutput gives what the module gives

    # The checks are in the protocol's methods because they look at what a pass gives, step by step.

    def updateOutput(self, input: Any) -> Any:
        output = super().updateOutput(input)
        if has_nan(output):
            self._check(input=input, parameters=self.parameters()[0], output=output)
        return output

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        gradInput = super().updateGradInput(input, gradOutput)
        if has_nan(gradInput):
            self._check(gradOutput=gradOutput, gradInput=gradInput)
        return gradInput

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        super().accGradParameters(input, gradOutput, scale)
        self._check(gradParameters=self.parameters()[1])

    def _check(self, **values: Any) -> None:
        for name, value in values.items():
            if has_nan(value):
                raise InputError(f"NaN found in {name}").within(label(self))

    def __str__(self) -> str:
        return f"{self.__typename__}({self.id}) @ {self.modules[1]}"


def has_nan(value: Any) -> bool:
    """Whether the sum of a tensor in a nested value is NaN (as it is of inf and -inf)."""
    tensors = [leaf for leaf in leaves(value) if isinstance(leaf, torch.Tensor)]
    return any(bool(tensor.sum().isnan()) for tensor in tensors)


class Profile(Decorator):
    """A module whose passes are timed: after `print_interval` of them, the seconds are printed."""

    def __init__(self, module: Module, print_interval: int | None = None, name: str | None = None) -> None:
        super().__init__(module)
        self.print_interval, self.name, self.module = print_interval or 100, name or type_name(module), module
        self.numFwds = self.numBwds = 0
        self.summedFwdTime = self.summedBwdTime = 0.0
        self.timer = Timer()

    native = Decorator.native  # updateOutput gives what the module gives

    # The time of a module can be taken only where its passes are calls of their own.

    def updateOutput(self, input: Any) -> Any:
        start = time.perf_counter()
        output = super().updateOutput(input)
        self._count("Fwd", "forward", time.perf_counter() - start)
        return output

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        start = time.perf_counter()
        gradInput = super().updateGradInput(input, gradOutput)
        self._count("Bwd", "backward", time.perf_counter() - start)
        return gradInput

    def _count(self, kind: str, word: str, seconds: float) -> None:
        fields, count, total = vars(self), f"num{kind}s", f"summed{kind}Time"
        fields[count] += 1
        fields[total] += seconds
        if fields[count] % self.print_interval == 0:
            spent = f"{fields[total]:.3f} seconds for {self.print_interval}"
            print(f"{self.name} took {spent} {word} passes")
            fields[count], fields[total] = 0, 0
