"""jcjohnson/torch-rnn: language models over characters, and their recurrent layers."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nested import to_text
from t7compat.nn.containers import Child, Sequential
from t7compat.nn.embedding import LookupTable
from t7compat.nn.linear import Linear
from t7compat.nn.module import Module
from t7compat.nn.normalization import BatchNormalization
from t7compat.nn.shapes import describe, expect, one_based
from t7compat.nn.shaping import View
from t7compat.nn.stochastic import Dropout
from t7compat.nn.tape import Tape, as_leaf
from t7compat.rnn import fused
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class Recurrence(Module, typename=""):
    """The base of recurrent layers over whole sequences.  (batch, time, inputs) -> (batch, time, hidden)

    Each forward starts from zeros, or (`remember_states`) from the end of the last one; `resetStates` starts
    anew.  A state (batch, hidden) may come before the sequence in a table, and gets a gradient then.  The
    weight is that of the inputs on top of that of the state, both transposed.
    """

    parameter_names = ("weight", "bias")
    states: tuple[str, ...] = ("h0",)  # the fields for what comes before the first step
    gates_per_unit = 1
    keeps_state = True
    remember_states = False
    scratch = (
        "cell", "gates", "buffer1", "buffer2", "buffer3", "grad_a_buffer", "grad_c0", "grad_h0", "grad_x"
    )  # fmt: skip
    buffers: tuple[str, ...] = ("buffer1", "buffer2")  # of the Lua class, for which they have to be there

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        width = self.gates_per_unit * hidden_dim
        gradients = [f"grad_{name}" for name in (*self.states, "x")]
        vars(self).update((name, new_tensor()) for name in (*self.states, *gradients, *self.buffers))
        super().__init__(
            input_dim=input_dim, hidden_dim=hidden_dim, remember_states=False,
            weight=new_tensor(input_dim + hidden_dim, width), bias=new_tensor(width),
        )  # fmt: skip
        self.gradInput = Table(*[vars(self)[name] for name in gradients])
        self.reset()

    def reset(self, std: float | None = None) -> Any:
        self.bias.zero_()
        mersenne.normal_(self.weight, 0, std or 1 / math.sqrt(self.hidden_dim + self.input_dim))
        return self

    def after(self, state: str) -> Any:
        """A part of the state after each step of the last forward, or after the last step; may be empty."""
        return self.output

    def prepare(self, input: Any) -> None:
        most = len(self.states) + 1
        *given, x = input if isinstance(input, tuple) and 2 <= len(input) <= most else (input,)
        expect(x, 3, size=self.input_dim, like=self.weight)
        missing = most - 1 - len(given)
        for name, value in zip(self.states, (*[None] * missing, *given), strict=True):
            before = self._start(name, len(x)) if value is None else value
            expect(before, 2, size=self.hidden_dim, like=self.weight)
            if len(before) != len(x):
                raise InputError(f"{name}: expected a batch of {len(x)}, got {describe(before)}")
            if value is None:
                vars(self)[name] = before
            vars(self)[f"_return_grad_{name}"] = value is not None

    def _start(self, state: str, batch: int) -> Tensor:
        after = self.after(state)
        if not self.remember_states or after is None or not after.numel() or not vars(self)[state].numel():
            return self.weight.new_zeros(batch, self.hidden_dim)
        return after[:, -1].clone()  # type: ignore[no-any-return]

    def trace(self, tape: Tape, input: Any) -> Any:
        if not tape.is_replay:
            self.prepare(input)
        given = input if isinstance(input, tuple) else (input,)
        missing = self.states[: len(self.states) + 1 - len(given)]
        whole = (*[as_leaf(vars(self)[name]) for name in missing], *given)
        return tape.record(self, whole, self.compute(whole, *self.operands(tape)))

    def passed_back(self) -> None:
        *gradients, self.grad_x = self.gradInput
        vars(self).update((f"grad_{name}", value) for name, value in zip(self.states, gradients, strict=True))
        given = [value for name, value in zip(self.states, gradients, strict=True) if self._was_given(name)]
        self.gradInput = Table(*given, self.grad_x) if given else self.grad_x

    def _was_given(self, state: str) -> bool:
        return bool(vars(self).get(f"_return_grad_{state}"))

    def resetStates(self) -> None:
        """Start a new sequence."""
        vars(self).update((name, self.weight.new_empty(0)) for name in self.states)

    def forget(self) -> Any:
        self.resetStates()
        return self

    def __str__(self) -> str:
        return f"{self.__typename__}({self.input_dim} -> {self.hidden_dim})"


class LSTM(Recurrence, typename="nn.LSTM", told_by="remember_states"):
    """Long short-term memory.  (batch, time, inputs) -> (batch, time, hidden), also {h0, x} and {c0, h0, x}

    i, f, o, g = W x + U h + b, of which g through tanh, the others through the sigmoid
    c' = f * c + i * g        h' = o * tanh(c')

    Not the class of this name in the rnn package, which takes single steps.  `cell` is that of the last step.
    See Recurrence for more.
    """

    states = ("c0", "h0")
    gates_per_unit = 4
    buffers = ("cell", "gates", "buffer1", "buffer2", "buffer3", "grad_a_buffer")

    def compute(self, input: tuple[Tensor, Tensor, Tensor], weight: Tensor, bias: Tensor) -> Tensor:
        """The output for {c0, h0, x}."""
        c, h, x = input
        output, last, _ = fused.lstm(x.transpose(0, 1), h, c, weight, bias)
        self.cell, self.gates = last.data[:, None], last.data.new_empty(0)
        return output.transpose(0, 1).contiguous()

    def after(self, state: str) -> Any:
        return vars(self).get("cell") if state == "c0" else self.output

    def reset(self, std: float | None = None) -> Any:
        super().reset(std)
        self.bias[self.hidden_dim : 2 * self.hidden_dim] = 1  # of the forget gate
        return self


class VanillaRNN(Recurrence):
    """h' = tanh(W x + U h + b).  (batch, time, inputs) -> (batch, time, hidden), also {h0, x}

    See Recurrence for more.
    """

    def compute(self, input: tuple[Tensor, Tensor], weight: Tensor, bias: Tensor) -> Tensor:
        """The output for {h0, x}."""
        h, x = input
        weights = [part.t() for part in weight.tensor_split((self.input_dim,))]
        biases = [bias, torch.zeros_like(bias, requires_grad=False)]
        train = torch.is_grad_enabled()
        return torch.rnn_tanh(x, h[None], [*weights, *biases], True, 1, 0.0, train, False, True)[0]


class LanguageModel(Module):
    """How likely each token is to come next.  Tokens 1..V (batch, time) -> their scores (batch, time, V)

    The state goes on from one forward to the next; `resetStates` starts anew.  `kwargs` is a table with
    `idx_to_token` (the texts of the tokens), `model_type` ("lstm" or "rnn"), `wordvec_size`, `rnn_size`,
    `num_layers`, `dropout` (a probability) and `batchnorm` (0 or 1).
    """

    net: Sequential
    rnns: Table

    def __init__(self, kwargs: Any) -> None:
        options = Table.from_python(kwargs)
        self.idx_to_token = options.idx_to_token
        self.token_to_idx = Table.from_items((token, i) for i, token in options.idx_to_token.items())
        self.vocab_size, self.wordvec_dim = len(options.idx_to_token.values()), options.wordvec_size
        for name in ("model_type", "rnn_size", "num_layers", "dropout", "batchnorm"):
            vars(self)[name] = options[name]
        kinds: dict[Any, type[Recurrence]] = {"lstm": LSTM, "rnn": VanillaRNN}
        if self.model_type not in kinds:
            raise InputError(f"{self}: expected the model_type lstm or rnn, got {self.model_type!r}")
        self.net, self.rnns, self.bn_view_in, self.bn_view_out = Sequential(), Table(), Table(), Table()
        self.net.add(LookupTable(self.vocab_size, self.wordvec_dim))
        for i in range(self.num_layers):
            self._add_layer(kinds[self.model_type](self.rnn_size if i else self.wordvec_dim, self.rnn_size))
        self.view1, self.view2 = _to_rows(), _to_steps()
        self.net.add(self.view1).add(Linear(self.rnn_size, self.vocab_size)).add(self.view2)

    def _add_layer(self, rnn: Recurrence) -> None:
        rnn.remember_states = True
        self.rnns.insert(rnn)
        self.net.add(rnn)
        if self.batchnorm == 1:
            self.bn_view_in.insert(_to_rows())
            self.bn_view_out.insert(_to_steps())
            count = len(self.rnns)
            self.net.add(self.bn_view_in[count])
            self.net.add(BatchNormalization(self.rnn_size)).add(self.bn_view_out[count])
        if self.dropout > 0:
            self.net.add(Dropout(self.dropout))

    # ---- a module around a network

    def compute(self, input: Tensor, net: Child) -> Tensor:
        """The scores, from the network."""
        output: Tensor = net(input)
        return output

    def operands(self, tape: Tape) -> list[Child]:
        return [functools.partial(self._run, tape)]

    def _run(self, tape: Tape, input: Tensor) -> Any:
        return tape.call(self.net, input)

    def prepare(self, input: Any) -> None:
        expect(input, 2)
        batch, time = input.shape
        for view in (self.view1, *self.bn_view_in):
            view.resetSize(batch * time, -1)
        for view in (self.view2, *self.bn_view_out):
            view.resetSize(batch, time, -1)

    def children(self) -> tuple[Sequential]:
        return (self.net,)

    def parameters(self) -> tuple[Table, Table]:
        return self.net.parameters()

    def training(self) -> None:
        self.net.training()
        super().training()

    def evaluate(self) -> None:
        self.net.evaluate()
        super().evaluate()

    def clearState(self) -> Any:
        self.net.clearState()
        return super().clearState()

    def resetStates(self) -> None:
        """Start a new text."""
        for rnn in self.rnns:
            rnn.resetStates()

    # ---- text

    def encode_string(self, text: str) -> Tensor:
        """The tokens of a text: characters or, where the vocabulary has no such ones, bytes."""
        tokens = list(text)
        if not all(token in self.token_to_idx for token in tokens):
            encoded = text.encode("utf-8", "surrogateescape")
            tokens = [bytes([byte]).decode("utf-8", "surrogateescape") for byte in encoded]
        unknown = [token for token in tokens if token not in self.token_to_idx]
        if unknown:
            raise InputError(f"encode_string: expected characters of the vocabulary, got {unknown[0]!r}")
        return torch.tensor([self.token_to_idx[token] for token in tokens], dtype=torch.long)

    def decode_string(self, encoded: Tensor) -> str:
        """The text of tokens."""
        expect(encoded, 1)
        text = "".join(to_text(self.idx_to_token[i]) for i in encoded.tolist())
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")

    def sample(self, kwargs: Any = None) -> str:
        """A text of `length` tokens (100) that begins with `start_text`.

        `kwargs` is a table: with `sample` = 0 the likeliest token follows, else one at random, by Torch7's
        random numbers: the likelier, the lower the `temperature` (1).  `verbose` tells how it begins.  The
        state is new before and after.
        """
        options = Table.from_python(kwargs or {})
        length = 100 if options.length is None else options.length
        self.resetStates()
        tokens = self.encode_string(options.start_text or "")
        if options.verbose:
            start = f'with: "{options.start_text}"' if len(tokens) else "with uniform probabilities"
            print(f"Seeding {start}")
        equal = self.net.get(1).weight.new_ones(self.vocab_size)
        scores = self._scores(tokens) if len(tokens) else equal
        while len(tokens) < length:
            token = self._next(scores, options)
            tokens = torch.cat((tokens, token.cpu()))
            scores = self._scores(token)
        self.resetStates()
        return self.decode_string(tokens)

    def _scores(self, tokens: Tensor) -> Tensor:
        """The scores of what may come after some tokens."""
        with torch.no_grad():
            scores: Tensor = self.forward(tokens[None].to(self.net.get(1).weight.device))
        return scores[0, -1]

    def _next(self, scores: Tensor, options: Table) -> Tensor:
        """The next token, a tensor with one element."""
        if options.sample == 0:
            return one_based(scores.argmax()[None])
        temperature = 1 if options.temperature is None else options.temperature
        weights = (scores / temperature).double().exp()
        return mersenne.multinomial(weights / weights.sum(), 1)


def _to_rows() -> View:
    """(batch, time, n) -> (batch * time, n), once its size is set."""
    return View(1, 1, -1).setNumInputDims(3)  # type: ignore[no-any-return]


def _to_steps() -> View:
    """(batch * time, n) -> (batch, time, n), once its size is set."""
    return View(1, -1).setNumInputDims(2)  # type: ignore[no-any-return]
