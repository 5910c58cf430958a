"""Operations that PyTorch's exporter to ONNX does not know, or gets wrong, in terms of others.

Each is used if it is in a recorded program, before that becomes a graph of ONNX; nothing else changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

Tensor = torch.Tensor
aten = torch.ops.aten
Form = Callable[..., Any]


def _distances(x: Tensor, y: Tensor, p: float = 2, mode: int | None = None) -> Tensor:
    """The p-norms of the differences of all rows of x and y.  (..., n, k), (..., m, k) -> (..., n, m)"""
    apart = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    return apart.square().sum(-1).sqrt() if p == 2 else apart.pow(p).sum(-1).pow(1 / p)


def _log_sigmoid(x: Tensor) -> Tensor:
    """The exporter takes the logarithm of what may be 0."""
    return x.clamp(max=0) - x.abs().neg().exp().log1p()


def _rrelu(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, *others: Any) -> Tensor:
    """In evaluation mode, the slope is the one in the middle."""
    return F.leaky_relu(x, (lower + upper) / 2)


def _product_with_vector(matrix: Tensor, vector: Tensor) -> Tensor:
    """onnxruntime computes M^T v wrong, if v has one dimension."""
    if vector.dim() != 1 or matrix.dim() < 2:
        return NotImplemented
    return (matrix @ vector.unsqueeze(1)).squeeze(-1)


def _average_pooling(
    x: Tensor, size: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The exporter leaves out `divisor_override`."""
    if divisor_override is None or ceil_mode:
        return NotImplemented
    dims = len(size)
    pool = F.avg_pool2d if dims == 2 else F.avg_pool3d
    around = [n for n in reversed(tuple(padding) * (dims // len(padding))) for _ in range(2)]
    means = pool(F.pad(x, around), tuple(size), tuple(stride) or tuple(size))
    return means * (math.prod(size) / divisor_override)


def _adaptive_max_pooling(x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The largest of each window, and where it is in its plane."""
    height, width = x.shape[-2:]
    values, places = [], []
    for top, bottom in _ends(height, size[0]):
        for left, right in _ends(width, size[1]):
            value, index = x[..., top:bottom, left:right].flatten(-2).max(-1)
            across = right - left
            values.append(value)
            places.append((top + index // across) * width + left + index % across)
    shape = *x.shape[:-2], *size
    return torch.stack(values, -1).reshape(shape), torch.stack(places, -1).reshape(shape)


def _ends(length: int, count: int) -> list[tuple[int, int]]:
    """Where the windows of adaptive pooling begin and end."""
    return [(i * length // count, ((i + 1) * length + count - 1) // count) for i in range(count)]


def _repeated(x: Tensor, counts: Tensor, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each row as often as its count says; the exporter takes no `output_size`."""
    if output_size is None or (dim is None and x.dim() != 1):
        return NotImplemented
    places = torch.arange(output_size, device=counts.device)
    return x.index_select(dim or 0, (places.unsqueeze(1) >= counts.cumsum(0)).sum(1))


def _argsort(x: Tensor, *, stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
    """Of two equal numbers ONNX takes the first one first."""
    return torch.topk(x, x.shape[dim], dim, descending).indices


def _selected(x: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask is true."""
    x, mask = torch.broadcast_tensors(x, mask)  # type: ignore[no-untyped-call]
    return x.flatten().index_select(0, mask.flatten().nonzero().squeeze(1))


def _windows(x: Tensor, *options: Any) -> Tensor:
    """The exporter knows windows of batches only."""
    return aten.im2col(x.unsqueeze(0), *options).squeeze(0) if x.dim() == 3 else NotImplemented


def _lstm(input: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], *options: Any) -> Any:
    """An LSTM of ONNX has no projection."""
    if state[0].shape[-1] == state[1].shape[-1]:
        return NotImplemented
    from torch._decomp.decompositions import lstm_impl

    return lstm_impl(input, state, weights, *options)


FORMS: dict[Any, Form] = {
    aten.cdist.default: _distances,
    aten._cdist_forward.default: _distances,
    aten.log_sigmoid.default: _log_sigmoid,
    aten.rrelu.default: _rrelu,
    aten.mv.default: _product_with_vector,
    aten.matmul.default: _product_with_vector,
    aten.avg_pool2d.default: _average_pooling,
    aten.avg_pool3d.default: _average_pooling,
    aten.adaptive_max_pool2d.default: _adaptive_max_pooling,
    aten.repeat_interleave.self_Tensor: _repeated,
    aten.argsort.stable: _argsort,
    aten.masked_select.default: _selected,
    aten.im2col.default: _windows,
    aten.lstm.input: _lstm,
}


def expressible(program: Any) -> Any:
    """The program of torch.export with the forms above."""
    if not any(node.target in FORMS for node in program.graph.nodes):
        return program
    return program.run_decompositions(FORMS)
