"""A linear layer with LoRA as one step of autograd, for training in bfloat16.

PEFT writes W x + s B A x as six operations, each of which keeps a tensor and converts types. Here forward and backward are the
matrix products alone, added in place:

    y = W x + b + B'(A x)        B' = s B
    dx = W' dy + A'(B'' dy)      dA = (B'' dy) x'      dB = s dy (A x)'
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.kernels.attention import short_attention
from vertical_sdk.kernels.precision import frozen_weights_in_bfloat16

__all__ = ["fast_training", "fused_lora"]


class _LoraLinear(torch.autograd.Function):
    """x (..., in) any float; weight (out, in) and bias (out,) frozen; a (r, in), b (out, r) trained; → (..., out) bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        half = torch.bfloat16
        flat = x.reshape(-1, x.shape[-1]).to(half)
        down, up = a.to(half), (b * scaling).to(half)
        inner = flat @ down.T
        out = F.linear(flat, weight, None if bias is None else bias.to(half))
        out.addmm_(inner, up.T)
        ctx.save_for_backward(flat, weight, down, up, inner)
        ctx.scaling, ctx.shape, ctx.dtype = scaling, x.shape, x.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight, down, up, inner = ctx.saved_tensors
        dy = gradients[0].reshape(-1, gradients[0].shape[-1]).to(torch.bfloat16)
        back = dy @ up
        dx = None
        if ctx.needs_input_grad[0]:
            dx = (dy @ weight).addmm_(back, down).view(ctx.shape).to(ctx.dtype)
        return dx, None, None, (back.T @ flat).float(), (dy.T @ inner).float() * ctx.scaling, None


@contextlib.contextmanager
def fast_training(backbone: Any, *, bf16: bool) -> Iterator[None]:
    """What training runs under: the frozen weights in the precision that it computes in, LoRA and attention as one step each."""
    with frozen_weights_in_bfloat16(backbone, enabled=bf16), fused_lora(backbone), short_attention(backbone):
        yield


@contextlib.contextmanager
def fused_lora(backbone: Any) -> Iterator[None]:
    """Within it, LoRA layers of the plain kind run as one operation where they train; all others as PEFT has them."""
    from peft.tuners.lora import Linear

    plain: list[Any] = [layer for layer in backbone.modules() if isinstance(layer, Linear)]
    changed = [(layer, forward) for layer in plain if (forward := _fused_forward(layer)) is not None]
    try:
        for layer, forward in changed:
            layer.forward = forward
        yield
    finally:
        for layer, _ in changed:
            vars(layer).pop("forward", None)


def _fused_forward(layer: Any) -> Callable[[Tensor], Tensor] | None:
    """The layer's forward as one operation; None for a layer of which that is not all."""
    if len(layer.active_adapters) != 1 or layer.fan_in_fan_out:
        return None
    name, base, plain = layer.active_adapters[0], layer.get_base_layer(), layer.forward
    if name not in layer.lora_A or name in layer.lora_variant or base.weight.dtype != torch.bfloat16:
        return None
    a, b, dropout, scaling = layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name], layer.scaling[name]
    if a.bias is not None or b.bias is not None or getattr(dropout, "p", 0.0) > 0 or base.weight.requires_grad:
        return None

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or layer.disable_adapters or layer.merged or not torch.is_grad_enabled():
            out: Tensor = plain(x, *args, **kwargs)
            return out
        made: Tensor = _LoraLinear.apply(x, base.weight, base.bias, a.weight, b.weight, scaling)  # type: ignore[no-untyped-call]
        return made

    return forward
