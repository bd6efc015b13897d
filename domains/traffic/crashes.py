"""The reader of crash reports of automated vehicles: what a manufacturer wrote, and how the vehicles moved before the crash."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from vertical_sdk.catalog import readers
from vertical_sdk.cells import is_missing, normalize_key, plain_value
from vertical_sdk.data.account import Tally
from vertical_sdk.data.formats import FileOptions, read_file
from vertical_sdk.data.read import Missing, Table
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example, TaskName

__all__ = ["crashes"]

COLUMNS = {
    "narrative": ("Narrative", "narrative"),
    "month": ("Incident Date", "month"),
    "other_movement": ("CP Pre-Crash Movement", "other_movement"),
    "own_movement": ("SV Pre-Crash Movement", "own_movement"),
    "crash_with": ("Crash With", "crash_with"),
}
"""What is read → its column in the order's files (CP is what it crashed with, SV the vehicle itself), and in a plain table."""
MOVEMENTS = {
    "backing": ("backing",),
    "parked": ("parked",),
    "stopped": ("stopped",),
    "left turn": ("left turn",),
    "right turn": ("right turn",),
    "changing lanes": ("changing lanes", "merging"),
    "entering traffic": ("entering traffic",),
    "passing": ("passing",),
    "departure or wrong way": ("departure", "wrong way", "opposing", "ran off road"),
    "straight": ("straight",),
}
CRASHED_WITH = {
    "pedestrian": ("pedestrian",),
    "cyclist": ("cyclist",),
    "motorcycle": ("motorcycle",),
    "animal": ("animal",),
    "fixed object": ("fixed object", "pole"),
    "car": ("car", "suv", "pickup", "van"),
    "truck or bus": ("truck", "bus"),
}
"""Label → words of the source's values, the first that fits; any other value is "other"."""
OTHER = "other"
MONTHS = {
    name: number
    for number, name in enumerate(["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1)
}
MONTH = re.compile(r"(\d{4})-(\d\d)(?:-\d\d)?|([A-Z]{3})-(\d{4})")
WITHHELD = re.compile(r"\W*REDACTED,? MAY CONTAIN CONFIDENTIAL BUSINESS INFORMATION\W*", re.IGNORECASE)


@readers.register("traffic.crashes", tasks=("classification",))
def crashes(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    label: Literal["other_movement", "own_movement", "crash_with"] = "other_movement",
    encoding: str | None = None,
) -> Table:
    """Narratives of crashes under NHTSA's Standing General Order 2021-01, each with one fact about the crash.

    path      a CSV of the order, or a folder of them, with the columns Narrative, Incident Date (JUL-2022) and the label's: CP
              Pre-Crash Movement, SV Pre-Crash Movement or Crash With; or a table with narrative, month (2022-07) and other_movement,
              own_movement or crash_with
    label     how the other road user moved, how the vehicle itself moved, or what it crashed with
    encoding  of the files; None means that it is recognized

    The many values of the source become 11 movements, or 8 kinds of road users and objects. Of the versions of a report (Report ID,
    Report Version) the last is read; narratives that are withheld are dropped and counted. The time is the month, the group the
    incident (Same Incident ID).
    Raises DataError for another header or month, with file and line.
    """
    if columns:
        raise RecipeError("traffic.crashes reads a fixed layout. Leave data.columns out.")
    readers.require("traffic.crashes", task, "data.reader")
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    tally = Tally("read")
    latest: dict[str, tuple[float, Example]] = {}
    count = 0
    for file in files:
        rows = read_file(file, FileOptions(encoding=encoding))
        names = _find_columns(rows.columns, label, file, labelled=missing != "keep")
        for index, row in enumerate(rows.rows):
            count += 1
            place = f"{file.stem}:{rows.places[index]}" if len(files) > 1 else str(rows.places[index])
            example = _build_example(place, row, names, label, rows.at(index), keep=missing == "keep")
            problem = _find_problem(example)
            if problem and missing == "refuse":
                raise DataError(f"{problem}. Every row needs narrative and {label} here.", where=rows.at(index))
            if problem and missing == "drop":
                tally.drop(place, problem)
                continue
            report = normalize_key(row.get("Report ID")) if missing != "keep" else None
            version = float(_cell(row.get("Report Version")) or 0)
            if (known := latest.get(report or place)) is not None:
                tally.drop(known[1].id if known[0] <= version else place, "another version of the report")
            if known is None or known[0] <= version:
                latest[report or place] = (version, example)
    examples = tuple(example for _, example in latest.values())
    if not examples:
        raise DataError(f"none of its {count} rows has a narrative and {label}.", where=path)
    return Table(examples, f"{len(examples)} reports of crashes", account=tally.close(count, len(examples)))


def _find_columns(there: list[str] | tuple[str, ...], label: str, path: Path, *, labelled: bool) -> dict[str, str]:
    needed = ["narrative", *(["month", label] if labelled else [])]
    names = {key: next((name for name in COLUMNS[key] if name in there), "") for key in needed}
    if lacks := [" or ".join(COLUMNS[key]) for key, name in names.items() if not name]:
        raise DataError(f"has no column {', and no '.join(lacks)}; it has {', '.join(there)}.", where=path)
    return names


def _build_example(
    place: str, row: Mapping[str, Any], names: Mapping[str, str], label: str, where: str, *, keep: bool
) -> Example:
    narrative = _cell(row.get(names["narrative"]))
    if keep:
        return Example(place, narrative)
    value = _cell(row.get(names[label])).casefold()
    table = CRASHED_WITH if label == "crash_with" else MOVEMENTS
    target = next((name for name, words in table.items() if any(word in value for word in words)), OTHER) if value else None
    month = _parse_month(_cell(row.get(names["month"])), where, names["month"])
    return Example(place, narrative, target, group=normalize_key(row.get("Same Incident ID")), time=month)


def _find_problem(example: Example) -> str | None:
    if not example.text or WITHHELD.fullmatch(example.text):
        return "narrative withheld" if example.text else "no text"
    return "no label" if example.target is None else None


def _parse_month(text: str, where: str, column: str) -> str:
    found = MONTH.fullmatch(text.upper())
    month = int(found[2] or MONTHS.get(found[3], 0)) if found else 0
    if found is None or not 1 <= month <= 12:
        raise DataError(f"column {column!r} contains {text[:40]!r}. Write a month such as 2022-07 or JUL-2022.", where=where)
    return f"{found[1] or found[4]}-{month:02}"


def _cell(value: object) -> str:
    return "" if is_missing(value) else str(plain_value(value)).strip()
