"""Recurrences over whole sequences: all products with the input at once, and no graph for each step.

Sequences are (time, batch, ...), states (batch, ...).  The columns of a weight are those of the gates, its
rows first those of the input, then those of the state.  `mask` (time, batch, 1) tells where the gates, and
with them the state, are set to zero: independent sequences follow each other there.
"""

# mypy: disable-error-code="no-untyped-call, override"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor
# The cells and the gates of all steps, or how to compute them
States = tuple[Tensor, Tensor] | Callable[[], tuple[Tensor, Tensor]]


def lstm(
    x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor,
    project: Tensor | None = None, mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, States]:  # fmt: skip
    """The outputs of all steps, the last cell, and the states; gates in the order i, f, o, g.

    `project` is the weight of a projection of each output.
    """
    if project is None and mask is None and _has_kernel(x):
        return _by_kernel(x, h, c, weight, bias)
    output, last, cell, gates = _LSTM.apply(x, h, c, weight, bias, project, mask)
    return output, last, (cell, gates)


def gru(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The outputs and gates of all steps, in the order r, z, g; r acts on the state before the product."""
    output, gates = _GRU.apply(x, h, weight, bias, mask)
    return output, gates


# ---- PyTorch's kernel


def _has_kernel(x: Tensor) -> bool:
    """Whether PyTorch's LSTM is quicker than the one below: that of oneDNN and cuDNN is."""
    return x.is_cuda or (x.dtype == torch.float32 and torch.backends.mkldnn.is_available())


def _by_kernel(
    x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, States]:
    i, f, o, g = weight.chunk(4, 1)
    rows = torch.cat((i, f, g, o), 1).t()
    i, f, o, g = bias.chunk(4)
    offsets = torch.cat((i, f, g, o))
    of_input, of_state = rows.split((x.shape[-1], h.shape[-1]), 1)
    weights = (of_input, of_state, offsets, torch.zeros_like(offsets, requires_grad=False))
    train = torch.is_grad_enabled()
    output, _, last = torch.lstm(x, (h[None], c[None]), weights, True, 1, 0.0, train, False, False)
    kept = [tensor.detach() for tensor in (x, h, c, rows, offsets, output)]
    return output, last[0], lambda: _unfolded(*kept)


def _unfolded(
    x: Tensor, h: Tensor, c: Tensor, rows: Tensor, offsets: Tensor, output: Tensor
) -> tuple[Tensor, Tensor]:
    """The cells and gates of all steps of an LSTM whose outputs are known."""
    of_input, of_state = rows.split((x.shape[-1], h.shape[-1]), 1)
    before = _shifted(h, output)
    i, f, g, o = (x @ of_input.t() + before @ of_state.t() + offsets).chunk(4, -1)
    gates = torch.cat((torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o), torch.tanh(g)), -1)
    cells = []
    for i, f, _, g in zip(*gates.chunk(4, -1), strict=True):
        c = f * c + i * g
        cells.append(c)
    return torch.stack(cells), gates


# ---- recurrences of our own


def _products(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b for all steps."""
    return torch.addmm(bias, x.flatten(0, 1), weight[: x.shape[-1]]).unflatten(0, x.shape[:2])


def _outer(states: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a weight by which the states of all steps were multiplied."""
    return states.flatten(0, 1).t() @ gradient.flatten(0, 1)


def _shifted(start: Tensor, states: Tensor) -> Tensor:
    """The state before each step."""
    return torch.cat((start[None], states[:-1]))


class _LSTM(torch.autograd.Function):
    """{x, h, c, weight, bias, project, mask} -> {outputs, last cell, cells, gates}"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor,
                project: Tensor | None, mask: Tensor | None) -> tuple[Tensor, ...]:  # fmt: skip
        start, feedback = (h, c), weight[x.shape[-1] :]
        gates = _products(x, weight, bias)
        size = c.shape[-1]
        cell, hidden = gates.new_empty(2, len(x), *c.shape)
        output = hidden if project is None else gates.new_empty(len(x), *h.shape)
        steps = zip(
            gates, gates[..., : 3 * size], *gates.chunk(4, -1), cell, hidden, output,
            mask if mask is not None else [None] * len(x), strict=True,
        )  # fmt: skip
        for products, through_sigmoid, i, f, o, g, cell_after, hidden_after, h_after, masked in steps:
            products.addmm_(h, feedback)
            through_sigmoid.sigmoid_()
            g.tanh_()
            if masked is not None:
                products.masked_fill_(masked, 0)
            torch.mul(f, c, out=cell_after).addcmul_(i, g)
            torch.tanh(cell_after, out=hidden_after).mul_(o)
            if project is not None:
                torch.mm(hidden_after, project, out=h_after)
            h, c = h_after, cell_after
        ctx.save_for_backward(x, *start, weight, project, output, hidden, cell, gates)
        ctx.mark_non_differentiable(cell, gates)
        ctx.set_materialize_grads(False)
        return output, cell[-1].clone(), cell, gates

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, grad_last: Tensor | None, *_: Any) -> Any:
        x, h, c, weight, project, output, hidden, cell, gates = ctx.saved_tensors
        inputs = x.shape[-1]
        feedback = weight[inputs:].t()
        size = c.shape[-1]
        grad_output = torch.zeros_like(output) if grad_output is None else grad_output
        grad_c = torch.zeros_like(c) if grad_last is None else grad_last.clone()
        i, f, o, g = gates.chunk(4, -1)

        # First the derivatives of each step alone, then times the gradients that come back
        gradient = torch.empty_like(gates)
        sigmoids = gates[..., : 3 * size]
        torch.addcmul(sigmoids, sigmoids, sigmoids, value=-1, out=gradient[..., : 3 * size])
        of_i, of_f, of_o, of_g = gradient.chunk(4, -1)
        squashed = torch.tanh(cell)
        of_i.mul_(g)
        of_f.mul_(_shifted(c, cell))
        of_o.mul_(squashed)
        torch.addcmul(i, i * g, g, value=-1, out=of_g)
        of_cell = torch.addcmul(o, o * squashed, squashed, value=-1)

        of_if = gradient[..., : 2 * size].unflatten(-1, (2, size))
        heads = torch.empty_like(output) if project is not None else None
        steps = list(zip(gradient, of_if, of_o, of_g, of_cell, f, strict=True))
        grad_h = grad_output[-1]
        for t in range(len(x) - 1, -1, -1):
            products, to_if, to_o, to_g, to_cell, forget = steps[t]
            if project is not None and heads is not None:
                heads[t] = grad_h
                grad_h = grad_h @ project.t()
            grad_c.addcmul_(grad_h, to_cell)
            to_o.mul_(grad_h)
            to_if.mul_(grad_c[:, None])
            to_g.mul_(grad_c)
            grad_c.mul_(forget)
            grad_h = torch.addmm(grad_output[t - 1], products, feedback) if t else products @ feedback

        to_x, _, _, to_weight, to_bias, to_project, _ = ctx.needs_input_grad
        return (
            gradient @ weight[:inputs].t() if to_x else None,
            grad_h,
            grad_c,
            _outer(torch.cat((x, _shifted(h, output)), -1), gradient) if to_weight else None,
            gradient.sum((0, 1)) if to_bias else None,
            _outer(hidden, heads) if to_project and heads is not None else None,
            None,
        )


class _GRU(torch.autograd.Function):
    """{x, h, weight, bias, mask} -> {outputs, gates}"""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        start, size = h, h.shape[-1]
        to_rz, to_g = weight[x.shape[-1] :].split((2 * size, size), 1)
        gates = _products(x, weight, bias)
        output = gates.new_empty(len(x), *h.shape)
        masks = mask if mask is not None else [None] * len(x)
        steps = zip(gates, gates[..., : 2 * size], *gates.chunk(3, -1), output, masks, strict=True)
        for products, rz, r, z, g, after, masked in steps:
            rz.addmm_(h, to_rz).sigmoid_()
            g.addmm_(r * h, to_g).tanh_()
            if masked is not None:
                products.masked_fill_(masked, 0)
            h = torch.lerp(g, h, z, out=after)
        ctx.save_for_backward(x, start, weight, output, gates, mask)
        ctx.mark_non_differentiable(gates)
        return output, gates

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, _: Any) -> Any:
        x, h, weight, output, gates, mask = ctx.saved_tensors
        inputs, size = x.shape[-1], h.shape[-1]
        from_rz, from_g = (part.t() for part in weight[inputs:].split((2 * size, size), 1))
        r, z, g = gates.chunk(3, -1)
        before = _shifted(h, output)

        # First the derivatives of each step alone, then times the gradients that come back
        gradient = torch.empty_like(gates)
        of_r, of_z, of_g = gradient.chunk(3, -1)
        torch.addcmul(r, r, r, value=-1, out=of_r).mul_(before)
        torch.addcmul(z, z, z, value=-1, out=of_z).mul_(before - g)
        torch.mul(1 - g * g, 1 - z, out=of_g)
        if mask is not None:
            of_g.masked_fill_(mask, 0)

        steps = list(zip(gradient[..., : 2 * size], of_r, of_z, of_g, r, z, strict=True))
        grad_h = grad_output[-1]
        for t in range(len(x) - 1, -1, -1):
            to_rz, to_r, to_z, to_g, reset, kept = steps[t]
            to_z.mul_(grad_h)
            to_g.mul_(grad_h)
            inner = to_g @ from_g
            to_r.mul_(inner)
            grad_h = torch.addcmul(inner.mul_(reset), grad_h, kept)
            grad_h.addmm_(to_rz, from_rz)
            if t:
                grad_h += grad_output[t - 1]

        to_x, _, to_weight, to_bias, _ = ctx.needs_input_grad
        found = None
        if to_weight:
            of_state = _outer(before, gradient[..., : 2 * size]), _outer(before * r, of_g)
            found = torch.cat((_outer(x, gradient), torch.cat(of_state, 1)))
        return (
            gradient @ weight[:inputs].t() if to_x else None,
            grad_h,
            found,
            gradient.sum((0, 1)) if to_bias else None,
            None,
        )
