"""Classes of a written file, as in emitted.py: layers that PyTorch has as functions, and layers side by side.

A `forward` of one expression may also stand, as that expression, in the forward of a graph.
"""

# mypy: disable-error-code="no-untyped-call, override"
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Tensor = torch.Tensor


# ---- layers side by side


class Residual(nn.Module):
    """main(x) + shortcut(x); without a shortcut main(x) + x."""

    def __init__(self, main: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut or nn.Identity()

    def forward(self, input: Tensor) -> Tensor:
        return self.main(input) + self.shortcut(input)


class Branches(nn.Sequential):
    """What each of several layers gives for the same input, as a tuple."""

    def forward(self, input: Any) -> Any:
        return tuple(branch(input) for branch in self)


class Parallel(nn.Sequential):
    """What each of several layers gives for its own one of as many inputs, as a tuple."""

    def forward(self, input: Any) -> Any:
        return tuple(layer(x) for layer, x in zip(self, input, strict=False))


class Concat(nn.Sequential):
    """What several layers give for the same input, joined along a dimension."""

    def __init__(self, *branches: nn.Module, dim: int = 1) -> None:
        super().__init__(*branches)
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        return torch.cat([branch(input) for branch in self], self.dim)


class DepthConcat(nn.Sequential):
    """What several layers give for the same input, joined along a dimension.

    In the other dimensions smaller outputs get zeros around, one more behind than before if that is odd.
    """

    def __init__(self, *branches: nn.Module, dim: int = 1) -> None:
        super().__init__(*branches)
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        outputs = [branch(input) for branch in self]
        largest = [max(sizes) for sizes in zip(*[output.shape for output in outputs], strict=True)]
        largest[self.dim] = 0  # nothing is missing there
        return torch.cat([self.padded(output, largest) for output in outputs], self.dim)

    def padded(self, output: Tensor, size: list[int]) -> Tensor:
        missing = [max(n - own, 0) for n, own in zip(size, output.shape, strict=True)]
        padding = [side for n in reversed(missing) for side in (n // 2, n - n // 2)]
        return F.pad(output, padding) if any(padding) else output


class Batched(nn.Sequential):
    """Layers that take batches only, for a single sample (planes, height, width), too."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input[None])[0] if input.dim() == 3 else super().forward(input)


# ---- several inputs


class Total(nn.Module):
    """The sum of several inputs."""

    def forward(self, input: Any) -> Tensor:
        total, *others = input
        for other in others:
            total = total + other
        return total


class Product(nn.Module):
    """The product of several inputs, element by element."""

    def forward(self, input: Any) -> Tensor:
        product, *others = input
        for other in others:
            product = product * other
        return product


class Difference(nn.Module):
    """The first of two inputs less the second."""

    def forward(self, input: Any) -> Tensor:
        return input[0] - input[1]


class Quotient(nn.Module):
    """The first of two inputs divided by the second."""

    def forward(self, input: Any) -> Tensor:
        return input[0] / input[1]


class DotProduct(nn.Module):
    """The dot product of the rows of two inputs."""

    def forward(self, input: Any) -> Tensor:
        return (input[0] * input[1]).sum(-1)


class Join(nn.Module):
    """Several inputs side by side along a dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        return torch.cat(input, self.dim)


class Split(nn.Module):
    """The slices along a dimension, as a tuple."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Any:
        return input.unbind(self.dim)


class Entry(nn.Module):
    """One of several inputs."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, input: Any) -> Any:
        return input[self.index]


class Entries(nn.Module):
    """Some of several inputs, from `start` to before `stop`."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, input: Any) -> Any:
        return input[self.start : self.stop]


# ---- shapes and parts


class Reshape(nn.Module):
    """The elements in another shape, in which one size may be -1: what is left for it."""

    def __init__(self, *size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, input: Tensor) -> Tensor:
        return input.reshape(*self.size)


class ReshapeEach(nn.Module):
    """The elements of each sample in another shape, in which one size may be -1: what is left for it."""

    def __init__(self, *size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, input: Tensor) -> Tensor:
        return input.reshape(input.shape[0], *self.size)


class Transpose(nn.Module):
    """Swaps two dimensions."""

    def __init__(self, dim0: int, dim1: int) -> None:
        super().__init__()
        self.dim0, self.dim1 = dim0, dim1

    def forward(self, input: Tensor) -> Tensor:
        return input.transpose(self.dim0, self.dim1)


class Unsqueeze(nn.Module):
    """A new dimension of size 1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return input.unsqueeze(self.dim)


class Replicate(nn.Module):
    """A new dimension, along which the input is repeated."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.count, self.dim = count, dim

    def forward(self, input: Tensor) -> Tensor:
        return input.unsqueeze(self.dim).repeat_interleave(self.count, self.dim)


class Squeeze(nn.Module):
    """Without a dimension, which has size 1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return input.squeeze(self.dim)


class Select(nn.Module):
    """One slice along a dimension."""

    def __init__(self, dim: int, index: int) -> None:
        super().__init__()
        self.dim, self.index = dim, index

    def forward(self, input: Tensor) -> Tensor:
        return input.select(self.dim, self.index)


class Narrow(nn.Module):
    """`length` slices along a dimension."""

    def __init__(self, dim: int, start: int, length: int) -> None:
        super().__init__()
        self.dim, self.start, self.length = dim, start, length

    def forward(self, input: Tensor) -> Tensor:
        return input.narrow(self.dim, self.start, self.length)


# ---- numbers


class Scale(nn.Module):
    """The input times a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, input: Tensor) -> Tensor:
        return input * self.factor


class Shift(nn.Module):
    """The input plus a number."""

    def __init__(self, term: float) -> None:
        super().__init__()
        self.term = term

    def forward(self, input: Tensor) -> Tensor:
        return input + self.term


class Sum(nn.Module):
    """The sum along a dimension."""

    def __init__(self, dim: int, keepdim: bool = False) -> None:
        super().__init__()
        self.dim, self.keepdim = dim, keepdim

    def forward(self, input: Tensor) -> Tensor:
        return input.sum(self.dim, keepdim=self.keepdim)


class Mean(nn.Module):
    """The mean along a dimension."""

    def __init__(self, dim: int, keepdim: bool = False) -> None:
        super().__init__()
        self.dim, self.keepdim = dim, keepdim

    def forward(self, input: Tensor) -> Tensor:
        return input.mean(self.dim, keepdim=self.keepdim)


class Max(nn.Module):
    """The largest number along a dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return input.max(self.dim).values


class Min(nn.Module):
    """The smallest number along a dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return input.min(self.dim).values


class Normalize(nn.Module):
    """Rows divided by their p-norm, (sum(|x|^p) + eps)^(1/p)."""

    def __init__(self, p: float = 2, eps: float = 1e-10) -> None:
        super().__init__()
        self.p, self.eps = p, eps

    def forward(self, input: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(input, self.p, 1, keepdim=True)
        return input / (norm.pow(self.p) + self.eps).pow(1 / self.p)


class OneBasedEmbedding(nn.Embedding):
    """nn.Embedding for indices that count from 1, of any type."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.long() - 1)


class OneHot(nn.Module):
    """A row with a one, of so many classes, for each index, which counts from 1 and may be of any type."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.register_buffer("kind", torch.zeros(0))  # has the type of the rows

    def forward(self, input: Tensor) -> Tensor:
        kind: Any = self.kind
        return F.one_hot(input.long() - 1, self.classes).to(kind)


class FramesConv1d(nn.Conv1d):
    """nn.Conv1d over frames, (..., frames, channels)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose(-2, -1)).transpose(-2, -1)


class FramesMaxPool1d(nn.MaxPool1d):
    """nn.MaxPool1d over frames, (..., frames, channels)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose(-2, -1)).transpose(-2, -1)
