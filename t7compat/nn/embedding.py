"""A table of vectors, looked up by index."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.descent import limit_norms
from t7compat.nn.module import Module
from t7compat.nn.shapes import expect, zero_based
from t7compat.tensortypes import convert, new_tensor, parse

Tensor = torch.Tensor


class LookupTable(Module):
    """Row i of the weight for each index i of 1..nIndex.  (n) or (batch, n) -> (..., nOutput)

    The gradient of the row `paddingValue` stays zero; with `maxNorm`, the rows in use are scaled down to that
    norm (of type `normType`) at each forward.
    """

    __version__ = 4
    parameter_names = ("weight",)
    scratch = ("_count", "_input")
    updates_when_shared = True
    paddingValue: int = 0
    maxNorm: float | None = None
    normType: float | None = None
    shouldScaleGradByFreq: bool | None = None

    def __init__(
        self,
        nIndex: int,
        nOutput: int,
        paddingValue: int = 0,
        maxNorm: float | None = None,
        normType: float | None = None,
    ) -> None:
        super().__init__(
            weight=new_tensor(nIndex, nOutput),
            gradWeight=new_tensor(nIndex, nOutput),
            paddingValue=paddingValue or 0,
            maxNorm=maxNorm,
            normType=normType,
        )
        self.reset()

    def compute(self, input: Tensor, weight: Tensor) -> Tensor:
        padding = zero_based(self.paddingValue) if 0 < self.paddingValue <= len(weight) else None
        norm, by_frequency = self.normType or 2, bool(self.shouldScaleGradByFreq)
        return F.embedding(zero_based(input), weight, padding, self.maxNorm, norm, by_frequency)

    @property
    def row_dims(self) -> Collection[int]:  # type: ignore[override]
        return () if self.shouldScaleGradByFreq else (0, 1)

    def prepare(self, input: Any) -> None:
        expect(input, 1, 2)

    def explain(self, input: Any) -> None:
        wrong = input[(input < 1) | (input > len(self.weight))]
        if wrong.numel():
            raise InputError(f"expected indices from 1 to {len(self.weight)}, got {wrong[0].item():g}")

    def accUpdateOnly(self) -> Any:
        """Do without gradWeight: the table is trained by accUpdateGradParameters only."""
        vars(self).pop("gradWeight", None)
        return self

    def setPadding(self, paddingValue: int) -> Any:
        """Choose the index whose row gets no gradient (0: none)."""
        self.paddingValue = paddingValue
        return self

    def setMaxNorm(self, maxNorm: float) -> Any:
        """Limit the norm of the rows."""
        self.maxNorm = maxNorm
        return self

    def setNormType(self, normType: float) -> Any:
        """Choose the norm (2 is the Euclidean one) that maxNorm limits."""
        self.normType = normType
        return self

    def scaleGradByFreq(self) -> Any:
        """Divide the gradient of a row by the number of times it occurs in the input."""
        self.shouldScaleGradByFreq = True
        return self

    def maxParamNorm(self, maxOutNorm: float | None = None, maxInNorm: float | None = None) -> None:
        """Limit the norm of the columns, also to `maxInNorm` if that alone is given, then of the rows."""
        limit_norms(self.weight, 1, self.maxOutNorm or maxOutNorm or self.maxInNorm or maxInNorm)
        limit_norms(self.weight, 0, maxInNorm)

    def reset(self, stdv: float | None = None) -> None:
        mersenne.normal_(self.weight, 0, stdv or 1)

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        result = super().type(type, tensorCache)
        if type is not None and type.startswith("torch.Cuda"):
            names = dict.fromkeys(("_sorted", "_indices", "_count", "_input"), "torch.CudaLongTensor")
        else:
            names = {"_count": "torch.IntTensor", "_input": "torch.LongTensor"}
        if type is not None:  # scratch tensors of Torch7, which have types of their own
            vars(self).update((name, convert(torch.empty(0), parse(kind))) for name, kind in names.items())
        return result
