"""Layers as expressions, which stand in the forward of a graph in the place of a layer without parameters.

In the text of an expression `x` is the input.  Where a form is for a batch only, as those of torch.nn are, it
is compared with the Torch module on the input of the proof, and gives way to a layer that is right.
"""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn as tnn

from converters import emitted_layers
from converters.brief import swaps_of
from converters.lift import expression, expression_of
from converters.native import FAILURES, Layer
from converters.text import IMPORTS, Unconvertible, is_torch, literal
from t7compat import nn


class Expression(tnn.Module):
    """Gives an expression of its input, `x`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.function = eval(f"lambda x: {text}", {name: module for name, (module, _) in IMPORTS.items()})

    def forward(self, input: Any) -> Any:
        """The value of the expression."""
        return self.function(input)


def as_expression(layer: Layer, inputs: int) -> Layer | None:
    """The expression that is equal to a layer given so many values, for a batch; None if there is none."""
    text = None
    if not layer.state and not layer.children:
        try:
            text = _text(layer, inputs)
        except (Unconvertible, *FAILURES):
            pass  # its fields are not those of its class: the layer says what is wrong
    return None if text is None else Layer(functools.partial(Expression, text), layer.origin, layer.path)


def _text(layer: Layer, inputs: int) -> str | None:
    make, module = layer.make, layer.origin
    if is_torch(make.func):
        return _TORCH[make.func](*make.args, **make.keywords) if make.func in _TORCH else None
    if make.func in _COMBINED:
        sign, whole = _COMBINED[make.func]
        return f" {sign} ".join(f"x[{i}]" for i in range(inputs)) if inputs > 1 else whole
    if make.func.__module__ == emitted_layers.__name__:
        return expression_of(make)
    if "definition" not in vars(make.func):  # a rule has made another layer of it
        return None
    return _OF_A_BATCH[type(module)](module) if type(module) in _OF_A_BATCH else expression(module)


# The texts for layers of torch.nn; for others there is no text that reads better
_TORCH: Mapping[Any, Callable[..., str]] = {
    tnn.Identity: lambda: "x",
    tnn.Sigmoid: lambda: "torch.sigmoid(x)",
    tnn.Tanh: lambda: "torch.tanh(x)",
    tnn.ReLU: lambda: "torch.relu(x)",
    tnn.ReLU6: lambda: "F.relu6(x)",
    tnn.LeakyReLU: lambda slope: f"F.leaky_relu(x, {literal(slope)})",
    tnn.ELU: lambda alpha: f"F.elu(x, {literal(alpha)})",
    tnn.LogSigmoid: lambda: "F.logsigmoid(x)",
    tnn.Softsign: lambda: "F.softsign(x)",
    tnn.Softplus: lambda beta, threshold: f"F.softplus(x, {literal(beta)}, {literal(threshold)})",
    tnn.Hardtanh: lambda least, most: f"F.hardtanh(x, {literal(least)}, {literal(most)})",
    tnn.Softmax: lambda dim: f"torch.softmax(x, {literal(dim)})",
    tnn.LogSoftmax: lambda dim: f"torch.log_softmax(x, {literal(dim)})",
    tnn.Flatten: lambda: "x.flatten(1)",
}
_COMBINED = {emitted_layers.Total: ("+", "sum(x)"), emitted_layers.Product: ("*", "math.prod(x)")}


def _product(module: Any) -> str:
    return f"x[0]{'.mT' if module.transA else ''} @ x[1]{'.mT' if module.transB else ''}"


def _transpose(module: Any) -> str:
    return "x" + "".join(f".transpose({literal(a)}, {literal(b)})" for a, b in swaps_of(module))


# The texts for classes of Torch whose layer reads differently
_OF_A_BATCH: Mapping[Any, Callable[[Any], str | None]] = {nn.MM: _product, nn.Transpose: _transpose}


# ---- putting expressions together


def filled(text: str, value: ast.expr) -> ast.expr:
    """The expression for the input `value`; entries of a tuple that is written out are taken from it."""
    return _Filled(value).visit(ast.parse(text, mode="eval").body)


class _Filled(ast.NodeTransformer):
    def __init__(self, value: ast.expr) -> None:
        self.value = value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.value if node.id == "x" else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        return entry_of(node)


def entry_of(node: ast.Subscript) -> ast.expr:
    """The subscript, or the entry itself of a tuple that is written out."""
    if isinstance(node.value, ast.Tuple) and isinstance(node.slice, ast.Constant):
        index = node.slice.value
        if isinstance(index, int) and index < len(node.value.elts):
            return node.value.elts[index]
    return node


def mentions(node: ast.expr) -> Counter[str]:
    """How often each name is in an expression."""
    return Counter(part.id for part in ast.walk(node) if isinstance(part, ast.Name))


def written(node: ast.expr) -> str:
    """The text of an expression, with double quotes."""
    return ast.unparse(node).replace("'", '"')
