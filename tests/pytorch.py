"""Layers of PyTorch that have a counterpart in Torch7, each with an input."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Tensor = torch.Tensor


def of(*size: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(size)


def positive(*size: int) -> Callable[[], Tensor]:
    return lambda: torch.rand(size) + 0.1


def indices(count: int, *size: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(count, size)


def pairs(*size: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(size), torch.randn(size))


def of_three(*size: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(size), torch.randn(size), torch.randn(size))


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
        nn.Dropout1d(0.3),
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
    ("LPPool1d", lambda: nn.LPPool1d(2, 3, 2), positive(2, 3, 6)),
    ("LPPool2d", lambda: nn.LPPool2d(2, 3, 2), positive(2, 3, 6, 6)),
    ("LPPool3d", lambda: nn.LPPool3d(2, 2), positive(2, 3, 4, 4, 4)),
    ("Embedding", lambda: nn.Embedding(7, 4), indices(7, 2, 3)),
    ("Embedding with padding", lambda: nn.Embedding(7, 4, padding_idx=2), indices(7, 2, 3)),
    ("Embedding with max_norm", lambda: nn.Embedding(7, 4, max_norm=1.0), indices(7, 2, 3)),
    ("EmbeddingBag", lambda: nn.EmbeddingBag(7, 4), indices(7, 2, 3)),
    ("EmbeddingBag of sums", lambda: nn.EmbeddingBag(7, 4, mode="sum"), indices(7, 2, 3)),
    ("EmbeddingBag of maxima", lambda: nn.EmbeddingBag(7, 4, mode="max"), indices(7, 2, 3)),
    ("PairwiseDistance", lambda: nn.PairwiseDistance(1), pairs(2, 3)),
    ("CosineSimilarity", nn.CosineSimilarity, pairs(2, 3)),
    ("PixelUnshuffle", lambda: nn.PixelUnshuffle(2), of(2, 3, 4, 6)),
    ("ChannelShuffle", lambda: nn.ChannelShuffle(2), PLANES),
    ("SyncBatchNorm", lambda: nn.SyncBatchNorm(6), PLANES),
    ("GRUCell", lambda: nn.GRUCell(4, 4), pairs(2, 4)),
    ("RNNCell", lambda: nn.RNNCell(4, 4, bias=False), pairs(2, 4)),
    ("MultiheadAttention", lambda: nn.MultiheadAttention(8, 2), of_three(5, 2, 8)),
    (
        "MultiheadAttention of other sizes",
        lambda: nn.MultiheadAttention(8, 2, kdim=6, vdim=4, bias=False, batch_first=True),
        lambda: (torch.randn(2, 5, 8), torch.randn(2, 3, 6), torch.randn(2, 3, 4)),
    ),
    ("TransformerEncoderLayer", lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0), of(5, 2, 8)),
    ("TransformerDecoderLayer", lambda: nn.TransformerDecoderLayer(8, 2, 16, 0.0), pairs(5, 2, 8)),
    ("Bilinear", lambda: nn.Bilinear(3, 4, 5), lambda: (torch.randn(2, 3), torch.randn(2, 4))),
]
