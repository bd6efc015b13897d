"""The reader of road casualties: UK police records (STATS19) as Greater Manchester publishes them, one casualty a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vertical_sdk.catalog import readers
from vertical_sdk.data.account import Tally
from vertical_sdk.data.formats import read_file
from vertical_sdk.data.numbers import parse_number
from vertical_sdk.data.read import Missing, Table
from vertical_sdk.data.records import set_record
from vertical_sdk.data.zones import parse_time
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Cell, Example, TaskName

__all__ = ["LABELS", "casualties"]

LABELS = ("slight", "serious or fatal")
"""The second one is looked for."""
DESCRIPTIONS = {
    "slight": "A slight injury: a sprain, a bruise, a cut that is not severe, slight shock.",
    "serious or fatal": "A serious injury, such as a fracture or a stay in hospital, or death within 30 days.",
}
SEVERITY = {"1": "fatal", "2": "serious", "3": "slight"}
SEX = {"1": "male", "2": "female"}
AGES = ("0-5", "6-10", "11-15", "16-20", "21-25", "26-35", "36-45", "46-55", "56-65", "66-75", "over 75")
LIGHT = {"1": "daylight", **dict.fromkeys(("4", "5", "6", "7"), "dark")}
MODES = {
    "0": "pedestrian",
    "1": "pedal cycle",
    "8": "taxi or private hire",
    "9": "car",
    "10": "bus or coach",
    "11": "bus or coach",
    "18": "tram",
    **dict.fromkeys(("2", "3", "4", "5", "23", "97"), "powered 2 wheeler"),
    **dict.fromkeys(("19", "20", "21", "98"), "goods vehicle"),
    **dict.fromkeys(("16", "17", "22", "90"), "other vehicle"),
}
"""Codes of the STATS20 instructions, by which police forces fill in the form."""
UNKNOWN = {"", "-1", "99", "na", "nan", "null", "unknown"}
WORDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "mode": ("casualty was in or on", MODES),
    "sex": ("sex", SEX),
    "ageband": ("age", {str(i): name for i, name in enumerate(AGES, 1)}),
    "light_conditions": ("light", LIGHT),
    "day": ("day", {}),
    "month": ("month", {}),
    "area_name": ("district", {}),
}
NUMBERS = {"hour": "hour", "speed_limit": "speed limit mph", "number_vehicles": "vehicles", "number_casualties": "casualties"}
TOLD = (
    *("mode", "ageband", "sex", "number_vehicles", "number_casualties", "speed_limit"),
    *("light_conditions", "hour", "day", "month", "area_name"),
)
"""The columns that a record tells, in this order. Never collision_severity, which is that of its worst casualty."""


@readers.register("traffic.casualties", tasks=("classification", "ordinal"))
def casualties(
    path: Path, columns: Mapping[str, str], task: TaskName, missing: Missing = "drop", *, test_from: int | None = None
) -> Table:
    """Casualties of road collisions as records: a slight injury, or a serious or fatal one?

    The layout is that of Transport for Greater Manchester as Trafford Data Lab joins it: AREFNO, date, hour, mode, casualty_severity,
    sex, ageband and so on, in words or in STATS19's codes. The Department for Transport's tables of collisions and of casualties have
    other columns and must be joined first.

    test_from  the year from which on rows judge; the last one of the file where None. Use it with split: given

    All casualties of a collision (AREFNO) are one group. Rows without a severity are dropped, refused or kept, as `missing` says.
    Raises DataError for another header, or a code that is not known, with file and line.
    """
    if columns:
        raise RecipeError("traffic.casualties reads a fixed layout. Leave data.columns out.")
    readers.require("traffic.casualties", task, "data.reader")
    rows = read_file(path)
    needed = ["AREFNO", "date", *TOLD, *([] if missing == "keep" else ["casualty_severity"])]
    if lacks := [column for column in needed if column not in rows.columns]:
        raise DataError(f"{path}: has no column {', '.join(lacks)}; it has {', '.join(rows.columns)}.")
    tally = Tally("read")
    kept: list[Example] = []
    for index, row in enumerate(rows.rows):
        where = rows.at(index)
        moment = parse_time(row["date"], where, "date")
        target = None if missing == "keep" else _parse_target(row.get("casualty_severity"), where)
        name = str(rows.places[index])
        if target is None and missing == "refuse":
            raise DataError(f"{where}: no casualty_severity. Here every row needs one.")
        if target is None and missing == "drop":
            tally.drop(name, "no label")
            continue
        group = _cell_text(row["AREFNO"])
        bare = Example(name, target=target, group=group or None, time=moment.date().isoformat())
        kept.append(set_record(bare, _build_record(row, where)))
    if not kept:
        raise DataError(f"{path}: none of its {len(rows.rows)} rows has a casualty_severity.")
    first = test_from or max(int((e.time or "")[:4]) for e in kept)
    kept = [replace(e, split="test" if int((e.time or "")[:4]) >= first else "train") for e in kept]
    said = f"{rows.format}: {len(kept)} casualties, test from {first}"
    account = tally.close(len(rows.rows), len(kept))
    return Table(tuple(kept), said, descriptions=DESCRIPTIONS, labels=LABELS, account=account)


def _build_record(row: Mapping[str, Any], where: str) -> list[tuple[str, Cell]]:
    found: list[tuple[str, Cell]] = []
    for column in TOLD:
        text = _cell_text(row.get(column))
        if column in NUMBERS:
            unknown = text.lower() in UNKNOWN
            found.append((NUMBERS[column], None if unknown else parse_number(text, where, column)))
            continue
        name, codes = WORDS[column]
        found.append((name, _parse_word(text, codes, where, column)))
    return found


def _parse_word(text: str, codes: Mapping[str, str], where: str, column: str) -> str | None:
    """Decode a code to its word; a word stays; None if unknown.

    Raises DataError for an unknown code.
    """
    plain = text if column in {"area_name", "day", "month"} else text.lower()
    if plain in codes:
        return codes[plain]
    if plain.lower() in UNKNOWN:
        return None
    if codes and plain.removeprefix("-").isdigit():
        raise DataError(f"{where}: column {column!r} holds the code {text!r}; known are {', '.join(codes)}, or words.")
    return plain


def _parse_target(cell: object, where: str) -> str | None:
    text = _cell_text(cell).lower()
    if text in UNKNOWN:
        return None
    word = SEVERITY.get(text, text)
    if word in LABELS:
        return word
    if word not in SEVERITY.values():
        raise DataError(
            f"{where}: column 'casualty_severity' holds {text[:40]!r}; slight, serious or fatal is needed, or 3, 2 or 1."
        )
    return LABELS[word != "slight"]


def _cell_text(cell: object) -> str:
    """A cell as text; whole numbers without a point."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip().removesuffix(".0")
