"""Cheap anomaly detectors: the z-score of a value in the window before it, or among values of the same time of day."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.catalog import baselines
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Example, LabelSpace, TaskName

__all__ = ["seasonal_zscore", "zscore"]

Floats = NDArray[np.float64]
FEWEST = 3
"""Training rows that a time of day needs for statistics of its own."""


@dataclass(frozen=True)
class _WindowScore:
    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Score |value - mean| / standard deviation of the window before, the largest of the channels."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # channels without any measurement
            scores = [
                _largest_score(_current(row), np.nanmean(_window(row), axis=0), np.nanstd(_window(row), axis=0)) for row in rows
            ]
        return Outputs(values=np.array(scores))


@baselines.register("zscore", tasks=("anomaly",), title="deviation from the window")
def zscore(train: Sequence[Example], labels: LabelSpace | None, task: TaskName, seed: int, base: Any) -> _WindowScore:
    """Count standard deviations from the mean of the window before; learns nothing."""
    return _WindowScore()


@dataclass(frozen=True, eq=False)
class _SeasonalScore:
    """Statistics of each slot of the day.

    minutes    length of a slot
    mean, std  (slots, channels)
    """

    minutes: int
    mean: Floats
    std: Floats

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Score |value - mean| / standard deviation of the training rows of the same slot, the largest of the channels."""
        slots = [_slot(row, self.minutes) for row in rows]
        scores = [_largest_score(_current(row), self.mean[k], self.std[k]) for row, k in zip(rows, slots, strict=True)]
        return Outputs(values=np.array(scores))


@baselines.register("seasonal_zscore", tasks=("anomaly",), title="deviation from the usual value", classical=3)
def seasonal_zscore(
    train: Sequence[Example], labels: LabelSpace | None, task: TaskName, seed: int, base: Any, *, minutes: int = 60
) -> _SeasonalScore:
    """Count standard deviations from the training rows' mean at the same time of day.

    minutes  length of a slot of the day; a slot with fewer than 3 rows has the statistics of all rows
    """
    slots = 24 * 60 // minutes
    values = np.stack([_current(row) for row in train])
    slot_of_row = np.array([_slot(row, minutes) for row in train])
    mean = np.tile(np.nanmean(values, axis=0), (slots, 1))
    std = np.tile(np.nanstd(values, axis=0), (slots, 1))
    for slot in np.unique(slot_of_row):
        in_slot = values[slot_of_row == slot]
        if len(in_slot) >= FEWEST:
            mean[slot], std[slot] = np.nanmean(in_slot, axis=0), np.nanstd(in_slot, axis=0)
    return _SeasonalScore(minutes, mean, std)


def _current(row: Example) -> Floats:
    """Return the value to judge: (channels,)."""
    current: Floats = np.asarray(row.target, dtype=np.float64)[0]
    return current


def _window(row: Example) -> Floats:
    """Return the window before the value: (steps, channels)."""
    values = np.asarray(row.values, dtype=np.float64)
    window: Floats = values[:, None] if values.ndim == 1 else values
    return window


def _slot(row: Example, minutes: int) -> int:
    hour, minute = (int(row.time[11:13]), int(row.time[14:16])) if row.time and len(row.time) >= 16 else (0, 0)
    return (hour * 60 + minute) // minutes


def _largest_score(value: Floats, mean: Floats, std: Floats) -> float:
    scores = np.abs(value - mean) / np.maximum(std, 1e-6)
    known = scores[np.isfinite(scores)]
    return float(known.max()) if known.size else 0.0
