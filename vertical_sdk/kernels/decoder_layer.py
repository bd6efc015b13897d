"""A layer of a network of Llama's shape as one step of autograd, for LoRA training on a CPU.

What such a layer does between its matrix products is little, but goes through memory each time, which takes as long as the products.
Here tokens are computed in blocks, whose numbers stay in the processor's cache:

    n = RMSNorm(x)     q, k, v = rotate(Q n), rotate(K n), V n     h = x + O attention(q, k, v)
    m = RMSNorm(h)     y = h + D (silu(G m) * (U m))

LoRA is added to the weights of one layer at a time, in a matrix that gives with each product what the gradients of A and B need:

    M = [W + s B A   s B]     M (x, 0) = (y, A x)     M' (dy, 0) = (dx, s B' dy)
        [    A        0 ]     dA = (s B' dy) x'       dB = s dy (A x)'
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertical_sdk.kernels.attention import attend, attend_backward
from vertical_sdk.kernels.decoder import normalize, rotate
from vertical_sdk.kernels.packing import Layout, current_layout
from vertical_sdk.kernels.plain_lora import PlainLora, read_plain_lora
from vertical_sdk.kernels.rates import multiply_by_onednn

__all__ = ["fused_layers"]

KINDS = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")
BLOCK = 512
"""Tokens of a block."""


class _Site:
    """Linear layers of one input, with their outputs side by side, and then A x of each.

    size   numbers of the input
    sizes  numbers of each layer's output
    ranks  ranks of each one's LoRA, 0 if it has none
    """

    def __init__(self, parts: Sequence[PlainLora], *, onednn: bool) -> None:
        self.parts, self.onednn = parts, onednn
        self.size = parts[0].weight.shape[1]
        self.sizes, self.ranks = [len(part.weight) for part in parts], [len(part.a) for part in parts]
        self.out, self.rank = sum(self.sizes), sum(self.ranks)
        biases = [part.bias for part in parts if part.bias is not None]
        self.bias = torch.cat([*biases, torch.zeros(self.rank)]) if biases else None

    def merge(self) -> Tensor:
        """M: (out + rank, size + rank)."""
        merged = torch.empty(self.out + self.rank, self.size + self.rank)
        merged[:, self.size :] = 0
        row, column = 0, 0
        for part, size, rank in zip(self.parts, self.sizes, self.ranks, strict=True):
            up = merged[row : row + size, self.size + column : self.size + column + rank]
            torch.mul(part.b, part.scaling, out=up)
            torch.addmm(part.weight, up, part.a, out=merged[row : row + size, : self.size])
            merged[self.out + column : self.out + column + rank, : self.size] = part.a
            row, column = row + size, column + rank
        return merged

    def forward(self, merged: Tensor, x: Tensor) -> Tensor:
        """x (tokens, size) → outputs and A x, (tokens, out + rank)."""
        weight = merged[:, : self.size]
        if self.onednn:
            return multiply_by_onednn(x, weight.contiguous(), self.bias)
        return F.linear(x, weight, self.bias)

    def backward(self, merged: Tensor, dy: Tensor, x: Tensor, inner: Tensor, gradients: Sequence[Tensor]) -> Tensor:
        """dy (tokens, out), x (tokens, size) and A x (tokens, rank) → dx (tokens, size). Adds to the gradients of A and B'."""
        made = multiply_by_onednn(dy, merged[: self.out].T.contiguous(), None) if self.onednn else dy @ merged[: self.out]
        gradients[0].addmm_(made[:, self.size :].T, x)
        each = zip(gradients[1:], inner.split(self.ranks, 1), dy.split(self.sizes, 1), strict=True)
        for gradient, down, part in each:
            gradient.addmm_(down.T, part)
        return made[:, : self.size]

    def start_gradients(self) -> list[Tensor]:
        """Zeros: the gradients of all A, (rank, size), and of each B', (its rank, its out)."""
        return [torch.zeros(self.rank, self.size), *map(torch.zeros, self.ranks, self.sizes)]

    def finish_gradients(self, gradients: Sequence[Tensor]) -> Iterator[Tensor]:
        """The gradients of A and B of each layer."""
        for part, a, b in zip(self.parts, gradients[0].split(self.ranks), gradients[1:], strict=True):
            yield from (a, b.T * part.scaling)


@dataclass(frozen=True, eq=False)
class _Layer:
    """What a layer computes with. norms: (width,); q_norm and k_norm, (head width,), are None for networks without them."""

    norm: Tensor
    qkv: _Site
    q_norm: Tensor | None
    k_norm: Tensor | None
    out: _Site
    mlp_norm: Tensor
    gate_up: _Site
    down: _Site
    head_width: int
    scale: float
    window: int | None
    eps: float

    @property
    def sites(self) -> tuple[_Site, ...]:
        """The linear layers."""
        return self.qkv, self.out, self.gate_up, self.down

    @property
    def trained(self) -> list[Tensor]:
        """A and B of each linear layer."""
        return [weight for site in self.sites for part in site.parts for weight in (part.a, part.b)]

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """Views of q, k and v, (tokens, heads, head width) each."""
        return tuple(part.unflatten(1, (-1, self.head_width)) for part in qkv[:, : self.qkv.out].split(self.qkv.sizes, 1))


class _DecoderLayer(torch.autograd.Function):
    """x (tokens, width), cos and sin (tokens, 1, head width / 2) → (tokens, width)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: _Layer, cos: Tensor, sin: Tensor, layout: Layout, *_trained: Tensor) -> Tensor:
        tokens, width, inner = len(x), x.shape[1], layer.down.size
        qkv = torch.empty(tokens, layer.qkv.out + layer.qkv.rank)
        merged = layer.qkv.merge()
        for block in _blocks(tokens):
            qkv[block] = layer.qkv.forward(merged, normalize(x[block], layer.norm, layer.eps))
        q, k, v = layer.split_heads(qkv)
        plain = []
        for heads, weight in ((q, layer.q_norm), (k, layer.k_norm)):
            if weight is not None:
                plain.append(heads.clone())
                heads.copy_(normalize(heads, weight, layer.eps))
            rotate(heads, cos, sin)
        mixed, kept = attend(q, k, v, layout, causal=True, window=layer.window, scale=layer.scale)
        mixed = mixed.flatten(1)
        h, y = torch.empty_like(x), torch.empty_like(x)
        gate_up = torch.empty(tokens, layer.gate_up.out + layer.gate_up.rank)
        downs = torch.empty(tokens, layer.out.rank + layer.down.rank)
        out_merged, gate_up_merged, down_merged = (site.merge() for site in layer.sites[1:])
        for block in _blocks(tokens):
            made = layer.out.forward(out_merged, mixed[block])
            torch.add(x[block], made[:, :width], out=h[block])
            downs[block, : layer.out.rank] = made[:, width:]
            gate_up[block] = layer.gate_up.forward(gate_up_merged, normalize(h[block], layer.mlp_norm, layer.eps))
            made = layer.down.forward(down_merged, F.silu(gate_up[block, :inner]).mul_(gate_up[block, inner : 2 * inner]))
            torch.add(h[block], made[:, :width], out=y[block])
            downs[block, layer.out.rank :] = made[:, width:]
        ctx.save_for_backward(x, qkv, mixed, h, gate_up, downs, cos, sin, *plain, *kept)
        ctx.layer, ctx.layout, ctx.plain = layer, layout, len(plain)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        layer: _Layer = ctx.layer
        x, qkv, mixed, h, gate_up, downs, cos, sin, *kept = ctx.saved_tensors
        plain, kept = kept[: ctx.plain], kept[ctx.plain :]
        tokens, inner = len(x), layer.down.size
        qkv_merged, out_merged, gate_up_merged, down_merged = (site.merge() for site in layer.sites)
        of_qkv, of_out, of_gate_up, of_down = (site.start_gradients() for site in layer.sites)
        dx = gradients[0].clone()  # first that of y, then of h, then of x
        dmixed = torch.empty_like(mixed)
        for block in _blocks(tokens):
            gate, up, down = gate_up[block].split([inner, inner, layer.gate_up.rank], 1)
            opened = F.silu(gate)
            back = layer.down.backward(down_merged, dx[block], opened * up, downs[block, layer.out.rank :], of_down)
            both = torch.empty(len(back), 2 * inner)
            torch.mul(back, opened, out=both[:, inner:])
            torch.ops.aten.silu_backward(back.mul_(up), gate, grad_input=both[:, :inner])
            back = layer.gate_up.backward(gate_up_merged, both, normalize(h[block], layer.mlp_norm, layer.eps), down, of_gate_up)
            dx[block] += _normalize_backward(back, h[block], layer.mlp_norm, layer.eps)
            dmixed[block] = layer.out.backward(out_merged, dx[block], mixed[block], downs[block, : layer.out.rank], of_out)
        dqkv = torch.zeros(tokens, layer.qkv.out)
        heads, dheads = layer.split_heads(qkv), layer.split_heads(dqkv)
        attend_backward(dmixed.view_as(heads[0]), heads, kept, ctx.layout, causal=True, scale=layer.scale, into=dheads)
        for number, weight in enumerate((layer.q_norm, layer.k_norm)):
            rotate(dheads[number], cos, -sin)
            if weight is not None:
                dheads[number].copy_(_normalize_backward(dheads[number], plain[number], weight, layer.eps))
        for block in _blocks(tokens):
            n = normalize(x[block], layer.norm, layer.eps)
            back = layer.qkv.backward(qkv_merged, dqkv[block], n, qkv[block, layer.qkv.out :], of_qkv)
            dx[block] += _normalize_backward(back, x[block], layer.norm, layer.eps)
        each = zip(layer.sites, (of_qkv, of_out, of_gate_up, of_down), strict=True)
        return dx, None, None, None, None, *(one for site, sums in each for one in site.finish_gradients(sums))


def _blocks(tokens: int) -> list[slice]:
    """Blocks of about the same length."""
    size = -(-tokens // max(1, round(tokens / BLOCK)))
    return [slice(begin, begin + size) for begin in range(0, tokens, size)]


def _normalize_backward(dn: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The gradient of x of RMSNorm over the last dimension."""
    inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    unit, dunit = x * inverse, dn * weight
    share = (dunit * unit).mean(-1, keepdim=True)
    return dunit.addcmul_(unit, share, value=-1).mul_(inverse)


@contextlib.contextmanager
def fused_layers(backbone: Any, *, onednn: bool = False) -> Iterator[None]:
    """Within it, layers that are known run as one operation where rows lie one after another; all others as they are."""
    changed = [(layer, forward) for layer in backbone.modules() if (forward := _fused_forward(layer, onednn=onednn)) is not None]
    try:
        for layer, forward in changed:
            layer.forward = forward
        yield
    finally:
        for layer, _ in changed:
            vars(layer).pop("forward", None)


def _fused_forward(layer: Any, *, onednn: bool) -> Callable[..., Tensor] | None:
    """The layer's forward as one operation; None for a layer of which that is not all."""
    read, plain = _read_layer(layer, onednn=onednn) if type(layer).__name__ in KINDS else None, layer.forward
    if read is None:
        return None
    known, adapted = read, [module for module in layer.modules() if hasattr(module, "disable_adapters")]

    def forward(hidden: Tensor, *args: Any, **options: Any) -> Tensor:
        layout = current_layout()
        changed = any(module.disable_adapters or module.merged for module in adapted)
        if layout is None or args or changed or torch.is_autocast_enabled("cpu"):
            out: Tensor = plain(hidden, *args, **options)
            return out
        cos, sin = (part[0, :, None, : known.head_width // 2] for part in options["position_embeddings"])
        made: Tensor = _DecoderLayer.apply(hidden[0], known, cos, sin, layout, *known.trained)  # type: ignore[no-untyped-call]
        return made[None]

    return forward


def _read_layer(layer: Any, *, onednn: bool) -> _Layer | None:
    """Read a layer of transformers with PEFT's layers; None if something in it is of another kind, or not in float32 on a CPU."""
    attention, mlp = layer.self_attn, layer.mlp
    found = [
        [_read_linear(module) for module in modules]
        for modules in (
            (attention.q_proj, attention.k_proj, attention.v_proj),
            (attention.o_proj,),
            (mlp.gate_proj, mlp.up_proj),
            (mlp.down_proj,),
        )
    ]
    if attention.config.hidden_act != "silu" or any(weight.dtype != torch.float32 or weight.device.type != "cpu" for weight in layer.parameters()):
        return None
    sites = []
    for parts in found:
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or len({part.bias is None for part in known}) > 1:
            return None
        sites.append(_Site(known, onednn=onednn))
    qkv, out, gate_up, down = sites
    config = attention.config
    return _Layer(
        norm=layer.input_layernorm.weight,
        qkv=qkv,
        q_norm=getattr(getattr(attention, "q_norm", None), "weight", None),
        k_norm=getattr(getattr(attention, "k_norm", None), "weight", None),
        out=out,
        mlp_norm=layer.post_attention_layernorm.weight,
        gate_up=gate_up,
        down=down,
        head_width=attention.head_dim,
        scale=attention.scaling,
        window=getattr(attention, "sliding_window", getattr(config, "sliding_window", None)),
        eps=config.rms_norm_eps,
    )


def _read_linear(module: Any) -> PlainLora | None:
    """A linear layer with its LoRA, or with one of rank 0."""
    if type(module) is nn.Linear and not module.weight.requires_grad:
        return PlainLora(module.weight, module.bias, module.weight.new_empty(0, module.in_features), module.weight.new_empty(module.out_features, 0), 1.0)
    return read_plain_lora(module)
