"""Classes that a written file may contain: the text of those that it uses is copied into it.

They depend on PyTorch alone.  A sequence is a tuple of steps, or a tensor whose first dimension is time; a
layer over sequences gives back what it was given.
"""

# mypy: disable-error-code="no-untyped-call, override"
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Tensor = torch.Tensor


class Missing(nn.Sequential):
    """Stands for a layer that could not be converted, around those of its children: write its forward."""

    def __init__(self, *children: nn.Module, layer: str) -> None:
        super().__init__(*children)
        self.layer = layer

    def forward(self, input: Any) -> Any:
        raise NotImplementedError(f"{self.layer} was not converted: write its forward")


class TorchDropout(nn.Module):
    """Dropout that scales in evaluation instead of in training, or that drops in evaluation as well."""

    def __init__(self, p: float, scales_in_training: bool = True, always: bool = False) -> None:
        super().__init__()
        self.p, self.scales_in_training, self.always = p, scales_in_training, always

    def forward(self, input: Tensor) -> Tensor:
        output = F.dropout(input, self.p, self.training or self.always)
        return output if self.scales_in_training else output * (1 - self.p)


class PlaneDropout(nn.Module):
    """Drops whole planes of `dims` dimensions, and scales in evaluation or (`always`) drops then as well."""

    def __init__(self, p: float, dims: int = 2, always: bool = False) -> None:
        super().__init__()
        self.p, self.dims, self.always = p, dims, always

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training or self.always):
            return input * (1 - self.p)
        size = (*input.shape[: -self.dims], *(1,) * self.dims)
        return input * input.new_empty(size).bernoulli_(1 - self.p)


class WhiteNoise(nn.Module):
    """Adds numbers of the normal distribution in training, their mean in evaluation."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, input: Tensor) -> Tensor:
        return input + self.mean + (torch.randn_like(input) * self.std if self.training else 0)


class TotalDropout(nn.Module):
    """All zeros with probability p in training."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        return input * input.new_empty(()).bernoulli_(1 - self.p) if self.training else input


class Middle(nn.Module):
    """The middle of images, of a given size."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, input: Tensor) -> Tensor:
        top = max((input.shape[-2] - self.height + 1) // 2 - 1, 0)
        left = max((input.shape[-1] - self.width + 1) // 2 - 1, 0)
        return input[..., top : top + self.height, left : left + self.width]


class First(nn.Module):
    """The first of several inputs."""

    def forward(self, input: Any) -> Any:
        return input[0]


class GammaMean(nn.Module):
    """The means of gamma distributions, from their shape and scale (None: the input has both)."""

    def __init__(self, scale: float | None) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, input: Any) -> Tensor:
        return input[0] * input[1] if self.scale is None else input * self.scale


class NormalizedClasses(nn.Linear):
    """The probabilities of classes, or their logarithms, of a layer trained by noise contrastive estimation.

    Its input is a tuple, of which the first entry counts.
    """

    def __init__(self, inputs: int, outputs: int, logarithms: bool) -> None:
        super().__init__(inputs, outputs)
        self.logarithms = logarithms

    def forward(self, input: Any) -> Tensor:
        scores = super().forward(input[0])
        return F.log_softmax(scores, 1) if self.logarithms else F.softmax(scores, 1)


class Loss(nn.Sequential):
    """A loss as a layer: (prediction, target) -> a tensor of one number.

    The prediction may be a tuple.  With `classes`, the target are classes, counted from 1.  No gradient goes
    back to the target.
    """

    def __init__(self, loss: nn.Module, classes: bool = False) -> None:
        super().__init__(loss)
        self.classes = classes

    def forward(self, input: Any) -> Tensor:
        prediction, target = input
        predictions = prediction if isinstance(prediction, tuple) else (prediction,)
        target = target.long() - 1 if self.classes else target.detach()
        return self[0](*predictions, target).reshape(1)


class InType(nn.Sequential):
    """Layers that work in another type ("float32") than those around them ("float64"); None: as it comes."""

    def __init__(self, *children: nn.Module, inside: str | None, outside: str | None) -> None:
        super().__init__(*children)
        self.inside, self.outside = inside, outside

    def cast(self, value: Any, name: str | None) -> Any:
        if isinstance(value, tuple):
            return tuple([self.cast(part, name) for part in value])
        return value.to(getattr(torch, name)) if name and value.is_floating_point() else value

    def forward(self, input: Any) -> Any:
        return self.cast(super().forward(self.cast(input, self.inside)), self.outside)


class MaxUnpool(nn.Module):
    """Puts each value where a max pooling, which ran before, has found its maximum; zeros elsewhere."""

    def __init__(self, pool: nn.Module, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
        super().__init__()
        self.sizes, self.ceil_mode = (kernel, stride, padding), ceil_mode
        self.pool = pool
        pool.register_forward_hook(self.remember)

    def remember(self, pool: nn.Module, inputs: Any, output: Any) -> None:
        self.pooled = inputs[0]

    def forward(self, input: Tensor) -> Tensor:
        is_volume = len(self.sizes[0]) == 3
        pool = F.max_pool3d if is_volume else F.max_pool2d
        unpool = F.max_unpool3d if is_volume else F.max_unpool2d
        _, where = pool(self.pooled, *self.sizes, ceil_mode=self.ceil_mode, return_indices=True)
        return unpool(input, where, *self.sizes, self.pooled.shape)


class EachStep(nn.Sequential):
    """Applies its layers to each step of a sequence: a tuple of steps, or a tensor (steps, ...)."""

    def forward(self, input: Any) -> Any:
        outputs = tuple(map(super().forward, input))
        return torch.stack(outputs) if isinstance(input, torch.Tensor) else outputs


class OneStep(nn.Sequential):
    """A recurrent layer applied to one step, from its initial state."""

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


class SequenceLSTM(nn.LSTM):
    """nn.LSTM over a sequence: a tuple of steps (..., inputs), or a tensor (steps, ..., inputs)."""

    def forward(self, input: Any) -> Any:
        if isinstance(input, torch.Tensor):
            return super().forward(input)[0]
        return super().forward(torch.stack(input))[0].unbind()


class StartedLSTM(nn.LSTM):
    """nn.LSTM over a tensor (steps, batch, inputs), which gives the outputs alone.

    The input may also be (output before, tensor) or (cell before, output before, tensor).
    """

    def forward(self, input: Any) -> Any:
        if isinstance(input, torch.Tensor):
            return super().forward(input)[0]
        *cell, output, x = input
        c = cell[0] if cell else x.new_zeros(len(output), self.hidden_size)
        return super().forward(x, (output[None], c[None]))[0]


def over_steps(layer: Any, input: Any, *sizes: int) -> Tensor:
    """The outputs of a layer's `step`s over a tensor (steps, batch, inputs), which may follow its state.

    `sizes` are those of the parts of the state, of which the last one is the output.  If the layer `restarts`
    the state is zero where the input of a step is.
    """
    *state, x = input if isinstance(input, tuple) else (input,)
    x = x.transpose(0, 1) if layer.batch_first else x
    missing = sizes[: len(sizes) - len(state)]
    state = [*(x.new_zeros(x.shape[1], size) for size in missing), *state]
    outputs = []
    for product, restart in zip(layer.input(x), (x == 0).all(-1, keepdim=True), strict=True):
        state = layer.step(product, *state)
        if layer.restarts:
            state = [part.masked_fill(restart, 0) for part in state]
        outputs.append(state[-1])
    return torch.stack(outputs, 1 if layer.batch_first else 0)


class SteppedLSTM(nn.Module):
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

    def forward(self, input: Any) -> Any:
        return over_steps(self, input, *self.sizes)

    def step(self, product: Tensor, c: Tensor, h: Tensor) -> Any:
        i, f, g, o = (product + self.hidden(h)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return c, self.projection(torch.sigmoid(o) * torch.tanh(c))


class SteppedGRU(nn.Module):
    """GRU whose reset gate acts before the product, which nn.GRU's does not.  See `over_steps`.

    The rows of `input` are those of the reset gate, the update gate and the new values.
    """

    def __init__(
        self, input_size: int, hidden_size: int, batch_first: bool = False, restarts: bool = False
    ) -> None:
        super().__init__()
        self.size, self.batch_first, self.restarts = hidden_size, batch_first, restarts
        self.input = nn.Linear(input_size, 3 * hidden_size)
        self.gates = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.new = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, input: Any) -> Any:
        return over_steps(self, input, self.size)

    def step(self, product: Tensor, h: Tensor) -> Any:
        *gates, g = product.chunk(3, -1)
        r, z = torch.sigmoid(torch.cat(gates, -1) + self.gates(h)).chunk(2, -1)
        g = torch.tanh(g + self.new(r * h))
        return ((1 - z) * g + z * h,)


class PeepholeLSTM(nn.Module):
    """LSTM with peepholes over a sequence: a tuple of steps (..., inputs), or a tensor (steps, ..., inputs).

    The rows of the weights are those of the input gate, the forget gate, the new values and the output gate.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input = nn.Linear(input_size, 4 * hidden_size)
        self.hidden = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.peephole = nn.Parameter(torch.zeros(3, hidden_size))  # to the input, forget and output gate

    def forward(self, input: Any) -> Any:
        outputs = []
        products = self.input(input if isinstance(input, torch.Tensor) else torch.stack(input))
        to_input, to_forget, to_output = self.peephole
        h = c = torch.zeros_like(products[0].chunk(4, -1)[0])
        for product in products:
            i, f, g, o = (product + self.hidden(h)).chunk(4, -1)
            i, f = torch.sigmoid(i + to_input * c), torch.sigmoid(f + to_forget * c)
            c = f * c + i * torch.tanh(g)
            h = torch.sigmoid(o + to_output * c) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs) if isinstance(input, torch.Tensor) else tuple(outputs)


class Unrolled(nn.Sequential):
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

    def forward(self, input: Any) -> Any:
        outputs = []
        state = self.zeros(self.sizes, input[0].shape[: input[0].dim() - self.dims])
        for x in input:
            state = super().forward((x, *state))
            state = (state,) if len(self.sizes) == 1 else state
            outputs.append(state[0])
        return torch.stack(outputs) if isinstance(input, torch.Tensor) else tuple(outputs)
