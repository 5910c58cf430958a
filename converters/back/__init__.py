"""From PyTorch back to Torch7: the module of nn, rnn and nngraph that is equal to a network of torch.nn."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from converters.back import (
    arithmetic,
    attention,
    functions,
    layers,
    losses,
    normalizations,
    planes,
    recurrent,
    shapes,
    traced,
)
from converters.back.checks import check_gradients, check_outputs, check_sizes, floats
from converters.back.example import example_of
from converters.back.setting import Example, Memory, Setting, counterpart, evaluating, same_random_numbers
from converters.text import Unconvertible
from t7compat import mersenne
from t7compat.tensortypes import default_type, setdefaulttensortype

__all__ = [
    "Setting",
    "arithmetic",
    "attention",
    "counterpart",
    "from_native",
    "functions",
    "layers",
    "losses",
    "normalizations",
    "planes",
    "recurrent",
    "shapes",
    "traced",
]

_TYPES = {torch.float64: "torch.DoubleTensor", torch.float16: "torch.HalfTensor"}


def from_native(
    network: torch.nn.Module, input: Any = None, *, check: bool = True, fixed_sizes: bool = False
) -> Any:
    """The Torch7 module, or criterion, that is equal to a network of PyTorch, with weights of its own.

    The layers of torch.nn become those of nn, a forward of one's own a chain of them or an nn.gModule.  An
    example `input` (a tuple for several) tells the sizes where they matter; without one it is guessed where
    possible.  With `check` both are run on it in evaluation mode, forward and backward, and at other sizes
    (unless `fixed_sizes`, for a module that is right at the sizes of the example only).  Classes and the
    indices of embeddings count from 1 in Lua; several inputs or outputs are tables; the modules are on the
    CPU, in the mode of the layers.  Raises Unconvertible, which names the layer, for what Torch7
    does not have, and if the outputs or gradients are not the same.
    """
    if not isinstance(network, torch.nn.Module):
        raise Unconvertible(f"expected a torch.nn.Module, got {type(network).__name__}")
    modes = {id(layer): layer.training for layer in network.modules()}
    modes[0] = network.training
    with evaluating(network), torch.no_grad(), same_random_numbers():
        is_loss = isinstance(network, torch.nn.modules.loss._Loss)
        example = None if is_loss else example_of(network, input)
        with _default_type(network, example):
            memory = Memory(modes)
            module = _made(network, example, memory)
            if check and example is not None:
                check_outputs(module, network, example)
                check_gradients(module, network, example, memory)
                if not fixed_sizes:
                    module = _of_any_size(module, network, example, memory)
    return module


def _made(network: torch.nn.Module, example: Example | None, memory: Memory) -> Any:
    with mersenne.idle():
        return Setting("", example, memory).convert(network)


def _of_any_size(module: Any, network: torch.nn.Module, example: Example, memory: Memory) -> Any:
    """The module if it is right at other sizes, too, else one that divides axes of any length."""
    try:
        check_sizes(module, network, example)
    except Unconvertible:
        if not memory.has_parts:
            raise
        general = Memory(memory.modes, of_any_length=True)
        module = _made(network, example, general)
        check_outputs(module, network, example)
        check_gradients(module, network, example, general)
        check_sizes(module, network, example)
    return module


@contextmanager
def _default_type(network: torch.nn.Module, example: Example | None) -> Iterator[None]:
    """Make modules of the type of a network's tensors; if it has none, of that of its input."""
    tensors = floats(list(network.state_dict().values())) or floats(example.once if example else ())
    dtypes = {tensor.dtype for tensor in tensors}
    widest = functools.reduce(torch.promote_types, dtypes or {torch.get_default_dtype()})
    before = default_type().tensor
    setdefaulttensortype(_TYPES.get(widest, "torch.FloatTensor"))
    try:
        yield
    finally:
        setdefaulttensortype(before)
