"""The mean of each channel at each time of the day, or of the week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.baselines.timeline import Timeline
from vertical_sdk.families.clock import SMOOTHING_SECONDS, WEEKLY_FROM
from vertical_sdk.types import DAY, WEEK, SeriesLayout

__all__ = ["SeasonalMean"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SeasonalMean:
    """The mean value in each slot of a period.

    mean          (slots, channels)
    period        seconds of all slots: a day or a week
    seconds       seconds of a slot: one step of the series
    total, count  (periods, slots, channels) what each period adds to the mean; empty if it was restored from its mean
    first_period  number of the first period in `total`, counted from moment 0
    """

    mean: Floats
    period: float
    seconds: float
    total: Floats
    count: Floats
    first_period: int = 0

    @classmethod
    def fit(cls, timeline: Timeline, layout: SeriesLayout, period: float | None = None) -> SeasonalMean:
        """Average a timeline by slot.

        period  seconds; None means a week if the timeline spans four weeks, else a day
        """
        steps, channels = timeline.values.shape
        period = period or (WEEK if steps * layout.seconds >= WEEKLY_FROM * WEEK else DAY)
        slots = max(1, round(period / layout.seconds))
        moments = timeline.first + np.arange(steps, dtype=np.float64) * layout.seconds
        number, slot = _period_and_slot(moments, period, layout.seconds, slots)
        first_period = int(number.min())
        total = np.zeros((int(number.max()) - first_period + 1, slots, channels))
        count = np.zeros_like(total)
        known = ~np.isnan(timeline.values)
        np.add.at(total, (number - first_period, slot), np.nan_to_num(timeline.values))
        np.add.at(count, (number - first_period, slot), known)
        around = min(round(SMOOTHING_SECONDS / layout.seconds), (slots - 1) // 2) if layout.seconds < SMOOTHING_SECONDS else 0
        total, count = (_sum_nearby_slots(table, around) for table in (total, count))
        return cls(_mean_by_slot(total.sum(0), count.sum(0)), period, layout.seconds, total, count, first_period)

    @classmethod
    def from_mean(cls, mean: Floats, period: float, seconds: float) -> SeasonalMean:
        """Restore from a stored mean, without what each period adds to it.

        Raises ValueError for a period without slots, or a mean of another shape.
        """
        slots = max(1, round(period / seconds)) if period > 0 else 0
        if mean.ndim != 2 or len(mean) != slots:
            raise ValueError(f"seasonal_mean has the shape {mean.shape}, and a period of {period:g} seconds has {slots} slots")
        empty = np.zeros((0, *mean.shape))
        return cls(mean, period, seconds, empty, empty)

    def look_up(self, moments: Floats, steps: Sequence[int], *, leave_own_out: bool = False) -> Floats:
        """Look up the mean at so many steps after each moment: (rows, steps, channels).

        leave_own_out  average over the other periods only. A training row must not find its own values in the mean.
        """
        moment = moments[:, None] + np.asarray(steps) * self.seconds
        number, slot = _period_and_slot(moment, self.period, self.seconds, len(self.mean))
        if not leave_own_out:
            mean: Floats = self.mean[slot]
            return mean
        own = (np.clip(number - self.first_period, 0, len(self.total) - 1), slot)
        total, count = self.total.sum(0), self.count.sum(0)
        channel_mean = total.sum(0) / count.sum(0).clip(1)
        others = count[slot] - self.count[own]
        result: Floats = np.where(others > 0, (total[slot] - self.total[own]) / others.clip(1), channel_mean)
        return result


def _period_and_slot(moment: Floats, period: float, seconds: float, slots: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    number = np.floor(moment / period).astype(np.int64)
    return number, np.rint((moment - number * period) / seconds).astype(np.int64) % slots


def _sum_nearby_slots(table: Floats, around: int) -> Floats:
    """Add to each slot so many slots on both sides; the last slot is next to the first."""
    summed: Floats = np.stack([np.roll(table, k, axis=1) for k in range(-around, around + 1)]).sum(axis=0)
    return summed


def _mean_by_slot(total: Floats, count: Floats) -> Floats:
    """Divide by slot. A slot without values has the mean of its channel."""
    channel_mean = total.sum(0) / count.sum(0).clip(1)
    mean: Floats = np.where(count > 0, total / count.clip(1), channel_mean)
    return mean
