"""Rules for the classes whose form in PyTorch is neither their `native()` nor their `compute`."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import torch

from converters import emitted
from converters.brief import SHORT_FOR_A_BATCH, of_a_batch
from converters.lift import plain
from converters.native import Layer, Plan, layer_of, native_form
from converters.residual import Residual, with_residuals
from converters.samples import OF_CLASSES
from converters.text import Unconvertible, literal
from t7compat.dpnn.augmentation import ColorTransform, SpatialRegionDropout, SpatialUniformCrop
from t7compat.dpnn.misc import TotalDropout
from t7compat.dpnn.nce import NCEModule
from t7compat.dpnn.reinforce import Reinforce, ReinforceGamma, ReinforceNormal
from t7compat.nested import type_name
from t7compat.nn.adaptive_pooling import FractionalMaxPooling
from t7compat.nn.containers import Sequential
from t7compat.nn.module import Module
from t7compat.nn.normalization import SpatialContrastiveNormalization
from t7compat.nn.pairwise import CosineEmbeddingCriterion
from t7compat.nn.stochastic import Dropout, PlaneDropout, WhiteNoise
from t7compat.nn.unpooling import MaxUnpooling
from t7compat.nn.wrappers import DontCast, first_type
from t7compat.nngraph import ModuleFromCriterion
from t7compat.tensortypes import parse


@layer_of.register
def _sequential(module: Sequential, plan: Plan, path: str) -> Layer:
    layer = layer_of.dispatch(Module)(module, plan, path)
    if layer.make.func is not torch.nn.Sequential:
        return layer
    children = with_residuals(layer.children)
    if path and len(children) == 1 and isinstance(children[0], Residual):
        return replace(children[0], origin=module, path=path, apart=(layer,))
    return replace(layer, children=children)


def _brief(module: Module, plan: Plan, path: str) -> Layer:
    """The short form that is right for the input of the proof, if there is one."""
    make = None if id(module) in plan.written else of_a_batch(module)
    if make is None:
        return layer_of.dispatch(Module)(module, plan, path)
    layer = Layer(make, module, path)
    plan.natives.append(layer)
    return layer


for _kind in SHORT_FOR_A_BATCH:
    layer_of.register(_kind, _brief)


@layer_of.register
def _dropout(module: Dropout, plan: Plan, path: str) -> Layer:
    make = native_form(module)
    if make is None:
        make = functools.partial(emitted.TorchDropout, module.p, module.v2, module.stochastic_inference)
    return Layer(make, module, path)


@layer_of.register
def _plane_dropout(module: PlaneDropout, plan: Plan, path: str) -> Layer:
    options = module.p, len(module.axes), module.stochastic_inference
    return Layer(functools.partial(emitted.PlaneDropout, *options), module, path)


@layer_of.register
def _white_noise(module: WhiteNoise, plan: Plan, path: str) -> Layer:
    return Layer(functools.partial(emitted.WhiteNoise, module.mean, module.std), module, path)


@layer_of.register
def _dont_cast(module: DontCast, plan: Plan, path: str) -> Layer:
    children = plan.children(module, path)
    if not (module.castin or module.castout):
        return Layer(functools.partial(torch.nn.Sequential), module, path, children)
    inside = _dtype_name(module.moduleType) if module.castin else None
    outside = _dtype_name(first_type(module.output)) if module.castout else None
    return Layer(functools.partial(emitted.InType, inside=inside, outside=outside), module, path, children)


def _dtype_name(type: str | None) -> str | None:
    """What PyTorch calls a tensor type of Torch7: "float32" for "torch.FloatTensor"."""
    return None if type is None else str(parse(type).dtype).removeprefix("torch.")


@layer_of.register
def _loss(module: ModuleFromCriterion, plan: Plan, path: str) -> Layer:
    criterion = module.criterion
    make = criterion.native()
    if make is None:
        raise Unconvertible(f"{type_name(criterion)} has no equal in torch.nn")
    literal((*make.args, *make.keywords.values()))
    loss = Layer(make, criterion, f"{path}.criterion".lstrip("."))
    options: dict[str, Any] = {"classes": True} if isinstance(criterion, OF_CLASSES) else {}
    options |= {"per_sample": True} if isinstance(criterion, CosineEmbeddingCriterion) else {}
    return Layer(functools.partial(emitted.Loss, **options), module, path, (loss,))


@layer_of.register
def _random_windows(module: FractionalMaxPooling, plan: Plan, path: str) -> Layer:
    make = native_form(module)
    if make is None:
        raise Unconvertible("a class derived from it has no torch.nn form")
    samples = module.randomSamples
    if not module.newRandomPool or samples is None:
        return Layer(make, module, path)  # no leaf to compare with others: it is random in evaluation, too
    windows = samples.flip(-1) if len(module.axes) == 3 else samples  # those of time are first in PyTorch
    options = {**make.keywords, "windows": tuple(windows.shape)}
    make = functools.partial(emitted.FixedFractionalMaxPool, *make.args, **options)
    return Layer(make, module, path, state={"windows": windows})


@layer_of.register
def _total_dropout(module: TotalDropout, plan: Plan, path: str) -> Layer:
    return Layer(functools.partial(emitted.TotalDropout, module.p), module, path)


@layer_of.register(ColorTransform)
@layer_of.register(SpatialRegionDropout)
def _only_in_training(module: Module, plan: Plan, path: str) -> Layer:
    plan.note(path, f"{type_name(module)} changes images at random in training only: left out")
    return Layer(functools.partial(torch.nn.Identity), module, path)


@layer_of.register
def _crop(module: SpatialUniformCrop, plan: Plan, path: str) -> Layer:
    plan.note(path, f"{type_name(module)} takes the middle, also in training")
    return Layer(functools.partial(emitted.Middle, module.oheight, module.owidth), module, path)


@layer_of.register
def _sample(module: Reinforce, plan: Plan, path: str) -> Layer:
    if module.stochastic:
        raise Unconvertible("it draws in evaluation, too")
    plan.note(path, f"{type_name(module)} gives its estimate, also in training: no REINFORCE")
    if isinstance(module, ReinforceGamma):
        return Layer(functools.partial(emitted.GammaMean, plain(module.scale, "its scale")), module, path)
    alone = isinstance(module, ReinforceNormal) and module.stdev is None
    return Layer(functools.partial(emitted.First if alone else torch.nn.Identity), module, path)


@layer_of.register
def _normalized(module: NCEModule, plan: Plan, path: str) -> Layer:
    if not module.normalized:
        raise Unconvertible("it draws noise in evaluation, too, unless `normalized` is set")
    outputs, inputs = module.weight.shape
    make = functools.partial(emitted.NormalizedClasses, inputs, outputs, bool(module.logsoftmax))
    return Layer(make, module, path, (), module.native_state())


@layer_of.register
def _contrast(module: SpatialContrastiveNormalization, plan: Plan, path: str) -> Layer:
    return plan.layer(module.normalizer, f"{path}.normalizer".lstrip("."))


@layer_of.register
def _unpooling(module: MaxUnpooling, plan: Plan, path: str) -> Layer:
    pooling = module.pooling
    if not plan.has(pooling):
        raise Unconvertible("its pooling is not among the layers before it")
    sizes = {"kernel": pooling.kernel, "stride": pooling.strides, "padding": pooling.paddings}
    before = plan.layer(pooling, f"{path}.pooling".lstrip("."))
    return Layer(
        functools.partial(emitted.MaxUnpool, **sizes, ceil_mode=pooling.ceil_mode), module, path, (before,)
    )
