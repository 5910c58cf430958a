"""The proof of gradients: the written network goes back on the sample, and so does the Torch module.

Torch's own backward is the measure.  The written network need not have Torch's parameters (an nn.LSTM has
those of four layers in one), so its gradients are led back to these, by differentiating the conversion.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch

from converters.child import Gradients as Found
from converters.child import tensors
from converters.compare import difference
from converters.graphs import as_network
from converters.native import FAILURES, Plan
from converters.report import Gradients
from converters.weights import place_of
from t7compat.nested import copy_graph, type_name, walk
from t7compat.nn.gradients import data_of, matched, written
from t7compat.nn.module import Module
from t7compat.rnn.flat import RNN
from t7compat.rnn.recurrent import AbstractRecurrent
from t7compat.table import Table, to_tuples

Tensor = torch.Tensor
Pair = tuple[Tensor, Tensor]
Memory = tuple[Any, ...]

MOST = 2**28  # parameters: their gradients are in memory several times
# Gradients that cancel out are noise of this size, relative to the largest one of the network: that of a bias
# before a normalization is
_NOISE = 1e-3
# Classes that add the gradient of a penalty, and the field by which it is multiplied
PENALTIES = {
    "nn.CategoricalEntropy": "minusOne",
    "nn.NormStabilizer": "beta",
    "nn.SparseLinear": "weightDecay",
    "nn.TotalVariation": "strength",
}
# Classes whose backward does not give the gradient of their output, which the written layers give
OTHERS = {
    "nn.IndexLinear": "lists the gradients of the rows that it used",
    "nn.Kmeans": "moves its centres to the means of their samples, without a gradient",
    "nn.MaskZero": "counts masked samples in the gradients of its parameters",
    **dict.fromkeys(
        ("nn.ReinforceBernoulli", "nn.ReinforceCategorical", "nn.ReinforceGamma", "nn.ReinforceNormal"),
        "gives the gradient of its reward",
    ),
    "nn.TrimZero": "counts a masked sample in the gradients of its parameters, where all are",
    "nn.WeightNorm": "has other parameters, of which the weight is made",
}


class Backward(NamedTuple):
    """A backward pass of a Torch module, in tuples for tables.

    `gradient` is that of the output, `slopes` has the parameters, each with its gradient; penalties on what
    the classes in `without` were given are left out.
    """

    input: Any
    gradient: Any
    gradInput: Any
    slopes: list[Pair]
    without: list[str]


def backward(module: Module, input: Any, output: Any) -> Backward | str:
    """The backward pass for an input and a random gradient of its output; a text tells why there is none.

    The module, in evaluation mode, gives this output; neither it nor its gradients change.
    """
    for found, _ in walk(module):
        if (name := type_name(found)) in OTHERS:
            return f"{name} {OTHERS[name]}"
    if sum(parameter.numel() for parameter in _parameters(module)) > MOST:
        return f"there are more than {MOST:,} parameters"
    gradient = _random_like(output)
    if not any(x.is_floating_point() for x in tensors(gradient)):
        return "the output has no floating point numbers"
    twin = copy_graph(module, {id(parameter): parameter for parameter in _parameters(module)})
    _start(twin)
    without = _without_penalties(twin)
    given = Table.from_python(input)
    try:
        with torch.enable_grad():
            if not difference(twin.forward(given), output).within:
                return "where it keeps what its backward needs, it gives another output"
            twin.zeroGradParameters()
            gradInput = twin.backward(given, Table.from_python(gradient))
        if without and not all(x.isfinite().all() for x in tensors(to_tuples(data_of, gradInput))):
            return f"the penalty of {without[0]} is not finite here"
        slopes = list(zip(*(twin.parameters() or ((), ())), strict=True))
    except FAILURES as error:
        return f"Torch has none here: {error}"
    slopes = [(parameter.data, slope.data) for parameter, slope in slopes if slope is not None]
    return Backward(input, gradient, gradInput, slopes, without)


def _without_penalties(module: Module) -> list[str]:
    """Let a module give the gradient of its output alone; the classes that do so only now."""
    found = []
    for value, fields in walk(module):
        factor = PENALTIES.get(type_name(value))
        if factor is not None and torch.as_tensor(fields[factor]).any():
            fields[factor] = fields[factor] * 0
            found.append(type_name(value))
    return sorted(set(found))


def _random_like(output: Any) -> Any:
    generator = torch.Generator().manual_seed(1)

    def draw(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        return torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)

    return to_tuples(draw, output)


def _start(module: Module) -> None:
    """To evaluation mode, at the start of a sequence; recurrent modules keep their steps for a backward."""
    for mode in (module.training, module.evaluate):
        mode()
        module.forget()
    for found, _ in walk(module):
        if isinstance(found, AbstractRecurrent):
            found.train = True
        if isinstance(found, RNN):
            found.resetStates()
    module.forget()


# ---- comparison


def compared(
    module: Module, written: frozenset[int], wanted: Backward | str, found: Found | str | None
) -> Gradients:
    """How far the gradients of a written network are from those of its Torch module, as it is in the file.

    `wanted` may be the reason why there are none, and `found` that of a failure.  `written` is as for `Plan`:
    the names of the parameters follow from it.
    """
    if isinstance(wanted, str):
        return Gradients(reason=wanted)
    if isinstance(found, str | None):
        return Gradients("deviates", f"the written network fails: {found}")
    if not {_memory(parameter) for parameter, _ in wanted.slopes} <= set(map(_memory, _parameters(module))):
        return Gradients(reason="its forward makes new parameters")
    try:
        led_back = _led_back(module, written, found[1])
    except KeyError as error:
        return Gradients(reason=f"the written network has a parameter {error} of its own")
    pairs = dict(_of_input(wanted, found[0])) | _of_parameters(wanted.slopes, led_back)
    finite = [want[want.isfinite()].abs() for _, want in pairs.values()]
    largest = max((numbers.max().item() for numbers in finite if numbers.numel()), default=0.0)
    result = Gradients(without=wanted.without)
    result.judge({name: difference(*pair, largest * _NOISE) for name, pair in pairs.items()})
    return result


def _of_input(wanted: Backward, found: list[Tensor | None]) -> Iterator[tuple[str, Pair]]:
    for got, (path, x, want) in zip(found, matched(("input",), wanted.input, wanted.gradInput), strict=True):
        if x.is_floating_point() and isinstance(want, Tensor) and want.numel() == x.numel():
            yield written(path), (torch.zeros_like(x) if got is None else got, want.to(x.dtype).view_as(x))


def _of_parameters(slopes: list[Pair], led_back: Mapping[Memory, tuple[str, Tensor]]) -> dict[str, Pair]:
    """The gradients of both, by name, those of a parameter that is several ones in Torch added up.

    What Torch's gradients have in common in memory, those that are led back have to have, too: a parameter
    may be the transpose of another one.
    """
    copies = copy_graph(Table(*[want for _, want in slopes]))
    for got in copies:
        got.zero_()
    sums: dict[Memory, tuple[str, dict[Memory, Pair]]] = {}
    for i, ((parameter, want), got) in enumerate(zip(slopes, copies, strict=True), 1):
        name, slope = led_back.get(_memory(parameter), (f"parameters()[{i}]", None))
        if _memory(parameter) not in sums and slope is not None:
            got += slope.reshape(got.shape)
        _, parts = sums.setdefault(_memory(parameter), (name, {}))
        parts.setdefault(_memory(want), (got, want))
    return {
        name: (torch.stack(ours).sum(0), torch.stack(theirs).sum(0))
        for name, parts in sums.values()
        for ours, theirs in [zip(*parts.values(), strict=True)]
    }


def _led_back(
    module: Module, written: frozenset[int], found: Mapping[str, Tensor | None]
) -> dict[Memory, tuple[str, Tensor]]:
    """The gradients of a written network's parameters as those of Torch's, each with a name of the former.

    Raises KeyError for a parameter that the network written for the module has not.
    """
    known = {_memory(parameter) for parameter in _parameters(module)}
    fields = {id(x): x for _, content in walk(module) for x in content.values() if isinstance(x, Tensor)}
    leaves = [x for x in fields.values() if x.is_floating_point() and _memory(x) in known]
    sums: dict[Memory, tuple[str, Tensor]] = {}
    with _differentiable(leaves):
        state = as_network(Plan(module, written).root).tensors()
        for name, slope in found.items():
            if name not in state or (slope is not None and slope.shape != state[name].shape):
                raise KeyError(name)
            if slope is None or not state[name].requires_grad:
                continue
            parts = torch.autograd.grad(state[name], leaves, slope, retain_graph=True, allow_unused=True)
            for leaf, part in zip(leaves, parts, strict=True):
                if part is not None:
                    before = sums.get(_memory(leaf))
                    sums[_memory(leaf)] = (before[0], before[1] + part) if before else (name, part)
    return sums


def _memory(tensor: Tensor) -> Memory:
    """What tensors have in common if their numbers, in order, are the same memory."""
    return (tensor.data_ptr(), tensor.numel()) if tensor.is_contiguous() else place_of(tensor)


def _parameters(module: Module) -> list[Tensor]:
    return list((module.parameters() or ((), ()))[0])


@contextlib.contextmanager
def _differentiable(parameters: list[Tensor]) -> Iterator[None]:
    for parameter in parameters:
        parameter.requires_grad_()
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
