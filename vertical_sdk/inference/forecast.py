"""Forecasts from a table of measured values, and a monitor for values as they arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.calibration.alarms import compute_scores
from vertical_sdk.calibration.intervals import widen_quantiles
from vertical_sdk.engines import Engine
from vertical_sdk.errors import AdapterError, DataError, did_you_mean
from vertical_sdk.inference.answer import answer
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, SeriesLayout

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Alarm", "Forecast", "Monitor", "as_forecast", "as_history", "create_monitor", "forecast"]


@dataclass(frozen=True, eq=False)
class Forecast:
    """A forecast as tables with a row for each step and a column for each channel.

    mean       the central forecast: the median, which the model was trained to predict
    quantiles  level → the value that the truth stays below with that probability
    index      the times of the steps
    """

    mean: pd.DataFrame
    quantiles: Mapping[float, pd.DataFrame]

    @property
    def index(self) -> pd.Index[Any]:
        """The times of the steps, or their numbers if the history had no times."""
        return self.mean.index


def forecast(engine: Engine, name: str, history: Any, horizon: int | None = None) -> Forecast:
    """Forecast by a loaded specialist; see `VerticalModel.forecast`."""
    adapter = engine.adapter(name)
    card = adapter.card
    if get_task(card.task).verb != "forecast" or card.layout is None:
        raise AdapterError(
            f"{name} is a {card.task} specialist, which cannot forecast. Call {get_task(card.task).verb}() instead."
        )
    row, last = as_history(history, card.layout, name)
    raw = answer(engine, [row], name)[name].raw
    quantiles = widen_quantiles(raw[0:1], card.calibration.widths)[0]
    return as_forecast(quantiles, (0.5, *sorted(adapter.recipe.series.quantiles)), card.layout, last, horizon)


def create_monitor(engine: Engine, name: str) -> Monitor:
    """Create a monitor that a loaded specialist serves; see `VerticalModel.monitor`."""
    card = engine.adapter(name).card
    if get_task(card.task).verb != "monitor" or card.layout is None:
        raise AdapterError(
            f"{name} is a {card.task} specialist, which cannot monitor. Call {get_task(card.task).verb}() instead."
        )
    return Monitor(engine, name)


def as_history(history: Any, layout: SeriesLayout, name: str) -> tuple[Example, Any]:
    """Turn the last steps of a history into a row, and return it with the time of the last step.

    history  a DataFrame with a column for each channel (a Series, or (steps,), for one channel) and times as its index, or an array
             (steps, channels) without times. Steps that are missing from the index count as not measured, as NaN does; the columns
             may be in any order

    Raises DataError for channels that the specialist does not have, times that are not on its grid or appear twice, or no measured
    value in the steps that it reads.
    """
    import pandas as pd

    if isinstance(history, pd.Series):
        history = history.to_frame(layout.channels[0] if len(layout.channels) == 1 else history.name)
    last: Any = None
    if isinstance(history, pd.DataFrame):
        values, last = _on_grid(_columns(history, layout, name), layout, name)
    else:
        values = np.asarray(history, dtype=np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or values.shape[1] != len(layout.channels):
            raise DataError(f"{name}: the history has shape {values.shape}; it should be (steps, {len(layout.channels)}).")
    if not len(values):
        raise DataError(f"{name}: the history is empty. Give the last {layout.history} steps.")
    values = values[-layout.history :]
    if len(values) < layout.history:
        values = np.concatenate([np.full((layout.history - len(values), values.shape[1]), np.nan), values])
    if not np.isfinite(values).any():
        raise DataError(f"{name}: the last {layout.history} steps of the history contain no measured value.")
    time = last.isoformat() if last is not None else None
    return Example(id="history", values=values.astype(np.float32), time=time), last


def as_forecast(
    quantiles: NDArray[Any], levels: Sequence[float], layout: SeriesLayout, last: Any, horizon: int | None
) -> Forecast:
    """Turn quantiles (steps, channels, q), the median first, into tables."""
    import pandas as pd

    steps = layout.horizon if horizon is None else horizon
    if not 1 <= steps <= layout.horizon:
        raise DataError(f"horizon = {horizon} is wrong: this specialist forecasts 1 to {layout.horizon} steps ahead.")
    index: Any = pd.RangeIndex(1, steps + 1, name="step")
    if last is not None:
        step = pd.Timedelta(seconds=layout.seconds)
        index = pd.DatetimeIndex([last + step * k for k in range(1, steps + 1)])
    tables = [
        pd.DataFrame(quantiles[:steps, :, k], index=index, columns=list(layout.channels)) for k in range(quantiles.shape[2])
    ]
    return Forecast(tables[0], dict(zip(levels[1:], tables[1:], strict=True)))


@dataclass(frozen=True)
class Alarm:
    """The result of a monitor for one value.

    score    distance from the expected value, in units of the usual distance; NaN until enough values are known
    alarm    whether the score is above the threshold, which was set for the number of false alarms that the recipe allows
    expected one value for each channel
    """

    score: float
    alarm: bool
    expected: tuple[float, ...]


class Monitor:
    """Watches values as they arrive; `VerticalModel.monitor` creates it. One monitor is for one thread: it remembers the values."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._name = engine, name
        self._card = card = engine.adapter(name).card
        assert card.layout is not None
        self._layout = card.layout
        self._seen: deque[NDArray[np.float32]] = deque(maxlen=self._layout.history)
        self._last: datetime | None = None

    def update(self, value: Any, time: datetime | str | None = None) -> Alarm:
        """Take the next value, or one value for each channel, and return whether it is unusual.

        value  a number, or (channels,); NaN if it was not measured
        time   when it was measured, for specialists that use the time of day; missing steps count as not measured

        Raises DataError for a value of another shape, or a time that is not after the last one.
        """
        now = np.asarray(value, dtype=np.float32).reshape(-1)
        if now.shape != (len(self._layout.channels),):
            raise DataError(
                f"{now.size} values were given, and this specialist monitors {len(self._layout.channels)} channels."
            )
        moment = datetime.fromisoformat(time) if isinstance(time, str) else time
        if moment is not None and self._last is not None:
            steps = (moment - self._last).total_seconds() / self._layout.seconds
            if steps < 0.5 or abs(steps - round(steps)) > 0.01:
                raise DataError(
                    f"the time {moment} is not a whole number of steps of {self._layout.seconds:g} s after {self._last}."
                )
            for _ in range(min(round(steps) - 1, self._layout.history)):
                self._seen.append(np.full_like(now, np.nan))
        before = self._last
        self._last = moment
        known = np.stack(self._seen) if self._seen else np.zeros((0, len(now)), np.float32)
        self._seen.append(now)
        if len(known) < self._layout.history or not np.isfinite(known).any():
            return Alarm(float("nan"), False, tuple([float("nan")] * len(now)))
        row = Example(id="now", values=known, target=now[None], time=before.isoformat() if before else None)
        expected = answer(self._engine, [row], self._name)[self._name].raw[0]
        score = float(compute_scores(expected[None], [row], self._card.calibration.widths)[0])
        threshold = self._card.calibration.threshold
        return Alarm(score, threshold is not None and score >= threshold, tuple(float(value) for value in expected[0, :, 0]))


def _columns(history: pd.DataFrame, layout: SeriesLayout, name: str) -> pd.DataFrame:
    names = [str(column) for column in history.columns]
    missing = [channel for channel in layout.channels if channel not in names]
    extra = [column for column in names if column not in layout.channels]
    if missing or extra or len(set(names)) < len(names):
        wrong = f"lacks {', '.join(missing[:5])}" if missing else f"has the unknown columns {', '.join(extra[:5])}"
        if not missing and not extra:
            wrong = "has a column twice"
        hint = did_you_mean(extra[0], layout.channels) if extra else ""
        raise DataError(f"{name}: the history {wrong}.{hint} It reads {len(layout.channels)} channels.")
    return history.set_axis(names, axis=1)[list(layout.channels)]


def _on_grid(history: pd.DataFrame, layout: SeriesLayout, name: str) -> tuple[NDArray[np.float64], Any]:
    """The last steps with a row for each, and the time of the last one; None if the index has no times."""
    import pandas as pd

    values = history.to_numpy(dtype=np.float64)
    index = history.index
    if not isinstance(index, pd.DatetimeIndex):
        if isinstance(index, pd.RangeIndex):
            return values, None
        raise DataError(f"{name}: the history's index should hold times (a DatetimeIndex), not {index.dtype}.")
    if not len(index):
        return values, None
    if index.has_duplicates or not index.is_monotonic_increasing:
        problem = "appears twice" if index.has_duplicates else "is not in order"
        first = index[index.duplicated()][0] if index.has_duplicates else next(b for a, b in pairwise(index) if b < a)
        raise DataError(f"{name}: the time {first} {problem}. Each step must appear once, oldest first.")
    back = (index[-1] - index).total_seconds().to_numpy() / layout.seconds
    off = np.abs(back - np.round(back)) > 0.01
    if off.any():
        raise DataError(
            f"{name}: the time {index[int(np.flatnonzero(off)[0])]} is not on the grid of {layout.seconds:g} s that ends at "
            f"{index[-1]}. Resample the history: history.resample('{layout.seconds:g}s').mean()."
        )
    places = np.round(back).astype(int)
    grid = np.full((layout.history, values.shape[1]), np.nan)
    inside = places < layout.history
    grid[layout.history - 1 - places[inside]] = values[inside]
    return grid, index[-1]
