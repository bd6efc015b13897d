"""Cut series into rows. A row is a moment, with the steps before it and the steps after it, of all channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.data.account import Tally
from vertical_sdk.data.read import Missing
from vertical_sdk.data.zones import to_clock
from vertical_sdk.errors import DataError
from vertical_sdk.types import DAY, NO_ZONE, Example, SeriesLayout

__all__ = [
    "DENSEST",
    "OFF",
    "TOO_LARGE",
    "Numbers",
    "Resampling",
    "Series",
    "add_seconds",
    "cut_windows",
    "find_pace",
    "place_on_grid",
    "set_aside_far",
]

Numbers = NDArray[np.float32]
DENSEST = 1 << 27
"""The largest number of values of a series after its missing steps are filled in."""
TOO_LARGE = "cells too large to be measurements"
SMALL, SPARSEST = 1 << 20, 1000
"""Values that a series may always have, and steps for each measured one that a longer series may have."""
OFF = 0.01
"""The largest distance between a time and the grid, as a share of a step."""


@dataclass(frozen=True)
class Resampling:
    """The settings that turn a table of measurements into rows.

    history          steps before the moment of a row
    horizon          steps after it
    channels         the columns to read; None means all other columns with numbers
    stride           steps from one row to the next
    seconds          between two steps; None means the most common distance of the times
    start            the time of the first line, for a file without times
    zero_is_missing  read a value of exactly 0 as not measured
    block            seconds that a group spans; None means that a whole series is one group
    adjacency        the file with the graph of the channels, beside the table
    labels           the column that marks anomalies
    zone             the zone in whose clock the rows are, for times with a zone
    """

    history: int
    horizon: int
    channels: Sequence[str] | None = None
    stride: int = 1
    seconds: float | None = None
    start: str | None = None
    zero_is_missing: bool = False
    block: float | None = DAY
    adjacency: str | None = None
    labels: str | None = None
    zone: str | None = None


@dataclass(frozen=True)
class Series:
    """One series with steps at even distances.

    start   the time of the first step
    values  (steps, channels), NaN for values that were not measured
    name    part of ids, groups and records; None if the table has only one series
    marks   (steps,) anomalies; None if the table does not mark them
    ahead   (steps, channels) the values that targets are cut from; None means `values`
    """

    start: datetime
    values: Numbers
    name: str | None = None
    marks: NDArray[np.bool_] | None = None
    ahead: Numbers | None = None


def find_pace(series: Iterable[Sequence[datetime]]) -> float | None:
    """Find the most common distance in seconds between neighbours in time, the shortest of equally common ones.

    None means that no series has two times.
    """
    distances = Counter(
        (later - earlier).total_seconds() for times in series for earlier, later in pairwise(sorted(set(times)))
    )
    return min(distances, key=lambda seconds: (-distances[seconds], seconds), default=None)


def place_on_grid(
    times: Sequence[datetime], values: Numbers, seconds: float, places: Sequence[str]
) -> tuple[datetime, Numbers, dict[str, int]]:
    """Place values at even distances in time. Times may be missing, repeated or out of order.

    values  (rows, channels)
    places  file and line of each row, for messages

    Returns the first time, (steps, channels) with NaN for values that were not measured, and counts of the missing and merged
    rows. Rows with the same time are replaced by their mean. Raises DataError for a time between two steps.
    """
    first = min(times)
    steps = np.array([(time - first).total_seconds() / seconds for time in times])
    last = int(steps.argmax())
    size = (float(steps[last]) + 1) * values.shape[1]
    if size > DENSEST or (size > SMALL and steps[last] > SPARSEST * len(times)):
        raise DataError(
            f"{times[last].isoformat()} is {steps[last]:,.0f} steps of {seconds:g} seconds after {first.isoformat()}, and {len(times):,} "
            "steps were measured. Correct the time, or set seconds to a larger number.",
            where=places[last],
        )
    positions = np.rint(steps).astype(np.int64)
    odd = np.flatnonzero(np.abs(steps - positions) > OFF)
    if len(odd):
        raise DataError(
            f"{times[odd[0]].isoformat()} is not a whole number of steps of {seconds:g} seconds after {first.isoformat()}. "
            "Measure series at even distances: resample them, or set seconds to their pace.",
            where=places[odd[0]],
        )
    total = np.zeros((int(positions[last]) + 1, values.shape[1]))
    count = np.zeros_like(total)
    known = ~np.isnan(values)
    np.add.at(total, positions, np.where(known, values, 0.0))
    np.add.at(count, positions, known)
    grid = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0).astype(np.float32)
    different = len(set(positions.tolist()))
    return first, grid, {"steps missing": len(grid) - different, "rows of the same time merged": len(times) - different}


def cut_windows(
    series: Series, layout: SeriesLayout, resampling: Resampling, missing: Missing, tally: Tally
) -> tuple[list[Example], int]:
    """Cut a series into rows whose values and targets are views of it, and count the rows that a full series would give.

    missing  "keep" gives rows up to the last step; their target has NaN, or is None, if the future is not known. Else only rows
             with a measured value before and after their moment are given, and `tally` counts the others

    Times are in the clock of the layout's zone. If the series has marks, the record of a row says whether a step ahead is an
    anomaly, and rows that contain a mark are for evaluation only.
    """
    values, stride = series.values, resampling.stride
    following = values if series.ahead is None else series.ahead
    history, horizon = layout.history, layout.horizon
    ends = range(history - 1, len(values) - horizon, stride)
    if missing == "keep":
        ends = range((len(values) - history) % stride + history - 1, len(values), stride)
    dark = [np.asarray(np.isnan(steps).all(axis=1)) for steps in (values, following)]
    rows = []
    for end in ends:
        moment = to_clock(series.start + timedelta(seconds=end * layout.seconds), layout.zone or NO_ZONE)
        time = moment.isoformat()
        name = time if series.name is None else f"{series.name} {time}"
        past, future = slice(end - history + 1, end + 1), slice(end + 1, end + 1 + horizon)
        past_is_dark, future_is_dark = dark[0][past].all(), dark[1][future].all()
        if missing != "keep" and (past_is_dark or future_is_dark):
            tally.drop(name, "nothing measured before it" if past_is_dark else "nothing measured after it")
            continue
        target = following[future]
        if 0 < len(target) < horizon:
            target = np.pad(target, ((0, horizon - len(target)), (0, 0)), constant_values=np.nan)
        record: tuple[tuple[str, str | float], ...] = () if series.name is None else (("series", series.name),)
        marked = False
        if series.marks is not None:
            marked = bool(series.marks[past.start : future.stop].any())
            record += (("anomaly", float(series.marks[future].any())),)
        rows.append(
            Example(
                id=name,
                values=values[past],
                target=None if future_is_dark else target,
                time=time,
                group=" ".join(part for part in (series.name, _find_block(moment, resampling.block)) if part) or None,
                only="evaluate" if marked else None,
                record=record,
            )
        )
    return rows, len(ends)


def set_aside_far(rows: Sequence[Example], layout: SeriesLayout) -> tuple[list[Example], int]:
    """Replace values of histories that are too large for a specialist (`SeriesLayout.limits`) by NaN, and count such rows."""
    limits = np.array(layout.limits())
    cleaned, count = [], 0
    for row in rows:
        values = row.values
        if values is None or not (far := np.abs(values) > limits).any():
            cleaned.append(row)
            continue
        cleaned.append(replace(row, values=np.where(far, np.float32(np.nan), values)))
        count += 1
    return cleaned, count


def add_seconds(time: str, seconds: float) -> str:
    """Add seconds to an ISO time."""
    return (datetime.fromisoformat(time) + timedelta(seconds=seconds)).isoformat()


def _find_block(moment: datetime, seconds: float | None) -> str | None:
    """Find the block of time that contains a moment. Rows of one block are alike, and the bootstrap draws them together."""
    if seconds is None:
        return None
    year = datetime(moment.year, 1, 1)
    number = (moment.replace(tzinfo=None) - year).total_seconds() // seconds
    return (year + timedelta(seconds=number * seconds)).isoformat()
