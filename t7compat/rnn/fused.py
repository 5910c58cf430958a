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

Tensor = torch.Tensor
# The cells and the gates of all steps, or how to compute them
States = "tuple[Tensor, Tensor] | Unfolding | Callable[[], tuple[Tensor, Tensor]]"

# Gives what has come to be known of gradients
Later = Callable[[], list[Tensor | None]]


def lstm(
    x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor, peepholes: Tensor | None = None, *,
    project: Tensor | None = None, mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, States]:  # fmt: skip
    """The outputs of all steps, the last cell, and the states; gates in the order i, f, o, g.

    `peepholes` are the weights (3, cells) by which i, f and o see the cell, `project` is the weight of a
    projection of each output; not both.
    """
    if peepholes is not None:
        output, last, cell, gates = _PeepholeLSTM.apply(x, h, c, weight, bias, peepholes, mask)
        return masked(output, mask), last, (cell, gates)
    if project is None and mask is None and _has_kernel(x):
        rows, offsets = reordered(weight.t(), "ifog", "ifgo"), reordered(bias, "ifog", "ifgo")
        inputs = x.shape[-1]
        return _by_kernel(x, h, c, rows[:, :inputs], rows[:, inputs:], offsets)
    output, last, cell, gates = _LSTM.apply(x, h, c, weight, bias, project, mask)
    return masked(output, mask), last, (cell, gates)


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
    output, gates = _GRU.apply(x, h, weight, bias, mask)
    return masked(output, mask), gates


def masked(output: Tensor, mask: Tensor | None) -> Tensor:
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
    return output, last[0], Unfolding(*kept)


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
    i, f, g, o = (x @ of_input.t() + _shifted(h, output) @ of_state.t() + bias).chunk(4, -1)
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


# ---- recurrences of our own


def _products(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b for all steps."""
    return torch.addmm(bias, x.flatten(0, 1), weight[: x.shape[-1]]).unflatten(0, x.shape[:2])


def _outer(states: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a weight by which the states of all steps were multiplied."""
    return states.flatten(0, 1).t() @ gradient.flatten(0, 1)


def _of_weight(x: Tensor, h: Tensor, output: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of the weight for input and state, given that of the products of all steps."""
    found = gradient.new_empty(x.shape[-1] + h.shape[-1], gradient.shape[-1])
    of_input, of_state = found.split((x.shape[-1], h.shape[-1]))
    torch.mm(x.flatten(0, 1).t(), gradient.flatten(0, 1), out=of_input)
    torch.mm(output[:-1].flatten(0, 1).t(), gradient[1:].flatten(0, 1), out=of_state)
    of_state.addmm_(h.t(), gradient[0])
    return found


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
            if masked is not None:
                cell_after.masked_fill_(masked, 0)
            torch.tanh(cell_after, out=hidden_after).mul_(o)
            if project is not None:
                torch.mm(hidden_after, project, out=h_after)
            h, c = h_after, cell_after
        ctx.save_for_backward(x, *start, weight, project, output, hidden, cell, gates, mask)
        ctx.mark_non_differentiable(cell, gates)
        ctx.set_materialize_grads(False)
        return output, cell[-1].clone(), cell, gates

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, grad_last: Tensor | None, *_: Any) -> Any:
        x, h, c, weight, project, output, hidden, cell, gates, mask = ctx.saved_tensors
        inputs = x.shape[-1]
        feedback = weight[inputs:].t()
        size = c.shape[-1]
        grad_output = torch.zeros_like(output) if grad_output is None else grad_output
        grad_c = torch.zeros_like(c) if grad_last is None else grad_last.clone()
        gradient, of_cell = _slopes(gates, cell, c, mask)
        of_o, of_g = gradient.chunk(4, -1)[2:]
        of_if = gradient[..., : 2 * size].unflatten(-1, (2, size))
        heads = torch.empty_like(output) if project is not None else None
        forget_gates = gates[..., size : 2 * size]
        steps = list(zip(gradient, of_if, of_o, of_g, of_cell, forget_gates, strict=True))
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
            _of_weight(x, h, output, gradient) if to_weight else None,
            gradient.sum((0, 1)) if to_bias else None,
            _outer(hidden, heads) if to_project and heads is not None else None,
            None,
        )


class _PeepholeLSTM(torch.autograd.Function):
    """{x, h, c, weight, bias, peepholes, mask} -> {outputs, last cell, cells, gates}"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor,
                peepholes: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:  # fmt: skip
        start, feedback, size = (h, c), weight[x.shape[-1] :], c.shape[-1]
        to_if, to_o = peepholes[:2], peepholes[2]
        gates = _products(x, weight, bias)
        cell, output = gates.new_empty(2, len(x), *c.shape)
        steps = zip(
            gates, gates[..., : 2 * size].unflatten(-1, (2, size)), *gates.chunk(4, -1), cell, output,
            mask if mask is not None else [None] * len(x), strict=True,
        )  # fmt: skip
        for products, both, i, f, o, g, cell_after, h_after, masked in steps:
            products.addmm_(h, feedback)
            both.addcmul_(c[:, None], to_if).sigmoid_()
            g.tanh_()
            if masked is not None:
                products.masked_fill_(masked, 0)
            torch.mul(f, c, out=cell_after).addcmul_(i, g)
            if masked is not None:
                cell_after.masked_fill_(masked, 0)
            o.addcmul_(cell_after, to_o).sigmoid_()
            if masked is not None:
                o.masked_fill_(masked, 0)
            torch.tanh(cell_after, out=h_after).mul_(o)
            h, c = h_after, cell_after
        ctx.save_for_backward(x, *start, weight, peepholes, output, cell, gates, mask)
        ctx.mark_non_differentiable(cell, gates)
        ctx.set_materialize_grads(False)
        return output, cell[-1].clone(), cell, gates

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, grad_last: Tensor | None, *_: Any) -> Any:
        x, h, c, weight, peepholes, output, cell, gates, mask = ctx.saved_tensors
        inputs, size = x.shape[-1], c.shape[-1]
        feedback = weight[inputs:].t()
        grad_output = torch.zeros_like(output) if grad_output is None else grad_output
        grad_c = torch.zeros_like(c) if grad_last is None else grad_last.clone()
        gradient, of_cell = _slopes(gates, cell, c, mask)
        of_o, of_g = gradient.chunk(4, -1)[2:]
        of_if = gradient[..., : 2 * size].unflatten(-1, (2, size))
        forget = gates[..., size : 2 * size]
        to_i, to_f, to_o = peepholes

        steps = list(zip(gradient, of_if, of_o, of_g, of_cell, forget, strict=True))
        grad_h = grad_output[-1]
        for t in range(len(x) - 1, -1, -1):
            products, step_if, step_o, step_g, step_cell, f = steps[t]
            step_o.mul_(grad_h)
            grad_c.addcmul_(grad_h, step_cell).addcmul_(step_o, to_o)
            step_if.mul_(grad_c[:, None])
            step_g.mul_(grad_c)
            grad_c.mul_(f).addcmul_(step_if[:, 0], to_i).addcmul_(step_if[:, 1], to_f)
            grad_h = torch.addmm(grad_output[t - 1], products, feedback) if t else products @ feedback

        to_x, _, _, to_weight, to_bias, to_peepholes, _ = ctx.needs_input_grad
        holes = None
        if to_peepholes:
            both = (of_if * _shifted(c, cell).unsqueeze(-2)).sum((0, 1))
            holes = torch.cat((both, (of_o * cell).sum((0, 1))[None]))
        return (
            gradient @ weight[:inputs].t() if to_x else None,
            grad_h,
            grad_c,
            _of_weight(x, h, output, gradient) if to_weight else None,
            gradient.sum((0, 1)) if to_bias else None,
            holes,
            None,
        )


def _slopes(gates: Tensor, cell: Tensor, c: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
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
    of_f.mul_(_shifted(c, cell))
    of_o.mul_(squashed)
    torch.addcmul(i, i * g, g, value=-1, out=of_g)
    if mask is not None:
        gradient.masked_fill_(mask, 0)
    return gradient, torch.addcmul(o, o * squashed, squashed, value=-1)


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
            if masked is not None:
                h.masked_fill_(masked, 0)
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
            gradient.masked_fill_(mask, 0)

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
