"""Which precision the frozen weights have while training lasts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["half_frozen"]


@contextlib.contextmanager
def half_frozen(backbone: Any, *, enabled: bool) -> Iterator[None]:
    """Keep the frozen linear weights in bfloat16 while training under autocast lasts, and restore them afterwards.

    Autocast would round them in each forward pass, and PEFT would bring each input to float32 for autocast to round it again: the
    numbers are the same without.
    """
    from peft.helpers import disable_input_dtype_casting

    if not enabled:
        yield
        return
    frozen = [m.weight for m in backbone.modules() if isinstance(m, torch.nn.Linear) and not m.weight.requires_grad]
    whole = [(weight, weight.data) for weight in frozen if weight.dtype == torch.float32]
    try:
        for weight, data in whole:
            weight.data = data.to(torch.bfloat16)
        with disable_input_dtype_casting(backbone):
            yield
    finally:
        for weight, data in whole:
            weight.data = data
