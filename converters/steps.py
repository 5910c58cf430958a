"""Rules for recurrent modules other than cells, and for masks."""

from __future__ import annotations

import functools

import torch

from converters import emitted_steps
from converters.native import Layer, Plan, below, is_recurrent, layer_of
from converters.recurrent import in_sequence, remembers
from converters.text import Unconvertible
from t7compat.nn.module import Module
from t7compat.rnn.attention import RecurrentAttention, Repeater
from t7compat.rnn.fork import Step
from t7compat.rnn.masking import MaskZero, TrimZero
from t7compat.rnn.misc import LookupTableMaskZero
from t7compat.rnn.recurrences import NormStabilizer, Recurrent


@layer_of.register
def _mask_zero(module: MaskZero, plan: Plan, path: str) -> Layer:
    if module.v2 or module.maskinput or not module.maskoutput:
        raise Unconvertible("its mask is given apart from its input")
    layer = Layer(
        functools.partial(emitted_steps.MaskZero, dims=module.nInputDim), module, path,
        plan.children(module, path),
    )  # fmt: skip
    if isinstance(module, TrimZero) and is_recurrent(layer):
        raise Unconvertible("it runs recurrent modules on a part of what it is given")
    return layer


@layer_of.register
def _lookup(module: LookupTableMaskZero, plan: Plan, path: str) -> Layer:
    module.weight.data[:1] = 0  # as each forward does
    return layer_of.dispatch(Module)(module, plan, path)


@layer_of.register
def _repeater(module: Repeater, plan: Plan, path: str) -> Layer:
    steps = plan.layer(module.modules[1], below(path, 1), in_sequence)
    return Layer(functools.partial(emitted_steps.Repeated, steps=module.rho), module, path, (steps,))


@layer_of.register
def _step(module: Step, plan: Plan, path: str) -> Layer:
    if module.maskzero:
        raise Unconvertible("it has a mask")
    return layer_of.dispatch(Module)(module, plan, path)


@layer_of.register
def _attention(module: RecurrentAttention, plan: Plan, path: str) -> Layer:
    raise Unconvertible("it chooses at random where to look")


@in_sequence.register
def _recurrent(module: Recurrent, plan: Plan, path: str) -> Layer:
    if remembers(module.initialModule) or remembers(module.recurrentModule):
        raise Unconvertible("it has recurrent modules inside")
    names = "initialModule", "recurrentModule"
    steps = [plan.layer(getattr(module, name), f"{path}.{name}".lstrip(".")) for name in names]
    return Layer(functools.partial(emitted_steps.Recurrent), module, path, tuple(steps))


@layer_of.register
@in_sequence.register
def _norm_stabilizer(module: NormStabilizer, plan: Plan, path: str) -> Layer:
    return Layer(functools.partial(torch.nn.Identity), module, path)
