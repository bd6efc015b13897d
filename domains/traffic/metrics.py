"""Metrics of traffic forecasts at the distances that the field reports: 15, 30 and 60 minutes ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from vertical_sdk.catalog import POSITIVE, metrics
from vertical_sdk.errors import RecipeError
from vertical_sdk.metrics.forecasting import Floats, forecast_mae, forecast_mape, forecast_rmse

from .alarms import detection_rate, false_alarms, time_to_detect
from .routes import free_flow_saving, route_gap

__all__ = [
    "MINUTES",
    "at_minutes",
    "detection_rate",
    "false_alarms",
    "free_flow_saving",
    "route_gap",
    "time_to_detect",
]

MINUTES = (15, 30, 60)
Seconds = Annotated[float, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]


def at_minutes(minutes: int, seconds: float) -> int:
    """Find the step, from 1, that ends `minutes` ahead.

    Raises RecipeError if no step ends there.
    """
    step = minutes * 60 / seconds
    if step < 1 or not float(step).is_integer():
        raise RecipeError(
            f"evaluate.metrics: no step of {seconds:g} seconds ends {minutes} minutes ahead; set seconds to the data's."
        )
    return int(step)


def _register(minutes: int) -> None:
    """The three metrics at one distance; a recipe names each metric once, so the distance is in the name."""

    def mae(predictions: Floats, references: Floats, *, seconds: Seconds = 300.0) -> float:
        return float(forecast_mae(predictions, references, step=at_minutes(minutes, seconds)))

    def rmse(predictions: Floats, references: Floats, *, seconds: Seconds = 300.0) -> float:
        return float(forecast_rmse(predictions, references, step=at_minutes(minutes, seconds)))

    def mape(predictions: Floats, references: Floats, *, seconds: Seconds = 300.0, least: Positive = 1.0) -> float:
        return float(forecast_mape(predictions, references, step=at_minutes(minutes, seconds), least=least))

    parts: dict[str, tuple[Callable[..., Any], str]] = {
        "mae": (mae, "Mean absolute error"),
        "rmse": (rmse, "Root of the mean squared error"),
        "mape": (mape, "Mean absolute error as a share of the truth, of truths from `least`,"),
    }
    for name, (part, what) in parts.items():
        full = f"{name}_{minutes}min"
        part.__name__ = part.__qualname__ = full
        part.__doc__ = f"{what} {minutes} minutes ahead; `seconds` is the length of a step."
        metrics.register(f"traffic.{full}", within=POSITIVE, tasks=("forecasting",), higher_is_better=False)(part)


for _minutes in MINUTES:
    _register(_minutes)
