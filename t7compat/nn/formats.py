"""Layers that turn their input into another type or format."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from t7compat.errors import InputError
from t7compat.nn.containers import Child, Container
from t7compat.nn.luaobject import clear
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect, from_start, zero_based
from t7compat.nn.tape import Tape
from t7compat.tensortypes import convert, default_type, parse

Tensor = torch.Tensor


class Cast(Module, typename=""):
    """The base of layers whose output and gradInput have types of their own, whatever the input has."""

    gradient_has_own_type = True

    @property
    def kind(self) -> Tensor:
        """An empty tensor of the output's type, which a written layer keeps as a buffer."""
        return self.output.new_empty(0)  # type: ignore[no-any-return]


class Copy(Cast):
    """The input as a tensor of type `outtype`; the gradient as one of type `intype`.  Same shape out.

    With `dontCast`, these stay what they are when the network is converted to another type.
    """

    dontCast: bool | None = None

    def __init__(
        self, intype: str | None = None, outtype: str | None = None,
        forceCopy: bool | None = None, dontCast: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(dontCast=dontCast)
        usual = default_type().tensor
        self.gradInput = convert(self.gradInput, parse(intype or usual))
        self.output = convert(self.output, parse(outtype or usual))

    def compute(self, input: Tensor) -> Tensor:
        return input.to(self.kind)

    def prepare(self, input: Any) -> None:
        expect(input)

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        return self if type is not None and self.dontCast else super().type(type, tensorCache)

    def upgrade(self, version: int) -> None:
        """For equal types Torch7 keeps two Lua functions in the object, which do the same without a copy."""
        for name in ("updateOutput", "updateGradInput"):
            vars(self).pop(name, None)


class OneHot(Cast):
    """For each index i of 1..outputSize, a vector with 1 at place i.  (...) -> (..., outputSize)

    The indices may be a tensor of any type, or a number.
    """

    scratch = ("_single", "_input")

    def __init__(self, outputSize: int) -> None:
        super().__init__(outputSize=outputSize)

    def compute(self, input: Any) -> Tensor:
        return F.one_hot(zero_based(torch.as_tensor(input)), self.outputSize).to(self.kind)

    def prepare(self, input: Any) -> None:
        if not isinstance(input, int | float):
            expect(input)

    def explain(self, input: Any) -> None:
        indices = torch.as_tensor(input).long()
        wrong = indices[(indices < 1) | (indices > self.outputSize)]
        if wrong.numel():
            raise InputError(f"expected indices from 1 to {self.outputSize}, got {wrong[0].item()}")

    def before_type(self) -> None:
        for name in self.scratch:
            vars(self).pop(name, None)


def rearranged(x: Tensor, before: str, after: str) -> Tensor:
    """A tensor whose dimensions have the letters `before`, with the letters `after`; b is the batch."""
    if len(before) == len(after) and set(before) <= set(after):
        if before == after:
            return x
        return x.movedim([before.index(letter) for letter in after], list(range(len(after)))).contiguous()
    batch = before.index("b")
    if after == "bf" and before != "bt":
        return x.transpose(0, batch).reshape(x.shape[batch], -1)
    if after == "bt" and before == "b":
        return x.unsqueeze(1)
    other = 1 - batch
    if after == "b" and (before in ("bt", "tb") or (before in ("bf", "fb") and x.shape[other] == 1)):
        return x.select(other, 0).contiguous()
    raise ValueError(f"there is no conversion of this from {before} to {after}")


class Convert(Cast, Container):
    """From one format to another: a letter for each dimension, such as ("bchw", "bf") or ("bhwc", "bchw").

    b is the batch, which may be missing in the input.  The output is of the module's type.  To a format with
    the same letters the input is transposed; "bf" flattens each sample; "b" takes the first column, and "bt"
    makes a column of "b".  (Torch7 makes modules for this at the first forward; here `compute` does it.)
    """

    scratch = ("_input", "_gradInput", "__input", "__output", "__gradInput", "__gradOutput")
    transposition: bool | None = None

    def __init__(self, inputShape: str | None = None, outputShape: str | None = None) -> None:
        if outputShape and not inputShape:
            raise InputError("nn.Convert: expected an inputShape with the outputShape")
        before = inputShape or "b*"
        after = outputShape or before
        before, after = (shape if "b" in shape else "b" + shape for shape in (before, after))
        super().__init__(inputShape=before, outputShape=after)
        self.inputBatchDim, self.outputBatchDim = before.index("b") + 1, after.index("b") + 1
        self.nInputDim, self.nOutputDim = len(before), len(after)
        if "b*" in (before, after):
            if before != after:
                raise InputError(
                    f"nn.Convert: expected both or neither shape as b*, got {before} and {after}"
                )
            self.nInputDim = self.nOutputDim = -1
        if len(before) == len(after):
            self.transposition = set(before) <= set(after)

    def operands(self, tape: Tape) -> list[Child]:
        """None: modules that Torch7 has left in a file are not needed."""
        return []

    def compute(self, input: Tensor) -> Tensor:
        x = input.to(self.kind)
        is_sample = x.dim() < self.nInputDim
        x = x.unsqueeze(from_start(self.inputBatchDim, x.dim() + 1)) if is_sample else x
        output = rearranged(x, self.inputShape, self.outputShape)
        return output.squeeze(from_start(self.outputBatchDim, output.dim())) if is_sample else output

    def prepare(self, input: Any) -> None:
        expect(input)
        if input.dim() < self.nInputDim and self.nOutputDim == 1:
            raise InputError(f"expected a batch ({self.inputShape}), got {describe(input)}")

    def before_type(self) -> None:
        clear(self, *self.scratch)
