"""Intervals that hold the truth as often as they say, by split conformal prediction on the validation rows.

Numbers: the prediction ± the quantile of the absolute errors (Lei et al., 2018). Forecasts: the outer quantiles, moved out (or in) at each
step by the quantile of how far the truth lay outside (Romano et al., Conformalized Quantile Regression, 2019). Of n errors, the
⌈(n+1)·level⌉-th smallest is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.card import Calibration
from vertical_sdk.recipe import Recipe

__all__ = ["LEVEL", "fit_intervals", "widened"]

LEVEL = 0.9
"""How often an interval around a number holds the truth."""
Floats = NDArray[np.float64]


def fit_intervals(raw: NDArray[Any], truth: Floats, recipe: Recipe) -> Calibration:
    """The widths that the validation rows ask for.

    raw    the specialist's outputs: (rows, 1), or (rows, steps, channels, quantiles) with the median first
    truth  (rows,), or (rows, steps, channels) with NaN where it is not known
    """
    if recipe.task == "regression":
        width = _quantile(np.abs(truth - raw[:, 0]), LEVEL)
        return Calibration(rows=len(truth)) if width is None else Calibration(level=LEVEL, widths=(width,), rows=len(truth))
    levels = recipe.series.quantiles
    if recipe.task != "forecasting" or len(levels) < 2:
        return Calibration(rows=len(truth))
    level = max(levels) - min(levels)
    outside = np.maximum(raw.min(axis=-1) - truth, truth - raw.max(axis=-1))
    widths = [_quantile(outside[:, step].ravel(), level) for step in range(truth.shape[1])]
    found = tuple(width for width in widths if width is not None)
    return (
        Calibration(level=level, widths=found, rows=len(truth)) if len(found) == len(widths) else Calibration(rows=len(truth))
    )


def widened(quantiles: NDArray[Any], widths: Sequence[float]) -> NDArray[Any]:
    """Quantiles (rows, steps, channels, q), in rising order behind the median, with the outer ones moved by the widths of their steps."""
    ordered = np.concatenate([quantiles[..., :1], np.sort(quantiles[..., 1:], axis=-1)], axis=-1)
    if len(widths) and ordered.shape[-1] > 2:
        by_step = np.asarray(widths)[:, None]
        ordered[..., 1] = np.minimum(ordered[..., 1] - by_step, ordered[..., 0])
        ordered[..., -1] = np.maximum(ordered[..., -1] + by_step, ordered[..., 0])
    return ordered


def _quantile(errors: Floats, level: float) -> float | None:
    """None where there are too few errors for the level."""
    known = np.sort(errors[~np.isnan(errors)])
    place = math.ceil((len(known) + 1) * level)
    return float(known[place - 1]) if 0 < place <= len(known) else None
