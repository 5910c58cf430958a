"""Classes of a written file, as in emitted.py: layers over sequences, and masks.

A sequence is a tuple of steps, or a tensor whose first dimension is time; a layer gives back what it was
given.  The recurrent ones are a Recurrence: `forward(input, state=None)` gives (output, state after it).
"""

# mypy: disable-error-code="no-untyped-call, override, misc"
from __future__ import annotations

from typing import Any

import torch
from torch import nn

from converters.emitted_states import Recurrence

Tensor = torch.Tensor


class MaskZero(nn.Sequential):
    """Zeroes the output of its layers for the samples whose input, or the first of it, is all zeros.

    A sample has `dims` dimensions (None: all but the first).
    """

    def __init__(self, *children: nn.Module, dims: int | None) -> None:
        super().__init__(*children)
        self.dims = dims

    def masked(self, value: Any, mask: torch.Tensor) -> Any:
        if isinstance(value, tuple):
            return tuple([self.masked(part, mask) for part in value])
        return value.masked_fill(mask.reshape(mask.shape + (1,) * (value.dim() - mask.dim())), 0)

    def forward(self, input: Any) -> Any:
        first = input
        while isinstance(first, tuple):
            first = first[0]
        samples = first.shape[:1] if self.dims is None else first.shape[: first.dim() - self.dims]
        mask = (first == 0).reshape(*samples, -1).all(-1)
        return self.masked(super().forward(input), mask)


class Recurrent(Recurrence, nn.Sequential):
    """Runs one layer on the first step of a sequence, and another one on {x, last output} for the others.

    The state is the last output.
    """

    def forward(self, input: Any, state: Any = None) -> Any:
        first, later = self
        outputs: list[Any] = []
        for x in input:
            state = first(x) if state is None else later((x, state))
            outputs.append(state)
        return torch.stack(outputs) if isinstance(input, torch.Tensor) else tuple(outputs), state


class Repeated(nn.Sequential):
    """Runs layers over sequences on one that has the same input at each of its `steps`."""

    def __init__(self, *children: nn.Module, steps: int) -> None:
        super().__init__(*children)
        self.steps = steps

    def forward(self, input: Any) -> Any:
        return super().forward((input,) * self.steps)


class EachStep(nn.Sequential):
    """Applies its layers to each step of a sequence: a tuple of steps, or a tensor (steps, ...)."""

    def forward(self, input: Any) -> Any:
        outputs = tuple(map(super().forward, input))
        return torch.stack(outputs) if isinstance(input, torch.Tensor) else outputs


class OneStep(nn.Sequential):
    """A layer over sequences applied to one step."""

    def forward(self, input: Any) -> Any:
        return super().forward((input,))[0]


class Transposed(nn.Sequential):
    """Turns a tuple of sequences into a sequence of tuples, and back."""

    def forward(self, input: Any) -> Any:
        return tuple(zip(*input, strict=True))


class OverSteps(nn.Sequential):
    """Layers that take and give tuples of steps, for sequences that may be tensors, too."""

    def forward(self, input: Any) -> Any:
        outputs = super().forward(tuple(input))
        return torch.stack(outputs) if isinstance(input, torch.Tensor) else outputs


class SequenceLSTM(Recurrence, nn.LSTM):
    """nn.LSTM over a sequence: a tuple of steps (..., inputs), or a tensor (steps, ..., inputs)."""

    def forward(self, input: Any, state: Any = None) -> Any:
        is_tensor = isinstance(input, torch.Tensor)
        output, state = super().forward(input if is_tensor else torch.stack(input), state)
        return output if is_tensor else output.unbind(), state


class StartedLSTM(Recurrence, nn.LSTM):
    """nn.LSTM whose input may also be (output before, input) or (cell before, output before, input)."""

    def forward(self, input: Any, state: Any = None) -> Any:
        if isinstance(input, tuple):
            *cell, output, input = input
            c = cell[0] if cell else input.new_zeros(len(output), self.hidden_size)
            state = output[None], c[None]
        return super().forward(input, state)


def over_steps(layer: Any, input: Any, state: Any, *sizes: int) -> Any:
    """The outputs of a layer's `step`s over a tensor (steps, batch, inputs), and the state after them.

    The tensor may follow the state before it.  `sizes` are those of the parts of the state, of which the last
    one is the output.  If the layer `restarts` the state is zero where the input of a step is.
    """
    *given, x = input if isinstance(input, tuple) else (input,)
    state = given or state or ()
    x = x.transpose(0, 1) if layer.batch_first else x
    missing = sizes[: len(sizes) - len(state)]
    state = [*(x.new_zeros(*x.shape[1:-1], size) for size in missing), *state]
    outputs = []
    for product, restart in zip(layer.input(x), (x == 0).all(-1, keepdim=True), strict=True):
        state = layer.step(product, *state)
        if layer.restarts:
            state = [part.masked_fill(restart, 0) for part in state]
        outputs.append(state[-1])
    return torch.stack(outputs, 1 if layer.batch_first else 0), tuple(state)


class SteppedLSTM(Recurrence):
    """LSTM, perhaps with a projection of its outputs; the state is (cell, output).  See `over_steps`.

    The rows of the weights are those of the input gate, the forget gate, the new values and the output gate.
    """

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int | None = None,
        batch_first: bool = False, restarts: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        outputs = output_size or hidden_size
        self.sizes, self.batch_first, self.restarts = (hidden_size, outputs), batch_first, restarts
        self.input = nn.Linear(input_size, 4 * hidden_size)
        self.hidden = nn.Linear(outputs, 4 * hidden_size, bias=False)
        self.projection = nn.Linear(hidden_size, outputs, bias=False) if output_size else nn.Identity()

    def forward(self, input: Any, state: Any = None) -> Any:
        return over_steps(self, input, state, *self.sizes)

    def step(self, product: Tensor, c: Tensor, h: Tensor) -> Any:
        i, f, g, o = (product + self.hidden(h)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return c, self.projection(torch.sigmoid(o) * torch.tanh(c))


class SteppedGRU(Recurrence):
    """GRU whose reset gate acts before the product, which nn.GRU's does not.  See `over_steps`.

    The rows of `input` are those of the reset gate, the update gate and the new values.  The state is a tuple
    with the last output.
    """

    def __init__(
        self, input_size: int, hidden_size: int, batch_first: bool = False, restarts: bool = False
    ) -> None:
        super().__init__()
        self.size, self.batch_first, self.restarts = hidden_size, batch_first, restarts
        self.input = nn.Linear(input_size, 3 * hidden_size)
        self.gates = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.new = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, input: Any, state: Any = None) -> Any:
        return over_steps(self, input, state, self.size)

    def step(self, product: Tensor, h: Tensor) -> Any:
        *gates, g = product.chunk(3, -1)
        r, z = torch.sigmoid(torch.cat(gates, -1) + self.gates(h)).chunk(2, -1)
        g = torch.tanh(g + self.new(r * h))
        return ((1 - z) * g + z * h,)


class SequenceGRU(SteppedGRU):
    """The same over a sequence: a tuple of steps (..., inputs), or a tensor (steps, ..., inputs)."""

    def forward(self, input: Any, state: Any = None) -> Any:
        is_tensor = isinstance(input, torch.Tensor)
        output, state = super().forward(input if is_tensor else torch.stack(input), state)
        return output if is_tensor else output.unbind(), state


class PeepholeLSTM(Recurrence):
    """LSTM with peepholes over a sequence: a tuple of steps (..., inputs), or a tensor (steps, ..., inputs).

    The rows of the weights are those of the input gate, the forget gate, the new values and the output gate.
    The state is (output, cell).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input = nn.Linear(input_size, 4 * hidden_size)
        self.hidden = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.peephole = nn.Parameter(torch.zeros(3, hidden_size))  # to the input, forget and output gate

    def forward(self, input: Any, state: Any = None) -> Any:
        outputs = []
        products = self.input(input if isinstance(input, torch.Tensor) else torch.stack(input))
        to_input, to_forget, to_output = self.peephole
        h, c = state or [torch.zeros_like(products[0].chunk(4, -1)[0])] * 2
        for product in products:
            i, f, g, o = (product + self.hidden(h)).chunk(4, -1)
            i, f = torch.sigmoid(i + to_input * c), torch.sigmoid(f + to_forget * c)
            c = f * c + i * torch.tanh(g)
            h = torch.sigmoid(o + to_output * c) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs) if isinstance(input, torch.Tensor) else tuple(outputs), (h, c)


class Unrolled(Recurrence, nn.Sequential):
    """Runs a network {x, state...} -> state over a sequence; the first part of the state is the output.

    `sizes` are those of the parts of the state, without the batch, and `dims` is the number of dimensions of
    a sample.
    """

    def __init__(self, step: nn.Module, sizes: tuple[tuple[int, ...], ...], dims: int = 1) -> None:
        super().__init__(step)
        self.sizes, self.dims = sizes, dims

    def zeros(self, size: Any, batch: Any) -> Any:
        if isinstance(size[0], tuple):
            return tuple(self.zeros(part, batch) for part in size)
        return next(self.parameters()).new_zeros(*batch, *size)

    def forward(self, input: Any, state: Any = None) -> Any:
        outputs = []
        state = state or self.zeros(self.sizes, input[0].shape[: input[0].dim() - self.dims])
        for x in input:
            state = super().forward((x, *state))
            state = (state,) if len(self.sizes) == 1 else state
            outputs.append(state[0])
        return torch.stack(outputs) if isinstance(input, torch.Tensor) else tuple(outputs), state
