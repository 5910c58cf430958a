"""Networks with a forward of their own: recorded by torch.fx, and written as a chain or an nn.gModule."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import fx

from converters.back import indexing, operations
from converters.back.forward import Constant, Forward, OfBatch, Parts, Value
from converters.back.recording import flat, plain, recorded, same_in_training
from converters.back.setting import Recurrent, Setting, chain, counterpart
from converters.back.states import LastOutputs, with_state
from converters.native import FAILURES
from converters.text import Unconvertible
from t7compat import nn

Tensor = torch.Tensor


class _Runner(fx.Interpreter):
    """Runs a recorded forward, and keeps what each operation gives."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)

    def values(self, inputs: tuple[Any, ...]) -> dict[fx.Node, Any]:
        """What each operation gives for these inputs."""
        self.run(*plain(inputs))
        return self.env


@counterpart.register
def _own_forward(layer: torch.nn.Module, setting: Setting) -> Any:
    """Any module without a rule."""
    if setting.example is None:
        raise Unconvertible("it has a forward of its own, for which an example input is needed")
    try:
        module = recorded(layer, setting.example)
    except Unconvertible:
        raise
    except Exception as error:  # whatever a forward may do with the stand-ins for tensors
        text = str(error).strip().split("\n")[0]
        raise Unconvertible(
            f"torch.fx cannot record its forward ({text}); converters.counterpart.register gives it a rule"
        ) from error
    if setting.memory.modes.get(id(layer), layer.training):
        same_in_training(layer, module, setting.example)
    try:
        runs = [_Runner(module).values(inputs) for inputs in setting.example[:2]]
    except FAILURES as error:  # of a formula, which is not for all that a layer takes
        text = str(error).strip().split("\n")[0]
        raise Unconvertible(f"its forward has arguments that cannot be converted: {text}") from None
    return _converted(module, setting, layer, runs)


# ---- converting


def _converted(module: fx.GraphModule, setting: Setting, layer: Any, runs: list[dict[fx.Node, Any]]) -> Any:
    assert setting.example is not None
    forward, values = Forward(setting, layer), dict[fx.Node, Any]()
    given = iter(setting.example.once)
    inputs: list[Value] = []
    for node in module.graph.nodes:
        forward.name, (forward.once, forward.twice) = node.name, (run.get(node) for run in runs)
        arguments, named = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "output":
            return network(inputs, arguments[0])
        if node.op == "placeholder":
            values[node] = _input(forward, next(given, None), inputs)
        else:
            values[node] = _result(forward, node, arguments, named)
        if isinstance(values[node], Value) and isinstance(forward.once, Tensor):
            forward.values.append(values[node])
    raise Unconvertible("its forward gives nothing")


def _input(forward: Forward, given: Any, inputs: list[Value]) -> Any:
    """What a forward has for an argument; a tensor, or a tuple of some, is an input of the module."""
    once, twice = forward.once, forward.twice
    if not isinstance(once, Tensor | tuple | list):
        return once
    inputs.append(Value(None, (), forward.name, once, twice))
    return with_state(given.layer, inputs[-1], once, twice) if isinstance(given, Recurrent) else inputs[-1]


def _result(forward: Forward, node: fx.Node, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    once, twice = forward.once, forward.twice
    if not _computes(node, arguments, named, once):
        if not _trains(forward, node, arguments):
            return _constant(once, twice)
        input, *others = arguments
        value = indexing.input_of_layer(forward, input)
        arguments = value, *others
        if isinstance(once, Tensor):
            missing = value.once.dim() - input.once.dim()
            once, twice = (
                run[(None,) * missing].expand(batch.shape[0], *[-1] * (run.dim() + missing - 1))
                for run, batch in ((once, value.once), (twice, value.twice))
            )
    result = operations.converted(forward, node, arguments, named)
    if isinstance(result, Value) and result.module is not None:
        result.once, result.twice = once, twice
    return result


def _trains(forward: Forward, node: fx.Node, arguments: tuple[Any, ...]) -> bool:
    """Whether a layer, or a function that is one, gets a constant and has parameters to be trained."""
    if not forward.values or not arguments or not isinstance(arguments[0], Constant):
        return False
    if node.op == "call_module":
        layer = forward.root.get_submodule(str(node.target))
        return any(parameter.requires_grad for parameter in layer.parameters())
    if getattr(node.target, "__name__", "") not in ("linear", "embedding"):
        return False
    weight = arguments[1]
    return isinstance(weight, Constant) and forward.is_trained(weight.once)


def _constant(once: Any, twice: Any) -> Any:
    """What does not depend on the numbers of the input."""
    if isinstance(once, Tensor):
        return Constant(once, twice)
    return OfBatch(once, twice) if isinstance(once, int | float) and once != twice else once


# Functions and methods that look at the size of a tensor only
_MAKERS = (
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty",
)  # fmt: skip


def _computes(node: fx.Node, arguments: Any, named: Any, once: Any) -> bool:
    """Whether an operation depends on the numbers of the inputs, not on their sizes alone."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    has_tensors = any(isinstance(value, Tensor) for value in flat(once))
    return (
        node.op != "get_attr"
        and name not in _MAKERS
        and has_tensors
        and any(isinstance(value, Value) for value in flat((arguments, *named.values())))
    )


# ---- writing the network


def network(inputs: list[Value], output: Any) -> Any:
    """The values of a forward as one module: a chain if they are one, else an nn.gModule."""
    outputs = [x for x in output if x is not None] if isinstance(output, tuple | list) else [output]
    if any(isinstance(value, Parts | LastOutputs) for value in (output, *outputs)):
        raise Unconvertible(
            "its output holds the last state of a recurrent layer, or indices of maxima, which "
            "Torch7 does not give: let its forward return what is used of them "
            "(output, _ = self.lstm(x); return output)"
        )
    if not all(isinstance(value, Value) for value in outputs):
        raise Unconvertible("its output must be a tensor, or a tuple of tensors that depend on the input")
    order = _in_order(outputs)
    unused = [value.name for value in inputs if value not in order]
    if unused:
        raise Unconvertible(f"its output does not depend on the input {unused[0]}")
    uses = [source for value in order for source in value.sources]
    is_chain = len(inputs) == len(outputs) == 1 and all(
        len(value.sources) <= 1 and uses.count(value) == (value is not outputs[0]) for value in order
    )
    if is_chain:
        modules = [value.module for value in order if value.module is not None]
        return chain(*(modules or [nn.Identity()]))
    return _graph(inputs, outputs, order)


def _in_order(outputs: list[Value]) -> list[Value]:
    """All values that lead to the outputs, those before that others need."""
    order: dict[Value, None] = {}
    pending = [(value, False) for value in reversed(outputs)]
    while pending:
        value, is_ready = pending.pop()
        if value in order:
            continue
        if is_ready or not value.sources:
            order[value] = None
        else:
            pending.append((value, True))
            pending += [(source, False) for source in reversed(value.sources)]
    return list(order)


def _graph(inputs: list[Value], outputs: list[Value], order: list[Value]) -> Any:
    nodes: dict[Value, Any] = {value: nn.Identity()() for value in inputs}
    for value in order:
        if value.module is not None:
            node = value.module(_distinct([nodes[source] for source in value.sources]))
            nodes[value] = node.annotate(name=re.sub(r"\W", "_", value.name))
    return nn.gModule([nodes[value] for value in inputs], _distinct([nodes[value] for value in outputs]))


def _distinct(nodes: list[Any]) -> list[Any]:
    """The nodes; one that comes again stands behind an nn.Identity."""
    return [nn.Identity()(node) if node in nodes[:i] else node for i, node in enumerate(nodes)]
