"""Attention of several heads, the layers of Transformers, and the cells of recurrent layers as formulas."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from converters.back.formulas import formula
from converters.text import Unconvertible

tnn = torch.nn


@fx.wrap
def masked(scores: Any, mask: Any, hides: bool) -> Any:
    """Scores with a mask of numbers that are added, or one that says what to hide, or else what to see."""
    if mask.dtype != torch.bool:
        return scores + mask
    return scores.masked_fill(mask if hides else ~mask, -torch.inf)


@formula("scaled_dot_product_attention")
def _attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    if enable_gqa:
        raise Unconvertible("attention with enable_gqa cannot be converted")
    if is_causal:
        attn_mask = query.new_ones(query.size(-2), key.size(-2)).tril() > 0
    weights = _weights(query, key, attn_mask, False, scale)
    return (F.dropout(weights, dropout_p) if dropout_p else weights) @ value


def _weights(query: Any, key: Any, mask: Any, hides: bool, scale: float | None = None) -> Any:
    """How much each query takes of each key.  (..., n, size), (..., m, size) -> (..., n, m)"""
    scores = (query * (query.size(-1) ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    return F.softmax(scores if mask is None else masked(scores, mask, hides), -1)


@formula(tnn.MultiheadAttention)
def _several_heads(
    self: Any, query: Any, key: Any, value: Any, key_padding_mask: Any = None, need_weights: bool = True,
    attn_mask: Any = None, average_attn_weights: bool = True, is_causal: bool = False,
) -> Any:  # fmt: skip
    """`is_causal` is a hint about the mask."""
    if key_padding_mask is not None or self.bias_k is not None or self.add_zero_attn:
        raise Unconvertible("key_padding_mask, add_bias_kv and add_zero_attn cannot be converted")
    projected = _projections(self, query, key, value)
    q, k, v = (_heads(x if self.batch_first else x.transpose(0, 1), self.num_heads) for x in projected)
    weights = _weights(q, k, attn_mask, True)
    output = (F.dropout(weights, self.dropout, self.training) if self.dropout else weights) @ v
    output = self.out_proj(output.transpose(1, 2).flatten(2))
    output = output if self.batch_first else output.transpose(0, 1)
    if not need_weights:
        return output, None
    return output, weights.mean(1) if average_attn_weights else weights


def _projections(self: Any, query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
    """One product if all three are the same."""
    if not self._qkv_same_embed_dim:
        weights = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
    elif query is key is value:
        joint = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        return joint[0], joint[1], joint[2]
    else:
        parts = self.in_proj_weight.chunk(3)
        weights = parts[0], parts[1], parts[2]
    biases = None if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, weights[i], None if biases is None else biases[i])
        for i, x in enumerate((query, key, value))
    )
    return q, k, v


def _heads(input: Any, count: int) -> Any:
    """(batch, n, count * size) -> (batch, count, n, size)"""
    return input.unflatten(2, (count, -1)).transpose(1, 2)


# ---- Transformers


def _attend(self: Any, name: str, x: Any, memory: Any, mask: Any) -> Any:
    """One attention of a layer, with its dropout."""
    attention = getattr(self, name)
    options = {} if mask is None else {"attn_mask": mask}
    dropout = self.dropout1 if name == "self_attn" else self.dropout2
    return dropout(attention(x, memory, memory, need_weights=False, **options)[0])


def _feed(self: Any, x: Any, dropout: Any) -> Any:
    return dropout(self.linear2(self.dropout(self.activation(self.linear1(x)))))


def _refuse(*padding: Any) -> None:
    if any(mask is not None for mask in padding):
        raise Unconvertible("masks for padding cannot be converted")


@formula(tnn.TransformerEncoderLayer)
def _encoder_layer(
    self: Any, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: Any = False
) -> Any:
    _refuse(src_key_padding_mask)
    if self.norm_first:
        x = self.norm1(src)
        src = src + _attend(self, "self_attn", x, x, src_mask)
        return src + _feed(self, self.norm2(src), self.dropout2)
    src = self.norm1(src + _attend(self, "self_attn", src, src, src_mask))
    return self.norm2(src + _feed(self, src, self.dropout2))


@formula(tnn.TransformerDecoderLayer)
def _decoder_layer(
    self: Any, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None,
    tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
    tgt_is_causal: Any = False, memory_is_causal: Any = False,
) -> Any:  # fmt: skip
    _refuse(tgt_key_padding_mask, memory_key_padding_mask)
    if self.norm_first:
        x = self.norm1(tgt)
        tgt = tgt + _attend(self, "self_attn", x, x, tgt_mask)
        tgt = tgt + _attend(self, "multihead_attn", self.norm2(tgt), memory, memory_mask)
        return tgt + _feed(self, self.norm3(tgt), self.dropout3)
    tgt = self.norm1(tgt + _attend(self, "self_attn", tgt, tgt, tgt_mask))
    tgt = self.norm2(tgt + _attend(self, "multihead_attn", tgt, memory, memory_mask))
    return self.norm3(tgt + _feed(self, tgt, self.dropout3))


@formula(tnn.TransformerEncoder)
def _encoder(
    self: Any, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: Any = None
) -> Any:
    _refuse(src_key_padding_mask)
    for layer in self.layers:
        src = layer(src) if mask is None else layer(src, src_mask=mask)
    return src if self.norm is None else self.norm(src)


@formula(tnn.TransformerDecoder)
def _decoder(
    self: Any, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None,
    tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
    tgt_is_causal: Any = None, memory_is_causal: Any = False,
) -> Any:  # fmt: skip
    _refuse(tgt_key_padding_mask, memory_key_padding_mask)
    for layer in self.layers:
        tgt = layer(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask)
    return tgt if self.norm is None else self.norm(tgt)


@formula(tnn.Transformer)
def _transformer(
    self: Any, src: Any, tgt: Any, src_mask: Any = None, tgt_mask: Any = None, memory_mask: Any = None,
    src_key_padding_mask: Any = None, tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
    src_is_causal: Any = None, tgt_is_causal: Any = None, memory_is_causal: Any = False,
) -> Any:  # fmt: skip
    _refuse(src_key_padding_mask, tgt_key_padding_mask, memory_key_padding_mask)
    memory = self.encoder(src) if src_mask is None else self.encoder(src, mask=src_mask)
    return self.decoder(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask)


# ---- cells


def _sums(self: Any, input: Any, hidden: Any) -> tuple[Any, Any]:
    """W x + b, and U h + c, which without a state is c alone."""
    of_h = self.bias_hh if hidden is None else F.linear(hidden, self.weight_hh, self.bias_hh)
    return F.linear(input, self.weight_ih, self.bias_ih), of_h


def _sum(self: Any, input: Any, hidden: Any) -> Any:
    of_x, of_h = _sums(self, input, hidden)
    return of_x if of_h is None else of_x + of_h


@formula(tnn.LSTMCell)
def _lstm_cell(self: Any, input: Any, hx: Any = None) -> Any:
    gates = _sum(self, input, None if hx is None else hx[0]).chunk(4, 1)
    cell = gates[0].sigmoid() * gates[2].tanh()
    if hx is not None:
        cell = gates[1].sigmoid() * hx[1] + cell
    return gates[3].sigmoid() * cell.tanh(), cell


@formula(tnn.GRUCell)
def _gru_cell(self: Any, input: Any, hx: Any = None) -> Any:
    if hx is None:
        raise Unconvertible("a GRUCell must be given its state: h = x.new_zeros(x.size(0), size)")
    of_x, of_h = (x.chunk(3, 1) for x in _sums(self, input, hx))
    r, z = ((of_x[i] + of_h[i]).sigmoid() for i in (0, 1))
    new = (of_x[2] + r * of_h[2]).tanh()
    return new + z * (hx - new)


@formula(tnn.RNNCell)
def _rnn_cell(self: Any, input: Any, hx: Any = None) -> Any:
    sums = _sum(self, input, hx)
    return sums.tanh() if self.nonlinearity == "tanh" else sums.relu()
