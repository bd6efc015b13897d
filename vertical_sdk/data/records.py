"""Records: rows of named fields, and the text that a language model reads in their place.

A record is written as "name: value; name: value", in the order of its fields (in the manner of Dinh et al., LIFT, 2022, and
Hegselmann et al., TabLLM, 2023). Whole numbers of a column of whole numbers (years, ZIP codes) keep all their digits. Measurements
keep three significant digits, as a language model has little use for more; `count_rounded` says how many values that changes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from vertical_sdk.card import Contract, Field, FieldKind
from vertical_sdk.data.columns import parse_field
from vertical_sdk.errors import DataError, did_you_mean
from vertical_sdk.types import Cell, Example

__all__ = [
    "DIGITS",
    "build_record_example",
    "count_rounded",
    "find_fields_in_text",
    "format_record",
    "list_record_fields",
    "parse_cell",
    "set_record",
    "write_record",
]

DIGITS = 3
UNKNOWN = "unknown"


def set_record(example: Example, record: Mapping[str, Cell] | Iterable[tuple[str, Cell]]) -> Example:
    """Set the record of an example, and write its text from it."""
    fields = tuple(record.items()) if isinstance(record, Mapping) else tuple(record)
    return replace(example, record=fields, text=format_record(fields))


def format_record(record: Iterable[tuple[str, Cell]]) -> str:
    """Write a record as text: an int with all digits, a float to three. The value of an unknown field is "unknown"."""
    return "; ".join(f"{name}: {_format_value(value)}" for name, value in record)


def parse_cell(value: object) -> Cell:
    """Read a field of unknown kind: a number, a word, or None for a missing field.

    Raises ValueError for a number that is not finite.
    """
    return parse_field(value, "mixed")


def count_rounded(examples: Sequence[Example]) -> dict[str, tuple[int, int]]:
    """Count the values that the text of a record does not tell exactly: field → (changed values, different values that look alike).

    The second number is how many fewer different values a reader of the text sees.
    """
    values: dict[str, list[float]] = {}
    told = next((find_fields_in_text(example) for example in examples if example.record), set())
    for example in examples:
        for name, value in example.record:
            if name in told and isinstance(value, float):
                values.setdefault(name, []).append(value)
    counts: dict[str, tuple[int, int]] = {}
    for name, column in values.items():
        changed = sum(float(_format_value(value)) != value for value in column)
        if changed:
            counts[name] = changed, len(set(column)) - len({_format_value(value) for value in column})
    return counts


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
    types: dict[str, set[type]] = {}
    for row in examples:
        for name, value in row.record:
            if value is not None:
                types.setdefault(name, set()).add(type(value))
    return tuple(
        Field(name=name, in_text=name in in_text, kind=_name_kind(types.get(name, set()))) for name, _ in examples[0].record
    )


def build_record_example(given: Mapping[str, object], contract: Contract, where: str) -> Example:
    """Build an input row from a record: of a user, of a line of a file, or of another specialist. Missing fields count as unknown.

    Raises DataError for a field that the specialist does not know, for a value of another kind than in training, and for a record
    without any value.
    """
    names = [field.name for field in contract.fields]
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names) if isinstance(name, str) else ""
            raise DataError(f"unknown field {name!r}.{hint} It reads {', '.join(names)}.", where=where)
    record = []
    for field in contract.fields:
        value = given.get(field.name)
        try:
            record.append((field.name, parse_field(value, field.kind, contract.missing_words)))
        except ValueError as error:
            raise DataError(f"{field.name} = {_shorten(value)} is wrong: it {error}.", where=where) from None
    if all(value is None for _, value in record):
        raise DataError(f"no field has a value. It reads {', '.join(names)}.", where=where)
    return write_record(Example(id=where), record, contract.fields)


def write_record(example: Example, record: Sequence[tuple[str, Cell]], fields: Sequence[Field]) -> Example:
    """Set the record of an example, and write its text from the fields that the text contains."""
    kinds = {field.name: field.kind for field in fields if field.in_text}
    text = "; ".join(f"{name}: {_format_value(value, kinds[name])}" for name, value in record if name in kinds)
    return replace(example, text=text, record=tuple(record))


def _name_kind(types: Collection[type]) -> FieldKind:
    if str not in types:
        return "whole" if types == {int} else "numbers"
    return "words" if types == {str} else "mixed"


def _shorten(value: object) -> str:
    try:
        shown = repr(value)
    except ValueError:  # an int of thousands of digits
        return f"a {type(value).__name__}"
    return shown if len(shown) <= 60 else f"{shown[:59]}…"


def _format_value(value: Cell, kind: FieldKind = "numbers") -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, str | int):
        return str(value)
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else UNKNOWN
    if kind == "whole":
        return f"{value:.15g}"
    rounded = round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:.0f}" if abs(rounded) >= 10 ** (DIGITS - 1) else f"{rounded:.10g}"
