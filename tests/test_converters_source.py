"""The written source: what is lifted, what is refused, and that nothing from a file gets into it as code."""

from __future__ import annotations

import ast
import functools
import math
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import t7compat
from converters import Unconvertible, to_native
from converters.naming import camel, documented, identifier
from converters.native import Layer, Plan
from converters.source import source
from converters.text import literal, source_of
from t7compat import LongStorage, nn

SCALE = 3
Tensor = torch.Tensor


def half(x: Tensor) -> Tensor:
    """A function that a layer uses."""
    return x / 2


@t7compat.register("test.Scaled")
class Scaled(nn.Module):
    """x * weight * SCALE / 2, in training plus the field `extra`."""

    parameter_names = ("weight",)
    bias = None

    def __init__(self, size: int) -> None:
        super().__init__(
            weight=torch.rand(size, dtype=torch.float64), extra=math.inf, sizes=LongStorage([4, 5])
        )
        self.shift = torch.ones(size, dtype=torch.float64)

    def compute(self, x: Tensor, w: Tensor) -> Tensor:
        factor: float = SCALE
        w = half(w) * factor  # the argument is changed
        result = F.relu(x) * w + self.shift
        if self.train:
            result = result + self.extra
        return result if self.bias is None else math.prod(self.sizes) * result


class Refused(nn.Module):
    """The base of classes that cannot be lifted."""


class CallsMethod(Refused):
    def compute(self, x: Tensor) -> Tensor:
        return self.helper(x)

    def helper(self, x: Tensor) -> Tensor:
        return x


class ChangesField(Refused):
    def compute(self, x: Tensor) -> Tensor:
        self.count = 1
        return x


class ReadsNote(Refused):
    scratch = ("place",)

    def compute(self, x: Tensor) -> Tensor:
        self.place = x + 1
        return x * self.place


class CountsFromOne(Refused):
    def __init__(self) -> None:
        super().__init__(sizes=LongStorage([4, 5]))

    def compute(self, x: Tensor) -> Tensor:
        return x * self.sizes[1]


class UsesAnotherClass(Refused):
    def compute(self, x: Tensor) -> Tensor:
        return Scaled(3).forward(x)


class CallsBase(Refused):
    def compute(self, x: Tensor) -> Tensor:
        return super().compute(x)


class HasObject(Refused):
    def __init__(self) -> None:
        super().__init__(thing=nn.Tanh())

    def compute(self, x: Tensor) -> Tensor:
        return x if self.thing else -x


class Decorated(Refused):
    @functools.lru_cache  # noqa: B019
    def compute(self, x: Tensor) -> Tensor:
        return x


class OldStyle(Refused):
    def updateOutput(self, input: Tensor) -> Tensor:
        self.output = input * 2
        return self.output


class LeavesNotes(nn.Module):
    """2 x, for the last dimension."""

    scratch = ("first", "place", "long")

    def compute(self, x: Tensor) -> Tensor:
        self.first = x
        value, where = x.max(-1)
        self.place = where + 1
        if len(value) > 1:
            value = value * 2
        self.long = [
            where,
            value,
        ]
        return value


class OtherLinear(nn.Linear):
    """It inherits a `native` that does not speak for it."""

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return 2 * F.linear(input, weight, bias)


def network_of(*modules: nn.Module) -> nn.Sequential:
    network = nn.Sequential()
    for module in modules:
        network.add(module)
    return network


def text_of(network: nn.Module) -> str:
    return source("written", ["A test."], Plan(network).root)


def test_compute_with_all_that_can_be_lifted() -> None:
    module = Scaled(3)
    network = to_native(network_of(module))
    module.evaluate()
    x = torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(network(x), module.forward(x))
    text = text_of(network_of(module))
    assert "SCALE = 3" in text
    assert "def half(x):" in text
    assert 'Scaled(weight_size=(3,), shift_size=(3,), extra=float("inf"), sizes=(4, 5))' in text
    assert "if self.training:" in text


@pytest.mark.parametrize("cls", Refused.__subclasses__(), ids=lambda cls: cls.__name__)
def test_compute_that_needs_more_is_refused_by_name(cls: type[nn.Module]) -> None:
    plan = Plan(network_of(nn.Tanh(), cls()))
    assert [(problem.path, problem.typename) for problem in plan.problems.values()] == [
        ("modules[2]", cls.__name__)
    ]
    with pytest.raises(Unconvertible, match=cls.__name__):
        to_native(network_of(nn.Tanh(), cls()))


def test_what_compute_leaves_for_programs_to_read_is_not_written() -> None:
    text = text_of(network_of(LeavesNotes()))
    assert not any(word in text for word in (*LeavesNotes.scratch, "where + 1"))
    x = torch.rand(2, 3)
    assert torch.equal(to_native(LeavesNotes())(x), 2 * x.max(-1)[0])


def test_rest_of_the_network_is_converted_around_what_is_missing() -> None:
    network = network_of(nn.Linear(3, 4), OldStyle(), nn.Linear(4, 2))
    layer = Plan(network).root
    assert set(layer.tensors()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    with pytest.raises(NotImplementedError, match=r"OldStyle at modules\[2\]"):
        layer.build()(torch.randn(2, 3, dtype=torch.float64))


def test_override_of_compute_is_not_taken_for_the_layer_that_the_base_is() -> None:
    module = OtherLinear(3, 2)
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(to_native(module)(x), module.forward(x))


def test_layer_for_batches_is_written_out_if_the_input_is_a_single_sample() -> None:
    module = network_of(nn.Linear(3, 4), nn.LogSoftMax())
    x = torch.randn(3, dtype=torch.float64)
    network = to_native(module, x)
    torch.testing.assert_close(network(x), module.forward(x))
    assert type(network[0]) is torch.nn.Linear
    assert type(to_native(module, x[None])[1]) is torch.nn.LogSoftmax


def annotated(
    a: int, b: Any = {1: ":"}, /, *c: Literal["a:b"], d: Tensor | None = None, **e: Any  # noqa: B006
) -> dict[str, Tensor | int]:  # fmt: skip
    """A text: with colons."""

    def inner() -> Tensor:
        return F.relu(d)

    count: int = 3
    return {"x": inner()} if b else {"y": count}


def test_text_without_annotations() -> None:
    assert source_of(annotated).split("\n") == [
        'def annotated(a, b={1: ":"}, /, *c, d=None, **e):  # fmt: skip',
        '    """A text: with colons."""',
        "",
        "    def inner():",
        "        return F.relu(d)",
        "",
        "    count = 3",
        '    return {"x": inner()} if b else {"y": count}',
    ]


# ---- sharing


def test_module_that_occurs_twice_is_one_layer() -> None:
    shared = nn.Linear(3, 3)
    network = to_native(network_of(shared, nn.Tanh(), shared))
    assert network[0] is network[2]
    assert text_of(network_of(shared, nn.Tanh(), shared)).count("nn.Linear") == 1


def test_shared_parameters_stay_shared() -> None:
    layer = nn.Linear(3, 3)
    twins = nn.ParallelTable().add(layer).add(layer.clone("weight", "bias"))
    network = to_native(twins)
    assert network[0] is not network[1]
    assert network[0].weight is network[1].weight
    assert len(list(network.parameters())) == 2
    assert "self[0][1].weight = self[0][0].weight" in source(
        "w", ["A test."], in_sequential(Plan(twins).root)
    )


def in_sequential(layer: Layer) -> Layer:
    return Layer(functools.partial(torch.nn.Sequential), None, "", (layer,))


def test_converted_network_has_weights_of_its_own() -> None:
    module = nn.Linear(3, 2)
    network = to_native(module)
    module.weight.zero_()
    assert network.weight.abs().sum() > 0


# ---- nothing from a file becomes code


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda x: st.tuples(x, x)
    )
)
def test_literals_mean_what_they_stand_for(value: Any) -> None:
    found = eval(literal(value))
    assert repr(found) == repr(value)


@given(st.text())
def test_docstrings_hold_any_text(text: str) -> None:
    tree = ast.parse(f'"""{documented(text)}\n"""\n')
    assert len(tree.body) == 1
    assert isinstance(ast.get_docstring(tree), str)


@given(st.text())
def test_names_are_identifiers(text: str) -> None:
    assert identifier(text).isidentifier()
    ast.parse(f"class {camel(identifier(text))}: pass\ndef {identifier(text)}(): pass")


def test_values_that_cannot_be_written_are_refused() -> None:
    module = nn.Threshold(1, 2)
    module.threshold = t7compat.TorchObject("x)\nimport os\n(", 1)
    plan = Plan(network_of(module))
    assert list(plan.problems) == ["modules[1]"]
    assert "import os" not in "".join(
        line for line in text_of(network_of(module)).split("\n") if "Missing(" not in line
    )


def test_hostile_class_names_stay_inside_of_strings() -> None:
    name = '"""\nimport os\n\'\\'
    network = network_of(nn.Tanh(), nn.Identity())
    network.modules[2] = t7compat.TorchObject(name, 1)
    tree = ast.parse(source("written", [f"{name} and {name}"], Plan(network).root))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= {"torch", "torch.nn.functional", "math"}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert f"{name} at modules[2]" in texts


# ---- docstrings


class Documented(nn.Module):
    """Module that gives {x, y}, a table.  As in Torch7, `scale` is ignored.  {(n), (n)} -> (n)

    With `shift`, it is added.  `output2` keeps the rest, and `setShift(n)` changes it.  It is a LongTensor.
    """

    def __init__(self) -> None:
        super().__init__(shift=2)

    def compute(self, x: Tensor) -> Tensor:
        y = x + self.shift
        return y * y


def test_docstrings_speak_of_what_is_in_the_file() -> None:
    text = text_of(network_of(Documented()))
    assert (
        '"""Layer that gives (x, y), a tuple.  ((n), (n)) -> (n)\n\n    With `shift`, it is added.\n' in text
    )
