"""Which settings of peft.LoraConfig a recipe may have, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vertical_sdk.peft_config import find_refused

__all__ = ["find_refused_in_recipe"]

OTHER_START = "it serves only an init_lora_weights that is not supported"
REFUSED_IN_RECIPES: Mapping[str, str] = {
    "corda_config": OTHER_START,
    "eva_config": OTHER_START,
    "fan_in_fan_out": "PEFT finds it from the kind of each layer",
    "lora_bias": "other programs that load LoRA do not read biases of the low-rank weights",
    "lora_ga_config": OTHER_START,
    "loftq_config": OTHER_START,
    "megatron_core": "it serves only megatron_config, which is not supported",
    "peft_version": "PEFT writes it",
    "qalora_group_size": "it serves only use_qalora, which is not supported",
    "runtime_config": "it is not part of a saved adapter",
}
"""Keys that a saved configuration may have, but a recipe does not set."""


def find_refused_in_recipe(settings: Mapping[str, Any]) -> str | None:
    """Find a setting that the `adapter` of a recipe may not have: "KEY = VALUE: REASON"; None if all are allowed."""
    if refused := find_refused(settings):
        return refused
    if key := next((key for key in REFUSED_IN_RECIPES if key in settings), None):
        return f"{key} = {settings[key]!r}: {REFUSED_IN_RECIPES[key]}"
    if settings.get("init_lora_weights") == "eva":
        return "init_lora_weights = 'eva': it needs rows before training starts, which is not supported"
    if settings.get("lora_alpha") == 0:
        return "lora_alpha = 0: the adapter would change nothing"
    dropout = settings.get("lora_dropout", 0.0)
    if isinstance(dropout, int | float) and not 0 <= dropout < 1:
        return f"lora_dropout = {dropout!r}: it should be at least 0 and less than 1"
    return None
