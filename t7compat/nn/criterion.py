"""nn.Criterion: the base of all losses."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch

from t7compat import registry
from t7compat.errors import InputError
from t7compat.nn.calls import asks_for_node
from t7compat.nn.descent import Batching
from t7compat.nn.gradients import same, slopes
from t7compat.nn.luaobject import LuaObject
from t7compat.nn.shapes import FAULTS, describe, expect, expect_classes, expect_fit, refuse
from t7compat.nn.tape import as_leaf
from t7compat.table import leaves, map_leaves, to_tuples
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class Recorded(NamedTuple):
    """One forward pass: leaves of the graph for the input, the target, and the loss that follows."""

    input: Any
    target: Any
    loss: Tensor

    def fits(self, input: Any, target: Any) -> bool:
        """Whether the gradient for this input and target follows from the pass."""
        return self.loss.requires_grad and same(self.input, input) and same(self.target, _plain(target))

    def gradient(self) -> Any:
        """The gradient of the loss with respect to the input."""
        if isinstance(self.input, Tensor):
            return _gradient(slopes([self.loss], [torch.ones_like(self.loss)], [self.input])[0], self.input)
        tensors = [leaf for leaf in leaves(self.input) if isinstance(leaf, Tensor) and leaf.requires_grad]
        found = slopes([self.loss], [torch.ones_like(self.loss)], tensors)
        gradients = {id(leaf): gradient for leaf, gradient in zip(tensors, found, strict=True)}
        return map_leaves(lambda leaf: _gradient(gradients.get(id(leaf)), leaf), self.input)


class Criterion(Batching, LuaObject):
    """The base of all losses.

    `forward(input, target)` gives a number, `backward(input, target)` its gradient.  A class gives
    `compute(input, target)`, the loss as a differentiable function of the input (tables as tuples).  A user's
    class in the old style overrides `updateOutput` and `updateGradInput` instead.  `native` says which
    torch.nn loss is equal.
    """

    __slots__ = ("recorded",)
    recorded: Recorded | None
    output: Any = None
    gradInput: Any = None

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        criterion = super().__new__(cls)
        criterion.recorded = None
        return criterion

    def __init__(self, **fields: Any) -> None:
        """Set the fields of every criterion and those given; None stands for a field that is not there."""
        self.gradInput, self.output = new_tensor(), 0
        vars(self).update((name, value) for name, value in fields.items() if value is not None)

    def compute(self, input: Any, target: Any) -> Tensor:
        """The loss, a tensor with one element.  Without it there is no loss, as in Torch7."""
        raise NotImplementedError

    def prepare(self, input: Any, target: Any) -> None:
        """Called before `compute`: raise InputError for wrong input."""

    def explain(self, input: Any, target: Any) -> None:
        """Called when `compute` failed: raise InputError for what is too costly to look for every time."""

    def adds_samples(self, target: Any) -> bool:
        """Whether the loss of a batch is the sum over its samples, or with `sizeAverage` their mean.

        Holds only for the class that says so, not for those derived from it.
        """
        return False

    def native(self) -> functools.partial[Any] | None:
        """The torch.nn loss that is equal, as a call yet to be made; None without one.

        It takes the entries of an input table one by one, and counts classes from 0.
        """
        return None

    def forward(self, input: Any, target: Any = None) -> Any:
        """The loss as a number."""
        return self.updateOutput(input, target)

    def backward(self, input: Any, target: Any = None) -> Any:
        """The gradient of the loss with respect to the input."""
        return self.updateGradInput(input, target)

    def updateOutput(self, input: Any, target: Any = None) -> Any:
        """Compute and set `output`, the loss."""
        if type(self).compute is Criterion.compute:
            return None
        self.recorded = None
        self.recorded = self._record(input, target)
        self.output = self.recorded.loss.item()
        return self.output

    def updateGradInput(self, input: Any, target: Any = None) -> Any:
        """Compute and set `gradInput`, the gradient of the loss with respect to the input."""
        if type(self).compute is Criterion.compute:
            return None
        recorded = self.recorded
        if recorded is None or not recorded.fits(input, target):
            with torch.enable_grad():
                recorded = self._record(input, target)
        if not recorded.loss.requires_grad:
            raise InputError(f"{self}: expected floating point numbers as input, got {describe(input)}")
        self.gradInput = recorded.gradient()
        return self.gradInput

    def _record(self, input: Any, target: Any) -> Recorded:
        leaf, target = to_tuples(as_leaf, input), _plain(target)
        try:
            try:
                self.prepare(leaf, target)
                return Recorded(leaf, target, self.compute(leaf, target))
            except FAULTS as error:
                refuse(error, self.explain, input=leaf, target=target)
        except InputError as error:
            error.within(str(self))
            raise

    def setZeroMask(self, zeroMask: Any) -> None:
        """Tell which samples the criterions inside leave out (see MaskZeroCriterion)."""
        fields = vars(self)
        for criterion in (*(fields.get("criterions") or ()), fields.get("criterion")):
            if criterion is not None:
                criterion.setZeroMask(zeroMask)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """With input and target, forward and backward: (output, gradInput).

        With nodes of nngraph for both, one by one or in a table, or with nothing: a node that has this
        criterion in a nn.ModuleFromCriterion.
        """
        if not named and asks_for_node(arguments):
            wrapper: Any = registry.lookup("nn.ModuleFromCriterion")
            return wrapper(self)(*arguments)
        return self._called(*arguments, **named)

    def _called(self, input: Any, target: Any = None) -> Any:
        self.output = self.forward(input, target)
        self.gradInput = self.backward(input, target)
        return self.output, self.gradInput


class Pointwise(Criterion, typename=""):
    """The base of losses that compare element by element: the target must have as many as the input."""

    sizeAverage = True

    def __init__(self, sizeAverage: bool = True) -> None:
        super().__init__(sizeAverage=sizeAverage)

    def prepare(self, input: Any, target: Any) -> None:
        expect(input)
        expect_fit("target", target, input)


class Classifying(Criterion, typename=""):
    """The base of losses whose target tells classes, counted from 1."""

    sizeAverage = True
    weights: Tensor | None = None
    dimension = -1  # along which the classes are

    def prepare(self, input: Tensor, target: Any) -> None:
        if input.is_cuda:  # where a wrong class would end the whole process
            self.explain(input, target)

    def explain(self, input: Tensor, target: Any) -> None:
        count = input.shape[self.dimension]
        if self.weights is not None and self.weights.numel() != count:
            raise InputError(f"expected {count} weights, one for each class, got {self.weights.numel()}")
        expect_classes(target, count, *self.beside())

    def beside(self) -> tuple[int, ...]:
        """What a target may be besides a class."""
        return ()


def reduction(criterion: Any) -> str:
    """What torch.nn calls `sizeAverage`."""
    return "mean" if criterion.sizeAverage else "sum"


def reduced(criterion: Any, losses: Tensor) -> Tensor:
    """The mean of the losses, or (without `sizeAverage`) their sum."""
    return losses.mean() if criterion.sizeAverage else losses.sum()


def _plain(target: Any) -> Any:
    """A nested target with tuples for tables, and numbers for tensors of one number, which Lua has not."""
    if isinstance(target, Tensor) and target.dim():
        return target
    return to_tuples(lambda x: x.item() if isinstance(x, Tensor) and not x.dim() else x, target)


def _gradient(found: Tensor | None, leaf: Any) -> Any:
    return (
        torch.zeros_like(leaf, requires_grad=False) if found is None and isinstance(leaf, Tensor) else found
    )
