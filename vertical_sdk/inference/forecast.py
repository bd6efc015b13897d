"""Forecasts from a table of measured values, and a monitor for values as they arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.calibration.alarms import compute_distances
from vertical_sdk.calibration.intervals import widen_quantiles
from vertical_sdk.data.zones import parse_time, require_zone
from vertical_sdk.engines import Engine
from vertical_sdk.errors import AdapterError, DataError, did_you_mean
from vertical_sdk.inference.answer import Answer, answer
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, SeriesLayout

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Alarm", "Forecast", "Monitor", "as_forecast", "as_history", "create_monitor", "forecast", "judge_steps"]


@dataclass(frozen=True, eq=False)
class Forecast:
    """A forecast as tables with a row for each step and a column for each channel.

    mean       the central forecast: the median, which the model was trained to predict
    quantiles  level → the value that the truth stays below with that probability
    index      the times of the steps
    set_aside  readings of the history that were too large for the specialist, and counted as not measured
    """

    mean: pd.DataFrame
    quantiles: Mapping[float, pd.DataFrame]
    set_aside: int = 0

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
    steps = _check_horizon(horizon, card.layout)
    row, last, set_aside = as_history(history, card.layout, name)
    raw = answer(engine, [row], name)[name].raw
    quantiles = widen_quantiles(raw[0:1], card.calibration.widths)[0]
    levels = (0.5, *sorted(adapter.recipe.series.quantiles))[: quantiles.shape[-1]]  # members alone have only the median
    return as_forecast(quantiles[:steps], levels, card.layout, last, set_aside)


def create_monitor(engine: Engine, name: str) -> Monitor:
    """Create a monitor that a loaded specialist serves; see `VerticalModel.monitor`."""
    card = engine.adapter(name).card
    if get_task(card.task).verb != "monitor" or card.layout is None:
        raise AdapterError(
            f"{name} is a {card.task} specialist, which cannot monitor. Call {get_task(card.task).verb}() instead."
        )
    return Monitor(engine, name)


def as_history(history: Any, layout: SeriesLayout, name: str) -> tuple[Example, Any, int]:
    """Turn the last steps of a history into a row.

    Returns it with the time of the last step, and the number of readings that are too large to use.

    history  a DataFrame with a column for each channel (a Series, or (steps,), for one channel) and times as its index, or an array
             (steps, channels) without times. Steps that are missing from the index count as not measured, as NaN does; the columns
             may be in any order

    Raises DataError for channels that the specialist does not have, times that are not on its grid, appear twice or are of another
    kind than in training (with or without a zone), infinite values, or no measured value in the steps that it reads.
    """
    import pandas as pd

    if isinstance(history, pd.Series):
        history = history.to_frame(layout.channels[0] if len(layout.channels) == 1 else history.name)
    last: Any = None
    if isinstance(history, pd.DataFrame):
        values, last = _on_grid(_columns(history, layout, name), layout, name)
    else:
        values = _as_numbers(history, f"{name}: the history")
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or values.shape[1] != len(layout.channels):
            raise DataError(f"{name}: the history has shape {values.shape}; it should be (steps, {len(layout.channels)}).")
    if not len(values):
        raise DataError(f"{name}: the history is empty. Give the last {layout.history} steps.")
    values = values[-layout.history :]
    if len(values) < layout.history:
        values = np.concatenate([np.full((layout.history - len(values), values.shape[1]), np.nan), values])
    values, set_aside = _set_aside_far(values, layout, f"{name}: the history")
    if not np.isfinite(values).any():
        raise DataError(f"{name}: the last {layout.history} steps of the history contain no measured value.")
    time = require_zone(last.to_pydatetime(warn=False), layout.zone, name).isoformat() if last is not None else None
    return Example(id="history", values=values.astype(np.float32), time=time), last, set_aside


def as_forecast(
    quantiles: NDArray[Any], levels: Sequence[float], layout: SeriesLayout, last: Any, set_aside: int = 0
) -> Forecast:
    """Turn quantiles (steps, channels, q), the median first, into tables."""
    import pandas as pd

    steps = len(quantiles)
    index: Any = pd.RangeIndex(1, steps + 1, name="step")
    if last is not None:
        step = pd.Timedelta(seconds=layout.seconds)
        index = pd.DatetimeIndex([last + step * k for k in range(1, steps + 1)])
    tables = [pd.DataFrame(quantiles[:, :, k], index=index, columns=list(layout.channels)) for k in range(quantiles.shape[2])]
    return Forecast(tables[0], dict(zip(levels[1:], tables[1:], strict=True)), set_aside)


@dataclass(frozen=True)
class Alarm:
    """The result of a monitor for one value.

    score      how unusual the value is; without members the largest distance of a channel. NaN until enough values are known
    alarm      whether the score is above the threshold, which was set for the number of false alarms that the recipe allows
    expected   one value for each channel; NaN without an adapter, as members only score values
    distances  of each channel from its expected value, in units of its usual distance; NaN without a value
    """

    score: float
    alarm: bool
    expected: tuple[float, ...]
    distances: tuple[float, ...]


def judge_steps(answers: Answer) -> list[Alarm]:
    """Judge the targets of rows by what an anomaly specialist answers to these rows."""
    outputs, card, ensemble = answers.outputs, answers.adapter.card, answers.adapter.ensemble
    assert outputs.values is not None
    truth = np.stack([np.asarray(row.target, dtype=np.float64) for row in answers.rows])[:, 0]
    expected = distances = np.full(truth.shape, np.nan)
    if not card.members_only:
        own = answers.own_raw
        expected = own[:, 0, :, 0].astype(np.float64)
        distances = compute_distances(own, answers.rows, (card.calibration if ensemble is None else ensemble.own).widths)
    threshold = np.inf if outputs.threshold is None else outputs.threshold
    return [
        Alarm(float(score), bool(score >= threshold), tuple(value.tolist()), tuple(distance.tolist()))
        for score, value, distance in zip(outputs.values, expected, distances, strict=True)
    ]


class Monitor:
    """Watches values as they arrive; `VerticalModel.monitor` creates it. One monitor is for one thread: it remembers the values."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._name = engine, name
        layout = engine.adapter(name).card.layout
        assert layout is not None
        self._layout = layout
        self._seen: deque[NDArray[np.float32]] = deque(maxlen=self._layout.history)
        self._last: datetime | None = None
        self._begun = False
        self.set_aside = 0
        """Readings that were too large for the specialist. Each was scored, and counts as not measured for the steps after it."""

    def update(self, value: Any, time: Any = None) -> Alarm:
        """Take the next value, or one value for each channel, and return whether it is unusual.

        value  a number, (channels,), or {channel: number}; NaN if it was not measured. A reading that is far too large (see
               `SeriesLayout.limits`) gets its score, and counts as not measured for the steps after it
        time   when it was measured, for specialists that use the time of day: a datetime, a Timestamp, a datetime64 or text in
               ISO 8601; missing steps count as not measured

        Raises DataError for a value of another shape or an infinite one, and for a time that is not after the last one, is of another
        kind than in training (with or without a zone), or is missing though others had one. The monitor is then as before.
        """
        now = _as_reading(value, self._layout)
        if now.shape != (len(self._layout.channels),):
            raise DataError(
                f"{now.size} values were given, and this specialist monitors {len(self._layout.channels)} channels."
            )
        usable, set_aside = _set_aside_far(now[None], self._layout, "the reading")
        moment = None if time is None else require_zone(_as_moment(time), self._layout.zone)
        if self._begun and (moment is None) != (self._last is None):
            kinds = ("no time", "one") if moment is None else ("a time", "none")
            raise DataError(f"this value has {kinds[0]}, and the values before it had {kinds[1]}.")
        if moment is not None and self._last is not None:
            steps = _seconds_between(self._last, moment) / self._layout.seconds
            if steps < 0.5 or abs(steps - round(steps)) > 0.01:
                raise DataError(
                    f"the time {moment} is not a whole number of steps of {self._layout.seconds:g} s after {self._last}."
                )
            for _ in range(min(round(steps) - 1, self._layout.history)):
                self._seen.append(np.full(len(now), np.nan, np.float32))
        before = self._last
        self._last, self._begun = moment, True
        self.set_aside += set_aside
        known = np.stack(self._seen) if self._seen else np.zeros((0, len(now)), np.float32)
        read = usable[0].astype(np.float32)  # rounded as the readings of a file are, so that it has the same score
        self._seen.append(read)
        if len(known) < self._layout.history or not np.isfinite(known).any():
            unknown = (float("nan"),) * len(now)
            return Alarm(float("nan"), False, unknown, unknown)
        target = np.where(np.isnan(read), now, read)[None]
        row = Example(id="now", values=known, target=target, time=before.isoformat() if before else None)
        return judge_steps(answer(self._engine, [row], self._name)[self._name])[0]


def _check_horizon(horizon: Any, layout: SeriesLayout) -> int:
    """Return the number of steps to forecast.

    Raises DataError for anything but a whole number that the specialist can forecast.
    """
    if horizon is None:
        return layout.horizon
    whole = isinstance(horizon, Integral) and not isinstance(horizon, bool)
    if not whole or not 1 <= int(horizon) <= layout.horizon:
        raise DataError(
            f"horizon = {horizon!r} is wrong: this specialist forecasts 1 to {layout.horizon} steps ahead. Give a whole number."
        )
    return int(horizon)


def _as_numbers(values: Any, what: str) -> NDArray[np.float64]:
    """Convert to float64.

    Raises DataError for values that are not numbers.
    """
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{what} contains a value that is not a number ({error}). Give numbers, and NaN if not measured."
        ) from None


def _as_reading(value: Any, layout: SeriesLayout) -> NDArray[np.float64]:
    """Convert the value of an update to (n,); values with names come in the order of the channels."""
    import pandas as pd

    named = value.to_dict() if isinstance(value, pd.Series) and not isinstance(value.index, pd.RangeIndex) else value
    if isinstance(named, Mapping):
        if set(named) != set(layout.channels):
            raise DataError(
                f"the values are of {', '.join(map(str, named))}; this specialist monitors {', '.join(layout.channels[:5])}."
            )
        value = [named[channel] for channel in layout.channels]
    return _as_numbers(value, "the reading").reshape(-1)


def _set_aside_far(values: NDArray[np.float64], layout: SeriesLayout, what: str) -> tuple[NDArray[np.float64], int]:
    """Replace readings (steps, channels) that are too large for the specialist by NaN, and count them.

    Raises DataError for an infinite one.
    """
    infinite = np.isinf(values)
    if infinite.any():
        channel = layout.channels[int(np.nonzero(infinite)[1][0])]
        raise DataError(f"{what} contains an infinite value of {channel}. Give NaN if nothing was measured.")
    far = np.abs(values) > np.array(layout.limits())
    return np.where(far, np.nan, values), int(far.sum())


def _as_moment(time: Any) -> datetime:
    """Convert the time of a reading to a datetime.

    Raises DataError for something else, NaT included.
    """
    import pandas as pd

    if isinstance(time, (str, date, np.datetime64)) and not pd.isna(time):
        try:
            if isinstance(time, str) or type(time) is date:
                return parse_time(time, "", "time")
            stamp = pd.Timestamp(time)
            return stamp.to_pydatetime(warn=False)
        except (ValueError, OverflowError):
            pass
    raise DataError(
        f"{time!r} is not a time. Give a datetime, a pandas Timestamp, a numpy datetime64 or text like 2024-01-31T08:05:00."
    )


def _seconds_between(earlier: datetime, later: datetime) -> float:
    """Compute the seconds between two times of one kind; between two with a zone, those that really passed."""
    if earlier.tzinfo is not None:
        earlier, later = earlier.astimezone(timezone.utc), later.astimezone(timezone.utc)
    return (later - earlier).total_seconds()


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

    values = _as_numbers(history, f"{name}: the history")
    index = history.index
    if not isinstance(index, pd.DatetimeIndex):
        if isinstance(index, pd.RangeIndex):
            return values, None
        raise DataError(f"{name}: the history's index should hold times (a DatetimeIndex), not {index.dtype}.")
    if not len(index):
        return values, None
    if index.hasnans:
        raise DataError(f"{name}: the history has a row without a time (NaT). Each step needs its time.")
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
