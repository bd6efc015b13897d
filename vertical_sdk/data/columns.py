"""One typed reading of every column: its kind is decided once, over the whole column, and applied to each of its cells.

The kind of a field is kept in the card, so a file, a record and a row of a DataFrame are later read as the training rows were.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal

from vertical_sdk.card import FieldKind
from vertical_sdk.cells import MISSING_WORDS, clean_text, is_missing, plain_text, plain_value, to_number
from vertical_sdk.errors import DataError
from vertical_sdk.types import Cell

__all__ = ["KINDS", "infer_kind", "parse_field", "parse_times"]

KINDS: dict[FieldKind, str] = {
    "words": "words",
    "truth": "true or false",
    "whole": "whole numbers",
    "numbers": "numbers, written to three digits",
    "mixed": "numbers and words",
}
"""Kind → what people read."""
EXACT = 1 << 53
"""Whole numbers below it are exact as floats."""
LARGEST_TIME = 10**15
_CODE = re.compile(r"[+-]?0\d+|\d+[eE]\d+")
"""Digits that are a code and not a number: with zeros in front, or "12E4" without the sign that programs write in an exponent."""
_TRUTH = ("true", "false")
_DAY = re.compile(r"\d{4}(-\d\d){0,2}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d.*")


def infer_kind(cells: Iterable[object], words: Collection[str] = MISSING_WORDS) -> FieldKind:
    """Decide the kind of a column by all of its cells; missing ones do not count.

    A column is of numbers only if every cell is one. Codes ("007", "12E4") and whole numbers too large to be exact are words.
    """
    present = [plain_value(cell) for cell in cells if not is_missing(cell, words)]
    if not present:
        return "words"
    if all(isinstance(cell, bool) or (isinstance(cell, str) and clean_text(cell).lower() in _TRUTH) for cell in present):
        return "truth"
    numbers = [_read_plain_number(cell) for cell in present]
    if any(number is None for number in numbers):
        return "words"
    known = [number for number in numbers if number is not None]
    if any(abs(number) >= EXACT for number in known) and all(_is_digits(cell) for cell in present):
        return "words"
    return "whole" if all(math.isinf(number) or number.is_integer() for number in known) else "numbers"


def parse_field(cell: object, kind: FieldKind, words: Collection[str] = MISSING_WORDS) -> Cell:
    """Read a cell of a column of this kind: words, an int in a column of whole numbers, a float in one of numbers; None if missing.

    Raises ValueError, which says what the cell should be.
    """
    if isinstance(cell, dict | list | tuple | set | bytes):
        raise ValueError(f"is a {type(cell).__name__}; it should be a word or a number")
    if is_missing(cell, words):
        return None
    value = plain_value(cell)
    if kind == "truth":
        return _parse_truth(value)
    number = None if kind == "words" else to_number(clean_text(value) if isinstance(value, str) else value)
    if number is None:
        if kind in {"whole", "numbers"}:
            raise ValueError("should be a number")
        return plain_text(value)
    if not math.isfinite(number):
        raise ValueError("is not a finite number")
    return int(number) if kind == "whole" and number.is_integer() else number


def parse_times(cells: Sequence[object], places: Sequence[str], words: Collection[str] = MISSING_WORDS) -> list[str | None]:
    """Read a column of times as strings that sort: ISO 8601 (in UTC if they have a zone), or numbers padded with zeros.

    places  file and line of each cell, for messages

    What a cell means is decided for the whole column: if all cells are numbers, they are numbers, and 2015 is not a year among
    steps. Raises DataError for a cell that does not sort, and for a column that mixes numbers with dates, or times with a zone with
    times without one.
    """
    known = [(index, plain_value(cell)) for index, cell in enumerate(cells) if not is_missing(cell, words)]
    times: list[str | None] = [None] * len(cells)
    numbers = [None if isinstance(cell, bool | date) else to_number(cell) for _, cell in known]
    if all(number is not None for number in numbers):
        for (index, cell), number in zip(known, numbers, strict=True):
            if number is None or not 0 <= number < LARGEST_TIME * 10**6:
                raise DataError(f"the time {cell!r} is not a number from 0, so it does not sort.", where=places[index])
            times[index] = f"{Decimal(str(cell).strip()):032.9f}"
        return times
    zoned: dict[bool, int] = {}
    for index, cell in known:
        moment, text = _parse_moment(cell, places[index])
        times[index] = text
        zone = moment is not None and moment.tzinfo is not None
        zoned.setdefault(zone, index)
        if len(zoned) == 2:
            with_zone, without = zoned[True], zoned[False]
            raise DataError(
                f"the time {cells[with_zone]!r} has a zone, and {cells[without]!r} ({places[without]}) has none, so they do not sort. "
                "Write all times of a column with a zone, or all without.",
                where=places[with_zone],
            )
    return times


def _parse_moment(cell: object, place: str) -> tuple[datetime | None, str]:
    """Read one time that is not a number: the moment if it has an hour, and a text that sorts."""
    text = clean_text(str(cell))
    try:
        if isinstance(cell, datetime) or _MOMENT.fullmatch(text):
            moment = cell if isinstance(cell, datetime) else datetime.fromisoformat(text.replace("Z", "+00:00"))
            plain = moment if moment.tzinfo is None else moment.astimezone(timezone.utc).replace(tzinfo=None)
            return moment, plain.isoformat()
        if isinstance(cell, date) or _DAY.fullmatch(text):
            date.fromisoformat(text + "-01-01"[len(text) - 4 :])
            return None, text
    except (ValueError, OverflowError):
        pass
    raise DataError(
        f"the time {text[:40]!r} is not a date or time in ISO 8601, so it does not sort. Write it as 2026-03-04 or 2026-03-04T10:00.",
        where=place,
    )


def _parse_truth(value: object) -> str:
    word = clean_text(str(value)).lower()
    number = to_number(word)
    if number in {0, 1}:
        return "true" if number else "false"
    if word not in _TRUTH:
        raise ValueError("should be true or false")
    return word


def _read_plain_number(cell: object) -> float | None:
    """Read a cell as a number; None for a word, a code and a truth."""
    if isinstance(cell, bool):
        return None
    if isinstance(cell, str) and _CODE.fullmatch(clean_text(cell)):
        return None
    return (
        to_number(clean_text(cell) if isinstance(cell, str) else cell)
        if isinstance(cell, str | int | float | Decimal)
        else None
    )


def _is_digits(cell: object) -> bool:
    return isinstance(cell, int) or clean_text(str(cell)).lstrip("+-").isdigit()
