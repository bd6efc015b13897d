"""Metrics of numbers: (rows,) float, in the unit of the target."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.catalog import POSITIVE, metrics
from vertical_sdk.metrics.measure import UNDEFINED

__all__ = ["mae", "r2", "rmse"]

Floats = NDArray[np.float64]


@metrics.register(
    "mae", within=POSITIVE, tasks=("regression",), higher_is_better=False, title="MAE", meaning="Average size of the error."
)
def mae(predictions: Floats, references: Floats) -> float:
    """Mean absolute error."""
    return float(np.abs(predictions - references).mean())


@metrics.register(
    "rmse",
    within=POSITIVE,
    tasks=("regression",),
    higher_is_better=False,
    title="RMSE",
    meaning="Size of the error; large errors count more.",
)
def rmse(predictions: Floats, references: Floats) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.square(predictions - references).mean()))


@metrics.register(
    "r2", within=(-math.inf, 1.0), tasks=("regression",), title="R²", meaning="Share of the variance that is explained."
)
def r2(predictions: Floats, references: Floats) -> float:
    """Share of the references' variance that is explained; undefined if they do not vary."""
    spread = float(np.square(references - references.mean()).sum())
    return 1 - float(np.square(references - predictions).sum()) / spread if spread > 0 else UNDEFINED
