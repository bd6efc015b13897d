"""The precision of the frozen weights during training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["exact_weights", "frozen_weights_in_bfloat16"]


@contextlib.contextmanager
def frozen_weights_in_bfloat16(backbone: Any, *, enabled: bool) -> Iterator[None]:
    """Keep the frozen linear weights in bfloat16 during training under autocast, and restore them afterwards.

    Autocast would round them in each forward pass, and PEFT would convert each input to float32, which autocast then rounds again.
    The results are the same without these steps.
    """
    from peft.helpers import disable_input_dtype_casting

    if not enabled:
        yield
        return
    with _convert_frozen(backbone, torch.float32, torch.bfloat16), disable_input_dtype_casting(backbone):
        yield


@contextlib.contextmanager
def exact_weights(backbone: Any) -> Iterator[None]:
    """Compute in float32, also within the above: two ways to compute one thing then differ by what they compute, not by rounding."""
    device = next(backbone.parameters()).device.type
    with _convert_frozen(backbone, torch.bfloat16, torch.float32), torch.autocast(device, enabled=False):
        yield


@contextlib.contextmanager
def _convert_frozen(backbone: Any, old: torch.dtype, new: torch.dtype) -> Iterator[None]:
    """Keep the frozen linear weights of one type in another, and restore them afterwards."""
    frozen = [m.weight for m in backbone.modules() if isinstance(m, torch.nn.Linear) and not m.weight.requires_grad]
    originals = [(weight, weight.data) for weight in frozen if weight.dtype == old]
    try:
        for weight, data in originals:
            weight.data = data.to(new)
        yield
    finally:
        for weight, data in originals:
            weight.data = data
