"""The counterparts of torch.nn.LSTM, GRU and RNN: they give the output, without the last state.

A sequence is (time, batch, n), as in PyTorch, or (batch, time, n) with batch_first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from converters.back.setting import Setting, chain, counterpart
from converters.text import Unconvertible
from t7compat import nn
from t7compat.nn.gradients import gradient_name

tnn = torch.nn
Tensor = torch.Tensor


def part(layer: Any, name: str, number: int, reverse: bool) -> Any:
    """A parameter of one direction of one layer; None if there is none."""
    return getattr(layer, f"{name}_l{number}{'_reverse' if reverse else ''}", None)


def lstm(layer: Any, number: int, reverse: bool, setting: Setting) -> Any:
    """One direction of one layer as nn.SeqLSTM: gates i, f, g, o become i, f, o, g, and two biases one."""
    of_x, of_h = (part(layer, name, number, reverse) for name in ("weight_ih", "weight_hh"))
    biases = [part(layer, name, number, reverse) for name in ("bias_ih", "bias_hh")]
    inputs, outputs, hidden = of_x.shape[1], of_h.shape[1], layer.hidden_size
    module = nn.SeqLSTMP(inputs, hidden, outputs) if layer.proj_size else nn.SeqLSTM(inputs, outputs)

    def in_order(rows: Tensor) -> Tensor:
        i, f, g, o = rows.detach().chunk(4)
        return torch.cat((i, f, o, g))

    first = setting.memory.parts.setdefault((id(layer), number, reverse), module)
    if first is not module:
        names = ("weight", "bias", "weightO") if layer.proj_size else ("weight", "bias")
        return module.share(first, *names, *map(gradient_name, names))
    module.weight.copy_(in_order(torch.cat((of_x, of_h), 1)).t())
    module.bias.copy_(in_order(biases[0] + biases[1]) if layer.bias else torch.zeros_like(module.bias))
    if layer.proj_size:
        setting.fill(module, weightO=part(layer, "weight_hr", number, reverse).t())
    setting.take(of_x, module.gradWeight, lambda slope: in_order(slope.t())[:, :inputs])
    setting.take(of_h, module.gradWeight, lambda slope: in_order(slope.t())[:, inputs:])
    for bias in biases if layer.bias else ():
        setting.take(bias, module.gradBias, in_order)
    return module


def linear(weight: Any, bias: Any, setting: Setting) -> Any:
    """nn.Linear with these parameters."""
    outputs, inputs = weight.shape
    return setting.fill(nn.Linear(inputs, outputs, bias is not None), weight=weight, bias=bias)


def both(layer: Any, number: int, reverse: bool) -> Iterator[tuple[Any, Any]]:
    """The weight and the bias for the input, then those for the last output."""
    for kind in ("ih", "hh"):
        yield part(layer, f"weight_{kind}", number, reverse), part(layer, f"bias_{kind}", number, reverse)


def rnn(layer: Any, number: int, reverse: bool, setting: Setting) -> Any:
    """One direction of one layer as a Sequencer of a Recurrence."""
    sums = nn.ParallelTable()
    for weight, bias in both(layer, number, reverse):
        sums.add(linear(weight, bias, setting))
    transfer = nn.Tanh() if layer.nonlinearity == "tanh" else nn.ReLU()
    return nn.Sequencer(nn.Recurrence(chain(sums, nn.CAddTable(), transfer), layer.hidden_size, 1))


def gru(layer: Any, number: int, reverse: bool, setting: Setting) -> Any:
    """One direction of one layer as a Sequencer of a Recurrence of a graph.

    r, z = sigmoid(W x + U h + b)     g = tanh(W x + b + r * (U h + c))     h' = g + z * (h - g)

    nn.GRU and nn.SeqGRU are others: in them r acts before the product.
    """
    x, h = nn.Identity()(), nn.Identity()()
    size = layer.hidden_size
    of_gates, of_new = [], []
    for source, (weight, bias) in zip((x, h), both(layer, number, reverse), strict=True):
        gates, new = weight.split((2 * size, size))
        offsets = bias.split((2 * size, size)) if layer.bias else (None, None)
        of_gates.append(linear(gates, offsets[0], setting)(source))
        of_new.append(linear(new, offsets[1], setting)(source))
    gates = nn.Sigmoid()(nn.CAddTable()(of_gates))
    r, z = (nn.Narrow(2, start, size)(gates) for start in (1, size + 1))
    new = nn.Tanh()(nn.CAddTable()([of_new[0], nn.CMulTable()([r, of_new[1]])]))
    kept = nn.CMulTable()([z, nn.CSubTable()([h, new])])
    return nn.Sequencer(nn.Recurrence(nn.gModule([x, h], [nn.CAddTable()([new, kept])]), size, 1))


@counterpart.register(tnn.LSTM)
@counterpart.register(tnn.GRU)
@counterpart.register(tnn.RNN)
def _recurrent(layer: Any, setting: Setting) -> Any:
    if setting.known_rank == 2:
        raise Unconvertible("it gets a sequence without a batch, which those of Torch7 must have")
    around = [nn.Transpose((1, 2))] if layer.batch_first else []
    steps = [step for number in range(layer.num_layers) for step in directions(layer, number, setting)]
    return chain(*around, *steps, *[module.clone() for module in around])


def directions(layer: Any, number: int, setting: Setting) -> list[Any]:
    """One layer in its directions, side by side, after the dropout if it is not the first."""
    make = {tnn.LSTM: lstm, tnn.GRU: gru, tnn.RNN: rnn}[
        next(c for c in (tnn.LSTM, tnn.GRU, tnn.RNN) if isinstance(layer, c))
    ]
    dropout = [nn.Dropout(layer.dropout)] if number and layer.dropout else []
    forward = make(layer, number, False, setting)
    if not layer.bidirectional:
        return [*dropout, forward]
    backward = make(layer, number, True, setting)
    reverse = chain(nn.SeqReverseSequence(1), backward, nn.SeqReverseSequence(1))
    return [*dropout, nn.Concat(3).add(forward).add(reverse)]
