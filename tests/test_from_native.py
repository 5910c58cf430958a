"""From PyTorch to Torch7: the same numbers and gradients, also after a way through a file."""

from __future__ import annotations

import copy
import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import Case, cases, same
from networks import NETWORKS, LeNet, Tagger, TwoInputs
from pytorch import LAYERS, prepared
from test_converters import AREAS, convertible, planned
from test_converters import prepared as prepared_golden

import converters
import t7compat
from converters import Unconvertible, from_native
from t7compat import Table, mersenne, nn
from t7compat.table import leaves

tnn = torch.nn
Tensor = torch.Tensor


def over(rows: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("make", "input"), [row[1:] for row in rows], ids=[row[0] for row in rows])


def is_random(network: tnn.Module) -> bool:
    """Whether it draws random numbers in training."""
    return any(
        getattr(layer, "p", 0) or getattr(layer, "dropout", 0) or isinstance(layer, tnn.RReLU)
        for layer in network.modules()
    )


def as_lua(inputs: Any) -> Any:
    """Inputs as a Lua program has them: indices count from 1, several are a table."""
    given = [x.detach().clone() if x.is_floating_point() else x + 1 for x in inputs]
    return given[0] if len(given) == 1 else Table(*given)


def run(network: tnn.Module, inputs: tuple[Tensor, ...]) -> Any:
    output = network(*[x.clone() for x in inputs])
    return output[0] if isinstance(network, tnn.RNNBase) else output


def made(network: tnn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """The module; scaling to a size, or keeping that of one axis, is for the sizes of the example only."""
    return from_native(network, inputs, fixed_sizes=isinstance(network, tnn.Upsample | tnn.AdaptiveAvgPool2d))


def close(got: Any, want: Any, coarse: bool = False) -> None:
    """Compare; Torch7 has the places of linear upsampling in single precision."""
    got, want = leaves(got), leaves(want)
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        same(one.float() if coarse else one, other.detach().float() if coarse else other.detach())


def is_coarse(module: nn.Module) -> bool:
    return any(isinstance(m, nn.SpatialUpSamplingBilinear | nn.UpSampling) for m in module.listModules())


@over(LAYERS + NETWORKS)
def test_the_saved_module_gives_the_output(
    make: Callable[[], tnn.Module], input: Callable[[], Any], save: Callable[..., Path]
) -> None:
    network, inputs = prepared(make, input)
    module = t7compat.load(save(made(network, inputs)))
    module.evaluate()
    with torch.no_grad():
        want = run(network.eval(), inputs)
    close(module.forward(as_lua(inputs)), want, is_coarse(module))


@pytest.mark.parametrize("row", NETWORKS, ids=lambda row: row[0])
def test_torch7_gave_the_output(row: Any) -> None:
    """The real one, for the saved module."""
    name, make, input = row
    network, inputs = prepared(make, input)
    outputs = t7compat.load(Path(__file__).parents[1] / "fixtures" / "from_pytorch" / "outputs.t7")
    with torch.no_grad():
        close(outputs[name], run(network.eval(), inputs))


@over([row for row in LAYERS + NETWORKS if not is_random(row[1]())])
def test_gradients_are_those_of_autograd(make: Callable[[], tnn.Module], input: Callable[[], Any]) -> None:
    network, inputs = prepared(make, input)
    module = made(network, inputs)
    flat = module.getParameters()[1] if module.parameters() else torch.zeros(0)
    sources = [x.requires_grad_() for x in inputs if x.is_floating_point()]
    output = run(network, inputs)
    close(module.forward(as_lua(inputs)), output, is_coarse(module))
    gradients = [torch.randn_like(one) for one in leaves(output)]
    torch.autograd.backward(leaves(output), gradients)
    module.zeroGradParameters()
    got = module.backward(as_lua(inputs), as_lua(gradients))
    # PyTorch has the slope of Hardsigmoid, 1 / 6, in single precision
    close(
        got if sources else (),
        [x.grad for x in sources],
        is_coarse(module) or isinstance(network, tnn.Hardsigmoid),
    )
    if not any(isinstance(layer, tnn.LSTM) for layer in network.modules()):  # one bias for two
        squares = sum(float(p.grad.square().sum()) for p in network.parameters() if p.grad is not None)
        assert float(flat.square().sum()) == pytest.approx(squares, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "case", [case for area in AREAS for case in cases(area) if convertible(case)], ids=str
)
def test_there_and_back(case: Case) -> None:
    """What became a network of plain layers of torch.nn becomes one of Torch7 again."""
    module, input, output = prepared_golden(case)
    network = planned(module, input).root.build()
    if not all(type(layer).__module__.startswith("torch.nn.") for layer in network.modules()):
        pytest.skip("not of plain layers")
    if any(
        isinstance(layer, tnn.FractionalMaxPool2d | tnn.FractionalMaxPool3d) for layer in network.modules()
    ):
        pytest.skip("draws random numbers")
    back = from_native(network, (input,))
    back.evaluate()
    same(back.forward(Table.from_python(input)), output, "output")


# ---- what else a module is


def test_without_an_example_one_is_found() -> None:
    network = tnn.Sequential(tnn.Conv2d(1, 4, 5), tnn.MaxPool2d(2), tnn.Flatten(), tnn.Linear(4 * 12 * 12, 3))
    assert str(from_native(network).get(3)) == "nn.View(-1)"
    assert type(from_native(LeNet())) is nn.Sequential


def test_sizes_that_were_found_are_not_taken_for_those_of_the_user() -> None:
    network = tnn.Sequential(tnn.Conv2d(1, 4, 5), tnn.AdaptiveAvgPool2d((2, None)))
    with pytest.raises(Unconvertible, match=r"^1: .*AdaptiveAvgPool2d: the size of its input must be known"):
        from_native(network)


def test_batch_of_another_size() -> None:
    for _, make, input in NETWORKS:
        network, inputs = prepared(make, input)
        module = from_native(network, inputs)
        module.evaluate()
        larger = tuple(torch.cat((x, x.flip(0), x)) for x in inputs)
        with torch.no_grad():
            close(module.forward(as_lua(larger)), run(network.eval(), larger))


def test_a_network_without_sizes_of_its_own_takes_others() -> None:
    norm = tnn.Sequential(tnn.InstanceNorm2d(4, affine=True), tnn.GroupNorm(2, 4)).double()
    module = from_native(norm, torch.randn(2, 4, 6, 6).double())
    x = torch.randn(3, 4, 9, 5).double()
    close(module.forward(x), norm(x))


def test_shared_parameters_are_shared(save: Callable[..., Path]) -> None:
    one, other = tnn.Linear(5, 5), tnn.Linear(5, 5)
    other.weight = one.weight
    module = t7compat.load(save(from_native(tnn.Sequential(one, tnn.Tanh(), other, one))))
    weights = [module.get(i) for i in (1, 3, 4)]
    assert len({m.weight.data_ptr() for m in weights}) == len({m.gradWeight.data_ptr() for m in weights}) == 1
    assert module.getParameters()[0].numel() == 25 + 5 + 5


def test_weights_are_the_modules_own() -> None:
    network = tnn.Linear(3, 2)
    module = from_native(network)
    module.weight.zero_()
    assert network.weight.abs().sum() > 0


def test_modes_are_those_of_the_layers() -> None:
    network = tnn.Sequential(tnn.Dropout(), tnn.Sequential(tnn.Dropout2d(), tnn.BatchNorm2d(3))).train()
    network[1][1].eval()
    module = from_native(network, torch.randn(2, 3, 4, 4))
    assert [m.train for m in (module, module.get(1), module.get(2), module.get(2).get(2))] == [
        True,
        True,
        True,
        False,
    ]
    assert network[0].training
    assert not network[1][1].training


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float64, "torch.DoubleTensor"),
        (torch.float32, "torch.FloatTensor"),
        (torch.float16, "torch.HalfTensor"),
        (torch.bfloat16, "torch.FloatTensor"),
    ],
)
def test_type(dtype: torch.dtype, name: str) -> None:
    module = from_native(tnn.Sequential(tnn.Linear(3, 2), tnn.ReLU()).to(dtype))
    assert module.type() == module.get(2).type() == name
    assert t7compat.nested.type_name(module.get(1).weight) == name
    assert nn.Linear(1, 1).type() == "torch.DoubleTensor"


@pytest.mark.cuda
def test_networks_on_a_gpu_come_to_the_cpu() -> None:
    for _, make, input in NETWORKS:
        network, inputs = prepared(make, input)
        module = from_native(network.cuda(), tuple(x.cuda() for x in inputs))
        module.evaluate()
        with torch.no_grad():
            close(module.forward(as_lua(inputs)), run(network.cpu().eval(), inputs))


def test_random_numbers_are_left_alone() -> None:
    t7compat.manualSeed(5)
    before = mersenne.uniform()
    t7compat.manualSeed(5)
    network, of_pytorch = tnn.Linear(3, 2), torch.get_rng_state()
    from_native(network)
    from_native(tnn.FractionalMaxPool2d(2, 2), torch.ones(1, 1, 5, 5), check=False)
    assert mersenne.uniform() == before
    assert torch.equal(torch.get_rng_state(), of_pytorch)
    assert nn.Linear(3, 2).weight.any()  # what is made later is drawn again


def test_chain_and_graph() -> None:
    assert [type(m).__name__ for m in from_native(LeNet()).modules][:2] == [
        "SpatialConvolution",
        "SpatialMaxPooling",
    ]
    module = from_native(TwoInputs(), (torch.randn(2, 4), torch.randn(2, 5)))
    names = [node.data.annotations.name for node in module.forwardnodes]
    assert {"one", "other", "tanh", "pair"} <= set(names)


def test_network_is_as_it_was() -> None:
    network = Tagger(dropout=0.5).train()
    before = copy.deepcopy(network.state_dict())
    from_native(network)
    assert all(layer.training for layer in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# ---- losses


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    "loss",
    [
        tnn.MSELoss, tnn.L1Loss, tnn.SmoothL1Loss, tnn.HuberLoss, tnn.KLDivLoss, tnn.SoftMarginLoss,
        tnn.BCELoss, tnn.BCEWithLogitsLoss,
        tnn.NLLLoss, tnn.CrossEntropyLoss, tnn.MultiMarginLoss,
    ],
)  # fmt: skip
def test_losses(loss: Any, reduction: str) -> None:
    x = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    is_classifier = loss in (tnn.NLLLoss, tnn.CrossEntropyLoss, tnn.MultiMarginLoss)
    target = torch.tensor([0, 2, 1, 2]) if is_classifier else torch.randint(2, (4, 3)).double()
    torch_loss = loss(reduction=reduction)
    want = torch_loss(x, target)
    want.backward()
    criterion = from_native(torch_loss)
    given = target + 1 if is_classifier else target
    assert criterion.forward(x.detach(), given) == pytest.approx(want.item())
    close(criterion.backward(x.detach(), given), x.grad)


def test_weights_of_classes() -> None:
    loss = tnn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), ignore_index=1)
    x, target = torch.randn(5, 3).double(), torch.tensor([0, 1, 2, 1, 0])
    assert from_native(loss).forward(x, target + 1) == pytest.approx(loss(x, target).item())


# ---- what cannot be


class Sorts(tnn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sort(1)[0]


class Branches(tnn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class CountsIndices(tnn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = tnn.Embedding(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.words(x * 2 % 5)


class DividesByBatch(tnn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.size(0)


@pytest.mark.parametrize(
    ("network", "input", "message"),
    [
        (tnn.GELU(), torch.ones(2, 3), r"torch\.nn\..*GELU: .*approximate=\"tanh\""),
        (tnn.Sequential(tnn.ReLU(), tnn.Sequential(Sorts())), torch.ones(2, 3), r"^1\.0: .*Sorts: .*sort"),
        (Branches(), torch.ones(2, 3), r"Branches: torch\.fx cannot record .*counterpart\.register"),
        (DividesByBatch(), torch.ones(2, 3), "computes with the size of the batch"),
        (tnn.Dropout2d(1.0), torch.ones(2, 3, 4, 4), "p = 1"),
        (CountsIndices(), torch.ones(2, 3).long(), "whole numbers, which are indices"),
        (tnn.MSELoss(reduction="none"), None, "nn.MSECriterion has the mean or the sum"),
        (tnn.MultiLabelSoftMarginLoss(reduction="sum"), None, "reduction='mean'"),
        (tnn.SmoothL1Loss(beta=2.0), None, r"beta=1\.0"),
        (tnn.BatchNorm2d(3, momentum=None), torch.ones(2, 3, 4, 4), "needs a momentum"),
        (tnn.Upsample(scale_factor=1.5), torch.ones(2, 3, 4, 4), "one whole factor"),
        (
            tnn.ConvTranspose2d(3, 2, 3, dilation=2),
            torch.ones(2, 3, 4, 4),
            "transposed convolution with dilation",
        ),
        (tnn.Softmax(1), None, "give an example input"),
        (tnn.Linear(3, 2), torch.ones(2, 4), "the network fails for the example input"),
        (object(), None, "expected a torch.nn.Module"),
    ],
)
def test_what_has_no_counterpart_is_named(network: Any, input: Any, message: str) -> None:
    with pytest.raises(Unconvertible, match=message):
        from_native(network, input)


class Swish(tnn.Module):
    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        assert x.isfinite().all()
        return x * torch.sigmoid(self.beta * x)


def test_rule_of_ones_own() -> None:
    network = tnn.Sequential(tnn.Linear(3, 2), Swish(1.5))
    with pytest.raises(Unconvertible, match=r"^1: .*Swish"):
        from_native(network)
    converters.counterpart.register(
        Swish,
        lambda layer, setting: (
            nn.Sequential()
            .add(
                nn.ConcatTable()
                .add(nn.Identity())
                .add(nn.Sequential().add(nn.MulConstant(layer.beta)).add(nn.Sigmoid()))
            )
            .add(nn.CMulTable())
        ),
    )
    from_native(network, torch.randn(2, 3))
    converters.counterpart.register(Swish, lambda layer, setting: nn.Sigmoid())
    with pytest.raises(Unconvertible, match="gives something else"):
        from_native(network, torch.randn(2, 3))


# ---- convert, and the manual


def test_manual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[1] / "docs" / "from_pytorch.md"
    results = doctest.testfile(str(page), module_relative=False)
    assert results.attempted > 12
    assert results.failed == 0


def test_convert_takes_modules(tmp_path: Path) -> None:
    module = from_native(tnn.Sequential(tnn.Linear(3, 2), tnn.Tanh()).double())
    report = converters.convert(Table(net=module, epoch=3), tmp_path, to=["py", "t7"], name="mine")
    assert report.status == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "mine.py",
        "mine.safetensors",
        "mine.json",
        "mine.clean.t7",
    }
    with pytest.raises(t7compat.errors.T7Error, match="expected a folder"):
        converters.convert(module)
    with pytest.raises(t7compat.errors.T7Error, match="from_native"):
        converters.convert(tnn.Linear(3, 2), tmp_path)
