"""Torch7's random numbers: the Mersenne Twister of THRandom.c and the distributions that Torch7 makes of it.

The same seed gives the numbers that Torch7 gives on the CPU, bit for bit, for any mixture of draws.
`uniform(a, b)` draws one number; `uniform_(tensor, a, b)` fills a tensor of any strides in place, row by row,
and returns it; likewise the other distributions.  The functions of this module are the methods of
`default_generator`.  Tensors on other devices are filled by PyTorch's own generators.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from t7compat.choices import categories, swapped
from t7compat.errors import InputError
from t7compat.registry import register
from t7compat.tensortypes import type_of

Array = npt.NDArray[Any]

_CHUNK = 1 << 15  # numbers made at a time: few enough to stay in the processor's cache
# struct THGenerator (THRandom.h) on 64-bit systems; `pair` is x, y and rho of the last two normal numbers
_STATE = np.dtype(
    {
        "names": ["initial_seed", "left", "seeded", "next", "words", "pair", "half_a_pair_left", "padding"],
        "formats": ["<u8", "<i4", "<i4", "<u8", "(624,)<u8", "(3,)<f8", "<i4", "<i4"],
    }
)


@register("torch.Generator")
class Generator:
    """A stream of random numbers (`torch.Generator`), started by `seed`, else at random."""

    __slots__ = ("_state", "_twister")

    def __init__(self, seed: int | None = None) -> None:
        if seed is None:
            self.seed()
        else:
            self.manualSeed(seed)

    # ---- state

    def manualSeed(self, seed: int) -> None:
        """Start the stream of `seed`, of which the lower 32 bits count."""
        state = np.zeros((), _STATE)
        state["initial_seed"] = int(seed) % 2**64
        state["words"] = np.random.RandomState(int(seed) % 2**32).get_state(legacy=False)["state"]["key"]
        state["left"] = state["seeded"] = 1
        self._restore(state)

    def seed(self) -> int:
        """Start at random, from 64 bits of the system; returns them."""
        self.manualSeed(int.from_bytes(os.urandom(8), "little"))
        return self.initialSeed()

    def initialSeed(self) -> int:
        """The number that this stream was started with, as a signed 64-bit number."""
        return int(self._state["initial_seed"].astype(np.int64))

    def getRNGState(self) -> Tensor:
        """The whole state, in the 5048 bytes in which Torch7 has it: a ByteTensor."""
        state, twister = self._state.copy(), self._twister.state["state"]
        if state["next"] != 0 or (state["words"] != twister["key"]).any():  # it is 0 until the first draw
            state["next"] = twister["pos"]
        state["left"] = 625 - twister["pos"]
        state["words"] = twister["key"]
        return torch.from_numpy(state.reshape(1).view(np.uint8))

    def setRNGState(self, state: Tensor) -> Tensor:
        """Go on from a state that `getRNGState` returned, here or in Torch7; returns it."""
        if state.dtype != torch.uint8 or state.numel() != _STATE.itemsize:
            got = f"{type_of(state).tensor} of {state.numel()}"
            raise InputError(f"setRNGState: expected a torch.ByteTensor of {_STATE.itemsize}, got a {got}")
        fields = state.cpu().reshape(-1).numpy().copy().view(_STATE).reshape(())
        seeded, left, position = (int(fields[name]) for name in ("seeded", "left", "next"))
        fresh, running = (left, position) == (1, 0), left >= 1 and left + position == 625
        if seeded != 1 or not (fresh or running):
            got = f"{seeded=}, {left=}, next={position}"
            raise InputError(f"setRNGState: expected a state of Torch7's generator, got {got}")
        self._restore(fields)
        return state

    def read(self, file: Any) -> None:
        """Read the state from a .t7 file, which has its bytes as they are."""
        self.setRNGState(file.readByte(_STATE.itemsize).data)

    def write(self, file: Any) -> None:
        """Write the state to a .t7 file."""
        file.writeByte(self.getRNGState())

    @property
    def bits(self) -> np.random.MT19937:
        """The stream of whole numbers, for distributions of numpy's; another object after each seed."""
        return self._twister

    def _restore(self, state: Array) -> None:
        self._state = state  # as at the start of the stream, but the normal numbers are kept up to date
        self._twister = np.random.MT19937(0)
        self._twister.state = {
            "bit_generator": "MT19937",
            "state": {"key": state["words"].astype(np.uint32), "pos": int(state["next"]) or 624},
        }

    # ---- distributions: one number, a tensor full of them, and the mathematics of both

    def random(self, a: int | None = None, b: int | None = None) -> int:
        """A whole number of 32 bits; `random(b)` from 1 to b, `random(a, b)` from a to b."""
        lowest, count = (0, 2**32) if a is None else _range(a, b)
        return self._twister.random_raw() % count + lowest

    def random_(self, tensor: Tensor, a: int | None = None, b: int | None = None) -> Tensor:
        """Fill with such numbers; without bounds from 0 to the greatest whole number of the tensor's type.

        A negative number n becomes 2^64 + n in a floating point tensor, as it does in Torch7.
        """
        lowest, count = (0, 0) if a is None else _range(a, b)
        if tensor.device.type != "cpu":
            return tensor.random_(lowest, lowest + count) if count else tensor.random_()
        modulus = np.uint64(min(count or _whole_numbers(type_of(tensor).dtype), 2**32))
        offset = np.uint64(lowest % 2**64)
        return _write(tensor, lambda start, stop: self._twister.random_raw(stop - start) % modulus + offset)

    def uniform(self, a: float = 0, b: float = 1) -> float:
        """A number of [a, b)."""
        return float(self._uniform(1, a, b)[0])

    def uniform_(self, tensor: Tensor, a: float = 0, b: float = 1) -> Tensor:
        """Fill a floating point tensor with such numbers."""
        return self._fill(tensor, self._uniform, tensor.uniform_, a, b)

    def _uniform(self, n: int, a: float = 0, b: float = 1) -> Array:
        return self._twister.random_raw(n) * 2.0**-32 * (b - a) + a

    def normal(self, mean: float = 0, std: float = 1) -> float:
        """A number of the normal distribution."""
        return float(self._normal(1, mean, std)[0])

    def normal_(self, tensor: Tensor, mean: float = 0, std: float = 1) -> Tensor:
        """Fill a floating point tensor with such numbers."""
        return self._fill(tensor, self._normal, tensor.normal_, mean, std)

    def _normal(self, n: int, mean: float, std: float) -> Array:
        """Box-Muller makes two numbers of two uniform ones; the second may stay for the next call."""
        if not std > 0:
            raise InputError(f"normal: expected a standard deviation above 0, got {std}")
        left = int(self._state["half_a_pair_left"] != 0)
        pairs = self._uniform(2 * ((n - left + 1) // 2)).reshape(-1, 2)
        if left:
            pairs = np.concatenate([self._state["pair"][None, :2], pairs])
        x, y = pairs.T
        rho = np.sqrt(-2 * _libm(np.log, 1 - y))
        angle = 2 * math.pi * x
        numbers = np.stack([rho * _libm(np.cos, angle), rho * _libm(np.sin, angle)], axis=1).ravel()
        self._state["pair"] = x[-1], y[-1], rho[-1]
        self._state["half_a_pair_left"] = (n - left) % 2
        return numbers[left : left + n] * std + mean

    def exponential(self, lambda_: float) -> float:
        """A number with the density lambda exp(-lambda x)."""
        return float(self._exponential(1, lambda_)[0])

    def exponential_(self, tensor: Tensor, lambda_: float) -> Tensor:
        """Fill a floating point tensor with such numbers."""
        return self._fill(tensor, self._exponential, tensor.exponential_, lambda_)

    def _exponential(self, n: int, lambda_: float) -> Array:
        return -1 / lambda_ * _libm(np.log, 1 - self._uniform(n))

    def cauchy(self, median: float = 0, sigma: float = 1) -> float:
        """A number of the Cauchy distribution."""
        return float(self._cauchy(1, median, sigma)[0])

    def cauchy_(self, tensor: Tensor, median: float = 0, sigma: float = 1) -> Tensor:
        """Fill a floating point tensor with such numbers."""
        return self._fill(tensor, self._cauchy, tensor.cauchy_, median, sigma)

    def _cauchy(self, n: int, median: float, sigma: float) -> Array:
        return median + sigma * _libm(np.tan, math.pi * (self._uniform(n) - 0.5))

    def logNormal(self, mean: float = 1, std: float = 2) -> float:
        """A number whose logarithm is that of `normal(mean, std)`."""
        return float(self._logNormal(1, mean, std)[0])

    def logNormal_(self, tensor: Tensor, mean: float = 1, std: float = 2) -> Tensor:
        """Fill a floating point tensor with such numbers."""
        return self._fill(tensor, self._logNormal, tensor.log_normal_, mean, std)

    def _logNormal(self, n: int, mean: float, std: float) -> Array:
        return _libm(np.exp, self._normal(n, mean, std))

    def geometric(self, p: float) -> int:
        """A whole number i above 0 with the probability (1 - p) p^(i - 1)."""
        return int(self._geometric(1, p)[0])

    def geometric_(self, tensor: Tensor, p: float) -> Tensor:
        """Fill with such numbers."""
        if tensor.device.type != "cpu":
            return tensor.geometric_(1 - p)
        return _write(tensor, lambda start, stop: self._geometric(stop - start, p))

    def _geometric(self, n: int, p: float) -> Array:
        if not 0 < p < 1:
            raise InputError(f"geometric: expected a probability between 0 and 1, got {p}")
        number = _libm(np.log, 1 - self._uniform(n)) / math.log(p)
        # Torch7 puts it into a C int, which on x86 becomes the least one where the number is too great
        return np.where(number < 2**31, number, -(2**31)).astype(np.int64) + 1

    def bernoulli(self, p: float = 0.5) -> int:
        """1 with the probability p, else 0."""
        return int(self._bernoulli(1, p)[0])

    def bernoulli_(self, tensor: Tensor, p: float | Tensor = 0.5) -> Tensor:
        """Fill with such numbers; `p` may be a floating point tensor of as many probabilities."""
        if tensor.device.type != "cpu":
            return tensor.bernoulli_(p)
        if not isinstance(p, Tensor):
            return _write(tensor, lambda start, stop: self._bernoulli(stop - start, p))
        if p.numel() != tensor.numel():
            raise InputError(f"bernoulli: expected {tensor.numel()} probabilities, got {p.numel()}")
        each = p.detach().to("cpu", torch.float64).reshape(-1).numpy()
        return _write(tensor, lambda start, stop: self._bernoulli(stop - start, each[start:stop]))

    def _bernoulli(self, n: int, p: float | Array) -> Array:
        if not (np.min(p) >= 0 and np.max(p) <= 1):
            raise InputError(f"bernoulli: expected a probability from 0 to 1, got {p}")
        return self._uniform(n) <= p

    def _fill(self, tensor: Tensor, sample: Any, elsewhere: Any, *parameters: float) -> Tensor:
        """Fill a floating point tensor by `sample(n, *parameters)`, or off the CPU by `elsewhere`."""
        if not tensor.is_floating_point():
            got = type_of(tensor).tensor
            raise InputError(f"{sample.__name__[1:]}: expected a floating point tensor, got a {got}")
        if tensor.device.type != "cpu":
            return elsewhere(*parameters)  # type: ignore[no-any-return]
        # Torch7 takes the parameters in the tensor's own type
        rounded = torch.tensor(parameters, dtype=tensor.dtype).tolist()
        return _write(tensor, lambda start, stop: sample(stop - start, *rounded))

    # ---- permutations and categories

    def randperm(self, n: int) -> Tensor:
        """The numbers 1..n in random order: a LongTensor."""
        return self.randperm_(torch.empty(n, dtype=torch.int64))

    def randperm_(self, tensor: Tensor) -> Tensor:
        """Fill with the numbers 1..n in random order, n being the number of elements."""
        n = tensor.numel()
        if n < 1:
            raise InputError("randperm: expected at least one number")
        if tensor.device.type != "cpu":
            return tensor.copy_(torch.randperm(n, device=tensor.device).view(tensor.shape) + 1)
        left = np.arange(n, 1, -1, dtype=np.uint64)
        order = swapped((self._twister.random_raw(n - 1) % left).astype(np.int64))
        return _write(tensor, lambda start, stop: order[start:stop] + 1)

    def multinomial(self, probabilities: Tensor, n: int, with_replacement: bool = False) -> Tensor:
        """`n` categories per row of weights, from 1 on.  (k) or (rows, k) -> LongTensor (n) or (rows, n)"""
        if probabilities.dim() not in (1, 2) or probabilities.numel() == 0:
            raise InputError(
                f"multinomial: expected 1-D or 2-D probabilities, got {tuple(probabilities.shape)}"
            )
        *rows, size = probabilities.shape
        if n < 1 or (n > size and not with_replacement):
            raise InputError(f"multinomial: expected 1 to {size} samples (more with replacement), got {n}")
        if probabilities.device.type != "cpu":
            return torch.multinomial(probabilities, n, with_replacement) + 1
        table = probabilities.detach().to(torch.float64).reshape(-1, size).numpy().cumsum(axis=1)
        if not (table[:, -1] > 0).all():
            raise InputError("multinomial: expected a sum of probabilities above 0 in every row")
        samples = self._uniform(len(table) * n).reshape(-1, n)
        with np.errstate(all="ignore"):
            found = categories(table / table[:, -1:], samples, with_replacement)
        return torch.from_numpy(found + 1).view(*rows, n)


def _range(a: int, b: int | None) -> tuple[int, int]:
    """The least number of `random(a)`, which means 1 to a, or `random(a, b)`; and how many there are."""
    lowest, highest = (1, int(a)) if b is None else (int(a), int(b))
    if highest < lowest:
        raise InputError(f"random: expected an upper bound of at least {lowest}, got {highest}")
    return lowest, highest - lowest + 1


def _whole_numbers(dtype: torch.dtype) -> int:
    """How many numbers `tensor:random()` chooses from: as many as the type tells apart, from 0 on."""
    return int(2 / torch.finfo(dtype).eps) + 1 if dtype.is_floating_point else torch.iinfo(dtype).max + 1


def _libm(function: Any, values: Array) -> Array:
    """`function(values)` to the last bit as the C library computes it, which Torch7 calls.

    numpy calls it too where input and output are interleaved in memory; elsewhere its vector code may differ.
    """
    pairs = np.ones((len(values) + 1, 2))
    pairs[:-1, 0] = values
    with np.errstate(all="ignore"):
        function(pairs[:, 0], out=pairs[:, 1])
    return pairs[:-1, 1]


def _write(tensor: Tensor, values: Callable[[int, int], Array]) -> Tensor:
    """Put `values(start, stop)`, asked for range after range, into the elements of `tensor`, row by row."""
    if _is_idle.get():
        return tensor
    target = tensor.detach()
    flat = target.view(-1) if target.is_contiguous() else torch.empty(target.numel(), dtype=target.dtype)
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK]
        part.copy_(torch.from_numpy(values(start, start + len(part))))
    if not target.is_contiguous():
        steps = zip(target.shape, target.stride(), strict=True)
        places = sum(np.ix_(*(np.arange(size) * stride for size, stride in steps)))
        memory = target.as_strided((int(np.max(places)) + 1,), (1,)).numpy()
        memory[places] = flat.view(target.shape).numpy()  # of elements in the same place the last one stays
    return tensor


_is_idle = ContextVar("_is_idle", default=False)


@contextmanager
def idle() -> Iterator[None]:
    """Leave tensors on the CPU as they are, and draw nothing: for parameters that will get other values."""
    before = _is_idle.set(True)
    try:
        yield
    finally:
        _is_idle.reset(before)


default_generator = Generator()


def manualSeed(seed: int) -> None:
    """Start the default stream of `seed`, and PyTorch's generators of all CUDA devices."""
    default_generator.manualSeed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(int(seed) % 2**64)


seed, initialSeed = default_generator.seed, default_generator.initialSeed
getRNGState, setRNGState = default_generator.getRNGState, default_generator.setRNGState
random, random_ = default_generator.random, default_generator.random_
uniform, uniform_ = default_generator.uniform, default_generator.uniform_
normal, normal_ = default_generator.normal, default_generator.normal_
exponential, exponential_ = default_generator.exponential, default_generator.exponential_
cauchy, cauchy_ = default_generator.cauchy, default_generator.cauchy_
logNormal, logNormal_ = default_generator.logNormal, default_generator.logNormal_
geometric, geometric_ = default_generator.geometric, default_generator.geometric_
bernoulli, bernoulli_ = default_generator.bernoulli, default_generator.bernoulli_
randperm, randperm_ = default_generator.randperm, default_generator.randperm_
multinomial = default_generator.multinomial
