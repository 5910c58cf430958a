"""Modules made of modules.

The `compute` of a container is a function of its input and of its children, which are given as functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import torch

from t7compat import registry
from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.shapes import axis, centered, describe, expect_joinable, expect_table
from t7compat.nn.stepping import ANY_DIMS
from t7compat.nn.tape import Tape, fork, label
from t7compat.nn.timing import Timed
from t7compat.t7file.objects import LongStorage, Storage, TorchObject
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Child = Callable[[Any], Any]


class Container(Module):
    """A list of modules, in the field `modules`.

    A subclass says in `compute(input, *children)` how they work together, and in `shares_input` whether
    several of them are given the same tensors.
    """

    shares_input = False
    tells_times = False  # whether it prints how long its children take, after a call of `profile`

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.modules = Table()

    def add(self, module: Module) -> Any:
        """Append a module."""
        self.modules.insert(self._expected(module))
        return self

    def extend(self, *modules: Module) -> Any:
        """Append several modules."""
        for module in modules:
            self.add(module)
        return self

    def _expected(self, module: Any) -> Module:
        if not isinstance(module, Module):
            raise InputError(f"{self.__typename__}: expected a module, got {describe(module)}")
        return module

    def get(self, index: int) -> Any:
        """The child at `index`, counted from 1; None if there is none."""
        return self.modules[index]

    def size(self) -> int:
        """The number of children."""
        return len(self.modules)

    def operands(self, tape: Tape) -> list[Child]:
        """What `compute` gets besides the input: the children as functions."""
        return [functools.partial(self._run_child, tape, i, m) for i, m in enumerate(self.modules, 1)]

    def _run_child(self, tape: Tape, index: int, module: Module, input: Any) -> Any:
        try:
            input = fork(input) if self.shares_input and tape.needs_fork(module) else input
            if self.dpnn_profile and self.tells_times:
                return tape.call(cast(Module, Timed(module)), input, True)
            return tape.call(module, input)
        except InputError as error:
            self._locate(error, index, module)
            raise

    def rethrowErrors(self, module: Module, moduleIndex: int, funcName: str, *arguments: Any) -> Any:
        """Call a method of a child, as containers of users do: an InputError then says in which it arose."""
        try:
            return getattr(module, funcName)(*arguments)
        except InputError as error:
            self._locate(error, moduleIndex, module)
            raise

    def _locate(self, error: InputError, index: int, module: Module) -> None:
        """Say in an error in which child it arose."""
        which = "" if error.place else f" ({label(module)})"
        error.within(f"in module {index} of {self.__typename__}{which}")

    def explain(self, input: Any) -> None:
        self.expect_modules()
        super().explain(input)

    def expect_modules(self) -> None:
        """Raise InputError unless all children are modules; in a file they may be of an unknown class."""
        for index, module in enumerate(self.modules, 1):
            if not isinstance(module, Module):
                known = not isinstance(module, TorchObject)
                kind = describe(module) if known else registry.unknown(module.__typename__)
                raise InputError(f"expected a module at index {index}, got {kind}").within(self.__typename__)

    def applyToModules(self, func: Callable[[Any], Any]) -> None:
        """Call `func` on each child."""
        self.expect_modules()
        for module in self.modules:
            func(module)

    def affected(self, method: str, *arguments: Any) -> list[tuple[Any, Any]]:
        """Those of all modules inside; the method of a module that has one of its own is called instead."""
        pairs: list[tuple[Any, Any]] = []
        for module in self.modules:
            try:
                fields = vars(module)
                if method in module._steps_itself or method in fields:
                    getattr(module, method)(*arguments)
                elif not module._is_bare or "parameters" in fields:
                    pairs += module.affected(method, *arguments)
            except AttributeError:
                self.expect_modules()
                raise
        return pairs

    def training(self) -> None:
        self.applyToModules(lambda module: module.training())
        super().training()

    def evaluate(self) -> None:
        self.applyToModules(lambda module: module.evaluate())
        super().evaluate()

    def reset(self, stdv: float | None = None) -> None:
        self.applyToModules(lambda module: module.reset(stdv))

    def share(self, other: Module, *names: str) -> Any:
        others = list(other.children())
        if len(others) != len(self.modules):
            raise InputError(
                f"share: expected a container of {len(self.modules)} modules, got one of {len(others)}"
            )
        for mine, theirs in zip(self.modules, others, strict=True):
            mine.share(theirs, *names)
        return self

    def parameters(self) -> tuple[Table, Table]:
        pairs = [pair for module in self.modules if (pair := module.parameters()) is not None]
        weights, gradients = ([tensor for pair in pairs for tensor in pair[i]] for i in (0, 1))
        return Table(*weights), Table(*gradients)

    def clearState(self) -> Any:
        super().clearState()
        self.applyToModules(lambda module: module.clearState())
        return self


class Sequential(Container):
    """Each module works on the output of the one before."""

    is_plain = True
    row_dims = ANY_DIMS
    tells_times = True

    def compute(self, input: Any, *children: Child) -> Any:
        for child in children:
            input = child(input)
        return input

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Sequential)

    def add(self, module: Module) -> Any:
        super().add(module)
        self._take_ends()
        return self

    def insert(self, module: Module, index: int | None = None) -> None:
        """Put a module at position `index`, shifting the later ones."""
        index = len(self.modules) + 1 if index is None else index
        if not 1 <= index <= len(self.modules) + 1:
            raise InputError("index should be contiguous to existing modules")
        self.modules.insert(index, self._expected(module))
        self._take_ends()

    def remove(self, index: int | None = None) -> None:
        """Take out the module at position `index` (the last one without it)."""
        index = len(self.modules) if index is None else index
        if not 1 <= index <= len(self.modules):
            raise InputError("index out of range")
        self.modules.remove(index)
        self._take_ends()

    def _take_ends(self) -> None:
        """The output is that of the last module, the gradInput that of the first."""
        count = len(self.modules)
        self.output = self.modules[count].output if count else new_tensor()
        self.gradInput = self.modules[1].gradInput if count else new_tensor()

    def __len__(self) -> int:
        return len(self.modules)

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        flow = " -> ".join(["input", *(f"({i})" for i in range(1, len(self.modules) + 1)), "output"])
        lines = ["nn.Sequential {", f"  [{flow}]"]
        lines += [f"  ({i}): " + str(m).replace("\n", "\n  ") for i, m in enumerate(self.modules, 1)]
        return "\n".join([*lines, "}"])


def branches_text(self: Container) -> str:
    """`tostring` of a container whose children work side by side."""
    lines = [f"{self.__typename__} {{", "  input"]
    count = len(self.modules)
    for i, module in enumerate(self.modules, 1):
        arrow, below = ("   `-> ", "         ") if i == count else ("  |`-> ", "    |    ")
        lines.append(f"  {arrow}({i}): " + str(module).replace("\n", f"\n{below}"))
    return "\n".join([*lines, "     ... -> output", "}"])


class Concat(Container):
    """Every module works on the same input; their outputs are joined along a dimension of the output."""

    is_plain = True
    shares_input = True
    __str__ = branches_text

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension=dimension, outputSize=LongStorage())

    def compute(self, input: Any, *children: Child) -> torch.Tensor:
        outputs = [child(input) for child in children]
        return torch.cat(outputs, axis(self.dimension, outputs[0].dim()))

    def explain(self, input: Any) -> None:
        super().explain(input)
        expect_joinable([module.output for module in self.modules], self.dimension)

    def upgrade(self, version: int) -> None:
        """Older files have the size of the last output as `size`."""
        if isinstance(vars(self).get("size"), Storage):
            self.outputSize = vars(self).pop("size")


class DepthConcat(Concat):
    """Concat for outputs of different sizes.

    Those that are smaller in a dimension other than the joined one get zeros around, of which the left gets
    less than the right if their number is odd.  Szegedy et al., 2014.
    """

    is_plain = True

    def compute(self, input: Any, *children: Child) -> torch.Tensor:
        outputs = [child(input) for child in children]
        along = axis(self.dimension, outputs[0].dim())
        largest = [max(sizes) for sizes in zip(*[output.shape for output in outputs], strict=True)]
        return torch.cat([centered(output, largest, along) for output in outputs], along)

    def explain(self, input: Any) -> None:
        Container.explain(self, input)
        outputs = [module.output for module in self.modules]
        if len({output.dim() if isinstance(output, torch.Tensor) else None for output in outputs}) != 1:
            raise InputError(f"expected tensors of as many dimensions to join, got {describe(outputs)}")

    def backward(self, input: Any, gradOutput: Any, scale: float = 1) -> Any:
        """As usual, but without the scale: Torch7 heeds that in `accGradParameters` only."""
        return self._tape(input).backward(gradOutput)


class ConcatTable(Container):
    """Every module works on the same input; the output is the table of their outputs."""

    is_plain = True
    row_dims = ANY_DIMS
    shares_input = True
    __str__ = branches_text

    def __init__(self) -> None:
        super().__init__()
        self.output = Table()

    def compute(self, input: Any, *children: Child) -> Any:
        return tuple(child(input) for child in children)


class Parallel(Container):
    """Module i works on slice i of the input.

    The slices are along inputDimension of the input; the outputs are joined along their outputDimension.
    """

    is_plain = True
    __str__ = branches_text

    def __init__(self, inputDimension: int, outputDimension: int) -> None:
        super().__init__(inputDimension=inputDimension, outputDimension=outputDimension)

    def compute(self, input: torch.Tensor, *children: Child) -> torch.Tensor:
        slices = input.unbind(axis(self.inputDimension, input.dim()))
        outputs = [child(x) for child, x in zip(children, slices, strict=False)]
        return torch.cat(outputs, axis(self.outputDimension, outputs[0].dim()))

    def explain(self, input: Any) -> None:
        super().explain(input)
        count = input.shape[axis(self.inputDimension, input.dim())]
        expect_joinable([module.output for module in self.modules][:count], self.outputDimension)

    def prepare(self, input: Any) -> None:
        if input.shape[axis(self.inputDimension, input.dim())] > len(self.modules):
            slices = f"{len(self.modules)} slices along dimension {self.inputDimension}"
            raise InputError(f"expected at most {slices}, one for each module, got {describe(input)}")


class ParallelTable(Container):
    """Module i works on entry i of the input; the output is the table of their outputs."""

    is_plain = True
    row_dims = ANY_DIMS
    tells_times = True
    __str__ = branches_text

    def __init__(self) -> None:
        super().__init__()
        self.output, self.gradInput = Table(), Table()

    def compute(self, input: Any, *children: Child) -> Any:
        return tuple(child(x) for child, x in zip(children, input, strict=False))

    def prepare(self, input: Any) -> None:
        expect_table(input, len(self.modules))


class Decorator(Container):
    """A container around one module, which it resembles."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.modules[1] = module

    def compute(self, input: Any, child: Child) -> Any:
        return child(input)

    def native(self) -> functools.partial[torch.nn.Module]:
        return functools.partial(torch.nn.Sequential)

    def __str__(self) -> str:
        return f"{self.__typename__} @ {self.modules[1]}"
