"""Recurrences over whole sequences, with derivatives of their own: no graph for each step.

Sequences are (time, batch, ...), states (batch, ...), as in fused.py.
"""

# mypy: disable-error-code="no-untyped-call, override"
from __future__ import annotations

from typing import Any

import torch

from t7compat.rnn.steps import (
    best,
    gru_backward,
    gru_forward,
    gru_reset,
    gru_reset_backward,
    lstm_backward,
    lstm_forward,
)

Tensor = torch.Tensor


def _products(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b for all steps."""
    return torch.addmm(bias, x.flatten(0, 1), weight[: x.shape[-1]]).unflatten(0, x.shape[:2])


def _outer(states: Tensor, gradient: Tensor, out: Tensor | None = None) -> Tensor:
    """The gradient of a weight by which the states of all steps were multiplied."""
    return torch.mm(states.flatten(0, 1).t(), gradient.flatten(0, 1), out=out)


def _of_weight(weight: Tensor, x: Tensor, h: Tensor, output: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of the weight for input and state, given that of the products of all steps."""
    found = weight.new_empty(weight.shape)
    of_input, of_state = found.split((x.shape[-1], h.shape[-1]))
    _outer(x, gradient, out=of_input)
    _outer(output[:-1], gradient[1:], out=of_state)
    of_state.addmm_(h.t(), gradient[0])
    return found


def shifted(start: Tensor, states: Tensor) -> Tensor:
    """The state before each step."""
    return torch.cat((start[None], states[:-1]))


class LSTM(torch.autograd.Function):
    """{x, h, c, weight, bias, peepholes, project, mask} -> {outputs, last cell, cells, gates}"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor,
                peepholes: Tensor | None, project: Tensor | None, mask: Tensor | None,
                ) -> tuple[Tensor, ...]:  # fmt: skip
        start, feedback, size = (h, c), weight[x.shape[-1] :], c.shape[-1]
        gates = _products(x, weight, bias)
        cell, hidden = gates.new_empty(2, len(x), *c.shape)
        output = hidden if project is None else gates.new_empty(len(x), *h.shape)
        at_once = gates[..., : (3 if peepholes is None else 2) * size]  # o waits for the cell that it sees
        steps = zip(
            gates, at_once, *gates.chunk(4, -1), cell, hidden, output,
            mask if mask is not None else [None] * len(x), strict=True,
        )  # fmt: skip
        step = best(lstm_forward, x)
        for products, sigmoids, i, f, o, g, c_after, hidden_after, h_after, masked in steps:
            products.addmm_(h, feedback)
            step(products, sigmoids, i, f, o, g, c, c_after, hidden_after, peepholes, masked)
            if project is not None:
                torch.mm(hidden_after, project, out=h_after)
            h, c = h_after, c_after
        ctx.save_for_backward(x, *start, weight, peepholes, project, output, hidden, cell, gates, mask)
        ctx.mark_non_differentiable(cell, gates)
        ctx.set_materialize_grads(False)
        return output, cell[-1].clone(), cell, gates

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, grad_last: Tensor | None, *_: Any) -> Any:
        x, h, c, weight, peepholes, project, output, hidden, cell, gates, mask = ctx.saved_tensors
        inputs, size = x.shape[-1], c.shape[-1]
        feedback = weight[inputs:].t()
        grad_output = torch.zeros_like(output) if grad_output is None else grad_output
        grad_c = c.new_zeros(c.shape)
        if grad_last is not None:
            grad_c.copy_(grad_last)
        gradient, of_cell = _slopes(gates, cell, c, hidden, mask)
        of_o, of_g = gradient.chunk(4, -1)[2:]
        of_if = gradient[..., : 2 * size].unflatten(-1, (2, size))
        heads = torch.empty_like(output) if project is not None else None
        forget_gates = gates[..., size : 2 * size]
        steps = list(zip(gradient, of_if, of_o, of_g, of_cell, forget_gates, strict=True))
        step = best(lstm_backward, x)
        grad_h = grad_output[-1]
        for t in range(len(x) - 1, -1, -1):
            if project is not None and heads is not None:
                heads[t] = grad_h
                grad_h = grad_h @ project.t()
            step(*steps[t], grad_h, grad_c, peepholes)
            products = steps[t][0]
            grad_h = torch.addmm(grad_output[t - 1], products, feedback) if t else products @ feedback

        del of_cell, steps  # the gradients below take their memory
        to_x, _, _, to_weight, to_bias, to_peepholes, to_project, _ = ctx.needs_input_grad
        return (
            gradient @ weight[:inputs].t() if to_x else None,
            grad_h,
            grad_c,
            _of_weight(weight, x, h, output, gradient) if to_weight else None,
            gradient.sum((0, 1)) if to_bias else None,
            _of_peepholes(gradient, c, cell) if to_peepholes else None,
            _outer(hidden, heads) if to_project and heads is not None else None,
            None,
        )


def _times_before(gradient: Tensor, start: Tensor, states: Tensor, out: Tensor) -> Tensor:
    """The gradient times the state before each step, in `out`."""
    torch.mul(gradient[0], start, out=out[0])
    torch.mul(gradient[1:], states[:-1], out=out[1:])
    return out


def _of_peepholes(gradient: Tensor, c: Tensor, cell: Tensor) -> Tensor:
    """The gradient of the peepholes, given that of the sums in the gates: i and f see the cell before."""
    of_i, of_f, of_o, _ = gradient.chunk(4, -1)
    product = torch.empty_like(cell)
    before = [_times_before(part, c, cell, out=product).sum((0, 1)) for part in (of_i, of_f)]
    return torch.stack([*before, torch.mul(of_o, cell, out=product).sum((0, 1))])


def _slopes(
    gates: Tensor, cell: Tensor, c: Tensor, hidden: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The derivatives of each step of an LSTM alone.

    Those of the cell (for o: of the output) with respect to the sums in the gates, and of the output with
    respect to the cell.
    """
    i, _, o, g = gates.chunk(4, -1)
    gradient, sigmoids = torch.empty_like(gates), gates[..., : 3 * c.shape[-1]]
    torch.addcmul(sigmoids, sigmoids, sigmoids, value=-1, out=gradient[..., : 3 * c.shape[-1]])
    of_i, of_f, of_o, of_g = gradient.chunk(4, -1)
    squashed = torch.tanh(cell)
    of_i.mul_(g)
    _times_before(of_f, c, cell, out=of_f)
    of_o.mul_(squashed)
    torch.mul(i, g, out=of_g)
    torch.addcmul(i, of_g, g, value=-1, out=of_g)
    if mask is not None:
        gradient.masked_fill_(mask, 0)
    return gradient, torch.addcmul(o, hidden, squashed, value=-1, out=squashed)


class GRU(torch.autograd.Function):
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
        step_r, step_h, reset = best(gru_reset, x), best(gru_forward, x), h.new_empty(h.shape)
        for products, rz, r, z, g, after, masked in steps:
            rz.addmm_(h, to_rz)
            step_r(rz, r, h, reset)
            g.addmm_(reset, to_g)
            step_h(products, z, g, h, after, masked)
            h = after
        ctx.save_for_backward(x, start, weight, output, gates, mask)
        ctx.mark_non_differentiable(gates)
        ctx.set_materialize_grads(False)  # zeros for the gates would be as large as these
        return output, gates

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, _: Any) -> Any:
        x, h, weight, output, gates, mask = ctx.saved_tensors
        grad_output = torch.zeros_like(output) if grad_output is None else grad_output
        inputs, size = x.shape[-1], h.shape[-1]
        from_rz, from_g = (part.t() for part in weight[inputs:].split((2 * size, size), 1))
        r, z, g = gates.chunk(3, -1)
        before = shifted(h, output)

        # First the derivatives of each step alone, then times the gradients that come back
        gradient = torch.empty_like(gates)
        of_r, of_z, of_g = gradient.chunk(3, -1)
        torch.addcmul(r, r, r, value=-1, out=of_r).mul_(before)
        torch.addcmul(z, z, z, value=-1, out=of_z).mul_(torch.sub(before, g, out=of_g))
        torch.addcmul(g.new_ones(()), g, g, value=-1, out=of_g)
        of_g.addcmul_(of_g, z, value=-1)
        if mask is not None:
            gradient.masked_fill_(mask, 0)

        steps = list(zip(gradient[..., : 2 * size], of_r, of_z, of_g, r, z, strict=True))
        step_h, step_r = best(gru_backward, x), best(gru_reset_backward, x)
        grad_h = grad_output[-1]
        for t in range(len(x) - 1, -1, -1):
            to_rz, to_r, to_z, to_g, reset, kept = steps[t]
            step_h(to_z, to_g, grad_h)
            inner = to_g @ from_g
            step_r(to_r, inner, reset, grad_h, kept)
            grad_h = inner
            grad_h.addmm_(to_rz, from_rz)
            if t:
                grad_h += grad_output[t - 1]

        to_x, _, to_weight, to_bias, _ = ctx.needs_input_grad
        of_weight = weight.new_empty(weight.shape) if to_weight else None
        if of_weight is not None:
            of_input, of_state = of_weight.split((inputs, size))
            to_rz, to_g = of_state.split((2 * size, size), 1)
            _outer(x, gradient, out=of_input)
            _outer(before, gradient[..., : 2 * size], out=to_rz)
            _outer(before.mul_(r), of_g, out=to_g)
        del before  # the gradient of the input takes its memory
        return (
            gradient @ weight[:inputs].t() if to_x else None,
            grad_h,
            of_weight,
            gradient.sum((0, 1)) if to_bias else None,
            None,
        )
