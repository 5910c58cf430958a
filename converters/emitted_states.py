"""Classes of a written file, as in emitted.py: networks that go on from a state.

A recurrent layer has `run(input, state)`, which gives (output, state after it), and so has a network of them.
"""

# mypy: disable-error-code="no-untyped-call, override"
from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Continued(nn.Module):
    """A recurrent layer that goes on from `state`, in the place of which it puts the one after its input."""

    def __init__(self, layer: Any, state: Any) -> None:
        super().__init__()
        self.layer, self.state = layer, state

    def forward(self, input: Any) -> Any:
        output, self.state = self.layer.run(input, self.state)
        return output


class Recurrence(nn.Module):
    """A network with recurrent layers inside, whose `forward` starts from zeros.

    `output, state = network.run(input)` starts from zeros, too, and `network.run(more, state)` goes on.  The
    state is a tuple of those of the recurrent layers, in their order; the network itself keeps nothing.
    """

    def run(self, input: Any, state: Any = None) -> Any:
        layers: list[Continued] = []

        def continued(module: Any) -> Any:
            """The module with the same weights, but with recurrent layers that go on."""
            children = dict(module._modules)
            for name, child in children.items():
                if hasattr(type(child), "run"):
                    layers.append(Continued(child, state[len(layers)] if state else None))
                    children[name] = layers[-1]
                elif any(hasattr(type(inner), "run") for inner in child.modules()):
                    children[name] = continued(child)
            twin = object.__new__(type(module))
            vars(twin).update(vars(module), _modules=children)
            return twin

        output = continued(self)(input)
        return output, tuple([layer.state for layer in layers])


class RecurrentSequential(Recurrence, nn.Sequential):
    """Layers one after the other, of which some are recurrent, or have recurrent layers inside."""


class Stepwise(nn.Sequential):
    """Runs a network over a sequence, each step from the state after the one before."""

    def run(self, input: Any, state: Any = None) -> Any:
        network: Any = self[0]
        outputs = []
        for x in input:
            output, state = network.run(x, state)
            outputs.append(output)
        return torch.stack(outputs) if isinstance(input, torch.Tensor) else tuple(outputs), state

    def forward(self, input: Any) -> Any:
        return self.run(input)[0]
