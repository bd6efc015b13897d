"""Plain nested data over plain nested data: `extends` in a recipe, and `--set` on the command line."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from vertical_sdk.errors import RecipeError

__all__ = ["PARTS", "apply_settings", "fill_defaults", "merge_settings"]

PARTS = frozenset({"reader", "deidentify", "split", "loss"})
"""Keys that hold one part, whose short form is its name alone."""
PART_LISTS = frozenset({"clean", "augment", "metrics", "baselines"})


def merge_settings(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with the keys of `above`. Mappings merge key by key; a part with another name replaces the whole part."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if key in PARTS and isinstance(old, str):
            old = {"use": old}
        if isinstance(old, Mapping) and isinstance(value, Mapping) and value.get("use", old.get("use")) == old.get("use"):
            merged[key] = merge_settings(old, value)
        else:
            merged[key] = value
    return merged


def fill_defaults(plain: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`plain` with the keys that it lacks, section by section; a part is never half filled."""
    filled = {**copy.deepcopy(dict(defaults)), **plain}
    for key, default in defaults.items():
        given = filled[key]
        if isinstance(default, Mapping) and isinstance(given, Mapping) and key not in PARTS:
            filled[key] = fill_defaults(given, default)
    return filled


def apply_settings(plain: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with some keys set: "train.learning_rate", "loss.gamma", "data.clean.1.near" (the first of a list is 0).

    Raises RecipeError.
    """
    changed: dict[str, Any] = json.loads(json.dumps(plain))
    for key, value in settings.items():
        *path, last = key.split(".")
        if not all((*path, last)):
            raise RecipeError(f"--set {key}: write the key as section.key, for example train.learning_rate.")
        here: Any = changed
        for depth, step in enumerate(path):
            here = _step_into(here, step, key, is_part=step in PARTS or path[max(0, depth - 1)] in PART_LISTS)
        if isinstance(here, list):
            here[_parse_position(here, last, key)] = value
        elif isinstance(here, dict):
            here[last] = value
        else:
            raise RecipeError(f"--set {key}: {'.'.join(path)} = {here!r} has no keys below it.")
    return changed


def _step_into(here: Any, step: str, key: str, *, is_part: bool) -> Any:
    """The value under one step of a dotted key; made where there is none, and a part's short form written in full."""
    at: Any = _parse_position(here, step, key) if isinstance(here, list) else step
    if not isinstance(here, dict | list):
        raise RecipeError(f"--set {key}: {here!r} has no keys below it.")
    value = here[at] if isinstance(here, list) else here.get(at)
    if value is None:
        here[at] = {}
    elif isinstance(value, str) and is_part:
        here[at] = {"use": value}
    return here[at]


def _parse_position(items: list[Any], step: str, key: str) -> int:
    if step.isdecimal() and int(step) < len(items):
        return int(step)
    raise RecipeError(f"--set {key}: {step!r} is no position in a list of {len(items)} (the first is 0).")
