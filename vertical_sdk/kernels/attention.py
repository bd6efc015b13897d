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

from vertical_sdk.kernels.packing import HIDDEN, Group, Layout, current_layout

__all__ = ["knows_layouts", "short_attention"]

NAME = "short_rows"
LONGEST = 1024
"""P is kept for the backward pass, rows × heads × tokens² numbers; PyTorch's fused kernel computes it again, which then is worth it."""


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


class _PackedAttention(torch.autograd.Function):
    """Attention within the rows of a layout. q (heads, tokens, width), k, v (key heads, tokens, width) → (tokens, heads, width)."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, causal: bool, window: int | None, scale: float
    ) -> Tensor:
        heads, tokens, width = q.shape
        out = q.new_empty(tokens, heads, width)
        kept: list[Tensor] = []
        for group in layout.groups:
            own = _take(q, group), _take_keys(k, group, heads), _take_keys(v, group, heads)
            p = _weigh(*own[:2], group, causal, window, scale)
            _put(out, torch.bmm(p, own[2]), group, heads)
            kept.append(p)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        heads = q.shape[0]
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        back = gradients[0].transpose(0, 1)
        for group, p in zip(ctx.layout.groups, kept, strict=True):
            do = _take(back, group)
            if not group.even:
                do = do.view(heads, *group.valid.shape, -1).masked_fill(~group.valid[None, :, :, None], 0).view(do.shape)
            dp = torch.bmm(do, _take_keys(v, group, heads).transpose(1, 2))
            ds = torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype)
            _put(dq.transpose(0, 1), torch.bmm(ds, _take_keys(k, group, heads)).mul_(ctx.scale), group, heads)
            _add_keys(dk, torch.bmm(ds.transpose(1, 2), _take(q, group)).mul_(ctx.scale), group, heads)
            _add_keys(dv, torch.bmm(p.transpose(1, 2), do), group, heads)
        return dq, dk, dv, None, None, None, None


def _take(x: Tensor, group: Group) -> Tensor:
    """The rows' own tokens of x (heads, tokens, width) → (heads × rows, longest, width)."""
    own = slice(group.begin, group.begin + group.tokens)
    taken = x[:, own] if group.even else x.index_select(1, group.queries.flatten())
    return taken.reshape(len(x) * len(group.lengths), group.longest, -1)


def _take_keys(x: Tensor, group: Group, heads: int) -> Tensor:
    """The tokens that the rows attend to, for each head: x (key heads, tokens, width) → (heads × rows, before + longest, width)."""
    if group.even and not group.before:
        taken = _take(x, group)
    else:
        taken = x.index_select(1, group.keys.flatten()).view(len(x) * len(group.lengths), group.before + group.longest, -1)
    if heads == len(x):
        return taken
    each = taken.view(len(x), 1, len(group.lengths), *taken.shape[1:]).expand(-1, heads // len(x), -1, -1, -1)
    return each.reshape(heads * len(group.lengths), *taken.shape[1:])


def _weigh(q: Tensor, k: Tensor, group: Group, causal: bool, window: int | None, scale: float) -> Tensor:
    """The weights of attention, (heads × rows, longest, before + longest)."""
    mask = group.mask(causal=causal, window=window)
    scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=scale)
    if mask is not None:
        scores.view(-1, len(group.lengths), *scores.shape[1:]).add_(mask.to(scores.dtype))
    return torch.softmax(scores, dim=-1)


def _put(out: Tensor, values: Tensor, group: Group, heads: int) -> None:
    """Write values (heads × rows, longest, width) of the rows' own tokens into out (tokens, heads, width)."""
    each = values.view(heads, len(group.lengths) * group.longest, -1).transpose(0, 1)
    out[group.begin : group.begin + group.tokens] = each if group.even else each[group.valid.flatten()]


def _add_keys(total: Tensor, values: Tensor, group: Group, heads: int) -> None:
    """Add values (heads × rows, before + longest, width) of the tokens that the rows attend to, to total (key heads, tokens, width)."""
    each = values.view(len(total), heads // len(total), len(group.lengths), group.before + group.longest, -1)
    each = each.sum(1) if heads > len(total) else each[:, 0]
    if group.before:
        total[:, : group.before] += each[:, :, : group.before].sum(1)
    own = each[:, :, group.before :].reshape(len(total), -1, each.shape[-1])
    total[:, group.begin : group.begin + group.tokens] += own if group.even else own[:, group.valid.flatten()]


def _attend_packed(
    module: Any, layout: Layout, query: Tensor, key: Tensor, value: Tensor, **options: Any
) -> tuple[Tensor, None]:
    """q, k, v (1, heads, tokens, width), as a layout places them → (1, tokens, heads, width)."""
    unknown = [name for name in ("softcap", "position_bias", "cache", "s_aux") if options.get(name) is not None]
    if unknown or options.get("dropout") or len(query) != 1 or query.shape[2] != layout.tokens or key.shape[2] != layout.tokens:
        raise NotImplementedError(f"attention without padding does not know {', '.join(unknown) or 'these inputs'}")
    causal = options.get("is_causal")
    causal = bool(getattr(module, "is_causal", True) if causal is None else causal)
    window = options.get("sliding_window")
    if not causal and (window is not None or layout.shared):
        raise NotImplementedError("attention without padding knows windows and shared tokens of causal models only")
    scale = options.get("scaling")
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else query.dtype
    with torch.autocast("cpu", enabled=False):
        q, k, v = (one[0].to(dtype) for one in (query, key, value))
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        out: Any = _PackedAttention.apply(q, k, v, layout, causal, window, scale)  # type: ignore[no-untyped-call]
    return out[None], None


def _forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Transformers' attention interface: q, k, v (rows, heads, tokens, width) → (rows, tokens, heads, width)."""
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    if (layout := current_layout()) is not None:
        return _attend_packed(module, layout, query, key, value, **options)
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


def _mask(*args: Any, **options: Any) -> Tensor | None:
    """Transformers' mask interface: rows that lie one after another need none."""
    from transformers.masking_utils import sdpa_mask

    return None if current_layout() is not None else sdpa_mask(*args, **options)


def knows_layouts(backbone: Any) -> bool:
    """Whether a model attends as above now, so that its rows may lie one after another."""
    return getattr(backbone.get_base_model().config, "_attn_implementation", None) == NAME


@contextlib.contextmanager
def short_attention(backbone: Any) -> Iterator[None]:
    """Within it, a transformers model on a CPU attends as above where it trains; elsewhere, and in other models, as before."""
    from transformers import AttentionInterface, AttentionMaskInterface

    config = backbone.get_base_model().config
    before = getattr(config, "_attn_implementation", None)
    if before != "sdpa" or next(backbone.parameters()).device.type != "cpu":
        yield
        return
    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, _mask)
    try:
        config._attn_implementation = NAME
        yield
    finally:
        config._attn_implementation = before
