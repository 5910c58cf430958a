"""Classes of a written file, as in emitted.py: what is recurrent, and networks that go on from a state.

`forward(input, state=None)` of a recurrent layer gives (output, state after it), as that of nn.LSTM does, and
so does that of a network of them.  Without a state they start from zeros.
"""

# mypy: disable-error-code="no-untyped-call, override"
from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Recurrence(nn.Module):
    """A layer whose `forward(input, state=None)` gives (output, state after it), as that of nn.LSTM does."""


class OutputAlone(nn.Sequential):
    """A recurrent layer that starts from zeros at each call, and gives its output without the state."""

    def forward(self, input: Any) -> Any:
        return super().forward(input)[0]


class RecurrentSequential(Recurrence, nn.Sequential):
    """Layers one after the other; the state is a tuple of those of the recurrent ones, in their order.

    `output, state = network(input)` starts from zeros, and `network(more, state)` goes on.
    """

    def forward(self, input: Any, state: Any = None) -> Any:
        states: list[Any] = []
        for layer in self:
            if isinstance(layer, (Recurrence, nn.RNNBase)):
                input, after = layer(input, state[len(states)] if state else None)
                states.append(after)
            else:
                input = layer(input)
        return input, tuple(states)


class Continued(nn.Module):
    """A recurrent layer that goes on from `state`, in the place of which it puts the one after its input."""

    def __init__(self, layer: Any, state: Any) -> None:
        super().__init__()
        self.layer, self.state = layer, state

    def forward(self, input: Any) -> Any:
        output, self.state = self.layer(input, self.state)
        return output


class RecurrentNetwork(Recurrence):
    """A network with recurrent layers inside; `compute` is what it does with their outputs.

    `output, state = network(input)` starts from zeros, and `network(more, state)` goes on.  The state is a
    tuple of those of the recurrent layers, in their order; the network itself keeps nothing.
    """

    def forward(self, input: Any, state: Any = None) -> Any:
        layers: list[Continued] = []

        def continued(module: Any) -> Any:
            """The module with the same weights, but with recurrent layers that go on."""
            children = dict(module._modules)
            for name, child in children.items():
                if isinstance(child, (Recurrence, nn.RNNBase)):
                    layers.append(Continued(child, state[len(layers)] if state else None))
                    children[name] = layers[-1]
                elif any(isinstance(inner, (Recurrence, nn.RNNBase)) for inner in child.modules()):
                    children[name] = continued(child)
            twin = object.__new__(type(module))
            vars(twin).update(vars(module), _modules=children)
            return twin

        output = continued(self).compute(input)
        return output, tuple([layer.state for layer in layers])


class RecurrentTree(RecurrentNetwork, nn.Sequential):
    """Layers one after the other, of which some have recurrent layers inside."""

    compute = nn.Sequential.forward


class Stepwise(Recurrence, nn.Sequential):
    """Runs a network over a sequence, each step from the state after the one before."""

    def forward(self, input: Any, state: Any = None) -> Any:
        outputs = []
        for x in input:
            output, state = self[0](x, state)
            outputs.append(output)
        return torch.stack(outputs) if isinstance(input, torch.Tensor) else tuple(outputs), state
