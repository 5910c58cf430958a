"""Rules for classes of t7compat.contrib."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch

from converters import emitted_contrib, emitted_steps
from converters.native import Layer, Plan, below, layer_of, native_form
from converters.recurrent import from_ifog, perhaps_started
from converters.samples import Entry, Shape, wanted
from t7compat.contrib.torch_rnn import LSTM, LanguageModel, Recurrence, VanillaRNN
from t7compat.nn.normalization import BatchNormalization

Tensor = torch.Tensor


@layer_of.register
def _language_model(module: LanguageModel, plan: Plan, path: str) -> Layer:
    """The network inside, without the views that make rows of steps: PyTorch's layers take both."""
    views = {id(view) for view in (module.view1, module.view2, *module.bn_view_in, *module.bn_view_out)}
    net = f"{path}.net".lstrip(".")
    layers = []
    for i, child in enumerate(module.net.modules, 1):
        if id(child) not in views:
            where = below(net, i)
            make = native_form(child) if isinstance(child, BatchNormalization) else None
            if make is None:
                layers.append(plan.layer(child, where))
            else:
                of_rows = functools.partial(emitted_contrib.NormOfRows, *make.args, **make.keywords)
                layers.append(Layer(of_rows, child, where, state=child.native_state()))
    return Layer(functools.partial(torch.nn.Sequential), module, path, tuple(layers))


@layer_of.register
def _lstm(module: LSTM, plan: Plan, path: str) -> Layer:
    weight, bias = plan.arranged(from_ifog, module.weight.t()).t(), plan.arranged(from_ifog, module.bias)
    layer = _over_sequences(torch.nn.LSTM, module, plan, path, weight, bias)
    return perhaps_started(layer, emitted_steps.StartedLSTM, plan)


@layer_of.register
def _rnn(module: VanillaRNN, plan: Plan, path: str) -> Layer:
    layer = _over_sequences(torch.nn.RNN, module, plan, path, module.weight, module.bias)
    return perhaps_started(layer, emitted_contrib.StartedRNN, plan)


def _over_sequences(
    kind: Any, module: Recurrence, plan: Plan, path: str, weight: Tensor, bias: Tensor
) -> Layer:
    if module.remember_states:
        plan.note_start(path, "starts anew at each call, while the Torch module goes on until resetStates")
    make = functools.partial(kind, module.input_dim, module.hidden_dim, batch_first=True)
    of_x, of_h = torch.split(weight.t(), [module.input_dim, module.hidden_dim], 1)
    state = {"weight_ih_l0": of_x, "weight_hh_l0": of_h, "bias_ih_l0": bias}
    return Layer(make, module, path, state=state | {"bias_hh_l0": plan.arranged(torch.zeros_like, bias)})


@wanted.register
def _text(module: LanguageModel) -> Iterator[Shape]:
    yield from wanted(module.net)


@wanted.register
def _sequences(module: Recurrence) -> Iterator[Shape]:
    yield Entry((2, 3, module.input_dim))
