"""Which settings of peft.LoraConfig an adapter may have here, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["find_refused", "find_refused_in_recipe"]

CHANGES_BASE = ("corda", "loftq", "lora_ga", "mica", "olora", "pissa")
"""Ways to begin (init_lora_weights) that take from the base's own weights what they give the adapter."""
OTHER_START = "it serves only an init_lora_weights that is not supported"
OTHER_KIND = "it makes more than low-rank weights beside the base's own, which is not supported"
REFUSED: Mapping[str, str] = {
    "alora_invocation_tokens": OTHER_KIND,
    "arrow_config": OTHER_KIND,
    "kasa_config": OTHER_KIND,
    "layer_replication": "it changes the layers of the base, so the adapter would not fit the base that others load",
    "megatron_config": "it imports classes by name, which is not supported",
    "monteclora_config": OTHER_KIND,
    "trainable_token_indices": "it changes the base's own embeddings; target them with LoRA: target_modules: [..., embed_tokens]",
    "use_bdlora": OTHER_KIND,
    "use_qalora": OTHER_KIND,
    "velora_config": OTHER_KIND,
}
"""Keys of any adapter, with the reason; a value that is empty or false is allowed."""
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


def find_refused(settings: Mapping[str, Any]) -> str | None:
    """Find a setting that no adapter may have: "KEY = VALUE: REASON"; None if all are allowed."""
    begun = settings.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(CHANGES_BASE):
        return f"init_lora_weights = {begun!r}: it changes the base's own weights, so the adapter would not fit the base that others load"
    bias = settings.get("bias", "none")
    if bias != "none":
        return f"bias = {bias!r}: it changes the base's own biases, so the adapter would not fit the base that others load"
    key = next((key for key in REFUSED if settings.get(key) not in (None, False)), None)
    return f"{key} = {settings[key]!r}: {REFUSED[key]}" if key else None


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
