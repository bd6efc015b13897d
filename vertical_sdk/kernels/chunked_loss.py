"""The loss of many tokens without their logits in memory at once.

The output layer is large: a vocabulary's logits of a batch are more numbers than all else that training keeps. Here they are made for
some tokens at a time, with their gradient, which is all that the backward pass needs:

    loss = Σ f(W h) / n      dh = W' df
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["chunked_loss"]

LOGITS = 16 << 20
"""Logits that are made at a time: 64 MB in float32."""


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, layer: torch.nn.Linear, loss: Callable[..., Tensor], learns: bool, columns: tuple[Tensor, ...]
    ) -> Tensor:
        weight, bias = layer.weight, layer.bias
        inputs = states.to(weight.dtype)
        gradient = torch.empty_like(inputs) if learns else None
        total = torch.zeros((), device=states.device)
        size = max(1, LOGITS // len(weight))
        for start in range(0, len(states), size):
            part = inputs[start : start + size]
            with torch.set_grad_enabled(learns):
                logits = F.linear(part, weight, bias).float().requires_grad_(learns)
                value = loss(logits, *(column[start : start + size] for column in columns)) * (len(part) / len(states))
                if gradient is not None:
                    (back,) = torch.autograd.grad(value, logits)
                    torch.mm(back.to(weight.dtype), weight, out=gradient[start : start + size])
            total += value.detach()
        if gradient is not None:
            ctx.save_for_backward(gradient.to(states.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None, None, None, None


def chunked_loss(states: Tensor, layer: torch.nn.Linear, loss: Callable[..., Tensor], *columns: Tensor) -> Tensor:
    """The mean loss of tokens, as `loss(layer(states), *columns)` computes it, where the loss is a mean over tokens.

    states   (tokens, width) of any float; gradients reach them
    layer    the frozen output layer
    columns  what the loss reads of each token besides its logits: (tokens, ...)
    """
    learns = torch.is_grad_enabled() and states.requires_grad
    with torch.autocast(states.device.type, enabled=False):
        value: Tensor = _ChunkedLoss.apply(states, layer, loss, learns, columns)  # type: ignore[no-untyped-call]
    return value
