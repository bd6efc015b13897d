# ruff: noqa: ARG001, ARG002  (all baselines are given the same things)
"""Gradient-boosted trees as a forecaster: one model for all channels and all steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.baselines.fitted import Arrays, as_bytes, from_bytes
from vertical_sdk.baselines.timeline import (
    DAY,
    WEEK,
    Floats,
    Usual,
    carried,
    histories,
    layout_of,
    moments,
    neighbours,
    timeline,
)
from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError, MissingExtra
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Example, LabelSpace, SeriesLayout, Task

__all__ = ["BoostedForecast", "boosted_forecast"]

RECENT = 12
"""Steps of the history that the trees see one by one."""
CELLS = 20_000_000
"""Numbers that a table of features may hold at once."""
Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, eq=False)
class BoostedForecast:
    """LightGBM's trees, kept in its own text format, and what their features are made with.

    middle, spread  (channels,) mean and standard deviation of each
    near            (channels, channels) weights of the channels near by; (0, 0) without a graph
    """

    layout: SeriesLayout
    usual: Usual
    middle: Floats
    spread: Floats
    near: Floats
    model: str

    def features(self, past: Floats, at: Floats, *, without_own: bool = False) -> tuple[NDArray[np.float32], Floats]:
        """What the trees see of each channel at each step: (rows, channels, horizon, features); and last values (rows, channels).

        Distances are from the channel's last value, in its spreads.
        """
        layout, n = self.layout, len(past)
        ahead = self.usual.at(at, range(1, layout.horizon + 1), without_own=without_own)
        behind = self.usual.at(at, range(1 - layout.history, 1), without_own=without_own)
        filled = carried(past, behind)
        last = filled[:, -1]
        recent = filled[:, -RECENT:]
        off = (filled - behind)[:, -RECENT:] / self.spread
        steps = recent.shape[1]
        marks = [-1 - mark for mark in sorted({0, steps // 4, steps // 2})]
        of_channel = [(recent[:, :-1] - last[:, None]) / self.spread]
        of_channel += [((f(recent, axis=1) - last) / self.spread)[:, None] for f in (np.min, np.max)]
        of_channel += [(recent.std(axis=1) / self.spread)[:, None], ((last - self.middle) / self.spread)[:, None]]
        of_channel += [off[:, marks]]
        if self.near.size:
            of_channel += [((recent @ self.near.T)[:, marks] - last[:, None]) / self.spread]
            of_channel += [off[:, marks] @ self.near.T]
        if len(self.spread) > 1:
            whole = off[:, marks].mean(axis=2, keepdims=True)
            of_channel += [np.broadcast_to(whole, (n, len(marks), len(self.spread)))]
        of_channel += [np.broadcast_to(fact, (n, 1, len(self.spread))) for fact in (self.middle, self.spread)]
        of_channel += [((ahead[:, [-1]] - last[:, None]) / self.spread)]
        one = np.concatenate(of_channel, axis=1).transpose(0, 2, 1)  # (rows, channels, k)
        of_step = [((ahead - last[:, None]) / self.spread).transpose(0, 2, 1)]
        for period in (DAY, WEEK):
            ago = round(period / layout.seconds)
            if ago <= layout.history + layout.horizon:
                of_step.append(self._ago(filled, last, ago))
        moment = at[:, None] + np.arange(1, layout.horizon + 1) * layout.seconds
        clock = [moment % DAY / DAY] + ([moment % WEEK // DAY] if self.usual.period > DAY else [])
        clock.append(np.broadcast_to(np.arange(layout.horizon, dtype=np.float64), moment.shape))
        of_step += [np.broadcast_to(hand[:, None], (n, len(self.spread), layout.horizon)) for hand in clock]
        table = np.empty((n, len(self.spread), layout.horizon, one.shape[2] + len(of_step)), dtype=np.float32)
        table[..., : one.shape[2]] = one[:, :, None]
        table[..., one.shape[2] :] = np.stack(of_step, axis=-1)
        return table, last

    def _ago(self, filled: Floats, last: Floats, ago: int) -> Floats:
        """What was one period before each step, (rows, channels, horizon); NaN where the history does not reach."""
        history = self.layout.history
        found = np.full((len(filled), self.layout.horizon, len(self.spread)), np.nan)
        for step in range(self.layout.horizon):
            place = history + step - ago
            if 0 <= place < history:
                found[:, step] = (filled[:, place] - last) / self.spread
        return found.transpose(0, 2, 1)

    def ask(self, rows: Sequence[Example], base: Any) -> Outputs:
        """The forecast, (rows, horizon, channels)."""
        import lightgbm

        booster = lightgbm.Booster(model_str=self.model)
        shape = (len(self.spread), self.layout.horizon)
        most = max(1, CELLS // (shape[0] * shape[1] * booster.num_feature()))
        said = []
        for start in range(0, len(rows), most):
            some = rows[start : start + most]
            table, last = self.features(histories(some, self.layout), moments(some))
            steps = np.asarray(booster.predict(table.reshape(-1, table.shape[-1]))).reshape(len(some), *shape)
            said.append(last[:, None] + self.spread * steps.transpose(0, 2, 1))
        return Outputs(values=np.concatenate(said))

    def arrays(self) -> Arrays:
        """Trees, and what their features are made with."""
        layout = self.layout
        what = {"channels": layout.channels, "seconds": layout.seconds, "history": layout.history, "horizon": layout.horizon}
        kept = as_bytes(what | {"period": self.usual.period, "model": self.model})
        rest = {"usual": self.usual.mean, "middle": self.middle, "spread": self.spread, "near": self.near}
        return {"kept": kept, **rest}

    @classmethod
    def of(cls, arrays: Arrays) -> BoostedForecast:
        """The same again."""
        kept = from_bytes(arrays["kept"])
        layout = SeriesLayout(tuple(kept["channels"]), kept["seconds"], kept["history"], kept["horizon"])
        usual = Usual.kept(arrays["usual"], kept["period"], kept["seconds"])
        return cls(layout, usual, arrays["middle"], arrays["spread"], arrays["near"], kept["model"])


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
    task: Task,
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
    """Gradient-boosted trees (LightGBM; Ke et al., 2017) that forecast the median of each channel at each step.

    The step is a feature, so one model does all of them. It sees the channel's last steps, what was a day and a week before the step,
    what is usual then (in training as the other days have it), the channels near by, all channels together, and the clock.

    most  rows of its table: triples of moment, channel and step, drawn by the seed where there are more

    Raises DataError where nothing is to be learned, MissingExtra without LightGBM.
    """
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        raise MissingExtra("trees", f"boosted trees ({error})") from None
    layout = layout_of(base, train)
    line = timeline(train, layout)
    usual, near = Usual.of(line, layout), neighbours(layout)
    middle, spread = line.level()
    blank = BoostedForecast(layout, usual, middle, spread, np.zeros((0, 0)) if near is None else near, "")
    rng = np.random.default_rng(seed)
    shape = (len(spread), layout.horizon)
    share = min(1.0, most / (len(train) * shape[0] * shape[1]))
    each = max(1, CELLS // (shape[0] * shape[1] * 64))
    tables, targets, weights = [], [], []
    for start in range(0, len(train), each):
        some = train[start : start + each]
        truth = np.stack([row.target for row in some]).transpose(0, 2, 1)  # type: ignore[misc]
        picked = (rng.random(truth.shape) < share) & ~np.isnan(truth)
        table, last = blank.features(histories(some, layout), moments(some), without_own=True)
        tables.append(table[picked])
        targets.append(((truth - last[:, :, None]) / spread[:, None])[picked])
        weights.append(np.broadcast_to(spread[:, None], truth.shape)[picked])
    if sum(map(len, targets)) < 2:
        raise DataError("baseline boosted_forecast: no training row has a known step.")
    params = {
        "objective": "l1",
        "learning_rate": learning_rate,
        "num_leaves": num_leaves,
        "min_data_in_leaf": min_child_samples,
        "feature_fraction": colsample_bytree,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(np.concatenate(tables), label=np.concatenate(targets), weight=np.concatenate(weights))
    model = str(lightgbm.train(params, data, num_boost_round=n_estimators).model_to_string())
    return BoostedForecast(layout, usual, middle, spread, blank.near, model)
