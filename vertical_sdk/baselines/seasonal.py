"""The seasonal naive forecast: the value one period ago, or the mean at that time of the period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from vertical_sdk.baselines.fitted import Arrays, decode_json, encode_json, take_array
from vertical_sdk.baselines.seasonal_mean import SeasonalMean
from vertical_sdk.baselines.timeline import (
    build_timeline,
    layout_from_settings,
    layout_settings,
    read_histories,
    read_layout,
    read_moments,
)
from vertical_sdk.catalog import baselines
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Example, LabelSpace, SeriesLayout, TaskName

__all__ = ["Seasonal", "seasonal"]

Seconds = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, eq=False)
class Seasonal:
    """Forecasts the value one period ago, or the seasonal mean."""

    layout: SeriesLayout
    seasonal_mean: SeasonalMean

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Forecast the seasonal mean, replaced by the value one period ago if the history contains it."""
        layout = self.layout
        ahead = range(1, layout.horizon + 1)
        forecast = self.seasonal_mean.look_up(read_moments(rows), ahead)
        period_steps = round(self.seasonal_mean.period / layout.seconds)
        if period_steps <= layout.history:
            histories = read_histories(rows, layout)
            for step in ahead[:period_steps]:
                earlier = histories[:, layout.history - 1 + step - period_steps]
                forecast[:, step - 1] = np.where(np.isnan(earlier), forecast[:, step - 1], earlier)
        return Outputs(values=forecast)

    def to_arrays(self) -> Arrays:
        """Return the seasonal mean and the layout."""
        settings = layout_settings(self.layout) | {"period": self.seasonal_mean.period}
        return {"settings": encode_json(settings), "seasonal_mean": self.seasonal_mean.mean}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Seasonal:
        """Restore the baseline from `to_arrays`."""
        settings = decode_json(arrays["settings"])
        layout = layout_from_settings(settings)
        mean = take_array(arrays, "seasonal_mean", None, len(layout.channels))
        return cls(layout, SeasonalMean.from_mean(mean, settings["period"], layout.seconds))


@baselines.register("seasonal", tasks=("forecasting",), title="the usual value at that time", saves_as=Seasonal)
def seasonal(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: TaskName,
    seed: int,
    base: Any,
    *,
    period: Seconds | None = None,
) -> Seasonal:
    """Forecast the value one period ago if a row's history contains it; else the training rows' mean at that time of the period.

    period  seconds; None means a week if the training rows span four weeks, else a day

    Raises DataError for rows without a time.
    """
    layout = read_layout(base, train)
    return Seasonal(layout, SeasonalMean.fit(build_timeline(train, layout), layout, period))
