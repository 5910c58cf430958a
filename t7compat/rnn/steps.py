"""What one step of a recurrence does element by element; unrolled.py has the matrix products.

The tensors are (batch, ...).  `products` are those of the input and the state with the weights, which become
the gates, or on the way back the derivatives of the step alone, which become the gradients; the tensors after
it are parts of it.  What is computed goes into tensors that are there already.

On CUDA the time goes into launching kernels: there `best` gives a Triton kernel in place of all operations of
a step, from kernels.py, if Triton is there.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor
Step = Callable[..., None]

TYPES = (torch.float16, torch.float32, torch.float64)
OLDEST = (7, 0)  # Triton's compiler may end the process where a GPU cannot do less than this


# ---- LSTM


def lstm_forward(
    products: Tensor, sigmoids: Tensor, i: Tensor, f: Tensor, o: Tensor, g: Tensor, before: Tensor,
    cell: Tensor, hidden: Tensor, peepholes: Tensor | None, masked: Tensor | None,
) -> None:  # fmt: skip
    """The gates, the cell from that before, and the output; `sigmoids` are the gates without `g`.

    With peepholes without `o`, too, which waits for the cell that it sees.
    """
    if peepholes is not None:
        sigmoids.unflatten(-1, (2, -1)).addcmul_(before[:, None], peepholes[:2])
    sigmoids.sigmoid_()
    g.tanh_()
    if masked is not None:
        products.masked_fill_(masked, 0)
    torch.mul(f, before, out=cell).addcmul_(i, g)
    if masked is not None:
        cell.masked_fill_(masked, 0)
    if peepholes is not None:
        o.addcmul_(cell, peepholes[2]).sigmoid_()
        if masked is not None:
            o.masked_fill_(masked, 0)
    torch.tanh(cell, out=hidden).mul_(o)


def lstm_backward(
    products: Tensor, to_if: Tensor, to_o: Tensor, to_g: Tensor, of_cell: Tensor, forget: Tensor,
    grad_h: Tensor, grad_c: Tensor, peepholes: Tensor | None,
) -> None:  # fmt: skip
    """The gradients of the sums in the gates; `grad_c`, of the cell, becomes that of the cell before.

    `of_cell` is the derivative of the output with respect to the cell, `to_if` (batch, 2, size).
    """
    grad_c.addcmul_(grad_h, of_cell)
    to_o.mul_(grad_h)
    if peepholes is not None:
        grad_c.addcmul_(to_o, peepholes[2])
    to_if.mul_(grad_c[:, None])
    to_g.mul_(grad_c)
    grad_c.mul_(forget)
    if peepholes is not None:
        grad_c.addcmul_(to_if[:, 0], peepholes[0]).addcmul_(to_if[:, 1], peepholes[1])


# ---- GRU


def gru_reset(rz: Tensor, r: Tensor, before: Tensor, reset: Tensor) -> None:
    """The gates r and z, and the state times r."""
    rz.sigmoid_()
    torch.mul(r, before, out=reset)


def gru_forward(
    products: Tensor, z: Tensor, g: Tensor, before: Tensor, after: Tensor, masked: Tensor | None
) -> None:
    """The gate g, and the state from that before."""
    g.tanh_()
    if masked is not None:
        products.masked_fill_(masked, 0)
    torch.lerp(g, before, z, out=after)
    if masked is not None:
        after.masked_fill_(masked, 0)


def gru_backward(to_z: Tensor, to_g: Tensor, grad_h: Tensor) -> None:
    """The gradients of the sums in z and g."""
    to_z.mul_(grad_h)
    to_g.mul_(grad_h)


def gru_reset_backward(to_r: Tensor, inner: Tensor, reset: Tensor, grad_h: Tensor, kept: Tensor) -> None:
    """The gradient of the sums in r; `inner`, of the state times r, becomes that of the state.

    The gates `reset` and `kept` are r and z.
    """
    to_r.mul_(inner)
    inner.mul_(reset).addcmul_(grad_h, kept)


# ---- the kernels


class Kernels:
    """The module with the kernels, as long as these work."""

    def __init__(self, name: str) -> None:
        self.name, self.work = name, True

    def attempt(self, step: Step, device: Any, *parts: Any) -> None:
        """Do a step by its kernel; where that cannot be, by its PyTorch operations now and ever after.

        A kernel that cannot be compiled or launched has not changed anything.
        """
        if self.work:
            try:
                kernel = getattr(importlib.import_module(self.name), step.__name__)
                with device:
                    return kernel(*parts)
            except Exception as error:
                self.work = False
                if not isinstance(error, ModuleNotFoundError) or error.name != "triton":
                    warnings.warn(
                        f"recurrent modules go without Triton's kernels: {type(error).__name__}: {error}",
                        RuntimeWarning,
                        stacklevel=2,
                    )
        return step(*parts)


KERNELS = Kernels("t7compat.rnn.kernels")


def best(step: Step, x: Tensor) -> Step:
    """The step, or for tensors like x the kernel that does the same."""
    if not x.is_cuda or not KERNELS.work or x.dtype not in TYPES:
        return step
    if torch.cuda.get_device_capability(x.device) < OLDEST:
        return step
    return functools.partial(KERNELS.attempt, step, torch.cuda.device(x.device))
