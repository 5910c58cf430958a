"""Products of the two tensors in a table."""

from __future__ import annotations

from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.linear import draw
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect, expect_fit, expect_pair, like
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor
Pair = tuple[Tensor, Tensor]


class Bilinear(Module):
    """y_k = x1^T W_k x2 + b_k.  {(batch, inputSize1), (batch, inputSize2)} -> (batch, outputSize)

    As in Torch7, the `scale` of accGradParameters is for the bias only.
    """

    parameter_names = ("weight", "bias")
    scratch = ("buff1", "buff2")
    updates_when_shared = True
    bias: Tensor | None = None

    def __init__(self, inputSize1: int, inputSize2: int, outputSize: int, bias: bool | None = True) -> None:
        size = inputSize1, inputSize2, outputSize
        if not all(isinstance(n, int) and n > 0 for n in size):
            raise InputError(f"{self.__typename__}: expected sizes above 0, got {size}")
        size = outputSize, inputSize1, inputSize2
        super().__init__(weight=new_tensor(*size), gradWeight=new_tensor(*size))
        if bias or bias is None:
            self.bias, self.gradBias = new_tensor(outputSize), new_tensor(outputSize)
        self.gradInput = Table(new_tensor(), new_tensor())
        self.reset()

    def compute(self, input: Pair, weight: Tensor, bias: Tensor | None) -> Tensor:
        first, second = input
        outputs, _, size = weight.shape
        products = (first @ weight.transpose(0, 1).flatten(1)).reshape(-1, outputs, size)
        output = (products @ second[..., None])[..., 0]  # several times as fast as F.bilinear
        return output if bias is None else output + bias

    def prepare(self, input: Any) -> None:
        expect_pair(input, 2)
        for value, size in zip(input, self.weight.shape[1:], strict=True):
            expect(value, 2, size=size, like=self.weight)
        expect(input[1], size=len(input[0]), at=0)

    def accumulate(self, name: str, gradient: Tensor, scale: float) -> None:
        super().accumulate(name, gradient, scale if name == "bias" else 1)

    def reset(self, stdv: float | None = None) -> Any:
        draw(stdv, self.weight.shape[1], self.weight, self.bias)
        return self

    def __str__(self) -> str:
        outputs, first, second = self.weight.shape
        without = "" if self.bias is not None else " without bias"
        return f"{self.__typename__}({first}x{second} -> {outputs}) {without}"


class DotProduct(Module):
    """The scalar product of two vectors.  {(n), (n)} -> (1), or with a batch -> (batch)"""

    scratch = ("buffer",)

    def __init__(self) -> None:
        super().__init__(gradInput=Table(new_tensor(), new_tensor()))

    def compute(self, input: Pair) -> Tensor:
        first, second = input
        return (first * like(second, first)).sum(-1, first.dim() == 1)

    def prepare(self, input: Any) -> None:
        expect_pair(input, 1, 2)
        expect_fit("second entry", input[1], input[0])


class MM(Module):
    """A B, either of them transposed before.  {(n, k), (k, m)} -> (n, m), or with a batch before each"""

    transA = False
    transB = False

    def __init__(self, transA: bool | None = False, transB: bool | None = False) -> None:
        super().__init__(
            transA=bool(transA), transB=bool(transB), gradInput=Table(new_tensor(), new_tensor())
        )

    def compute(self, input: Pair) -> Tensor:
        a, b = input
        a, b = a.mT if self.transA else a, b.mT if self.transB else b
        return a.bmm(b) if a.dim() == 3 else a.mm(b)

    def prepare(self, input: Any) -> None:
        expect_pair(input, 2, 3)

    def explain(self, input: Any) -> None:
        raise InputError(f"expected two matrices, or batches of such, to multiply, got {describe(input)}")


class MV(Module):
    """M v, with M transposed before if `trans`.  {(n, k), (k)} -> (n), or with a batch before each"""

    trans = False

    def __init__(self, trans: bool | None = False) -> None:
        if not isinstance(trans, bool | None):
            raise InputError(f"{self.__typename__}: expected true or false, got {describe(trans)}")
        super().__init__(trans=bool(trans), gradInput=Table(new_tensor(), new_tensor()))

    def compute(self, input: Pair) -> Tensor:
        matrix, vector = input
        matrix = matrix.mT if self.trans else matrix
        return matrix.bmm(vector[..., None])[..., 0] if matrix.dim() == 3 else matrix.mv(vector)

    def prepare(self, input: Any) -> None:
        expect_pair(input, 1, 2, 3)
        expect(input[0], 2, 3)
        expect(input[1], input[0].dim() - 1)

    def explain(self, input: Any) -> None:
        raise InputError(f"expected a matrix and a vector, or batches, to multiply, got {describe(input)}")
