"""Gradient-boosted trees as a forecaster: one model for all channels and all steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError, MissingExtra
from vertical_sdk.families.clock import neighbour_weights
from vertical_sdk.kernels.threads import SMALL_TABLE, count_threads_for
from vertical_sdk.outputs import Outputs
from vertical_sdk.trees import Trees, join_trees, parse_trees, read_trees
from vertical_sdk.types import DAY, WEEK, Example, LabelSpace, SeriesLayout, TaskName

__all__ = ["BoostedForecast", "boosted_forecast"]

Floats = NDArray[np.float64]
RECENT = 12
"""Steps of the history that the trees see one by one."""
LARGEST_TABLE = 20_000_000
"""Numbers in a table of features at once."""
FEATURES = 64
"""Features of a table's row at most, to size the tables before they are computed."""
OBJECTIVE = "regression_l1"
"""LightGBM's name of the loss that the trees are fitted with."""
Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, eq=False)
class BoostedForecast:
    """Boosted trees, and what their features are computed from.

    mean, spread  (channels,) mean and standard deviation of each
    neighbours    (channels, channels) weights of the neighbour channels; (0, 0) without a graph
    """

    layout: SeriesLayout
    seasonal_mean: SeasonalMean
    mean: Floats
    spread: Floats
    neighbours: Floats
    trees: Trees

    def features(
        self, histories: Floats, moments: Floats, *, leave_own_out: bool = False
    ) -> tuple[NDArray[np.float32], Floats]:
        """Compute the features of each channel at each step, and the last values.

        Differences are from the channel's last value, divided by its spread.

        returns  features (rows, channels, horizon, features), last values (rows, channels)
        """
        horizon, lookup = self.layout.horizon, self.seasonal_mean.look_up
        ahead = lookup(moments, range(1, horizon + 1), leave_own_out=leave_own_out)
        before = lookup(moments, range(1 - self.layout.history, 1), leave_own_out=leave_own_out)
        filled = fill_gaps(histories, before)
        last = filled[:, -1]
        of_channel = self._channel_features(filled, before, ahead)  # (rows, channels, k)
        of_step = self._step_features(filled, ahead, moments)  # (rows, channels, horizon, m)
        split = of_channel.shape[2]
        table = np.empty((*of_step.shape[:3], split + of_step.shape[3]), dtype=np.float32)
        table[..., :split] = of_channel[:, :, None]
        table[..., split:] = of_step
        return table, last

    def _channel_features(self, filled: Floats, before: Floats, ahead: Floats) -> Floats:
        """Compute the features that are the same for all steps of a row: (rows, channels, k)."""
        n, channels = len(filled), len(self.spread)
        last, recent = filled[:, -1], filled[:, -RECENT:]
        deviation = (filled - before)[:, -RECENT:] / self.spread
        steps = recent.shape[1]
        lags = [-1 - lag for lag in sorted({0, steps // 4, steps // 2})]
        parts = [(recent[:, :-1] - last[:, None]) / self.spread]
        parts += [((extreme(recent, axis=1) - last) / self.spread)[:, None] for extreme in (np.min, np.max)]
        parts += [(recent.std(axis=1) / self.spread)[:, None], ((last - self.mean) / self.spread)[:, None]]
        parts += [deviation[:, lags]]
        if self.neighbours.size:
            parts += [((recent @ self.neighbours.T)[:, lags] - last[:, None]) / self.spread]
            parts += [deviation[:, lags] @ self.neighbours.T]
        if channels > 1:
            all_channels = deviation[:, lags].mean(axis=2, keepdims=True)
            parts += [np.broadcast_to(all_channels, (n, len(lags), channels))]
        parts += [np.broadcast_to(constant, (n, 1, channels)) for constant in (self.mean, self.spread)]
        parts += [((ahead[:, [-1]] - last[:, None]) / self.spread)]
        return np.concatenate(parts, axis=1).transpose(0, 2, 1)

    def _step_features(self, filled: Floats, ahead: Floats, moments: Floats) -> Floats:
        """Compute the features of each step: (rows, channels, horizon, m)."""
        layout, last = self.layout, filled[:, -1]
        parts = [((ahead - last[:, None]) / self.spread).transpose(0, 2, 1)]
        for period in (DAY, WEEK):
            period_steps = round(period / layout.seconds)
            if period_steps <= layout.history + layout.horizon:
                parts.append(self._one_period_ago(filled, last, period_steps))
        moment = moments[:, None] + np.arange(1, layout.horizon + 1) * layout.seconds
        clock = [moment % DAY / DAY] + ([moment % WEEK // DAY] if self.seasonal_mean.period > DAY else [])
        clock.append(np.broadcast_to(np.arange(layout.horizon, dtype=np.float64), moment.shape))
        shape = (len(filled), len(self.spread), layout.horizon)
        parts += [np.broadcast_to(time[:, None], shape) for time in clock]
        return np.stack(parts, axis=-1)

    def _one_period_ago(self, filled: Floats, last: Floats, period_steps: int) -> Floats:
        """Look up the value one period before each step: (rows, channels, horizon), NaN beyond the history."""
        history = self.layout.history
        values = np.full((len(filled), self.layout.horizon, len(self.spread)), np.nan)
        for step in range(self.layout.horizon):
            position = history + step - period_steps
            if 0 <= position < history:
                values[:, step] = (filled[:, position] - last) / self.spread
        return values.transpose(0, 2, 1)

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Forecast: (rows, horizon, channels)."""
        shape = (len(self.spread), self.layout.horizon)
        chunk_size = max(1, LARGEST_TABLE // (shape[0] * shape[1] * FEATURES))
        forecasts = []
        for start in range(0, len(rows), chunk_size):
            chunk = rows[start : start + chunk_size]
            table, last = self.features(read_histories(chunk, self.layout), read_moments(chunk))
            steps = self.trees.sums(table.reshape(-1, table.shape[-1]), 1).reshape(len(chunk), *shape)
            forecasts.append(last[:, None] + self.spread * steps.transpose(0, 2, 1))
        return Outputs(values=np.concatenate(forecasts))

    def to_arrays(self) -> Arrays:
        """Return the trees, and what their features are computed from."""
        settings = layout_settings(self.layout) | {"period": self.seasonal_mean.period}
        return {
            "settings": encode_json(settings),
            "seasonal_mean": self.seasonal_mean.mean,
            "mean": self.mean,
            "spread": self.spread,
            "neighbours": self.neighbours,
            **self.trees.to_arrays(),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> BoostedForecast:
        """Restore the baseline from `to_arrays`, or from the arrays of earlier versions, which had LightGBM's text of the trees."""
        settings = decode_json(arrays["settings"])
        layout, text = layout_from_settings(settings), settings.get("model")
        channels = len(layout.channels)
        means = take_array(arrays, "seasonal_mean", None, channels)
        seasonal_mean = SeasonalMean.from_mean(means, settings["period"], layout.seconds)
        mean, spread = take_array(arrays, "mean", channels), take_array(arrays, "spread", channels)
        trees = read_trees(arrays) if text is None else parse_trees(text, OBJECTIVE)
        restored = cls(layout, seasonal_mean, mean, spread, take_neighbours(arrays, channels), trees)
        table, _ = restored.features(np.zeros((1, layout.history, channels)), np.zeros(1))
        trees.require(outputs=1, features=table.shape[-1])
        return restored


@baselines.register(
    "boosted_forecast",
    tasks=("forecasting",),
    title="boosted trees",
    saves_as=BoostedForecast,
    classical=2,
    extra="trees",
)
def boosted_forecast(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: TaskName,
    seed: int,
    base: Any,
    *,
    n_estimators: Positive = 300,
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1,
    num_leaves: Annotated[int, Field(ge=2)] = 31,
    min_child_samples: Positive = 100,
    colsample_bytree: Annotated[float, Field(gt=0, le=1)] = 0.6,
    most: Positive = 200_000,
) -> BoostedForecast:
    """Fit gradient-boosted trees (LightGBM; Ke et al., 2017) that forecast the median of each channel at each step.

    The step is a feature, so one model forecasts all of them. The trees see the channel's last steps, the values one day and one
    week before the step, the seasonal mean at the step (in training that of the other days), the neighbour channels, the mean of
    all channels, and the clock. The options have the names of LightGBM's scikit-learn interface.

    most  rows of the table at most. A row is a moment, a channel and a step; if there are more, the seed draws them

    Raises DataError if no step is known, MissingExtra if LightGBM is not installed.
    """
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        raise MissingExtra("trees", f"boosted trees ({error})") from None
    layout = read_layout(base, train)
    timeline = build_timeline(train, layout)
    seasonal_mean, neighbours = SeasonalMean.fit(timeline, layout), neighbour_weights(layout)
    mean, spread = timeline.mean_and_spread()
    neighbours = np.zeros((0, 0)) if neighbours is None else neighbours
    unfitted = BoostedForecast(layout, seasonal_mean, mean, spread, neighbours, join_trees([]))
    table, target, weight = _training_table(unfitted, train, most, np.random.default_rng(seed))
    params = {
        "objective": "l1",
        "learning_rate": learning_rate,
        "num_leaves": num_leaves,
        "min_data_in_leaf": min_child_samples,
        "feature_fraction": colsample_bytree,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": count_threads_for(table.size, SMALL_TABLE),
        "verbosity": -1,
    }
    data = lightgbm.Dataset(table, label=target, weight=weight)
    text = str(lightgbm.train(params, data, num_boost_round=n_estimators).model_to_string())
    return replace(unfitted, trees=parse_trees(text, OBJECTIVE))


def _training_table(
    unfitted: BoostedForecast, train: Sequence[Example], most: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Floats, Floats]:
    """Draw the training table: features (n, k), targets (n,), weights (n,).

    Raises DataError if fewer than two steps are known.
    """
    layout, spread = unfitted.layout, unfitted.spread
    cells = len(spread) * layout.horizon
    share = min(1.0, most / (len(train) * cells))
    chunk_size = max(1, LARGEST_TABLE // (cells * FEATURES))
    tables, targets, weights = [], [], []
    for start in range(0, len(train), chunk_size):
        chunk = train[start : start + chunk_size]
        truth = np.stack([row.target for row in chunk]).transpose(0, 2, 1)  # type: ignore[misc]
        drawn = (rng.random(truth.shape) < share) & ~np.isnan(truth)
        table, last = unfitted.features(read_histories(chunk, layout), read_moments(chunk), leave_own_out=True)
        tables.append(table[drawn])
        targets.append(((truth - last[:, :, None]) / spread[:, None])[drawn])
        weights.append(np.broadcast_to(spread[:, None], truth.shape)[drawn])
    if sum(map(len, targets)) < 2:
        raise DataError("The boosted_forecast baseline cannot be fitted: no training row has a known step to forecast.")
    return np.concatenate(tables), np.concatenate(targets), np.concatenate(weights)
