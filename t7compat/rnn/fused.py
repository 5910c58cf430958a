"""Recurrences over whole sequences: all products with the input at once, and no graph for each step.

Sequences are (time, batch, ...), states (batch, ...).  The columns of a weight are those of the gates, its
rows first those of the input, then those of the state.  `mask` (time, batch, 1) tells where the gates, and
with them the state, are set to zero: independent sequences follow each other there.
"""

# mypy: disable-error-code="no-untyped-call, override"
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from t7compat.nn.shapes import expect_fit, like
from t7compat.rnn.unrolled import GRU, LSTM, shifted

Tensor = torch.Tensor
# The cells and the gates of all steps, or how to compute them
States = tuple[Tensor, Tensor] | Callable[[], tuple[Tensor, Tensor]]

# Gives what has come to be known of gradients
Later = Callable[[], list[Tensor | None]]


def lstm(
    x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor, peepholes: Tensor | None = None, *,
    project: Tensor | None = None, mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, States]:  # fmt: skip
    """The outputs of all steps, the last cell, and the states; gates in the order i, f, o, g.

    `peepholes` are the weights (3, cells) by which i, f and o see the cell, `project` is the weight of a
    projection of each output.
    """
    if peepholes is None and project is None and mask is None and _has_kernel(x):
        rows, offsets = reordered(weight.t(), "ifog", "ifgo"), reordered(bias, "ifog", "ifgo")
        inputs = x.shape[-1]
        return _by_kernel(x, h, c, rows[:, :inputs], rows[:, inputs:], offsets)
    output, last, cell, gates = LSTM.apply(x, h, c, weight, bias, peepholes, project, mask)
    return masked_output(output, mask), last, (cell, gates)


def fast_lstm(
    x: Tensor, h: Tensor, c: Tensor, of_input: Tensor, of_state: Tensor, bias: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, States]:
    """As `lstm`; the weights for input and state have the gates in rows, in the order i, g, f, o."""
    if mask is None and _has_kernel(x):
        return _by_kernel(x, h, c, *[swapped(rows) for rows in (of_input, of_state, bias)])
    weight = reordered(torch.cat((of_input, of_state), 1), "igfo", "ifog").t()
    return lstm(x, h, c, weight, reordered(bias, "igfo", "ifog"), mask=mask)


def gru(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The outputs and gates of all steps, in the order r, z, g; r acts on the state before the product."""
    output, gates = GRU.apply(x, h, weight, bias, mask)
    return masked_output(output, mask), gates


def masked_output(output: Tensor, mask: Tensor | None) -> Tensor:
    """The output, to which no gradient comes back where it is masked, not even one that is no number."""
    return output if mask is None else output.masked_fill(mask, 0)


def continued(later: Later, time: int, output: Tensor, *ends: Tensor) -> Tensor:
    """The output of a sequence that others may go on from, where it and other parts of the state end.

    On the way back the gradients with respect to these that come from there are added: `later()` gives that
    of the output of the last step first, None for zeros.  `time` is the dimension of the steps.
    """
    result: Tensor = _Continued.apply(later, time, output, *ends)
    return result


def reordered(rows: Tensor, order: str, wanted: str) -> Tensor:
    """The rows for four gates in another order."""
    parts = dict(zip(order, rows.chunk(4), strict=True))
    return torch.cat([parts[name] for name in wanted])


def swapped(rows: Tensor) -> Tensor:
    """The rows for four gates with the middle ones in each other's place: i, g, f, o are i, f, g, o then."""
    result: Tensor = _Swapped.apply(rows)
    return result


class _Swapped(torch.autograd.Function):
    """rows -> rows"""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return reordered(rows, "igfo", "ifgo")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        second, third = gradient.chunk(4)[1:3]  # nobody else has the gradient: it need not be copied
        kept = second.clone()
        second.copy_(third)
        third.copy_(kept)
        return gradient


# ---- PyTorch's kernel


def _has_kernel(x: Tensor) -> bool:
    """Whether PyTorch's LSTM is quicker than the one below: that of oneDNN and cuDNN is."""
    return x.is_cuda or (x.dtype == torch.float32 and torch.backends.mkldnn.is_available())


def _by_kernel(
    x: Tensor, h: Tensor, c: Tensor, of_input: Tensor, of_state: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, States]:
    weights = (of_input, of_state, bias, torch.zeros_like(bias, requires_grad=False))
    train = torch.is_grad_enabled()
    output, _, last = torch.lstm(x, (h[None], c[None]), weights, True, 1, 0.0, train, False, False)
    kept = [tensor.detach() for tensor in (x, h, c, of_input, of_state, bias, output)]
    unfolding: Any = Unfolding(*kept)
    return output, last[0], unfolding


class Unfolding(NamedTuple):
    """What is known of an LSTM of which only the outputs were computed; called, it gives cells and gates."""

    x: Tensor
    h: Tensor
    c: Tensor
    of_input: Tensor
    of_state: Tensor
    bias: Tensor
    output: Tensor

    def __call__(self) -> tuple[Tensor, Tensor]:
        """The cells and gates of all steps."""
        return _unfolded(*self)


def _unfolded(
    x: Tensor, h: Tensor, c: Tensor, of_input: Tensor, of_state: Tensor, bias: Tensor, output: Tensor
) -> tuple[Tensor, Tensor]:
    i, f, g, o = (x @ of_input.t() + shifted(h, output) @ of_state.t() + bias).chunk(4, -1)
    gates = torch.cat((torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o), torch.tanh(g)), -1)
    cells = []
    for i, f, _, g in zip(*gates.chunk(4, -1), strict=True):
        c = f * c + i * g
        cells.append(c)
    return torch.stack(cells), gates


class _Continued(torch.autograd.Function):
    """{output, ends} -> output"""

    @staticmethod
    def forward(ctx: Any, later: Later, time: int, output: Tensor, *ends: Tensor) -> Tensor:
        ctx.later, ctx.time, ctx.sizes = later, time, [end.shape for end in ends]
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_output, *of_ends = ctx.later()
        if of_output is not None:
            gradient = gradient.clone()
            last = gradient.select(ctx.time, -1)
            expect_fit("gradPrevOutput", of_output, last)
            last += like(of_output, last)
        ends = [end if end is None else end.view(size) for end, size in zip(of_ends, ctx.sizes, strict=True)]
        return None, None, gradient, *ends
