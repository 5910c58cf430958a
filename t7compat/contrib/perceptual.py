"""jcjohnson/fast-neural-style: the losses that a network for images computes in passing."""

from __future__ import annotations

from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.containers import Container, Sequential
from t7compat.nn.criterion import Criterion
from t7compat.nn.module import Module, TensorLayer
from t7compat.nn.reductions import Mean
from t7compat.nn.regression import MSECriterion, SmoothL1Criterion
from t7compat.nn.shapes import describe, expect, from_start, with_gradient
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor
MODES = ("none", "capture", "loss")
CRITERIONS: dict[str | None, type[Criterion]] = {
    None: MSECriterion, "L2": MSECriterion, "SmoothL1": SmoothL1Criterion,
}  # fmt: skip


class GramMatrix(TensorLayer):
    """The products of all pairs of planes.  (n, h, w) or (batch, n, h, w) -> (n, n) or (batch, n, n)

    With `normalize`, divided by n * h * w.
    """

    dims = (3, 4)
    scratch = ("buffer",)

    def __init__(self, normalize: bool = True) -> None:
        super().__init__(normalize=normalize, buffer=new_tensor())

    def compute(self, input: Tensor) -> Tensor:
        planes = input.flatten(-2)
        products = planes @ planes.transpose(-2, -1)
        return products / input.shape[-3:].numel() if self.normalize else products


class PassingLoss(Module, typename=""):
    """The base of modules that give their input, and compare something of it with a `target` in passing.

    The `mode` says what they do: "capture" makes the target of what comes, "loss" sets the field `loss` and
    adds its gradient, times `strength` both, to what comes back; "none" does nothing.
    """

    agg: Module | None = None  # what is compared is the output of this module
    crit: Criterion

    def __init__(self, strength: float | None = None, loss_type: str | None = None, **fields: Any) -> None:
        if loss_type not in CRITERIONS:
            raise InputError(f"{self.__typename__}: expected L2 or SmoothL1, got {loss_type!r}")
        super().__init__(
            strength=1 if strength is None else strength, loss=0, target=new_tensor(), mode="none",
            crit=CRITERIONS[loss_type](), **fields,
        )  # fmt: skip

    def setMode(self, mode: str) -> None:
        """Choose what to do with the next inputs."""
        if mode not in MODES:
            raise InputError(f"{self.__typename__}.setMode: expected one of {', '.join(MODES)}, got {mode!r}")
        self.mode = mode

    def updateOutput(self, input: Tensor) -> Tensor:
        expect(input)
        seen = self.seen(input)
        if self.mode == "capture":
            self.target = seen.clone()
        elif self.mode == "loss":
            self.loss = self.strength * self.crit.forward(seen, self._wanted(seen))
        self.output = input
        return input

    def updateGradInput(self, input: Tensor, gradOutput: Tensor) -> Tensor:
        self.gradInput = gradOutput
        if self.mode == "loss":
            seen = input if self.agg is None else self.agg.output
            gradient = self.crit.backward(seen, self._wanted(seen)) * self.strength
            if self.agg is not None:
                gradient = self.agg.backward(input, gradient)
            self.gradInput = gradOutput + gradient
        return self.gradInput

    def seen(self, input: Tensor) -> Tensor:
        """What is compared."""
        return input if self.agg is None else self.agg.forward(input)

    def _wanted(self, seen: Tensor) -> Tensor:
        """The target, which may be one for all of a batch."""
        one_for_all = self.target.dim() == seen.dim() and len(self.target) == 1
        return self.target.expand_as(seen) if one_for_all else self.target


class ContentLoss(PassingLoss):
    """Compares the input itself.  any shape -> same shape.  See PassingLoss."""


class StyleLoss(PassingLoss):
    """Compares the Gram matrices of the images, or (agg_type "mean") the means of their planes.

    (batch, n, h, w) -> same shape.  See PassingLoss.  Gatys et al., 2015.
    """

    def __init__(
        self, strength: float | None = None, loss_type: str | None = None, agg_type: str | None = None
    ) -> None:
        kinds = {"gram": GramMatrix, "mean": lambda: Sequential().add(Mean(3)).add(Mean(3))}
        agg_type = agg_type or "gram"
        if agg_type not in kinds:
            raise InputError(f"nn.StyleLoss: expected gram or mean, got {agg_type!r}")
        super().__init__(strength, loss_type, agg_type=agg_type, agg=kinds[agg_type]())


class DeepDreamLoss(TensorLayer):
    """x, from whose gradient strength * x is taken, with x between -max_grad and max_grad.  any shape"""

    def __init__(self, strength: float | None = None, max_grad: float | None = None) -> None:
        strength = 1e-5 if strength is None else strength
        super().__init__(strength=strength, max_grad=max_grad or 100, loss=0, clipped=new_tensor())

    def compute(self, input: Tensor) -> Tensor:
        strength, limit = self.strength, self.max_grad
        return with_gradient(input, lambda gradient: gradient - strength * input.clamp(-limit, limit))


class PerceptualCriterion(Criterion):
    """The losses inside a network: how images differ in their content and style.

    `args` is a table: `cnn`, the network, which gets the losses put into it; `content_layers` and
    `style_layers` (and `deepdream_layers`), lists of places such as "3-1-2", module 2 in module 1 of module
    3, after which they come; `content_weights` and `style_weights`, their strengths; `loss_type` and
    `agg_type` as for ContentLoss and StyleLoss.  The target is a table with `content_target`, images like
    the input, and `style_target`, one image; a part that is missing stays.  Johnson et al., 2016.
    """

    def __init__(self, args: Any) -> None:
        options = Table.from_python(args)
        self.net = options.cnn
        self.net.evaluate()
        kinds: dict[str, Any] = {
            "content": lambda weight: ContentLoss(weight, options.loss_type),
            "style": lambda weight: StyleLoss(weight, options.loss_type, options.agg_type),
            "deepdream": DeepDreamLoss,
        }
        for kind, make in kinds.items():
            places, weights = (options[f"{kind}_{what}"] or () for what in ("layers", "weights"))
            layers = [make(weight) for weight in weights]
            for place, layer in zip(places, layers, strict=True):
                insert_after(self.net, place, layer)
            vars(self)[f"{kind}_loss_layers"] = Table(*layers)
        trim(self.net)
        self.grad_net_output = new_tensor()

    def setStyleTarget(self, target: Tensor) -> None:
        """Compare styles with that of one image."""
        self._run(target, content="none", style="capture")

    def setContentTarget(self, target: Tensor) -> None:
        """Compare contents with those of images."""
        self._run(target, content="capture", style="none")

    def setStyleWeight(self, weight: float) -> None:
        """Choose the strength of all style losses."""
        for layer in self.style_loss_layers:
            layer.strength = weight

    def setContentWeight(self, weight: float) -> None:
        """Choose the strength of all content losses."""
        for layer in self.content_loss_layers:
            layer.strength = weight

    def updateOutput(self, input: Tensor, target: Any = None) -> float:
        targets = Table.from_python(target or {})
        if targets.content_target is not None:
            self.setContentTarget(targets.content_target)
        if targets.style_target is not None:
            self.setStyleTarget(targets.style_target)
        self.grad_net_output = torch.zeros_like(self._run(input, content="loss", style="loss"))
        for kind in ("content", "style"):
            losses = Table(*[layer.loss for layer in vars(self)[f"{kind}_loss_layers"]])
            vars(self).update({f"{kind}_losses": losses, f"total_{kind}_loss": sum(losses)})
        self.output = self.total_style_loss + self.total_content_loss
        return self.output

    def updateGradInput(self, input: Tensor, target: Any = None) -> Tensor:
        self.gradInput = self.net.updateGradInput(input, self.grad_net_output)
        return self.gradInput

    def _run(self, images: Tensor, content: str, style: str) -> Tensor:
        for layer in self.content_loss_layers:
            layer.setMode(content)
        for layer in self.style_loss_layers:
            layer.setMode(style)
        output: Tensor = self.net.forward(images)
        return output


# ---- losses in a network; the field _ignore marks them, so that they do not count in places


def insert_after(net: Container, place: str, layer: Module) -> None:
    """Put a layer behind the module at a place such as "3-1-2"."""
    vars(layer)["_ignore"] = True
    container: Any = net
    *outer, last = map(int, place.split("-"))
    for index in outer:
        container = container.get(_counted(container, index))
    container.insert(layer, _counted(container, last) + 1)


def _counted(container: Any, index: int) -> int:
    """Where the module is that is the `index`-th of those that count."""
    if not isinstance(container, Container):
        raise InputError(f"expected a container on the way to a layer, got {describe(container)}")
    counting = [i for i, child in enumerate(container.children(), 1) if not vars(child).get("_ignore")]
    return counting[from_start(index, len(counting))]


def trim(net: Container) -> None:
    """Remove the modules behind the last loss."""
    while len(net.modules) and not _has_losses(net.get(len(net.modules))):
        net.remove()


def _has_losses(module: Module) -> bool:
    return any(vars(inner).get("_ignore") for inner in module.listModules())
