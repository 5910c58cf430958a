"""Networks of PyTorch, as people write them, that have a counterpart in Torch7, each with an input."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from networks_attention import TRANSFORMERS
from pytorch import PLANES, ROWS, STEPS, Cases, indices, of
from torch import Tensor, nn


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


class Unrolled(nn.Module):
    """A cell in a loop, from zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.fc = nn.LSTMCell(5, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 3, dtype=x.dtype, device=x.device)
        c = torch.zeros(x.size(0), 3, dtype=x.dtype, device=x.device)
        for i in range(4):
            h, c = self.cell(x[:, i], (h, c))
        return self.fc(h)


class SegNet(nn.Module):
    """The places of maxima, for the way back up."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        low, places = self.pool(x)
        return self.up(self.unpool(F.relu(low), places, output_size=x.size()))


class Normalizations(nn.Module):
    """Functions with parameters of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(6))
        self.last, self.mixed = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(2, 6, 6))
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("var", torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(x, self.mean, self.var, self.weight, self.bias, self.training)
        x = F.rms_norm(F.instance_norm(x, weight=self.weight), (8,), self.last)
        y = F.normalize(x, dim=1).mean((2, 3))
        return F.bilinear(y, F.normalize(x, dim=-1).sum((2, 3)), self.mixed)


class Operands(nn.Module):
    """Parameters on either side."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.randn(1, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.cat([self.one.expand(x.size(0), -1, -1), x.chunk(2, 1)[1]], dim=1)
        return torch.cat([self.one - x, x - self.other, (2**x) * self.one, rows], dim=1)


class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bags, self.fc = nn.EmbeddingBag(7, 5), nn.Linear(7, 5)

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a = self.bags(words)
        b = self.fc(F.one_hot(words, 7).to(a.dtype)).sum(1)
        return F.cosine_similarity(a, b), F.pairwise_distance(a, b, p=1), a


class Rearranged(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a = x.flip(3).roll((1, -2), (1, 2)).movedim(1, 3)
        b = x[:, [4, 0, -1]].repeat(1, 2, 1, 1).repeat_interleave(2, dim=1).narrow(1, 2, 6)
        c = F.channel_shuffle(x, 3) * F.pixel_unshuffle(x[:, :, :8], 2).mean((1, 2, 3), keepdim=True)
        return a.permute(0, 3, 1, 2) + b * c


class Products(nn.Module):
    """Of matrices: neighbours in a graph, and einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.mixed = nn.Linear(5, 6), nn.Parameter(torch.randn(3, 4))
        self.register_buffer("neighbours", torch.rand(4, 4))
        self.register_buffer("basis", torch.rand(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        heads = self.query(self.neighbours @ x).unflatten(2, (2, 3)).transpose(1, 2)
        weights = torch.einsum("bhid,bhjd->bhij", heads, heads)
        mean = torch.einsum("bhij,bhjd->bihd", weights, heads).flatten(2)
        return self.mixed @ torch.cat([mean, x @ self.basis], dim=2)


class Statistics(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)
        self.register_buffer("mask", torch.arange(20).view(4, 5) % 3 == 0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        y = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)
        y = torch.where(self.mask, y, x / x.norm(dim=-1, keepdim=True))
        z = torch.logsumexp(x, dim=1, keepdim=True) + torch.log1p(x.var(1, keepdim=True, unbiased=False))
        return y + z + torch.linalg.vector_norm(x, 3, dim=2, keepdim=True) + torch.lerp(x, y, 0.3)


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
    ("Arithmetic", Arithmetic, PLANES),
    ("Last", lambda: nn.Sequential(nn.GRU(9, 4), Last(), nn.Linear(4, 2)), of(7, 2, 9)),
    ("Nested", Nested, ROWS),
    ("TwoInputs", TwoInputs, lambda: (torch.randn(2, 4), torch.randn(2, 5))),
    ("Twice", Twice, ROWS),
    ("tied", tied, ROWS),
    ("Unrolled", Unrolled, of(2, 4, 5)),
    ("SegNet", SegNet, PLANES),
    ("Normalizations", Normalizations, PLANES),
    ("Operands", Operands, of(3, 4, 5)),
    ("Bags", Bags, indices(7, 3, 4)),
    ("Rearranged", Rearranged, PLANES),
    ("Products", Products, of(3, 4, 5)),
    ("Statistics", Statistics, of(3, 4, 5)),
    *TRANSFORMERS,
]  # fmt: skip
