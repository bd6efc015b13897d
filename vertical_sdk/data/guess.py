"""Suggest the columns of texts and labels of a file without a recipe.

Names come first, in many languages (`layouts`). Else the contents decide: the column with by far the longest texts, and the only
column with few different values. Two candidates are an error. Training never guesses by contents: a recipe names its columns.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from datetime import date, time
from typing import Any

from vertical_sdk.cells import is_missing, to_number
from vertical_sdk.data.formats import Rows
from vertical_sdk.data.layouts import LABELS, TEXTS, has_name
from vertical_sdk.errors import DataError
from vertical_sdk.tasks import get_task
from vertical_sdk.types import TaskName

__all__ = ["suggest_columns"]

LOOKED_AT = 2000
"""Rows that are looked at."""
LONG = 10
"""Mean characters of a column of texts, at least; half of that in scripts without spaces between words."""
MOST_LABELS = 100
SHORT = 60
"""Mean characters of a label, at most."""
SHOWN = 8
DAY = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ]\d.*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}( \d.*)?")
NUMBERED = re.compile(r"(.+?)\.0\..+", re.DOTALL)
"""The name of a column in the first item of a list."""
WIDE = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")


def suggest_columns(
    rows: Rows, columns: Mapping[str, str], task: TaskName, *, texts: bool = True, header_is_sure: bool = False
) -> dict[str, str]:
    """Add the columns of the texts and of the labels to `columns`, as far as their names do not say it.

    texts           whether the rows have a column of texts; records and numbers have none
    header_is_sure  the header was declared, so that its names may be values too

    Raises DataError if two columns could be meant, and if the header seems to be a row.
    """
    chosen = dict(columns)
    if get_task(task).written or "messages" in chosen:
        return chosen
    _refuse_numbered(rows, chosen)
    by_contents = []
    for key, names in (("text", TEXTS), ("label", LABELS)):
        if key in chosen or (key == "text" and not texts):
            continue
        taken = {*chosen.values(), *_list_outer_columns(rows)}
        named = [column for column in rows.columns if has_name(column, names) and column not in taken]
        if len(named) > 1:
            raise DataError(f"{_join(named)} could all be the {key}. Set data.columns.{key}.", where=rows.path)
        column = named[0] if named else _find_texts(rows, taken) if key == "text" else _find_labels(rows, taken, task)
        if column is not None:
            chosen[key] = column
            by_contents += [] if named else [column]
    if not header_is_sure:
        _refuse_row_as_header(rows, by_contents)
    return chosen


def _sample(rows: Rows, name: str) -> list[Any]:
    cells = (row.get(name) for row in rows.rows[:LOOKED_AT])
    return [cell for cell in cells if isinstance(cell, list | dict) or not is_missing(cell)]


def _describe(cells: list[Any]) -> str:
    """What at least one cell of a column contains, or all of them together."""
    kinds = {_kind(cell) for cell in cells}
    if kinds == {"whole numbers", "numbers"}:
        return "numbers"
    return kinds.pop() if len(kinds) == 1 else "text" if kinds <= TEXTUAL else "mixed"


TEXTUAL = {"text", "numbers", "whole numbers", "dates"}
"""Kinds that a column of texts may contain."""


def _kind(cell: Any) -> str:  # noqa: PLR0911  (one line for each kind)
    if isinstance(cell, bool):
        return "yes or no"
    if isinstance(cell, date):  # datetime too
        return "dates"
    if isinstance(cell, time):
        return "times"
    if isinstance(cell, list | dict):
        return "lists"
    text = str(cell).strip()
    if DAY.fullmatch(text):
        return "dates"
    number = to_number(text)
    if number is None:
        return "text"
    return "whole numbers" if number.is_integer() else "numbers"


def _find_texts(rows: Rows, taken: set[str]) -> str | None:
    """Find the column with texts at least twice as long as those of any other."""
    lengths = {}
    for name in rows.columns:
        cells = _sample(rows, name)
        if name in taken or not cells or _describe(cells) != "text":
            continue
        texts = [str(cell) for cell in cells]
        wide = any(WIDE.search(text) for text in texts[:50])
        length = statistics.fmean(map(len, texts)) * (2 if wide else 1)
        if length >= LONG and len(set(texts)) > 1:
            lengths[name] = length
    ranked = sorted(lengths, key=lambda name: -lengths[name])
    near = [name for name in ranked if 2 * lengths[name] > lengths[ranked[0]]]
    if len(near) > 1:
        raise DataError(f"{_join(near)} could all be the text. Set data.columns.text.", where=rows.path)
    return near[0] if near else None


def _find_labels(rows: Rows, taken: set[str], task: TaskName) -> str | None:
    """Find the only column that could be the labels: for a task with numbers, the only column of numbers."""
    candidates = []
    for name in rows.columns:
        cells = _sample(rows, name)
        if name in taken or not cells:
            continue
        kind = _describe(cells)
        texts = [str(cell).strip() for cell in cells]
        different = len(set(texts))
        few = 2 <= different <= min(MOST_LABELS, len(texts) // 2) and statistics.fmean(map(len, texts)) <= SHORT
        if (
            kind in {"numbers", "whole numbers"}
            if get_task(task).numeric
            else few and kind not in {"dates", "numbers", "lists"}
        ):
            candidates.append(name)
    if len(candidates) > 1:
        raise DataError(f"{_join(candidates)} could all be the label. Set data.columns.label.", where=rows.path)
    return candidates[0] if candidates else None


def _list_outer_columns(rows: Rows) -> set[str]:
    """List the columns with values of the objects around the rows, which describe several rows and not one."""
    outer = rows.details.get("list", "")
    around = ("parent.", *([f"{outer.partition('.')[0]}."] if "." in outer else []))
    return {name for name in rows.columns if outer and name.startswith(around)}


def _refuse_numbered(rows: Rows, chosen: Mapping[str, str]) -> None:
    """Refuse objects with lists of objects inside, if the columns of one item of such a list could be meant."""
    inside = list(dict.fromkeys(match[1] for name in rows.columns if (match := NUMBERED.fullmatch(name))))
    if not inside or chosen or any(has_name(column, TEXTS) for column in rows.columns):
        return
    outer = rows.details.get("list")
    paths = " or ".join(f"{outer}.{name}" if outer else name for name in inside[:SHOWN])
    raise DataError(
        f"the objects have lists of objects inside. If the items of a list are the rows, set data.reader.rows: {paths}. If not, "
        "name the column of the texts with data.columns.text.",
        where=rows.path,
    )


def _refuse_row_as_header(rows: Rows, names: list[str]) -> None:
    """Refuse a column whose name is one of its own values: the header is then probably the first row."""
    for name in names:
        at = next((i for i, row in enumerate(rows.rows) if str(row.get(name) or "").strip() == name), None)
        if at is not None and rows.details.get("header", "none") != "none":
            raise DataError(
                f"the header names a column {name!r}, and {rows.unit} {rows.places[at]} has the same value in it, so the header "
                "seems to be a row. Set data.reader.header: none, or data.reader.header: 1 if it is the header.",
                where=rows.path,
            )


def _join(names: list[str]) -> str:
    shown = [repr(name) for name in names[:SHOWN]] + (["others"] if len(names) > SHOWN else [])
    return ", ".join(shown[:-1]) + f" and {shown[-1]}"
