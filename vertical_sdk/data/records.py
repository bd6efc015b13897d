"""Records: rows of named fields, and how they are told to a model that reads text.

A record is written as "name: value; name: value", in the order of its fields (in the manner of Dinh et al., LIFT, 2022, and
Hegselmann et al., TabLLM, 2023). Numbers keep three significant digits, which is what a model of words can use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vertical_sdk.card import Field
from vertical_sdk.errors import DataError, did_you_mean
from vertical_sdk.types import Cell, Example

__all__ = ["DIGITS", "as_cell", "as_text", "from_fields", "told_fields", "told_names", "with_record"]

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


def told_names(example: Example) -> set[str]:
    """The fields of a row's record that its text tells; none where the text is not what they say."""
    before = f"; {example.text}"
    told = {name for name, _ in example.record if f"; {name}: " in before}
    return told if as_text(field for field in example.record if field[0] in told) == example.text else set()


def told_fields(examples: Sequence[Example]) -> tuple[Field, ...]:
    """The fields of rows whose text is written from their record; none where it is not.

    A field is told where the first row's text has it; facts beside a text of its own are no fields.
    """
    if not examples or not examples[0].record:
        return ()
    told = told_names(examples[0])
    if not told:
        return ()
    words = {name for row in examples for name, value in row.record if isinstance(value, str)}
    return tuple(Field(name=name, in_text=name in told, words=name in words) for name, _ in examples[0].record)


def from_fields(given: Mapping[str, object], fields: Sequence[Field], where: str) -> Example:
    """A record that a user gives, as a row to be asked about; fields that are left out count as not known.

    Raises DataError for a field that the specialist does not know, a word where a number is read, or nothing at all.
    """
    names = [field.name for field in fields]
    for name in given:
        if name not in names:
            raise DataError(f"{where}: unknown field {name!r}.{did_you_mean(name, names)} It reads {', '.join(names)}.")
    record = tuple((field.name, as_cell(given.get(field.name))) for field in fields)
    for field, (name, value) in zip(fields, record, strict=True):
        if isinstance(value, str) and not field.words:
            raise DataError(f"{where}: {name} = {value!r} is wrong: it should be a number.")
    if all(value is None for _, value in record):
        raise DataError(f"{where}: has no value in any field. It reads {', '.join(names)}.")
    told = {field.name for field in fields if field.in_text}
    return Example(id=where, text=as_text(pair for pair in record if pair[0] in told), record=record)


def _value(value: Cell) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return value
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else UNKNOWN
    rounded = round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:.0f}" if abs(rounded) >= 10 ** (DIGITS - 1) else f"{rounded:.10g}"
