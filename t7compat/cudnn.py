"""cudnn: Lua Torch's bindings of NVIDIA's cuDNN, whose classes are those of nn under other names.

`cudnn.NAME` is the class of the Torch type "cudnn.NAME".  Everything runs on PyTorch, on any device; what it
makes of cuDNN is set in `torch.backends.cudnn`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import nn, registry
from t7compat.errors import InputError
from t7compat.nn.criterion import Criterion
from t7compat.nn.module import Module, TensorLayer
from t7compat.nn.shapes import describe, expect, plane_axis
from t7compat.nn.transfer import Columns

Tensor = torch.Tensor

# Set by old programs; without effect
benchmark = fastest = verbose = False


# ---- transfer functions


class ClippedReLU(TensorLayer, typename="cudnn.ClippedReLU"):
    """max(x, 0), but at most `ceiling`.  any shape -> same shape"""

    def __init__(self, ceiling: float, inplace: bool = False) -> None:
        super().__init__(ceiling=ceiling, inplace=bool(inplace))

    def compute(self, input: Tensor) -> Tensor:
        return F.hardtanh(input, 0.0, self.ceiling)

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Hardtanh, 0.0, self.ceiling)


class SpatialSoftMax(Columns, typename="cudnn.SpatialSoftMax"):
    """exp(x) / sum(exp(x)), along n.  (n), (batch, n), (n, h, w) or (batch, n, h, w) -> same shape

    The `algorithm` may be a fast one, or that of the logarithm.
    """

    algorithm = "CUDNN_SOFTMAX_ACCURATE"

    def __init__(self, fast: bool = False) -> None:
        super().__init__(algorithm="CUDNN_SOFTMAX_FAST" if fast else "CUDNN_SOFTMAX_ACCURATE")

    def compute(self, input: Tensor) -> Tensor:
        softmax = torch.log_softmax if self.algorithm == "CUDNN_SOFTMAX_LOG" else torch.softmax
        return softmax(input, plane_axis(input.dim()))

    def native(self) -> functools.partial[Any] | None:
        is_log = self.algorithm == "CUDNN_SOFTMAX_LOG"
        return functools.partial(torch.nn.LogSoftmax if is_log else torch.nn.Softmax, dim=1)


class SpatialLogSoftMax(SpatialSoftMax, typename="cudnn.SpatialLogSoftMax"):
    """log SpatialSoftMax(x).  (n), (batch, n), (n, h, w) or (batch, n, h, w) -> same shape"""

    algorithm = "CUDNN_SOFTMAX_LOG"

    def __init__(self, fast: bool = False) -> None:
        super().__init__(fast)
        self.mode, self.algorithm = "CUDNN_SOFTMAX_MODE_CHANNEL", "CUDNN_SOFTMAX_LOG"


class SoftMax(SpatialSoftMax, typename="cudnn.SoftMax"):
    """exp(x) / sum(exp(x)), along all of a sample: unlike nn.SoftMax, planes are taken as a whole.

    (n), (batch, n), (n, h, w) or (batch, n, h, w) -> same shape
    """

    def compute(self, input: Tensor) -> Tensor:
        first = plane_axis(input.dim())
        return torch.softmax(input.flatten(first), first).view_as(input)

    def native(self) -> functools.partial[Any] | None:
        return functools.partial(torch.nn.Softmax, dim=1) if took_vectors(self) else None


class LogSoftMax(SpatialSoftMax, typename="cudnn.LogSoftMax"):
    """log SoftMax(x), along all of a sample: unlike nn.LogSoftMax, planes are taken as a whole.

    (n), (batch, n), (n, h, w) or (batch, n, h, w) -> same shape
    """

    def compute(self, input: Tensor) -> Tensor:
        first = plane_axis(input.dim())
        return torch.log_softmax(input.flatten(first), first).view_as(input)

    def native(self) -> functools.partial[Any] | None:
        return functools.partial(torch.nn.LogSoftmax, dim=1) if took_vectors(self) else None


def took_vectors(module: Module) -> bool:
    """Whether a module of cudnn was last run on a batch of vectors."""
    return [*vars(module).get("iSize", ())][2:] == [1, 1]


class VolumetricSoftMax(TensorLayer, typename="cudnn.VolumetricSoftMax"):
    """exp(x) / sum(exp(x)), along n.  (n, t, h, w) or (batch, n, t, h, w) -> same shape"""

    dims = 4, 5

    def __init__(self, fast: bool = False) -> None:
        super().__init__(ssm=SpatialSoftMax(fast))

    def compute(self, input: Tensor) -> Tensor:
        return torch.softmax(input, -4)

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Softmax, dim=1)

    def clearState(self) -> Any:
        self.ssm.clearState()
        return super().clearState()


class VolumetricLogSoftMax(VolumetricSoftMax, typename="cudnn.VolumetricLogSoftMax"):
    """log VolumetricSoftMax(x).  (n, t, h, w) or (batch, n, t, h, w) -> same shape"""

    def __init__(self, fast: bool = False) -> None:
        super().__init__(fast)
        self.ssm.mode, self.ssm.algorithm = "CUDNN_SOFTMAX_MODE_CHANNEL", "CUDNN_SOFTMAX_LOG"

    def compute(self, input: Tensor) -> Tensor:
        return torch.log_softmax(input, -4)

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.LogSoftmax, dim=1)


# ---- losses


class SpatialCrossEntropyCriterion(Criterion, typename="cudnn.SpatialCrossEntropyCriterion"):
    """SpatialLogSoftMax and nn.SpatialClassNLLCriterion in one.  (batch, n, h, w), targets (batch, h, w)"""

    sizeAverage = True

    def __init__(self, weights: Tensor | None = None) -> None:
        nll = nn.SpatialClassNLLCriterion(weights)
        super().__init__(slsm=SpatialLogSoftMax(), nll=nll, sizeAverage=True)

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        return self.nll.compute(*self._rows(torch.log_softmax(input, 1), target))

    def _rows(self, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """What `nll` takes: until December 2016 that was a ClassNLLCriterion, with a row for each pixel."""
        if not isinstance(self.nll, nn.ClassNLLCriterion):
            return scores, target
        return scores.movedim(1, -1).flatten(0, -2), target.flatten()

    def prepare(self, input: Any, target: Any) -> None:
        expect(input, 4)
        expect(target, 3)
        if target.shape != (len(input), *input.shape[2:]):
            raise InputError(f"expected a target for each pixel of {describe(input)}, got {describe(target)}")
        self.nll.sizeAverage = self.sizeAverage
        self.nll.prepare(*self._rows(input, target))

    def explain(self, input: Any, target: Any) -> None:
        self.nll.explain(*self._rows(input, target))


class VolumetricCrossEntropyCriterion(Criterion, typename="cudnn.VolumetricCrossEntropyCriterion"):
    """SpatialCrossEntropyCriterion over volumes.  (batch, n, t, h, w), targets (batch, t, h, w)"""

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__(scec=SpatialCrossEntropyCriterion(weights))

    def compute(self, input: Tensor, target: Tensor) -> Tensor:
        return self.scec.compute(input.flatten(2, 3), target.flatten(1, 2))

    def prepare(self, input: Any, target: Any) -> None:
        expect(input, 5)
        expect(target, 4)
        self.scec.prepare(input.flatten(2, 3), target.flatten(1, 2))

    def explain(self, input: Any, target: Any) -> None:
        self.scec.explain(input.flatten(2, 3), target.flatten(1, 2))


# ---- from nn to cudnn and back

# Classes that are in both packages
_COMMON = (
    "BatchNormalization",
    "LogSoftMax",
    "ReLU",
    "Sigmoid",
    "SoftMax",
    "SpatialAveragePooling",
    "SpatialBatchNormalization",
    "SpatialConvolution",
    "SpatialCrossMapLRN",
    "SpatialFullConvolution",
    "SpatialMaxPooling",
    "Tanh",
    "VolumetricAveragePooling",
    "VolumetricBatchNormalization",
    "VolumetricConvolution",
    "VolumetricFullConvolution",
    "VolumetricMaxPooling",
)
_ALSO = {
    "nn.SpatialConvolutionMM": "SpatialConvolution",
    "inn.SpatialCrossResponseNormalization": "SpatialCrossMapLRN",
}
# What the class of nn needs and that of cudnn does without
_FIELDS: dict[str, dict[str, Any]] = {
    "ReLU": {"threshold": 0, "val": 0},
    "SpatialAveragePooling": {"divide": True, "count_include_pad": True},
}


def convert(
    net: Module, dst: types.ModuleType, exclusion_fn: Callable[[Module], bool | None] | None = None
) -> Module:
    """Make all modules of a network that nn and cudnn both have those of `dst`, which is `nn` or `cudnn`.

    Modules for which `exclusion_fn(module)` is true stay as they are, and so do those that only cudnn has:
    convolutions with groups, averages over volumes with padding or rounded up.  The modules become other ones
    in place, also those of graphs.
    """
    package = dst.__name__.rpartition(".")[2]
    source = {"nn": "cudnn", "cudnn": "nn"}.get(package)
    if source is None:
        raise InputError(f"cudnn.convert: expected nn or cudnn, got {dst.__name__}")
    names = {f"{source}.{name}": name for name in _COMMON} | _ALSO
    for module in net.listModules():
        module.tape = None
        name = names.get(module.__typename__)
        if name and not (exclusion_fn and exclusion_fn(module)) and not _only_in_cudnn(module):
            _become(module, package, name)
    return net


def _only_in_cudnn(module: Module) -> bool:
    fields = vars(module)
    if module.__typename__ == "cudnn.VolumetricAveragePooling":
        return any(fields.get(name) for name in ("padT", "padW", "padH", "ceil_mode"))
    return fields.get("groups", 1) != 1


def _become(module: Module, package: str, name: str) -> None:
    cls: Any = registry.lookup(f"{package}.{name}")
    if cls is None:
        return
    module.__class__ = cls
    if package == "nn":
        for field, value in _FIELDS.get(name, {}).items():
            vars(module).setdefault(field, value)
    if hasattr(cls, "upgrade"):
        module.upgrade(cls.__version__)  # as if it had been loaded


def __getattr__(name: str) -> Any:
    cls = registry.lookup(f"cudnn.{name}")
    if cls is None:
        raise AttributeError(f"t7compat has no class cudnn.{name}")
    return cls


def __dir__() -> list[str]:
    return sorted({*globals(), *registry.names("cudnn")})
