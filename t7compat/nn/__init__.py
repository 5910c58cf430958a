"""Lua Torch's nn, with the classes of rnn, dpnn and nngraph beside its own, as in Lua.

`nn.NAME` is the class of the Torch type "nn.NAME", whichever package it comes from.
"""

from typing import Any

from t7compat import registry
from t7compat.nn import (
    adaptive_pooling,
    average_pooling,
    classification,
    combinations,
    composites,
    containers,
    convolution,
    devices,
    distances,
    embedding,
    formats,
    fullconvolution,
    hessian,
    linear,
    mapconvolution,
    normalization,
    pairwise,
    pooling,
    products,
    rectifiers,
    reductions,
    regression,
    resampling,
    scaling,
    selection,
    shaping,
    sparse,
    stochastic,
    tables,
    training,
    transfer,
    unpooling,
    weightnorm,
    wrappers,
)
from t7compat.nn import recursion as utils
from t7compat.nn.criterion import Criterion
from t7compat.nn.jacobian import Jacobian, SparseJacobian
from t7compat.nn.module import Module

__all__ = [
    "Criterion",
    "Jacobian",
    "Module",
    "SparseJacobian",
    "adaptive_pooling",
    "average_pooling",
    "classification",
    "combinations",
    "composites",
    "containers",
    "convolution",
    "devices",
    "distances",
    "embedding",
    "formats",
    "fullconvolution",
    "hessian",
    "linear",
    "mapconvolution",
    "normalization",
    "pairwise",
    "pooling",
    "products",
    "rectifiers",
    "reductions",
    "regression",
    "resampling",
    "scaling",
    "selection",
    "shaping",
    "sparse",
    "stochastic",
    "tables",
    "training",
    "transfer",
    "unpooling",
    "utils",
    "weightnorm",
    "wrappers",
]


def __getattr__(name: str) -> Any:
    cls = registry.lookup(f"nn.{name}")
    if cls is None:
        raise AttributeError(f"t7compat has no class nn.{name}")
    return cls


def __dir__() -> list[str]:
    return registry.names("nn")
