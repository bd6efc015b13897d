"""Intervals that hold the truth as often as they say, by split conformal prediction on the validation rows.

Numbers: the prediction ± the quantile of the absolute errors (Lei et al., 2018). Forecasts: the outer quantiles, moved out (or in) by
the quantile of how far the truth lay outside (Romano et al., Conformalized Quantile Regression, 2019), for each step and channel by
itself: errors of a channel with large values say nothing about a small one (Mondrian conformal prediction; Vovk et al., 2005). Of n
errors, the ⌈(n+1)·level⌉-th smallest is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.card import Calibration

__all__ = ["LEVEL", "fit_forecast_intervals", "fit_number_interval", "widen_quantiles"]

LEVEL = 0.9
"""How often an interval around a number holds the truth."""
Floats = NDArray[np.float64]


def fit_number_interval(values: NDArray[Any], truth: Floats) -> Calibration:
    """Fit half the width of the interval around a number.

    values, truth  (rows,) predictions and targets of the validation rows
    """
    width = _quantile(np.abs(truth - values), LEVEL)
    return Calibration(rows=len(truth)) if width is None else Calibration(level=LEVEL, widths=(width,), rows=len(truth))


def fit_forecast_intervals(raw: NDArray[Any], truth: Floats, levels: Sequence[float]) -> Calibration:
    """Fit how far the outer quantiles must move: widths of (steps · channels), all channels of a step together.

    A channel with too few known values for the level, at a step, takes the errors of all channels.

    raw     (rows, steps, channels, quantiles) forecasts with the median first
    truth   (rows, steps, channels), NaN if unknown
    levels  the recipe's quantiles without the median; fewer than two give no interval
    """
    if len(levels) < 2:
        return Calibration(rows=len(truth))
    level = max(levels) - min(levels)
    outside = np.maximum(raw.min(axis=-1) - truth, truth - raw.max(axis=-1))
    widths: list[float] = []
    for errors in outside.transpose(1, 0, 2):
        together = _quantile(errors.ravel(), level)
        if together is None:
            return Calibration(rows=len(truth))
        by_channel = [_quantile(channel, level) for channel in errors.T]
        widths += [together if width is None else width for width in by_channel]
    return Calibration(level=level, widths=tuple(widths), rows=len(truth))


def widen_quantiles(quantiles: NDArray[Any], widths: Sequence[float]) -> NDArray[Any]:
    """Sort quantiles (rows, steps, channels, q) after the median, and move the outer ones by the widths of their steps and channels.

    widths  of `fit_forecast_intervals`, or one for each step in cards of earlier versions
    """
    ordered = np.concatenate([quantiles[..., :1], np.sort(quantiles[..., 1:], axis=-1)], axis=-1)
    if len(widths) and ordered.shape[-1] > 2:
        moved = np.asarray(widths).reshape(ordered.shape[1], -1)
        ordered[..., 1] = np.minimum(ordered[..., 1] - moved, ordered[..., 0])
        ordered[..., -1] = np.maximum(ordered[..., -1] + moved, ordered[..., 0])
    return ordered


def _quantile(errors: Floats, level: float) -> float | None:
    """The conformal quantile of the errors; None if there are too few errors for the level."""
    known = np.sort(errors[~np.isnan(errors)])
    place = math.ceil((len(known) + 1) * level)
    return float(known[place - 1]) if 0 < place <= len(known) else None
