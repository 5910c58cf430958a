"""The criterions that are equal to losses of PyTorch.  Classes in targets count from 1 in Lua."""

from __future__ import annotations

from typing import Any

import torch

from converters.back.setting import Setting, counterpart
from converters.text import Unconvertible
from t7compat import nn
from t7compat.tensortypes import new_tensor

tnn = torch.nn

# The criterion, and what else the loss must say for it to be equal
CRITERIONS: dict[type, tuple[str, dict[str, Any]]] = {
    tnn.MSELoss: ("MSECriterion", {}),
    tnn.L1Loss: ("AbsCriterion", {}),
    tnn.SmoothL1Loss: ("SmoothL1Criterion", {"beta": 1.0}),
    tnn.HuberLoss: ("SmoothL1Criterion", {"delta": 1.0}),
    tnn.KLDivLoss: ("DistKLDivCriterion", {"log_target": False}),
    tnn.SoftMarginLoss: ("SoftMarginCriterion", {}),
    tnn.MultiLabelMarginLoss: ("MultiLabelMarginCriterion", {}),
    tnn.HingeEmbeddingLoss: ("HingeEmbeddingCriterion", {}),
    tnn.CosineEmbeddingLoss: ("CosineEmbeddingCriterion", {}),
    tnn.MarginRankingLoss: ("MarginRankingCriterion", {}),
    tnn.NLLLoss: ("ClassNLLCriterion", {}),
    tnn.CrossEntropyLoss: ("CrossEntropyCriterion", {"label_smoothing": 0.0}),
    tnn.BCELoss: ("BCECriterion", {}),
    tnn.BCEWithLogitsLoss: ("MultiLabelSoftMarginCriterion", {"pos_weight": None}),
    tnn.MultiLabelSoftMarginLoss: ("MultiLabelSoftMarginCriterion", {"reduction": "mean"}),
    tnn.MultiMarginLoss: ("MultiMarginCriterion", {}),
}
_WITH_MARGIN = (tnn.HingeEmbeddingLoss, tnn.CosineEmbeddingLoss, tnn.MarginRankingLoss)


def _criterion(layer: Any, setting: Setting) -> Any:
    name, needed = next(row for cls, row in CRITERIONS.items() if isinstance(layer, cls))
    if layer.reduction not in ("mean", "sum"):
        raise Unconvertible(f"nn.{name} has the mean or the sum, not reduction={layer.reduction!r}")
    for option, value in needed.items():
        if getattr(layer, option) != value:
            raise Unconvertible(f"nn.{name} is that with {option}={value!r}")
    criterion = getattr(nn, name)(*_arguments(layer))
    for part in (criterion, getattr(criterion, "nll", None)):
        if part is not None:
            part.sizeAverage = layer.reduction == "mean"
    if isinstance(layer, tnn.NLLLoss | tnn.CrossEntropyLoss) and layer.ignore_index >= 0:
        getattr(criterion, "nll", criterion).ignoreIndex = layer.ignore_index + 1
    return criterion


def _arguments(layer: Any) -> tuple[Any, ...]:
    """The arguments of the criterion's constructor."""
    weight = getattr(layer, "weight", None)
    weights = () if weight is None else (new_tensor(*weight.shape).copy_(weight),)
    if isinstance(layer, tnn.MultiMarginLoss):
        return layer.p, *(weights or (None,)), layer.margin
    return (layer.margin,) if isinstance(layer, _WITH_MARGIN) else weights


for _kind in CRITERIONS:
    counterpart.register(_kind)(_criterion)
