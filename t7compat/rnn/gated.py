"""What cells have in common that are built of nn modules: LSTM, FastLSTM, GRU, MuFuRu."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.containers import ConcatTable, ParallelTable, Sequential
from t7compat.nn.linear import Linear, LinearNoBias
from t7compat.nn.module import Module
from t7compat.nn.shapes import expect
from t7compat.nn.stepping import PROTOCOL
from t7compat.nn.stochastic import Dropout
from t7compat.nn.tables import JoinTable
from t7compat.nngraph.gmodule import gModule
from t7compat.nngraph.steps import steps_of
from t7compat.rnn.hidden import Cell
from t7compat.rnn.masking import MaskZero
from t7compat.rnn.whole import structure, tree
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

if TYPE_CHECKING:
    from t7compat.rnn.whole import Whole

Tensor = torch.Tensor


def chain(*modules: Module) -> Sequential:
    """A Sequential of modules."""
    return _filled(Sequential(), modules)


def each(*modules: Module) -> ConcatTable:
    """A ConcatTable of modules: all get the same input."""
    return _filled(ConcatTable(), modules)


def beside(*modules: Module) -> ParallelTable:
    """A ParallelTable of modules: each gets its entry of the input."""
    return _filled(ParallelTable(), modules)


def _filled(container: Any, modules: tuple[Module, ...]) -> Any:
    for module in modules:
        container.add(module)
    return container


def dropout(cell: Any) -> Dropout:
    """The dropout before each product of a cell (of no effect if p = 0)."""
    return Dropout(cell.p, False, False, lazy=True, mono=cell.mono)


def gate_products(cell: Any, gates: int) -> tuple[Module, Module]:
    """W x + b and U h, of `gates` * outputSize columns; with dropout each gate has a mask of its own."""
    inputs, outputs = cell.inputSize, cell.outputSize
    if cell.p == 0:
        return Linear(inputs, gates * outputs), LinearNoBias(outputs, gates * outputs)

    def product(*layer: Module) -> Module:
        return chain(each(*[dropout(cell) for _ in layer]), beside(*layer), JoinTable(2))

    x = product(*[Linear(inputs, outputs) for _ in range(gates)])
    h = product(*[LinearNoBias(outputs, outputs) for _ in range(gates)])
    return x, h


class Gated(Cell, typename=""):
    """The base of cells on vectors, whose network `buildModel` makes; p is that of its dropout."""

    def __init__(self, inputSize: int, outputSize: int, rho: int | None, p: Any, mono: Any) -> None:
        super().__init__(rho or 9999)
        self.p, self.mono = p or 0, bool(mono)
        self.inputSize, self.outputSize = inputSize, outputSize
        self.take_step_module(self.buildModel())
        self.zeroTensor, self.cells, self.gradCells = new_tensor(), Table(), Table()

    def buildModel(self) -> Module:
        """The network of one step."""
        raise NotImplementedError

    def whole_networks(self) -> list[Module]:
        """Networks of one step that `unroll` is equal to, however the switches of the class stand."""
        return [self.buildModel()]

    def set_zeros(self, input: Tensor) -> None:
        self.zeroTensor = self.zeroTensor.new_zeros(*input.shape[:-1], self.outputSize)

    def network(self) -> tuple[Module, bool]:
        """The network of one step, and whether the MaskZero that `maskZero(1)` puts around it is there."""
        module = self.recurrentModule
        is_masked = type(module) is MaskZero and module.nInputDim == 1 and not module.v2
        is_masked = is_masked and vars(module).keys().isdisjoint(PROTOCOL)
        return (module.modules[1], True) if is_masked else (module, False)

    def inner_parts(self) -> list[Any] | None:
        kind: Any = type(self)
        if "unroll" not in vars(kind) or self.p > 0:
            return None
        return [] if form(self.network()[0]) in usual(kind, *self.arguments()) else None

    def arguments(self) -> tuple[Any, ...]:
        """Those of the constructor of a cell with the same network (without dropout)."""
        return self.inputSize, self.outputSize

    def leaves(self, whole: Whole) -> Iterator[Any]:
        """The parameters of each layer that has some, in their order in the network, as leaves of a graph."""
        for layer in tree(self.network()[0]):
            if layer.parameter_names:
                yield [whole.leaf(layer, name) for name in layer.parameter_names]

    def mask(self, x: Tensor) -> Tensor | None:
        """Which samples are no part of a sequence, if any.  (time, batch, inputs) -> (time, batch, 1)"""
        mask = (x == 0).all(-1, keepdim=True) if self.network()[1] else None
        return mask if mask is not None and mask.any() else None

    def run_whole(self, whole: Whole, input: Any) -> Any:
        expect(input, 2, size=self.inputSize, like=self.zeroTensor)
        return super().run_whole(whole, input)

    def updateOutput(self, input: Tensor) -> Tensor:
        try:
            expect(input, 1, 2, size=self.inputSize, like=self.zeroTensor)
        except InputError as error:
            error.within(str(self))
            raise
        output: Tensor = super().updateOutput(input)
        return output


def stacked(whole: Whole, *gates: tuple[Tensor, Tensor]) -> Tensor:
    """The weights of gates for input and state as columns of one matrix, which serves as their copy."""
    rows = torch.cat([torch.cat(gate, 1) for gate in gates])
    for gate, part in zip(
        gates, torch.split(rows.detach(), [len(of_input) for of_input, _ in gates]), strict=True
    ):
        parts = torch.split(part, [weight.shape[1] for weight in gate], 1)
        whole.keep(dict(zip(gate, parts, strict=True)))
    return rows.t()


@functools.cache
def usual(kind: Any, *arguments: Any) -> list[Any]:
    """The forms of the networks that a cell of some class has unless somebody changes them."""
    generator = mersenne.getRNGState()
    networks = kind(*arguments).whole_networks()
    mersenne.setRNGState(generator)
    return [form(network) for network in networks]


def form(network: Module) -> tuple[Any, ...]:
    """What a network is made of, without its tensors, and where the values go if it is a graph."""
    steps = steps_of(network.forwardnodes) if isinstance(network, gModule) else ()
    edges = [(step.edges, "module" in step.data) for step in steps]
    return structure(network), edges
