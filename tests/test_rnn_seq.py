"""Whole sequences in one call: both ways to compute them, what is kept of them, and what is refused."""

from __future__ import annotations

import gc
import io
import weakref
from typing import Any

import pytest
import torch
from golden import Case, gradients, over, same
from torch7 import given, wave

import t7compat
from converters import to_native
from t7compat import InputError, Table, nn
from t7compat.rnn import fused
from t7compat.table import map_leaves

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6


def random(*size: int) -> torch.Tensor:
    return torch.randn(size, dtype=torch.float64)


def sequence() -> torch.Tensor:
    return random(STEPS, BATCH, INPUTS)


def masked_sequence() -> torch.Tensor:
    x = sequence()
    x[0, 0] = x[2] = x[4, 1] = 0
    return x


# ---- the recurrences


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("outputs", [None, 2, 8])
def test_derivatives_of_lstm(masked: bool, outputs: int | None) -> None:
    size = outputs or HIDDEN
    values = [sequence(), random(BATCH, size), random(BATCH, HIDDEN), random(INPUTS + size, 4 * HIDDEN)]
    values += [random(4 * HIDDEN), *([random(HIDDEN, outputs)] if outputs else [])]
    mask = (masked_sequence() == 0).all(-1, keepdim=True) if masked else None

    def function(*tensors: torch.Tensor) -> Any:
        return fused.lstm(*tensors[:5], project=next(iter(tensors[5:]), None), mask=mask)[:2]

    assert torch.autograd.gradcheck(function, [value.requires_grad_() for value in values])


@pytest.mark.parametrize("masked", [False, True])
def test_derivatives_of_gru(masked: bool) -> None:
    weights = random(INPUTS + HIDDEN, 3 * HIDDEN), random(3 * HIDDEN)
    values = [sequence(), random(BATCH, HIDDEN), *weights]
    mask = (masked_sequence() == 0).all(-1, keepdim=True) if masked else None
    assert torch.autograd.gradcheck(
        lambda *tensors: fused.gru(*tensors, mask=mask)[0], [value.requires_grad_() for value in values]
    )


def in_single_precision(value: Any) -> Any:
    return map_leaves(torch.Tensor.float, value)


@pytest.mark.parametrize("steps", [1, STEPS])
@pytest.mark.parametrize("batchfirst", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_kernel_of_pytorch_and_own_recurrence_agree(count: int, batchfirst: bool, steps: int) -> None:
    """In 32 bits PyTorch's kernel is used, in 64 bits the recurrence of this package."""
    own = nn.SeqLSTM(INPUTS, HIDDEN)
    own.batchfirst = batchfirst
    own.zeroGradParameters()
    kernel = own.clone().float()
    size = (BATCH, steps) if batchfirst else (steps, BATCH)
    x, gradOutput = random(*size, INPUTS), random(*size, HIDDEN)
    input = Table(*[random(BATCH, HIDDEN) for _ in range(count)], x) if count else x
    later = {"gradPrevOutput": random(BATCH, HIDDEN), "userNextGradCell": random(BATCH, HIDDEN)}
    for module, convert in ((own, map_leaves), (kernel, lambda f, value: in_single_precision(value))):
        module.forward(convert(lambda x: x, input))
        for name, value in later.items():
            setattr(module, name, convert(lambda x: x, value))
        module.backward(convert(lambda x: x, input), convert(lambda x: x, gradOutput))
        assert module.gradPrevOutput is None
        assert module.userNextGradCell is None
    assert kernel.cell.shape == (steps, BATCH, HIDDEN)
    for name in ("output", "cell", "gates", "gradInput", "userGradPrevOutput", "userGradPrevCell"):
        same(getattr(kernel, name), in_single_precision(getattr(own, name)), name)
    same(gradients(kernel), in_single_precision(gradients(own)), "gradients")


def test_fields_of_all_steps_are_those_of_the_forward() -> None:
    module = nn.SeqLSTM(INPUTS, HIDDEN).float()
    x = sequence().float()
    module.forward(x)
    want = module.cell.clone()
    module.forward(x)
    module.backward(x, random(STEPS, BATCH, HIDDEN).float())
    module.updateParameters(1)
    same(module.cell, want)
    module.forward(x)
    module.cell = want
    assert module.cell is want
    module.forward(x)
    assert module.double().cell.shape == want.shape


@pytest.mark.parametrize("maskzero", [False, True])
@pytest.mark.parametrize(
    ("make", "convert"),
    [(nn.SeqLSTM, nn.SeqLSTM.toFastLSTM), (nn.SeqGRU, nn.SeqGRU.toGRU)],
)
def test_equal_to_the_cell_step_by_step(make: Any, convert: Any, maskzero: bool) -> None:
    module = make(INPUTS, HIDDEN)
    module.zeroGradParameters()
    cell = convert(module)
    x = masked_sequence() if maskzero else sequence()
    if maskzero:
        module.maskZero()
        cell.maskZero(1)
    steps = nn.Sequencer(cell)
    gradOutput = random(STEPS, BATCH, HIDDEN)
    same(module.forward(x), steps.forward(x), "output")
    same(module.backward(x, gradOutput), steps.backward(x, gradOutput), "gradInput")
    same(gradients(convert(module)), gradients(cell), "gradients")


@over("rnn", "SeqLSTM", "SeqGRU", having="converted")
def test_conversion_to_a_cell(case: Case) -> None:
    data = case.load()
    cell = data.module.toGRU() if isinstance(data.module, nn.SeqGRU) else data.module.toFastLSTM()
    same(nn.Sequencer(cell).forward(data.input), data.output, "output")
    same(Table(*cell.parameters()), Table(*data.converted.parameters()), "parameters")


# ---- from sequence to sequence


def test_gradients_from_later_sequences_are_for_one_backward() -> None:
    module = nn.SeqGRU(INPUTS, HIDDEN)
    x, gradOutput, later = sequence(), random(STEPS, BATCH, HIDDEN), random(BATCH, HIDDEN)

    def after(*methods: str, with_later: bool) -> Any:
        module.zeroGradParameters()
        module.gradPrevOutput = later if with_later else None
        for method in methods:
            getattr(module, method)(x, gradOutput)
        return map_leaves(torch.Tensor.clone, Table(module.gradInput, gradients(module)))

    module.forward(x)
    both, once = after("backward", with_later=True), after("backward", with_later=False)
    assert not torch.equal(both[1], once[1])
    same(after("updateGradInput", "accGradParameters", with_later=True), both)
    same(after("accGradParameters", with_later=True)[2], both[2])
    module.forward(x)
    same(after("updateGradInput", "accGradParameters", with_later=False), once)


def test_two_halves_are_a_whole() -> None:
    """Gradients go back over the border through gradPrevOutput and userNextGradCell."""
    whole, x = nn.SeqLSTM(INPUTS, HIDDEN), sequence()
    gradOutput = random(STEPS, BATCH, HIDDEN)
    halves = [whole.clone("weight", "bias").remember() for _ in range(2)]
    outputs = []
    for half, part, before in zip(halves, x.split(3), (None, halves[0]), strict=True):
        if before:
            half.userPrevOutput, half.userPrevCell = before.output[-1], before.cell[-1]
        outputs.append(half.forward(part))
    same(torch.cat(outputs), whole.forward(x), "output")
    first, second = zip(halves, x.split(3), gradOutput.split(3), strict=True)
    after = halves[1].backward(*second[1:])
    halves[0].gradPrevOutput, halves[0].userNextGradCell = (
        halves[1].userGradPrevOutput,
        halves[1].userGradPrevCell,
    )
    same(torch.cat([halves[0].backward(*first[1:]), after]), whole.backward(x, gradOutput), "gradInput")


@pytest.mark.parametrize("type", ["torch.DoubleTensor", "torch.FloatTensor"])
def test_memory_survives_a_file(type: str, tmp_path: Any) -> None:
    module = nn.SeqLSTM(INPUTS, HIDDEN).remember().type(type)
    x = sequence().to(module.weight.dtype)
    module.forward(x)
    t7compat.save(tmp_path / "module.t7", module)
    again = t7compat.load(tmp_path / "module.t7")
    same(again.forward(x), module.forward(x))


@pytest.mark.parametrize("type", ["torch.DoubleTensor", "torch.FloatTensor"])
def test_module_does_not_live_on_in_its_graph(type: str) -> None:
    module = nn.SeqLSTM(INPUTS, HIDDEN).type(type)
    x = sequence().to(module.weight.dtype)
    module.backward(x, torch.zeros_like(module.forward(x)))
    reference = weakref.ref(module)
    del module
    gc.collect()
    assert reference() is None


def test_clearState_leaves_what_a_forward_needs() -> None:
    module, x = nn.SeqLSTM(INPUTS, HIDDEN), sequence()
    want = module.forward(x).clone()
    module.clearState()
    assert module.output.numel() == module.cell.numel() == 0
    assert module.gradInput is None
    same(module.forward(x), want)


def test_file_from_before_projections() -> None:
    module = nn.SeqLSTM(INPUTS, HIDDEN)
    del module.hiddensize
    assert t7compat.loads(t7compat.dumps(module)).hiddensize == HIDDEN


def test_pickle() -> None:
    module, x = nn.SeqLSTM(INPUTS, HIDDEN).float(), sequence().float()
    want = module.forward(x)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    same(torch.load(buffer, weights_only=False).forward(x), want)


# ---- conversion


def test_usual_forms_are_those_of_torch() -> None:
    for module, options in ((nn.SeqLSTM(3, 4), {}), (nn.SeqLSTMP(3, 4, 2), {"proj_size": 2})):
        network = to_native(module, random(5, 2, 3))
        assert type(network) is torch.nn.LSTM
        assert (network.input_size, network.hidden_size, network.proj_size) == (
            3,
            4,
            options.get("proj_size", 0),
        )


def test_both_directions() -> None:
    module = nn.SeqBRNN(3, 4, True, nn.JoinTable(3))
    x = random(2, 5, 3)
    module.evaluate()
    same(to_native(module)(x), module.forward(x))


# ---- what is refused

REFUSED = [
    (
        lambda: nn.SeqLSTM(3, 4),
        "2x3 5x2x4 f5x2x3 {2x4} {2x4;2x4;2x4;5x2x3} {2x3;5x2x3} {1x4;5x2x3} nil",
    ),
    (lambda: nn.SeqLSTM(3, 4), "{4;5x2x3} {2x4;1x4;5x2x3} {f2x4;5x2x3}"),
    (lambda: nn.SeqLSTMP(3, 4, 2), "2x3 {2x4;5x2x3} {2x2;2x2;5x2x3}"),
    (lambda: nn.SeqGRU(3, 4), "2x3 5x2x4 {2x3;5x2x3} {2x4;2x4;5x2x3} {}"),
    (lambda: nn.SeqBRNN(3, 4), "2x3 5x2x4"),
    (lambda: nn.SeqReverseSequence(2), "3 {2x3} nil"),
]


@pytest.mark.parametrize(
    ("make", "input"), [(make, input) for make, inputs in REFUSED for input in inputs.split()]
)
def test_refused(make: Any, input: str) -> None:
    with pytest.raises(InputError, match=r"expected|range"):
        make().forward(given(input))


@pytest.mark.parametrize(
    ("field", "size"), [("userPrevOutput", (1, 4)), ("userPrevCell", (2, 3)), ("userPrevOutput", (4,))]
)
def test_refused_state(field: str, size: tuple[int, ...]) -> None:
    module = nn.SeqLSTM(3, 4)
    setattr(module, field, wave(*size))
    with pytest.raises(InputError, match="expected"):
        module.forward(wave(5, 2, 3))


def test_refused_change_of_the_batch() -> None:
    module = nn.SeqLSTM(3, 4).remember()
    module.forward(wave(5, 2, 3))
    with pytest.raises(InputError, match="batch of 1"):
        module.forward(wave(5, 1, 3))
    module.forget()
    assert module.forward(wave(5, 1, 3)).shape == (5, 1, 4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("gradPrevOutput", wave(3, 3)), ("gradPrevOutput", 1), ("userNextGradCell", wave(3, 3))],
)
def test_refused_gradient(field: str, value: Any) -> None:
    module, x = nn.SeqLSTM(3, 4), wave(5, 2, 3)
    output = module.forward(x)
    setattr(module, field, value)
    with pytest.raises(InputError):
        module.backward(x, output)


@pytest.mark.parametrize(
    "call",
    [
        lambda: nn.SeqReverseSequence(4),
        lambda: nn.SeqReverseSequence(-1),
        lambda: nn.SeqLSTMP(3, 4, 2).toFastLSTM(),
        lambda: nn.SeqLSTM(3, 4).remember("sometimes"),
    ],
)
def test_refused_calls(call: Any) -> None:
    with pytest.raises(InputError):
        call()
