"""Records: rows of named fields, and how they are told to a model that reads text.

A record is written as "name: value; name: value", in the order of its fields (in the manner of Dinh et al., LIFT, 2022, and
Hegselmann et al., TabLLM, 2023). Numbers keep three significant digits, which is what a model of words can use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from vertical_sdk.types import Cell, Example

__all__ = ["DIGITS", "as_cell", "as_text", "with_record"]

DIGITS = 3
UNKNOWN = "unknown"


def with_record(example: Example, record: Mapping[str, Cell] | Iterable[tuple[str, Cell]]) -> Example:
    """The example with these fields, and the text that tells them."""
    fields = tuple(record.items()) if isinstance(record, Mapping) else tuple(record)
    return replace(example, record=fields, text=as_text(fields))


def as_text(record: Iterable[tuple[str, Cell]]) -> str:
    """A record in words; a field of which nothing is known says so."""
    return "; ".join(f"{name}: {_value(value)}" for name, value in record)


def as_cell(value: object) -> Cell:
    """What a file has in a field: a number where it is one, a word, or None where it is empty or not a number."""
    if value is None:
        return None
    if isinstance(value, bool | int | float):
        return float(value) if math.isfinite(value) else None
    word = " ".join(str(value).split())
    try:
        number = float(word)
    except ValueError:
        return word or None
    return number if math.isfinite(number) else None


def _value(value: Cell) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return value
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else UNKNOWN
    rounded = round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:.0f}" if abs(rounded) >= 10 ** (DIGITS - 1) else f"{rounded:.10g}"
