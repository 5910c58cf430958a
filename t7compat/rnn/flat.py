"""The recurrent modules of cudnn: layers over whole sequences, whose parameters are one vector.

NVIDIA's cuDNN and PyTorch have the same cells, with their gates in the same order: i, f, g, o of an LSTM; r,
z, n of a GRU, where r acts after the product.  So PyTorch's functions run on views of the vector.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.nn.opaque import Sweep
from t7compat.nn.shapes import FAULTS, describe, expect, refuse
from t7compat.nn.tape import Tape, as_leaf
from t7compat.rnn.fused import continued
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor
LINEAR_INPUT, SKIP_INPUT = "CUDNN_LINEAR_INPUT", "CUDNN_SKIP_INPUT"


class Kind(NamedTuple):
    """What PyTorch has for a mode of cuDNN."""

    gates: int
    function: Any
    layer: Any
    options: dict[str, str]


KINDS = {
    "CUDNN_RNN_RELU": Kind(1, torch.rnn_relu, torch.nn.RNN, {"nonlinearity": "relu"}),
    "CUDNN_RNN_TANH": Kind(1, torch.rnn_tanh, torch.nn.RNN, {}),
    "CUDNN_LSTM": Kind(4, torch.lstm, torch.nn.LSTM, {}),
    "CUDNN_GRU": Kind(3, torch.gru, torch.nn.GRU, {}),
}
# Of a layer in one direction, in torch.nn's order
_PARTS = ("weight_ih_", "weight_hh_", "bias_ih_", "bias_hh_")


class RNN(Module, typename="cudnn.RNN"):
    """`numLayers` recurrent layers.  (time, batch, inputSize) -> (time, batch, numDirections * hiddenSize)

    h' = max(0, W x + b + U h + d), and in other modes as the subclasses say; with `dropout` between the
    layers in training.  With `batchFirst`, (batch, time, ...) both.  The input may also be a table {(rows,
    inputSize), batch sizes}, see `packPaddedSequence`: then output and gradInput are tensors with these rows.

    A sequence starts from `hiddenInput` (and an LSTM from `cellInput`), or from zeros where that is not set;
    with `rememberStates` from the end of the last one, if that had the same size.  The end is in
    `hiddenOutput` and `cellOutput`; `gradHiddenOutput` and `gradCellOutput`, if set, count as its gradient;
    `gradHiddenInput` and `gradCellInput` are the gradients of the start.  All of them are (numLayers *
    numDirections, batch, hiddenSize); what is set holds until `resetStates`.

    After a change of `mode`, of `inputMode` ("CUDNN_SKIP_INPUT": the input goes to each gate of the first
    layer as it is), or of `bidirectional` and `numDirections`, call `reset`.
    """

    parameter_names = ("weight",)
    scratch = ("_input", "_gradOutput", "reserve", "dropoutStates")
    keeps_state = True
    mode = "CUDNN_RNN_RELU"
    inputMode = LINEAR_INPUT
    numDirections = 1
    batchFirst = rememberStates = inputPacked = False
    dropout: float = 0
    hiddenInput: Tensor | None = None
    cellInput: Tensor | None = None
    hiddenOutput: Tensor | None = None
    cellOutput: Tensor | None = None

    def __init__(
        self, inputSize: int, hiddenSize: int, numLayers: int, batchFirst: bool = False,
        dropout: float = 0, rememberStates: bool = False,
    ) -> None:  # fmt: skip
        tensors = ("reserve", "hiddenOutput", "cellOutput", "gradHiddenInput", "gradCellInput")
        bidirectional = "CUDNN_BIDIRECTIONAL" if self.numDirections == 2 else "CUDNN_UNIDIRECTIONAL"
        super().__init__(
            datatype="CUDNN_DATA_FLOAT", inputSize=inputSize, hiddenSize=hiddenSize, seqLength=1, miniBatch=1,
            numLayers=numLayers, bidirectional=bidirectional, numDirections=self.numDirections,
            inputMode=self.inputMode, mode=self.mode, dropout=dropout or 0, seed=0x01234567,
            batchFirst=bool(batchFirst), rememberStates=bool(rememberStates), sync=True, inputPacked=False,
            weight=new_tensor(), train=True, **{name: new_tensor() for name in tensors},
        )  # fmt: skip
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        """Draw the parameters anew, as many as the fields say."""
        count = _size(self.shapes(0 if self.skips_input else self.inputSize))
        if len(self.weight) != count:  # else it may be a part of what getParameters gave
            self.weight.set_(self.weight.new_empty(count))
            self.gradWeight.set_(self.weight.new_empty(count))
        self.gradWeight.zero_()
        stdv = 1 / math.sqrt(self.hiddenSize) if stdv is None else stdv
        mersenne.uniform_(self.weight, -stdv, stdv)
        return self

    @property
    def skips_input(self) -> bool:
        """Whether the first layer has no matrix for its input."""
        return bool(self.inputMode == SKIP_INPUT)

    @property
    def goes_on(self) -> bool:
        """Whether a sequence may start from something else than zeros."""
        return bool(self.rememberStates) or self.hiddenInput is not None or self.cellInput is not None

    # ---- the vector

    @property
    def kind(self) -> Kind:
        """What PyTorch has for the field `mode`."""
        if self.mode not in KINDS:
            raise InputError(f"mode: expected one of {', '.join(KINDS)}, got {describe(self.mode)}")
        return KINDS[self.mode]

    @property
    def ends(self) -> list[str]:
        """How torch.nn's names of parameters end, for each layer and direction."""
        both = ("", "_reverse")[: self.numDirections]
        return [f"l{layer}{direction}" for layer in range(self.numLayers) for direction in both]

    def shapes(self, first: int) -> dict[str, tuple[int, ...]]:
        """The parts of the vector in their order, by torch.nn's names: all matrices, then all biases.

        `first` is the number of columns of the first layer's input matrix.
        """
        size, rows = self.hiddenSize, self.kind.gates * self.hiddenSize
        matrices: dict[str, tuple[int, ...]] = {}
        biases: dict[str, tuple[int, ...]] = {}
        for place, end in enumerate(self.ends):
            inputs = first if place < self.numDirections else self.numDirections * size
            matrices |= {f"weight_ih_{end}": (rows, inputs), f"weight_hh_{end}": (rows, size)}
            biases |= {f"bias_ih_{end}": (rows,), f"bias_hh_{end}": (rows,)}
        return matrices | biases

    def parts(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of the parts of a vector.

        The matrices that are skipped have no columns; cuDNN 5.1 still had them, without using them.
        """
        columns = (0, self.inputSize) if self.skips_input else (self.inputSize,)
        choices = {_size(shapes): shapes for shapes in map(self.shapes, columns)}
        if vector.shape not in [(size,) for size in choices]:
            expected = f"{' or '.join(map(str, choices))} elements (see reset)"
            raise InputError(f"weight: expected {expected}, got {describe(vector)}")
        shapes = choices[len(vector)]
        pieces = torch.split(vector, [math.prod(shape) for shape in shapes.values()])
        return {name: piece.view(shapes[name]) for name, piece in zip(shapes, pieces, strict=True)}

    def layer_parameters(self, vector: Tensor) -> dict[str, Tensor]:
        """The parameters of torch.nn's layer in its order; it has the identity for what is skipped."""
        parts = self.parts(vector)
        if self.skips_input:
            identity = torch.eye(self.hiddenSize, dtype=vector.dtype, device=vector.device)
            for end in self.ends[: self.numDirections]:
                parts[f"weight_ih_{end}"] = identity.repeat(self.kind.gates, 1)
        return {part + end: parts[part + end] for end in self.ends for part in _PARTS}

    def weights(self) -> Table:
        """The matrices, flat views: a table for each layer and direction, with those of the input first."""
        return self._by_gates("weight_ih_", "weight_hh_")

    def biases(self) -> Table:
        """The biases, in the order of `weights`: two for each gate."""
        return self._by_gates("bias_ih_", "bias_hh_")

    def _by_gates(self, *names: str) -> Table:
        parts, gates = self.parts(self.weight), self.kind.gates
        return Table.from_python(
            [[one.flatten() for name in names for one in parts[name + end].chunk(gates)] for end in self.ends]
        )

    def native(self) -> functools.partial[Any] | None:
        """The torch.nn layer with these parameters; it gives a tuple, whose first entry is `output`."""
        options: dict[str, Any] = dict(self.kind.options)
        options |= {"num_layers": self.numLayers} if self.numLayers > 1 else {}
        options |= {"dropout": self.dropout} if self.dropout and self.numLayers > 1 else {}
        options |= {"batch_first": True} if self.batchFirst else {}
        options |= {"bidirectional": True} if self.numDirections == 2 else {}
        return functools.partial(self.kind.layer, self.inputSize, self.hiddenSize, **options)

    def native_state(self) -> dict[str, Tensor]:
        return self.layer_parameters(self.weight)

    # ---- forward and backward

    def prepare(self, input: Any) -> None:
        self.inputPacked = isinstance(input, tuple)
        x, sizes = _expect_packed(input) if self.inputPacked else (input, ())
        expect(x, 2 if self.inputPacked else 3, size=self.inputSize, like=self.weight)
        first, second = x.shape[:2]
        time, batch = (second, first) if self.batchFirst else (first, second)
        self.seqLength, self.miniBatch = (len(sizes), sizes[0]) if sizes else (time, batch)
        if self.skips_input and self.inputSize != self.hiddenSize:
            both = f"{self.inputSize} and {self.hiddenSize}"
            raise InputError(f"{SKIP_INPUT}: expected inputSize to be hiddenSize, got {both}")
        if self.rememberStates:
            self._go_on()
        for name in ("hiddenInput", "cellInput"):
            _expect_state(name, getattr(self, name), self.weight.new_empty(self._state_size()))

    def _go_on(self) -> None:
        """Let the next sequence start where the last one has ended, if that had the same size."""
        for start, end in (("hiddenInput", self.hiddenOutput), ("cellInput", self.cellOutput)):
            vars(self).pop(start, None)
            if end is not None and end.shape == self._state_size():
                vars(self)[start] = end.clone()

    def _state_size(self) -> tuple[int, int, int]:
        return self.numLayers * self.numDirections, self.miniBatch, self.hiddenSize

    def trace(self, tape: Tape, input: Any) -> Any:
        if not tape.is_replay:
            self.prepare(input)
        zeros = self.weight.new_zeros(self._state_size())
        starts = [as_leaf(zeros.clone() if h is None else h) for h in (self.hiddenInput, self.cellInput)]
        x, sizes = input if isinstance(input, tuple) else (input, ())
        output, hidden, cell = self.compute((*starts, x, sizes), *self.operands(tape))
        if not tape.is_replay:
            self.hiddenOutput, self.cellOutput = hidden.data, cell.data
        if tape.is_recorded:
            output = continued(functools.partial(self._later, tape.sweep), 0, output, hidden, cell)
        return tape.record(self, (*starts, x), output)

    def compute(self, input: tuple[Any, ...], weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The output and the last states for (hiddenInput, cellInput, x, batch sizes or nothing)."""
        hidden, cell, x, sizes = input
        has_cell = self.mode == "CUDNN_LSTM"
        states = (hidden, cell) if has_cell else hidden
        weights = [*self.layer_parameters(weight).values()]
        dropout, train = self.dropout if self.train else 0.0, bool(self.train) or torch.is_grad_enabled()
        options = True, self.numLayers, dropout, train, self.numDirections == 2
        if sizes:
            output, *ends = self.kind.function(x, torch.tensor(sizes), states, weights, *options)
        else:
            output, *ends = self.kind.function(x, states, weights, *options, self.batchFirst)
        return (output, *ends) if has_cell else (output, *ends, torch.zeros_like(hidden))

    def _later(self, sweep: Sweep) -> list[Tensor | None]:
        """The gradients of the last states that were set, behind none of the last step's output."""
        given = {name: vars(self).get(name) for name in ("gradHiddenOutput", "gradCellOutput")}
        try:
            for name, value in given.items():
                _expect_state(name, value, self.weight.new_empty(self._state_size()))
        except InputError:
            sweep.failed = self
            raise
        return [None, *given.values()]

    def passed_back(self) -> None:
        self.gradHiddenInput, self.gradCellInput, self.gradInput = self.gradInput

    # ---- state

    def resetStates(self) -> None:
        """Start the next sequence from zeros; drop what is set for start and end."""
        for name in ("hiddenInput", "cellInput", "gradHiddenOutput", "gradCellOutput"):
            vars(self).pop(name, None)
        for name in ("hiddenOutput", "cellOutput"):
            if name in vars(self):
                vars(self)[name] = torch.zeros_like(vars(self)[name])

    def setSync(self, sync: bool) -> None:
        """Set the field `sync`, which is without effect."""
        self.sync = sync

    def clearDesc(self, *arguments: Any) -> None:
        """Do nothing, like the methods for each of cuDNN's descriptors: PyTorch makes them where needed."""

    resetDropoutDescriptor = resetRNNDescriptor = resetWeightDescriptor = clearDesc
    resetIODescriptors = resetInputDescriptor = resetOutputDescriptor = clearDesc
    resetHiddenDescriptors = resetCellDescriptors = clearDesc

    # ---- sequences of different lengths

    @staticmethod
    def packPaddedSequence(input: Tensor, lengths: Any, batchFirst: bool = False) -> Table:
        """{the steps without padding, batch sizes}: first all sequences' first step, and so on.

        The input is (time, batch, ...), with `batchFirst` (batch, time, ...); the lengths may not increase.
        """
        try:
            packed = pack_padded_sequence(input, [*lengths], bool(batchFirst))
        except FAULTS as error:
            refuse(error, input=input, lengths=lengths)
        return Table(packed.data, Table(*packed.batch_sizes.tolist()))

    @staticmethod
    def padPackedSequence(seq: Any, batchFirst: bool = False) -> tuple[Tensor, Table]:
        """The sequences of `packPaddedSequence`, with zeros behind the end, and their lengths."""
        data, sizes = _expect_packed(tuple(seq))
        padded, lengths = pad_packed_sequence(PackedSequence(data, torch.tensor(sizes)), bool(batchFirst))
        return padded, Table(*lengths.tolist())


def _size(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(map(math.prod, shapes.values()))


def _expect_packed(input: tuple[Any, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """The rows and the batch sizes of packed sequences; InputError if these do not fit."""
    x, sizes = input if len(input) == 2 else (None, ())
    sizes = tuple(sizes) if isinstance(sizes, Table | list | tuple) else ()
    counts = all(isinstance(n, int) and n > 0 for n in sizes) and [*sizes] == sorted(sizes, reverse=True)
    if not isinstance(x, Tensor) or not sizes or not counts or sum(sizes) != len(x):
        raise InputError(f"expected {{rows, batch sizes that do not increase}}, got {describe(input)}")
    return x, sizes


def _expect_state(name: str, value: Any, like: Tensor) -> None:
    """Raise InputError for a field that is set, but not to a tensor of the type and size of another one."""
    fits = isinstance(value, Tensor) and value.shape == like.shape and value.dtype == like.dtype
    if value is not None and not fits:
        raise InputError(f"{name}: expected {describe(like)}, got {describe(value)}")


# ---- the classes by mode


class RNNReLU(RNN, typename="cudnn.RNNReLU"):
    """h' = max(0, W x + b + U h + d); see RNN."""


class RNNTanh(RNN, typename="cudnn.RNNTanh"):
    """h' = tanh(W x + b + U h + d); see RNN."""

    mode = "CUDNN_RNN_TANH"


class LSTM(RNN, typename="cudnn.LSTM"):
    """Long short-term memory without peepholes: c' = f * c + i * g, h' = o * tanh(c'); see RNN.

    i, f, g, o = W x + b + U h + d, of which g through tanh, the others through the sigmoid.
    """

    mode = "CUDNN_LSTM"


class GRU(RNN, typename="cudnn.GRU"):
    """Gated recurrent unit: h' = (1 - z) * tanh(W x + b + r * (U h + d)) + z * h; see RNN.

    r, z = sigmoid(W x + b + U h + d).  Unlike in nn.GRU, r acts after the product.
    """

    mode = "CUDNN_GRU"


class Bidirectional(RNN, typename=""):
    """Both directions of time: in each layer the outputs of the second follow those of the first."""

    numDirections = 2

    def __init__(
        self, inputSize: int, hiddenSize: int, numLayers: int, batchFirst: bool = False, dropout: float = 0
    ) -> None:
        super().__init__(inputSize, hiddenSize, numLayers, batchFirst, dropout)


class BLSTM(Bidirectional, typename="cudnn.BLSTM"):
    """LSTM in both directions.  (time, batch, inputSize) -> (time, batch, 2 * hiddenSize); see RNN."""

    mode = "CUDNN_LSTM"


class BGRU(Bidirectional, typename="cudnn.BGRU"):
    """GRU in both directions.  (time, batch, inputSize) -> (time, batch, 2 * hiddenSize); see RNN."""

    mode = "CUDNN_GRU"
