"""Cheap anomaly detectors: the z-score of a value in the window before it, or among values of the same time of day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.baselines.fitted import Arrays, decode_json, encode_json, take_array
from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Example, LabelSpace, TaskName

__all__ = ["SeasonalScore", "WindowScore", "seasonal_zscore", "zscore"]

Floats = NDArray[np.float64]
FEWEST = 3
"""Training rows that a time of day needs for statistics of its own."""
MINUTES = 24 * 60
LEAST_STD, NEVER_UNUSUAL = 1e-6, 1e100
"""The least standard deviation that a value is divided by, and that of a channel which no training row has measured."""


@dataclass(frozen=True)
class WindowScore:
    """Compares a value with the window before it."""

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Score |value - mean| / standard deviation of the window before, the largest of the channels."""
        steps = [_read_steps(row) for row in rows]
        moments = [_mean_and_std(window[:-1]) for window in steps]
        scores = [_count_deviations(window[-1], *own) for window, own in zip(steps, moments, strict=True)]
        return Outputs(values=np.array([score.max() for score in scores], dtype=np.float64))

    def to_arrays(self) -> Arrays:
        """Return no array: nothing is learned."""
        return {}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> WindowScore:  # noqa: ARG003  (the interface of Fitted)
        """Restore the baseline from `to_arrays`."""
        return cls()


@baselines.register("zscore", tasks=("anomaly",), title="deviation from the window", saves_as=WindowScore)
def zscore(train: Sequence[Example], labels: LabelSpace | None, task: TaskName, seed: int, base: Any) -> WindowScore:
    """Count standard deviations from the mean of the window before; learns nothing."""
    return WindowScore()


@dataclass(frozen=True, eq=False)
class SeasonalScore:
    """Statistics of each slot of the day.

    minutes    length of a slot
    steps      whose mean is compared
    mean, std  (slots, channels)
    """

    minutes: int
    steps: int
    mean: Floats
    std: Floats

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Score |value - mean| / standard deviation of the training rows of the same slot, the largest of the channels.

        Raises DataError for rows with other channels than the training rows.
        """
        levels, slots = _read_levels(rows, self.steps), _find_slots(rows, self.minutes)
        if levels.shape[1] != self.mean.shape[1]:
            raise DataError(f"the rows have {levels.shape[1]} channels, and the training rows had {self.mean.shape[1]}.")
        return Outputs(values=_count_deviations(levels, self.mean[slots], self.std[slots]).max(axis=1))

    def to_arrays(self) -> Arrays:
        """Return the statistics."""
        settings = {"minutes": self.minutes, "steps": self.steps}
        return {"settings": encode_json(settings), "mean": self.mean, "std": self.std}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> SeasonalScore:
        """Restore the baseline from `to_arrays`."""
        settings = decode_json(arrays["settings"])
        minutes, steps = settings["minutes"], settings["steps"]
        if type(minutes) is not int or type(steps) is not int or not 1 <= minutes <= MINUTES or steps < 1:
            raise ValueError(f"minutes must be 1 to {MINUTES}, and steps at least 1; they are {minutes!r} and {steps!r}")
        mean = take_array(arrays, "mean", math.ceil(MINUTES / minutes), None)
        return cls(minutes, steps, mean, take_array(arrays, "std", *mean.shape, least=0))


@baselines.register(
    "seasonal_zscore", tasks=("anomaly",), title="deviation from the usual value", saves_as=SeasonalScore, classical=3
)
def seasonal_zscore(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: TaskName,
    seed: int,
    base: Any,
    *,
    minutes: Annotated[int, Field(ge=1, le=MINUTES)] = 60,
    steps: Annotated[int, Field(ge=1)] = 1,
) -> SeasonalScore:
    """Count standard deviations from the training rows' mean at the same time of day.

    minutes  length of a slot of the day; a slot with fewer than 3 rows has the statistics of all rows
    steps    the mean of so many last steps is compared, of a row and of the training rows: less noise, and what lasts is found later
    """
    levels, slot_of_row = _read_levels(train, steps), _find_slots(train, minutes)
    mean, std = (np.tile(part, (math.ceil(MINUTES / minutes), 1)) for part in _mean_and_std(levels))
    for slot in np.unique(slot_of_row):
        in_slot = levels[slot_of_row == slot]
        if len(in_slot) >= FEWEST:
            mean[slot], std[slot] = _mean_and_std(in_slot)
    return SeasonalScore(minutes, steps, mean, std)


def _read_steps(row: Example) -> Floats:
    """Return the window and the value to judge: (history + 1, channels)."""
    values = np.asarray(row.values, dtype=np.float64)
    window = values[:, None] if values.ndim == 1 else values
    return np.concatenate([window, np.asarray(row.target, dtype=np.float64)[:1]])


def _read_levels(rows: Sequence[Example], steps: int) -> Floats:
    """Return the means of the last steps: (rows, channels), NaN if none was measured."""
    last = np.stack([_read_steps(row)[-steps:] for row in rows])
    known = (~np.isnan(last)).sum(axis=1)
    return np.where(known > 0, np.nan_to_num(last).sum(axis=1) / known.clip(1), np.nan)


def _find_slots(rows: Sequence[Example], minutes: int) -> NDArray[np.int64]:
    """Return the slot of the day of each row: (rows,), 0 for a row without a time."""
    known = [row.time if row.time and len(row.time) >= len("2024-01-31T08:05") else "" for row in rows]
    return np.array([(int(time[11:13]) * 60 + int(time[14:16])) // minutes if time else 0 for time in known], dtype=np.int64)


def _mean_and_std(values: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of the channels of (rows, channels), without what was not measured."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    mean = np.nan_to_num(values).sum(axis=0) / count.clip(1)
    std = np.sqrt(np.square(np.where(known, values - mean, 0.0)).sum(axis=0) / count.clip(1))
    return mean, np.where(count > 0, std, NEVER_UNUSUAL)


def _count_deviations(values: Floats, mean: Floats, std: Floats) -> Floats:
    """Return how many standard deviations values are from their mean; 0 for what was not measured."""
    with np.errstate(over="ignore"):  # of a reading near the largest float
        return np.nan_to_num(np.abs(values - mean) / np.maximum(std, LEAST_STD))
