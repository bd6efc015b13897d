from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vertical_sdk import catalog
from vertical_sdk.baselines.fitted import load_fitted, save_arrays
from vertical_sdk.baselines.seasonal_mean import SeasonalMean
from vertical_sdk.baselines.timeline import build_timeline, fill_gaps, read_layout
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example, SeriesLayout

MONDAY = datetime(2024, 1, 1)
HOUR = 3600.0
NAMES = ("persistence", "seasonal", "linear", "boosted_forecast")


def make_rows(series: np.ndarray, history: int, horizon: int, start: datetime = MONDAY) -> list[Example]:
    """Cut a series (steps, channels) into hourly rows."""
    return [
        Example(
            id=str(end),
            values=series[end - history + 1 : end + 1],
            target=series[end + 1 : end + 1 + horizon],
            time=(start + timedelta(hours=end)).isoformat(),
        )
        for end in range(history - 1, len(series) - horizon)
    ]


def base_with(layout: SeriesLayout) -> Any:
    """Replace the base model, as far as a forecasting baseline reads it."""
    return SimpleNamespace(specialist=SimpleNamespace(layout=layout))


def fit(name: str, rows: list[Example], base: Any = None, **options: object) -> Any:
    return catalog.baselines.get(name)(rows, None, "forecasting", 0, base, **options)


def daily_waves(days: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hours = np.arange(24 * days)
    wave = np.sin(2 * np.pi * hours / 24)[:, None] * np.arange(1, channels + 1) * 10 + 50
    return wave + rng.normal(size=wave.shape)


def mean_absolute_error(fitted: Any, rows: list[Example]) -> float:
    truth = np.stack([np.asarray(row.target) for row in rows])
    return float(np.nanmean(np.abs(fitted.predict(rows, None).values - truth)))


def test_persistence_repeats_the_last_measured_value() -> None:
    series = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, np.nan], [4.0, 40.0], [5.0, 50.0]])
    rows = make_rows(series, 3, 2)
    layout = SeriesLayout(("a", "b"), HOUR, 3, 2)

    forecast = fit("persistence", rows, base_with(layout)).predict(rows, None).values

    assert forecast.tolist() == [[[3.0, 20.0], [3.0, 20.0]]]


def test_persistence_forecasts_the_mean_of_a_broken_sensor() -> None:
    rows = make_rows(np.arange(20.0).reshape(10, 2), 2, 1)
    fitted = fit("persistence", rows)
    down = replace(rows[0], values=np.array([[np.nan, 7.0], [np.nan, 8.0]]))

    assert fitted.predict([down], None).values.tolist() == [[[9.0, 8.0]]]


def test_seasonal_forecasts_the_mean_of_the_hour() -> None:
    series = np.tile(np.arange(24.0)[:, None], (5, 1)) + np.repeat([0.0, 1, 2, 3, 4], 24)[:, None]
    rows = make_rows(series, 3, 2)

    forecast = fit("seasonal", rows).predict(rows[:1], None).values  # the row ends at 2:00

    assert forecast[0, :, 0].tolist() == [5.0, 6.0]  # 3:00 and 4:00, and two more on the middle day


def test_seasonal_repeats_the_value_one_period_ago_if_the_history_has_it() -> None:
    series = daily_waves(6)
    rows = make_rows(series, 30, 4)

    forecast = fit("seasonal", rows, period=24 * HOUR).predict(rows[5:6], None).values

    np.testing.assert_allclose(forecast[0], series[35 - 24 : 39 - 24])


def test_seasonal_period_is_a_week_from_four_weeks_of_rows() -> None:
    few, many = make_rows(daily_waves(27), 3, 1), make_rows(daily_waves(29), 3, 1)

    assert fit("seasonal", few).seasonal_mean.period == 24 * HOUR
    assert fit("seasonal", many).seasonal_mean.period == 168 * HOUR


def test_linear_forecasts_an_autoregressive_series_nearly_optimally() -> None:
    rng = np.random.default_rng(1)
    series = np.zeros((400, 2))
    for t in range(2, 400):
        series[t] = 0.6 * series[t - 1] - 0.3 * series[t - 2] + rng.normal(size=2)
    rows = make_rows(series, 4, 1)

    fitted = fit("linear", rows[:300], rounds=0)

    best = np.abs(series[305:399] - (0.6 * series[304:398] - 0.3 * series[303:397])).mean()
    assert mean_absolute_error(fitted, rows[301:]) < 1.06 * best
    assert mean_absolute_error(fitted, rows[301:]) < 0.9 * mean_absolute_error(fit("persistence", rows[:300]), rows[301:])


def test_linear_uses_the_neighbours_of_a_channel() -> None:
    rng = np.random.default_rng(2)
    first = rng.normal(size=301)
    series = np.stack([first[1:], first[:-1]], axis=1)  # the second channel is the first one, an hour later
    rows = make_rows(series, 2, 1)
    layout = SeriesLayout(("up", "down"), HOUR, 2, 1, np.array([[0.0, 0.0], [1.0, 0.0]]))

    with_graph = fit("linear", rows[:200], base_with(layout), rounds=0).predict(rows[210:], None).values
    without_graph = fit("linear", rows[:200], rounds=0).predict(rows[210:], None).values

    truth = np.stack([np.asarray(row.target) for row in rows[210:]])
    assert np.abs(with_graph - truth)[:, :, 1].mean() < 0.7 * np.abs(without_graph - truth)[:, :, 1].mean()


def test_linear_approaches_the_median_of_skewed_errors() -> None:
    rng = np.random.default_rng(3)
    series = rng.exponential(size=(600, 1)) ** 2
    rows = make_rows(series, 2, 1)

    squares, absolutes = (fit("linear", rows[:400], rounds=n) for n in (0, 3))

    assert mean_absolute_error(absolutes, rows[403:]) < 0.95 * mean_absolute_error(squares, rows[403:])


def test_seasonal_mean_of_a_training_row_leaves_its_own_period_out() -> None:
    series = np.repeat([[0.0], [10.0], [50.0]], 24, axis=0)
    rows = make_rows(series, 1, 1)
    layout = SeriesLayout(("x",), HOUR, 1, 1)
    seasonal_mean = SeasonalMean.fit(build_timeline(rows, layout), layout)
    moments = np.array([0.0, 24.0, 48.0]) * HOUR + build_timeline(rows, layout).first

    assert seasonal_mean.look_up(moments, [1])[:, 0, 0].tolist() == [20.0, 20.0, 20.0]
    assert seasonal_mean.look_up(moments, [1], leave_own_out=True)[:, 0, 0].tolist() == [30.0, 25.0, 5.0]


def test_boosted_forecast_beats_persistence_on_days_that_repeat() -> None:
    pytest.importorskip("lightgbm")
    rows = make_rows(daily_waves(20), 6, 3)

    fitted = fit("boosted_forecast", rows[:380], n_estimators=40, min_child_samples=20)

    assert mean_absolute_error(fitted, rows[390:]) < 0.5 * mean_absolute_error(fit("persistence", rows[:380]), rows[390:])


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_forecaster_predicts_the_same(name: str) -> None:
    if name == "boosted_forecast":
        pytest.importorskip("lightgbm")
    rows = make_rows(daily_waves(8, channels=3), 6, 3)
    options: dict[str, object] = {"n_estimators": 5, "min_child_samples": 5} if name == "boosted_forecast" else {}
    graph = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    fitted = fit(name, rows, base_with(SeriesLayout(("a", "b", "c"), HOUR, 6, 3, graph)), **options)

    loaded = load_fitted(name, save_arrays(name, fitted, "here"))

    assert fitted.predict(rows[:5], None).values.shape == (5, 3, 3)
    np.testing.assert_array_equal(loaded.predict(rows[:5], None).values, fitted.predict(rows[:5], None).values)


@pytest.mark.parametrize("name", NAMES)
def test_forecasts_of_series_with_gaps_are_finite(name: str) -> None:
    if name == "boosted_forecast":
        pytest.importorskip("lightgbm")
    series = daily_waves(9)
    series[np.random.default_rng(0).random(series.shape) < 0.1] = np.nan
    series[50:60] = np.nan
    rows = make_rows(series, 6, 3)

    fitted = fit(name, rows)

    assert np.isfinite(fitted.predict(rows, None).values).all()


def test_gaps_are_filled_with_the_value_before_them() -> None:
    values = np.array([[np.nan, 1.0, np.nan, 3.0], [np.nan] * 4])[:, :, None]

    assert fill_gaps(values, np.full((2, 4, 1), 9.0))[:, :, 0].tolist() == [[1.0, 1.0, 1.0, 3.0], [9.0] * 4]


def test_boosted_forecast_with_the_same_seed_grows_the_same_trees() -> None:
    pytest.importorskip("lightgbm")
    rows = make_rows(daily_waves(6), 4, 2)

    first, second = (fit("boosted_forecast", rows, most=150, n_estimators=5, min_child_samples=5) for _ in range(2))

    assert first.trees.to_arrays().keys() == second.trees.to_arrays().keys()
    assert all(np.array_equal(values, second.trees.to_arrays()[name]) for name, values in first.trees.to_arrays().items())


def test_layout_is_read_from_the_rows_if_the_base_has_none() -> None:
    layout = read_layout(None, make_rows(daily_waves(3), 5, 2))

    assert (layout.seconds, layout.history, layout.horizon, len(layout.channels)) == (HOUR, 5, 2, 2)


def test_rows_without_series_are_refused() -> None:
    with pytest.raises(DataError, match="Row 1 has no series"):
        fit("persistence", [Example("1", "a text", "label")])
    with pytest.raises(DataError, match="no training rows"):
        fit("linear", [])
    with pytest.raises(DataError, match="is not in ISO 8601"):
        fit("seasonal", [replace(row, time=None) for row in make_rows(daily_waves(2), 3, 1)])


def test_a_series_of_another_shape_is_refused() -> None:
    rows = make_rows(daily_waves(3), 5, 2)

    with pytest.raises(DataError, match="a series of 4 x 2; 5 steps of 2 channels are needed"):
        fit("persistence", rows).predict([replace(rows[0], values=np.zeros((4, 2)))], None)


def test_a_forecaster_is_refused_for_another_task() -> None:
    with pytest.raises(RecipeError, match="linear supports forecasting, not classification"):
        catalog.baselines.require("linear", "classification")
