"""Networks of PyTorch with attention, as people write them, each with an input."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pytorch import Cases, indices, of
from torch import Tensor, nn


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


class Heads(nn.Module):
    """Attention of several heads over sequences of any length, by hand."""

    def __init__(self, size: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        b, _, c = x.shape
        q, k, v = (
            y.view(b, -1, self.heads, c // self.heads).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1)
        )
        scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(c // self.heads)
        y = torch.matmul(F.softmax(scores, dim=-1), v)
        return self.out(y.transpose(1, 2).contiguous().view(b, -1, c))


class GPT(nn.Module):
    """Positions that are looked up, and PyTorch's own attention."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(11, 8), nn.Embedding(9, 8)
        self.norm, self.qkv, self.head = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 11)

    def forward(self, words: Tensor) -> Tensor:
        b, t = words.size()
        places = torch.arange(0, t, dtype=torch.long, device=words.device)
        x = self.words(words) + self.places(places)
        q, k, v = self.qkv(self.norm(x)).split(8, dim=2)
        q, k, v = (y.view(b, t, 2, 4).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=None, is_causal=True)
        return self.head(x + y.transpose(1, 2).contiguous().view(b, t, 8))


class ViT(nn.Module):
    """As in timm: a token for the class before those of the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.norm, self.qkv, self.head = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.position
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * (c // 2) ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)
        x = x + (weights @ v).transpose(1, 2).reshape(b, n, c)
        return self.head(x[:, 0])


class Encoder(nn.Module):
    """Layers of PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).mean(1))


class Masked(nn.Module):
    """Attention with a mask, and what it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.register_buffer("mask", torch.ones(5, 5).triu(1).bool())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, weights = self.attention(x, x, x, attn_mask=self.mask)
        return x + y, weights


TRANSFORMERS: Cases = [
    ("Attention", Attention, indices(11, 2, 6)),
    ("Heads", Heads, of(2, 5, 8)),
    ("GPT", GPT, indices(11, 2, 6)),
    ("ViT", ViT, of(2, 3, 8, 8)),
    ("Encoder", Encoder, of(2, 5, 8)),
    ("Masked", Masked, of(2, 5, 8)),
    (
        "Transformer",
        lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True, norm_first=True),
        lambda: (torch.randn(2, 4, 8), torch.randn(2, 5, 8)),
    ),
]
