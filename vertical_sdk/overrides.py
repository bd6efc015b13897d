"""Merge nested settings: `extends` in a recipe, and `--set` on the command line."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from vertical_sdk.errors import RecipeError

__all__ = ["PARTS", "apply_settings", "fill_defaults", "merge_settings"]

PARTS = frozenset({"reader", "deidentify", "split", "loss"})
"""Keys that hold one part. The short form of a part is its name alone."""
PART_LISTS = frozenset({"clean", "augment", "metrics", "baselines"})


def merge_settings(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Add the keys of `above` to `below`. Mappings merge key by key; a part with another name replaces the whole part."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if key in PARTS and isinstance(old, str):
            old = {"use": old}
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not (key in PARTS and _is_another(old, value)):
            merged[key] = merge_settings(old, value)
        else:
            merged[key] = value
    return merged


def _is_another(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the keys of a part name another part."""
    return bool(new.get("use", old.get("use")) != old.get("use"))


def fill_defaults(plain: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Add missing keys from `defaults`, section by section. A part gets no defaults inside."""
    filled = {**copy.deepcopy(dict(defaults)), **plain}
    for key, default in defaults.items():
        given = filled[key]
        if isinstance(default, Mapping) and isinstance(given, Mapping) and key not in PARTS:
            filled[key] = fill_defaults(given, default)
    return filled


def apply_settings(plain: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Set some keys in a copy: "train.learning_rate", "loss.gamma", "data.clean.1.near" (the first of a list is 0).

    Raises RecipeError.
    """
    changed: dict[str, Any] = json.loads(json.dumps(plain))
    for key, value in settings.items():
        *path, last = key.split(".")
        if not all((*path, last)):
            raise RecipeError("write the key as section.key, for example train.learning_rate.", where=f"--set {key}")
        section: Any = changed
        for depth, step in enumerate(path):
            section = _step_into(section, step, key, is_part=step in PARTS or path[max(0, depth - 1)] in PART_LISTS)
        if isinstance(section, list):
            section[_parse_position(section, last, key)] = value
        elif isinstance(section, dict):
            section[last] = value
        else:
            raise RecipeError(f"{'.'.join(path)} = {section!r} has no keys below it.", where=f"--set {key}")
    return changed


def _step_into(section: Any, step: str, key: str, *, is_part: bool) -> Any:
    """Return the value under one step of a dotted key. A missing value is created, the short form of a part is expanded."""
    at: Any = _parse_position(section, step, key) if isinstance(section, list) else step
    if not isinstance(section, dict | list):
        raise RecipeError(f"{section!r} has no keys below it.", where=f"--set {key}")
    value = section[at] if isinstance(section, list) else section.get(at)
    if value is None:
        section[at] = {}
    elif isinstance(value, str) and is_part:
        section[at] = {"use": value}
    return section[at]


def _parse_position(items: list[Any], step: str, key: str) -> int:
    if step.isdecimal() and int(step) < len(items):
        return int(step)
    raise RecipeError(f"{step!r} is not a position in a list of {len(items)} (the first is 0).", where=f"--set {key}")
