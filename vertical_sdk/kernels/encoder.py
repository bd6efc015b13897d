"""The forward pass of networks of BERT's shape, for reading texts without gradients: its products and nothing else.

A layer of such a network is

    x = LayerNorm(x + O attention(Q x, K x, V x))
    x = LayerNorm(x + D gelu(U x))

For one short text, transformers takes longer to prepare masks, outputs and settings than a processor takes to multiply.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Adapt", "Encoder", "EncoderLayer", "Linear"]

Adapt: TypeAlias = Callable[[Tensor, Tensor, str], None]
"""Add the adapters' part of a layer to its output (rows, tokens, out), for its input (rows, tokens, in) and the layer's name."""


@dataclass(frozen=True, eq=False)
class Linear:
    """A frozen linear layer, with its name in the network. weight (out, in), bias (out,) or None."""

    name: str
    weight: Tensor
    bias: Tensor | None

    @functools.cached_property
    def rounded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias in bfloat16."""
        return self.weight.to(torch.bfloat16), None if self.bias is None else self.bias.to(torch.bfloat16)

    def __call__(self, x: Tensor, adapt: Adapt | None) -> Tensor:
        """x (rows, tokens, in) → (rows, tokens, out), in the type of x: float32 or bfloat16."""
        weight, bias = self.rounded if x.dtype == torch.bfloat16 else (self.weight, self.bias)
        out = F.linear(x, weight, bias)
        if adapt is not None:
            adapt(out, x, self.name)
        return out


@dataclass(frozen=True, eq=False)
class EncoderLayer:
    """One layer: Q, K, V and O, the norm after them, U and D, and the norm after those."""

    qkv: tuple[Linear, Linear, Linear]
    out: Linear
    attention_norm: nn.LayerNorm
    up: Linear
    down: Linear
    norm: nn.LayerNorm


class Encoder:
    """A network of BERT's shape with frozen weights in float32. Under autocast to bfloat16, its products and attention are in that.

    words       (vocabulary, width) embeddings of tokens
    places      (positions, width) embeddings of positions, and of the one type of token
    norm        after the embeddings
    heads       of attention
    activation  of the inner layers, such as gelu
    """

    def __init__(
        self,
        words: Tensor,
        places: Tensor,
        norm: nn.LayerNorm,
        layers: Sequence[EncoderLayer],
        heads: int,
        activation: Callable[[Tensor], Tensor],
    ) -> None:
        self._words, self._places, self._norm = words, places, norm
        self._layers, self._heads, self._activation = layers, heads, activation

    def __call__(self, ids: Tensor, mask: Tensor, adapt: Adapt | None = None) -> Tensor:
        """Hidden states (rows, tokens, width) of ids (rows, tokens); mask (rows, tokens) is 1 for tokens and 0 for padding at the right.

        adapt  adds the adapters' parts; None: the network alone
        """
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        with torch.autocast("cpu", enabled=False):
            return self._run(ids, mask, adapt, dtype)

    def _run(self, ids: Tensor, mask: Tensor, adapt: Adapt | None, dtype: torch.dtype) -> Tensor:
        rows, tokens = ids.shape
        seen = None if rows == 1 or bool(mask.all()) else mask.bool()[:, None, None, :]
        x = _normalize(self._words[ids].add_(self._places[:tokens]), self._norm)
        for layer in self._layers:
            read = x.to(dtype)
            q, k, v = (linear(read, adapt).view(rows, tokens, self._heads, -1).transpose(1, 2) for linear in layer.qkv)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).reshape(x.shape)
            x = _normalize(layer.out(mixed, adapt).float().add_(x), layer.attention_norm)
            inner = self._activation(layer.up(x.to(dtype), adapt))
            x = _normalize(layer.down(inner, adapt).float().add_(x), layer.norm)
        return x


def _normalize(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return torch.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
