"""Criterions that reward modules for right classes, less what they could be expected to get."""

from __future__ import annotations

from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.criterion import Criterion
from t7compat.nn.regression import MSECriterion
from t7compat.nn.shapes import batch_of_one, describe, expect, one_based
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class ClassReward(Criterion, typename=""):
    """The base of criterions that give `module` a reward for right predictions.  {prediction, baseline}

    The reward of a sample is `scale` if the class is right, else 0; the loss is minus their mean, or (without
    `sizeAverage`) their sum.  Backward hands `vrReward`, the reward minus the baseline (divided by the number
    of samples with `sizeAverage`), to the module's `reinforce`.  The prediction has no gradient; that of the
    baseline is the gradient of `criterion`, for the reward as its target.
    """

    # There is no `compute`: the gradient is none of the loss, and backward calls another module.

    module: Any = None
    reward: Tensor | None = None

    def __init__(self, module: Any, scale: float = 1, criterion: Criterion | None = None) -> None:
        super().__init__(module=module, scale=1 if scale is None else scale, sizeAverage=True)
        self.criterion = MSECriterion() if criterion is None else criterion
        self.gradInput = Table(new_tensor())

    def parts(self, input: Any) -> tuple[Tensor, Tensor]:
        """The prediction and the baseline of a batch."""
        raise NotImplementedError

    def right(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Whether each sample of a batch has the right class."""
        raise NotImplementedError

    def updateOutput(self, input: Any, target: Any = None) -> Any:
        prediction, _ = self._parts(input)
        if not isinstance(target, Tensor) or target.numel() != len(prediction):
            raise InputError(
                f"expected a tensor with a class for each of {len(prediction)} samples, "
                f"got {describe(target)}"
            ).within(str(self))
        self.reward = self.right(prediction, target.reshape(-1)).to(prediction) * self.scale
        self.output = -self.reward.sum().item() / (len(prediction) if self.sizeAverage else 1)
        return self.output

    def updateGradInput(self, input: Any, target: Any = None) -> Any:
        prediction, baseline = self._parts(input)
        if self.reward is None or len(self.reward) != len(prediction):
            raise InputError("expected a forward before backward").within(str(self))
        advantage = self.reward - baseline.reshape(-1)
        self.vrReward = advantage / len(prediction) if self.sizeAverage else advantage
        self.module.reinforce(self.vrReward)
        given = Table.from_python(input)
        self.criterion.forward(baseline, self.reward)
        gradient = self.criterion.backward(baseline, self.reward)
        self.gradInput = Table(torch.zeros_like(given[1]), gradient.reshape(given[2].shape))
        return self.gradInput

    def _parts(self, input: Any) -> tuple[Tensor, Tensor]:
        table = Table.from_python(input)
        try:
            if not isinstance(table, Table) or len(table) < 2:
                raise InputError(f"expected a table of a prediction and a baseline, got {describe(input)}")
            prediction, baseline = self.parts(table)
            if len(prediction) != baseline.numel():
                raise InputError(f"expected a baseline for each sample, got {describe(input)}")
        except InputError as error:
            error.within(str(self))
            raise
        return prediction, baseline

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        """As usual; the module, which is part of a network, is left as it is."""
        if type is None:
            return super().type()
        module = vars(self).pop("module", None)
        for name in ("_binary", "_maxVal", "_maxIdx", "__maxIdx", "_target"):
            vars(self).pop(name, None)
        super().type(type, tensorCache)
        self.module = module
        return self


class VRClassReward(ClassReward):
    """Rewards `module` for right classes.  {(batch, classes), (batch, 1)}, target (batch) of 1..classes

    A sample without batch is {(classes), (1)}.
    """

    def parts(self, input: Any) -> tuple[Tensor, Tensor]:
        prediction, baseline = input[1], input[2]
        expect(prediction, 1, 2)
        expect(baseline, prediction.dim(), size=1, like=prediction)
        if prediction.dim() == 1:
            prediction, baseline = batch_of_one(prediction), batch_of_one(baseline)
        return prediction, baseline

    def right(self, prediction: Tensor, target: Tensor) -> Tensor:
        return one_based(prediction.argmax(1)) == target.to(prediction.device).long()


class BinaryClassReward(ClassReward):
    """Rewards `module` for the right one of two classes.  {(batch), (batch)}, target (batch) of 0 and 1

    A prediction above 0.5 means 1.
    """

    def parts(self, input: Any) -> tuple[Tensor, Tensor]:
        prediction, baseline = input[1], input[2]
        expect(prediction, 1)
        expect(baseline, 1, 2, like=prediction)
        return prediction, baseline

    def right(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction > 0.5).to(prediction) == target.to(prediction)
