"""Readers of sensors in which something went wrong: simulated incidents on a motorway, and measured series with known anomalies.

Both give one row a sensor and step: what was measured before it as `values`, what was measured then as the target, and in the record
whether that was in an incident (`anomaly`), which one, how long after its start, and how many hours a row represents.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import Share, readers
from vertical_sdk.data.account import Tally
from vertical_sdk.data.formats import read_file
from vertical_sdk.data.numbers import parse_number
from vertical_sdk.data.read import Missing, Table
from vertical_sdk.data.settings import read_settings
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import NO_ZONE, Cell, Example, SeriesLayout, Split, TaskName

from .corridors import CHANNELS, Corridor, Incident, draw_incidents, simulate
from .sumo import find_simulator, run_in_parallel

__all__ = ["Window", "incidents", "marked_series"]

Floats = NDArray[np.float32]
Count = Annotated[int, Field(ge=1)]
FLOWING, QUIET = 0.8, 3
FIRST_DAY = datetime(2024, 1, 1)
LONGEST = 1 << 22
"""Steps that a series may have once it is on an even grid."""


@dataclass(frozen=True)
class Window:
    """When something is wrong with a series: from `start` until before `end`."""

    name: str
    start: datetime
    end: datetime


@dataclass(frozen=True, eq=False)
class _Readings:
    """One series: (steps, channels) from `start` on, a step each `seconds`, with the windows in which something is wrong."""

    series: str
    values: Floats
    start: datetime
    seconds: float
    windows: Sequence[Window]


@readers.register("traffic.incidents", tasks=("anomaly",), extra="traffic-sim")
def incidents(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    history: Count = 15,
    neighbours: Annotated[int, Field(ge=0)] = 0,
) -> Table:
    """A simulated motorway: loops' speed, flow and occupancy each minute, on quiet days and on days with incidents.

    path        a scenario in YAML (see `domains/traffic/scenarios`)
    history     steps before a row
    neighbours  detectors in each direction whose channels a row has too; NaN beyond the ends of the road

    Quiet days are for training and validation, days with incidents for the test, and `known` ones for validation. An incident belongs to
    the detectors of its section and of those next upstream, from its begin until its queue is gone; rows of other detectors in that time
    are left out, as an alarm there is neither right nor false. The group is the day. Each day is simulated once and kept in the cache.

    Raises DataError for a scenario that is wrong, MissingExtra without SUMO.
    """
    del missing  # a simulation knows the truth of every row
    _require_task("traffic.incidents", columns, task)
    corridor = read_settings(path, Corridor)
    corridor.check(str(path))
    if history >= corridor.steps:
        raise DataError(f"{path}: a day has {corridor.steps} steps, too few for a history of {history}.")
    sumo = find_simulator(corridor.sumo, str(path))
    days = list(range(corridor.train + corridor.validation + corridor.test + corridor.known))

    def simulate_day(day: int) -> Floats:
        try:
            return simulate(corridor, day, sumo)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    tally = Tally("read")
    rows: list[Example] = []
    count = 0
    for day, readings in zip(days, run_in_parallel(simulate_day, days), strict=True):
        split = corridor.split_of(day)
        start = FIRST_DAY + timedelta(days=day, hours=corridor.begin)
        for section in range(corridor.sections):
            own, elsewhere = _find_windows(corridor, day, section, start, readings)
            series = f"detector {section + 1:02d}"
            loop = _Readings(series, _with_neighbours(readings, section, neighbours), start, corridor.seconds, own)
            for row in _build_rows(loop, history, partial(_always, split), f"day {day + 1:02d}"):
                count += 1
                end = datetime.fromisoformat(row.time or "") + timedelta(seconds=2 * corridor.seconds)
                if any(each.start < end and end - timedelta(seconds=corridor.seconds) < each.end for each in elsewhere):
                    tally.drop(row.id, "an incident elsewhere on the road")
                else:
                    rows.append(row)
    happened = sum(len(draw_incidents(corridor, day)) for day in days)
    summary = f"SUMO {sumo.version}: {len(days)} days of {corridor.sections} detectors, {happened} incidents"
    near = (
        f"{name} {n} {where}" for n in range(1, neighbours + 1) for where in ("upstream", "downstream") for name in CHANNELS
    )
    layout = SeriesLayout((*CHANNELS, *near), float(corridor.seconds), history, 1, zone=NO_ZONE)
    return Table(tuple(rows), summary, account=tally.close(count, len(rows)), layout=layout)


def _with_neighbours(readings: Floats, section: int, neighbours: int) -> Floats:
    """The channels of a section, then those of the sections 1 upstream, 1 downstream, 2 upstream, ...: (steps, channels)."""
    others = [section + sign * n for n in range(1, neighbours + 1) for sign in (-1, 1)]
    nothing = np.full_like(readings[:, 0], np.nan)
    near = [readings[:, other] if 0 <= other < readings.shape[1] else nothing for other in others]
    return np.concatenate([readings[:, section], *near], axis=1)


def _always(split: Split, _moment: datetime) -> Split:
    return split


def _find_windows(
    corridor: Corridor, day: int, section: int, start: datetime, readings: Floats
) -> tuple[list[Window], list[Window]]:
    """A detector's own incidents, and those of others."""
    own: list[Window] = []
    elsewhere: list[Window] = []
    for each in draw_incidents(corridor, day):
        begin = start + timedelta(seconds=each.start)
        window = Window(each.name, begin, start + timedelta(seconds=_find_clearance(corridor, each, readings)))
        near = 0 <= each.section - section <= corridor.incidents.reach
        (own if near else elsewhere).append(window)
    return own, elsewhere


def _find_clearance(corridor: Corridor, incident: Incident, readings: Floats) -> float:
    """Seconds into the day when an incident is over: its minutes of recovery, and until nowhere upstream the queue is left.

    A queue is left while a detector measures less than FLOWING of its day's median speed in any of QUIET steps.
    """
    speed = readings[:, : incident.section + 1, 0]
    slow: NDArray[np.bool_] = np.logical_or.reduce(speed < FLOWING * np.nanmedian(speed, axis=0), axis=1)
    end = incident.start + incident.seconds + 60 * corridor.incidents.recovery
    first = min(len(slow), math.ceil(end / corridor.seconds))
    while first < len(slow) and slow[max(0, first - 1) : first + QUIET].any():
        first += 1
    return max(end, float(first * corridor.seconds))


@readers.register("traffic.marked_series", tasks=("anomaly",))
def marked_series(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    history: Count = 24,
    seconds: Annotated[float, Field(gt=0)] = 900.0,
    train: Share = 0.4,
    validation: Share = 0.1,
    folder: str | None = None,
) -> Table:
    """A folder of series, `timestamp,value` each, and a JSON file of when they were anomalous, in the layout of the Numenta benchmark.

    seconds            of a step: readings at uneven times are put on an even grid, the mean of those in a step, NaN without readings
    train, validation  shares of each series' days to learn from, and to set the alarm by; the rest is the test
    folder             the part of the source to read, such as data/realTraffic; all series where None

    labels.json (file → {"windows": [[start, end], ...]}) or combined_windows.json (folder/file → [[start, end], ...]) is found anywhere in
    the source. Rows in a window, or with one in their history, are for evaluation only; the group is a day of a series.

    Raises DataError, with file and line, for a cell that is not a time or number, or if no windows are found.
    """
    _require_task("traffic.marked_series", columns, task)
    home = path if path.is_dir() else path.parent
    files = [path] if path.is_file() else sorted((home / folder if folder else home).rglob("*.csv"))
    if not files:
        raise DataError(
            f"{home / folder if folder else home}: has no series; files of timestamp,value ending in .csv are needed."
        )
    marks = _read_windows(home, needed=missing != "keep")
    tally = Tally("read")
    rows: list[Example] = []
    count = 0
    for file in files:
        name = file.stem
        start, values = _read_series(file, seconds)
        windows = marks.get(file.name, [])
        own = [Window(f"{name} window {n + 1}", *each) for n, each in enumerate(windows)]
        parts = _make_splitter(start, len(values), seconds, train, validation)
        readings = _Readings(name, values, start, seconds, own)
        candidates = list(_build_rows(readings, history, parts, name, daily=True, keep=missing == "keep"))
        known = []
        for row in candidates:
            if missing != "keep" and (row.target is None or row.values is None or np.isnan(row.values).all()):
                tally.drop(row.id, "nothing measured")  # at its step, or anywhere before it
            else:
                known.append(row)
        count += len(candidates)
        rows += known
    if not rows:
        raise DataError(f"{path}: no series has {history} steps of {seconds:g} seconds and one more; take a shorter history.")
    summary = f"{len(files)} series, {sum(len(marks.get(f.name, [])) for f in files)} windows of anomalies"
    layout = SeriesLayout(("value",), seconds, history, 1, zone=NO_ZONE)
    return Table(tuple(rows), summary, account=tally.close(count, len(rows)), layout=layout)


def _build_rows(
    readings: _Readings,
    history: int,
    choose_split: Callable[[datetime], Split],
    name: str,
    *,
    daily: bool = False,
    keep: bool = False,
) -> Iterator[Example]:
    """Build a row for each step that has a history.

    choose_split  the start of a step → its split
    daily         the group is the series' day, else `name`
    keep          also build the step after the last one
    """
    values, start, series = readings.values, readings.start, readings.series
    step = timedelta(seconds=readings.seconds)
    dirty = np.zeros(len(values) + 1, dtype=bool)
    inside: list[Window | None] = [None] * (len(values) + 1)
    for each in readings.windows:
        first = math.floor((each.start - start) / step)
        last = math.ceil((each.end - start) / step)
        for at in range(max(0, first), min(len(inside), last)):
            inside[at] = each
            dirty[at] = True
    for at in range(history, len(values) + keep):
        begin = start + at * step
        window = inside[at]
        known = at < len(values) and not np.isnan(values[at]).all()
        since = None if window is None else (begin + step - window.start).total_seconds() / 60
        record: tuple[tuple[str, Cell], ...] = (
            ("anomaly", float(window is not None)),
            ("series", series),
            ("incident", None if window is None else window.name),
            ("minutes", since),
            ("hours", readings.seconds / 3600),
        )
        yield Example(
            id=f"{name}/{series}/{begin.isoformat()}" if name != series else f"{series}/{begin.isoformat()}",
            values=values[at - history : at],
            target=values[at : at + 1] if known else None,
            time=(begin - step).isoformat(),
            group=f"{name} {begin.date().isoformat()}" if daily else name,
            only="evaluate" if dirty[at - history : at + 1].any() else None,
            split=choose_split(begin),
            record=record,
        )


def _read_series(file: Path, seconds: float) -> tuple[datetime, Floats]:
    """Read the first step's start and (steps, 1) means, NaN without readings; steps start at whole multiples from midnight."""
    table = read_file(file)
    lacks = [name for name in ("timestamp", "value") if name not in table.columns]
    if lacks:
        raise DataError(f"{file}: has no column {' and '.join(lacks)}; it has {', '.join(table.columns)}.")
    moments, numbers = [], []
    for index, row in enumerate(table.rows):
        where, text = table.at(index), str(row.get("timestamp") or "").strip()
        try:
            moments.append(datetime.fromisoformat(text))
        except ValueError:
            raise DataError(f"{where}: the timestamp {text[:40]!r} is invalid. Write 2015-09-01 13:45:00.") from None
        if moments[-1].tzinfo is not None:
            raise DataError(f"{where}: the timestamp {text[:40]!r} has a zone. Write the local time without one.")
        cell = str(row.get("value") if row.get("value") is not None else "").strip()
        numbers.append(parse_number(cell, where, "value") if cell else math.nan)
    if not moments:
        raise DataError(f"{file}: has no rows.")
    midnight = min(moments).replace(hour=0, minute=0, second=0, microsecond=0)
    at = np.array([math.floor((moment - midnight).total_seconds() / seconds) for moment in moments])
    first, size = int(at.min()), int(at.max() - at.min()) + 1
    if size > LONGEST:
        raise DataError(
            f"{file}: from {min(moments)} to {max(moments)} there are {size} steps of {seconds:g} seconds; is a time wrong?"
        )
    known = ~np.isnan(numbers)
    total = np.bincount(at[known] - first, weights=np.asarray(numbers)[known], minlength=size)
    count = np.bincount(at[known] - first, minlength=size)
    mean = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
    return midnight + timedelta(seconds=first * seconds), mean[:, None].astype(np.float32)


def _make_splitter(start: datetime, steps: int, seconds: float, train: float, validation: float) -> Callable[[datetime], Split]:
    """A function from a step's begin to its split; whole days, in the order of time."""
    if train + validation >= 1:
        raise RecipeError(f"data.reader: train = {train} and validation = {validation} leave nothing to be judged on.")
    days = (start + timedelta(seconds=(steps - 1) * seconds)).date().toordinal() - start.date().toordinal() + 1
    first = start.date().toordinal()
    tunes, tests = first + max(1, round(days * train)), first + max(2, round(days * (train + validation)))

    def choose_split(moment: datetime) -> Split:
        day = moment.date().toordinal()
        return "train" if day < tunes else "validation" if day < tests else "test"

    return choose_split


def _read_windows(home: Path, *, needed: bool) -> dict[str, list[tuple[datetime, datetime]]]:
    """File name → its windows."""
    file = next((f for name in ("labels.json", "combined_windows.json") for f in sorted(home.rglob(name))), None)
    if file is None:
        if needed:
            raise DataError(
                f"{home}: has neither labels.json nor combined_windows.json, which say when the series were anomalous."
            )
        return {}
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        marks = {}
        for name, windows in plain.items():
            pairs = windows["windows"] if isinstance(windows, dict) else windows
            marks[Path(name).name] = [(datetime.fromisoformat(str(a)), datetime.fromisoformat(str(b))) for a, b in pairs]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{file}: cannot be read as windows: {error}. It should be {{"file.csv": [["2015-09-14 17:45:00", "2015-09-15 17:24:00"]]}}.'
        ) from None
    return marks


def _require_task(reader: str, columns: Mapping[str, str], task: TaskName) -> None:
    if columns:
        raise RecipeError(f"{reader} reads a fixed layout. Leave data.columns out.")
    readers.require(reader, task, "data.reader")
