"""Transfer functions with kinks.  At a kink, the slope is that of Torch7."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.containers import Child, ConcatTable, Sequential
from t7compat.nn.module import Module, TensorLayer
from t7compat.nn.shapes import expect
from t7compat.nn.shaping import Identity
from t7compat.nn.stepping import ANY_DIMS
from t7compat.nn.tables import JoinTable
from t7compat.nn.transfer import MulConstant, Native, Tensor, flag
from t7compat.tensortypes import new_tensor


class Abs(TensorLayer):
    """|x|, of slope 1 at 0.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def compute(self, input: Tensor) -> Tensor:
        return torch.where(input >= 0, input, -input)


# ---- between bounds


class HardTanh(TensorLayer):
    """x, but at least min_val and at most max_val; of slope 0 at both.  any shape -> same shape"""

    row_dims = ANY_DIMS
    min_val: float = -1
    max_val: float = 1

    def __init__(self, min_value: float = -1, max_value: float = 1, inplace: bool = False) -> None:
        if max_value <= min_value:
            raise InputError(
                f"{self.__typename__}: expected max_value above min_value, got {min_value} and {max_value}"
            )
        super().__init__(min_val=min_value, max_val=max_value, inplace=flag(inplace))

    def compute(self, input: Tensor) -> Tensor:
        return F.hardtanh(input, self.min_val, self.max_val)

    def native(self) -> Native:
        return functools.partial(torch.nn.Hardtanh, self.min_val, self.max_val)


class Clamp(HardTanh):
    """x, but at least min_value and at most max_value.  any shape -> same shape"""

    def __init__(self, min_value: float = -1, max_value: float = 1) -> None:
        super().__init__(min_value, max_value)


class ReLU6(TensorLayer):
    """x, but at least 0 and at most 6; of slope 0 at both.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=flag(inplace))

    def compute(self, input: Tensor) -> Tensor:
        return F.relu6(input)

    def native(self) -> Native:
        return functools.partial(torch.nn.ReLU6)


# ---- zero around zero


class Shrink(TensorLayer, typename=""):
    """The base of the functions that are 0 from -lambda to lambda, in Python `lambda_`."""

    def __init__(self, lambda_: float = 0.5) -> None:
        super().__init__(**{"lambda": lambda_})

    @property
    def lambda_(self) -> float:
        """The field `lambda`, a name that Python keeps for itself."""
        value: float = vars(self)["lambda"]
        return value


class HardShrink(Shrink):
    """x, but 0 from -lambda to lambda.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def compute(self, input: Tensor) -> Tensor:
        return F.hardshrink(input, self.lambda_)

    def native(self) -> Native:
        return functools.partial(torch.nn.Hardshrink, self.lambda_)


class SoftShrink(Shrink):
    """x moved towards 0 by lambda, and 0 from -lambda to lambda.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def compute(self, input: Tensor) -> Tensor:
        return F.softshrink(input, self.lambda_)

    def native(self) -> Native:
        return functools.partial(torch.nn.Softshrink, self.lambda_)


# ---- rectifiers


class Threshold(TensorLayer):
    """x where it is above `threshold`, else `val`.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def __init__(self, threshold: float = 1e-6, value: float = 0, inplace: bool = False) -> None:
        if flag(inplace) and value > threshold:
            raise InputError(
                f"nn.Threshold: expected a value up to the threshold ({threshold:g}) in place, got {value:g}"
            )
        super().__init__(threshold=threshold, val=value, inplace=flag(inplace))

    def compute(self, input: Tensor) -> Tensor:
        return F.threshold(input, self.threshold, self.val)

    def native(self) -> Native:
        return functools.partial(torch.nn.Threshold, self.threshold, self.val)


class ReLU(Threshold):
    """max(x, 0), of slope 0 at 0.  any shape -> same shape"""

    row_dims = ANY_DIMS

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0, 0, inplace)

    def compute(self, input: Tensor) -> Tensor:
        return torch.relu(input)

    def native(self) -> Native:
        return functools.partial(torch.nn.ReLU)


class LeakyReLU(TensorLayer):
    """x where it is positive, else negval x.  any shape -> same shape

    As in Torch7, a boolean in the place of `negval` means 1/100, and says nothing about `inplace`.
    """

    row_dims = ANY_DIMS

    def __init__(self, negval: float | bool = 1 / 100, inplace: bool = False) -> None:
        negval = 1 / 100 if isinstance(negval, bool) else negval
        super().__init__(negval=negval, inplace=bool(inplace) and negval >= 0)

    def compute(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negval)

    def native(self) -> Native:
        return functools.partial(torch.nn.LeakyReLU, self.negval)

    def __str__(self) -> str:
        return f"{self.__typename__}({self.negval:g})"


class PReLU(Module):
    """x where it is positive, else w x.  any shape -> same shape

    There is one w for each plane, or (nOutputPlane 0) one for all.  The planes are along dimension 1 of a
    vector, and along dimension 2 of anything else.  He et al., 2015.
    """

    parameter_names = ("weight",)
    scratch = ("gradWeightBuf", "gradWeightBuf2")

    def __init__(self, nOutputPlane: int | None = None) -> None:
        count = nOutputPlane or 1
        super().__init__(
            nOutputPlane=nOutputPlane or 0, weight=new_tensor(count).fill_(0.25), gradWeight=new_tensor(count)
        )

    def compute(self, input: Tensor, weight: Tensor) -> Tensor:
        batch = input if input.dim() > 1 else input[None]
        return F.prelu(batch, weight).reshape(input.shape)

    def prepare(self, input: Any) -> None:
        expect(input, like=self.weight)
        if self.nOutputPlane:
            expect(input, size=self.nOutputPlane, at=min(1, input.dim() - 1))

    def native(self) -> Native:
        return functools.partial(torch.nn.PReLU, self.weight.numel())


class RReLU(TensorLayer):
    """x where it is positive, else r x.  any shape -> same shape

    In training each r is drawn between `lower` and `upper`, and `noise` keeps the slopes; in evaluation r is
    their mean.  Xu et al., 2015.
    """

    scratch = ("noise",)

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        if not 0 <= lower <= upper:
            raise InputError(f"nn.RReLU: expected 0 <= lower <= upper, got {lower} and {upper}")
        super().__init__(lower=lower, upper=upper, noise=new_tensor(), train=True, inplace=bool(inplace))

    def compute(self, input: Tensor) -> Tensor:
        if self.train:
            return input * self.noise
        return F.leaky_relu(input, (self.lower + self.upper) / 2)

    def prepare(self, input: Any) -> None:
        super().prepare(input)
        if self.train:
            low = input <= 0
            slopes = mersenne.uniform_(input.new_empty(int(low.sum())), self.lower, self.upper)
            self.noise = torch.ones_like(input, requires_grad=False).masked_scatter_(low, slopes)

    def native(self) -> Native:
        return functools.partial(torch.nn.RReLU, self.lower, self.upper)

    def __str__(self) -> str:
        return f"{self.__typename__} (l:{self.lower:f}, u:{self.upper:f})"


class ELU(TensorLayer):
    """x where it is positive, else alpha (exp(x) - 1).  any shape -> same shape

    Clevert et al., 2015.
    """

    row_dims = ANY_DIMS

    def __init__(self, alpha: float = 1, inplace: bool = False) -> None:
        super().__init__(alpha=alpha, inplace=flag(inplace))

    def compute(self, input: Tensor) -> Tensor:
        return F.elu(input, self.alpha)

    def native(self) -> Native:
        return functools.partial(torch.nn.ELU, self.alpha)

    def __str__(self) -> str:
        return f"{self.__typename__} (alpha:{self.alpha:f})"


class CReLU(Sequential):
    """max(x, 0) beside max(-x, 0).  (n, ...) or (batch, n, ...) -> (2 n, ...) or (batch, 2 n, ...)

    `nInputDims` is the number of dimensions of a sample; input with another number of them than one more is
    one sample.  Shang et al., 2016.
    """

    def __init__(self, nInputDims: int, inplace: bool = False) -> None:
        super().__init__(nInputDims=nInputDims, inplace=bool(inplace))
        self.add(ConcatTable().add(Identity()).add(MulConstant(-1)))
        self.add(JoinTable(2))
        self.add(ReLU(inplace))

    def compute(self, input: Tensor, *children: Child) -> Tensor:
        is_batch = input.dim() == self.nInputDims + 1
        output = input.flatten(1) if is_batch else input.flatten()[None]
        for child in children:
            output = child(output)
        size = list(input.shape)
        size[int(is_batch)] *= 2
        return output.reshape(size)

    def prepare(self, input: Any) -> None:
        expect(input, like=self.type_sample)

    def __str__(self) -> str:
        return "CReLU()"
