"""Metrics of forecasts: (rows, steps, channels) in the unit of the series. Unknown truths (NaN) do not count.

Metrics of quantiles take them as in `Outputs.quantiles`: the median first, then the recipe's levels in rising order.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import POSITIVE, SHARE, metrics
from vertical_sdk.errors import RecipeError
from vertical_sdk.metrics.measure import UNDEFINED
from vertical_sdk.types import TaskName

__all__ = ["coverage", "coverage_gap", "forecast_mae", "forecast_mape", "forecast_rmse", "interval_width", "pinball_loss"]

Floats = NDArray[np.float64]
Step = Annotated[int, Field(ge=1)]
Level = Annotated[float, Field(gt=0, lt=1)]
NUMBERS: tuple[TaskName, ...] = ("forecasting", "regression")


@metrics.register("forecast_mae", within=POSITIVE, tasks=("forecasting",), higher_is_better=False)
def forecast_mae(predictions: Floats, references: Floats, *, step: Step | None = None) -> float:
    """Mean absolute error; of one step ahead, from 1, or of all of them if `step` is None."""
    return _mean(np.abs(_at(predictions, step) - _at(references, step)))


@metrics.register("forecast_rmse", within=POSITIVE, tasks=("forecasting",), higher_is_better=False)
def forecast_rmse(predictions: Floats, references: Floats, *, step: Step | None = None) -> float:
    """Root of the mean squared error; of one step ahead, or of all of them."""
    return float(np.sqrt(_mean(np.square(_at(predictions, step) - _at(references, step)))))


@metrics.register("forecast_mape", within=POSITIVE, tasks=("forecasting",), higher_is_better=False)
def forecast_mape(
    predictions: Floats, references: Floats, *, step: Step | None = None, least: Annotated[float, Field(gt=0)] = 1.0
) -> float:
    """Mean absolute error as a share of the truth (0.1 is 10%); of one step ahead, or of all of them.

    least  truths nearer to 0 than this are left out, as any error is a large share of them; undefined if no truth is left. Set it
           for series of small numbers.
    """
    truth = _at(references, step)
    size = np.abs(truth)
    with np.errstate(invalid="ignore"):  # an unknown truth is not at least anything
        counted = size >= least
    return _mean(np.abs(_at(predictions, step) - truth)[counted] / size[counted])


@metrics.register("coverage", within=SHARE, tasks=NUMBERS)
def coverage(references: Floats, quantiles: Floats) -> float:
    """Share of the truths within the outer quantiles; it should equal the nominal level of the interval."""
    low, high = _bounds(quantiles)
    known = ~np.isnan(references)
    return _mean(((references >= low) & (references <= high))[known].astype(np.float64))


@metrics.register("coverage_gap", within=SHARE, tasks=NUMBERS, higher_is_better=False)
def coverage_gap(references: Floats, quantiles: Floats, *, level: Level = 0.9) -> float:
    """Absolute difference between the coverage and the nominal level of the interval.

    level  the nominal level: the highest quantile's level minus the lowest one's
    """
    share: float = coverage(references, quantiles)
    return abs(share - level)


@metrics.register("interval_width", within=POSITIVE, tasks=NUMBERS, higher_is_better=False)
def interval_width(references: Floats, quantiles: Floats) -> float:
    """Mean width of the interval at known truths. Of two intervals with the same coverage, the narrower one is better."""
    low, high = _bounds(quantiles)
    return _mean((high - low)[~np.isnan(references)])


@metrics.register("pinball_loss", within=POSITIVE, tasks=NUMBERS, higher_is_better=False)
def pinball_loss(references: Floats, quantiles: Floats, *, levels: tuple[Level, ...] = (0.05, 0.95)) -> float:
    """The quantile loss, mean over the median and these levels, times 2 (Koenker and Bassett, 1978); without levels, the MAE.

    levels  as the recipe's series.quantiles

    Raises RecipeError if the number of quantiles differs.
    """
    if quantiles.shape[-1] != 1 + len(levels):
        raise RecipeError(
            f"pinball_loss: levels = {list(levels)}, and the forecasts have {quantiles.shape[-1] - 1} quantiles "
            "beside the median. Set levels to the recipe's series.quantiles.",
            where="evaluate.metrics",
        )
    level = np.array((0.5, *sorted(levels)))
    off = references[..., None] - quantiles
    return 2 * _mean(np.maximum(level * off, (level - 1) * off).mean(axis=-1))


def _at(values: Floats, step: int | None) -> Floats:
    """One step of (rows, steps, channels), or all.

    Raises RecipeError for a step that is not forecast.
    """
    if step is None:
        return values
    if step > values.shape[1]:
        raise RecipeError(f"step = {step}, but the forecasts have {values.shape[1]} steps.", where="evaluate.metrics")
    return values[:, step - 1]


def _mean(values: Floats) -> float:
    """The mean of the known values; undefined if none are known."""
    if values.size and not np.isnan(total := values.sum()):
        return float(total / values.size)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else UNDEFINED


def _bounds(quantiles: Floats) -> tuple[Floats, Floats]:
    return quantiles.min(axis=-1), quantiles.max(axis=-1)
