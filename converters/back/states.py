"""The last state of recurrent layers, which Torch7 has as far as the output has it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from converters.back.forward import Constant, Forward, Parts, Value
from converters.back.setting import Memory, Setting, chain, counterpart, rule_of
from converters.child import gives_state
from converters.emitted_states import OutputAlone, Recurrence
from converters.text import Unconvertible
from t7compat import nn

tnn = torch.nn
Tensor = torch.Tensor


def recurrent(forward: Forward, layer: tnn.Module, name: str, input: Value, hx: Any = None) -> Parts:
    """The output of a recurrent layer, and its last state."""
    start = [hx] if isinstance(hx, Constant | None) else list(hx)
    for state in start:
        is_zero = isinstance(state, Constant) and not state.once.any()
        if state is not None and not is_zero:
            raise Unconvertible(f"{name} starts from a state: sequences start from zeros")
    output = forward.layer(layer, input, name=name)
    return with_state(layer, output, forward.once, forward.twice)


def with_state(layer: tnn.Module, output: Value, once: Any, twice: Any) -> Parts:
    """What a recurrent layer gave in the two runs: its output, and the last state."""
    output.once, output.twice = once[0], twice[0]
    if isinstance(layer, tnn.LSTM):
        return Parts((output, Parts((LastOutputs(layer, output, once[1][0], twice[1][0]), None))))
    is_torch = isinstance(layer, tnn.RNNBase)
    return Parts((output, LastOutputs(layer, output, once[1], twice[1]) if is_torch else None))


# ---- layers and networks that t7convert wrote: Torch7's give the output alone


@counterpart.register
def _without_state(layer: OutputAlone, setting: Setting) -> Any:
    return setting.convert(layer[0])


@counterpart.register
def _written(layer: Recurrence, setting: Setting) -> Any:
    kind: Any = type(layer)
    if hasattr(kind, "compute"):  # a network, of which this is the forward
        base: type = tnn.Sequential if isinstance(layer, tnn.Sequential) else tnn.Module
        form = _alone(layer, setting.memory)
        form.__class__ = type(kind.__name__, (base,), {"forward": kind.compute})
        return rule_of(type(form))(form, setting)

    def forward(self: Any, input: Any) -> Any:
        return kind.forward(self, input)[0]

    form = _twin(layer, layer._modules, setting.memory)
    form.__class__ = type(kind.__name__, (kind,), {"forward": forward})
    return counterpart.dispatch(tnn.Module)(form, setting)


def _alone(module: tnn.Module, memory: Memory) -> tnn.Module:
    """The module with the same weights, but with recurrent layers inside that give their outputs alone."""
    children = dict(module._modules)
    for name, child in children.items():
        if child is not None and gives_state(type(child)):
            children[name] = _in_mode(child, OutputAlone(child), memory)
        elif child is not None and any(gives_state(type(inner)) for inner in child.modules()):
            children[name] = _alone(child, memory)
    return _twin(module, children, memory)


def _twin(module: tnn.Module, children: dict[str, tnn.Module | None], memory: Memory) -> tnn.Module:
    """The module with the same weights, but with other children."""
    twin = object.__new__(type(module))
    vars(twin).update(vars(module), _modules=children)
    return _in_mode(module, twin, memory)


def _in_mode(layer: tnn.Module, form: tnn.Module, memory: Memory) -> tnn.Module:
    """Another form of a layer, which is in the same mode."""
    memory.modes[id(form)] = memory.modes.get(id(layer), memory.modes.get(0, True))
    memory.kept.append(form)
    return form


# ---- the last state


class LastOutputs(NamedTuple):
    """The last outputs of all layers and directions, h_n, before it is known which of them are used."""

    layer: Any
    output: Value
    once: Tensor
    twice: Tensor

    def part(self, forward: Forward, index: int) -> Value:
        """That of one layer and direction, if it is one of the last layer."""
        layer = self.layer
        directions = 2 if layer.bidirectional else 1
        total = directions * layer.num_layers
        if not total - directions <= index % total < total:
            raise Unconvertible("of h_n, only what belongs to the last layer can be converted")
        is_back = directions == 2 and index % 2 == 1
        module = nn.Select(2 if layer.batch_first else 1, 1 if is_back else -1)
        if directions == 2:
            size = layer.proj_size or layer.hidden_size
            module = chain(module, nn.Narrow(2, 1 + size * is_back, size))
        part = forward.apply(module, self.output)
        part.once, part.twice = self.once[index], self.twice[index]
        return part

    def whole(self, forward: Forward) -> Value:
        """All of them, if there is but one layer."""
        parts = [self.part(forward, i) for i in range(len(self.once))]
        rows = [forward.apply(nn.Unsqueeze(1), part) for part in parts]
        value = forward.apply(nn.JoinTable(1), *rows) if len(rows) > 1 else rows[0]
        value.once, value.twice = self.once, self.twice
        return value
