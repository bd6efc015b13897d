"""Which layers of a base an adapter is for, and with which rank: read from its configuration by PEFT's own rules, once for each base."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from vertical_sdk.families.low_rank import AdaptedModel, LowRank, has_plain_structure
from vertical_sdk.peft_config import select_settings

__all__ = ["adapt", "keep_known_names", "plan_layers"]

MOST_UNKNOWN = 8
"""Names that are left for the error if a base has none of them."""
OTHER_KINDS = ("ensure_weight_tying", "fan_in_fan_out", "lora_bias", "modules_to_save", "target_parameters", "use_dora")
"""Settings that only PEFT computes."""
MOST_PLANS = 256

Plan = Mapping[str, tuple[int, int, int, float]]
"""The name of each linear layer → rank, inputs, outputs and scale of its part."""

_plans: WeakKeyDictionary[nn.Module, dict[str, Plan | None]] = WeakKeyDictionary()


def adapt(model: nn.Module, settings: Mapping[str, Any], weights: Mapping[str, Any]) -> AdaptedModel | None:
    """Attach plain LoRA on linear layers without PEFT.

    settings  a configuration from `parse_config`
    weights   the adapter's tensors, by PEFT's names
    returns   None if the adapter is of another kind, or its tensors are not exactly those that the configuration asks of the base
    """
    known = _plans.setdefault(model, {})
    key = json.dumps(select_settings(settings), sort_keys=True)
    if key not in known:
        if len(known) >= MOST_PLANS:
            known.clear()
        known[key] = plan_layers(model, settings)
    plan = known[key]
    if plan is None or len(weights) != 2 * len(plan):
        return None
    tensors = {}
    for name, (rank, inputs, outputs, scale) in plan.items():
        down, up = (weights.get(f"base_model.model.{name}.lora_{side}.weight") for side in "AB")
        if down is None or up is None or down.shape != (rank, inputs) or up.shape != (outputs, rank):
            return None
        tensors[name] = (down, up, scale)
    return AdaptedModel(model, plan, LowRank.from_tensors(tensors, next(model.parameters()).device))


def plan_layers(model: nn.Module, settings: Mapping[str, Any]) -> Plan | None:
    """List the layers that PEFT would change, with rank, sizes and scale.

    returns  None if the configuration is not plain LoRA, PEFT refuses it, or a layer is not a linear one
    """
    import peft
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    chosen = select_settings(settings)
    if not isinstance(chosen.get("target_modules"), list) or any(chosen.get(key) for key in OTHER_KINDS):
        return None
    try:
        config: Any = peft.LoraConfig(**keep_known_names(chosen, model), inference_mode=True, init_lora_weights=False)
        names = [name for name, _ in model.named_modules() if name and check_target_module_exists(config, name)]
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError):
        return None  # PEFT's own attempt gives the error
    if not names or any(type(model.get_submodule(name)) is not nn.Linear for name in names) or not has_plain_structure(model):
        return None
    plan = {}
    for name in names:
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), name), config.r)
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), name), config.lora_alpha)
        linear: Any = model.get_submodule(name)
        plan[name] = rank, linear.in_features, linear.out_features, alpha / (math.sqrt(rank) if config.use_rslora else rank)
    return plan


def keep_known_names(settings: dict[str, Any], model: Any) -> dict[str, Any]:
    """Leave out the names of a configuration that change nothing for this base.

    PEFT compares each name with all modules and with the other names, and compiles an expression for each pattern and module: with
    thousands of names that takes minutes.
    """
    modules = [name.split(".") for name, _ in model.named_modules() if name]
    endings = [[".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)] for parts in modules]  # the shortest first
    kept = dict(settings)
    for key in ("target_modules", "exclude_modules"):
        if isinstance(names := kept.get(key), list):
            given = set(names)
            first = {next((ending for ending in group if ending in given), None) for group in endings}
            kept[key] = sorted(first - {None}) or names[:MOST_UNKNOWN]
    for key in ("rank_pattern", "alpha_pattern"):
        place = {name: n for n, name in enumerate(kept.get(key, {}))}
        if place:
            found = [[name for name in (*group, f"^{group[-1]}") if name in place] for group in endings]
            used = {min(names, key=place.__getitem__) for names in found if names}
            kept[key] = {name: value for name, value in kept[key].items() if name in used}
    return kept
