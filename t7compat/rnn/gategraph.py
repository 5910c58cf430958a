"""The network of a FastLSTM as a graph of nngraph."""

from __future__ import annotations

from typing import Any

from t7compat.nn.module import Module
from t7compat.nn.normalization import BatchNormalization
from t7compat.nn.scaling import Add
from t7compat.nn.shaping import Identity, Reshape
from t7compat.nn.tables import CAddTable, CMulTable, SplitTable
from t7compat.nn.transfer import Sigmoid, Tanh
from t7compat.nngraph.gmodule import gModule
from t7compat.nngraph.inspecting import annotateNodes


def gate_graph(cell: Any, bn: bool) -> gModule:
    """{x, h, c} -> {h', c'} from the products `i2g` and `o2g` of a FastLSTM, for batches only.

    With `bn` both products are normalised, and the new c where it enters h' (Cooijmans et al., 2016).  The
    nodes get the names that they have in Torch7.
    """
    columns, size = 4 * cell.outputSize, cell.outputSize
    x, prev_h, prev_c = Identity()(), Identity()(), Identity()()
    if bn:
        bn_wx, bn_wh = normalization(cell, columns), normalization(cell, columns)
        bn_c = normalization(cell, size)
        i2h = bn_wx(cell.i2g(x).annotate(name="i2h")).annotate(name="bn_wx")
        h2h = bn_wh(cell.o2g(prev_h).annotate(name="h2h")).annotate(name="bn_wh")
        h2h = Add(columns)(h2h)
    else:
        i2h = cell.i2g(x).annotate(name="i2h")
        h2h = cell.o2g(prev_h).annotate(name="h2h")
    all_input_sums = CAddTable()([i2h, h2h])
    reshaped = Reshape(4, size)(all_input_sums)
    n1, n2, n3, n4 = SplitTable(2)(reshaped).split(4)
    in_gate, in_transform = Sigmoid()(n1), Tanh()(n2)
    forget_gate, out_gate = Sigmoid()(n3), Sigmoid()(n4)
    next_c = CAddTable()([CMulTable()([forget_gate, prev_c]), CMulTable()([in_gate, in_transform])])
    normalized = bn_c(next_c).annotate(name="bn_c") if bn else next_c
    next_h = CMulTable()([out_gate, Tanh()(normalized)])
    annotateNodes()
    return gModule([x, prev_h, prev_c], [next_h, next_c])


def normalization(cell: Any, columns: int) -> Module:
    """A normalisation whose weights begin at 0.1, without which the gates would saturate."""
    layer = BatchNormalization(columns, cell.eps, cell.momentum, cell.affine)
    if layer.weight is not None:
        layer.weight.fill_(0.1)
    return layer
