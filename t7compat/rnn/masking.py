"""Sequences of different lengths in one batch: steps whose input is all zeros are skipped."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.containers import Child, Container, Decorator, Sequential
from t7compat.nn.module import Module
from t7compat.nn.shapes import expect, flattened
from t7compat.nn.stepping import PROTOCOL
from t7compat.table import to_tuples
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


def zero_rows(input: Tensor, nInputDim: int) -> Tensor:
    """Whether a sample is all zeros.  (batch, ...) -> (batch), or one sample of nInputDim dimensions -> ()"""
    rows = input.unsqueeze(-1).flatten(1) if input.dim() > nInputDim else input.flatten()
    return (rows == 0).all(-1)


def masked(value: Any, mask: Tensor) -> Any:
    """The tensors of a nested value with zeros in the rows of the mask."""
    return to_tuples(
        lambda x: x.masked_fill(mask.reshape(mask.shape + (1,) * (x.dim() - mask.dim())), 0), value
    )


def is_number(value: Any) -> bool:
    """Whether an argument is a number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


class MaskZero(Decorator):
    """Zeroes the output of a module for the samples whose input is all zeros.

    With a table of inputs the first one counts.  `nInputDim` is the number of dimensions of one sample: with
    one more, the first one is the batch.  As in Torch7, the gradient of the other samples alone goes back,
    but the parameters of the last layer inside get that of all.

    Of the later fork of rnn is `MaskZero(module, v1, maskinput, maskoutput)`, for batches only: the samples
    are those that `setZeroMask` tells, or (`v1`) those whose input is all zeros.
    """

    nInputDim: int | None = None
    v2 = False
    maskinput: bool | None = None
    maskoutput = True
    zeroMask: Any = None

    def __init__(
        self,
        module: Module,
        nInputDim: Any = None,
        silent: bool | None = None,
        maskoutput: bool | None = None,
    ) -> None:
        super().__init__(module)
        if is_number(nInputDim):
            if module.dpnn_stepclone and not silent:
                warnings.warn(
                    f"{self.__typename__} around {module} masks its output only; use its method maskZero",
                    stacklevel=2,
                )
            self.nInputDim = nInputDim
            return
        self.v2, self.maskoutput = not nInputDim, maskoutput is None or maskoutput
        if silent is not None:  # in the place of maskinput
            self.maskinput = silent

    def compute(self, input: Any, child: Child) -> Any:
        mask = self.mask(input)
        if mask is None:
            return child(input)
        output = child(masked(input, mask) if self.maskinput else input)
        return masked(output, mask) if self.maskoutput else output

    def prepare(self, input: Any) -> None:
        first = flattened(input)[0]
        if self.nInputDim is not None:
            expect(first, self.nInputDim, self.nInputDim + 1)
        elif not self.v2:
            expect(first)
        elif self.zeroMask is None:
            raise InputError("expected setZeroMask before forward, with a mask or False")
        elif self.zeroMask is not False:
            expect(first, size=len(self.zeroMask), at=0)

    def mask(self, input: Any) -> Tensor | None:
        """Which samples are zeroed; None for none."""
        first = flattened(input)[0]
        if self.nInputDim is None and self.v2:
            return None if self.zeroMask is False else self.zeroMask.bool()
        return zero_rows(first, first.dim() - 1 if self.nInputDim is None else self.nInputDim)

    def setZeroMask(self, zeroMask: Any) -> None:
        self.zeroMask = zeroMask

    # ---- the parameters of the last layer

    def is_opaque(self) -> bool:
        return self.trains_unmasked() or not vars(self).keys().isdisjoint(PROTOCOL)

    def trains_unmasked(self) -> bool:
        """Whether some parameters get the gradient of all samples."""
        return self.maskoutput and trains_at_end(self.modules[1])

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        if self.trains_unmasked():
            self.modules[1].accGradParameters(input, gradOutput, scale)
        else:
            super().accGradParameters(input, gradOutput, scale)

    def accUpdateGradParameters(self, input: Any, gradOutput: Any, lr: float) -> None:
        if self.trains_unmasked():
            self.modules[1].accUpdateGradParameters(input, gradOutput, lr)
        else:
            super().accUpdateGradParameters(input, gradOutput, lr)

    # ---- state

    @property
    def keeps_state(self) -> bool:  # type: ignore[override]
        return self.nInputDim is None and self.v2

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        if type is not None:
            for name in ("zeroMask", "_zeroMask", "_maskbyte", "_maskindices"):
                vars(self).pop(name, None)
        return super().type(type, tensorCache)


def trains_at_end(module: Any) -> bool:
    """Whether the layers that give the output of a module have parameters."""
    children = list(module.children())
    if isinstance(module, Sequential):
        children = children[-1:]
    return any(map(trains_at_end, children)) if isinstance(module, Container) else bool(module.parameters())


class TrimZero(MaskZero):
    """MaskZero that runs the module on the other samples only, as a smaller batch."""

    nInputDim: int

    def __init__(self, module: Module, nInputDim: int, silent: bool = False) -> None:
        super().__init__(module, nInputDim, silent)
        if module.dpnn_stepclone and vars(module).get("p") and vars(module).get("mono") is False:
            raise InputError(f"{self}: expected `mono`, for dropout masks that fit any number of samples")
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

    def trains_unmasked(self) -> bool:
        return False


def rows(value: Any, kept: Tensor) -> Any:
    """Some of the samples of a nested value."""
    return to_tuples(lambda x: x.index_select(0, kept), value)
