"""What the readers of this vertical share: which rows are kept, and cells that must be numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.numbers import parse_number
from vertical_sdk.data.read import Missing
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example, Task

__all__ = ["Missing", "cell_text", "collect_complete_rows", "parse_cell_number", "require_task"]


def collect_complete_rows(
    rows: Iterable[tuple[str, Example]], path: Path, missing: Missing
) -> tuple[tuple[Example, ...], StepAccount]:
    """Rows with text and label; others are dropped and counted, refused, or kept as they are.

    rows  where each stands, for messages, and the row

    Raises DataError for a refused row, and where no row is left.
    """
    tally = Tally("read")
    kept = []
    count = 0
    for where, example in rows:
        count += 1
        lacks = "no text" if not example.text.strip() else "no label" if example.target is None else None
        if lacks and missing == "refuse":
            raise DataError(f"{where}: {lacks}. Here every row needs both text and label.")
        if lacks and missing == "drop":
            tally.drop(example.id, lacks)
        else:
            kept.append(example)
    account = tally.close(count, len(kept))
    if not kept:
        raise DataError(f"{path}: none of its {count} rows can be used: {dict(account.dropped)}.")
    return tuple(kept), account


def require_task(reader: str, columns: Mapping[str, str], task: Task, tasks: tuple[Task, ...]) -> None:
    """Raise RecipeError where a reader that knows its columns is given some, or is asked for another task."""
    if columns:
        raise RecipeError(f"{reader}: knows its columns; leave data.columns out.")
    if task not in tasks:
        raise RecipeError(f"{reader}: its rows are for {' and '.join(tasks)}, not for {task}.")


def cell_text(cell: object) -> str:
    """A cell as text without white space around it; nothing where it is empty or not a number."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip()


def parse_cell_number(cell: object, where: str, column: str) -> float | None:
    """A cell as a number; None where it is empty, "?", NA or NaN.

    Raises DataError for anything else.
    """
    text = cell_text(cell)
    if text.lower() in {"", "?", "na", "nan", "null"}:
        return None
    return parse_number(text, where, column)
