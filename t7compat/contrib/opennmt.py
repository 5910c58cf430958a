"""OpenNMT/OpenNMT: the networks of which its encoders and decoders are made.

A checkpoint holds the step networks of encoder and decoder as `models.encoder.modules`, ...; what goes over
batches of sentences is the program's own.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.containers import Child, Container, Decorator
from t7compat.nn.embedding import LookupTable
from t7compat.nn.luaobject import clear
from t7compat.nn.module import Module
from t7compat.nn.shapes import axis, describe, expect, expect_joinable, expect_table, zero_based
from t7compat.nn.tape import Tape
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor
PAD = 1  # onmt.Constants: the index of what fills up a sentence


class Network(Decorator, typename="onmt.Network"):
    """The network in the field `net`."""

    net: Any = None

    def __init__(self, net: Module | None = None) -> None:
        Container.__init__(self)
        if net is not None:
            self.set(net)

    def set(self, net: Module) -> None:
        """Choose another network."""
        self.modules, self.net = Table(net), net

    def __str__(self) -> str:
        return self.__typename__


class LSTM(Network, typename="onmt.LSTM"):
    """One step of stacked LSTMs.  {c1, h1, c2, h2, ..., x} -> {c1', h1', c2', h2', ...}"""


class GRU(Network, typename="onmt.GRU"):
    """One step of stacked GRUs, of PyTorch's form.  {h1, h2, ..., x} -> {h1', h2', ...}"""


class GlobalAttention(Network, typename="onmt.GlobalAttention"):
    """tanh(W {what h attends to, h}).  {h (batch, n), context (batch, time, n)} -> (batch, n)

    The output of the module with the name softmaxAttn are the weights.  Luong et al., 2015.
    """


class NoAttention(Network, typename="onmt.NoAttention"):
    """tanh(W {last of the context, h}).  {h (batch, n), context (batch, time, n)} -> (batch, n)"""


class MaskedSoftmax(Network, typename="onmt.MaskedSoftmax"):
    """SoftMax that gives nothing to the padding before shorter sentences.  (batch, time) -> (batch, time)"""


class FeaturesEmbedding(Network, typename="onmt.FeaturesEmbedding"):
    """The vectors of features of words, joined or added.  {(batch), ...} -> (batch, outputSize)"""


class Bridge(Network, typename="onmt.Bridge"):
    """From the final states of the encoder to the first ones of the decoder; without `net`, to nothing."""

    def compute(self, input: Any, *children: Child) -> Any:
        return children[0](input) if children else None


class Generator(Network, typename="onmt.Generator"):
    """The logarithms of the probabilities of words and features.  (batch, n) -> {(batch, words), ...}

    Of a table, the first entry is the input.  Version 1 gives a tensor for the words alone.
    """

    def trace(self, tape: Tape, input: Any) -> Any:
        return super().trace(tape, input[0] if isinstance(input, tuple) else input)


class FeaturesGenerator(Generator, typename="onmt.FeaturesGenerator"):
    """What Generator was for words with features, in old files."""


class WordEmbedding(Network, typename="onmt.WordEmbedding"):
    """The vectors of words, a LookupTable.  (batch) -> (batch, n)

    With `fix` the vectors do not change: then `net` has no gradWeight.  With fix = "pretrained" this is so of
    their first `preTrainedVecSize` elements.
    """

    fix: bool | str | None = None
    preTrainedVecSize: int | None = None

    def fixEmbeddings(self, fix: bool | str | None) -> None:
        """Let the vectors stay as they are: True or "pretrained"; False or None lets them change again."""
        width = self.net.weight.shape[1]
        if not fix:
            vars(self.net).setdefault("gradWeight", torch.zeros_like(self.net.weight))
        elif fix != "pretrained" or self.preTrainedVecSize in (None, width):
            vars(self.net).pop("gradWeight", None)
        self.fix = fix

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        gradient = vars(self.net).get("gradWeight")
        if gradient is None:
            return
        self.net.accGradParameters(input, gradOutput, scale)
        gradient[zero_based(PAD)] = 0
        if self.fix == "pretrained" and self.preTrainedVecSize:
            gradient[:, : self.preTrainedVecSize] = 0

    def parameters(self) -> Any:
        return super().parameters() if vars(self.net).get("gradWeight") is not None else None


class PositionEmbedding(LookupTable, typename="onmt.PositionEmbedding"):
    """A vector for each place in a sentence.  {(batch, time, n), lengths (batch)} -> (batch, time, nOutput)

    Sentences end at the last step.  The places count from 2 up to max_pos + 1; before the sentence it is 1,
    whose vector does not change.
    """

    def __init__(self, dimension: int, nIndex: int, nOutput: int) -> None:
        super().__init__(nIndex + 1, nOutput)
        vars(self).update(dimension=dimension, max_pos=nIndex, nOutput=nOutput, input=new_tensor())

    def compute(self, input: Any, weight: Tensor) -> Tensor:
        """The rows of the weight."""
        sequences, lengths = input
        time = sequences.shape[axis(self.dimension, sequences.dim())]
        places = torch.arange(1, time + 1, device=weight.device) - (time - lengths.long()[:, None])
        return torch.nn.functional.embedding(places.clamp(0, self.max_pos), weight, zero_based(PAD))

    def prepare(self, input: Any) -> None:
        expect_table(input, 2)
        expect(input[0], 3)
        expect(input[1], 1, size=len(input[0]))


class JoinReplicateTable(Module, typename="onmt.JoinReplicateTable"):
    """JoinTable for tensors of which some have size 1 in `dimensionReplicate`: these are repeated there."""

    nInputDims: int | None = None

    def __init__(self, dimensionReplicate: int, dimensionJoin: int, nInputDims: int | None = None) -> None:
        super().__init__(
            dimensionReplicate=dimensionReplicate, dimensionJoin=dimensionJoin, nInputDims=nInputDims
        )
        self.gradInput = Table()

    def compute(self, input: tuple[Tensor, ...]) -> Tensor:
        dims = input[0].dim()
        repeated = axis(self.dimensionReplicate, dims, self.nInputDims)
        count = max(part.shape[repeated] for part in input)
        sizes = [[count if i == repeated else -1 for i in range(dims)]] * len(input)
        parts = [part.expand(size) for part, size in zip(input, sizes, strict=True)]
        return torch.cat(parts, axis(self.dimensionJoin, dims, self.nInputDims))

    def prepare(self, input: Any) -> None:
        expect_table(input)

    def explain(self, input: Any) -> None:
        expect_joinable(input, self.dimensionJoin, self.nInputDims)


class VariationalDropout(Module, typename="onmt.VariationalDropout"):
    """Dropout with the same mask for all steps of a sequence.  any shape -> same shape

    The mask is drawn when `noiseInit` is 0, as it is set before each sequence.  Gal and Ghahramani, 2016.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise InputError(f"{self.__typename__}: expected a probability from 0 to below 1, got {p}")
        super().__init__(p=p, train=True, noiseInit=new_tensor(1), sharedNoise=new_tensor(1, 1))

    def compute(self, input: Tensor) -> Tensor:
        return input * self.sharedNoise if self.p > 0 and self.train else input.clone()

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Dropout, self.p)

    def prepare(self, input: Any) -> None:
        expect(input, like=self.type_sample)
        if not (self.p > 0 and self.train):
            return
        if not self.noiseInit.any():
            self.sharedNoise = mersenne.bernoulli_(torch.empty_like(input), 1 - self.p) / (1 - self.p)
            self.noiseInit.fill_(1)
        expect_mask(self.sharedNoise, input)

    def setp(self, p: float) -> None:
        """Choose another probability."""
        self.p = p

    def clearState(self) -> Any:
        self.noiseInit.zero_()
        clear(self, "sharedNoise")
        return super().clearState()

    def __str__(self) -> str:
        return f"{self.__typename__}({self.p:f})"


def expect_mask(mask: Tensor, input: Tensor) -> None:
    """Raise InputError unless a mask that was drawn for an earlier step fits."""
    if mask.shape != input.shape:
        raise InputError(f"expected {describe(mask)} as in the steps before, got {describe(input)}")


class Sequencer(Container, typename="onmt.Sequencer"):
    """The base of what goes over batches of sentences: here only the networks that it holds."""

    def compute(self, input: Any, *children: Child) -> Any:
        raise InputError("it takes OpenNMT's batches; its network of one step is the module 1 in it")


class Encoder(Sequencer, typename="onmt.Encoder"):
    """A network for each word, from the first to the last.  See Sequencer."""


class BiEncoder(Sequencer, typename="onmt.BiEncoder"):
    """Two encoders, one of which goes backwards.  See Sequencer."""


class Decoder(Sequencer, typename="onmt.Decoder"):
    """A network for each word to come, and (module 2) the generator.  See Sequencer."""
