"""cudnn's recurrent modules: packed sequences, checkpoints, conversion, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from golden import same

import converters
import t7compat
from converters import to_native
from t7compat import InputError, Table, cudnn, nn
from t7compat.nested import walk
from t7compat.tensortypes import parse, tag, type_of

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6
NAMES = ("RNNReLU", "RNNTanh", "LSTM", "GRU", "BLSTM", "BGRU")


def random(*size: int) -> torch.Tensor:
    return torch.randn(size, dtype=torch.float64)


def sequence() -> torch.Tensor:
    return random(STEPS, BATCH, INPUTS)


# ---- checkpoints


def test_on_the_way_of_a_checkpoint(tmp_path: Path) -> None:
    """What a GPU program saved: 32 bits, CudaTensors; it runs on the CPU and comes back byte for byte."""
    network = nn.Sequential().add(cudnn.BLSTM(INPUTS, HIDDEN, 2, True)).add(nn.Select(2, -1)).float()
    on_gpu = parse("torch.CudaTensor")
    for value, fields in walk(network):
        if isinstance(value, nn.Module):
            fields["_type"] = on_gpu.tensor
            for tensor in fields.values():
                if isinstance(tensor, torch.Tensor):
                    tag(tensor, on_gpu)
    saved = t7compat.dumps(network)
    loaded = t7compat.loads(saved)
    module = loaded.modules[1]
    assert type_of(module.weight) is type_of(module.hiddenOutput) is on_gpu
    assert t7compat.dumps(loaded) == saved
    x = sequence().float()
    same(loaded.forward(x), network.forward(x))

    path = tmp_path / "tagger.t7"
    path.write_bytes(saved)
    report = converters.convert(path)
    assert (report.status, report.networks[0].verification.outcome) == (0, "verified")
    written = (tmp_path / "tagger.py").read_text()
    assert "nn.LSTM(4, 6, num_layers=2, batch_first=True, bidirectional=True)" in written


# ---- sequences of different lengths

LENGTHS = (4, 2, 1)


def test_packed_sequences() -> None:
    """Packed, the output and gradients are those of each sequence by itself."""
    module = cudnn.BLSTM(INPUTS, HIDDEN, 2)
    x = random(4, 3, INPUTS)
    packed = cudnn.RNN.packPaddedSequence(x, LENGTHS)
    output = module.forward(packed).clone()
    gradOutput = torch.randn_like(output)
    gradInput = module.backward(packed, gradOutput)
    gradient, hidden = module.gradWeight.clone(), module.hiddenOutput
    assert (module.seqLength, module.miniBatch, module.inputPacked) == (4, 3, True)
    sizes = packed[2]
    padded, padded_gradient, padded_gradInput = (
        module.padPackedSequence(Table(rows, sizes))[0] for rows in (output, gradOutput, gradInput)
    )
    alone = module.clone()
    alone.zeroGradParameters()
    for i, n in enumerate(LENGTHS):
        one = x[:n, i : i + 1]
        same(alone.forward(one), padded[:n, i : i + 1])
        same(alone.hiddenOutput[:, 0], hidden[:, i])
        same(alone.backward(one, padded_gradient[:n, i : i + 1]), padded_gradInput[:n, i : i + 1])
    same(alone.gradWeight, gradient)
    packed_native = torch.nn.utils.rnn.PackedSequence(packed[1], torch.tensor([*sizes]))
    same(to_native(module)(packed_native)[0].data.detach(), output)


@pytest.mark.parametrize("batchFirst", [False, True])
def test_packing(batchFirst: bool) -> None:
    """First step of all sequences, second step of those that have one, and so on; zeros behind the end."""
    numbers = torch.tensor([[101, 201, 301], [102, 202, 0], [103, 0, 0], [104, 0, 0]], dtype=torch.int32)
    input = numbers.t().contiguous() if batchFirst else numbers
    packed = cudnn.RNN.packPaddedSequence(input, Table(*LENGTHS), batchFirst)
    assert packed[1].tolist() == [101, 201, 301, 102, 202, 103, 104]
    assert [*packed[2]] == [3, 2, 1, 1]
    padded, lengths = cudnn.RNN.padPackedSequence(packed, batchFirst)
    same(padded, input)
    assert [*lengths] == [*LENGTHS]


# ---- conversion


@pytest.mark.parametrize("batchFirst", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_conversion(name: str, batchFirst: bool) -> None:
    module = getattr(cudnn, name)(INPUTS, HIDDEN, 2, batchFirst, 0.5)
    module.evaluate()
    x = sequence()
    native = to_native(module)
    same(native(x)[0].detach(), module.forward(x))
    kinds: dict[str, Any] = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU}
    options = {"nonlinearity": "relu"} if name == "RNNReLU" else {}
    options |= {"dropout": 0.5, "batch_first": batchFirst, "bidirectional": name[0] == "B"}
    layer = kinds.get(name.removeprefix("B"), torch.nn.RNN)(INPUTS, HIDDEN, 2, **options)
    assert [*native.state_dict()] == [*layer.state_dict()]
    assert type(native) is type(layer)
    assert vars(native).keys() == vars(layer).keys()
    assert (native.dropout, native.bidirectional) == (layer.dropout, layer.bidirectional)
    assert (native.mode, native.batch_first) == (layer.mode, layer.batch_first)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"rememberStates": True, "hiddenInput": random(1, BATCH, HIDDEN)}, "starts from zeros"),
        ({"inputPacked": True}, "takes no packed sequences"),
    ],
)
def test_what_conversion_notes(change: dict[str, Any], note: str, tmp_path: Path) -> None:
    """Also what a forward has left does not disturb the proof."""
    module = cudnn.LSTM(INPUTS, HIDDEN, 1)
    module.forward(sequence())
    vars(module).update(change)
    t7compat.save(tmp_path / "model.t7", module)
    report = converters.convert(tmp_path / "model.t7")
    network = report.networks[0]
    assert (report.status, network.verification.outcome) == (0, "verified")
    assert note in network.notes[0]


def test_recorded_networks(tmp_path: Path) -> None:
    x = nn.Identity()()
    last = nn.JoinTable(3)([cudnn.BLSTM(INPUTS, HIDDEN, 2)(x), cudnn.GRU(INPUTS, HIDDEN, 1)(x)])
    t7compat.save(tmp_path / "model.t7", nn.gModule([x], [last]))
    (network,) = converters.convert(tmp_path / "model.t7", to=("py", "pt2")).networks
    assert network.verification.outcome == network.exports["pt2"].outcome == "verified"


def test_conversion_in_a_sequencer() -> None:
    """Each step is a sequence of its own."""
    sequencer = nn.Sequencer(cudnn.GRU(INPUTS, HIDDEN, 1))
    input = Table(sequence(), sequence())
    native = to_native(sequencer)
    for got, want in zip(native(tuple(input)), sequencer.forward(input), strict=True):
        same(got.detach(), want)
    sequencer.module.module.rememberStates = True
    with pytest.raises(converters.Unconvertible, match="no rule for it over sequences"):
        to_native(sequencer)


# ---- wrong input


def changed(**fields: Any) -> Any:
    module = cudnn.LSTM(INPUTS, HIDDEN, 1)
    vars(module).update(fields)
    return module


@pytest.mark.parametrize(
    ("fields", "input", "message"),
    [
        ({}, random(STEPS, INPUTS), "expected a 3-D torch.DoubleTensor with 4 elements"),
        ({}, random(STEPS, BATCH, 7), "with 4 elements, got torch.DoubleTensor of size 5x3x7"),
        ({}, sequence().float(), "got torch.FloatTensor"),
        ({}, Table(random(3, INPUTS), Table(1, 2)), "batch sizes that do not increase"),
        ({}, Table(random(3, INPUTS), Table(2, 2)), "batch sizes that do not increase"),
        ({}, Table(random(3, INPUTS)), "batch sizes that do not increase"),
        ({}, Table(sequence(), Table(3, 2)), "expected a 2-D torch.DoubleTensor"),
        ({"hiddenInput": random(1, 2, HIDDEN)}, sequence(), "hiddenInput: expected .* of size 1x3x6, got"),
        ({"cellInput": 5}, sequence(), "cellInput: expected .* of size 1x3x6, got number"),
        ({"numLayers": 2}, sequence(), "weight: expected 624 elements .see reset., got .* of size 288"),
        ({"mode": "CUDNN_LSTN"}, sequence(), "mode: expected one of CUDNN_RNN_RELU"),
    ],
)
def test_wrong_input(fields: dict[str, Any], input: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^cudnn.LSTM: .*{message}"):
        changed(**fields).forward(input)


def test_wrong_gradients_and_lengths() -> None:
    module, x = cudnn.LSTM(INPUTS, HIDDEN, 1), sequence()
    network = nn.Sequential().add(module)
    output = network.forward(x)
    with pytest.raises(InputError, match="gradOutput: expected"):
        network.backward(x, output[1:])
    module.gradHiddenOutput = random(1)
    with pytest.raises(
        InputError, match=r"module 1 of nn.Sequential: cudnn.LSTM: gradHiddenOutput: expected"
    ):
        network.backward(x, output)
    with pytest.raises(InputError, match="decreasing"):
        cudnn.RNN.packPaddedSequence(x, (1, 2, 3))
    different = cudnn.LSTM(INPUTS, HIDDEN, 1)
    different.inputMode = "CUDNN_SKIP_INPUT"
    different.reset()
    with pytest.raises(InputError, match="expected inputSize to be hiddenSize, got 4 and 6"):
        different.forward(x)
