"""Attention as one step of autograd, for training on a CPU.

There, PyTorch's own is written for few long rows: its fused kernel takes most of its time in the backward pass, and its plain one
computes bfloat16 in float32. Rows of a specialist are short and many, so that the matrix products by themselves are fastest:

    S = scale Q K' + mask      P = softmax(S)      O = P V
    dV = P' dO      dP = dO V'      dS = P (dP - rowsum(dP P))      dQ = scale dS K      dK = scale dS' Q
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["short_attention"]

NAME = "short_rows"
LONGEST = 1024
"""P is kept for the backward pass, rows × heads × tokens² numbers; PyTorch's fused kernel computes it again, which then is worth it."""
HIDDEN = -1e30


class _Attention(torch.autograd.Function):
    """q, k, v (rows, heads, tokens, width) of one type; mask (rows or 1, 1, tokens, tokens), added; → (rows, heads, tokens, width)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        rows, heads, tokens, width = q.shape
        q, k, v = (one.reshape(rows * heads, -1, width) for one in (q * scale, k, v))
        scores = torch.bmm(q, k.transpose(1, 2))
        if mask is not None:
            scores.view(rows, heads, tokens, -1).add_(mask)
        p = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(q, k, v, p)
        ctx.shape, ctx.scale = (rows, heads, tokens, width), scale
        return torch.bmm(p, v).view(rows, heads, tokens, width)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, p = ctx.saved_tensors
        out = gradients[0].reshape(q.shape)
        dp = torch.bmm(out, v.transpose(1, 2))
        ds = torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype)
        dq = torch.bmm(ds, k).mul_(ctx.scale)
        made = (dq, torch.bmm(ds.transpose(1, 2), q), torch.bmm(p.transpose(1, 2), out))
        return *(one.view(*ctx.shape[:2], -1, ctx.shape[3]) for one in made), None, None


def _forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Transformers' attention interface: q, k, v (rows, heads, tokens, width) → (rows, tokens, heads, width)."""
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    more = options.get("dropout") or any(options.get(name) is not None for name in ("softcap", "position_bias", "cache"))
    tokens = query.shape[2]
    if more or not torch.is_grad_enabled() or not 1 < tokens <= LONGEST or key.shape[2] != tokens:
        made: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return made
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else query.dtype
    scale = options.get("scaling")
    causal = options.get("is_causal")
    if attention_mask is None and (getattr(module, "is_causal", True) if causal is None else causal):
        attention_mask = torch.ones(tokens, tokens, dtype=torch.bool).tril()[None, None]
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        attention_mask = torch.zeros(attention_mask.shape, dtype=dtype).masked_fill_(~attention_mask, HIDDEN)
    groups = query.shape[1] // key.shape[1]
    with torch.autocast("cpu", enabled=False):
        q, k, v = (one.to(dtype) for one in (query, repeat_kv(key, groups), repeat_kv(value, groups)))
        mask = None if attention_mask is None else attention_mask.to(dtype)
        out: Any = _Attention.apply(q, k, v, mask, query.shape[-1] ** -0.5 if scale is None else scale)  # type: ignore[no-untyped-call]
    return out.transpose(1, 2).contiguous(), None


@contextlib.contextmanager
def short_attention(backbone: Any) -> Iterator[None]:
    """Within it, a transformers model on a CPU attends as above where it trains; elsewhere, and in other models, as before."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    config = backbone.get_base_model().config
    before = getattr(config, "_attn_implementation", None)
    if before != "sdpa" or next(backbone.parameters()).device.type != "cpu":
        yield
        return
    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    try:
        config._attn_implementation = NAME
        yield
    finally:
        config._attn_implementation = before
