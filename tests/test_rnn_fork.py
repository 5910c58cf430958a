"""Classes of torch/rnn, the later fork of the package: each equals one that golden data vouch for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden import gradients, same
from hypothesis import given, settings
from hypothesis import strategies as st

import t7compat
from converters import to_native
from t7compat import InputError, Table, nn
from t7compat.table import map_leaves

STEPS, BATCH, INPUTS, HIDDEN, OUTPUTS = 4, 3, 5, 6, 2


def random(*size: int) -> torch.Tensor:
    return torch.randn(size, dtype=torch.float64)


def masked_sequence() -> torch.Tensor:
    x = random(STEPS, BATCH, INPUTS)
    x[0, 0] = x[2] = x[3, 1] = 0
    return x


def zero_mask(x: torch.Tensor) -> torch.Tensor:
    return (x == 0).all(-1).byte()


def same_passes(one: Any, other: Any, input: Any) -> None:
    """Both give the same output, gradInput, and gradients of parameters."""
    for module in (one, other):
        module.zeroGradParameters()
    output = one.forward(input)
    same(output, other.forward(input), "output")
    gradOutput = map_leaves(torch.randn_like, output)
    same(one.backward(input, gradOutput), other.backward(input, gradOutput), "gradInput")
    same(gradients(one), gradients(other), "gradients of parameters")


CELLS = {
    "lstm": (lambda: nn.RecLSTM(INPUTS, HIDDEN), lambda: nn.SeqLSTM(INPUTS, HIDDEN)),
    "projected": (lambda: nn.RecLSTM(INPUTS, HIDDEN, OUTPUTS), lambda: nn.SeqLSTMP(INPUTS, HIDDEN, OUTPUTS)),
    "gru": (lambda: nn.RecGRU(INPUTS, OUTPUTS), lambda: nn.SeqGRU(INPUTS, OUTPUTS)),
}


def pair(kind: str) -> tuple[Any, Any]:
    """A cell of the fork in a Sequencer, and a module over sequences, with the same parameters."""
    cell, whole = (make() for make in CELLS[kind])
    for mine, others in zip(cell.parameters()[0], whole.parameters()[0], strict=True):
        mine.copy_(others)
    return nn.Sequencer(cell), whole


@pytest.mark.parametrize("kind", CELLS)
def test_cell_equals_module_over_sequences(kind: str) -> None:
    steps, whole = pair(kind)
    for length in (STEPS, STEPS + 2):
        same_passes(steps, whole, random(length, BATCH, INPUTS))


@pytest.mark.parametrize("told", [False, True], ids=["v1", "told"])
@pytest.mark.parametrize("kind", CELLS)
def test_masked_cell_equals_masked_module_over_sequences(kind: str, told: bool) -> None:
    steps, whole = pair(kind)
    steps.maskZero(not told)
    whole.maskZero()
    x = masked_sequence()
    for module in (steps, whole) if told else ():
        module.setZeroMask(zero_mask(x))
    same_passes(steps, whole, x)


@pytest.mark.parametrize("kind", CELLS)
def test_native_form_of_a_cell(kind: str) -> None:
    steps, _ = pair(kind)
    steps.evaluate()
    x = random(STEPS, BATCH, INPUTS)
    same(to_native(steps)(x)[0].detach(), steps.forward(x), "output")


@pytest.mark.parametrize("kind", CELLS)
def test_constructors_draw_as_modules_over_sequences_do(kind: str) -> None:
    drawn = []
    for make in CELLS[kind]:
        t7compat.manualSeed(1)
        drawn.append(make().parameters()[0])
    if kind == "projected":  # SeqLSTMP has another width of the weights in Element-Research's package
        drawn = [parameters[2] for parameters in drawn]
        assert drawn[0].shape == drawn[1].shape
    else:
        same(*drawn)


def test_start_state() -> None:
    h, c, x = random(BATCH, HIDDEN), random(BATCH, HIDDEN), random(BATCH, INPUTS)
    cell = nn.RecLSTM(INPUTS, HIDDEN)
    first = cell.forward(x)
    cell.forget()
    cell.setHiddenState(0, Table(h, c))
    want = cell.modules[1].forward(Table(x, h, c))
    for _ in range(2):
        cell.forget()
        same(cell.forward(x), want[1], "output")
    cell.setStartState()
    cell.forget()
    same(cell.forward(x), first, "output")


def of_the_fork(module: Any) -> Any:
    """A module as a file of the fork has it."""
    for inner in module.listModules():
        fields = vars(inner)
        if "rho" in fields:
            fields["seqlen"] = fields.pop("rho")
        for name in ("recurrentModule", "module"):
            fields.pop(name, None)
    return t7compat.loads(t7compat.dumps(module))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequencer(nn.RecLSTM(INPUTS, HIDDEN)),
        lambda: nn.Sequencer(nn.LSTM(INPUTS, HIDDEN)),
        lambda: nn.Sequencer(nn.FastLSTM(INPUTS, HIDDEN)),
        lambda: nn.Sequencer(nn.GRU(INPUTS, HIDDEN)),
        lambda: nn.Sequencer(nn.LinearRNN(INPUTS, HIDDEN)),
        lambda: nn.Sequencer(nn.Sequential().add(nn.Linear(INPUTS, 2)).add(nn.RecGRU(2, 3))),
    ],
)
def test_files_of_the_fork(make: Any) -> None:
    module = make()
    copy = module.clone()
    same_passes(of_the_fork(module), copy, random(STEPS, BATCH, INPUTS))


def test_file_with_a_projection() -> None:
    whole = nn.SeqLSTMP(INPUTS, HIDDEN, OUTPUTS)
    saved = t7compat.dumps(whole).replace(b"\x0b\0\0\0nn.SeqLSTMP", b"\x0a\0\0\0nn.SeqLSTM")
    same_passes(t7compat.loads(saved), whole, random(STEPS, BATCH, INPUTS))


def test_recurrences() -> None:
    x, h = random(BATCH, INPUTS), random(BATCH, OUTPUTS)
    linear = nn.LinearRNN(INPUTS, OUTPUTS, nn.Tanh())
    weight, bias = linear.parameters()[0]
    linear.setHiddenState(0, Table(h))
    same(linear.forward(x), (torch.cat((x, h), 1) @ weight.t() + bias).tanh(), "output")
    lookup = nn.LookupRNN(7, OUTPUTS)
    table, weight, bias = lookup.parameters()[0]
    lookup.setHiddenState(0, Table(h))
    output = lookup.forward(torch.tensor([3.0, 0.0, 7.0], dtype=torch.float64))
    rows = torch.stack((table[3], torch.zeros_like(table[0]), table[7]))
    same(output, (rows + h @ weight.t() + bias).sigmoid(), "output")
    assert [str(linear), str(lookup)] == ["nn.LinearRNN(5 -> 2)", "nn.LookupRNN(7 -> 2)"]


@pytest.mark.parametrize("kind", ["SeqBLSTM", "SeqBGRU"])
def test_both_directions(kind: str) -> None:
    module = getattr(nn, kind)(INPUTS, OUTPUTS)
    x = random(STEPS, BATCH, INPUTS)
    back = module.getBackward().clone().forward(x.flip(0)).flip(0)
    same(module.forward(x), module.getForward().clone().forward(x) + back, "output")
    module.remember("both")
    assert (module.getForward()._remember, module.getBackward()._remember) == ("both", "neither")
    assert str(module).split("\n")[1:3] == [
        f"  forward:  {module.getForward()}",
        f"  backward: {module.getBackward()}",
    ]


def test_masks_reach_the_way_back() -> None:
    x = masked_sequence()
    told, found = nn.SeqBGRU(INPUTS, OUTPUTS).maskZero(), None
    found = told.clone()
    told.setZeroMask(zero_mask(x))
    same_passes(told, found, x)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.booleans(), st.booleans())
@settings(max_examples=20, deadline=None)
def test_samples_of_different_lengths(lengths: list[int], last: bool, steps: bool) -> None:
    whole = nn.Sequencer(nn.RecGRU(INPUTS, OUTPUTS)) if steps else nn.SeqLSTM(INPUTS, OUTPUTS)
    alone = whole.clone()
    module = nn.VariableLength(whole, last)
    module.zeroGradParameters()
    samples = Table(*[random(n, INPUTS) for n in lengths])
    outputs = module.forward(samples)
    gradOutput = map_leaves(torch.randn_like, outputs)
    gradInput = module.backward(samples, gradOutput)
    alone.zeroGradParameters()
    for i, sample in enumerate(samples, 1):
        want = alone.forward(sample[:, None])[:, 0]
        same(outputs[i - 1] if last else outputs[i], want[-1] if last else want, "output")
        gradient = torch.zeros_like(want)
        gradient[-1 if last else slice(None)] = gradOutput[i - 1] if last else gradOutput[i]
        same(gradInput[i], alone.backward(sample[:, None], gradient[:, None])[:, 0], "gradInput")
    same(gradients(module), gradients(alone), "gradients of parameters")


def test_decorator_with_a_mask_that_is_told() -> None:
    module = nn.MaskZero(nn.Sequential().add(nn.Linear(INPUTS, 2)).add(nn.Tanh()))
    x = random(3, INPUTS)
    with pytest.raises(InputError, match="setZeroMask"):
        module.forward(x)
    module.setZeroMask(torch.tensor([0, 1, 0], dtype=torch.uint8))
    output = module.forward(x)
    assert not output[1].any()
    same(output[::2].clone(), module.modules[1].forward(x)[::2].clone(), "output")
    module.setZeroMask(False)
    assert module.forward(x).all()


def test_criterions_with_a_mask_that_is_told() -> None:
    x, y = masked_sequence(), random(STEPS, BATCH, INPUTS)
    told = nn.SequencerCriterion(nn.MaskZeroCriterion(nn.MSECriterion()))
    found = nn.SequencerCriterion(nn.MaskZeroCriterion(nn.MSECriterion(), 1))
    told.setZeroMask(zero_mask(x))
    assert told.forward(x, y) == found.forward(x, y) > 0
    same(told.backward(x, y), found.backward(x, y), "gradInput")
    told.setZeroMask(False)
    assert told.forward(x, y) != found.forward(x, y)


def test_reversed_sequences() -> None:
    x = random(STEPS, BATCH)
    reverse = nn.ReverseSequence()
    same(reverse.forward(x), x.flip(0), "output")
    same(reverse.forward(Table(*x)), Table(*x.flip(0)), "output")


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: nn.RecLSTM(2, 3).forward(random(2)), "expected a 2-D tensor with 2 elements"),
        (lambda: nn.RecGRU(2, 3).maskZero().forward(random(1, 2)), "expected setZeroMask before forward"),
        (lambda: nn.RecGRU(2, 3).setZeroMask(torch.zeros(3)), "expected a tensor \\(time, batch\\)"),
        (lambda: nn.StepGRU(2, 3).forward(Table(random(1, 2))), "expected a table with 2 entries or more"),
        (lambda: nn.VariableLength(nn.SeqGRU(2, 3)).forward(Table(random(0, 2))), "differ in length only"),
        (lambda: nn.VariableLength(nn.SeqGRU(2, 3)).setZeroMask(False), "not supported"),
    ],
)
def test_refused(use: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        use()
