"""Recurrent cells: LSTM, FastLSTM, GRU and MuFuRu.

They are built of nn modules, as in Lua: `inputGate`, `i2g`, ... are there, and files of Torch7 load into
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from t7compat.errors import InputError
from t7compat.nn.linear import Linear, LinearNoBias
from t7compat.nn.module import Module
from t7compat.nn.rectifiers import Abs
from t7compat.nn.reductions import Max, Min, Sum
from t7compat.nn.scaling import CMul
from t7compat.nn.shaping import Identity, Reshape, Transpose, Unsqueeze, View
from t7compat.nn.tables import (
    CAddTable,
    CMulTable,
    CSubTable,
    FlattenTable,
    JoinTable,
    NarrowTable,
    SelectTable,
    SplitTable,
)
from t7compat.nn.transfer import MulConstant, Sigmoid, SoftMax, Sqrt, Tanh
from t7compat.nn.wrappers import MapTable
from t7compat.nngraph.gmodule import gModule
from t7compat.rnn import fused
from t7compat.rnn.gated import Gated, beside, chain, dropout, each, gate_products, stacked
from t7compat.rnn.gategraph import gate_graph
from t7compat.rnn.hidden import on_demand
from t7compat.rnn.misc import SAdd
from t7compat.rnn.whole import NotWhole
from t7compat.table import Table

if TYPE_CHECKING:
    from t7compat.rnn.whole import Run, Whole

Tensor = torch.Tensor


def cells_of(states: fused.States) -> Any:
    """The cells of all steps, or a function that gives them."""
    return (lambda: states()[:1]) if callable(states) else states[:1]


class LSTM(Gated):
    """Long short-term memory with peepholes.

    (inputSize) or (batch, inputSize) -> (outputSize) or (batch, outputSize)

        i, f = sigmoid(W x + U h + p * c + b)     g = tanh(W x + U h + b)     c' = f * c + i * g
        o = sigmoid(W x + U h + p * c' + b)       h' = o * tanh(c')

    each with its own weights; `cell2gate=False` leaves the peepholes p out.  With p > 0 the inputs of all
    products are dropped out with one mask for all steps (Gal, 2015).  `userPrevOutput` and `userPrevCell`
    replace the zeros before the first step, `userNextGradOutput` and `userNextGradCell` those after the last
    one.  Graves et al., 2013.
    """

    cells, gradCells = on_demand("cells"), on_demand("gradCells")
    states = (*Gated.states, ("cells", "gradCells", "userPrevCell", "userNextGradCell"))
    userPrevCell: Tensor | None = None
    userNextGradCell: Tensor | None = None

    def __init__(
        self, inputSize: int, outputSize: int | None = None, rho: int | None = None,
        cell2gate: bool = True, p: float = 0, mono: bool = False,
    ) -> None:  # fmt: skip
        self.cell2gate = bool(cell2gate)
        super().__init__(inputSize, outputSize or inputSize, rho, p, mono)

    def arguments(self) -> tuple[Any, ...]:
        return self.inputSize, self.outputSize, None, self.cell2gate

    # ---- the network of one step, {x, h, c} -> {h', c'}

    def projections(self) -> list[Module]:
        """W x + b and U h."""
        x = chain(dropout(self), Linear(self.inputSize, self.outputSize))
        h = chain(dropout(self), LinearNoBias(self.outputSize, self.outputSize))
        return [x, h]

    def buildGate(self) -> Module:
        """{x, h, c} -> sigmoid(W x + U h + p * c + b)"""
        terms = self.projections()
        if self.cell2gate:
            terms.append(CMul(self.outputSize))
        first = [] if self.cell2gate else [NarrowTable(1, 2)]
        return chain(*first, beside(*terms), CAddTable(), Sigmoid())

    def buildInputGate(self) -> Module:
        """i"""
        return self.buildGate()

    def buildForgetGate(self) -> Module:
        """f"""
        return self.buildGate()

    def buildOutputGate(self) -> Module:
        """o"""
        return self.buildGate()

    def buildHidden(self) -> Module:
        """{x, h, c} -> g"""
        return chain(NarrowTable(1, 2), beside(*self.projections()), CAddTable(), Tanh())

    def buildCell(self) -> Module:
        """{x, h, c} -> c'"""
        self.inputGate, self.forgetGate = self.buildInputGate(), self.buildForgetGate()
        self.hiddenLayer = self.buildHidden()
        kept = chain(each(self.forgetGate, SelectTable(3)), CMulTable())
        new = chain(each(self.inputGate, self.hiddenLayer), CMulTable())
        return chain(each(kept, new), CAddTable())

    def buildModel(self) -> Module:
        """{x, h, c} -> {h', c'}"""
        self.cellLayer = self.buildCell()
        self.outputGate = self.buildOutputGate()
        return chain(
            each(NarrowTable(1, 2), self.cellLayer),
            FlattenTable(),  # {x, h, c'}
            each(chain(each(self.outputGate, chain(SelectTable(3), Tanh())), CMulTable()), SelectTable(3)),
        )

    # ---- forward and backward

    def updateOutput(self, input: Tensor) -> Tensor:
        output = super().updateOutput(input)
        self.cell = vars(self)["cells"][self.step - 1]
        return output

    def unroll(self, whole: Whole, x: Tensor, *state: Tensor) -> tuple[Tensor, Sequence[Tensor], Any]:
        h, c = state
        layers = self.leaves(whole)
        weights, biases, peepholes = {}, {}, {}
        for gate in "figo":
            (of_input, biases[gate]), (of_state, *_) = next(layers), next(layers)
            weights[gate] = of_input, of_state
            if self.cell2gate and gate != "g":
                (peepholes[gate],) = next(layers)
        weight = stacked(whole, *[weights[gate] for gate in "ifog"])
        bias = torch.cat([biases[gate] for gate in "ifog"])
        holes = torch.stack([peepholes[gate] for gate in "ifo"]) if peepholes else None
        output, last, states = fused.lstm(x, h, c, weight, bias, holes, mask=self.mask(x))
        return output, [last], cells_of(states)

    def take_whole(self, whole: Whole, run: Run) -> None:
        super().take_whole(whole, run)
        self.cell = vars(self)["cells"][self.step - 1]

    # ---- state

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        if type is not None:
            self.forget()
            self.clearState()
        return super().type(type, tensorCache)

    def clearState(self) -> Any:
        user = ("userPrevOutput", "userPrevCell", "userGradPrevOutput", "userGradPrevCell")
        for name in ("zeroTensor", *user):
            if vars(self).get(name) is not None:
                vars(self)[name] = vars(self)[name].new_empty(0)
        return super().clearState()


class FastLSTM(LSTM):
    """Long short-term memory without peepholes.  Shapes and options as for LSTM.

    i, g, f, o = W x + U h + b, of which g through tanh, the others through the sigmoid
    c' = f * c + i * g        h' = o * tanh(c')

    Two switches of the class, which count when a cell is made: with `FastLSTM.usenngraph = True` its network
    is a graph of nngraph; with `FastLSTM.bn = True` this has batch normalisation, to which `eps`, `momentum`
    and `affine` go.  Such cells take batches only.
    """

    usenngraph = False
    bn = False
    eps: float | None = None
    momentum: float | None = None

    def __init__(
        self, inputSize: int, outputSize: int | None = None, rho: int | None = None,
        eps: float | None = None, momentum: float | None = None, affine: bool = True,
        p: float = 0, mono: bool = False,
    ) -> None:  # fmt: skip
        options = {"eps": eps, "momentum": momentum, "affine": affine}
        vars(self).update((name, value) for name, value in options.items() if value is not None)
        super().__init__(inputSize, outputSize, rho, True, p, mono)

    def arguments(self) -> tuple[Any, ...]:
        return self.inputSize, self.outputSize

    def buildModel(self) -> Module:
        """{x, h, c} -> {h', c'}"""
        self.i2g, self.o2g = gate_products(self, 4)
        return self.nngraphModel() if self.usenngraph or self.bn else self.gate_chain()

    def nngraphModel(self) -> Module:
        """{x, h, c} -> {h', c'} as a graph from the products `i2g` and `o2g`."""
        return gate_graph(self, self.bn)

    def whole_networks(self) -> list[Module]:
        return [self.gate_chain(), gate_graph(self, bn=False)]

    def gate_chain(self) -> Module:
        """{x, h, c} -> {h', c'} by containers, from the products `i2g` and `o2g`."""
        sums = chain(NarrowTable(1, 2), beside(self.i2g, self.o2g), CAddTable())
        gates = sums.add(Reshape(4, self.outputSize)).add(SplitTable(1, 2))
        gates.add(beside(Sigmoid(), Tanh(), Sigmoid(), Sigmoid()))
        new = chain(NarrowTable(1, 2), CMulTable())
        kept = chain(each(SelectTable(3), SelectTable(5)), CMulTable())
        cell = chain(each(new, kept), CAddTable())
        output = chain(each(chain(SelectTable(1), Tanh()), SelectTable(2)), CMulTable())
        return chain(
            each(gates, SelectTable(3)),
            FlattenTable(),  # {i, g, f, o, c}
            each(cell, SelectTable(4)),
            FlattenTable(),  # {c', o}
            each(output, SelectTable(1)),
        )

    def run_whole(self, whole: Whole, input: Any) -> Any:
        if whole.batch is None and type(self.network()[0]) is gModule:
            raise NotWhole  # it splits the dimension after that of the batch
        return super().run_whole(whole, input)

    def unroll(self, whole: Whole, x: Tensor, *state: Tensor) -> tuple[Tensor, Sequence[Tensor], Any]:
        h, c = state
        (of_input, bias), (of_state, *_) = self.leaves(whole)
        output, last, states = fused.fast_lstm(x, h, c, of_input, of_state, bias, self.mask(x))
        if isinstance(states, fused.Unfolding):
            rows = states.of_input, states.of_state, states.bias
            whole.keep(dict(zip((of_input, of_state, bias), rows, strict=True)), fused.swapped)
        return output, [last], cells_of(states)


class GRU(Gated):
    """Gated recurrent unit.  (inputSize) or (batch, inputSize) -> (outputSize) or (batch, outputSize)

        r, z = sigmoid(W x + U h + b)     g = tanh(W x + U (r * h) + b)     h' = (1 - z) * g + z * h

    With p > 0 the inputs of all products are dropped out (Moon et al., 2015).  Cho et al., 2014.
    """

    def __init__(
        self, inputSize: int, outputSize: int, rho: int | None = None,
        p: float | None = 0, mono: bool | None = False,
    ) -> None:  # fmt: skip
        super().__init__(inputSize, outputSize, rho, p, mono)

    def buildModel(self) -> Module:
        """{x, h} -> h'"""
        self.i2g, self.o2g = gate_products(self, 2)
        gates = chain(beside(self.i2g, self.o2g), CAddTable(), Reshape(2, self.outputSize), SplitTable(1, 2))
        gates.add(beside(Sigmoid(), Sigmoid()))
        masks = [[dropout(self)] if self.p else [] for _ in range(2)]
        candidate = chain(
            each(
                chain(SelectTable(1), *masks[0], Linear(self.inputSize, self.outputSize)),
                chain(
                    NarrowTable(2, 2), CMulTable(), *masks[1], LinearNoBias(self.outputSize, self.outputSize)
                ),
            ),
            CAddTable(),
            Tanh(),
        )
        new = chain(each(candidate, chain(SelectTable(4), SAdd(-1, True))), CMulTable())
        kept = chain(NarrowTable(4, 2), CMulTable())
        return chain(
            each(Identity(), gates),
            FlattenTable(),  # {x, h, r, z}
            each(NarrowTable(1, 4), SelectTable(2)),
            FlattenTable(),  # {x, h, r, z, h}
            chain(each(new, kept), CAddTable()),
        )

    def unroll(self, whole: Whole, x: Tensor, *state: Tensor) -> tuple[Tensor, Sequence[Tensor], Any]:
        (h,) = state
        (rz_x, bias_rz), (rz_h, *_), (g_x, bias_g), (g_h, *_) = self.leaves(whole)
        weight = stacked(whole, (rz_x, rz_h), (g_x, g_h))
        output, _ = fused.gru(x, h, weight, torch.cat((bias_rz, bias_g)), self.mask(x))
        return output, (), ()

    def migrate(self, params: Table) -> None:
        """Take over the parameters of a GRU without dropout (p = 0) into this one with dropout."""
        if self.p == 0 or len(params) != 6:
            raise InputError(f"{self}.migrate: expected p > 0 here and the 6 parameters of a GRU with p = 0")
        weight, bias, feedback, *candidate = params
        (weight_r, weight_z), (bias_r, bias_z) = weight.chunk(2), bias.chunk(2)
        sources = [weight_r, bias_r, weight_z, bias_z, *feedback.chunk(2), *candidate]
        for mine, source in zip(self.parameters()[0], sources, strict=True):
            mine.copy_(source)

    def __str__(self) -> str:
        return f"{self.__typename__}({self.inputSize} -> {self.outputSize}, {self.p:.2f})"


# What MuFuRu makes of {state, new values}
OPERATIONS: dict[str, Callable[[], Module]] = {
    "keep": lambda: SelectTable(1),
    "replace": lambda: SelectTable(2),
    "mul": CMulTable,
    "diff": CSubTable,
    "forget": lambda: chain(SelectTable(1), MulConstant(0)),
    "sqrt_diff": lambda: chain(CSubTable(), Abs(), Sqrt(), MulConstant(0.25)),
    "max": lambda: chain(MapTable(Unsqueeze(1)), JoinTable(1), Max(1)),
    "min": lambda: chain(MapTable(Unsqueeze(1)), JoinTable(1), Min(1)),
}


class MuFuRu(GRU):
    """Multi-function recurrent unit.  (batch, inputSize) -> (batch, outputSize)

        r = sigmoid(W x + U h + b)     v = sigmoid(W {x, r * h} + b)     p = softmax(W {x, h} + b)
        h' = the sum over all operations of p[o] * o(h, v)

    for each element with weights p of its own.  `ops` lists the operations: keep (h), replace (v), mul, diff
    (h - v), forget (0), sqrt_diff (sqrt(|h - v|) / 4), max, min; all by default.  Weissenborn &
    Rocktaeschel, 2016.
    """

    def __init__(self, inputSize: int, outputSize: int, ops: Any = None, rho: int | None = None) -> None:
        default = ("keep", "replace", "mul", "diff", "forget", "sqrt_diff", "max", "min")
        self.ops = Table(*default) if ops is None else Table.from_python(ops)
        unknown = [name for name in self.ops if name not in OPERATIONS]
        if unknown:
            raise InputError(f"nn.MuFuRu: expected operations out of {', '.join(default)}, got {unknown[0]}")
        self.num_ops = len(self.ops)
        self.operations = Table(*[OPERATIONS[name]() for name in self.ops])
        super().__init__(inputSize, outputSize, rho)

    def buildModel(self) -> Module:
        """{x, h} -> h'"""
        inputs, outputs, count = self.inputSize, self.outputSize, self.num_ops
        reset = beside(Linear(inputs, outputs), Linear(outputs, outputs))
        gated = each(SelectTable(1), chain(NarrowTable(2, 2), CMulTable()))
        new = chain(gated, JoinTable(2), Linear(inputs + outputs, outputs), Sigmoid())
        weights = chain(
            NarrowTable(1, 2),
            JoinTable(2),
            Linear(inputs + outputs, count * outputs),
            View(count, outputs).setNumInputDims(1),
            Transpose(Table(1, 2)),
            SoftMax(),
        )
        results = chain(NarrowTable(1, 2), each(*self.operations), MapTable(Unsqueeze(1)), JoinTable(1, 3))
        return chain(
            each(SelectTable(1), SelectTable(2), chain(reset, CAddTable(), Sigmoid())),  # {x, h, r}
            each(SelectTable(2), new, weights),  # {h, v, p}
            chain(each(results, SelectTable(3)), CMulTable(), Sum(1, 3)),
        )

    def migrate(self, params: Table) -> None:
        raise InputError(f"{self}.migrate: not supported")

    def __str__(self) -> str:
        return f"{self.__typename__}({self.inputSize} -> {self.outputSize}) {{ {' '.join(self.ops)} }}"
