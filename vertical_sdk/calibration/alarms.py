"""Anomaly scores: how far a value is from its forecast, and the threshold of an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.card import Calibration
from vertical_sdk.types import DAY, Example

__all__ = ["compute_distances", "compute_scores", "fit_alarms", "fit_threshold"]

Floats = NDArray[np.float64]


def compute_distances(raw: NDArray[Any], rows: Sequence[Example], widths: Sequence[float]) -> Floats:
    """The error of each channel in units of its usual error: (rows, channels), NaN if it was not measured.

    raw     (rows, 1, channels, quantiles) forecasts, the median first
    widths  (channels,) usual errors
    """
    truth = np.stack([np.asarray(row.target, dtype=np.float64) for row in rows])[:, 0]
    distances: Floats = np.abs(truth - raw[:, 0, :, 0]) / np.asarray(widths)
    return distances


def compute_scores(raw: NDArray[Any], rows: Sequence[Example], widths: Sequence[float]) -> Floats:
    """The largest of the `compute_distances` of a row: (rows,). 0 if nothing was measured."""
    distances = compute_distances(raw, rows, widths)
    scores: Floats = np.where(np.isnan(distances), 0.0, distances).max(axis=1)
    return scores


def fit_alarms(raw: NDArray[Any], rows: Sequence[Example], seconds: float, channels: int, allowed: float) -> Calibration:
    """Usual errors (their median over the rows) and the threshold that `allowed` false alarms a channel and day ask for."""
    truth = np.stack([np.asarray(row.target, dtype=np.float64) for row in rows])[:, 0]
    errors = np.abs(truth - raw[:, 0, :, 0])
    usual = np.nanmedian(errors, axis=0)
    widths = tuple(float(one) for one in np.maximum(np.nan_to_num(usual), 1e-6 + 1e-3 * np.nanmax(usual)))
    threshold = fit_threshold(compute_scores(raw, rows, widths), seconds, channels, allowed)
    return Calibration(widths=widths, threshold=threshold, rows=len(rows))


def fit_threshold(normal: Floats, seconds: float, channels: int, allowed: float) -> float:
    """The score that rows without an anomaly reach as often as is allowed.

    normal   (rows,) scores of rows without an anomaly
    seconds  between two rows
    allowed  false alarms a channel and day
    """
    share = min(1.0, allowed * channels * seconds / DAY)
    ordered = np.sort(normal)
    place = min(len(ordered) - 1, int(np.ceil(len(ordered) * (1 - share))))
    return float(np.nextafter(ordered[place], np.inf))
