"""cudnn's recurrent modules.

The golden data have none: Torch7 has them on GPUs only.  They are held to the checksums of NVIDIA's sample
program for cuDNN 5, to an independent statement of cuDNN's layout beside torch.nn, and to nn.SeqLSTM.
"""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any

import pytest
import torch
from golden import same

from converters import to_native
from t7compat import Table, cudnn, nn

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6
NAMES = ("RNNReLU", "RNNTanh", "LSTM", "GRU", "BLSTM", "BGRU")
GATES = {"CUDNN_RNN_RELU": 1, "CUDNN_RNN_TANH": 1, "CUDNN_LSTM": 4, "CUDNN_GRU": 3}


def random(*size: int) -> torch.Tensor:
    return torch.randn(size, dtype=torch.float64)


def sequence(batchFirst: bool = False) -> torch.Tensor:
    return random(BATCH, STEPS, INPUTS) if batchFirst else random(STEPS, BATCH, INPUTS)


def state(module: Any, batch: int = BATCH) -> torch.Tensor:
    return random(module.numLayers * module.numDirections, batch, HIDDEN)


# ---- numbers of cuDNN itself

CHECKSUMS = {
    "CUDNN_RNN_RELU": (1.315793e6, 1.315212e5, None, 6.676003e1, 6.425067e1, None, 1.453750e9),
    "CUDNN_RNN_TANH": (6.319591e5, 6.319605e4, None, 4.501830e0, 4.489546e0, None, 5.012598e7),
    "CUDNN_LSTM": (5.749536e5, 5.774818e4, 4.365091e5, 3.842206e2, 1.182566e1, 9.323785e3, 4.313461e8),
    "CUDNN_GRU": (6.358978e5, 6.281680e4, None, 6.296622e0, 2.289960e5, None, 5.397419e7),
}
CHECKSUMS_OF_BOTH_DIRECTIONS = {
    "CUDNN_RNN_RELU": (1.388634e1, 1.288997e1, None, 1.288729e1, 1.279004e1, None, 7.061081e7),
    "CUDNN_RNN_TANH": (1.388634e1, 1.288997e1, None, 1.288729e1, 1.279004e1, None, 7.061081e7),
    "CUDNN_LSTM": (3.134097e4, 1.922855e0, 3.845626e0, 4.794993e0, 2.468645e0, 2.870925e4, 1.121568e8),
    "CUDNN_GRU": (6.555183e4, 5.830924e0, None, 4.271801e0, 6.555744e4, None, 1.701796e8),
}


@pytest.mark.parametrize("batchFirst", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("mode", GATES)
def test_checksums_of_cudnn(mode: str, directions: int, batchFirst: bool) -> None:
    """20 steps of 64 samples that are all alike (so one is enough), 512 inputs and hidden units, 2 layers."""
    module = cudnn.RNN(512, 512, 2, batchFirst)
    module.mode, module.numDirections = mode, directions
    module.bidirectional = "CUDNN_BIDIRECTIONAL" if directions == 2 else "CUDNN_UNIDIRECTIONAL"
    module.reset()
    if directions == 2:
        module.weight.fill_(1 / module.weight.numel())
    else:
        for matrix in itertools.chain(*module.weights()):
            matrix.fill_(1 / matrix.numel())
        for bias in itertools.chain(*module.biases()):
            bias.fill_(1)
    for name in ("hiddenInput", "cellInput", "gradHiddenOutput", "gradCellOutput"):
        vars(module)[name] = torch.ones(2 * directions, 1, 512, dtype=torch.float64)
    x = torch.ones((1, 20, 512) if batchFirst else (20, 1, 512), dtype=torch.float64)
    output = module.forward(x)
    module.backward(x, torch.ones_like(output))
    names = (
        "output", "hiddenOutput", "cellOutput",
        "gradInput", "gradHiddenInput", "gradCellInput", "gradWeight",
    )  # fmt: skip
    wanted = (CHECKSUMS_OF_BOTH_DIRECTIONS if directions == 2 else CHECKSUMS)[mode]
    for name, want in zip(names, wanted, strict=True):
        if want is not None:
            assert 64 * getattr(module, name).sum().item() == pytest.approx(want, rel=2e-5), name


# ---- beside torch.nn


def parts(layer: torch.nn.RNNBase, named: Any) -> list[torch.Tensor]:
    """The tensors that `named` gives for a layer's parameters in cuDNN's order, one matrix at a time.

    For each layer and direction: the input matrices of all gates, then the recurrent ones; behind all of
    these, the biases in the same order.
    """
    gates = layer.weight_hh_l0.shape[0] // layer.hidden_size
    found = []
    for kind in ("weight", "bias"):
        for number in range(layer.num_layers):
            for direction in ("", "_reverse")[: 1 + layer.bidirectional]:
                for source in ("ih", "hh"):
                    found += named(f"{kind}_{source}_l{number}{direction}").chunk(gates)
    return found


def flat(layer: torch.nn.RNNBase, named: Any) -> torch.Tensor:
    return torch.cat([part.flatten() for part in parts(layer, named)])


def beside(name: str, layers: int, batchFirst: bool = False, dropout: float = 0) -> tuple[Any, Any]:
    """A module, and the layer of torch.nn from whose parameters its vector was made."""
    kinds: dict[str, Any] = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU}
    kind = kinds.get(name.removeprefix("B"), torch.nn.RNN)
    options = {"nonlinearity": "relu"} if name == "RNNReLU" else {}
    layer = kind(
        INPUTS, HIDDEN, layers, batch_first=batchFirst, bidirectional=name[0] == "B", dropout=dropout,
        dtype=torch.float64, **options,
    )  # fmt: skip
    module = getattr(cudnn, name)(INPUTS, HIDDEN, layers, batchFirst, dropout)
    module.weight.copy_(flat(layer, lambda name: getattr(layer, name).detach()))
    module.zeroGradParameters()
    return module, layer


@pytest.mark.parametrize("batchFirst", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_layout(name: str, layers: int, batchFirst: bool) -> None:
    """From a state that was given, with gradients of the last one; the second backward adds to the first."""
    module, layer = beside(name, layers, batchFirst)
    x = sequence(batchFirst).requires_grad_()
    has_cell = module.mode == "CUDNN_LSTM"
    starts = [state(module).requires_grad_() for _ in range(1 + has_cell)]
    later = [state(module) for _ in starts]
    output, ends = layer(x, tuple(starts) if has_cell else starts[0])
    ends = ends if has_cell else (ends,)
    gradOutput = torch.randn_like(output)
    torch.autograd.backward([output, *ends], [gradOutput, *later])

    for fields, values in ((("hiddenInput", "cellInput"), starts),
                           (("gradHiddenOutput", "gradCellOutput"), later)):  # fmt: skip
        vars(module).update(zip(fields, [value.detach() for value in values], strict=False))
    input = x.detach()
    same(module.forward(input), output.detach())
    same(module.backward(input, gradOutput), x.grad)
    gradient = flat(layer, lambda name: getattr(layer, name).grad)
    same(module.gradWeight, gradient)
    same(module.updateGradInput(input, gradOutput), x.grad)
    module.accGradParameters(input, gradOutput, 0.5)
    same(module.gradWeight, 1.5 * gradient)
    for i, (end, start) in enumerate(zip(ends, starts, strict=True)):
        same((module.hiddenOutput, module.cellOutput)[i], end.detach())
        same((module.gradHiddenInput, module.gradCellInput)[i], start.grad)
    if not has_cell:
        same(module.cellOutput, torch.zeros_like(module.hiddenOutput))


@pytest.mark.parametrize("name", ["LSTM", "BGRU"])
def test_weights_and_biases_are_views(name: str) -> None:
    module, layer = beside(name, 2)
    matrices = [matrix for place in module.weights() for matrix in place]
    biases = [bias for place in module.biases() for bias in place]
    assert len(module.weights()) == 2 * module.numDirections
    want = [part.flatten() for part in parts(layer, lambda name: getattr(layer, name).detach())]
    same(Table(*matrices, *biases), Table(*want))
    biases[-1].fill_(7)
    assert (module.weight[-HIDDEN:] == 7).all()


def test_dropout_is_that_of_pytorch() -> None:
    module, layer = beside("LSTM", 3, dropout=0.5)
    x = sequence().requires_grad_()
    torch.manual_seed(1)
    output = layer(x)[0]
    output.sum().backward()
    torch.manual_seed(1)
    input = x.detach()
    same(module.forward(input), output.detach())
    same(module.backward(input, torch.ones_like(output)), x.grad)
    module.evaluate()
    same(module.forward(input), layer.eval()(input)[0].detach())


# ---- beside nn


def test_lstm_is_that_of_nn() -> None:
    """SeqLSTM has the gates i, f, o, g, in columns, and one bias."""
    module, other = cudnn.LSTM(INPUTS, HIDDEN, 1), nn.SeqLSTM(INPUTS, HIDDEN)
    matrices, biases = list(module.weights()[1]), list(module.biases()[1])
    order = (0, 1, 3, 2)
    of_x = torch.cat([matrices[i].view(HIDDEN, INPUTS) for i in order])
    of_h = torch.cat([matrices[4 + i].view(HIDDEN, HIDDEN) for i in order])
    other.weight.copy_(torch.cat((of_x, of_h), 1).t())
    other.bias.copy_(torch.cat([biases[i] + biases[4 + i] for i in order]))
    x, gradOutput = sequence(), random(STEPS, BATCH, HIDDEN)
    same(module.forward(x), other.forward(x))
    same(module.backward(x, gradOutput), other.backward(x, gradOutput))
    same(module.cellOutput[0], other.cell[-1])


# ---- derivatives


@pytest.mark.parametrize("name", NAMES)
def test_slope(name: str) -> None:
    module = getattr(cudnn, name)(2, HIDDEN, 2)
    values = [state(module, 2), state(module, 2), random(3, 2, 2), module.weight]

    def function(*tensors: torch.Tensor) -> Any:
        return module.compute((*tensors[:3], ()), tensors[3])[: 3 if module.mode == "CUDNN_LSTM" else 2]

    values = [value.clone().requires_grad_() for value in values]
    assert torch.autograd.gradcheck(function, values, eps=1e-7, atol=1e-4)


# ---- input without a matrix


def skipping(name: str, *arguments: Any) -> Any:
    module = getattr(cudnn, name)(*arguments)
    module.inputMode = "CUDNN_SKIP_INPUT"
    return module.reset()


def test_skipped_input_of_cudnn() -> None:
    """The number is one that cuDNN 5.1 gave, which still kept the matrices."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    for size in (9, 12):
        module = skipping("GRU", 1, 1, 1)
        module.weight, module.gradWeight = (torch.zeros(size, dtype=torch.float64) for _ in range(2))
        assert module.forward(one).item() == pytest.approx(0.20482421, rel=1e-6)
        module.backward(one, one)
        assert (module.gradWeight[: size - 9] == 0).all()
        assert (module.gradWeight[size - 6 :] != 0).any()


@pytest.mark.parametrize("name", ["LSTM", "BGRU"])
def test_skipped_input_is_multiplied_by_the_identity(name: str) -> None:
    module = skipping(name, HIDDEN, HIDDEN, 2)
    full = getattr(cudnn, name)(HIDDEN, HIDDEN, 2)
    for place, (mine, others) in enumerate(zip(module.weights(), full.weights(), strict=True)):
        for matrix, other in zip(mine, others, strict=True):
            other.copy_(matrix if matrix.numel() else torch.eye(HIDDEN).flatten())
        assert (mine[1].numel() == 0) == (place < module.numDirections)
    for mine, others in zip(module.biases(), full.biases(), strict=True):
        for bias, other in zip(mine, others, strict=True):
            other.copy_(bias)
    x = random(STEPS, BATCH, HIDDEN)
    output = full.forward(x)
    same(module.forward(x), output)
    same(module.backward(x, output), full.backward(x, output))
    same(to_native(module)(x)[0].detach(), output)


# ---- state


def test_rememberStates() -> None:
    """Both halves of a sequence are the whole; other sizes and `resetStates` begin anew."""
    module = cudnn.LSTM(INPUTS, HIDDEN, 2, False, 0, True)
    x = sequence()
    whole = module.forward(x).clone()
    module.resetStates()
    same(torch.cat([module.forward(x[:2]), module.forward(x[2:])]), whole)
    same(module.forward(x[:, :2]), whole[:, :2])
    module.resetStates()
    module.evaluate()
    same(torch.cat([module.forward(x[:2]), module.forward(x[2:])]), whole)


def test_start_holds_until_it_is_reset() -> None:
    module, x = cudnn.GRU(INPUTS, HIDDEN, 1), sequence()
    from_zeros = module.forward(x).clone()
    module.hiddenInput, module.gradHiddenOutput = state(module), state(module)
    first = module.forward(x).clone()
    assert (first - from_zeros).abs().max() > 1e-3
    same(module.forward(x), first)
    module.resetStates()
    assert not {"hiddenInput", "gradHiddenOutput"} & vars(module).keys()
    assert not module.hiddenOutput.any()
    same(module.forward(x), from_zeros)


def test_clearState() -> None:
    module, x = cudnn.LSTM(INPUTS, HIDDEN, 1), sequence()
    module.reserve, module.dropoutStates, module._input = random(3), random(3), x
    want = module.forward(x).clone()
    module.clearState()
    names = ("output", "gradInput", "reserve", "dropoutStates", "_input")
    assert [getattr(module, name).numel() for name in names] == [0] * 5
    same(module.forward(x), want)


def test_reset_and_flat_parameters() -> None:
    network = nn.Sequential().add(cudnn.LSTM(INPUTS, HIDDEN, 1)).add(nn.Bottle(nn.Linear(HIDDEN, 2)))
    module, x = network.modules[1], sequence()
    output = network.forward(x).clone()
    flat_weights, gradients = network.getParameters()
    same(network.forward(x), output)
    gradients.zero_()
    network.backward(x, output)
    assert gradients[: module.weight.numel()].any()
    place = module.weight.data_ptr()
    module.reset(0.01)
    assert module.weight.data_ptr() == place == flat_weights.data_ptr()
    assert 0 < module.weight.abs().max() <= 0.01


def test_module_does_not_live_on_in_its_graph() -> None:
    module, x = cudnn.LSTM(INPUTS, HIDDEN, 1), sequence()
    module.backward(x, module.forward(x))
    reference = weakref.ref(module)
    del module
    gc.collect()
    assert reference() is None


def test_methods_without_effect() -> None:
    module = cudnn.LSTM(INPUTS, HIDDEN, 1)
    before = dict(vars(module))
    module.resetDropoutDescriptor()
    module.resetInputDescriptor(None, Table())
    module.clearDesc()
    assert vars(module) == before
    module.setSync(False)
    assert module.sync is False


# ---- on a GPU


@pytest.mark.cuda
@pytest.mark.parametrize("name", NAMES)
def test_on_a_gpu(name: str) -> None:
    module = getattr(cudnn, name)(INPUTS, HIDDEN, 2).float()
    other = module.clone().cuda()
    x = sequence().float()
    output = module.forward(x)
    same(other.forward(x.cuda()), output)
    same(other.backward(x.cuda(), output.cuda()), module.backward(x, output))
    same(other.gradWeight, module.gradWeight)
