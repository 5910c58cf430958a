"""Networks with a forward of their own: recorded by torch.fx, and written as a chain or an nn.gModule."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from converters.back import formulas, indexing, operations
from converters.back.forward import Constant, Forward, OfBatch, Parts, Value
from converters.back.setting import Recurrent, Setting, chain, counterpart, has_rule
from converters.back.states import LastOutputs, with_state
from converters.text import Unconvertible
from t7compat import nn

Tensor = torch.Tensor


# ---- recording


class _Tracer(fx.Tracer):
    """Records the calls of the modules inside; those that get more than tensors are looked into.

    What has a formula is recorded as that; a layer of one input stays a module.
    """

    proxy_buffer_attributes = True

    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return True

    def call_module(
        self, m: torch.nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        plain = not kwargs and all(isinstance(arg, fx.Proxy) for arg in args)
        formula = formulas.of_layer(type(m))
        if has_rule(m) or (plain and (formula is None or len(args) == 1)):
            return super().call_module(m, forward, args, kwargs)
        return formula(m, *args, **kwargs) if formula else forward(*args, **kwargs)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> Any:
        formula = formulas.of_function(target) if kind in ("call_function", "call_method") else None
        if formula:
            return formula(*args, **kwargs)
        return super().create_proxy(kind, target, args, kwargs, *rest, **named)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        if getattr(obj.node.target, "__name__", obj.node.target) != "chunk":
            return super().iter(obj)
        named = {"chunks": obj.node.args[1]} if len(obj.node.args) > 1 else obj.node.kwargs
        return iter([obj[i] for i in range(int(str(named["chunks"])))])  # type: ignore[index]


# Functions that get no tensors, which torch.fx does not notice, but perhaps the size of one
_FROM_SIZES = ("zeros", "ones", "full", "empty", "arange", "linspace", "eye")


@contextmanager
def _recording_makers() -> Iterator[None]:
    """Record functions that make a tensor of a size that is that of another one."""

    def recording(function: Any) -> Any:
        def made(*args: Any, **kwargs: Any) -> Any:
            proxy = next((x for x in _flat((args, *kwargs.values())) if isinstance(x, fx.Proxy)), None)
            if proxy is None:
                return function(*args, **kwargs)
            return proxy.tracer.create_proxy("call_function", function, args, kwargs)

        return made

    functions = {name: getattr(torch, name) for name in _FROM_SIZES}
    for name, function in functions.items():
        setattr(torch, name, recording(function))
    try:
        yield
    finally:
        for name, function in functions.items():
            setattr(torch, name, function)


def recorded(network: torch.nn.Module, count: int) -> fx.GraphModule:
    """The operations of a forward with this number of inputs; the others have their default values."""
    network = formulas.spelled_out(network)
    parameters = list(inspect.signature(network.forward).parameters.values())[count:]
    fixed = {p.name: p.default for p in parameters if p.default is not p.empty}
    with _recording_makers():
        graph = _Tracer().trace(network, fixed or None)
    module = fx.GraphModule(network, graph)
    module.graph.eliminate_dead_code()
    return module


class _Runner(fx.Interpreter):
    """Runs a recorded forward, and keeps what each operation gives."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)

    def values(self, inputs: tuple[Any, ...]) -> dict[fx.Node, Any]:
        """What each operation gives for these inputs."""
        plain = [tuple(value) if isinstance(value, Recurrent) else value for value in inputs]
        self.run(*copy.deepcopy(plain))  # as operations may work in place
        return self.env


@counterpart.register
def _own_forward(layer: torch.nn.Module, setting: Setting) -> Any:
    """Any module without a rule."""
    if setting.example is None:
        raise Unconvertible("it has a forward of its own, for which an example input is needed")
    try:
        module = recorded(layer, len(setting.example.once))
    except Unconvertible:
        raise
    except Exception as error:  # whatever a forward may do with the stand-ins for tensors
        text = str(error).strip().split("\n")[0]
        raise Unconvertible(
            f"torch.fx cannot record its forward ({text}); converters.counterpart.register gives it a rule"
        ) from error
    if setting.memory.modes.get(id(layer), layer.training):
        _same_in_training(layer, module, len(setting.example.once))
    runs = [_Runner(module).values(inputs) for inputs in (setting.example.once, setting.example.twice)]
    return _converted(module, setting, layer, runs)


# Functions with an argument that says whether they are in training
_WITH_MODE = (
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
    "batch_norm", "rrelu", "instance_norm",
)  # fmt: skip


def _same_in_training(layer: torch.nn.Module, module: fx.GraphModule, count: int) -> None:
    """Raise Unconvertible if a forward does something else in training than in evaluation."""
    layer.train()
    try:
        other = _steps(recorded(layer, count))
    except Exception:  # whatever a forward may do with the stand-ins for tensors
        other = None
    finally:
        layer.eval()
    if other != _steps(module):
        raise Unconvertible(
            "its forward does something else in training than in evaluation, which would get lost; "
            "call eval() on it before, if it is not to be trained in Lua"
        )


def _steps(module: fx.GraphModule) -> list[Any]:
    """What a recorded forward does, besides telling functions in which mode it is."""

    def step(node: fx.Node) -> Any:
        name = getattr(node.target, "__name__", str(node.target))
        given: Any = (*node.args, *sorted(node.kwargs.items()))
        if name in _WITH_MODE:
            given = [x for x in given if not isinstance(x, bool) and not str(x).startswith("('training',")]
        return name, str(given)

    return [step(node) for node in module.graph.nodes]


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
    has_tensors = any(isinstance(value, Tensor) for value in _flat(once))
    return (
        node.op != "get_attr"
        and name not in _MAKERS
        and has_tensors
        and any(isinstance(value, Value) for value in _flat((arguments, *named.values())))
    )


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from _flat(part)
    else:
        yield value


# ---- writing the network


def network(inputs: list[Value], output: Any) -> Any:
    """The values of a forward as one module: a chain if they are one, else an nn.gModule."""
    outputs = list(output) if isinstance(output, tuple | list) else [output]
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
