"""Lua Torch's nn, with the classes of rnn, dpnn and nngraph beside its own, as in Lua.

`nn.NAME` is the class of the Torch type "nn.NAME", whichever package it comes from.
"""

from typing import Any

from t7compat import registry
from t7compat.nn import (
    containers,
    convolution,
    criterions,
    devices,
    fullconvolution,
    linear,
    mapconvolution,
    normalization,
    pooling,
    reductions,
    shaping,
    stochastic,
    tables,
    transfer,
)
from t7compat.nn.criterion import Criterion
from t7compat.nn.module import Module

# In Lua, nn.tables has three functions
vars(tables).update(full=mapconvolution.full, oneToOne=mapconvolution.oneToOne, random=mapconvolution.random)

__all__ = [
    "Criterion",
    "Module",
    "containers",
    "convolution",
    "criterions",
    "devices",
    "fullconvolution",
    "linear",
    "mapconvolution",
    "normalization",
    "pooling",
    "reductions",
    "shaping",
    "stochastic",
    "tables",
    "transfer",
]


def __getattr__(name: str) -> Any:
    cls = registry.lookup(f"nn.{name}")
    if cls is None:
        raise AttributeError(f"t7compat has no class nn.{name}")
    return cls


def __dir__() -> list[str]:
    return registry.names("nn")
