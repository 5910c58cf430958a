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

from converters.lift import expression
from converters.native import FAILURES, Layer
from converters.text import IMPORTS, Unconvertible, is_torch, literal
from t7compat import nn
from t7compat.nn.shapes import zero_based


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
    if "definition" not in vars(make.func):  # a rule has made another layer of it
        return None
    if type(module) in _COMBINED:
        sign, whole = _COMBINED[type(module)]
        return f" {sign} ".join(f"x[{i}]" for i in range(inputs)) if inputs > 1 else whole
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
_COMBINED = {nn.CAddTable: ("+", "sum(x)"), nn.CMulTable: ("*", "math.prod(x)")}


def _axis(dimension: Any, sample: Any = None) -> str:
    """PyTorch's index of a dimension, where a layer may know the dimensions of a sample."""
    return literal(dimension if dimension < 0 else zero_based(dimension) + (sample is not None))


def _entry(index: Any) -> str | None:
    return None if isinstance(index, str) else literal(index if index < 0 else zero_based(index))


def _join(module: Any) -> str:
    return f"torch.cat(x, {_axis(module.dimension, module.nInputDims)})"


def _split(module: Any) -> str:
    return f"x.unbind({_axis(module.dimension, module.nInputDims)})"


def _select(module: Any) -> str | None:
    entry = _entry(module.index)
    return entry and f"x[{entry}]"


def _narrow(module: Any) -> str | None:
    start = zero_based(module.offset)
    return f"x[{literal(start)}:{literal(start + module.length)}]" if start >= 0 < module.length else None


def _product(module: Any) -> str:
    return f"x[0]{'.mT' if module.transA else ''} @ x[1]{'.mT' if module.transB else ''}"


def _reshape(module: Any) -> str:
    size = [literal(n) for n in module.size]
    return f"x.reshape({', '.join(size if module.batchMode is False else ['-1', *size])})"


def _view(module: Any) -> str | None:
    size = [literal(int(n)) for n in module.size]
    if module.numInputDims is None:  # what is left over is a batch: that depends on the input
        return f"x.reshape({', '.join(size)})" if "-1" in size else None
    if size == ["-1"]:
        return "x.flatten(1)"
    return f"x.reshape({', '.join(['len(x)' if '-1' in size else '-1', *size])})"


def _transpose(module: Any) -> str:
    swaps = [(_axis(a, module.numInputDims), _axis(b, module.numInputDims)) for a, b in module.permutations]
    return "x" + "".join(f".transpose({a}, {b})" for a, b in swaps)


def _replicate(module: Any) -> str:
    axis = _axis(module.dim, module.ndim)
    one = f"x.unsqueeze({axis})"
    return one if module.nfeatures == 1 else f"{one}.repeat_interleave({literal(module.nfeatures)}, {axis})"


def _sum(module: Any) -> str:
    keep = "" if module.squeeze else ", keepdim=True"
    return f"x.{'mean' if module.sizeAverage else 'sum'}({_axis(module.dimension, module.nInputDims)}{keep})"


def _extreme(module: Any) -> str:
    which = "max" if isinstance(module, nn.Max) else "min"
    return f"x.{which}({_axis(module.dimension, module.nInputDims)}).values"


def _squeeze(module: Any) -> str | None:
    return module.dim and f"x.squeeze({_axis(module.dim, module.numInputDims)})"


def _slices(module: Any) -> str | None:
    start = zero_based(module.index)
    if not start >= 0 < module.length:
        return None
    return f"x.narrow({_axis(module.dimension)}, {literal(start)}, {literal(module.length)})"


# The texts for classes of Torch that torch.nn does not have
_OF_A_BATCH: Mapping[Any, Callable[[Any], str | None]] = {
    nn.JoinTable: _join,
    nn.SplitTable: _split,
    nn.SelectTable: _select,
    nn.NarrowTable: _narrow,
    nn.CSubTable: lambda module: "x[0] - x[1]",
    nn.CDivTable: lambda module: "x[0] / x[1]",
    nn.MM: _product,
    nn.DotProduct: lambda module: "(x[0] * x[1]).sum(-1)",
    nn.Reshape: _reshape,
    nn.View: _view,
    nn.Transpose: _transpose,
    nn.Replicate: _replicate,
    nn.Sum: _sum,
    nn.Mean: _sum,
    nn.Max: _extreme,
    nn.Min: _extreme,
    nn.Squeeze: _squeeze,
    nn.Select: lambda module: f"x.select({_axis(module.dimension)}, {_entry(module.index)})",
    nn.Narrow: _slices,
    nn.SpatialSoftMax: lambda module: "torch.softmax(x, 1)",
    nn.SpatialLogSoftMax: lambda module: "torch.log_softmax(x, 1)",
}


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
