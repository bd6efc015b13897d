"""The general reader of series: a table with a line for each step and a column for each channel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import readers
from vertical_sdk.cells import is_missing, normalize_key
from vertical_sdk.data.account import Tally
from vertical_sdk.data.formats import SUFFIXES, FileOptions, Rows, read_columns
from vertical_sdk.data.layouts import numbers_rows
from vertical_sdk.data.numbers import is_number, parse_numbers, read_adjacency
from vertical_sdk.data.read import Header, Missing, OneCharacter, Table
from vertical_sdk.data.windows import TOO_LARGE, Numbers, Resampling, Series, cut_windows, find_pace, place_on_grid
from vertical_sdk.data.zones import choose_zone, find_zone, parse_time, to_clock
from vertical_sdk.errors import DataError, RecipeError, did_you_mean
from vertical_sdk.tables import TASKS
from vertical_sdk.tasks import get_task
from vertical_sdk.types import DAY, LARGEST, NO_ZONE, SeriesLayout, TaskName

__all__ = ["TIMES", "Count", "Resampling", "Seconds", "build_series", "find_time_column", "require_series_task", "series"]

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=1e-6, le=1e10)]
TIMES = ("time", "timestamp", "date", "datetime", "date_time", "ds")
"""Common names of the column with the times, in small letters."""
SHOWN = 8
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")


@readers.register("series")
def series(  # noqa: PLR0913  (keyword options, which a recipe sets)
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
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
    zone: str | None = None,
    delimiter: OneCharacter = None,
    encoding: str | None = None,
    header: Header = None,
    sheet: str | None = None,
    rows: str | None = None,
    any_size: bool = False,
) -> Table:
    """Read a table of measurements: a line for each step, a column for each channel. A row is a moment with its past and future.

    path             CSV, TSV, JSONL, JSON or Parquet; or a folder with one such file
    columns          time: the column of the times, found by its name if it has a common one; group: the column that says which
                     series a line belongs to, if a file has several. They have the same channels, and no row spans two of them
    history          steps before the moment of a row; horizon: steps after it, 1 for anomaly
    channels         the columns to read; None means all other columns with numbers
    stride           steps from one row to the next
    seconds          between two steps; None means the most common distance of the times
    start            the time of the first line, for a file without times; it needs `seconds`
    zero_is_missing  read a value of exactly 0 as not measured
    block            seconds of a group: rows near in time are alike, and are resampled together; null: a whole series is one group
    adjacency        a matrix beside the file, without a header: how near channels are, 0 for two that are not connected. Rows to
                     predict are read without it
    labels           anomaly: the column that marks steps with 1, others with 0 or nothing. Rows that contain a mark are not used
                     for training
    zone             for times with a zone: the zone in whose clock the time of day is read, such as Europe/Berlin. None means the
                     offset of the times if they all have the same one, else UTC
    delimiter        and encoding, header, sheet, rows, any_size: how to read the file, as in the reader "table"

    Missing steps stay unknown, repeated steps are replaced by their mean, and values beyond 1e16 count as not measured; all are
    counted. Raises DataError, with file and line, for a cell that is not a number or a time, and for times at uneven distances, and if
    only some of the times have a zone.
    """
    file = _find_only_file(path, adjacency) if path.is_dir() else path
    resampling = Resampling(
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
        zone=zone,
    )
    options = FileOptions(delimiter=delimiter, encoding=encoding, header=header, sheet=sheet, rows=rows, any_size=any_size)
    return build_series(read_columns(file, options), columns, task, missing, resampling)


def build_series(  # noqa: PLR0914  (the columns of a series, built step by step)
    rows: Rows,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing,
    resampling: Resampling,
    *,
    reader: str = "series",
) -> Table:
    """Build the table of `series` from lines that are already read.

    reader  the name of the reader, for messages
    """
    _check(reader, columns, task, resampling)
    names = _choose_columns(rows, columns, resampling, needs_labels=missing != "keep")
    values = parse_numbers(rows, names.channels, largest=None)
    notes = {"zeros taken as missing": int((values == 0).sum()) if resampling.zero_is_missing else 0}
    if resampling.channels is None:
        used = {*names.channels, names.time, names.group, names.labels}
        notes |= {
            f"cells of {name!r}, which are not measurements and are not read": len(rows.rows)
            for name in rows.columns
            if name not in used
        }
    if resampling.zero_is_missing:
        values[values == 0] = np.nan
    marks = None if names.labels is None else _read_marks(rows, names.labels)
    pace, zone, lines_by_series = _group_series(rows, names, resampling)
    graph = _read_graph(rows.path, resampling.adjacency, names.channels, missing)
    layout = SeriesLayout(names.channels, pace, resampling.history, resampling.horizon, graph, zone)
    tally = Tally("read")
    examples, count, starts, longest = [], 0, [], 0
    monitored = get_task(task).verb == "monitor"
    for name, (lines, times) in lines_by_series.items():
        measured = values[lines] if marks is None else np.column_stack([values[lines], marks[lines]])
        start, grid, corrections = place_on_grid(times, measured, pace, [rows.at(index) for index in lines])
        channels, ahead, too_large = _set_aside_large(grid[:, : len(names.channels)], keep=missing != "drop" and monitored)
        corrections[TOO_LARGE] = too_large
        corrections["cells without a number"] = int(np.isnan(channels).sum())
        marked = None if marks is None else np.nan_to_num(grid[:, -1]) > 0
        cut, possible = cut_windows(Series(start, channels, name or None, marked, ahead), layout, resampling, missing, tally)
        corrections["series too short"] = int(not possible)
        notes = {key: notes.get(key, 0) + corrections.get(key, 0) for key in {**notes, **corrections}}
        examples += cut
        count += possible
        starts.append(start)
        longest = max(longest, len(channels))
    _refuse_no_rows(rows.path, len(examples), count, longest, layout, missing)
    tally.notes = {name: number for name, number in notes.items() if number}
    detected = f"{rows.format}: " + (f"{len(lines_by_series)} series, the longest of " if len(lines_by_series) > 1 else "")
    detected += f"{longest} steps of {pace:g} s from {to_clock(min(starts), zone).isoformat()}, "
    detected += f"{_list_channels(names.channels)}"
    detected += "" if zone == NO_ZONE else f", times in the zone {zone}"
    detected += "" if layout.graph is None else ", with their graph"
    return Table(tuple(examples), detected, account=tally.close(count, len(examples)), layout=layout)


def find_time_column(rows: Rows, columns: Mapping[str, str]) -> str | None:
    """Find the column of the times: the one that `columns` names, or the only one with a common name; None without one.

    Raises DataError if the named column is missing, or two columns have common names.
    """
    named = columns.get("time")
    if named is not None:
        return _require_column(rows, named, "data.columns.time")
    candidates = [column for column in rows.columns if column.lower() in TIMES]
    if len(candidates) > 1:
        either = " and ".join(map(repr, candidates))
        raise DataError(f"{either} could both be the time. Name it: data.columns.time.", where=rows.path)
    return candidates[0] if candidates else None


@dataclass(frozen=True)
class _Columns:
    """The names of the columns of a file, by their use."""

    channels: tuple[str, ...]
    time: str | None
    group: str | None
    labels: str | None


def require_series_task(reader: str, task: TaskName) -> None:
    """Raise RecipeError for a task that does not look ahead."""
    if not get_task(task).ahead:
        raise RecipeError(
            f"{reader} reads rows for {' and '.join(name for name in TASKS if get_task(name).ahead)}, not for {task}.",
            where="data.reader",
        )


def _check(reader: str, columns: Mapping[str, str], task: TaskName, resampling: Resampling) -> None:
    """Raise RecipeError for settings that the reader cannot follow."""
    require_series_task(reader, task)
    if resampling.zone is not None:
        find_zone(resampling.zone)
    where = f"data.reader: {reader}"
    unknown = sorted(set(columns) - {"time", "group"})
    if unknown:
        raise RecipeError(
            f"unknown keys of data.columns: {', '.join(unknown)}. Known are time and group; all other columns are channels.",
            where=where,
        )
    monitored = get_task(task).verb == "monitor"
    if monitored and resampling.horizon != 1:
        raise RecipeError(
            f"horizon = {resampling.horizon} is wrong: the next step alone shows an anomaly. Set it to 1.", where=where
        )
    if not monitored and resampling.labels is not None:
        raise RecipeError(
            f"labels = {resampling.labels!r} marks anomalies, which {task} does not use. Leave it out, or set task: anomaly.",
            where=where,
        )


def _choose_columns(rows: Rows, columns: Mapping[str, str], resampling: Resampling, *, needs_labels: bool) -> _Columns:
    """Choose the columns to read.

    Raises DataError for a column that is missing or has two uses.
    """
    time = find_time_column(rows, columns)
    group = _require_column(rows, columns["group"], "data.columns.group") if "group" in columns else None
    labels = resampling.labels
    if labels is not None and (needs_labels or labels in rows.columns):
        _require_column(rows, labels, "data.reader.labels")
    taken = {time, group, labels}
    if resampling.channels is None:
        if all(_looks_like_measurement(name) for name in rows.columns):
            raise DataError(
                f"the header {', '.join(rows.columns[:3])}, ... is a line of measurements. Add a header with the names of the "
                "columns.",
                where=f"{rows.path}:1",
            )
        channels = tuple(
            name for name in rows.columns if name not in taken and _holds_numbers(rows, name) and not numbers_rows(rows, name)
        )
    else:
        channels = tuple(_require_column(rows, name, "data.reader.channels") for name in resampling.channels)
    if not channels or len(set(channels)) < len(channels):
        problem = "a channel is named twice" if channels else "no column contains numbers"
        raise DataError(f"{problem}. The columns are {_list_columns(rows)}.", where=rows.path)
    if twice := [name for name in channels if name in taken]:
        raise DataError(f"{twice[0]!r} is named as a channel and for something else. Name it once.", where=rows.path)
    return _Columns(channels, time, group, labels if labels in rows.columns else None)


def _group_series(
    rows: Rows, names: _Columns, resampling: Resampling
) -> tuple[float, str, dict[str, tuple[list[int], list[datetime]]]]:
    """Group the lines by series.

    Returns the pace, the zone, and for each series its lines and their times: in UTC if they have a zone.
    """
    indices: dict[str, list[int]] = {}
    for index, row in enumerate(rows.rows):
        name = "" if names.group is None else normalize_key(row.get(names.group)) or ""
        if names.group is not None and not name:
            raise DataError(
                f"column {names.group!r} is empty. Write the name of the series that the line belongs to.", where=rows.at(index)
            )
        indices.setdefault(name, []).append(index)
    seconds = resampling.seconds
    if names.time is None:
        if resampling.start is None or seconds is None:
            raise DataError(
                f"no column of times. The columns are {_list_columns(rows)}. Name it: data.columns.time; or set start and "
                "seconds of data.reader if the file has no times.",
                where=rows.path,
            )
        start = parse_time(resampling.start, "data.reader", "start")
        zone = choose_zone([start], ["data.reader: start"], resampling.zone)
        start = start if zone == NO_ZONE else start.astimezone(timezone.utc)
        try:
            steps = [start + timedelta(seconds=step * seconds) for step in range(max(map(len, indices.values())))]
        except OverflowError:
            raise DataError(
                f"steps of {seconds:g} seconds end after the year 9999. Set seconds to their pace.", where=rows.path
            ) from None
        return seconds, zone, {name: (lines, steps[: len(lines)]) for name, lines in indices.items()}
    column = names.time
    times = [parse_time(row[column], rows.at(index), column) for index, row in enumerate(rows.rows)]
    zone = choose_zone(times, [rows.at(index) for index in range(len(times))], resampling.zone)
    times = times if zone == NO_ZONE else [time.astimezone(timezone.utc) for time in times]
    lines_by_series = {name: (lines, [times[index] for index in lines]) for name, lines in indices.items()}
    pace = seconds or find_pace(own for _, own in lines_by_series.values())
    if pace is None:
        raise DataError("no series has two times, so the pace is unknown. Set data.reader.seconds.", where=rows.path)
    return pace, zone, lines_by_series


def _set_aside_large(values: Numbers, *, keep: bool) -> tuple[Numbers, Numbers | None, int]:
    """Replace values beyond LARGEST by NaN, and count them.

    keep  also return the values as they are, None if that is the same: a monitor raises an alarm for such a value, but must not
          read it in a history
    """
    large = np.abs(values) > LARGEST
    if not large.any():
        return values, None, 0
    return np.where(large, np.float32(np.nan), values), values if keep else None, int(large.sum())


def _read_marks(rows: Rows, column: str) -> Numbers:
    """Read the marks of anomalies: (rows,), 1 for an anomaly. An empty cell counts as 0."""
    marks: Numbers = np.nan_to_num(parse_numbers(rows, (column,))[:, 0])
    odd = np.flatnonzero((marks != 0) & (marks != 1))
    if len(odd):
        index = int(odd[0])
        raise DataError(f"column {column!r} contains {rows.rows[index][column]!r}. Write 0 or 1.", where=rows.at(index))
    return marks


def _read_graph(file: Path, adjacency: str | None, channels: Sequence[str], missing: Missing) -> NDArray[np.float32] | None:
    if adjacency is None:
        return None
    path = file.parent / adjacency
    if path.is_file():
        return read_adjacency(path, channels, file)
    if missing == "drop":
        raise DataError(
            f"no such file; it says how near the channels of {file.name} are. Set data.reader.adjacency to its name, or to null "
            "to train without it.",
            where=path,
        )
    return None


def _refuse_no_rows(path: Path, rows: int, possible: int, steps: int, layout: SeriesLayout, missing: Missing) -> None:
    ahead = 0 if missing == "keep" else layout.horizon
    if not possible:
        raise DataError(
            f"{steps} steps are too few: one row needs {layout.history + ahead} ({layout.history} before"
            f"{f' and {ahead} after' if ahead else ''} its moment). Use a longer series, or set a shorter history and horizon.",
            where=path,
        )
    if not rows:
        raise DataError(
            f"none of its {possible} rows has measured values both before and after its moment. Check the cells for numbers.",
            where=path,
        )


def _require_column(rows: Rows, name: str, key: str) -> str:
    if name not in rows.columns:
        raise DataError(
            f"{key}: no column {name!r}.{did_you_mean(name, rows.columns)} The columns are {_list_columns(rows)}.",
            where=rows.path,
        )
    return name


def _holds_numbers(rows: Rows, name: str) -> bool:
    """Decide by the first cell that is not empty. A later cell that is not a number is then an error, and not overlooked.

    Raises DataError for a number with a decimal comma.
    """
    index, first = next(((n, row[name]) for n, row in enumerate(rows.rows) if not is_missing(row.get(name))), (0, None))
    if isinstance(first, str) and _DECIMAL_COMMA.fullmatch(first.strip()):
        raise DataError(
            f"column {name!r} contains {first!r}, which is not a number: write a point and not a comma. To read other columns only, "
            "name them in data.reader.channels.",
            where=rows.at(index),
        )
    return first is not None and is_number(first)


def _looks_like_measurement(name: str) -> bool:
    """Whether the name of a column is a number with a fraction, which is never a name."""
    return is_number(name) and "." in name


def _list_columns(rows: Rows) -> str:
    return ", ".join(map(repr, rows.columns[:20]))


def _list_channels(channels: Sequence[str]) -> str:
    more = f" and {len(channels) - SHOWN} more" if len(channels) > SHOWN else ""
    return f"{len(channels)} channels: {', '.join(channels[:SHOWN])}{more}" if len(channels) > 1 else f"channel {channels[0]}"


def _find_only_file(folder: Path, adjacency: str | None) -> Path:
    files = sorted(
        p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES and p.name != adjacency and p.name[0] != "."
    )
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:10]) or "none"
        raise DataError(f"exactly one file of series is needed; the folder contains: {names}. Set data.file.", where=folder)
    return files[0]
