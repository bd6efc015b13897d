"""The general reader of series: a table with a line a step and a column a channel, for forecasting and anomaly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import readers
from vertical_sdk.data.account import Tally
from vertical_sdk.data.formats import SUFFIXES, Rows, read_file
from vertical_sdk.data.numbers import adjacency_in, is_number, numbers_in, says_nothing
from vertical_sdk.data.read import Missing, Table
from vertical_sdk.data.windows import Numbers, commonest_pace, moment_in, on_grid, windows
from vertical_sdk.errors import DataError, RecipeError, did_you_mean
from vertical_sdk.tasks import get_task
from vertical_sdk.types import SeriesLayout, Task

__all__ = ["TIMES", "Count", "Seconds", "as_series", "only_forecasts", "series", "time_column"]

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
FORECASTS: tuple[Task, ...] = ("forecasting", "anomaly")
TIMES = ("time", "timestamp", "date", "datetime", "date_time", "ds")
"""Usual names of the column that has the times, in small letters."""
DAY = 86_400.0
SHOWN = 8


@readers.register("series")
def series(
    path: Path,
    columns: Mapping[str, str],
    task: Task,
    missing: Missing = "drop",
    *,
    history: Count = 24,
    horizon: Count = 1,
    channels: list[str] | None = None,
    stride: Count = 1,
    seconds: Seconds | None = None,
    start: str | None = None,
    zero_is_missing: bool = False,
    block: Seconds | None = DAY,
    adjacency: str | None = None,
    labels: str | None = None,
) -> Table:
    """Read a table of measurements: a line a step, a column a channel. A row is a moment, with what came before it and after it.

    path             CSV, TSV, JSONL, JSON or Parquet; or a folder with one such file
    columns          time: the column of the times, found where it has a usual name; group: the column that says which series a line
                     is of, where several stand in one file; they have the same channels, and no row reaches from one into another
    history          steps before a row's moment; horizon: steps after it, 1 for anomaly
    channels         the columns to read; all others that hold numbers where None
    stride           steps from one row to the next
    seconds          between two steps; the commonest distance of the times where None
    start            the time of the first line, of a file without times; `seconds` must then be given
    zero_is_missing  a value of exactly 0 means that nothing was measured
    block            seconds of a group: rows near in time are alike, and are resampled together; null: a whole series is one group
    adjacency        a matrix beside the file, without a header: how near channels are, 0 where two are not connected. Rows to predict
                     are read without it
    labels           anomaly: the column that marks steps with 1, others with 0 or nothing. Rows with a mark in sight are not learned from

    Steps that are missing are left unknown, of steps that stand twice the mean is taken; both are counted. Times with a zone are taken
    to UTC. Raises DataError, with file and line, for a cell that is no number or time, and for times at uneven distances.
    """
    file = _only_file(path, adjacency) if path.is_dir() else path
    return as_series(
        read_file(file),
        columns,
        task,
        missing,
        reader="series",
        history=history,
        horizon=horizon,
        channels=channels,
        stride=stride,
        seconds=seconds,
        start=start,
        zero_is_missing=zero_is_missing,
        block=block,
        adjacency=adjacency,
        labels=labels,
    )


def as_series(
    rows: Rows,
    columns: Mapping[str, str],
    task: Task,
    missing: Missing,
    *,
    reader: str,
    history: int,
    horizon: int,
    channels: Sequence[str] | None = None,
    stride: int = 1,
    seconds: float | None = None,
    start: str | None = None,
    zero_is_missing: bool = False,
    block: float | None = DAY,
    adjacency: str | None = None,
    labels: str | None = None,
) -> Table:
    """What `series` makes of lines that are read already; `reader` is its name, for messages."""
    _check(reader, columns, task, horizon, labels)
    lines = _lines(rows, columns, channels, labels, needs_labels=missing != "keep")
    values = numbers_in(rows, lines.channels)
    notes = {"zeros taken as missing": int((values == 0).sum()) if zero_is_missing else 0}
    if zero_is_missing:
        values[values == 0] = np.nan
    marks = None if lines.labels is None else _marks(rows, lines.labels)
    pace, several = _several(rows, lines, seconds, start)
    layout = SeriesLayout(lines.channels, pace, history, horizon, _graph(rows.path, adjacency, lines.channels, missing))
    tally = Tally("read")
    examples, count, begins, longest = [], 0, [], 0
    for name, (at, times) in several.items():
        both = values[at] if marks is None else np.column_stack([values[at], marks[at]])
        begin, grid, mended = on_grid(times, both, pace, [rows.at(index) for index in at])
        own = grid[:, : len(lines.channels)]
        mended["cells without a number"] = int(np.isnan(own).sum())
        notes = {key: notes.get(key, 0) + mended.get(key, 0) for key in {**notes, **mended}}
        marked = None if marks is None else np.nan_to_num(grid[:, -1]) > 0
        made, possible = windows(
            own, begin, layout, missing, tally, stride=stride, block=block, series=name or None, marks=marked
        )
        notes["series too short"] = notes.get("series too short", 0) + (not possible)
        examples += made
        count += possible
        begins.append(begin)
        longest = max(longest, len(own))
    _refuse_nothing(rows.path, len(examples), count, longest, layout, missing)
    tally.notes = {name: number for name, number in notes.items() if number}
    said = f"{rows.format}: " + (f"{len(several)} series, the longest of " if len(several) > 1 else "")
    said += f"{longest} steps of {pace:g} s from {min(begins).isoformat()}, {_listed(lines.channels)}"
    said += "" if layout.graph is None else ", with their graph"
    return Table(tuple(examples), said, account=tally.close(count, len(examples)), layout=layout)


def time_column(rows: Rows, columns: Mapping[str, str]) -> str | None:
    """The column of the times: the one that is named, or the only one with a usual name; None where there is none.

    Raises DataError where the named one is not there, or two have usual names.
    """
    named = columns.get("time")
    if named is not None:
        return _there(rows, named, "data.columns.time")
    usual = [column for column in rows.columns if column.lower() in TIMES]
    if len(usual) > 1:
        raise DataError(f"{rows.path}: {' and '.join(map(repr, usual))} could both be the time. Name it: data.columns.time.")
    return usual[0] if usual else None


@dataclass(frozen=True)
class _Lines:
    """What the columns of a file are."""

    channels: tuple[str, ...]
    time: str | None
    group: str | None
    labels: str | None


def only_forecasts(reader: str, task: Task) -> None:
    """Raise RecipeError for a task that does not look ahead."""
    if task not in FORECASTS:
        raise RecipeError(f"{reader}: its rows are for {' and '.join(FORECASTS)}, not for {task}.")


def _check(reader: str, columns: Mapping[str, str], task: Task, horizon: int, labels: str | None) -> None:
    """Raise RecipeError for what the reader cannot do."""
    only_forecasts(reader, task)
    unknown = sorted(set(columns) - {"time", "group"})
    if unknown:
        raise RecipeError(
            f"{reader}: of data.columns it knows time and group, not {', '.join(unknown)}; all others are channels."
        )
    monitors = get_task(task).verb == "monitor"
    if monitors and horizon != 1:
        raise RecipeError(f"{reader}: horizon = {horizon}: an anomaly is told by the next step alone; set it to 1.")
    if not monitors and labels is not None:
        raise RecipeError(f"{reader}: labels = {labels!r}: anomalies are marked for the task anomaly, not for {task}.")


def _lines(
    rows: Rows, columns: Mapping[str, str], channels: Sequence[str] | None, labels: str | None, *, needs_labels: bool
) -> _Lines:
    time = time_column(rows, columns)
    group = _there(rows, columns["group"], "data.columns.group") if "group" in columns else None
    if labels is not None and (needs_labels or labels in rows.columns):
        _there(rows, labels, "data.reader.labels")
    taken = {time, group, labels}
    if channels is None:
        if all(_is_measured(name) for name in rows.columns):
            raise DataError(
                f"{rows.path}:1: the header {', '.join(rows.columns[:3])}, ... is a line of measurements; names of the columns are needed."
            )
        found = tuple(name for name in rows.columns if name not in taken and _holds_numbers(rows, name))
    else:
        found = tuple(_there(rows, name, "data.reader.channels") for name in channels)
    if not found or len(set(found)) < len(found):
        what = "a channel is named twice" if found else "no column holds numbers"
        raise DataError(f"{rows.path}: {what}. The columns are {', '.join(map(repr, rows.columns[:20]))}.")
    if twice := [name for name in found if name in taken]:
        raise DataError(f"{rows.path}: {twice[0]!r} is named as a channel and for something else.")
    return _Lines(found, time, group, labels if labels in rows.columns else None)


def _several(
    rows: Rows, lines: _Lines, seconds: float | None, start: str | None
) -> tuple[float, dict[str, tuple[list[int], list[datetime]]]]:
    """The pace, and of each series its lines and their times."""
    indices: dict[str, list[int]] = {}
    for index, row in enumerate(rows.rows):
        name = "" if lines.group is None else str(row[lines.group] if row[lines.group] is not None else "").strip()
        if lines.group is not None and not name:
            raise DataError(f"{rows.at(index)}: column {lines.group!r} is empty; it says which series the line is of.")
        indices.setdefault(name, []).append(index)
    if lines.time is None:
        if start is None or seconds is None:
            raise DataError(
                f"{rows.path}: no column of times. The columns are {', '.join(map(repr, rows.columns[:20]))}. Name it: "
                "data.columns.time; or set start and seconds of data.reader, where the file has none."
            )
        begin = moment_in(start, "data.reader", "start")
        return seconds, {
            name: (at, [begin + timedelta(seconds=step * seconds) for step in range(len(at))]) for name, at in indices.items()
        }
    column = lines.time
    times = [moment_in(row[column], rows.at(index), column) for index, row in enumerate(rows.rows)]
    several = {name: (at, [times[index] for index in at]) for name, at in indices.items()}
    pace = seconds or commonest_pace(own for _, own in several.values())
    if pace is None:
        raise DataError(f"{rows.path}: no series has two times, so its pace is not known. Set data.reader.seconds.")
    return pace, several


def _marks(rows: Rows, column: str) -> Numbers:
    """(rows,) 1 for an anomaly; an empty cell counts as 0."""
    marks: Numbers = np.nan_to_num(numbers_in(rows, (column,))[:, 0])
    odd = np.flatnonzero((marks != 0) & (marks != 1))
    if len(odd):
        raise DataError(
            f"{rows.at(int(odd[0]))}: column {column!r} holds {rows.rows[int(odd[0])][column]!r}; 0 or 1 is needed."
        )
    return marks


def _graph(file: Path, adjacency: str | None, channels: Sequence[str], missing: Missing) -> NDArray[np.float32] | None:
    if adjacency is None:
        return None
    path = file.parent / adjacency
    if path.is_file():
        return adjacency_in(path, channels, file)
    if missing == "drop":
        raise DataError(
            f"{path}: no such file; it tells how near the channels of {file.name} are. Set data.reader.adjacency to its name, or to "
            "null to do without."
        )
    return None


def _refuse_nothing(path: Path, rows: int, possible: int, steps: int, layout: SeriesLayout, missing: Missing) -> None:
    ahead = 0 if missing == "keep" else layout.horizon
    if not possible:
        raise DataError(
            f"{path}: has {steps} steps; {layout.history + ahead} are needed for one row ({layout.history} before"
            f"{f' and {ahead} after' if ahead else ''} its moment). Take a longer series, or shorter history and horizon."
        )
    if not rows:
        raise DataError(f"{path}: in none of its {possible} rows anything is measured both before and after.")


def _there(rows: Rows, name: str, key: str) -> str:
    if name not in rows.columns:
        raise DataError(
            f"{rows.path}: {key}: no column {name!r}.{did_you_mean(name, rows.columns)} "
            f"The columns are {', '.join(map(repr, rows.columns[:20]))}."
        )
    return name


def _holds_numbers(rows: Rows, name: str) -> bool:
    """By the first cell that says something; one further down that is no number is then an error, and not overlooked."""
    first = next((row.get(name) for row in rows.rows if not says_nothing(row.get(name))), None)
    return first is not None and is_number(first)


def _is_measured(name: str) -> bool:
    """Whether a column's name is a number with a fraction, which nobody calls a column."""
    return is_number(name) and "." in name


def _listed(channels: Sequence[str]) -> str:
    more = f" and {len(channels) - SHOWN} more" if len(channels) > SHOWN else ""
    return f"{len(channels)} channels: {', '.join(channels[:SHOWN])}{more}" if len(channels) > 1 else f"channel {channels[0]}"


def _only_file(folder: Path, adjacency: str | None) -> Path:
    files = sorted(
        p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES and p.name != adjacency and p.name[0] != "."
    )
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:10]) or "none"
        raise DataError(f"{folder}: one file of series is needed, and there are: {names}. Set data.file.")
    return files[0]
