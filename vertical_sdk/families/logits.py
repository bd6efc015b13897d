"""What a causal base does to the logits of its output layer: nothing, a factor, or a soft cap.

Some bases multiply or divide them (Cohere, Granite, Falcon-H1), or limit them by c tanh(logits / c) (Gemma 2). The same key of a
configuration means a factor in one architecture and a divisor in another, so the change is measured on a few tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vertical_sdk.errors import BaseModelError
from vertical_sdk.families.shared_base import use_base

__all__ = ["LogitChange", "find_logit_change"]

KEYS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
"""Keys of a configuration that change logits; a base without any of them is only measured if `always`."""

PROBE = 4
"""Tokens that are read to measure."""

CLOSE = {torch.float32: 1e-4, torch.bfloat16: 0.03, torch.float16: 0.01}
"""Of the largest logit: what two ways to the same logits may differ by, as sums are rounded in another order."""

LogitChange: TypeAlias = Callable[[Tensor], Tensor]


def find_logit_change(model: Any, name: str, *, always: bool) -> LogitChange | None:
    """Return what turns the output layer's numbers into the base's logits; None if nothing does.

    model   a causal model of transformers
    name    of the base, for the message
    always  measure even if the configuration names no change

    Raises BaseModelError if the base changes them in another way.
    """
    config = model.config.get_text_config()
    if not always and all(getattr(config, key, None) in (None, 1, 1.0) for key in KEYS):
        return None
    ids = torch.arange(PROBE, device=next(model.parameters()).device)[None]
    with torch.no_grad(), use_base():
        expected = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.float()
        states = getattr(model, model.base_model_prefix)(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False
        ).last_hidden_state
        plain = model.get_output_embeddings()(states).float()
    allowed = CLOSE.get(states.dtype, CLOSE[torch.bfloat16]) * float(expected.abs().max())
    factor = float((expected * plain).sum() / plain.square().sum().clamp_min(1e-30))
    candidates: list[LogitChange | None] = [None, lambda logits: logits * factor]
    if cap := getattr(config, "final_logit_softcapping", None):
        candidates.insert(0, lambda logits: cap * torch.tanh(logits / cap))
    for change in candidates:
        if float((expected - (plain if change is None else change(plain))).abs().max()) <= allowed:
            return change
    raise BaseModelError(
        f"base {name}: its logits are not those of its output layer, nor a multiple of them, nor limited by a soft cap, "
        "so label words and answers would be learned with other probabilities than the base computes. Choose another base."
    )
