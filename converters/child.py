"""Runs written networks: a program for an interpreter that has torch, and nothing of this project.

    python child.py FOLDER NAME...

For each NAME it loads the network of FOLDER/NAME.py and runs it on what FOLDER/NAME.input holds: an input,
and a gradient with respect to the output.  FOLDER/results gets a dict with what came of it, by name.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import torch

Tensor = torch.Tensor
Gradients = tuple[list[Tensor | None], dict[str, Tensor | None]]


def gradients(network: torch.nn.Module, input: Any, gradient: Any) -> Gradients:
    """Those of the tensors of an input, and those of the parameters by name; None where there is none.

    `gradient` is that with respect to the output.
    """
    places: list[Tensor] = []
    output = output_of(network, _leaves(input, places))
    parameters = dict(network.named_parameters())
    pairs = [(x, g) for x, g in zip(tensors(output), tensors(gradient), strict=True) if x.requires_grad]
    targets = [x for x in (*places, *parameters.values()) if x.requires_grad]
    found: dict[int, Tensor | None] = {}
    if pairs and targets:
        outputs, slopes = zip(*pairs, strict=True)
        results = torch.autograd.grad(outputs, targets, slopes, allow_unused=True)
        found = dict(zip(map(id, targets), results, strict=True))
    return [found.get(id(x)) for x in places], {name: found.get(id(x)) for name, x in parameters.items()}


def output_of(network: torch.nn.Module, input: Any) -> Any:
    """What a network gives for an input, without the state after it."""
    output = network(input)
    return output[0] if gives_state(type(network)) else output


def gives_state(kind: type[torch.nn.Module]) -> bool:
    """Whether layers of a class give (output, state), as nn.LSTM does.

    Those that t7convert writes are derived from a class Recurrence, of which each file has its own.
    """
    if issubclass(kind, torch.nn.RNNBase) and kind.forward.__module__.startswith("torch."):
        return True
    is_written = any(base.__name__ == "Recurrence" for base in kind.__mro__[1:])
    return is_written and "state" in inspect.signature(kind.forward).parameters


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples and dicts, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors(part)


def _leaves(value: Any, places: list[Tensor]) -> Any:
    """The value with tensors of which the gradients are known; `places` get them.

    The network gets copies: a layer may work in place.
    """
    if isinstance(value, torch.Tensor):
        places.append(value.detach().requires_grad_(value.is_floating_point()))
        return places[-1].clone()
    if isinstance(value, dict):
        return {key: _leaves(part, places) for key, part in value.items()}
    return tuple(_leaves(part, places) for part in value) if isinstance(value, tuple) else value


def _results(folder: str, name: str) -> dict[str, Any]:
    """The output of a network and the gradients; a text in their place tells of a failure."""
    results: dict[str, Any] = {}
    try:
        network = _load(folder, name)
        input, gradient = torch.load(f"{folder}/{name}.input")
        with torch.no_grad():
            results["output"] = None if input is None else output_of(network, input)
        if gradient is not None:
            results["gradients"] = gradients(network, input, gradient)
    except (Exception, SystemExit) as error:
        results["gradients" if "output" in results else "output"] = f"{type(error).__name__}: {error}"
    return results


def _load(folder: str, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, f"{folder}/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


if __name__ == "__main__":
    for package in ("t7compat", "converters"):  # whatever is installed
        sys.modules[package] = None  # type: ignore[assignment]
    folder, *names = sys.argv[1:]
    torch.save({name: _results(folder, name) for name in names}, f"{folder}/results")
