"""Linear layers for sparse input, which is a list of places and of the values there."""

from __future__ import annotations

from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.linear import draw
from t7compat.nn.luaobject import clear
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect, expect_fit, expect_table, one_based, zero_based
from t7compat.nn.tape import Tape
from t7compat.table import Table, to_tuples
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor
Entries = tuple[Tensor, Tensor, Tensor]


def owners(sizes: Tensor, count: int) -> Tensor:
    """The sample to which each of `count` entries belongs."""
    return torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes, output_size=count)


def sums(table: Tensor, index: Tensor, values: Tensor, sizes: Tensor) -> Tensor:
    """For each sample the sum of values[i] * table[index[i]] over its entries, of which it has sizes[j].

    F.embedding_bag would copy the whole table if that is a part of another tensor.
    """
    products = table.index_select(0, index) * values[:, None]
    return products.new_zeros(len(sizes), table.shape[1]).index_add(0, owners(sizes, len(products)), products)


def turns(index: Tensor) -> tuple[Tensor, ...]:
    """The entries of an index in parts, one after the other, such that no row occurs twice in a part."""
    order = index.argsort(stable=True)
    _, counts = torch.unique_consecutive(index[order], return_counts=True)
    number = torch.empty_like(index)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    number[order] = torch.arange(len(index), device=index.device) - starts
    return torch.split(number.argsort(stable=True), number.bincount().tolist())


def expect_rows(index: Tensor, count: int, first: int = 1) -> None:
    """Raise InputError unless all indices are those of one of `count` rows, the first of which is `first`."""
    wrong = index[(index < 0) | (index >= count)]
    if len(wrong):
        raise InputError(
            f"expected places from {first} to {first + count - 1}, got {first + wrong[0].item()}"
        )


def entries_of(input: Any) -> Entries:
    """The indices and values in an input of SparseLinear, and how many each sample has."""
    samples = input if isinstance(input, tuple) else input.reshape(-1, *input.shape[-2:]).unbind()
    places, values = torch.cat(samples).unbind(1)
    sizes = torch.tensor([len(sample) for sample in samples], device=values.device)
    return zero_based(places).masked_fill(values == 0, 0), values, sizes


class SparseLinear(Module):
    """y = W x + b, where x is a list of places and values.

    A sample is (n, 2): rows of a place (1..inputSize) and a value; a value of 0 may have any place.  A batch
    is a table of samples, or (batch, n, 2).  -> (outputSize) or (batch, outputSize)

    With `doGradInput`, gradInput has the same form, with all places of each sample.  After one
    accGradParameters, zeroGradParameters and updateParameters touch only the columns of its input.
    """

    parameter_names = ("weight", "bias")
    scratch = ("lastInput", "formatted_input")
    is_sparse = True
    weightDecay: float = 0  # type: ignore[assignment]  # in Lua, too, it hides the method
    doGradInput = False
    lastInput: Tensor | None = None
    sparseUpdate = 0  # 0: nothing is accumulated, 1: the gradient for lastInput, 2: those for more

    def __init__(self, inputSize: int, outputSize: int, doGradInput: bool | None = False) -> None:
        size = outputSize, inputSize
        super().__init__(
            weight=new_tensor(*size), gradWeight=new_tensor(*size), bias=new_tensor(outputSize),
            gradBias=new_tensor(outputSize), output=new_tensor(outputSize), gradInput=Table(),
            weightDecay=0, doGradInput=bool(doGradInput), sparseUpdate=0,
        )  # fmt: skip
        self.reset()

    def compute(self, input: Any, weight: Tensor, bias: Tensor) -> Tensor:
        places, values, sizes = entries_of(input)
        output = sums(weight.t(), places, values, sizes) + bias
        return output if isinstance(input, tuple) or input.dim() == 3 else output[0]

    def prepare(self, input: Any) -> None:
        if isinstance(input, tuple):
            expect_table(input)
            for sample in input:
                expect(sample, 2, size=2, like=self.weight)
        else:
            expect(input, 2, 3, size=2, like=self.weight)
        expect_rows(entries_of(input)[0], self.weight.shape[1])

    def trace(self, tape: Tape, input: Any) -> Any:
        output = super().trace(tape, input)
        if self.sparseUpdate == 1:
            self.sparseUpdate = 2
        return output

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:  # one of another form than the input
        is_legacy = isinstance(input, Tensor) and input.dim() == 3
        self.gradInput = torch.zeros_like(input) if is_legacy else Table()
        if self.doGradInput:
            expect_fit("gradOutput", gradOutput, self.output)
            dense = gradOutput.reshape(-1, len(self.weight)) @ self.weight
            places = one_based(torch.arange(dense.shape[1])).to(dense)
            samples = torch.stack((places.expand_as(dense), dense), 2)
            self.gradInput = samples if is_legacy else Table(*samples)
        return self.gradInput

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        input = to_tuples(lambda x: x, input)
        self.prepare(input)
        expect_fit("gradOutput", gradOutput, self.output)
        places, values, sizes = entries_of(input)
        gradient = gradOutput.reshape(len(sizes), -1)
        samples = owners(sizes, len(values))
        if self.sparseUpdate == 0:
            listed = [one_based(samples).to(values), one_based(places).to(values), values]
            is_legacy = isinstance(input, Tensor) and input.dim() == 3
            self.lastInput = input.clone() if is_legacy else torch.stack(listed, 1)
        self.sparseUpdate = min(self.sparseUpdate + 1, 2)
        products = (values * scale)[:, None] * gradient[samples]
        self.gradWeight.t().index_put_((places,), products, accumulate=True)
        self.gradBias.add_(gradient.sum(0), alpha=scale)
        if self.weightDecay:
            self.gradWeight.add_(self.weight, alpha=self.weightDecay)

    def _touched(self) -> Tensor | None:
        """The columns that lastInput touched; None if others may have a gradient, too."""
        last = self.lastInput
        if self.sparseUpdate != 1 or last is None or not last.numel():
            return None
        places, values = last.reshape(-1, last.shape[-1])[:, -2:].unbind(1)
        return torch.unique(zero_based(places[values != 0]))

    def updateParameters(self, learningRate: float) -> None:
        columns = self._touched()
        if columns is None:
            super().updateParameters(learningRate)
        else:
            self.bias.add_(self.gradBias, alpha=-learningRate)
            self.weight.index_add_(1, columns, self.gradWeight[:, columns] * -learningRate)

    def zeroGradParameters(self) -> None:
        columns = self._touched()
        if columns is None:
            super().zeroGradParameters()
        else:
            self.gradWeight.index_fill_(1, columns, 0)
            self.gradBias.zero_()
        self.sparseUpdate = 0

    def reset(self, stdv: float | None = None) -> None:
        draw(stdv, self.weight.shape[1], self.weight, self.bias)
        self.bias.mul_(0.000001)


def joined(input: Any) -> Entries:
    """The keys and values in an input of IndexLinear, and how many each sample has."""
    keys, values, *sizes = input
    lists = keys if isinstance(keys, tuple) else (keys,)
    counts = sizes[0] if sizes else [len(part) for part in lists]
    values = torch.cat(values) if isinstance(values, tuple) else values
    return torch.cat(lists).long(), values, torch.as_tensor(counts, device=values.device).reshape(-1).long()


def normalized(values: Tensor, extras: Tensor) -> Tensor:
    """Values divided by the greatest so far (beyond it, their sign), plus a bias."""
    greatest, inverse, _, bias = extras.unbind(1)
    return torch.where(values.abs() > greatest, values.sign(), values * inverse) + bias


class IndexLinear(Module):
    """y = x W + b, where x is a list of keys and values; row key + offset + 1 of the weight is for that key.

    A sample is {keys, values}; a batch is {{keys, keys, ...}, {values, values, ...}}, or {keys, values,
    sizes} with all samples in one list.  -> (outputSize) or (batch, outputSize)

    With `normalize`, values are divided by the greatest absolute value that their key had in training, and a
    bias for each key is added; four more columns of the weight, before the others, keep these.  The gradients
    of each pass, one row for each entry, are in `running`; `weightDecay` acts on the rows of these entries.
    """

    parameter_names = ("weight", "bias")
    is_sparse = True
    normalize = 0  # the number of columns before those of the outputs
    weightDecay: float = 0  # type: ignore[assignment]  # in Lua, too, it hides the method
    isFlat = False
    noBatch = False
    sizes: Tensor | None = None

    def __init__(
        self, inputSize: int, outputSize: int, doGradInput: bool | None = False,
        keysOffset: int | None = None, weight: Tensor | None = None, bias: Tensor | None = None,
        normalize: bool | None = False,
    ) -> None:  # fmt: skip
        extra = 4 if normalize else 0
        weight = new_tensor(inputSize, outputSize + extra) if weight is None else weight
        bias = new_tensor(outputSize) if bias is None else bias
        super().__init__(normalize=extra, weight=weight, bias=bias, inputSize=len(weight))
        self.outputSize = weight.shape[1] - extra
        for name in ("gradWeight", "gradWeightBuffer", "valuesBuffer", "normalizedValues"):
            setattr(self, name, new_tensor())
        self.gradBias = new_tensor(self.outputSize)
        self.running = Table.from_python({"cumSumSizes": {}, "keys": {}, "gradWeight": {}, "counter": 1})
        self.sizesCache, self.cumSumSizesCache = Table(), Table()
        self.weightDecay, self.doGradInput = 0, bool(doGradInput)
        self.offset = -1 if keysOffset is None else keysOffset - 1

    def compute(self, input: Any, weight: Tensor, bias: Tensor) -> Tensor:
        keys, values, sizes = joined(input)
        index = keys + self.offset
        if self.normalize:
            values = normalized(values, weight[index, :4])
        output = sums(weight[:, self.normalize :], index, values, sizes) + bias
        return output if len(input) == 3 or isinstance(input[0], tuple) else output[0]

    def prepare(self, input: Any) -> None:
        form = "{keys, values}, {{keys, ...}, {values, ...}} or {keys, values, sizes}"
        if not isinstance(input, tuple) or len(input) not in (2, 3):
            raise InputError(f"expected {form}, got {describe(input)}")
        keys, values = (part if isinstance(part, tuple) else (part,) for part in input[:2])
        if len(keys) != len(values) or not keys:
            raise InputError(f"expected {form}, got {describe(input)}")
        for key, value in zip(keys, values, strict=True):
            expect(key, 1)
            expect(value, 1, size=len(key), like=self.weight)
        index, _, sizes = joined(input)
        if (sizes < 0).any() or sizes.sum() != len(index):
            raise InputError(f"expected sizes that sum up to {len(index)}, got {sizes.tolist()}")
        expect_rows(index + self.offset, len(self.weight), -self.offset)

    def trace(self, tape: Tape, input: Any) -> Any:
        self.prepare(input)
        self.keys, self.values, self.sizes = joined(input)
        self.cumSumSizes = self.sizes.cumsum(0)
        self.isFlat = len(input) == 3
        self.noBatch = not self.isFlat and not isinstance(input[0], tuple)
        running = self.running
        running["keys"][running.counter] = self.keys
        running["cumSumSizes"][running.counter] = self.cumSumSizes
        if self.normalize:
            self.normalizedValues = self._normalized()
        table, index = self.weight[:, self.normalize :], self.keys + self.offset
        output = sums(table, index, self._used_values(), self.sizes) + self.bias
        return tape.record(self, input, output[0] if self.noBatch else output)

    def _normalized(self) -> Tensor:
        """The values of the last input as they are used; in training, the greatest ones are kept up to date.

        Each value meets those before it in the input.
        """
        index, result = self.keys + self.offset, torch.empty_like(self.values)
        for turn in turns(index) if self.train else (slice(None),):
            values, extras = self.values[turn], self.weight[index[turn], :4]
            if self.train:
                size, greatest, inverse = values.abs(), extras[:, 0], extras[:, 1]
                inverse.copy_(torch.where(size > greatest, 1 / size, inverse))
                greatest.copy_(torch.maximum(size, greatest))
                extras[:, 2] = 1
                self.weight[index[turn], :4] = extras
            result[turn] = normalized(values, extras)
        return result

    def _used_values(self) -> Tensor:
        return self.normalizedValues if self.normalize else self.values

    def _gradients(self, gradOutput: Any) -> tuple[Tensor, Tensor]:
        """A row for each entry (with `normalize`, that for its bias comes first), and that for the bias."""
        if self.sizes is None:
            raise InputError("expected a forward before backward")
        expect_fit("gradOutput", gradOutput, self.output)
        gradient = gradOutput.reshape(len(self.sizes), -1)
        for_entries = gradient[owners(self.sizes, len(self.keys))]
        products = for_entries * self._used_values()[:, None]
        return torch.cat((for_entries, products), 1) if self.normalize else products, gradient.sum(0)

    def updateGradInput(self, input: Any, gradOutput: Any) -> Any:  # one of another form than the input
        self.gradInput = Table()
        if self.doGradInput:
            if self.normalize:
                raise InputError(f"{self.__typename__}: there is no gradInput with `normalize`")
            expect_fit("gradOutput", gradOutput, self.output)
            dense = gradOutput.reshape(-1, self.outputSize) @ self.weight.t()
            keys = one_based(torch.arange(dense.shape[1], device=dense.device)).repeat(len(dense), 1)
            if self.isFlat or self.noBatch:
                self.gradInput = Table(*((keys, dense) if self.isFlat else (keys[0], dense[0])))
            else:
                self.gradInput = Table(Table(*keys), Table(*dense))
        return self.gradInput

    def accGradParameters(self, input: Any, gradOutput: Any, scale: float = 1) -> None:
        for_entries, for_bias = self._gradients(gradOutput)
        self.running["gradWeight"][self.running.counter] = for_entries * scale
        self.running.counter += 1
        self.gradBias.add_(for_bias, alpha=scale)

    def accUpdateGradParameters(self, input: Any, gradOutput: Any, lr: float) -> None:
        for_entries, for_bias = self._gradients(gradOutput)
        self.bias.add_(for_bias, alpha=-lr)
        self._move(self.keys, for_entries, lr)
        if self.normalize and self.outputSize == 1:  # as in Torch7, not for more outputs
            self.weight[self.keys + self.offset, 2] = 0

    def updateParameters(self, learningRate: float) -> None:
        passes = range(1, self.running.counter)
        if passes:
            self.updateKeys = torch.cat([self.running["keys"][i].long() for i in passes])
            self.gradWeight = torch.cat([self.running["gradWeight"][i] for i in passes])
            self.bias.add_(self.gradBias, alpha=-learningRate)
            self._move(self.updateKeys, self.gradWeight, learningRate)

    def _move(self, keys: Tensor, gradients: Tensor, lr: float) -> None:
        """Descend along the gradients of entries, one after the other where their keys are the same."""
        index = keys + self.offset
        if not self.normalize and not self.weightDecay:
            self.weight.index_add_(0, index, gradients * -lr)  # with alpha it takes several times as long
            return
        decay = self.weightDecay
        if self.normalize and self.outputSize == 1:  # the sign that Torch7 has there
            decay = -decay
        for turn in turns(index):
            row, gradient = self.weight[index[turn]], gradients[turn]
            weight, rate = row[:, self.normalize :], 1
            if self.normalize:
                for_bias, gradient = gradient.chunk(2, 1)
                rate = row[:, 2:3]
                row[:, 3:4] -= (for_bias * weight).sum(1, True) * (lr * rate)
            weight.sub_(decay * rate * weight).sub_(lr * rate * gradient)
            self.weight[index[turn]] = row

    def zeroGradParameters(self) -> None:
        self.gradBias.zero_()
        self.running.counter = 1

    def parameters(self) -> tuple[Table, Table]:
        return Table(self.weight, self.bias), Table(self.running, self.gradBias)

    def reset(self, stdv: float | None = None) -> None:
        draw(stdv, self.weight.shape[1], self.weight, self.bias)
        self.bias.mul_(0.000001)
        self.weight[:, : self.normalize] = 0

    def clearState(self) -> Any:
        self.running["keys"], self.running["gradWeight"], self.running.counter = Table(), Table(), 1
        for name in ("keys", "zerokeys", "updateKeys", "values", "sizes", "updateKeysBuffer"):
            vars(self).pop(name, None)
        self.lkeys, self.lvalues = Table(), Table()
        return clear(self, "output", "gradInput", "gradWeightBuffer", "valuesBuffer")
