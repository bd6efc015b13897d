"""A linear layer with LoRA as one step of autograd, for training.

PEFT writes W x + s B A x as six operations, each of which keeps a tensor and may convert types. Here forward and backward are the
matrix products alone, added in place:

    y = W x + b + B'(A x)        B' = s B
    dx = W' dy + A'(B'' dy)      dA = (B'' dy) x'      dB = s dy (A x)'

They are computed in the type of the frozen weight W: float32, or bfloat16 under autocast.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.kernels.attention import short_attention
from vertical_sdk.kernels.memory import kept_pages
from vertical_sdk.kernels.precision import frozen_weights_in_bfloat16
from vertical_sdk.kernels.rates import multiply_by_onednn

__all__ = ["fast_training", "fused_lora"]


@dataclass(frozen=True, eq=False)
class _Frozen:
    """A frozen linear layer: weight (out, in), bias (out,) or None. `onednn`: its products in float32 are oneDNN's."""

    weight: Tensor
    bias: Tensor | None
    onednn: bool

    @cached_property
    def _transposed(self) -> Tensor:
        return self.weight.T.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """x (rows, in) → (rows, out)."""
        bias = None if self.bias is None else self.bias.to(self.weight.dtype)
        return multiply_by_onednn(x, self.weight, bias) if self.onednn else F.linear(x, self.weight, bias)

    def backward(self, dy: Tensor) -> Tensor:
        """dy (rows, out) → (rows, in)."""
        return multiply_by_onednn(dy, self._transposed, None) if self.onednn else dy @ self.weight


class _LoraLinear(torch.autograd.Function):
    """x (..., in) any float; a (r, in), b (out, r) trained; → (..., out) in the type of the frozen weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: _Frozen, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        dtype = frozen.weight.dtype
        flat = x.reshape(-1, x.shape[-1]).to(dtype)
        # BLAS is several times as fast with the small matrices stored as (r, ...)
        down, up = a.to(dtype), (b.T * scaling).to(dtype).contiguous()
        out = frozen.forward(flat)
        out.addmm_(flat @ down.T, up)
        ctx.save_for_backward(flat, down, up)
        ctx.frozen, ctx.scaling, ctx.shape, ctx.dtype = frozen, scaling, x.shape, x.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, down, up = ctx.saved_tensors
        dy = gradients[0].reshape(-1, gradients[0].shape[-1]).to(flat.dtype)
        back = dy @ up.T
        dx = None
        if ctx.needs_input_grad[0]:
            dx = ctx.frozen.backward(dy).addmm_(back, down).view(ctx.shape).to(ctx.dtype)
        inner = flat @ down.T  # computed again: a product with r columns is cheaper than keeping it
        return dx, None, (back.T @ flat).float(), (inner.T @ dy).T.float() * ctx.scaling, None


@contextlib.contextmanager
def fast_training(backbone: Any, *, bf16: bool, onednn: bool = False) -> Iterator[None]:
    """What training runs under: the frozen weights in the precision that it computes in, LoRA and attention as one step each.

    onednn  products in float32 are oneDNN's (`rates.Rates.prefers_onednn`)
    """
    with (
        kept_pages(),
        frozen_weights_in_bfloat16(backbone, enabled=bf16),
        fused_lora(backbone, onednn=onednn and not bf16),
        short_attention(backbone),
    ):
        yield


@contextlib.contextmanager
def fused_lora(backbone: Any, *, onednn: bool = False) -> Iterator[None]:
    """Within it, LoRA layers of the plain kind run as one operation where they train; all others as PEFT has them."""
    from peft.tuners.lora import Linear

    plain: list[Any] = [layer for layer in backbone.modules() if isinstance(layer, Linear)]
    changed = [(layer, forward) for layer in plain if (forward := _fused_forward(layer, onednn=onednn)) is not None]
    try:
        for layer, forward in changed:
            layer.forward = forward
        yield
    finally:
        for layer, _ in changed:
            vars(layer).pop("forward", None)


def _fused_forward(layer: Any, *, onednn: bool) -> Callable[[Tensor], Tensor] | None:
    """The layer's forward as one operation; None for a layer of which that is not all."""
    if len(layer.active_adapters) != 1 or layer.fan_in_fan_out:
        return None
    name, base, plain = layer.active_adapters[0], layer.get_base_layer(), layer.forward
    if name not in layer.lora_A or name in layer.lora_variant or base.weight.dtype not in {torch.bfloat16, torch.float32}:
        return None
    a, b, dropout, scaling = layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name], layer.scaling[name]
    if a.bias is not None or b.bias is not None or getattr(dropout, "p", 0.0) > 0 or base.weight.requires_grad:
        return None
    dtype = base.weight.dtype
    frozen = _Frozen(base.weight, base.bias, onednn and base.weight.device.type == "cpu")

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        half = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else torch.float32
        if args or kwargs or layer.disable_adapters or layer.merged or not torch.is_grad_enabled() or half != dtype:
            out: Tensor = plain(x, *args, **kwargs)
            return out
        made: Tensor = _LoraLinear.apply(x, frozen, a.weight, b.weight, scaling)  # type: ignore[no-untyped-call]
        return made

    return forward
