"""Attention as one step of autograd, for training on a CPU.

There, PyTorch's own is written for few long rows: its fused kernel takes most of its time in the backward pass, and its plain one
computes bfloat16 in float32. Rows of a specialist are short and many, so that the matrix products by themselves are fastest:

    S = scale Q K' + mask      P = softmax(S)      O = P V
    dV = P' dO      dP = dO V'      dS = P (dP - rowsum(dP P))      dQ = scale dS K      dK = scale dS' Q
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from vertical_sdk.kernels.packing import HIDDEN, Group, Layout, current_layout

__all__ = ["knows_layouts", "short_attention"]

NAME = "short_rows"
BLOCK = 128
"""Queries of a row that are computed together: they skip the keys after them."""
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
    """Attention within the rows of a layout. q (tokens, heads, width), k, v (tokens, key heads, width) → (tokens, heads, width)."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, causal: bool, window: int | None, scale: float
    ) -> Tensor:
        out, kept = _attend(q, k, v, layout, causal=causal, window=window, scale=scale)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.layout, ctx.causal, ctx.scale = layout, causal, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        inputs = _attend_backward(gradients[0], q, k, v, kept, ctx.layout, causal=ctx.causal, scale=ctx.scale)
        return *inputs, None, None, None, None


def _attend(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, *, causal: bool, window: int | None, scale: float
) -> tuple[Tensor, list[Tensor]]:
    """Attention within the rows of a layout, without gradients.

    q        (tokens, heads, width)
    k, v     (tokens, key heads, width)
    returns  (tokens, heads, width), and what `_attend_backward` needs: P of each block of queries
    """
    out, kept = torch.empty(q.shape, dtype=q.dtype), list[Tensor]()
    for group in layout.groups:
        queries, keys, values = _take_queries(q, group, k.shape[1]), _take_keys(k, group), _take_keys(v, group)
        mask = group.mask(causal=causal, window=window)
        mixed = torch.empty_like(queries)
        for begin, end, seen in _blocks(group, causal):
            part = queries[:, :, begin:end].flatten(1, 2)
            scores = torch.baddbmm(part.new_empty(1), part, keys[:, :seen].transpose(1, 2), beta=0, alpha=scale)
            if mask is not None:
                each = scores.view(k.shape[1], len(group.lengths), -1, end - begin, seen)
                each.add_(mask[:, None, begin:end, :seen].to(scores.dtype))
            p = torch.softmax(scores, dim=-1)
            mixed[:, :, begin:end] = torch.bmm(p, values[:, :seen]).view_as(mixed[:, :, begin:end])
            kept.append(p)
        _put(out, mixed, group)
    return out, kept


def _attend_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, kept: Sequence[Tensor], layout: Layout, *, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v in `_attend`, of their shapes, for that of its output (tokens, heads, width)."""
    all_dq, all_dk, all_dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    blocks = iter(kept)
    for group in layout.groups:
        queries, keys, values = _take_queries(q, group, k.shape[1]), _take_keys(k, group), _take_keys(v, group)
        douts = _take_queries(dout.to(q.dtype), group, k.shape[1])
        if not group.even:
            douts.view(k.shape[1], len(group.lengths), *douts.shape[1:]).masked_fill_(~group.valid[:, None, :, None], 0)
        dq, dk, dv = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
        for begin, end, seen in _blocks(group, causal):
            p, part, do = next(blocks), queries[:, :, begin:end].flatten(1, 2), douts[:, :, begin:end].flatten(1, 2)
            dp = torch.bmm(do, values[:, :seen].transpose(1, 2))
            ds = torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype)
            dq[:, :, begin:end] = torch.bmm(ds, keys[:, :seen]).mul_(scale).view_as(dq[:, :, begin:end])
            dk[:, :seen].baddbmm_(ds.transpose(1, 2), part, alpha=scale)
            dv[:, :seen].baddbmm_(p.transpose(1, 2), do)
        _put(all_dq, dq, group)
        _add_keys(all_dk, dk, group)
        _add_keys(all_dv, dv, group)
    return all_dq, all_dk, all_dv


def _blocks(group: Group, causal: bool) -> list[tuple[int, int, int]]:
    """Queries that are computed together: their begin and end, and the number of keys that they may attend to."""
    size = BLOCK if causal else group.longest
    ends = [min(begin + size, group.longest) for begin in range(0, group.longest, size)]
    return [(begin, end, group.before + end) for begin, end in zip([0, *ends], ends, strict=False)]


def _take_queries(x: Tensor, group: Group, key_heads: int) -> Tensor:
    """A copy of the rows' own tokens of x (tokens, heads, width) → (key heads × rows, heads of each key head, longest, width)."""
    own = x[group.begin : group.begin + group.tokens] if group.even else x[group.queries.flatten()]
    each = torch.unflatten(torch.unflatten(own, 1, (key_heads, -1)), 0, (-1, group.longest))
    return each.permute(2, 0, 3, 1, 4).contiguous().flatten(0, 1)


def _take_keys(x: Tensor, group: Group) -> Tensor:
    """A copy of the tokens that the rows attend to: x (tokens, key heads, width) → (key heads × rows, before + longest, width)."""
    adjacent = group.even and not group.before
    own = torch.unflatten(x[group.begin : group.begin + group.tokens], 0, (-1, group.longest)) if adjacent else x[group.keys]
    return own.permute(2, 0, 1, 3).contiguous().flatten(0, 1)


def _put(out: Tensor, values: Tensor, group: Group) -> None:
    """Write values (key heads × rows, heads of each, longest, width) of the rows' own tokens into out (tokens, heads, width)."""
    each = torch.unflatten(values, 0, (-1, len(group.lengths))).permute(1, 3, 0, 2, 4)
    own = torch.unflatten(out[group.begin : group.begin + group.tokens], 1, each.shape[2:4])
    own.copy_(each.reshape(own.shape) if group.even else each[group.valid])


def _add_keys(total: Tensor, values: Tensor, group: Group) -> None:
    """Add values (key heads × rows, before + longest, width) of the tokens that the rows attend to, to total (tokens, key heads, width)."""
    each = torch.unflatten(values, 0, (total.shape[1], -1))
    if group.before:
        total[: group.before] += each[:, :, : group.before].sum(1).transpose(0, 1)
    own = each[:, :, group.before :].permute(1, 2, 0, 3)
    total[group.begin : group.begin + group.tokens] += own.flatten(0, 1) if group.even else own[group.valid]


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
        q, k, v = (one[0].transpose(0, 1).to(dtype) for one in (query, key, value))
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
