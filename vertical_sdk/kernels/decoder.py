"""The forward pass of networks of Llama's shape, for writing texts: many rows at once, each with an adapter of its own.

A layer of such a network is

    x = x + O attention(rotate(Q n), rotate(K n), V n)      n = RMSNorm(x)
    x = x + D (silu(G m) * (U m))                           m = RMSNorm(x)

Q, K and V are one product here, and so are G and U. Keys and values of earlier tokens stay in their place (`key_values`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.kernels.key_values import KeyValues
from vertical_sdk.kernels.low_rank import LowRank, LowRankStack, Site
from vertical_sdk.kernels.rates import multiply_by_onednn

__all__ = ["SITES", "Decoder", "Layer", "Linear", "Segment", "Shape"]

SITES = ("qkv", "out", "gate_up", "down")
"""The linear layers of one layer that adapters change; site number = 4 × layer + place in this list."""
EXPECTED_ROWS = 16
"""Rows that packed weights are arranged for."""
Attend: TypeAlias = Callable[[int, Tensor, Tensor], Tensor]
"""Layer, queries (rows, heads, head width), keys and values (rows, 2, heads, head width) → (rows, heads × head width)."""
Adapt: TypeAlias = Callable[[int, Tensor, Tensor], Tensor]
"""Site, its input and output → the output with the adapters' part."""
LONGEST = 2048
"""Tokens of prompts in one pass: more are read in several passes, which bounds the memory of a pass."""


class Linear:
    """A frozen linear layer, or several of the same input with their outputs side by side.

    weights  (out, in) of each
    biases   (out,) of each, or None
    packed   copy the weights into the order in which oneDNN reads them: up to 1.8 times as fast for few rows and many outputs
    """

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor | None], *, packed: bool = False) -> None:
        self._weights, self._biases, self._packed = weights, biases, None
        if packed and weights[0].device.type == "cpu" and _can_pack():
            whole = torch.cat(list(weights)) if len(weights) > 1 else weights[0]
            self._packed = torch.ops.mkldnn._reorder_linear_weight(whole, EXPECTED_ROWS)
            self._bias = None if biases[0] is None else torch.cat([bias for bias in biases if bias is not None])

    def __call__(self, x: Tensor) -> Tensor:
        """x (rows, in) → (rows, out)."""
        if self._packed is not None:
            return multiply_by_onednn(x, self._packed, self._bias)
        outputs = [F.linear(x, weight, bias) for weight, bias in zip(self._weights, self._biases, strict=True)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


@dataclass(frozen=True, eq=False)
class Layer:
    """Weights of one layer. norms: (width,); q_norm and k_norm, (head width,), are None for networks without them."""

    norm: Tensor
    qkv: Linear
    q_norm: Tensor | None
    k_norm: Tensor | None
    out: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


@dataclass(frozen=True)
class Shape:
    """Numbers of a network: its width, heads of queries, heads of keys and values, width of a head and of the inner layer, and eps."""

    width: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    eps: float

    def sites(self, layers: int) -> list[Site]:
        """The linear layers that adapters change."""
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        one = [
            Site(self.width, (queries, keys, keys)),
            Site(queries, (self.width,)),
            Site(self.width, (self.inner, self.inner)),
            Site(self.inner, (self.width,)),
        ]
        return one * layers


@dataclass(frozen=True, eq=False)
class Segment:
    """Tokens of one row that are read together: those after what its slot holds already."""

    slot: int
    tokens: Sequence[int]
    adapter: LowRank | None


class Decoder:
    """A network of Llama's shape with frozen weights in float32.

    embedding   (vocabulary, width)
    norm        (width,) before the output layer
    head        the output layer
    frequencies (head width / 2,) of the rotary embedding; cosine and sine are multiplied by `rotary_scale`
    """

    def __init__(
        self,
        shape: Shape,
        layers: Sequence[Layer],
        embedding: Tensor,
        norm: Tensor,
        head: Linear,
        frequencies: Tensor,
        rotary_scale: float,
    ) -> None:
        self.shape, self.embedding = shape, embedding
        self._layers, self._norm, self._head = layers, norm, head
        self._frequencies, self._rotary_scale = frequencies, rotary_scale

    def create_cache(self) -> KeyValues:
        """Keys and values, empty."""
        return KeyValues(len(self._layers), self.shape.kv_heads, self.shape.head_width, self.embedding.device)

    def create_stack(self) -> LowRankStack:
        """A stack of adapters, empty."""
        return LowRankStack(self.shape.sites(len(self._layers)), self.embedding.device)

    def read(self, segments: Sequence[Segment], cache: KeyValues, stack: LowRankStack) -> Tensor:
        """Read prompts without padding, and return the scores of the token after each: (segments, vocabulary).

        The stack holds the adapters. Segments should be ordered by adapter; a slot occurs once.
        """
        last: dict[int, Tensor] = {}
        batch: list[tuple[int, Segment]] = []
        for number, segment in enumerate(segments):
            for first in range(0, len(segment.tokens), LONGEST):
                part = Segment(segment.slot, segment.tokens[first : first + LONGEST], segment.adapter)
                if sum(len(other.tokens) for _, other in batch) + len(part.tokens) > LONGEST or (
                    batch and batch[-1][0] == number
                ):
                    last |= self._read_pass(batch, cache, stack)
                    batch = []
                batch.append((number, part))
        last |= self._read_pass(batch, cache, stack)
        return self._score(torch.stack([last[number] for number in range(len(segments))]))

    def step(self, tokens: Sequence[int], adapters: Sequence[LowRank | None], cache: KeyValues, stack: LowRankStack) -> Tensor:
        """Read one token of each slot in use, and return the scores of the token after it: (slots, vocabulary)."""
        rows, device = len(tokens), self.embedding.device
        positions = torch.tensor(cache.lengths, device=device)
        longest = max(cache.lengths) + 1
        mask = torch.zeros(rows, 1, 1, longest, device=device)
        mask.masked_fill_((torch.arange(longest, device=device) > positions[:, None])[:, None, None], -torch.inf)
        groups = stack.group(adapters)
        heads, width, per_key = self.shape.kv_heads, self.shape.head_width, self.shape.heads // self.shape.kv_heads

        numbers = torch.arange(rows, device=device)

        def attend(layer: int, q: Tensor, pairs: Tensor) -> Tensor:
            cache.append(layer, numbers, positions, pairs)
            keys, values = cache.layers[layer][:rows, :, :, :longest].unbind(1)
            out = F.scaled_dot_product_attention(q.reshape(rows, heads, per_key, width), keys, values, attn_mask=mask)
            return out.reshape(rows, -1)

        def adapt(site: int, x: Tensor, y: Tensor) -> Tensor:
            if groups is not None:
                stack.add(site, x, y, groups)
            return y

        hidden = self._run(torch.tensor(tokens, device=device), positions, attend, adapt)
        for slot in range(rows):
            cache.lengths[slot] += 1
        return self._score(hidden)

    def _read_pass(self, batch: Sequence[tuple[int, Segment]], cache: KeyValues, stack: LowRankStack) -> dict[int, Tensor]:
        """Read segments in one pass: number → hidden state of the last token (width,)."""
        device = self.embedding.device
        firsts = [cache.lengths[segment.slot] for _, segment in batch]
        ends, masks, spans, low = [], [], [], 0
        for first, (_, segment) in zip(firsts, batch, strict=True):
            count = len(segment.tokens)
            spans.append((low, low + count, segment.adapter))
            masks.append(_causal_mask(first, count, device) if first else None)
            low += count
            ends.append(low - 1)
        merged = _merge(spans)
        positions = torch.cat(
            [torch.arange(f, f + len(s.tokens), device=device) for f, (_, s) in zip(firsts, batch, strict=True)]
        )

        def attend(layer: int, q: Tensor, pairs: Tensor) -> Tensor:
            out = torch.empty_like(q)
            for (begin, end, _), first, mask, (_, segment) in zip(spans, firsts, masks, batch, strict=True):
                keys, values = cache.write(layer, segment.slot, first, pairs[begin:end])[:, None]
                queries = q[begin:end].transpose(0, 1)[None]
                made = F.scaled_dot_product_attention(
                    queries, keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=True
                )
                out[begin:end] = made[0].transpose(0, 1)
            return out.view(len(q), -1)

        def adapt(site: int, x: Tensor, y: Tensor) -> Tensor:
            stack.add_segments(site, x, y, merged)
            return y

        hidden = self._run(torch.tensor([t for _, s in batch for t in s.tokens], device=device), positions, attend, adapt)
        for _, segment in batch:
            cache.lengths[segment.slot] += len(segment.tokens)
        return {number: hidden[end] for (number, _), end in zip(batch, ends, strict=True)}

    def _run(self, tokens: Tensor, positions: Tensor, attend: Attend, adapt: Adapt) -> Tensor:
        """All layers: tokens and positions (rows,) → (rows, width)."""
        shape, rows = self.shape, len(tokens)
        queries, keys = shape.heads, shape.kv_heads
        angles = positions[:, None, None].float() * self._frequencies
        cos, sin = angles.cos().mul_(self._rotary_scale), angles.sin().mul_(self._rotary_scale)
        x = self.embedding[tokens]
        for number, layer in enumerate(self._layers):
            site = len(SITES) * number
            n = _normalize(x, layer.norm, shape.eps)
            qkv = adapt(site, n, layer.qkv(n)).view(rows, -1, shape.head_width)
            q, k = qkv[:, :queries], qkv[:, queries : queries + keys]
            if layer.q_norm is not None and layer.k_norm is not None:
                q.copy_(_normalize(q, layer.q_norm, shape.eps))
                k.copy_(_normalize(k, layer.k_norm, shape.eps))
            _rotate(qkv[:, : queries + keys], cos, sin)
            mixed = attend(number, q, qkv[:, queries:].view(rows, 2, keys, -1))
            x += adapt(site + 1, mixed, layer.out(mixed))
            m = _normalize(x, layer.mlp_norm, shape.eps)
            gate, up = adapt(site + 2, m, layer.gate_up(m)).chunk(2, dim=1)
            inner = F.silu(gate).mul_(up)
            x += adapt(site + 3, inner, layer.down(inner))
        return x

    def _score(self, hidden: Tensor) -> Tensor:
        """Hidden states (rows, width) → scores of the next token (rows, vocabulary)."""
        return self._head(_normalize(hidden, self._norm, self.shape.eps))


def _normalize(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last dimension. On a CPU, PyTorch's own takes five times as long for few rows."""
    squares: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
    return (x * squares.div_(x.shape[-1]).add_(eps).rsqrt_()).mul_(weight)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotate pairs of the two halves of each head in place: x (rows, heads, width), cos and sin (rows, 1, width / 2)."""
    first, second = x.chunk(2, dim=-1)
    turned = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).add_(turned)


def _causal_mask(first: int, count: int, device: torch.device) -> Tensor:
    """What the tokens first, first + 1, … of a row may see: (count, first + count), True for those before them and themselves."""
    ones = torch.ones(count, first + count, dtype=torch.bool, device=device)
    return ones.tril(first)


def _merge(spans: Sequence[tuple[int, int, LowRank | None]]) -> list[tuple[int, int, LowRank | None]]:
    """Join neighbours of the same adapter."""
    merged: list[tuple[int, int, LowRank | None]] = []
    for begin, end, adapter in spans:
        if merged and merged[-1][2] is adapter:
            merged[-1] = (merged[-1][0], end, adapter)
        else:
            merged.append((begin, end, adapter))
    return merged


def _can_pack() -> bool:
    """Whether this PyTorch has oneDNN's products with packed weights."""
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(torch.ones(2, 2), 1)
        multiply_by_onednn(torch.ones(1, 2), weight, None)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return True
