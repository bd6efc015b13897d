# ruff: noqa: ARG001, ARG002  (all baselines are given the same things)
"""Cheap detectors of anomalies: how far a value lies from the window before it, or from what is usual at that time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.catalog import baselines
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Example, LabelSpace, Task

__all__ = ["seasonal_zscore", "zscore"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Window:
    def ask(self, rows: Sequence[Example], base: Any) -> Outputs:
        """|value − mean| / standard deviation of the window before, the largest of the channels."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # channels of which nothing was measured
            found = [_worst(_now(row), np.nanmean(_wide(row), axis=0), np.nanstd(_wide(row), axis=0)) for row in rows]
        return Outputs(values=np.array(found))


@baselines.register("zscore", tasks=("anomaly",), title="deviation from the window")
def zscore(train: Sequence[Example], labels: LabelSpace | None, task: Task, seed: int, base: Any) -> _Window:
    """Standard deviations from the mean of the window before; learns nothing."""
    return _Window()


@dataclass(frozen=True, eq=False)
class _Usual:
    slot: int
    mean: Floats
    std: Floats

    def ask(self, rows: Sequence[Example], base: Any) -> Outputs:
        """|value − mean| / standard deviation of the training rows at that time of the day."""
        return Outputs(
            values=np.array([_worst(_now(r), self.mean[_slot(r, self.slot)], self.std[_slot(r, self.slot)]) for r in rows])
        )


@baselines.register("seasonal_zscore", tasks=("anomaly",), title="deviation from the seasonal mean", classical=3)
def seasonal_zscore(
    train: Sequence[Example], labels: LabelSpace | None, task: Task, seed: int, base: Any, *, minutes: int = 60
) -> _Usual:
    """Standard deviations from what is usual at that time of the day, in slots of so many minutes."""
    slots = 24 * 60 // minutes
    values = np.stack([_now(row) for row in train])
    at = np.array([_slot(row, minutes) for row in train])
    mean = np.tile(np.nanmean(values, axis=0), (slots, 1))
    std = np.tile(np.nanstd(values, axis=0), (slots, 1))
    for slot in np.unique(at):
        here = values[at == slot]
        if len(here) > 2:
            mean[slot], std[slot] = np.nanmean(here, axis=0), np.nanstd(here, axis=0)
    return _Usual(minutes, mean, std)


def _now(row: Example) -> Floats:
    now: Floats = np.asarray(row.target, dtype=np.float64)[0]
    return now


def _wide(row: Example) -> Floats:
    values = np.asarray(row.values, dtype=np.float64)
    wide: Floats = values[:, None] if values.ndim == 1 else values
    return wide


def _slot(row: Example, minutes: int) -> int:
    hour, minute = (int(row.time[11:13]), int(row.time[14:16])) if row.time and len(row.time) >= 16 else (0, 0)
    return (hour * 60 + minute) // minutes


def _worst(value: Floats, mean: Floats, std: Floats) -> float:
    off = np.abs(value - mean) / np.maximum(std, 1e-6)
    known = off[np.isfinite(off)]
    return float(known.max()) if known.size else 0.0
