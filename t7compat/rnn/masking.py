"""Sequences of different lengths in one batch: steps whose input is all zeros are skipped."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from t7compat.nn.containers import Child, Container, Decorator
from t7compat.nn.module import Module
from t7compat.nn.shapes import expect, flattened
from t7compat.table import to_tuples
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


def zero_rows(input: Tensor, nInputDim: int) -> Tensor:
    """Whether a sample is all zeros.  (batch, ...) -> (batch), or one sample of nInputDim dimensions -> ()"""
    rows = input.reshape(len(input), -1) if input.dim() > nInputDim else input.reshape(-1)
    return (rows == 0).all(-1)


def masked(value: Any, mask: Tensor) -> Any:
    """The tensors of a nested value with zeros in the rows of the mask."""
    return to_tuples(
        lambda x: x.masked_fill(mask.reshape(mask.shape + (1,) * (x.dim() - mask.dim())), 0), value
    )


class MaskZero(Decorator):
    """Zeroes the output of a module for the samples whose input is all zeros.

    With a table of inputs the first one counts.  `nInputDim` is the number of dimensions of one sample: with
    one more, the first one is the batch.
    """

    def __init__(self, module: Module, nInputDim: int, silent: bool = False) -> None:
        super().__init__(module)
        if module.dpnn_stepclone and not silent:
            warnings.warn(
                f"{self.__typename__} around {module} masks its output only; use its method maskZero",
                stacklevel=2,
            )
        self.nInputDim = nInputDim

    def compute(self, input: Any, child: Child) -> Any:
        mask = zero_rows(flattened(input)[0], self.nInputDim)
        if isinstance(self.modules[1], Container):
            return masked(child(input), mask)
        # Torch7 masks the gradient on its way to the input of a layer, but not on its way to the parameters
        output = child(masked(input, mask))
        return to_tuples(lambda x: x + (masked(x, mask) - x).detach(), output)

    def prepare(self, input: Any) -> None:
        expect(flattened(input)[0], self.nInputDim, self.nInputDim + 1)


class TrimZero(MaskZero):
    """MaskZero that runs the module on the other samples only, as a smaller batch."""

    def __init__(self, module: Module, nInputDim: int, silent: bool = False) -> None:
        super().__init__(module, nInputDim, silent)
        self.temp, self.gradTemp = new_tensor(), new_tensor()

    def compute(self, input: Any, child: Child) -> Any:
        mask = zero_rows(flattened(input)[0], self.nInputDim)
        if mask.dim() == 0:
            return masked(child(masked(input, mask)), mask)
        kept = (~mask).nonzero().flatten()
        if len(kept):
            output = child(rows(input, kept))
        else:  # Torch7 runs the first sample all the same; its gradient reaches the parameters, not the input
            kept = kept.new_zeros(1)
            output = to_tuples(
                lambda x: x - x.detach(), child(rows(to_tuples(torch.Tensor.detach, input), kept))
            )
        return to_tuples(lambda x: x.new_zeros(len(mask), *x.shape[1:]).index_copy(0, kept, x), output)


def rows(value: Any, kept: Tensor) -> Any:
    """Some of the samples of a nested value."""
    return to_tuples(lambda x: x.index_select(0, kept), value)
