"""The check of `from_native`: other sizes, gradients, training, and what it says of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import same

from converters import Unconvertible, from_native

tnn, F = torch.nn, torch.nn.functional
Tensor = torch.Tensor


def close(got: Any, want: Tensor) -> None:
    same(got, want.detach())


class Does(tnn.Module):
    """A forward as an argument."""

    def __init__(self, forward: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.does = forward

    def forward(self, x: Tensor) -> Any:
        return self.does(x)


@pytest.mark.parametrize(
    ("layer", "size", "others"),
    [
        (tnn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), (2, 2, 5, 5), [(3, 2, 8, 4)]),
        (Does(lambda x: x[:, -3:-1]), (2, 5, 4), [(2, 10, 4), (3, 7, 4)]),
        (Does(lambda x: x[:, -1:]), (2, 5, 4), [(2, 10, 4), (3, 7, 4)]),
        (tnn.Flatten(0, 1), (2, 3, 4, 5), [(3, 6, 4, 7)]),
        (tnn.Flatten(1, 2), (2, 3, 4, 5), [(3, 6, 4, 7)]),
        (tnn.Unflatten(1, (2, -1)), (2, 4, 5), [(3, 8, 5), (2, 4, 10)]),
        (Does(lambda x: x.view(x.size(0), x.size(1), 2, 2).mean(2)), (2, 5, 4), [(2, 10, 4), (3, 7, 4)]),
        (Does(lambda x: x.view(2, -1)), (2, 4), [(4, 4), (6, 4)]),
        (Does(lambda x: x.chunk(2, 1)[1]), (2, 6, 4), [(3, 8, 5)]),
        (Does(lambda x: x.unsqueeze(1) @ x.unsqueeze(1).mT), (2, 5, 4), [(3, 7, 6)]),
        (Does(lambda x: x.flip(2).roll(2, 1)), (2, 5, 4), [(3, 7, 6)]),
        (Does(lambda x: x.repeat(1, 2, 3).repeat_interleave(2, 1)), (2, 5, 4), [(3, 7, 6)]),
        (tnn.TransformerEncoderLayer(4, 2, 8), (5, 2, 4), [(7, 3, 4)]),
        (tnn.TransformerEncoderLayer(4, 2, 8, batch_first=True, norm_first=True), (2, 5, 4), [(3, 7, 4)]),
        (Does(lambda x: x.view(1, -1)), (1, 4), [(3, 4)]),
    ],
)  # fmt: skip
def test_of_other_sizes(layer: tnn.Module, size: Any, others: Any) -> None:
    module = from_native(layer.double().eval(), torch.randn(size).double())
    for other in others:
        x = torch.randn(other).double()
        with torch.no_grad():
            close(module.forward(x), layer(x))


def doubled_if_wide(x: Tensor) -> Tensor:
    assert x.dim() == 3
    return sum(x[:, :, i] * (i + 1) for i in range(x.size(2))) if x.size(2) > 3 else x


def test_branches_and_loops_are_those_of_the_sizes() -> None:
    network = tnn.Sequential(tnn.Linear(3, 4), Does(doubled_if_wide)).double()
    module = from_native(network, torch.randn(2, 5, 3).double())
    x = torch.randn(3, 7, 3).double()
    close(module.forward(x), network(x))


def test_outputs_that_are_none_are_left_out() -> None:
    inner = Does(lambda x: (x * 2, None))
    network, x = Does(lambda x: (inner(x)[0] + 1, None)), torch.randn(2, 4).double()
    network.inner = inner
    close(from_native(network, x).forward(x), x * 2 + 1)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda x: x if x.size(0) > 2 else -x, "something else for a larger batch"),
        (lambda x: torch.stack(list(x)), "something else for a larger batch"),
        (lambda x: sum(x[:, i] for i in range(int(x.sum()))), "makes a number of a tensor"),
        (lambda x: F.mse_loss(x, x * 2), "losses are criterions"),
        (lambda x: F.alpha_dropout(x, 0.5, False), "no alpha_dropout; of a network in evaluation"),
        (lambda x: F.batch_norm(x, None, None, training=True), r"batch_norm with training=self\.training"),
        (lambda x: x.repeat(2, 1), "repeats the batch"),
        (lambda x: x.flip(0), "turns the batch round"),
    ],
)
def test_what_a_forward_may_not_do_is_named(forward: Any, message: str) -> None:
    with pytest.raises(Unconvertible, match=message):
        from_native(Does(forward).train(), torch.rand(2, 4))


def test_random_poolings_are_not_checked() -> None:
    network, x = tnn.FractionalMaxPool2d((2, 3), output_ratio=(0.5, 0.6)), torch.randn(2, 3, 9, 10)
    with pytest.raises(Unconvertible, match=r"draws random numbers: .*check=False"):
        from_native(network, x)
    module = from_native(network, x, check=False)
    assert module.forward(x).shape == network(x).shape == (2, 3, 4, 6)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (tnn.AlphaDropout(), (2, 4)),
        (tnn.FeatureAlphaDropout(), (2, 4, 3)),
        (tnn.InstanceNorm2d(4, track_running_stats=True), (2, 4, 3, 5)),
    ],
)
def test_what_can_be_converted_in_evaluation_only(layer: tnn.Module, size: Any) -> None:
    x = torch.randn(size)
    with pytest.raises(Unconvertible, match="evaluation"):
        from_native(tnn.Sequential(layer), x)
    close(from_native(layer.eval(), x).forward(x), layer(x))


@pytest.mark.parametrize(
    ("forward", "size"),
    [
        (lambda x: x.sum(1) / x.size(1), (2, 5, 4)),
        (lambda x: x[:, : x.size(1) // 2], (2, 6, 4)),
        (lambda x: torch.tanh(x.reshape(-1, 4)).view(x.size(0), -1, 4), (2, 5, 4)),
        (lambda x: x * 2 if x.size(0) > 1 else x, (2, 6)),
        (lambda x: x * 2 if x.size(0) > 1 else x, (5, 3, 4)),
    ],
)
def test_sizes_of_the_example_are_refused_or_asked_for(forward: Any, size: Any) -> None:
    layer, x = Does(forward), torch.randn(size).double()
    with pytest.raises(Unconvertible, match=r"for an input of .*fixed_sizes=True"):
        from_native(layer, x)
    close(from_native(layer, x, fixed_sizes=True).forward(x), layer(x))


class Holds(tnn.Module):
    """A forward that has a parameter, a buffer and layers."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.does, self.p = forward, tnn.Parameter(torch.randn(4, 4).double())
        self.register_buffer("b", torch.randn(4, 4).double())
        self.linear, self.lstm = tnn.Linear(4, 4).double(), tnn.LSTM(4, 4).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, x)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda s, x: x - s.p[:1], "only a part of the parameter p would be trained"),
        (lambda s, x: x / s.p[:1], "only a part of the parameter p would be trained"),
        (lambda s, x: x * s.p[:1].exp(), "the parameter p would not be trained"),
        (lambda s, x: F.linear(x, s.p * 0.5), "the parameter p would not be trained"),
        (lambda s, x: F.linear(x, s.b), "the buffer b would be trained"),
        (lambda s, x: F.linear(F.linear(x, s.p).tanh(), s.p.t()), "the gradient of the parameter p"),
        (lambda s, x: s.linear(x).detach() * x, "detach"),
    ],
)
def test_what_would_be_trained_differently_is_named(forward: Any, message: str) -> None:
    network, x = Holds(forward), torch.randn(3, 4).double()
    with pytest.raises(Unconvertible, match=message):
        from_native(network, x)
    if "detach" not in message:
        from_native(network.requires_grad_(False), x)


class Positions(tnn.Module):
    """A parameter of which a forward takes as much as its input is long."""

    def __init__(self) -> None:
        super().__init__()
        self.p = tnn.Parameter(torch.randn(1, 6, 3).double())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.p[:, : x.size(1)]


def test_a_parameter_of_which_the_example_needs_a_part_asks_for_a_longer_one() -> None:
    network, short, full = Positions(), torch.randn(2, 4, 3).double(), torch.randn(2, 6, 3).double()
    with pytest.raises(Unconvertible, match=r"only a part of the parameter p .*give a longer one"):
        from_native(network, short)
    close(from_native(network, full).forward(full), network(full))
    close(from_native(network.requires_grad_(False), short).forward(short), network(short))


class OfSeveral(tnn.Module):
    """A forward that fails for one sample."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, training=True) if x.size(0) == 1 else x * 2


def test_a_network_that_fails_for_a_batch_of_one_is_converted() -> None:
    network, x = OfSeveral(), torch.randn(3, 4).double()
    with pytest.raises(ValueError, match="more than 1 value"):
        network(x[:1])
    close(from_native(network, x).forward(x), network(x))


class Trains(tnn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 2 if self.training else x)


def test_what_is_done_in_training_only_is_refused() -> None:
    with pytest.raises(Unconvertible, match="something else in training"):
        from_native(tnn.Sequential(Trains(3, 2)), torch.randn(2, 3))
    from_native(tnn.Sequential(Trains(3, 2)).eval(), torch.randn(2, 3))


class FrozenBN(tnn.BatchNorm2d):
    pass


class GlobalPool(tnn.AdaptiveMaxPool2d):
    pass


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (tnn.Sequential(FrozenBN(3), GlobalPool(2)), (2, 3, 6, 6)),
        (tnn.Sequential(tnn.Linear(4, 4), tnn.LSTM(4, 3)), (3, 2, 4)),
        (tnn.Sequential(tnn.Sequential(tnn.GRU(4, 3)), Does(lambda x: x[0] * 2)), (3, 2, 4)),
        (tnn.Sequential(tnn.ELU(inplace=True), tnn.Linear(4, 3)), (2, 4)),
        (Does(lambda x: F.threshold(F.logsigmoid(F.normalize(x)), -1.5, -7)), (2, 4)),
    ],
)
def test_the_example_stays_as_it_is(network: tnn.Module, size: Any) -> None:
    network, x = network.double().eval(), torch.randn(size).double()
    before = x.clone()
    module = from_native(network, x)
    assert torch.equal(x, before)
    want = network(x.clone())
    close(module.forward(x), want[0] if isinstance(want, tuple) else want)


def test_states_that_are_returned_are_named() -> None:
    with pytest.raises(Unconvertible, match=r"last state .*output, _ = self\.lstm"):
        from_native(Holds(lambda s, x: s.lstm(x)), torch.randn(3, 2, 4).double())


@pytest.mark.parametrize(
    ("forward", "size"),
    [
        (lambda s, x: x - s.b[0], (3, 4)),
        (lambda s, x: x - s.b[0].view(4, 1, 1), (3, 4, 2, 5)),
        (lambda s, x: F.prelu(x, s.p[0]), (3, 4)),
        (lambda s, x: F.conv_transpose2d(x, s.p.view(4, 1, 2, 2), stride=2), (3, 4, 2, 5)),
    ],
)
def test_functions_with_parameters(forward: Any, size: Any) -> None:
    network, x = Holds(forward), torch.randn(size).double()
    close(from_native(network.requires_grad_(False), x).forward(x), network(x))


def test_an_lstm_that_works_twice_is_one() -> None:
    network = Holds(lambda s, x: s.lstm(s.lstm(x)[0])[0])
    assert from_native(network, torch.randn(3, 2, 4).double()).getParameters()[0].numel() == 144


def test_dropout_in_evaluation_is_refused() -> None:
    with pytest.raises(Unconvertible, match=r"training=self\.training"):
        from_native(Does(lambda x: F.dropout(x)), torch.ones(2, 4))
