"""Lua Torch's nn, with the classes of rnn, dpnn and nngraph beside its own, as in Lua.

`nn.NAME` is the class of the Torch type "nn.NAME", whichever package it comes from.
"""

from typing import Any

from t7compat import registry
from t7compat.nn import (
    composites,
    containers,
    convolution,
    criterions,
    devices,
    distances,
    linear,
    lookup,
    normalization,
    pooling,
    products,
    reductions,
    scaling,
    shaping,
    sparse,
    stochastic,
    tables,
    transfer,
    weightnorm,
)
from t7compat.nn.criterion import Criterion
from t7compat.nn.module import Module

__all__ = [
    "Criterion",
    "Module",
    "composites",
    "containers",
    "convolution",
    "criterions",
    "devices",
    "distances",
    "linear",
    "lookup",
    "normalization",
    "pooling",
    "products",
    "reductions",
    "scaling",
    "shaping",
    "sparse",
    "stochastic",
    "tables",
    "transfer",
    "weightnorm",
]


def __getattr__(name: str) -> Any:
    cls = registry.lookup(f"nn.{name}")
    if cls is None:
        raise AttributeError(f"t7compat has no class nn.{name}")
    return cls


def __dir__() -> list[str]:
    return registry.names("nn")
