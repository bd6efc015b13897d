"""What the forecasting baselines share: rows put back on one line of time, gaps filled, and what is usual at which time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vertical_sdk.errors import DataError
from vertical_sdk.families import clock
from vertical_sdk.families.clock import DAY, SMOOTH, STEADY, WEEK, neighbours, since_monday
from vertical_sdk.types import Example, SeriesLayout

__all__ = ["DAY", "WEEK", "Timeline", "Usual", "carried", "histories", "layout_of", "moments", "neighbours", "timeline"]

Floats = NDArray[np.float64]
LONGEST = 1 << 28
"""Values that a line of time may have."""


def layout_of(base: Any, rows: Sequence[Example]) -> SeriesLayout:
    """What the channels are: as the specialist beside which the baseline stands has it, else as far as the rows tell, without a graph.

    Raises DataError for rows that are no series, or whose pace nothing tells.
    """
    known = getattr(getattr(base, "specialist", None), "layout", None)
    if isinstance(known, SeriesLayout):
        return known
    if not rows:
        raise DataError("baseline: there are no training rows.")
    values, target = rows[0].values, rows[0].target
    if values is None or not isinstance(target, np.ndarray):
        raise DataError(f"baseline: row {rows[0].id} has no series and no steps that follow it; this is for forecasting.")
    paces = np.diff(np.unique(moments(rows)))
    if not len(paces):
        raise DataError("baseline: all rows are of the same time, so the pace of the steps is not known.")
    channels = tuple(str(i) for i in range(target.shape[1]))
    return SeriesLayout(channels, float(paces.min()), len(values), len(target))


def moments(rows: Sequence[Example]) -> Floats:
    """(rows,) seconds since a Monday 0:00, in the clock that the rows were written in.

    Raises DataError for a row without a time.
    """
    return np.array([_moment(row) for row in rows])


def _moment(row: Example) -> float:
    try:
        return since_monday(row.time or "")
    except ValueError:
        raise DataError(f"baseline: row {row.id}: the time {row.time!r} is no ISO 8601 (2024-01-31T08:05:00).") from None


def histories(rows: Sequence[Example], layout: SeriesLayout) -> Floats:
    """(rows, history, channels), NaN where nothing was measured.

    Raises DataError for a row of another shape.
    """
    shape = (layout.history, len(layout.channels))
    found = np.empty((len(rows), *shape))
    for i, row in enumerate(rows):
        values = None if row.values is None else np.asarray(row.values)
        values = values[:, None] if values is not None and values.ndim == 1 else values
        if values is None or values.shape != shape:
            has = "no series" if values is None else f"a series of {' x '.join(map(str, values.shape))}"
            raise DataError(f"baseline: row {row.id} has {has}; {shape[0]} steps of {shape[1]} channels are needed.")
        found[i] = values
    return found


@dataclass(frozen=True, eq=False)
class Timeline:
    """All that rows tell, on one line.

    values  (steps, channels), NaN where no row knows it
    first   moment of the first step
    at      (rows,) the step that each row's history ends with
    """

    values: Floats
    first: float
    at: NDArray[np.int64]

    def level(self) -> tuple[Floats, Floats]:
        """(channels,) means and standard deviations, these never quite 0; 0 and little for a channel that is never measured."""
        known = ~np.isnan(self.values)
        count = known.sum(axis=0).clip(1)
        mean = np.nan_to_num(self.values).sum(axis=0) / count
        spread = np.sqrt(np.square(np.where(known, self.values - mean, 0.0)).sum(axis=0) / count)
        return mean, np.maximum(spread, 1e-6 + 1e-3 * spread.mean())


def timeline(rows: Sequence[Example], layout: SeriesLayout) -> Timeline:
    """The line of time on which the rows stand.

    Raises DataError for rows without a target, or too far apart.
    """
    ends = moments(rows)
    first = ends.min() - (layout.history - 1) * layout.seconds
    at = np.rint((ends - first) / layout.seconds).astype(np.int64)
    steps = int(at.max()) + layout.horizon + 1
    if steps * len(layout.channels) > LONGEST:
        raise DataError(f"baseline: the rows span {steps} steps of {layout.seconds:g} seconds, too many. Check their times.")
    values = np.full((steps, len(layout.channels)), np.nan)
    past = histories(rows, layout)
    for row, end, known in zip(rows, at, past, strict=True):
        if not isinstance(row.target, np.ndarray) or row.target.shape != (layout.horizon, len(layout.channels)):
            raise DataError(
                f"baseline: row {row.id} has no {layout.horizon} steps of {len(layout.channels)} channels to learn."
            )
        both = np.concatenate([known, row.target])
        part = values[end - layout.history + 1 : end + layout.horizon + 1]
        np.copyto(part, both, where=~np.isnan(both))
    return Timeline(values, float(first), at)


def carried(values: Floats, usual: Floats) -> Floats:
    """Each gap in (rows, steps, channels) filled with what stood before it; in front, with what comes first, or is usual."""
    filled: Floats = clock.carried(torch.tensor(values), torch.tensor(usual)).numpy()
    return filled


@dataclass(frozen=True, eq=False)
class Usual:
    """The usual value at each time of the day, or of the week.

    mean     (slots, channels)
    period   seconds of all slots; seconds of one
    total, count  (periods, slots, channels) what each day or week adds to it; empty where that is forgotten
    begins   the number of the first period
    """

    mean: Floats
    period: float
    seconds: float
    total: Floats
    count: Floats
    begins: int = 0

    @classmethod
    def of(cls, line: Timeline, layout: SeriesLayout, period: float | None = None) -> Usual:
        """From all that the rows tell; `period` is a week where they span four, else a day, where it is None."""
        steps, channels = line.values.shape
        period = period or (WEEK if steps * layout.seconds >= STEADY * WEEK else DAY)
        slots = max(1, round(period / layout.seconds))
        moment = line.first + np.arange(steps, dtype=np.float64) * layout.seconds
        number, slot = _place(moment, period, layout.seconds, slots)
        begins = int(number.min())
        total = np.zeros((int(number.max()) - begins + 1, slots, channels))
        count = np.zeros_like(total)
        known = ~np.isnan(line.values)
        np.add.at(total, (number - begins, slot), np.nan_to_num(line.values))
        np.add.at(count, (number - begins, slot), known)
        around = min(round(SMOOTH / layout.seconds), (slots - 1) // 2) if layout.seconds < SMOOTH else 0
        total, count = (_smoothed(table, around) for table in (total, count))
        return cls(_mean(total.sum(0), count.sum(0)), period, layout.seconds, total, count, begins)

    @classmethod
    def kept(cls, mean: Floats, period: float, seconds: float) -> Usual:
        """One that has forgotten what each day or week added."""
        nothing = np.zeros((0, *mean.shape))
        return cls(mean, period, seconds, nothing, nothing)

    def at(self, moments: Floats, steps: Sequence[int], *, without_own: bool = False) -> Floats:
        """(rows, steps, channels) what is usual so many steps after each moment.

        without_own  as the other days (or weeks) have it: a row that is learned from must not find itself in what is usual
        """
        moment = moments[:, None] + np.asarray(steps) * self.seconds
        number, slot = _place(moment, self.period, self.seconds, len(self.mean))
        if not without_own:
            usual: Floats = self.mean[slot]
            return usual
        own = (np.clip(number - self.begins, 0, len(self.total) - 1), slot)
        total, count = self.total.sum(0), self.count.sum(0)
        middle = total.sum(0) / count.sum(0).clip(1)
        rest = count[slot] - self.count[own]
        found: Floats = np.where(rest > 0, (total[slot] - self.total[own]) / rest.clip(1), middle)
        return found


def _place(moment: Floats, period: float, seconds: float, slots: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    number = np.floor(moment / period).astype(np.int64)
    return number, np.rint((moment - number * period) / seconds).astype(np.int64) % slots


def _smoothed(table: Floats, around: int) -> Floats:
    """The sums over so many slots to both sides, round the clock."""
    whole: Floats = np.stack([np.roll(table, k, axis=1) for k in range(-around, around + 1)]).sum(axis=0)
    return whole


def _mean(total: Floats, count: Floats) -> Floats:
    """By slot; the channel's own mean where a slot has nothing."""
    middle = total.sum(0) / count.sum(0).clip(1)
    mean: Floats = np.where(count > 0, total / count.clip(1), middle)
    return mean
