"""Layers and networks of PyTorch that have a counterpart in Torch7, each with an input."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Tensor = torch.Tensor


def of(*size: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(size)


def positive(*size: int) -> Callable[[], Tensor]:
    return lambda: torch.rand(size) + 0.1


def indices(count: int, *size: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(count, size)


ROWS, STEPS, PLANES, VOLUMES = of(3, 6), of(2, 6, 9), of(2, 6, 9, 8), of(2, 4, 6, 7, 8)

Cases = list[tuple[str, Callable[[], nn.Module], Callable[[], Any]]]


def cases(input: Callable[[], Any], *layers: nn.Module) -> Cases:
    return [
        (f"{layer!r} of {list(input().shape)}", lambda layer=layer: copy.deepcopy(layer), input)
        for layer in layers
    ]


def prepared(make: Callable[[], nn.Module], input: Callable[[], Any]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network in double precision with random parameters and statistics, and its inputs."""
    torch.manual_seed(0)
    network, given = make().double(), input()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.5, 0.5)
        for buffer in network.buffers():
            if buffer.is_floating_point() and buffer.dim() == 1:
                buffer.uniform_(0.5, 1.5)
    given = given if isinstance(given, tuple) else (given,)
    return network, tuple(x.double() if x.is_floating_point() else x for x in given)


LAYERS: Cases = [
    # ---- transfer functions
    *cases(
        ROWS,
        nn.Identity(),
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.ReLU6(),
        nn.Threshold(0.1, 0.5),
        nn.LeakyReLU(0.2),
        nn.RReLU(),
        nn.ELU(0.7),
        nn.CELU(1.5),
        nn.SELU(),
        nn.Hardtanh(-0.5, 0.7),
        nn.Hardshrink(0.3),
        nn.Softshrink(0.3),
        nn.Hardsigmoid(),
        nn.Hardswish(),
        nn.Sigmoid(),
        nn.LogSigmoid(),
        nn.SiLU(),
        nn.Mish(),
        nn.GELU("tanh"),
        nn.Softplus(2),
        nn.Softsign(),
        nn.Tanh(),
        nn.Tanhshrink(),
        nn.GLU(),
        nn.GLU(1),
        nn.Dropout(0.3),
        nn.PReLU(),
        nn.PReLU(6),
        nn.Softmax(1),
        nn.Softmax(-1),
        nn.LogSoftmax(1),
        nn.Softmin(1),
        nn.Linear(6, 4),
        nn.Linear(6, 4, bias=False),
        nn.BatchNorm1d(6),
        nn.LayerNorm(6),
        nn.RMSNorm(6),
        nn.BatchNorm1d(6, affine=False),
        nn.LayerNorm(6, elementwise_affine=False),
        nn.GroupNorm(2, 6),
        nn.Unflatten(1, (2, 3)),
    ),
    *cases(
        STEPS,
        nn.Softmax(1),
        nn.Softmax(2),
        nn.Softmax(-1),
        nn.LogSoftmax(0),
        nn.GLU(1),
        nn.PReLU(6),
        nn.Linear(9, 4),
        nn.BatchNorm1d(6),
        nn.LayerNorm(9),
        nn.LayerNorm((6, 9)),
        nn.RMSNorm(9),
        nn.InstanceNorm1d(6),
        nn.InstanceNorm1d(6, affine=True),
        nn.GroupNorm(3, 6),
        nn.Flatten(),
        nn.Flatten(0, 1),
        nn.Conv1d(6, 4, 3),
        nn.Conv1d(6, 4, 3, 2, 1, 2, bias=False),
        nn.Conv1d(6, 4, 4, padding="same"),
        nn.Conv1d(6, 6, 3, groups=6),
        nn.Conv1d(6, 4, 3, groups=2),
        nn.Conv1d(6, 12, 3, groups=6),
        nn.Conv1d(6, 4, 3, padding=1, padding_mode="replicate"),
        nn.ConvTranspose1d(6, 4, 3, 2, 1, 1),
        nn.MaxPool1d(2),
        nn.MaxPool1d(3, 2, 1, ceil_mode=True),
        nn.AvgPool1d(3, 2, 1),
        nn.AdaptiveAvgPool1d(4),
        nn.AdaptiveMaxPool1d(3),
        nn.ZeroPad1d((1, 2)),
        nn.ConstantPad1d((1, 2), 0.5),
        nn.ConstantPad1d((-1, 2), 0.5),
        nn.ReflectionPad1d(2),
        nn.ReplicationPad1d((1, 2)),
        nn.CircularPad1d((2, 1)),
        nn.Upsample(scale_factor=2),
        nn.LSTM(9, 5),
        nn.LSTM(9, 5, 2, batch_first=True),
        nn.LSTM(9, 5, 2, bidirectional=True, dropout=0.3),
        nn.LSTM(9, 5, bias=False),
        nn.LSTM(9, 5, proj_size=3),
        nn.GRU(9, 5),
        nn.GRU(9, 5, 2, bidirectional=True),
        nn.GRU(9, 5, bias=False, batch_first=True),
        nn.RNN(9, 5),
        nn.RNN(9, 5, nonlinearity="relu", bidirectional=True, batch_first=True),
    ),
    *cases(
        PLANES,
        nn.Softmax(1),
        nn.Softmax(2),
        nn.Softmax2d(),
        nn.LogSoftmax(-1),
        nn.PReLU(6),
        nn.Dropout2d(0.3),
        nn.Conv2d(6, 4, 3),
        nn.Conv2d(6, 4, (3, 2), (2, 1), (1, 2), bias=False),
        nn.Conv2d(6, 4, 3, dilation=(2, 1)),
        nn.Conv2d(6, 4, (3, 4), padding="same"),
        nn.Conv2d(6, 4, 2, padding="same", dilation=2),
        nn.Conv2d(6, 4, 3, padding="valid"),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 12, 3, groups=6),
        nn.Conv2d(6, 4, 3, groups=2),
        nn.Conv2d(6, 6, 3, groups=6, dilation=2),
        nn.Conv2d(6, 6, 3, groups=3, bias=False),
        nn.Conv2d(6, 4, 3, padding=(1, 2), padding_mode="reflect"),
        nn.Conv2d(6, 4, 3, padding=1, padding_mode="replicate"),
        nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular"),
        nn.ConvTranspose2d(6, 4, (3, 2), (2, 3), (1, 0), (1, 2)),
        nn.ConvTranspose2d(6, 4, 3, groups=2, bias=False),
        nn.MaxPool2d(2),
        nn.MaxPool2d((3, 2), (2, 1), (1, 0)),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.MaxPool2d(2, 2, dilation=2),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(2, divisor_override=3),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((3, None)),
        nn.AdaptiveMaxPool2d((2, 3)),
        nn.BatchNorm2d(6),
        nn.BatchNorm2d(6, affine=False),
        nn.InstanceNorm2d(6),
        nn.InstanceNorm2d(6, affine=True),
        nn.GroupNorm(2, 6),
        nn.GroupNorm(1, 6),
        nn.LayerNorm(8),
        nn.LayerNorm((9, 8)),
        nn.LayerNorm((6, 9, 8)),
        nn.LocalResponseNorm(3, 0.1, 0.7, 1.5),
        nn.ZeroPad2d((1, 2, 0, 1)),
        nn.ZeroPad2d(-1),
        nn.ConstantPad2d((1, -1, 2, 0), 0.5),
        nn.ReflectionPad2d((1, 2, 3, 0)),
        nn.ReplicationPad2d((1, 2, 0, 1)),
        nn.CircularPad2d((1, 2, 0, 1)),
        nn.Upsample(scale_factor=2),
        nn.Upsample((18, 16)),
        nn.UpsamplingNearest2d(scale_factor=3),
        nn.UpsamplingBilinear2d(scale_factor=2),
        nn.Upsample((13, 10), mode="bilinear", align_corners=True),
        nn.Flatten(),
        nn.Flatten(2),
        nn.Linear(8, 3),
        nn.Flatten(1, 2),
    ),
    *cases(
        VOLUMES,
        nn.Conv3d(4, 2, 3),
        nn.Conv3d(4, 2, (3, 2, 1), (1, 2, 3), (0, 1, 2)),
        nn.Conv3d(4, 2, 3, groups=2, bias=False),
        nn.Conv3d(4, 2, 2, dilation=(1, 2, 3)),
        nn.Conv3d(4, 2, 2, padding="same"),
        nn.Conv3d(4, 2, 3, padding=1, padding_mode="replicate"),
        nn.ConvTranspose3d(4, 2, (2, 3, 2), (1, 2, 3), (0, 1, 0), (0, 1, 2)),
        nn.MaxPool3d(2),
        nn.MaxPool3d((1, 2, 3), 2, (0, 1, 1), ceil_mode=True),
        nn.MaxPool3d(2, 2, dilation=(1, 2, 3)),
        nn.AvgPool3d((1, 2, 3)),
        nn.AdaptiveAvgPool3d(1),
        nn.AdaptiveMaxPool3d(1),
        nn.BatchNorm3d(4),
        nn.InstanceNorm3d(4),
        nn.GroupNorm(2, 4),
        nn.ZeroPad3d((1, 2, 0, 1, 2, 0)),
        nn.ReplicationPad3d((1, 2, 0, 1, 2, 0)),
        nn.Dropout3d(0.3),
        nn.Upsample(scale_factor=2),
        nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True),
        nn.Softmax(1),
    ),
    ("PixelShuffle", lambda: nn.PixelShuffle(2), of(2, 8, 3, 4)),
    ("LPPool2d", lambda: nn.LPPool2d(2, 3, 2), positive(2, 3, 6, 6)),
    ("Embedding", lambda: nn.Embedding(7, 4), indices(7, 2, 3)),
    ("Embedding with padding", lambda: nn.Embedding(7, 4, padding_idx=2), indices(7, 2, 3)),
    ("Embedding with max_norm", lambda: nn.Embedding(7, 4, max_norm=1.0), indices(7, 2, 3)),
    ("Bilinear", lambda: nn.Bilinear(3, 4, 5), lambda: (torch.randn(2, 3), torch.randn(2, 4))),
]


# ---- networks


class LeNet(nn.Module):
    """A chain, as most first networks are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 5), nn.Conv2d(4, 6, 5)
        self.drop = nn.Dropout2d()
        self.fc1, self.fc2 = nn.Linear(96, 20), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.drop(self.conv2(x)), 2))
        x = x.view(x.size(0), -1)
        x = F.dropout(F.relu(self.fc1(x)), training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """As in torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.layer1 = nn.Sequential(Block(4, 4, 1), Block(4, 4, 1))
        self.layer2 = nn.Sequential(Block(4, 8, 2), Block(8, 8, 1))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.layer2(self.layer1(self.stem(x))))
        return self.fc(torch.flatten(x, 1))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.fc2(F.silu(self.fc1(scale))))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.low = nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.up, self.last = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.leaky_relu(self.down(x), 0.1)
        low = F.relu(self.low(F.max_pool2d(skip, 2)))
        up = self.up(low)
        up = F.pad(up, [0, skip.size(3) - up.size(3), 0, skip.size(2) - up.size(2)])
        return self.last(torch.cat([skip, up], dim=1))


class Tagger(nn.Module):
    """Words to the classes of sentences, from zeros and with the last state."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, **options: Any) -> None:
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(11, 6), 5
        self.rnn = kind(6, 5, 2, batch_first=True, **options)
        self.fc = nn.Linear(5, 3)

    def forward(self, words: Tensor) -> Tensor:
        h0 = self.fc.weight.new_zeros(2, words.size(0), self.hidden)
        start = (h0, h0) if isinstance(self.rnn, nn.LSTM) else h0
        _, state = self.rnn(self.embedding(words), start)
        h = state[0] if isinstance(self.rnn, nn.LSTM) else state
        return self.fc(h[-1])


class BothWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.fc = nn.LSTM(9, 4, bidirectional=True, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        output, (h, _) = self.rnn(x)
        h = torch.tanh(h) + h[0, :, :] + output.max(1).values[:, :4]
        return self.fc(torch.cat((h[-2], h[-1]), dim=1)) + self.fc(output[:, -1, :]) + self.fc(output).mean(1)


class Attention(nn.Module):
    """Causal attention of several heads with learned positions, as in small GPTs."""

    def __init__(self, size: int = 8, heads: int = 2, steps: int = 6) -> None:
        super().__init__()
        self.heads = heads
        self.words, self.position = nn.Embedding(11, size), nn.Parameter(torch.randn(1, steps, size))
        self.norm, self.qkv, self.out = nn.LayerNorm(size), nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.head = nn.Linear(size, 11, bias=False)
        self.head.weight = self.words.weight
        self.register_buffer("mask", torch.tril(torch.ones(steps, steps)).view(1, 1, steps, steps))

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.position
        b, t, c = x.size()
        q, k, v = self.qkv(self.norm(x)).split(c, dim=2)
        q, k, v = (y.view(b, t, self.heads, c // self.heads).transpose(1, 2) for y in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) * (1 / (c // self.heads) ** 0.5)
        scores = scores.masked_fill(self.mask[:, :, :t, :t] == 0, float("-inf"))
        y = F.softmax(scores, dim=-1) @ v
        x = x + self.out(y.transpose(1, 2).contiguous().view(b, t, c))
        return self.head(x)


class Arithmetic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(6, 1, 1)), nn.Parameter(torch.randn(1, 6, 1, 1))
        self.register_buffer("mean", torch.rand(1, 6, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / 2 * self.scale + self.shift
        a, b, c = x.chunk(3, dim=1)
        y = torch.stack([a * b, a - c, 1 - b / (c.abs() + 1), 2 / (a**2 + 1)], dim=1).sum(1)
        y = y.clamp(-1, 1.5) + torch.exp(-(x[:, 2:4] ** 2)) + x[:, -2:].tanh()
        z = torch.maximum(y.mean((2, 3), keepdim=True), y) + y.amax(dim=2, keepdim=True)
        return z.permute(0, 2, 3, 1)[:, 1:-1].flatten(1)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.pair = nn.Linear(4, 3), nn.Linear(5, 3), nn.Bilinear(3, 3, 2)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = torch.tanh(self.one(x)), self.other(y)
        return self.pair(a, b), a + b


class Twice(nn.Module):
    """One layer that works twice, and a list of others."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.more = nn.Linear(6, 6), nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.layer(self.act(self.layer(x))))
        for layer in self.more:
            x = x + self.act(layer(x))
        return x


class Last(nn.Module):
    def forward(self, x: tuple[Tensor, Any]) -> Tensor:
        return x[0][-1]


class Halves(nn.Module):
    def forward(self, x: Tensor, swap: bool = False) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, dim=1)
        return (b, a) if swap else (a, b)


class Nested(nn.Module):
    """Modules with several outputs, and with options."""

    def __init__(self) -> None:
        super().__init__()
        self.halves = Halves()
        self.affine = nn.ParameterList([torch.ones(3), torch.zeros(3)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.halves(x)
        c, _ = self.halves(x, swap=True)
        a = F.layer_norm(a, (3,)) + F.group_norm(a, 3, *self.affine)
        return torch.tanh(a) * b, torch.cat([torch.cat([c]), c, a], dim=-1)


def nested() -> nn.Module:
    features = nn.Sequential(nn.Conv2d(6, 4, 3), nn.ReLU())
    return nn.Sequential(features, nn.Flatten(), nn.Linear(168, 3))


def tied() -> nn.Module:
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second)


NETWORKS: Cases = [
    ("Sequential", nested, PLANES),
    ("LeNet", LeNet, of(2, 1, 28, 28)),
    ("ResNet", ResNet, of(2, 3, 16, 16)),
    ("SqueezeExcite", SqueezeExcite, PLANES),
    ("UNet", UNet, PLANES),
    ("LSTM tagger", Tagger, indices(11, 3, 4)),
    ("GRU tagger", lambda: Tagger(nn.GRU, dropout=0.2), indices(11, 3, 4)),
    ("RNN tagger", lambda: Tagger(nn.RNN), indices(11, 3, 4)),
    ("BothWays", BothWays, STEPS),
    ("Attention", Attention, indices(11, 2, 6)),
    ("Arithmetic", Arithmetic, PLANES),
    ("Last", lambda: nn.Sequential(nn.GRU(9, 4), Last(), nn.Linear(4, 2)), of(7, 2, 9)),
    ("Nested", Nested, ROWS),
    ("TwoInputs", TwoInputs, lambda: (torch.randn(2, 4), torch.randn(2, 5))),
    ("Twice", Twice, ROWS),
    ("tied", tied, ROWS),
]  # fmt: skip
