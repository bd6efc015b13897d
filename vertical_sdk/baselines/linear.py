"""The linear forecast: one linear model of the history for all channels and steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.baselines.fitted import Arrays, decode_json, encode_json, take_array
from vertical_sdk.baselines.seasonal_mean import SeasonalMean
from vertical_sdk.baselines.timeline import (
    build_timeline,
    fill_gaps,
    layout_from_settings,
    layout_settings,
    read_histories,
    read_layout,
    read_moments,
    take_neighbours,
)
from vertical_sdk.catalog import NotNegative, baselines
from vertical_sdk.errors import DataError
from vertical_sdk.families.clock import neighbour_weights
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Example, LabelSpace, SeriesLayout, TaskName

__all__ = ["Linear", "linear"]

Floats = NDArray[np.float64]
LARGEST_TABLE = 30_000_000
"""Numbers in the table of features at once. If there are more, every k-th training row is used."""
SMALL_ERROR = 0.05
"""Errors below this, in spreads, count as squares and not as absolute values."""


@dataclass(frozen=True, eq=False)
class Linear:
    """One linear model for all channels.

    spread        (channels,) standard deviation of each
    neighbours    (channels, channels) weights of the neighbour channels; (0, 0) without a graph
    weight, bias  (features, horizon) and (horizon,)
    """

    layout: SeriesLayout
    seasonal_mean: SeasonalMean
    spread: Floats
    neighbours: Floats
    weight: Floats
    bias: Floats

    def features(self, histories: Floats, moments: Floats, *, leave_own_out: bool = False) -> tuple[Floats, Floats]:
        """Compute features (rows, channels, features) and last values (rows, channels) of histories (rows, history, channels).

        All features are differences from the channel's last value, divided by its spread: of its own history, the history of its
        neighbours, and the seasonal mean before and after the row's time.
        """
        layout, lookup = self.layout, self.seasonal_mean.look_up
        before = lookup(moments, range(1 - layout.history, 1), leave_own_out=leave_own_out)
        ahead = lookup(moments, range(1, layout.horizon + 1), leave_own_out=leave_own_out)
        filled = fill_gaps(histories, before)
        parts = [filled[:, :-1], before, ahead, *([filled @ self.neighbours.T] if self.neighbours.size else [])]
        last = filled[:, -1]
        return ((np.concatenate(parts, axis=1) - last[:, None]) / self.spread).transpose(0, 2, 1), last

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Forecast: (rows, horizon, channels)."""
        forecasts = []
        chunk_size = max(1, LARGEST_TABLE // max(1, len(self.weight) * len(self.spread)))
        for start in range(0, len(rows), chunk_size):
            chunk = rows[start : start + chunk_size]
            features, last = self.features(read_histories(chunk, self.layout), read_moments(chunk))
            forecasts.append(last[:, None] + self.spread * (features @ self.weight + self.bias).transpose(0, 2, 1))
        return Outputs(values=np.concatenate(forecasts))

    def to_arrays(self) -> Arrays:
        """Return the weights, the seasonal mean and the layout."""
        return {
            "settings": encode_json(layout_settings(self.layout) | {"period": self.seasonal_mean.period}),
            "seasonal_mean": self.seasonal_mean.mean,
            "spread": self.spread,
            "neighbours": self.neighbours,
            "weight": self.weight,
            "bias": self.bias,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Linear:
        """Restore the baseline from `to_arrays`."""
        settings = decode_json(arrays["settings"])
        layout = layout_from_settings(settings)
        channels = len(layout.channels)
        mean = take_array(arrays, "seasonal_mean", None, channels)
        spread, neighbours = take_array(arrays, "spread", channels), take_neighbours(arrays, channels)
        weight = take_array(arrays, "weight", _count_features(layout, neighbours), layout.horizon)
        seasonal_mean = SeasonalMean.from_mean(mean, settings["period"], layout.seconds)
        return cls(layout, seasonal_mean, spread, neighbours, weight, take_array(arrays, "bias", layout.horizon))


def _count_features(layout: SeriesLayout, neighbours: Floats) -> int:
    return 2 * layout.history + layout.horizon - 1 + (layout.history if neighbours.size else 0)


@baselines.register("linear", tasks=("forecasting",), title="linear model", saves_as=Linear, classical=3)
def linear(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: TaskName,
    seed: int,
    base: Any,
    *,
    alpha: NotNegative = 1e-3,
    rounds: Annotated[int, Field(ge=0, le=20)] = 3,
) -> Linear:
    """Fit one linear model for all steps and channels, on their history, their neighbours' history and the seasonal mean.

    The seasonal mean of a training row is that of the other days (or weeks): otherwise the model would trust it too much.

    alpha   strength of the L2 penalty of ridge regression, as a share of the features' mean square
    rounds  how often to fit again with rows weighted by the inverse of their error, which leads from the mean to the median
            (iteratively reweighted least squares; Schlossmacher, 1973); 0: least squares

    Raises DataError if there are too few training rows.
    """
    layout = read_layout(base, train)
    timeline = build_timeline(train, layout)
    seasonal_mean, neighbours = SeasonalMean.fit(timeline, layout), neighbour_weights(layout)
    neighbours = np.zeros((0, 0)) if neighbours is None else neighbours
    spread = timeline.mean_and_spread()[1]
    size = _count_features(layout, neighbours)
    unfitted = Linear(layout, seasonal_mean, spread, neighbours, np.zeros((size, 1)), np.zeros(1))
    chosen = train[:: 1 + len(train) * len(spread) * size // LARGEST_TABLE]
    features, last = unfitted.features(read_histories(chosen, layout), read_moments(chosen), leave_own_out=True)
    target = np.stack([row.target for row in chosen])  # type: ignore[misc]
    y = ((target - last[:, None]) / spread).transpose(0, 2, 1).reshape(-1, layout.horizon)
    known = ~np.isnan(y).any(axis=1)
    x, y = features.reshape(-1, size)[known], y[known]
    if len(x) < 2:
        raise DataError(
            f"The linear baseline cannot be fitted: {len(x)} training rows have all of their {layout.horizon} steps; two are needed."
        )
    weight, bias = _fit_ridge(x, y, alpha, None)
    for _ in range(rounds):
        error = np.abs(y - x @ weight - bias).mean(axis=1)
        weight, bias = _fit_ridge(x, y, alpha, 1 / np.maximum(error, SMALL_ERROR))
    return Linear(layout, seasonal_mean, spread, neighbours, weight, bias)


def _fit_ridge(x: Floats, y: Floats, alpha: float, weights: Floats | None) -> tuple[Floats, Floats]:
    """Fit ridge regression with a weight for each row, if given: (features, k) and (k,)."""
    x_mean, y_mean = np.average(x, axis=0, weights=weights), np.average(y, axis=0, weights=weights)
    centered: Floats = x - x_mean
    weighted: Floats = (centered if weights is None else centered * weights[:, None]).T
    gram = weighted @ centered
    gram[np.diag_indices_from(gram)] += alpha * np.trace(gram) / len(gram) + 1e-9
    weight = np.asarray(np.linalg.solve(gram, weighted @ (y - y_mean)), dtype=np.float64)
    return weight, np.asarray(y_mean - x_mean @ weight, dtype=np.float64)
