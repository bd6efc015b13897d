"""Records: rows of named fields, and the text that a language model reads in their place.

A record is written as "name: value; name: value", in the order of its fields (in the manner of Dinh et al., LIFT, 2022, and
Hegselmann et al., TabLLM, 2023). Numbers keep three significant digits, as a language model has little use for more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vertical_sdk.card import Field
from vertical_sdk.errors import DataError, did_you_mean
from vertical_sdk.types import Cell, Example

__all__ = [
    "DIGITS",
    "build_record_example",
    "find_fields_in_text",
    "format_record",
    "list_record_fields",
    "parse_cell",
    "set_record",
]

DIGITS = 3
UNKNOWN = "unknown"


def set_record(example: Example, record: Mapping[str, Cell] | Iterable[tuple[str, Cell]]) -> Example:
    """Set the record of an example, and write its text from it."""
    fields = tuple(record.items()) if isinstance(record, Mapping) else tuple(record)
    return replace(example, record=fields, text=format_record(fields))


def format_record(record: Iterable[tuple[str, Cell]]) -> str:
    """Write a record as text. The value of an unknown field is "unknown"."""
    return "; ".join(f"{name}: {_format_value(value)}" for name, value in record)


def parse_cell(value: object) -> Cell:
    """Read a field of a file: a number, a word, or None for an empty field and for a number that is not finite."""
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


def find_fields_in_text(example: Example) -> set[str]:
    """Find the fields of a record that its text contains. The set is empty if the text was not written from the record."""
    text = f"; {example.text}"
    in_text = {name for name, _ in example.record if f"; {name}: " in text}
    return in_text if format_record(field for field in example.record if field[0] in in_text) == example.text else set()


def list_record_fields(examples: Sequence[Example]) -> tuple[Field, ...]:
    """List the fields of rows whose text is written from their record; () for other rows.

    The first row decides which fields are in the text. Facts beside a text that was not written from them are not fields.
    """
    if not examples or not examples[0].record:
        return ()
    in_text = find_fields_in_text(examples[0])
    if not in_text:
        return ()
    words = {name for row in examples for name, value in row.record if isinstance(value, str)}
    return tuple(Field(name=name, in_text=name in in_text, words=name in words) for name, _ in examples[0].record)


def build_record_example(given: Mapping[str, object], fields: Sequence[Field], where: str) -> Example:
    """Build an input row from the record that a user gives. Missing fields count as unknown.

    Raises DataError for a field that the specialist does not know, for a word in a field of numbers, and for an empty record.
    """
    names = [field.name for field in fields]
    for name in given:
        if name not in names:
            raise DataError(f"unknown field {name!r}.{did_you_mean(name, names)} It reads {', '.join(names)}.", where=where)
    record = tuple((field.name, parse_cell(given.get(field.name))) for field in fields)
    for field, (name, value) in zip(fields, record, strict=True):
        if isinstance(value, str) and not field.words:
            raise DataError(f"{name} = {value!r} is wrong: it should be a number.", where=where)
    if all(value is None for _, value in record):
        raise DataError(f"no field has a value. It reads {', '.join(names)}.", where=where)
    in_text = {field.name for field in fields if field.in_text}
    return Example(id=where, text=format_record(pair for pair in record if pair[0] in in_text), record=record)


def _format_value(value: Cell) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return value
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else UNKNOWN
    rounded = round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:.0f}" if abs(rounded) >= 10 ** (DIGITS - 1) else f"{rounded:.10g}"
