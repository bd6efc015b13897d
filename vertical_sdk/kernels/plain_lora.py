"""Linear layers as training reads them: a frozen weight, with LoRA of the plain kind or without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["PlainLora", "read_plain_lora"]


@dataclass(frozen=True, eq=False)
class PlainLora:
    """W + scaling · B A and a bias.

    weight   (out, in), frozen
    bias     (out,) or None
    a, b     (r, in) and (out, r), trained
    """

    weight: Tensor
    bias: Tensor | None
    a: Tensor
    b: Tensor
    scaling: float


def read_plain_lora(layer: Any) -> PlainLora | None:
    """Read a layer of PEFT; None for a layer that is more than a linear layer and its LoRA."""
    from peft.tuners.lora import Linear

    kind: Any = Linear
    if not isinstance(layer, kind) or len(layer.active_adapters) != 1 or layer.fan_in_fan_out:
        return None
    name, base = layer.active_adapters[0], layer.get_base_layer()
    if name not in layer.lora_A or name in layer.lora_variant or base.weight.dtype not in {torch.bfloat16, torch.float32}:
        return None
    a, b, dropout = layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name]
    if a.bias is not None or b.bias is not None or getattr(dropout, "p", 0.0) > 0 or base.weight.requires_grad:
        return None
    return PlainLora(base.weight, base.bias, a.weight, b.weight, layer.scaling[name])
