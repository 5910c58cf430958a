"""The steps of steps.py as Triton kernels: one launch for each.

Needs the package triton, which comes with the CUDA builds of PyTorch.  A program of a kernel takes some
columns of one sample.  All sums are in single precision at least.

What a recurrence allocates itself is compact, and so are the gates of a step: those of one sample follow each
other.  Where a part of the gates is given, it is one of so many side by side.
"""

# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-def, no-untyped-call"
# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

Tensor = torch.Tensor
COLUMNS = 128  # of a program: one for each thread, with the four warps that it has by default


def _launch(kernel: Any, state: Tensor, *tensors: Tensor | None, **has: bool) -> None:
    """Run a kernel for the elements of a state (batch, size).

    Whether products and sums may be fused is said because Triton warns of its default otherwise.
    """
    grid = len(state), triton.cdiv(state.shape[1], COLUMNS)
    kernel[grid](*tensors, state.shape[1], **has, BLOCK=COLUMNS, enable_fp_fusion=True)


def _compact(x: Tensor | None) -> Tensor | None:
    """What comes from outside may be laid out otherwise."""
    return x if x is None else x.contiguous()


# ---- what the kernels share


@triton.jit
def _place(size, BLOCK: tl.constexpr):
    """The sample of a program, its columns, and which of these there are."""
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    return tl.program_id(0), columns, columns < size


@triton.jit
def _load(pointers, valid):
    """The elements at some places, in single precision at least."""
    x = tl.load(pointers, mask=valid, other=0.0)
    return x.to(tl.float64 if x.dtype == tl.float64 else tl.float32)


@triton.jit
def _scale(pointers, factor, valid):
    """Multiply the elements at some places by a factor; their new values."""
    x = _load(pointers, valid) * factor
    tl.store(pointers, x, mask=valid)
    return x


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _tanh(x):
    """Near zero, where the usual quotient loses digits, Lambert's continued fraction."""
    square = x * x
    above = 135135 + square * (17325 + square * (378 + square))
    below = 135135 + square * (62370 + square * (3150 + square * 28))
    power = tl.exp(-2 * tl.abs(x))
    quotient = (1 - power) / (1 + power)
    return tl.where(tl.abs(x) < 0.5, x * above / below, tl.where(x < 0, -quotient, quotient))


# ---- LSTM


@triton.jit
def _lstm_forward(
    gates, before, cell, hidden, peepholes, masked, size,
    HAS_PEEPHOLES: tl.constexpr, HAS_MASK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, columns, valid = _place(size, BLOCK)
    of_gates, of_state = gates + row * 4 * size + columns, row * size + columns
    c = _load(before + of_state, valid)
    i, f = _load(of_gates, valid), _load(of_gates + size, valid)
    o, g = _load(of_gates + 2 * size, valid), _load(of_gates + 3 * size, valid)
    if HAS_PEEPHOLES:
        i += c * _load(peepholes + columns, valid)
        f += c * _load(peepholes + size + columns, valid)
    i, f, g = _sigmoid(i), _sigmoid(f), _tanh(g)
    c = f * c + i * g
    if HAS_PEEPHOLES:
        o += c * _load(peepholes + 2 * size + columns, valid)
    o = _sigmoid(o)
    if HAS_MASK:
        kept = tl.load(masked + row) == 0
        i, f, o = tl.where(kept, i, 0.0), tl.where(kept, f, 0.0), tl.where(kept, o, 0.0)
        g, c = tl.where(kept, g, 0.0), tl.where(kept, c, 0.0)
    tl.store(of_gates, i, mask=valid)
    tl.store(of_gates + size, f, mask=valid)
    tl.store(of_gates + 2 * size, o, mask=valid)
    tl.store(of_gates + 3 * size, g, mask=valid)
    tl.store(cell + of_state, c, mask=valid)
    tl.store(hidden + of_state, o * _tanh(c), mask=valid)


def lstm_forward(
    products: Tensor, sigmoids: Tensor, i: Tensor, f: Tensor, o: Tensor, g: Tensor, before: Tensor,
    cell: Tensor, hidden: Tensor, peepholes: Tensor | None, masked: Tensor | None,
) -> None:  # fmt: skip
    """steps.lstm_forward"""
    _launch(
        _lstm_forward, cell, products, _compact(before), cell, hidden, _compact(peepholes), _compact(masked),
        HAS_PEEPHOLES=peepholes is not None, HAS_MASK=masked is not None,
    )  # fmt: skip


@triton.jit
def _lstm_backward(
    gradient, of_cell, forget, grad_h, grad_c, peepholes, size,
    HAS_PEEPHOLES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, columns, valid = _place(size, BLOCK)
    to_gates, of_state = gradient + row * 4 * size + columns, row * size + columns
    to_h = _load(grad_h + of_state, valid)
    to_c = _load(grad_c + of_state, valid) + to_h * _load(of_cell + of_state, valid)
    to_o = _scale(to_gates + 2 * size, to_h, valid)
    if HAS_PEEPHOLES:
        to_c += to_o * _load(peepholes + 2 * size + columns, valid)
    to_i, to_f = _scale(to_gates, to_c, valid), _scale(to_gates + size, to_c, valid)
    _scale(to_gates + 3 * size, to_c, valid)
    to_c *= _load(forget + row * 4 * size + columns, valid)
    if HAS_PEEPHOLES:
        to_c += to_i * _load(peepholes + columns, valid)
        to_c += to_f * _load(peepholes + size + columns, valid)
    tl.store(grad_c + of_state, to_c, mask=valid)


def lstm_backward(
    products: Tensor, to_if: Tensor, to_o: Tensor, to_g: Tensor, of_cell: Tensor, forget: Tensor,
    grad_h: Tensor, grad_c: Tensor, peepholes: Tensor | None,
) -> None:  # fmt: skip
    """steps.lstm_backward"""
    _launch(
        _lstm_backward, grad_c, products, of_cell, forget, _compact(grad_h), grad_c, _compact(peepholes),
        HAS_PEEPHOLES=peepholes is not None,
    )  # fmt: skip


# ---- GRU


@triton.jit
def _gru_reset(gates, before, reset, size, BLOCK: tl.constexpr):
    row, columns, valid = _place(size, BLOCK)
    of_gates, of_state = gates + row * 3 * size + columns, row * size + columns
    r, z = _sigmoid(_load(of_gates, valid)), _sigmoid(_load(of_gates + size, valid))
    tl.store(of_gates, r, mask=valid)
    tl.store(of_gates + size, z, mask=valid)
    tl.store(reset + of_state, r * _load(before + of_state, valid), mask=valid)


def gru_reset(rz: Tensor, r: Tensor, before: Tensor, reset: Tensor) -> None:
    """steps.gru_reset"""
    _launch(_gru_reset, reset, rz, _compact(before), reset)


@triton.jit
def _gru_forward(gates, before, after, masked, size, HAS_MASK: tl.constexpr, BLOCK: tl.constexpr):
    row, columns, valid = _place(size, BLOCK)
    of_gates, of_state = gates + row * 3 * size + columns, row * size + columns
    z, g = _load(of_gates + size, valid), _tanh(_load(of_gates + 2 * size, valid))
    h = g + z * (_load(before + of_state, valid) - g)
    if HAS_MASK:
        kept = tl.load(masked + row) == 0
        tl.store(of_gates, tl.where(kept, _load(of_gates, valid), 0.0), mask=valid)
        tl.store(of_gates + size, tl.where(kept, z, 0.0), mask=valid)
        g, h = tl.where(kept, g, 0.0), tl.where(kept, h, 0.0)
    tl.store(of_gates + 2 * size, g, mask=valid)
    tl.store(after + of_state, h, mask=valid)


def gru_forward(
    products: Tensor, z: Tensor, g: Tensor, before: Tensor, after: Tensor, masked: Tensor | None
) -> None:
    """steps.gru_forward"""
    has_mask = masked is not None
    _launch(_gru_forward, after, products, _compact(before), after, _compact(masked), HAS_MASK=has_mask)


@triton.jit
def _gru_backward(to_z, to_g, grad_h, size, BLOCK: tl.constexpr):
    row, columns, valid = _place(size, BLOCK)
    of_gates = row * 3 * size + columns
    to_h = _load(grad_h + row * size + columns, valid)
    _scale(to_z + of_gates, to_h, valid)
    _scale(to_g + of_gates, to_h, valid)


def gru_backward(to_z: Tensor, to_g: Tensor, grad_h: Tensor) -> None:
    """steps.gru_backward"""
    _launch(_gru_backward, grad_h, to_z, to_g, _compact(grad_h))


@triton.jit
def _gru_reset_backward(to_r, inner, reset, grad_h, kept, size, BLOCK: tl.constexpr):
    row, columns, valid = _place(size, BLOCK)
    of_gates, of_state = row * 3 * size + columns, row * size + columns
    to_reset = _load(inner + of_state, valid)
    _scale(to_r + of_gates, to_reset, valid)
    passed = _load(grad_h + of_state, valid) * _load(kept + of_gates, valid)
    tl.store(inner + of_state, to_reset * _load(reset + of_gates, valid) + passed, mask=valid)


def gru_reset_backward(to_r: Tensor, inner: Tensor, reset: Tensor, grad_h: Tensor, kept: Tensor) -> None:
    """steps.gru_reset_backward"""
    _launch(_gru_reset_backward, inner, to_r, inner, reset, _compact(grad_h), kept)
