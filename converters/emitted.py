"""Classes that a written file may contain: the text of those that it uses is copied into it.

They depend on PyTorch alone.
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

    The prediction may be a tuple.  With `classes`, the target are classes, counted from 1; else a number for
    each of the prediction, or (`per_sample`) for each sample.  No gradient goes back to the target.
    """

    def __init__(self, loss: nn.Module, classes: bool = False, per_sample: bool = False) -> None:
        super().__init__(loss)
        self.classes, self.per_sample = classes, per_sample

    def forward(self, input: Any) -> Tensor:
        prediction, target = input
        predictions = prediction if isinstance(prediction, tuple) else (prediction,)
        if self.classes:
            target = target.long() - 1
        else:
            shape = predictions[0].shape
            target = target.detach().reshape(shape[:-1] if self.per_sample else shape)
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


class FixedFractionalMaxPool(nn.Module):
    """nn.FractionalMaxPool2d or 3d with windows that stay, those of a batch of the size `windows`.

    A batch of another size gets windows at random.
    """

    def __init__(
        self, kernel_size: Any, output_size: Any = None, output_ratio: Any = None, *, windows: Any
    ) -> None:
        super().__init__()
        self.sizes = kernel_size, output_size, output_ratio
        self.register_buffer("windows", torch.zeros(windows))

    def forward(self, input: Tensor) -> Tensor:
        windows: Any = self.windows
        dims = windows.shape[-1]
        pool = F.fractional_max_pool3d if dims == 3 else F.fractional_max_pool2d
        batch = len(input) if input.dim() == dims + 2 else 1
        return pool(input, *self.sizes, _random_samples=windows if len(windows) == batch else None)
