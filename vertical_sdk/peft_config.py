"""Read adapter_config.json of an adapter that somebody else wrote: only keys and values that are known to be safe.

PEFT runs some of these values: it searches names with patterns as regular expressions, imports classes that are named, and changes the
layers of the base. So a configuration is checked before PEFT sees it, when an adapter is published, imported, unbundled and loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.json_text import parse_json

__all__ = ["ADAPTER_CONFIG", "find_refused", "find_wrong_rank", "parse_config", "select_settings"]

ADAPTER_CONFIG = "adapter_config.json"
LARGEST = 1 << 20
"""Bytes of the largest configuration: one with a rank for each of some hundred layers has some 20 kB."""
HIGHEST_RANK = 16_384
MOST_NAMES = 4096
MOST_SAVED = 64
"""Names in modules_to_save and layers_pattern, which PEFT compares with each module by a pattern."""
_MODULE = r"[A-Za-z0-9_-]{1,100}(?:\.[A-Za-z0-9_-]{1,100}){0,30}"
NAME = re.compile(_MODULE)
"""The name of a module, or its end: "query", "encoder.layer.0.attention.self.query"."""
LORA_TENSOR = re.compile(rf"base_model\.model\.(?P<module>{_MODULE})\.lora_(?P<side>[AB]|embedding_[AB])(?:\.weight)?")
WRITTEN_BEFORE = re.compile(r"\.\*pooler\.\*|\.\*\(pooler\|\\\.\(\?:[0-9|]{0,1000}\)\\\.\)\.\*")
"""The patterns that earlier versions wrote as exclude_modules of their own adapters."""
LIBRARY = re.compile(r"(?:transformers|vertical_sdk)(?:\.[A-Za-z_][A-Za-z0-9_]{0,100}){1,10}")

CHANGES_BASE = ("corda", "loftq", "lora_ga", "mica", "olora", "pissa")
"""Ways to begin (init_lora_weights) that take from the base's own weights what they give the adapter."""
PLAIN = (
    "If only the start was another, save it as plain LoRA: save_pretrained(..., path_initial_model_for_weight_conversion=...)"
)
OTHER_KIND = "it makes more than low-rank weights beside the base's own, which is not supported"
REFUSED: Mapping[str, str] = {
    "alora_invocation_tokens": OTHER_KIND,
    "arrow_config": OTHER_KIND,
    "auto_map": "auto_map names code that comes with it, and such code is never run. Take it out",
    "kasa_config": OTHER_KIND,
    "layer_replication": "it changes the layers of the base, so the adapter would not fit the base that others load",
    "megatron_config": "it imports classes by name, which is not supported",
    "monteclora_config": OTHER_KIND,
    "trainable_token_indices": "it changes the base's own embeddings; target them with LoRA: target_modules: [..., embed_tokens]",
    "use_bdlora": OTHER_KIND,
    "use_qalora": OTHER_KIND,
    "velora_config": OTHER_KIND,
}
"""Keys that no adapter may use, with the reason; a value that is empty or false is allowed."""


def parse_config(content: bytes, where: str | Path) -> dict[str, Any]:
    """Parse adapter_config.json of a LoRA adapter.

    where  the file, for the error

    Raises CorruptAdapter that names the key, if it is not the configuration of a LoRA adapter or uses what is not supported.
    """
    try:
        config = parse_json(content, largest=LARGEST)
    except ValueError as error:
        raise CorruptAdapter(f"cannot be read as JSON: {str(error)[:300]}.", where=where) from None
    if not isinstance(config, dict) or "peft_type" not in config:
        what = "a JSON object" if not isinstance(config, dict) else "one: it has no peft_type"
        raise CorruptAdapter(f"is not {what}, so it is not a PEFT configuration.", where=where)
    if config["peft_type"] != "LORA":
        kind = repr(config["peft_type"])[:80]
        raise CorruptAdapter(f"peft_type is {kind}; only LORA adapters can be published, imported or loaded.", where=where)
    active = {key: value for key, value in config.items() if not _is_inactive(value)}
    problem = find_refused(active) or next(filter(None, (_find_problem(key, value) for key, value in config.items())), None)
    if problem and problem.startswith("init_lora_weights"):
        problem += f". {PLAIN}"
    if problem:
        raise CorruptAdapter(f"{problem}.", where=where)
    return config


def select_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a parsed configuration that say what a trained adapter computes, for peft.LoraConfig."""
    return {key: config[key] for key in COMPUTES if config.get(key) is not None}


def find_refused(settings: Mapping[str, Any]) -> str | None:
    """Find a setting that no adapter may have: "KEY = VALUE: REASON"; None if all are allowed."""
    begun = settings.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(CHANGES_BASE):
        return (
            f"init_lora_weights = {_show(begun)}: it changes the base's own weights, so the adapter would not fit the base that others "
            "load"
        )
    bias = settings.get("bias", "none")
    if bias != "none":
        return f"bias = {_show(bias)}: it changes the base's own biases, so the adapter would not fit the base that others load"
    key = next((key for key in REFUSED if settings.get(key) not in (None, False)), None)
    return f"{key} = {_show(settings[key])}: {REFUSED[key]}" if key else None


def find_wrong_rank(config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> str | None:
    """Find a tensor of which the shape is not that of the rank in a parsed configuration, and describe it; None if all fit.

    shapes  name → shape of each tensor
    """
    if config.get("target_parameters"):
        return None  # the tensors of several experts are joined in one
    patterns = {key: (place, rank) for place, (key, rank) in enumerate((config.get("rank_pattern") or {}).items())}
    default = (len(patterns), config.get("r", 8))
    for name, shape in shapes.items():
        found = LORA_TENSOR.fullmatch(name)
        if found is None:
            continue
        parts = found["module"].split(".")
        named = (f"^{found['module']}", *(".".join(parts[start:]) for start in range(len(parts))))
        _, rank = min(
            (patterns[key] for key in named if key in patterns), default=default
        )  # as in PEFT, the first that matches
        axis = 0 if found["side"].endswith("A") else 1
        if len(shape) <= axis or shape[axis] != rank:
            return f"{name} has shape {tuple(shape)}, and {ADAPTER_CONFIG} gives it the rank {rank}"
    return None


def _find_problem(key: str, value: Any) -> str | None:
    """What is wrong with one key: "KEY = VALUE: it should be ..."; None if it may be used."""
    if key == "auto_mapping":
        return _find_foreign_class(value)
    check, expected = VALUES.get(key, (_is_inactive, None))
    if check(value):
        return None
    if expected is None:
        return f"{key} = {_show(value)}: this setting is not supported. Only an empty value is read"
    return f"{key} = {_show(value)}: it should be {expected}"


def _find_foreign_class(value: Any) -> str | None:
    """What is wrong with auto_mapping, by which PEFT imports the class of the base."""
    if not value and _is_inactive(value):
        return None
    if isinstance(value, dict):
        library, name = value.get("parent_library", ""), value.get("base_model_class", "")
        others = {key: item for key, item in value.items() if key not in {"parent_library", "base_model_class"}}
        plain = all(isinstance(item, bool) or item is None for item in others.values())
        if (
            _is_text(library)
            and LIBRARY.fullmatch(str(library))
            and _is_text(name)
            and (not name or name.isidentifier())
            and plain
        ):
            return None
    return f"auto_mapping names a module to import that is neither of transformers nor of vertical_sdk: {_show(value)}. Take it out"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"


def _is_inactive(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, str | list | dict) and not value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 1000 and value.isprintable()


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= HIGHEST_RANK


def _is_alpha(value: Any) -> bool:
    return _is_number(value) and 0 < value <= 1e6


def _is_layer(value: Any) -> bool:
    return type(value) is int and 0 <= value < 100_000


def _are_names(value: Any, most: int = MOST_NAMES) -> bool:
    return isinstance(value, list) and len(value) <= most and all(map(_is_name, value))


def _by_name(value: Any, allowed: Callable[[Any], bool]) -> bool:
    if not isinstance(value, dict) or len(value) > MOST_NAMES:
        return False
    return all(_is_name(key.removeprefix("^")) and allowed(item) for key, item in value.items())


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _is_flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


FLAG = (_is_flag, "true or false")
TEXT = (_or_none(_is_text), "a short text")
NAMES = "a list of names of modules, such as query; a regular expression is not read"
VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "task_type": TEXT,
    "peft_type": TEXT,
    "peft_version": TEXT,
    "base_model_name_or_path": TEXT,
    "revision": TEXT,
    "inference_mode": FLAG,
    "r": (_is_rank, f"a whole number from 1 to {HIGHEST_RANK}"),
    "lora_alpha": (_is_alpha, "a number above 0, at most 1000000"),
    "lora_dropout": (lambda value: _is_number(value) and 0 <= value < 1, "at least 0 and less than 1"),
    "fan_in_fan_out": FLAG,
    "bias": TEXT,
    "use_rslora": FLAG,
    "use_dora": FLAG,
    "lora_bias": FLAG,
    "ensure_weight_tying": FLAG,
    "init_lora_weights": (
        lambda value: _is_flag(value) or value in ("gaussian", "orthogonal", "eva"),
        "true, false, gaussian, orthogonal or eva",
    ),
    "target_modules": (_or_none(_are_names), NAMES),
    "exclude_modules": (
        lambda value: (
            _is_inactive(value) or _are_names(value) or (isinstance(value, str) and WRITTEN_BEFORE.fullmatch(value) is not None)
        ),
        NAMES,
    ),
    "target_parameters": (_or_none(_are_names), "a list of names of parameters"),
    "modules_to_save": (_or_none(lambda value: _are_names(value, MOST_SAVED)), f"{NAMES}, at most {MOST_SAVED}"),
    "layers_pattern": (
        lambda value: _is_inactive(value) or _is_name(value) or _are_names(value, MOST_SAVED),
        "the name of the list of layers, such as layers; a regular expression is not read",
    ),
    "layers_to_transform": (
        lambda value: (
            value is None
            or _is_layer(value)
            or (isinstance(value, list) and len(value) <= MOST_NAMES and all(map(_is_layer, value)))
        ),
        "numbers of layers",
    ),
    "rank_pattern": (_or_none(lambda value: _by_name(value, _is_rank)), "a rank by the name of the module"),
    "alpha_pattern": (_or_none(lambda value: _by_name(value, _is_alpha)), "a number above 0 by the name of the module"),
    "eva_config": (_or_none(lambda value: isinstance(value, dict)), "an object"),  # it only chose the first weights
    "megatron_core": (lambda value: value in (None, "megatron.core"), "megatron.core"),
    "qalora_group_size": (_or_none(_is_rank), "a whole number"),
}
"""Each key that may have a value, with its check and what it should be. Any other key must be null, false or empty."""
COMPUTES = (
    "task_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "fan_in_fan_out",
    "use_rslora",
    "use_dora",
    "lora_bias",
    "ensure_weight_tying",
    "target_modules",
    "exclude_modules",
    "target_parameters",
    "modules_to_save",
    "layers_pattern",
    "layers_to_transform",
    "rank_pattern",
    "alpha_pattern",
)
"""What decides, together with the tensors, what a trained adapter computes; the other keys describe it or how it was trained."""
