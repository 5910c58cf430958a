"""Networks of nngraph built in Python, which the golden data has from Torch7, under the same names."""

from __future__ import annotations

from collections.abc import Callable

from t7compat import Table, nn, nngraph
from t7compat.nngraph import Node, gModule

B, D, H, K = 2, 4, 3, 5  # the sizes of the golden cases


def identity() -> Node:
    return nn.Identity()()


def chain() -> gModule:
    x = identity()
    return nn.gModule([x], [nn.Linear(H, K)(nn.Tanh()(nn.Linear(D, H)(x)))])


def operators() -> gModule:
    x = -nn.Linear(D, H)
    return nn.gModule([x], [x - nn.Sigmoid() - nn.Linear(H, K)])


def three_in_two_out() -> gModule:
    a, b, c = identity(), identity(), identity()
    ab = nn.CMulTable()([a, b])
    bc = nn.CSubTable()(nn.Linear(K, D)(c), b)
    return nn.gModule([a, b, c], [nn.JoinTable(2)((ab, bc)), nn.Linear(D, H)(bc)])


def fan_out() -> gModule:
    x = identity()
    h = nn.Linear(D, D)(x)
    y = nn.CAddTable()(Table(nn.Tanh()(h), nn.Sigmoid()(h), [h, x] - nn.CMulTable()))
    return nn.gModule([x], [nn.CAddTable()(y, h)])


def input_is_output() -> gModule:
    x = identity()
    return nn.gModule([x], [x, nn.Tanh()(x)])


def split() -> gModule:
    x = identity()
    a, b, c = nn.SplitTable(1)(x).split(3)
    return nn.gModule([x], [nn.CAddTable()(nn.Tanh()(a), nn.CMulTable()(b, c))])


def split_one() -> gModule:
    x = identity()
    (a,) = nn.SplitTable(1)(x).split(1)
    return nn.gModule([x], [nn.Tanh()(a)])


def nested_split() -> gModule:
    x = identity()
    a, bc = x.split(2)
    b, c = bc.split(2)
    return nn.gModule([x], [nn.CAddTable()(a, nn.CMulTable()(b, c))])


def nested_gmodule() -> gModule:
    a, b = identity(), identity()
    inner = nn.gModule([a, b], [nn.CAddTable()(nn.Linear(D, H)(a), b), nn.Tanh()(b)])
    x, y = identity(), identity()
    p, q = inner(x, nn.Linear(K, H)(y)).split(2)
    return nn.gModule([x, y], [nn.CMulTable()(p, q), q])


def shared_module_twice() -> gModule:
    a, b = identity(), identity()
    first = nn.Linear(D, H)
    second = first.clone("weight", "bias", "gradWeight", "gradBias")
    return nn.gModule([a, b], [nn.CSubTable()(first(a), second(b))])


def criterion_nll() -> gModule:
    p, t = identity(), identity()
    y = nn.LogSoftMax()(nn.Linear(D, K)(p))
    return nn.gModule([p, t], [y, nn.ClassNLLCriterion()([y, t])])


def nest_single() -> gModule:
    x = identity()
    return nn.gModule([x], [nn.CAddTable()(nngraph.nest([x]))])


def nest_structure() -> gModule:
    a, b, c = identity(), identity(), identity()
    flat = nn.FlattenTable()(nngraph.nest([a, [b], c]))
    return nn.gModule([a, b, c], [flat, nngraph.nest(Table(c, [a, b]))])


def lstm(input_size: int, size: int, layers: int, embed: Callable[[int, int], nn.Module]) -> gModule:
    """char-rnn's cell: the input and the states of each layer -> new states and log probabilities."""
    inputs = [identity() for _ in range(2 * layers + 1)]
    outputs, x = [], inputs[0]
    for layer in range(layers):
        cell, hidden = inputs[2 * layer + 1], inputs[2 * layer + 2]
        first = (nn.Linear if layer else embed)(size if layer else input_size, 4 * size)
        sums = nn.CAddTable()(first(x), nn.Linear(size, 4 * size)(hidden))
        a, b, c, d = nn.SplitTable(2)(nn.Reshape(4, size)(sums)).split(4)
        kept, new = nn.CMulTable()(nn.Sigmoid()(b), cell), nn.CMulTable()(nn.Sigmoid()(a), nn.Tanh()(d))
        cell = nn.CAddTable()(kept, new)
        x = nn.CMulTable()(nn.Sigmoid()(c), nn.Tanh()(cell))
        outputs += [cell, x]
    return nn.gModule(inputs, [*outputs, nn.LogSoftMax()(nn.Linear(size, input_size)(x))])


def lstm_cell_2_layers() -> gModule:
    return lstm(D, H, 2, nn.Linear)


BUILT = (
    chain, operators, three_in_two_out, fan_out, input_is_output, split, split_one, nested_split,
    nested_gmodule, shared_module_twice, criterion_nll, nest_single, nest_structure, lstm_cell_2_layers,
)  # fmt: skip
