from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vertical_sdk import catalog
from vertical_sdk.baselines.fitted import pack, unpack
from vertical_sdk.baselines.timeline import Usual, carried, layout_of, timeline
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example, SeriesLayout

MONDAY = datetime(2024, 1, 1)
HOUR = 3600.0
NAMES = ("persistence", "seasonal", "linear", "boosted_forecast")


def rows_of(series: np.ndarray, history: int, horizon: int, start: datetime = MONDAY) -> list[Example]:
    """Hourly rows of a series (steps, channels)."""
    return [
        Example(
            id=str(end),
            values=series[end - history + 1 : end + 1],
            target=series[end + 1 : end + 1 + horizon],
            time=(start + timedelta(hours=end)).isoformat(),
        )
        for end in range(history - 1, len(series) - horizon)
    ]


def beside(layout: SeriesLayout) -> Any:
    """What a baseline is given as the general model, as far as it looks."""
    return SimpleNamespace(specialist=SimpleNamespace(layout=layout))


def fit(name: str, rows: list[Example], base: Any = None, **options: object) -> Any:
    return catalog.baselines.get(name)(rows, None, "forecasting", 0, base, **options)


def daily(days: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hours = np.arange(24 * days)
    wave = np.sin(2 * np.pi * hours / 24)[:, None] * np.arange(1, channels + 1) * 10 + 50
    return wave + rng.normal(size=wave.shape)


def error(fitted: Any, rows: list[Example]) -> float:
    truth = np.stack([np.asarray(row.target) for row in rows])
    return float(np.nanmean(np.abs(fitted.ask(rows, None).values - truth)))


def test_persistence_says_the_last_value_that_was_measured() -> None:
    series = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, np.nan], [4.0, 40.0], [5.0, 50.0]])
    rows = rows_of(series, 3, 2)
    layout = SeriesLayout(("a", "b"), HOUR, 3, 2)

    said = fit("persistence", rows, beside(layout)).ask(rows, None).values

    assert said.tolist() == [[[3.0, 20.0], [3.0, 20.0]]]


def test_persistence_says_the_mean_of_a_sensor_that_is_down() -> None:
    rows = rows_of(np.arange(20.0).reshape(10, 2), 2, 1)
    fitted = fit("persistence", rows)
    down = replace(rows[0], values=np.array([[np.nan, 7.0], [np.nan, 8.0]]))

    assert fitted.ask([down], None).values.tolist() == [[[9.0, 8.0]]]


def test_seasonal_says_what_is_usual_at_that_hour() -> None:
    series = np.tile(np.arange(24.0)[:, None], (5, 1)) + np.repeat([0.0, 1, 2, 3, 4], 24)[:, None]
    rows = rows_of(series, 3, 2)

    said = fit("seasonal", rows).ask(rows[:1], None).values  # the row ends at 2:00

    assert said[0, :, 0].tolist() == [5.0, 6.0]  # 3:00 and 4:00, and two more on the middle day


def test_seasonal_says_what_was_one_period_ago_where_the_history_has_it() -> None:
    series = daily(6)
    rows = rows_of(series, 30, 4)

    said = fit("seasonal", rows, period=24 * HOUR).ask(rows[5:6], None).values

    np.testing.assert_allclose(said[0], series[35 - 24 : 39 - 24])


def test_a_week_counts_from_four_of_them() -> None:
    few, many = rows_of(daily(27), 3, 1), rows_of(daily(29), 3, 1)

    assert fit("seasonal", few).usual.period == 24 * HOUR
    assert fit("seasonal", many).usual.period == 168 * HOUR


def test_linear_finds_a_linear_course() -> None:
    rng = np.random.default_rng(1)
    series = np.zeros((400, 2))
    for t in range(2, 400):
        series[t] = 0.6 * series[t - 1] - 0.3 * series[t - 2] + rng.normal(size=2)
    rows = rows_of(series, 4, 1)

    fitted = fit("linear", rows[:300], rounds=0)

    best = np.abs(series[305:399] - (0.6 * series[304:398] - 0.3 * series[303:397])).mean()
    assert error(fitted, rows[301:]) < 1.06 * best
    assert error(fitted, rows[301:]) < 0.9 * error(fit("persistence", rows[:300]), rows[301:])


def test_linear_reads_its_neighbours() -> None:
    rng = np.random.default_rng(2)
    ahead = rng.normal(size=301)
    series = np.stack([ahead[1:], ahead[:-1]], axis=1)  # the second channel is the first one, an hour later
    rows = rows_of(series, 2, 1)
    layout = SeriesLayout(("up", "down"), HOUR, 2, 1, np.array([[0.0, 0.0], [1.0, 0.0]]))

    knowing = fit("linear", rows[:200], beside(layout), rounds=0).ask(rows[210:], None).values
    alone = fit("linear", rows[:200], rounds=0).ask(rows[210:], None).values

    truth = np.stack([np.asarray(row.target) for row in rows[210:]])
    assert np.abs(knowing - truth)[:, :, 1].mean() < 0.7 * np.abs(alone - truth)[:, :, 1].mean()


def test_linear_leans_to_the_median_where_errors_are_skewed() -> None:
    rng = np.random.default_rng(3)
    series = rng.exponential(size=(600, 1)) ** 2
    rows = rows_of(series, 2, 1)

    squares, absolutes = (fit("linear", rows[:400], rounds=n) for n in (0, 3))

    assert error(absolutes, rows[403:]) < 0.95 * error(squares, rows[403:])


def test_what_is_usual_does_not_know_the_row_that_is_learned_from() -> None:
    series = np.repeat([[0.0], [10.0], [50.0]], 24, axis=0)
    rows = rows_of(series, 1, 1)
    layout = SeriesLayout(("x",), HOUR, 1, 1)
    usual = Usual.of(timeline(rows, layout), layout)
    at = np.array([0.0, 24.0, 48.0]) * HOUR + timeline(rows, layout).first

    assert usual.at(at, [1])[:, 0, 0].tolist() == [20.0, 20.0, 20.0]
    assert usual.at(at, [1], without_own=True)[:, 0, 0].tolist() == [30.0, 25.0, 5.0]


def test_boosted_forecast_beats_the_last_value_on_days_that_repeat() -> None:
    pytest.importorskip("lightgbm")
    rows = rows_of(daily(20), 6, 3)

    fitted = fit("boosted_forecast", rows[:380], n_estimators=40, min_child_samples=20)

    assert error(fitted, rows[390:]) < 0.5 * error(fit("persistence", rows[:380]), rows[390:])


@pytest.mark.parametrize("name", NAMES)
def test_a_forecaster_is_the_same_when_it_is_opened_again(name: str) -> None:
    if name == "boosted_forecast":
        pytest.importorskip("lightgbm")
    rows = rows_of(daily(8, channels=3), 6, 3)
    options: dict[str, object] = {"n_estimators": 5, "min_child_samples": 5} if name == "boosted_forecast" else {}
    graph = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    fitted = fit(name, rows, beside(SeriesLayout(("a", "b", "c"), HOUR, 6, 3, graph)), **options)

    again = unpack(name, pack(name, fitted, "here"))

    assert fitted.ask(rows[:5], None).values.shape == (5, 3, 3)
    np.testing.assert_array_equal(again.ask(rows[:5], None).values, fitted.ask(rows[:5], None).values)


@pytest.mark.parametrize("name", NAMES)
def test_gaps_do_not_spread(name: str) -> None:
    if name == "boosted_forecast":
        pytest.importorskip("lightgbm")
    series = daily(9)
    series[np.random.default_rng(0).random(series.shape) < 0.1] = np.nan
    series[50:60] = np.nan
    rows = rows_of(series, 6, 3)

    fitted = fit(name, rows)

    assert np.isfinite(fitted.ask(rows, None).values).all()


def test_gaps_are_filled_with_what_stood_before_them() -> None:
    values = np.array([[np.nan, 1.0, np.nan, 3.0], [np.nan] * 4])[:, :, None]

    assert carried(values, np.full((2, 4, 1), 9.0))[:, :, 0].tolist() == [[1.0, 1.0, 1.0, 3.0], [9.0] * 4]


def test_the_same_seed_grows_the_same_trees() -> None:
    pytest.importorskip("lightgbm")
    rows = rows_of(daily(6), 4, 2)

    first, second = (fit("boosted_forecast", rows, most=150, n_estimators=5, min_child_samples=5) for _ in range(2))

    assert first.model == second.model


def test_the_pace_is_taken_from_the_rows_where_nothing_else_tells_it() -> None:
    layout = layout_of(None, rows_of(daily(3), 5, 2))

    assert (layout.seconds, layout.history, layout.horizon, len(layout.channels)) == (HOUR, 5, 2, 2)


def test_rows_that_are_no_series_are_refused() -> None:
    with pytest.raises(DataError, match="row 1 has no series"):
        fit("persistence", [Example("1", "a text", "label")])
    with pytest.raises(DataError, match="no training rows"):
        fit("linear", [])
    with pytest.raises(DataError, match="is no ISO 8601"):
        fit("seasonal", [replace(row, time=None) for row in rows_of(daily(2), 3, 1)])


def test_a_series_of_another_shape_is_refused() -> None:
    rows = rows_of(daily(3), 5, 2)

    with pytest.raises(DataError, match="a series of 4 x 2; 5 steps of 2 channels are needed"):
        fit("persistence", rows).ask([replace(rows[0], values=np.zeros((4, 2)))], None)


def test_a_forecaster_is_refused_for_another_task() -> None:
    with pytest.raises(RecipeError, match="linear supports forecasting, not classification"):
        catalog.baselines.require("linear", "classification")
