import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.mersenne import Generator
from t7compat.t7file import dumps, loads
from t7compat.tensortypes import TENSOR_TYPES

DTYPES = [row.dtype for row in TENSOR_TYPES if row.device == "cpu"]

DISTRIBUTIONS = [  # with some parameters
    ("random", (10,)),
    ("random", (5, 9)),
    ("bernoulli", (0.3,)),
    ("geometric", (0.4,)),
    ("uniform", (-1, 2)),
    ("normal", (0.5, 2)),
    ("exponential", (0.5,)),
    ("cauchy", (1, 3)),
    ("logNormal", (0.25, 0.5)),
]
REAL = DISTRIBUTIONS[4:]
seeds = st.integers(0, 2**32 - 1)
to_a_bit = partial(pytest.approx, rel=4e-16, abs=0)  # another C library may round another way


# ---- one stream


def test_long_stream_of_torch7():
    """Numbers that Torch7 gave for this program, from both sides of the blocks in which fills are made."""
    generator = Generator(2024)
    generator.normal()
    normal = generator.normal_(torch.empty(100003, dtype=torch.float64))
    want = [-0.88371258778067752, 0.80082457428424514, -0.4672819135602525, -1.0392545819646914]
    assert [normal[i].item() for i in (0, 32766, 32767, 32768)] == to_a_bit(want)
    want = [0.23470633210901765, -0.0029649350871212392]
    assert [normal[i].item() for i in (65536, 100002)] == to_a_bit(want)
    uniform = generator.uniform_(torch.empty(500, 300).t(), -0.1, 0.1)
    want = [0.0021510645747184753, -0.084853090345859528, -0.0064786029979586601, 0.064019903540611267]
    assert [uniform[i].item() for i in ((0, 0), (0, 499), (1, 0), (299, 499))] == want
    permutation = generator.randperm(100000)
    assert permutation[[0, 1, 49999, 99998, 99999]].tolist() == [1583, 6867, 82854, 42575, 93435]
    assert generator.bernoulli_(torch.empty(70000, dtype=torch.uint8), 0.3).sum() == 21066
    assert generator.normal() == to_a_bit(1.4218370060161016)
    assert generator.random() == 1565827284
    digest = 0
    for byte in generator.getRNGState()[:5032].tolist():  # up to the logarithm of the last normal numbers
        digest = (digest * 31 + byte) % 1000003
    assert digest == 780368


@pytest.mark.parametrize(("name", "parameters"), DISTRIBUTIONS)
@given(seed=seeds, pieces=st.lists(st.integers(0, 9), max_size=20))
@settings(max_examples=20)
def test_pieces_of_any_size_are_one_stream(name, parameters, seed, pieces):
    """A piece of size 0 stands for a single number; long fills are made of pieces inside."""
    whole, parts = Generator(seed), Generator(seed)
    pieces.append(40000 - len(pieces))
    got = []
    for size in pieces:
        if size == 0:
            got.append(getattr(parts, name)(*parameters))
        else:
            piece = torch.empty(size, dtype=torch.float64)
            got += getattr(parts, name + "_")(piece, *parameters).tolist()
    assert got == getattr(whole, name + "_")(torch.empty(len(got), dtype=torch.float64), *parameters).tolist()
    assert torch.equal(parts.getRNGState(), whole.getRNGState())


def test_transformations_are_those_of_the_c_library():
    """Which is what Torch7 uses, and Python's math; numpy's and PyTorch's vector code has other last bits."""
    n = 20000
    u = Generator(3).uniform_(torch.empty(n, dtype=torch.float64)).tolist()
    draw = {
        name: getattr(Generator(3), name + "_")(torch.empty(n, dtype=torch.float64), *p) for name, p in REAL
    }
    rho = [math.sqrt(-2 * math.log(1 - y)) for y in u[1::2]]
    angle = [2 * math.pi * x for x in u[::2]]
    normal = [v for r, a in zip(rho, angle, strict=True) for v in (r * math.cos(a), r * math.sin(a))]
    assert draw["normal"].tolist() == [v * 2 + 0.5 for v in normal]
    assert draw["logNormal"].tolist() == [math.exp(v * 0.5 + 0.25) for v in normal]
    assert draw["exponential"].tolist() == [-1 / 0.5 * math.log(1 - v) for v in u]
    assert draw["cauchy"].tolist() == [1 + 3 * math.tan(math.pi * (v - 0.5)) for v in u]


def test_a_seed_forgets_the_second_normal_number():
    generator = Generator(1)
    first = generator.normal()
    generator.manualSeed(1)
    assert generator.normal() == first


@pytest.mark.parametrize(
    ("seed", "initial"), [(0, 0), (2**33 + 5, 2**33 + 5), (-1, -1), (2**63, -(2**63)), (7.9, 7)]
)
def test_initial_seed(seed, initial):
    generator = Generator(seed)
    assert generator.initialSeed() == initial
    assert generator.random() == Generator(initial % 2**32).random()


def test_random_seeds_differ_and_can_be_repeated():
    generator = Generator()
    assert generator.initialSeed() != Generator().initialSeed()
    start = generator.seed()
    assert Generator(start).random() == generator.random()


def test_module_functions_draw_from_the_default_generator():
    mersenne.manualSeed(11)
    got = [mersenne.uniform(), mersenne.normal(), mersenne.uniform_(torch.empty(3)).tolist()]
    generator = Generator(11)
    assert got == [generator.uniform(), generator.normal(), generator.uniform_(torch.empty(3)).tolist()]
    assert torch.equal(mersenne.getRNGState(), mersenne.default_generator.getRNGState())


# ---- state


@given(seed=seeds, skipped=st.integers(0, 1300), normals=st.integers(0, 3))
@settings(max_examples=50)
def test_a_state_can_be_returned_to(seed, skipped, normals):
    generator = Generator(seed)
    generator.random_(torch.empty(skipped, dtype=torch.int64))
    for _ in range(normals):
        generator.normal()
    state, other, copied = generator.getRNGState(), Generator(), copy.deepcopy(generator)
    assert state.dtype == torch.uint8
    assert state.shape == (5048,)
    other.setRNGState(state)
    assert torch.equal(other.getRNGState(), state)
    want = generator.normal_(torch.empty(1000)).tolist()
    assert want == other.normal_(torch.empty(1000)).tolist() == copied.normal_(torch.empty(1000)).tolist()
    generator.setRNGState(state.repeat_interleave(2)[::2])
    assert want == generator.normal_(torch.empty(1000)).tolist()


def test_a_generator_in_a_file():
    generator = Generator(5)
    generator.normal()
    read = loads(dumps(generator))
    assert isinstance(read, Generator)
    assert read.normal_(torch.empty(9)).tolist() == generator.normal_(torch.empty(9)).tolist()


def test_layout_of_the_state():
    state = Generator(7).getRNGState().numpy()
    assert state[:8].view("<u8") == 7
    assert state[8:16].view("<i4").tolist() == [1, 1]  # left, seeded
    assert state[16:32].view("<u8").tolist() == [0, 7]  # next, and the first word of the twister
    assert not state[5016:].any()  # no normal number yet


@pytest.mark.parametrize(
    "state",
    [
        torch.zeros(5048, dtype=torch.uint8),
        torch.zeros(5047, dtype=torch.uint8),
        Generator(1).getRNGState().float(),
        Generator(1).getRNGState().index_fill(0, torch.tensor([8]), 9),
        Generator(1).getRNGState().index_fill(0, torch.tensor([20]), 1),
    ],
    ids=["not seeded", "size", "type", "left", "next"],
)
def test_wrong_states_are_refused(state):
    generator = Generator(1)
    with pytest.raises(InputError, match="setRNGState"):
        generator.setRNGState(state)
    assert generator.random() == Generator(1).random()


# ---- fills


@st.composite
def views(draw):
    """A function that makes a tensor of any strides: permuted, stepped, expanded, overlapping."""
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    order = draw(st.permutations(range(len(shape))))
    step, expanded, window = draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(st.integers(0, 3))
    dtype = draw(st.sampled_from(DTYPES))

    def make():
        view = torch.zeros([step * size for size in shape], dtype=dtype)[::step].permute(order)
        view = view.unfold(0, window, 1) if 0 < window <= view.shape[0] else view
        return view.unsqueeze(1).expand(-1, expanded, *view.shape[1:]) if expanded else view

    return make


@pytest.mark.parametrize(("name", "parameters"), [("random", ()), *DISTRIBUTIONS[:4]])
@given(make=views())
@settings(max_examples=100)
def test_views_are_filled_row_by_row(name, parameters, make):
    got, want = make(), make()
    assert getattr(Generator(5), name + "_")(got, *parameters) is got
    values = getattr(Generator(5), name + "_")(torch.empty(want.shape, dtype=want.dtype), *parameters)
    for place, value in zip(np.ndindex(*want.shape), values.reshape(-1), strict=True):
        want[place] = value
    assert torch.equal(got, want)


@pytest.mark.parametrize(("name", "parameters"), REAL)
def test_real_numbers_in_narrower_types(name, parameters):
    """The numbers are rounded, and so are the parameters: 0.1 is a float in a FloatTensor."""
    parameters = [value + 0.1 for value in parameters]
    rounded = torch.tensor(parameters, dtype=torch.float32).tolist()
    got = getattr(Generator(2), name + "_")(torch.empty(1000), *parameters)
    want = getattr(Generator(2), name + "_")(torch.empty(1000, dtype=torch.float64), *rounded)
    assert torch.equal(got, want.float())
    with pytest.raises(InputError, match=f"{name}.*torch.IntTensor"):
        getattr(mersenne, name + "_")(torch.empty(3, dtype=torch.int32), *parameters)


def test_random_of_each_type():
    words = [Generator(4).random_(torch.empty(5000, dtype=torch.int64)).tolist()]
    limits = [256, 128, 2**15, 2**31, 2**63, 2**11 + 1, 2**24 + 1, 2**53 + 1]
    for dtype, limit in zip(DTYPES, limits, strict=True):
        assert Generator(4).random_(torch.empty(5000, dtype=dtype)).tolist() == [w % limit for w in words[0]]


def test_bounded_random_wraps_in_integers_and_not_in_doubles():
    """In Torch7 -3 is 2^64 - 3 on its way into a tensor."""
    assert set(Generator(1).random_(torch.empty(99, dtype=torch.int8), -3, 3).tolist()) == set(range(-3, 4))
    assert set(Generator(1).random_(torch.empty(99, dtype=torch.uint8), 254, 257).tolist()) == {
        254,
        255,
        0,
        1,
    }
    assert set(Generator(1).random_(torch.empty(99), -1, 1).tolist()) == {2.0**64, 0, 1}


def test_limits_of_torch7():
    """Bernoulli includes the probability itself, and the geometric distribution ends where a C int does."""
    assert Generator(3).bernoulli(Generator(3).uniform()) == 1
    assert Generator(1).geometric(0.999999999999) == -(2**31) + 1
    assert math.isinf(Generator(1).logNormal(1000, 1))


def test_bernoulli_of_a_tensor_of_probabilities():
    p = torch.linspace(0, 1, 40001, dtype=torch.float64)
    uniform = Generator(6).uniform_(torch.empty(40001, dtype=torch.float64))
    got = Generator(6).bernoulli_(torch.empty(40001, dtype=torch.int32), p)
    assert torch.equal(got, (uniform <= p).int())
    p, narrow = p[:-1].view(200, 200).t().float(), torch.empty(100, 400)
    assert torch.equal(
        Generator(6).bernoulli_(narrow, p).view(200, 200), (uniform[:-1].view(200, 200) <= p).float()
    )


def test_a_parameter_can_be_filled():
    weight = torch.nn.Parameter(torch.zeros(4, 3))
    mersenne.uniform_(weight, 1, 2)
    assert (weight >= 1).all()
    assert weight.requires_grad


@pytest.mark.parametrize(
    "call",
    [
        lambda g: g.random(0),
        lambda g: g.random(5, 4),
        lambda g: g.random_(torch.empty(2), 0),
        lambda g: g.normal(0, 0),
        lambda g: g.normal_(torch.empty(2), 0, -1),
        lambda g: g.logNormal(0, math.nan),
        lambda g: g.geometric(0),
        lambda g: g.geometric_(torch.empty(2), 1),
        lambda g: g.bernoulli(1.5),
        lambda g: g.bernoulli_(torch.empty(2), math.nan),
        lambda g: g.bernoulli_(torch.empty(2), torch.tensor([0.5, -0.1])),
        lambda g: g.bernoulli_(torch.empty(2), torch.tensor([0.5])),
        lambda g: g.randperm(0),
        lambda g: g.multinomial(torch.tensor([1.0, 2.0]), 0),
        lambda g: g.multinomial(torch.tensor([1.0, 2.0]), 3),
        lambda g: g.multinomial(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), 1),
        lambda g: g.multinomial(torch.ones(1, 1, 1), 1),
        lambda g: g.multinomial(torch.ones(0), 1, True),
    ],
)
def test_wrong_parameters_draw_nothing(call):
    generator = Generator(1)
    with pytest.raises(InputError, match="expected"):
        call(generator)
    assert torch.equal(generator.getRNGState(), Generator(1).getRNGState())


# ---- permutations and categories


@given(seed=seeds, n=st.integers(1, 5000))
@settings(max_examples=50)
def test_randperm_is_the_plain_shuffle(seed, n):
    generator, words = Generator(seed), Generator(seed)
    want = list(range(1, n + 1))
    for i in range(n - 1):
        j = i + words.random() % (n - i)
        want[i], want[j] = want[j], want[i]
    assert generator.randperm(n).tolist() == want
    assert torch.equal(generator.getRNGState(), words.getRNGState())


def plain_multinomial(generator, weights, n, with_replacement):
    """One row, step by step."""
    total, table, found = 0.0, [], []
    for weight in weights:
        total += weight
        table.append(total)
    table = [value / total for value in table]
    for _ in range(n):
        table[-1] = 1.0
        u = generator.uniform()
        found.append(next(i for i, value in enumerate(table) if value >= u))
        if not with_replacement:
            i = found[-1]
            mass = table[i] - (table[i - 1] if i else 0)
            table = [
                (value - mass * (k >= i)) / (1 - mass) if mass < 1 else math.inf
                for k, value in enumerate(table)
            ]
    return [i + 1 for i in found]


@given(
    seed=seeds,
    weights=st.integers(1, 12).flatmap(
        lambda k: st.lists(st.lists(st.floats(0.1, 3), min_size=k, max_size=k), min_size=1, max_size=4)
    ),
    n=st.integers(1, 12),
    with_replacement=st.booleans(),
)
def test_multinomial_is_the_plain_search(seed, weights, n, with_replacement):
    n = n if with_replacement else min(n, len(weights[0]))
    generator, steps = Generator(seed), Generator(seed)
    want = [plain_multinomial(steps, row, n, with_replacement) for row in weights]
    table = torch.tensor(weights, dtype=torch.float64)
    got = generator.multinomial(table.t().contiguous().t(), n, with_replacement)
    assert got.dtype == torch.int64
    assert got.tolist() == want
    assert Generator(seed).multinomial(table[0], n, with_replacement).tolist() == want[0]


def test_multinomial_without_replacement_beyond_the_last_weight():
    """Torch7 goes on with the first category where nothing is left."""
    assert Generator(1).multinomial(torch.tensor([0.0, 0.0, 1.0]), 2).tolist() == [3, 1]


# ---- other devices


@pytest.mark.parametrize(("name", "parameters"), [*DISTRIBUTIONS, ("random", ()), ("randperm", ())])
def test_other_devices_have_a_stream_of_their_own(name, parameters):
    generator, tensor = Generator(1), torch.empty(2, 3, device="meta")
    assert getattr(generator, name + "_")(tensor, *parameters) is tensor
    assert torch.equal(generator.getRNGState(), Generator(1).getRNGState())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "parameters"), [*DISTRIBUTIONS, ("random", ()), ("randperm", ())])
def test_cuda_tensors_are_filled_by_pytorch(name, parameters):
    def fill():
        mersenne.manualSeed(3)
        return getattr(mersenne, name + "_")(torch.zeros(100, 100, device="cuda"), *parameters).cpu()

    got = fill()
    assert torch.equal(got, fill())
    want = getattr(Generator(3), name + "_")(torch.zeros(100, 100), *parameters)
    if name not in ("cauchy", "random"):
        assert got.mean() == pytest.approx(want.mean(), rel=0.1, abs=0.1)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_multinomial_counts_from_one():
    got = mersenne.multinomial(torch.tensor([[0.0, 1.0], [1.0, 0.0]], device="cuda"), 3, True)
    assert got.tolist() == [[2, 2, 2], [1, 1, 1]]


@pytest.mark.parametrize(("name", "parameters"), DISTRIBUTIONS)
def test_idle_leaves_tensors_and_the_stream_alone(name, parameters):
    generator = Generator(7)
    before, tensor = generator.getRNGState(), torch.ones(5)
    with mersenne.idle():
        assert getattr(generator, f"{name}_")(tensor, *parameters) is tensor
    assert tensor.eq(1).all()
    assert torch.equal(generator.getRNGState(), before)
    assert not getattr(generator, f"{name}_")(tensor, *parameters).eq(1).all()
