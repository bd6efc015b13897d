"""Read JSON that somebody else wrote: bounded in size and depth, with finite numbers only."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["DEEPEST", "LARGEST", "parse_json"]

LARGEST = 8 << 20
"""The largest document, in bytes: a card has some 100 kB."""
DEEPEST = 64
"""The most lists and objects inside each other: a card has about ten."""


def parse_json(content: bytes | str, *, largest: int = LARGEST) -> Any:
    """Parse a JSON document.

    largest  the most bytes (characters of a str)

    Raises ValueError with the reason: not JSON, not UTF-8, too large, nested too deep, a key repeated in an object, or a number that
    is not finite (NaN, Infinity, 1e999).
    """
    if len(content) > largest:
        raise ValueError(f"it has {len(content)} bytes, and at most {largest} are read")
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    try:
        document = json.loads(text, parse_constant=_refuse_number, parse_float=_parse_float, object_pairs_hook=_build_object)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None
    if text.count("[") + text.count("{") > DEEPEST and _is_deeper(document, DEEPEST):
        raise ValueError(f"it is nested more than {DEEPEST} levels deep")
    return document


def _refuse_number(text: str) -> float:
    raise ValueError(f"{text} is not a finite number")


def _parse_float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text[:40])


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key, value in pairs:
        if key in built:
            raise ValueError(f"the key {key[:80]!r} is repeated")
        built[key] = value
    return built


def _is_deeper(document: Any, levels: int) -> bool:
    """Whether lists and objects are nested in more than so many levels."""
    level = [document]
    for _ in range(levels):
        level = [one for one in level if isinstance(one, dict | list)]
        level = [item for one in level for item in (one.values() if isinstance(one, dict) else one)]
    return any(isinstance(one, dict | list) for one in level)
