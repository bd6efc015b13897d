"""Shared by the readers of this vertical: collect rows with text and label, and parse cells as text or numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from vertical_sdk.catalog import readers
from vertical_sdk.cells import is_empty, is_missing, plain_value
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.numbers import parse_number
from vertical_sdk.data.read import Missing
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example, TaskName

__all__ = ["Missing", "cell_text", "collect_complete_rows", "parse_cell_number", "require_task"]


def collect_complete_rows(
    rows: Iterable[tuple[str, Example]], path: Path, missing: Missing
) -> tuple[tuple[Example, ...], StepAccount]:
    """Collect rows with text and label. Other rows are dropped and counted, refused, or kept unchanged, as `missing` says.

    rows  the place of each row, for messages, and the row

    Raises DataError for a refused row, or if no row is left.
    """
    tally = Tally("read")
    complete = []
    count = 0
    for where, example in rows:
        count += 1
        lacks = "no text" if not example.text.strip() else "no label" if example.target is None else None
        if lacks and missing == "refuse":
            raise DataError(f"{lacks}. Every row of this source needs text and label.", where=where)
        if lacks and missing == "drop":
            tally.drop(example.id, lacks)
        else:
            complete.append(example)
    account = tally.close(count, len(complete))
    if not complete:
        raise DataError(f"none of its {count} rows can be used: {dict(account.dropped)}.", where=path)
    return tuple(complete), account


def require_task(reader: str, columns: Mapping[str, str], task: TaskName) -> None:
    """Raise RecipeError if data.columns is set, which a reader of a fixed layout does not take, or for an unsupported task."""
    if columns:
        raise RecipeError(f"{reader} reads a fixed layout. Leave data.columns out.")
    readers.require(reader, task, "data.reader")


def cell_text(cell: object) -> str:
    """A cell as text without surrounding white space; "" if it is empty or NaN."""
    return "" if is_empty(cell) else str(plain_value(cell)).strip()


def parse_cell_number(cell: object, where: str, column: str) -> float | None:
    """Parse a cell as a number; None if it is missing or "?".

    Raises DataError for anything else.
    """
    text = cell_text(cell)
    if text == "?" or is_missing(text):
        return None
    return parse_number(text, where, column)
