"""Forwards recorded by torch.fx: the operations, as they follow one another for the sizes of an example."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from converters.back import formulas
from converters.back.setting import Example, Recurrent, evaluating, has_rule
from converters.text import Unconvertible

Tensor = torch.Tensor


def recorded(network: torch.nn.Module, example: Example) -> fx.GraphModule:
    """The operations of a forward with these inputs; its other arguments have their default values."""
    network = formulas.spelled_out(network)
    names = list(inspect.signature(network.forward).parameters.values())
    count = len(example.once)
    fixed = {p.name: p.default for p in names[count:] if p.default is not p.empty}
    runs = [dict(zip((p.name for p in names), plain(inputs), strict=False)) for inputs in example[:2]]
    with _recording_makers():
        graph = _Tracer(runs).trace(network, fixed or None)
    module = fx.GraphModule(network, graph)
    module.graph.eliminate_dead_code()
    return module


def plain(inputs: tuple[Any, ...]) -> list[Any]:
    """Copies of inputs, as operations may work in place."""
    return copy.deepcopy([tuple(value) if isinstance(value, Recurrent) else value for value in inputs])


class _StandIn(fx.Proxy):
    """Stands for a value; where Python needs a number, range(x.size(1)), a size is that of the example."""

    def __index__(self) -> int:
        return int(self.tracer.known(self.node))  # type: ignore[attr-defined]


class _Tracer(fx.Tracer):
    """Records the calls of the modules inside; those that get more than tensors are looked into.

    What has a formula is recorded as that; a layer of one input stays a module.  Branches and loops are as
    the sizes of the example have them.
    """

    proxy_buffer_attributes = True

    def __init__(self, runs: list[dict[str, Any]]) -> None:
        super().__init__()
        self.runs = [_Run(self, given) for given in runs]
        self.is_running = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _StandIn(node, self)

    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return True

    def call_module(
        self, m: torch.nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self.is_running:
            return forward(*args, **kwargs)
        is_plain = not kwargs and all(isinstance(arg, fx.Proxy) for arg in args)
        formula = formulas.of_layer(type(m))
        if has_rule(m) or (is_plain and (formula is None or len(args) == 1)):
            return super().call_module(m, forward, args, kwargs)
        return formula(m, *args, **kwargs) if formula else forward(*args, **kwargs)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> Any:
        formula = formulas.of_function(target) if kind in ("call_function", "call_method") else None
        if formula:
            return formula(*args, **kwargs)
        return super().create_proxy(kind, target, args, kwargs, *rest, **named)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.is_running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.known(obj.node)) if self.is_of_sizes(obj.node) else super().to_bool(obj)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        count = self.same(*(len(run.value(obj.node)) for run in self.runs))
        return iter([obj[i] for i in range(count)])  # type: ignore[index]

    def known(self, node: fx.Node) -> Any:
        """What an operation on sizes gives."""
        if not self.is_of_sizes(node):
            raise Unconvertible("its forward makes a number of a tensor")
        return self.same(*(run.value(node) for run in self.runs))

    def same(self, once: Any, twice: Any) -> Any:
        """What is the same for a larger batch."""
        if once != twice:
            raise Unconvertible("its forward does something else for a larger batch")
        return once

    def is_of_sizes(self, node: fx.Node) -> bool:
        """Whether a value depends on the sizes of tensors alone."""
        if isinstance(self.runs[0].value(node), Tensor):
            return False
        tensors = [isinstance(self.runs[0].value(source), Tensor) for source in node.all_input_nodes]
        if any(tensors):
            return _name(node) in _LOOK_AT_SIZES
        return all(self.is_of_sizes(source) for source in node.all_input_nodes)


_LOOK_AT_SIZES = ("size", "dim", "ndimension", "numel", "nelement", "getattr", "is_floating_point")


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


class _Run:
    """What the operations give for some inputs, as far as that is asked for while they are recorded."""

    def __init__(self, tracer: _Tracer, given: Mapping[str, Any]) -> None:
        self.tracer, self.given = tracer, given
        self.values: dict[fx.Node, Any] = {}

    def value(self, node: fx.Node) -> Any:
        """What an operation gives."""
        if node not in self.values:
            for source in node.all_input_nodes:
                self.value(source)
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
            self.tracer.is_running = True
            try:
                self.values[node] = self.run(node, *copy.deepcopy((args, kwargs)))
            finally:
                self.tracer.is_running = False
        return self.values[node]

    def run(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Do an operation; modules do what they do in evaluation mode."""
        target: Any = node.target
        if node.op == "placeholder":
            return self.given.get(target)
        if node.op == "get_attr":
            return functools.reduce(getattr, target.split("."), self.tracer.root)
        if node.op == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        if node.op == "call_function":
            return target(*args, **kwargs)
        layer = self.tracer.root.get_submodule(target)
        with evaluating(layer):
            return layer(*args, **kwargs)


# Functions that get no tensors, which torch.fx does not notice, but perhaps the size of one
_FROM_SIZES = ("zeros", "ones", "full", "empty", "arange", "linspace", "eye")


@contextmanager
def _recording_makers() -> Iterator[None]:
    """Record functions that make a tensor of a size that is that of another one."""

    def recording(function: Any) -> Any:
        def made(*args: Any, **kwargs: Any) -> Any:
            proxy = next((x for x in flat((args, *kwargs.values())) if isinstance(x, fx.Proxy)), None)
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


def flat(value: Any) -> Iterator[Any]:
    """What is in tuples and lists."""
    if isinstance(value, tuple | list):
        for part in value:
            yield from flat(part)
    else:
        yield value


# ---- in training


# Functions with an argument that says whether they are in training
_WITH_MODE = (
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
    "batch_norm", "rrelu", "instance_norm",
)  # fmt: skip


def same_in_training(layer: torch.nn.Module, module: fx.GraphModule, example: Example) -> None:
    """Raise Unconvertible if a forward does something else in training than in evaluation."""
    layer.train()
    try:
        other = _steps(recorded(layer, example))
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
        name = _name(node)
        given: Any = (*node.args, *sorted(node.kwargs.items()))
        if name in _WITH_MODE:
            given = [x for x in given if not isinstance(x, bool) and not str(x).startswith("('training',")]
        return name, str(given)

    return [step(node) for node in module.graph.nodes]
