"""Noise contrastive estimation: training with many classes, of which few are looked at.

Mnih and Teh, 2012; the criterion after Chen et al., 2015.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nested import to_text
from t7compat.nn.criterion import Criterion
from t7compat.nn.linear import Linear, spread
from t7compat.nn.luaobject import LuaObject
from t7compat.nn.module import Module
from t7compat.nn.shapes import describe, expect, expect_classes, one_based, zero_based
from t7compat.t7file.objects import TorchObject
from t7compat.table import Table, map_leaves
from t7compat.tensortypes import new_tensor, tag, type_of

Tensor = torch.Tensor


class AliasMultinomial(LuaObject, typename="torch.AliasMultinomial"):
    """Draws of categories in constant time, of the package torchx: an equal choice, then one of two.

    `q` is the probability of a category to stay, `J` the other one that takes its place.
    """

    def __init__(self, probs: Tensor) -> None:
        count = probs.numel()
        shares = (probs.double() * count).tolist()
        others = [-1] * count  # Lua's J is one more
        small = [i for i, share in enumerate(shares) if share < 1]
        large = [i for i, share in enumerate(shares) if not share < 1]
        while small and large:
            below, above = small.pop(), large.pop()
            others[below] = above
            shares[above] -= 1 - shares[below]
            (small if shares[above] < 1 else large).append(above)
        greatest = max(1, *shares)
        shares = [1 if j < 0 else share / greatest for share, j in zip(shares, others, strict=True)]
        self.J = one_based(torch.tensor(others))
        self.q = torch.tensor(shares, dtype=probs.dtype)

    def batchdraw(self, output: Tensor) -> Tensor:
        """Fill a LongTensor with categories, from 1 on."""
        first = mersenne.random_(torch.empty(output.shape, dtype=torch.int64), 1, len(self.J))
        chosen = zero_based(first)
        stays = mersenne.bernoulli_(torch.empty_like(first), self.q[chosen])
        return output.copy_(torch.where(stays == 1, first, self.J[chosen]))


class NCEModule(Linear):
    """How probable the target and k samples of noise are, for the model and for the noise.

    {input (batch, inputSize), target (batch)} -> {(batch), (batch, k), (batch), (batch, k)}: the
    probabilities of the target and the samples in the model, exp(W x + b) / Z, then those in the noise,
    `unigrams`.  The samples are shared by the batch unless `batchnoise` is false.  A `Z` that is not above 0
    is set at the first forward to what makes the probabilities of that batch's samples sum up to 1.  In
    evaluation, after `normalized = true`, the output is (batch, outputSize): the softmax over all classes, or
    (`logsoftmax`) its logarithm.
    """

    __version__ = 6
    dpnn_parameters = (*Module.dpnn_parameters, "unigrams", "Z")
    drawn = ("sampleidx", "sampleprob", "_noiseidx", "_noiseprob", "_gradOutput", "_tgradOutput")
    dpnn_mediumEmpty = (*Module.dpnn_mediumEmpty, *drawn, "_weight", "_gradWeight")
    gradient_has_own_type = True
    bias: Any
    batchnoise: bool | None = None  # files from before there was the choice
    sampleidx: Any = None
    normalized: bool | None = None
    logsoftmax: bool | None = None

    def __init__(
        self, inputSize: int, outputSize: int, k: int, unigrams: Tensor, Z: float | None = None
    ) -> None:
        super().__init__(inputSize, outputSize)
        if not isinstance(k, int) or k < 1:
            raise InputError(f"nn.NCEModule: expected a number of samples, got {describe(k)}")
        expect(unigrams, 1, size=outputSize)
        self.k, self.unigrams, self.batchnoise = k, unigrams, True
        self.Z = new_tensor(1).fill_(-1 if Z is None else Z)
        self.fastNoise()
        self.output = Table(*[new_tensor() for _ in range(4)])
        self.gradInput = Table(new_tensor(), new_tensor())

    def fastNoise(self) -> None:
        """Prepare the draws of noise; needed again after a change of `unigrams`."""
        self.unigrams = self.unigrams / self.unigrams.sum()
        self.aliasmultinomial = AliasMultinomial(self.unigrams)
        vars(self.aliasmultinomial)["dpnn_parameters"] = Table("J", "q")

    def reset(self, stdv: float | None = None) -> Any:
        """Draw the weight anew; the bias becomes -log(outputSize), which suits Z = 1, or is drawn, too."""
        if stdv:
            mersenne.uniform_(self.weight, -stdv, stdv)
            mersenne.uniform_(self.bias, -stdv, stdv)
        else:
            bound = spread(None, self.weight.shape[1])
            mersenne.uniform_(self.weight, -bound, bound)
            self.bias.fill_(-math.log(len(self.bias)))
        return self

    def compute(self, input: Any, weight: Tensor, bias: Any) -> Any:
        x = input[0]
        if self._is_normal():
            scores = F.linear(x, weight, bias)
            return F.log_softmax(scores, 1) if self.logsoftmax else F.softmax(scores, 1)
        chosen, k = zero_based(self.sampleidx), self.k
        rows, biases, noise = F.embedding(chosen, weight, sparse=True), bias[chosen], self.sampleprob
        if self.batchnoise:
            of_target = ((x * rows[k:]).sum(1) + biases[k:]).exp() / self.Z
            of_samples = torch.addmm(biases[:k], x, rows[:k].t()).exp() / self.Z
            return of_target, of_samples, noise[k:], noise[:k].expand(len(x), k)
        of_all = torch.baddbmm(biases[:, None], x[:, None], rows.mT)[:, 0].exp() / self.Z
        return of_all[:, 0], of_all[:, 1:], noise[:, 0], noise[:, 1:]

    def _is_normal(self) -> bool:
        return self.train is False and bool(self.normalized)

    def prepare(self, input: Any) -> None:
        if not isinstance(input, tuple) or len(input) < 2:
            raise InputError(f"expected a table of an input and targets, got {describe(input)}")
        x, target = input[:2]
        expect(x, 2, size=self.weight.shape[1], like=self.weight)
        expect(target, 1, size=len(x))
        if target.dtype != torch.int64 and not target.is_cuda:
            raise InputError(f"expected a torch.LongTensor of targets, got {describe(target)}")
        if x.is_cuda:  # where a wrong class would end the whole process
            self.explain(input)
        if self._is_normal():
            return
        places = torch.empty(0, dtype=torch.int64, device=x.device)
        samples = self.noiseSample(places, 1 if self.batchnoise else len(x), self.k)
        own = target.to(samples)
        self.sampleidx = torch.cat([samples[0], own] if self.batchnoise else [own[:, None], samples], -1)
        self.sampleprob = self.noiseProb(x.new_empty(0), self.sampleidx)
        if self.Z.item() <= 0:
            self._approximate_Z(x.detach())

    def noiseSample(self, sampleidx: Tensor, batchsize: int, k: int) -> Tensor:
        """Fill `sampleidx`, (batchsize, k) afterwards, with classes drawn from the noise."""
        drawn = self.aliasmultinomial.batchdraw(torch.empty((batchsize, k), dtype=torch.int64))
        return sampleidx.resize_(drawn.shape).copy_(drawn)

    def noiseProb(self, sampleprob: Tensor, sampleidx: Tensor) -> Tensor:
        """Fill `sampleprob`, of the size of `sampleidx` afterwards, with the probabilities in the noise."""
        found = self.unigrams[zero_based(sampleidx).to(self.unigrams.device)]
        return sampleprob.resize_(found.shape).copy_(found)

    def explain(self, input: Any) -> None:
        expect_classes(input[1], len(self.weight))

    def _approximate_Z(self, x: Tensor) -> None:
        self.Z.fill_(1)
        with torch.no_grad():
            of_target, of_samples, *_ = self.compute((x, None), self.weight, self.bias)
        found = of_samples if self.batchnoise else torch.cat([of_target[:, None], of_samples], 1)
        self.Z.fill_(found.mean() * len(self.weight))
        print(f"normalization constant Z approximated to {to_text(self.Z.item())}")

    def accumulate(self, name: str, gradient: Tensor, scale: float) -> None:
        super().accumulate(name, gradient, scale)  # one by one: the gradient of the weight is sparse

    def clearState(self) -> Any:
        kept = map_leaves(lambda x: x.new_empty(0), Table(self.output, self.gradInput))
        super().clearState()
        self._forget_draws()
        self.output, self.gradInput = kept
        return self

    def _forget_draws(self, *others: str) -> None:
        for name in (*self.drawn, *others):
            vars(self).pop(name, None)

    def multicuda(self, device1: int, device2: int) -> None:
        """`cuda()`: one GPU takes the whole weight, which Torch7 split over two."""
        self.cuda()

    def upgrade(self, version: int) -> None:
        """After `multicuda` a file has two halves of the weight and of its gradient, side by side."""
        for name, value in vars(self).items():
            if isinstance(value, TorchObject) and value.__typename__ == "torch.MultiCudaTensor":
                vars(self)[name] = tag(torch.cat([*value.tensors], 1), type_of(value.tensors[1]))

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        """As usual; the probabilities of the noise are left as they are."""
        if type is None:
            return super().type()
        fields: Any = vars(self)
        kept = {name: fields.pop(name) for name in ("unigrams", "aliasmultinomial") if name in fields}
        self._forget_draws("_metaidx", "_weight", "_gradWeight")
        super().type(type, tensorCache)
        fields.update(kept)
        return self


class NCECriterion(Criterion):
    """How badly the model tells the target from the samples of noise.  Output of NCEModule -> loss

    -(sum log P(model) of the targets + sum log P(noise) of the samples), divided by the batch unless
    `sizeAverage` is false.  The target is not used.
    """

    EPSILON = 1e-7

    def __init__(self) -> None:
        super().__init__(sizeAverage=True)
        self.gradInput = Table(*[new_tensor() for _ in range(4)])

    def compute(self, input: Any, target: Any) -> Tensor:
        found, k = input[:2], input[1].shape[1]
        of_target, of_samples, noise_target, noise_samples = (part.detach() for part in input[:4])
        sum_target = of_target + k * noise_target + self.EPSILON
        sum_samples = of_samples + k * noise_samples + self.EPSILON
        loss = -((of_target / sum_target).log().sum() + (k * noise_samples / sum_samples).log().sum())
        # Torch7's slopes, which are not those of the logarithms: it adds EPSILON to the divisors
        slopes = (
            -k * noise_target / sum_target / (of_target + self.EPSILON),
            of_samples / sum_samples / (of_samples + self.EPSILON),
        )
        for p, slope in zip(found, slopes, strict=True):
            loss = loss + (slope * (p - p.detach())).sum()
        return loss / len(of_target) if self.sizeAverage else loss

    def prepare(self, input: Any, target: Any) -> None:
        if not isinstance(input, tuple) or len(input) < 4:
            raise InputError(f"expected a table of four tensors, got {describe(input)}")
        expect(input[0], 1)
        for part, dims in zip(input[1:], (2, 1, 2), strict=False):
            expect(part, dims, size=len(input[0]), at=0, like=input[0])
        expect(input[3], 2, size=input[1].shape[1])
