"""Layers that hand their input on as it is, in another shape, repeated or extended."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.module import Module, TensorLayer
from t7compat.nn.shapes import describe, expect, from_start, sizes
from t7compat.nn.stepping import ANY_DIMS
from t7compat.t7file.objects import LongStorage, Storage
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class Identity(Module):
    """y = x, for anything."""

    row_dims = ANY_DIMS

    def compute(self, input: Any) -> Any:
        return input

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Identity)


class PrintSize(Module):
    """y = x, and prints the size of the input and of gradOutput, after the prefix.  For anything."""

    def __init__(self, prefix: str = "PrintSize") -> None:
        super().__init__(prefix=prefix)

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Identity)

    def updateOutput(self, input: Any) -> Any:
        self._report("input", input)
        self.output = input
        return input

    # There is something to do when the gradient comes
    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:
        self._report("gradOutput", gradOutput)
        self.gradInput = gradOutput
        return gradOutput

    def _report(self, name: str, value: Any) -> None:
        text = "missing size" if value is None else str(value)
        if value is not None and not isinstance(value, Table):
            expect(value)
            width = max((len(str(n)) for n in value.shape), default=0) + 1
            lines = [f"{n:{width}}" for n in value.shape]
            text = "\n".join([*lines, f"[torch.LongStorage of size {value.dim()}]\n"])
        print(f"{self.prefix}:{name}\n\t{text}")


class Contiguous(TensorLayer):
    """y = x, in compact memory.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def compute(self, input: Tensor) -> Tensor:
        return input.contiguous()

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Identity)


class ZeroGrad(TensorLayer):
    """y = x, but no gradient goes back: gradInput is zeros.  any shape -> same shape"""

    def compute(self, input: Tensor) -> Tensor:
        return input.detach()


class Constant(Module):
    """The same value for any input.  (...) -> value, or (batch, ...) -> (batch, value)

    With `nInputDim`, an input of more dimensions is a batch, and there is one value for each sample.
    """

    nInputDim: int | None = None

    def __init__(self, value: float | Tensor, nInputDim: int | None = None) -> None:
        if not isinstance(value, int | float | Tensor):
            raise InputError(f"nn.Constant: expected a number or a tensor, got {describe(value)}")
        value = value if isinstance(value, Tensor) else new_tensor(1).fill_(value)
        super().__init__(value=value, nInputDim=nInputDim)

    def compute(self, input: Tensor) -> Tensor:
        is_batch = self.nInputDim is not None and input.dim() > self.nInputDim
        batch = input.shape[:1] if is_batch else ()
        return self.value.expand(*batch, *self.value.shape).clone()

    def prepare(self, input: Any) -> None:
        expect(input)


class Reshape(TensorLayer):
    """The elements in the given size.  (batch, ...) -> (batch, *size), or (...) -> (*size)

    `batchMode` (the last argument) says whether the first dimension is a batch.  Without it, it is one unless
    the number of elements is that of `size`; a first dimension of 1 is taken for a batch.
    """

    scratch = ("_input", "_gradOutput")
    batchMode: bool | None = None

    def __init__(self, *size: int | bool | Storage) -> None:
        *dims, last = size
        shape = sizes(*dims) if isinstance(last, bool) else sizes(*size)
        super().__init__(
            size=LongStorage(shape), batchsize=LongStorage((0, *shape)), nelement=math.prod(shape),
            batchMode=last if isinstance(last, bool) else None,
        )  # fmt: skip

    def compute(self, input: Tensor) -> Tensor:
        fits = input.numel() == self.nelement and input.shape[0] != 1
        if self.batchMode is False or (self.batchMode is None and fits):
            return input.reshape(*self.size)
        return input.reshape(input.shape[0], *self.size)

    def explain(self, input: Any) -> None:
        super().explain(input)
        raise InputError(f"expected samples of {self.nelement} elements, got {describe(input)}")

    def __str__(self) -> str:
        return f"{self.__typename__}({'x'.join(map(str, self.size))})"


class Sampled(TensorLayer, typename=""):
    """The base of layers that can be told how many dimensions a sample has: with more, there is a batch."""

    numInputDims: int | None = None

    def setNumInputDims(self, numInputDims: int | None) -> Any:
        """Say how many dimensions a sample has."""
        self.numInputDims = numInputDims
        return self


class View(Sampled):
    """The elements in the given size.  (batch, ...) -> (batch, *size), or (...) -> (*size)

    One of the sizes may be -1: what is left for it.  `setNumInputDims(n)` says that a sample has n
    dimensions; without it, what is left over is the batch.
    """

    def __init__(self, *size: int | Storage) -> None:
        super().__init__()
        self.resetSize(*size)

    def resetSize(self, *size: int | Storage) -> Any:
        """Choose another size."""
        shape = sizes(*size)
        if min(shape) < -1 or shape.count(-1) > 1:
            raise InputError(
                f"expected positive sizes, one of which may be -1, got {', '.join(map(str, shape))}"
            )
        self.size, self.numElements = LongStorage(shape), math.prod(n for n in shape if n >= 0)
        return self

    def compute(self, input: Tensor) -> Tensor:
        first = max(0, input.dim() - (self.numInputDims or input.dim()))  # dimension of a sample
        size = tuple(map(int, self.size))
        if first == 0 and (-1 in size or input.numel() == self.numElements):
            return input.reshape(size)
        return input.reshape(math.prod(input.shape[:first]) if -1 in size else -1, *size)

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        if input.dim() < (self.numInputDims or 0):
            raise InputError(f"expected samples of {self.numInputDims} dimensions, got {describe(input)}")
        sample = input.shape[max(0, input.dim() - (self.numInputDims or input.dim())) :]
        if sample.numel() % self.numElements:
            raise InputError(f"expected a multiple of {self.numElements} elements, got {describe(input)}")

    def __str__(self) -> str:
        return f"{self.__typename__}({', '.join(map(str, self.size))})"


class Collapse(TensorLayer):
    """Each sample, of nInputDim dimensions, as one row.  (batch, ...) -> (batch, n), or (...) -> (n)"""

    scratch = ("_input",)

    def __init__(self, nInputDim: int) -> None:
        super().__init__(nInputDim=nInputDim)

    def compute(self, input: Tensor) -> Tensor:
        return input.flatten(1) if input.dim() > self.nInputDim else input.flatten()

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Flatten)


class Transpose(Sampled):
    """Swaps pairs of dimensions, one pair after the other: `Transpose({1, 4}, {1, 3})`.

    After `setNumInputDims(n)` the dimensions are those of a sample of n dimensions, before which there may be
    more.
    """

    def __init__(self, *permutations: Any) -> None:
        super().__init__(permutations=Table.from_python(permutations))

    def compute(self, input: Tensor) -> Tensor:
        dims = input.dim()
        offset = 0 if self.numInputDims is None else dims - self.numInputDims
        for one, other in self.permutations:
            input = input.transpose(from_start(one + offset, dims), from_start(other + offset, dims))
        return input.contiguous()


class Squeeze(Sampled):
    """Without the dimension `dim` if that is of size 1; without `dim`, all dimensions of size 1.

    `numInputDims` is the number of dimensions of a sample: with one more, the first is a batch, which stays,
    and `dim` is counted after it.
    """

    dim: int | None = None

    def __init__(self, dim: int | None = None, numInputDims: int | None = None) -> None:
        super().__init__(dim=dim, numInputDims=numInputDims)

    def compute(self, input: Tensor) -> Tensor:
        is_batch = self.numInputDims is not None and input.dim() == self.numInputDims + 1
        if self.dim is not None:
            return input.squeeze(from_start(self.dim + is_batch, input.dim()))
        output = input.squeeze()
        return output.unsqueeze(0) if is_batch and len(input) == 1 else output

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        if input.numel() == 1 and self.compute(input).dim() == 0:
            raise InputError(
                f"expected more than one element, or a dimension that stays, got {describe(input)}"
            )


class Unsqueeze(Sampled):
    """With a new dimension of size 1 at `pos`.  (..., m, ...) -> (..., 1, m, ...)

    `numInputDims` is the number of dimensions of a sample, before which there may be more; without it, it is
    that of the first input.
    """

    def __init__(self, pos: int, numInputDims: int | None = None) -> None:
        super().__init__(pos=pos, numInputDims=numInputDims)

    def compute(self, input: Tensor) -> Tensor:
        offset = 0 if self.numInputDims is None else input.dim() - self.numInputDims
        return input.unsqueeze(from_start(self.pos + offset, input.dim() + 1))

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        if self.numInputDims is None:
            self.numInputDims = input.dim()
        if input.dim() < self.numInputDims:
            raise InputError(f"expected samples of {self.numInputDims} dimensions, got {describe(input)}")

    def __str__(self) -> str:
        return f"{self.__typename__}(dim {self.pos})"


class Replicate(TensorLayer):
    """`nf` times the same, along a new dimension at `dim`.  (..., m, ...) -> (..., nf, m, ...)

    `ndim` is the number of dimensions of a sample: with more, the first is a batch, after which `dim` is
    counted.  The copies share their memory.
    """

    dim: int = 1
    ndim: int | None = None

    def __init__(self, nf: int, dim: int | None = None, ndim: int | None = None) -> None:
        if dim is not None and dim <= 0:
            raise InputError(f"nn.Replicate: expected a positive dimension, got {dim}")
        super().__init__(nfeatures=nf, dim=dim or 1, ndim=ndim)

    def compute(self, input: Tensor) -> Tensor:
        is_batch = self.ndim is not None and input.dim() > self.ndim
        along = from_start(self.dim + is_batch, input.dim() + 1)
        size = [-1] * (input.dim() + 1)
        size[along] = self.nfeatures
        return input.unsqueeze(along).expand(size)


class Padding(TensorLayer):
    """|pad| slices full of `value` more along a dimension.  (..., n, ...) -> (..., n + |pad|, ...)

    They come before slice `index` if pad is negative, and after it, counted from the end, if it is positive.
    `nInputDim` is the number of dimensions of a sample: with another, the dimension is counted from the
    second.
    """

    value: float = 0
    index: int = 1
    nInputDim: int | None = None

    def __init__(
        self, dim: int, pad: int, nInputDim: int | None = None,
        value: float | None = None, index: int | None = None,
    ) -> None:  # fmt: skip
        index = 1 if index is None else index
        super().__init__(dim=dim, pad=pad, nInputDim=nInputDim, value=value or 0, index=index)
        self.outputSize = LongStorage()

    def compute(self, input: Tensor) -> Tensor:
        is_batch = self.nInputDim is not None and input.dim() != self.nInputDim
        along = from_start(self.dim + is_batch, input.dim())
        count = input.shape[along]
        place = from_start(self.index, count + 1)
        before, after = input.tensor_split([count - place if self.pad > 0 else place], along)
        size = list(input.shape)
        size[along] = int(abs(self.pad))  # of Lua, 0 may come as -0.0
        return torch.cat([before, input.new_full(size, self.value), after], along)
