"""The streams of golden/tensor/random.t7: Lua expressions, and what they gave in Torch7."""

import re
from types import SimpleNamespace

import pytest
import torch
from golden import GOLDEN

from t7compat.errors import InputError
from t7compat.mersenne import Generator
from t7compat.t7file import load
from t7compat.tensortypes import TENSOR_TYPES, type_of

ROWS = [row for row in TENSOR_TYPES if row.device == "cpu"]
DISTRIBUTIONS = [
    "random",
    "uniform",
    "normal",
    "exponential",
    "cauchy",
    "logNormal",
    "geometric",
    "bernoulli",
]
OTHERS = [
    "rand",
    "randn",
    "randperm",
    "multinomial",
    "manualSeed",
    "initialSeed",
    "getRNGState",
    "setRNGState",
]


class LuaTensor:
    """The methods of a Lua tensor that the golden expressions call."""

    def __init__(self, generator, data):
        self.generator, self.data = generator, data

    def __getattr__(self, name):
        return lambda *args: self.fill(name, *args)

    def fill(self, name, *args):
        getattr(self.generator, name + "_")(self.data, *map(plain, args))
        return self

    def resized(self, *size):
        return LuaTensor(self.generator, self.data.new_empty(size))

    def rand(self, *size):
        return self.resized(*size).uniform()

    def randn(self, *size):
        return self.resized(*size).normal()

    def randperm(self, n):
        return self.resized(n).fill("randperm")

    def t(self):
        return LuaTensor(self.generator, self.data.t())

    def narrow(self, dim, index, size):
        return LuaTensor(self.generator, self.data.narrow(dim - 1, index - 1, size))

    def type(self):
        return type_of(self.data).tensor

    def size(self, dim):
        return self.data.shape[dim - 1]


class LuaTensorClass:
    """torch.FloatTensor(2, 3), and torch.FloatTensor{1, 2} in the form FloatTensor[1, 2]."""

    def __init__(self, generator, row):
        self.generator, self.dtype = generator, row.dtype

    def __call__(self, *size):
        return self[size[0]] if size and isinstance(size[0], list) else self.of(torch.zeros(size or (0,)))

    def __getitem__(self, values):
        return self.of(torch.tensor(values))

    def of(self, data):
        return LuaTensor(self.generator, data.to(self.dtype))


def plain(value):
    return value.data if isinstance(value, LuaTensor) else value


def lua_torch(default):
    """Lua's table `torch`, with the functions that draw from `default` unless they are given a generator."""

    def function(name):
        def call(*args):
            generator, *args = args if args and isinstance(args[0], Generator) else (default, *args)
            if name in ("rand", "randn", "randperm"):
                return getattr(LuaTensorClass(generator, ROWS[-1])(), name)(*args)
            if name in DISTRIBUTIONS and args and isinstance(args[0], LuaTensor):
                return getattr(args[0], name)(*args[1:])
            value = getattr(generator, name)(*map(plain, args))
            return LuaTensor(generator, value) if isinstance(value, torch.Tensor) else value

        return call

    torch_ = SimpleNamespace(**{name: function(name) for name in DISTRIBUTIONS + OTHERS}, Generator=Generator)
    for row in ROWS:
        setattr(torch_, f"{row.prefix}Tensor", LuaTensorClass(default, row))
    torch_.Tensor, torch_.equal = torch_.DoubleTensor, lambda a, b: torch.equal(a.data, b.data)
    return torch_


def run_lua(code, generator):
    """The values that a chunk of simple Lua returns; skips the test for a chunk that is more than that."""
    code = re.sub(
        r"local (\w+)=\{\} for i=1,(\d+) do \1\[i\]=(.*?) end ", r"\1=[\3 for i in range(\2)]; ", code
    )
    code = code.replace("local ", "").replace(":", ".").replace("true", "True").replace("false", "False")
    *statements, result = code.replace("{", "[").replace("}", "]").split("; ")
    torch_ = lua_torch(generator)
    try:
        programs = (
            compile("\n".join(statements), code, "exec"),
            compile(f"[{result.removeprefix('return ')}]", code, "eval"),
        )
    except SyntaxError:
        programs = None
    if programs is None or not all(hasattr(torch_, name) for name in re.findall(r"torch\.(\w+)", code)):
        pytest.skip("needs a Lua interpreter")
    scope = {"torch": torch_}
    exec(programs[0], scope)
    return eval(programs[1], scope)


def same(got, want):
    """Raise unless equal but for the last bit, in which C libraries differ."""
    if isinstance(got, list):
        for g, w in zip(got, want, strict=True):
            same(g, w)
    elif isinstance(want, torch.Tensor):
        rtol = {torch.float64: 1e-15, torch.float32: 2e-7}.get(want.dtype, 0)
        torch.testing.assert_close(plain(got), want, rtol=rtol, atol=0)
    else:
        assert got == (pytest.approx(want, rel=1e-15, abs=0) if isinstance(want, float) else want)


def golden_cases():
    path = GOLDEN / "tensor" / "random.t7"
    return [
        pytest.param(case, id=f"{case.name}: {case.lua[:50]}")
        for case in (load(path) if path.exists() else ())
    ]


@pytest.mark.parametrize("case", golden_cases())
def test_golden_stream(case):
    generator = Generator(case.seed)
    if case.error:
        with pytest.raises(InputError):
            run_lua(case.lua, generator)
    else:
        same(run_lua(case.lua, generator), case.results)
