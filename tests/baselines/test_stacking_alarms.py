"""Detectors as members: pooled anomaly scores, their weights, and their storage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from vertical_sdk.baselines.detectors import SeasonalScore, seasonal_zscore, zscore
from vertical_sdk.baselines.fitted import encode_json
from vertical_sdk.baselines.stacking import fit_ensemble, load_ensemble, save_ensemble
from vertical_sdk.calibration.stacking import fit_tails
from vertical_sdk.errors import CorruptAdapter, DataError
from vertical_sdk.recipe import Data, Evaluate, Part, Recipe, Series
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, SeriesLayout

ANOMALY = get_task("anomaly")
LAYOUT = SeriesLayout(("speed", "flow"), 60.0, 4, 1)


def draw_rows(count: int, seed: int, *, anomalies: bool) -> list[Example]:
    """Minutes of two channels around 100 and 50; every fifth one is an anomaly of the first channel, if there are any."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        steps = np.array([100.0, 50.0]) + rng.normal(size=(5, 2)) * [10.0, 5.0]
        marked = anomalies and n % 5 == 0
        steps[:, 0] -= 40.0 * marked
        time = f"2024-01-{1 + n // 1440:02d}T{n % 1440 // 60:02d}:{n % 60:02d}:00"
        record = (("anomaly", float(marked)),)
        only = "evaluate" if marked else None
        rows.append(Example(f"{seed}-{n}", values=steps[:4], target=steps[4:], time=time, record=record, only=only))
    return rows


def build_recipe(*members: str | dict[str, Any]) -> Recipe:
    parts = tuple(Part(use=part) if isinstance(part, str) else Part(**part) for part in members)
    data, series = (
        Data(source="loops.csv", modality="series"),
        Series(alarms=14.4),
    )  # 1% of the minutes of a day, for each channel
    return Recipe(name="own", task="anomaly", data=data, ensemble=parts, evaluate=Evaluate(), series=series)


def draw_forecasts(rows: list[Example], seed: int) -> np.ndarray:
    """What an adapter that learned nothing expects."""
    return np.random.default_rng(seed).normal(100, 40, (len(rows), 1, 2, 1))


def truth_of(rows: list[Example]) -> np.ndarray:
    return np.array([dict(row.record)["anomaly"] for row in rows])


def test_systems_with_the_same_score_pool_to_this_score() -> None:
    scores = np.array([[0.0], [0.5], [30.0]])
    pooled = 0.25 * np.log1p(scores) + 0.75 * np.log1p(scores)

    outputs = ANOMALY.decode(ANOMALY.pooled_raw(None, pooled))

    assert outputs.values == pytest.approx(scores[:, 0], rel=1e-6)


def test_weights_without_known_anomalies_make_high_scores_equally_rare() -> None:
    rng = np.random.default_rng(0)
    short, long = rng.exponential(0.5, (20_000, 1)), rng.exponential(2.0, (20_000, 1))

    weights = fit_tails([short, long])

    assert weights == pytest.approx([1 / 0.5, 1 / 2.0], rel=0.1)
    shares, bias = ANOMALY.stack([short, long], np.zeros(20_000))
    assert shares == pytest.approx([0.8, 0.2], abs=0.02)
    assert bias.tolist() == [0.0]


def test_a_detector_that_never_scores_above_zero_keeps_weights_finite() -> None:
    shares, _ = ANOMALY.stack([np.zeros((50, 1)), np.zeros((50, 1))], np.zeros(50))
    assert shares.tolist() == [0.5, 0.5]


def test_known_anomalies_leave_the_weight_to_who_finds_them() -> None:
    train, validation, test = (
        draw_rows(300, 0, anomalies=False),
        draw_rows(600, 1, anomalies=True),
        draw_rows(600, 2, anomalies=True),
    )

    ensemble, _ = fit_ensemble(build_recipe("seasonal_zscore"), train, validation, draw_forecasts(validation, 3), None, 0, None)
    own = draw_forecasts(test, 4)
    whole = ANOMALY.decode(ensemble.combine(own, ensemble.gather(test, None), test)).values
    alone = ANOMALY.decode(own, ensemble.own, test).values

    assert ensemble.weights.sum() == pytest.approx(1)
    assert ensemble.weights[1] > 0.8
    assert average_precision_score(truth_of(test), whole) > 0.7
    assert average_precision_score(truth_of(test), alone) < 0.4


def test_the_whole_raises_as_many_false_alarms_as_are_allowed() -> None:
    train, validation, later = (draw_rows(count, seed, anomalies=False) for seed, count in enumerate((300, 3000, 6000)))
    recipe = build_recipe("seasonal_zscore", "zscore")

    ensemble, raw = fit_ensemble(recipe, train, validation, draw_forecasts(validation, 3), None, 0, None)
    calibration = ANOMALY.calibrate(raw, validation, None, recipe, LAYOUT)
    own = draw_forecasts(later, 4)
    outputs = ANOMALY.decode(ensemble.combine(own, ensemble.gather(later, None), later), calibration)

    assert calibration.widths == ()
    assert ANOMALY.predictions(outputs).mean() == pytest.approx(0.02, abs=0.01)  # 1% for each of two channels
    assert ensemble.without is not None
    without = ensemble.answer_without(ensemble.gather(later, None), later)
    assert ANOMALY.predictions(without).mean() == pytest.approx(0.02, abs=0.01)


def test_loaded_detectors_answer_the_same(tmp_path: Path) -> None:
    train, validation = draw_rows(200, 0, anomalies=False), draw_rows(200, 1, anomalies=True)
    recipe = build_recipe({"use": "seasonal_zscore", "minutes": 50, "steps": 3}, "zscore")
    own = draw_forecasts(validation, 3)
    ensemble, _ = fit_ensemble(recipe, train, validation, own, None, 0, None)

    save_ensemble(tmp_path, ensemble)
    loaded = load_ensemble(tmp_path, recipe, None, LAYOUT)

    assert loaded.own == ensemble.own
    assert loaded.offsets == ensemble.offsets
    expected = ensemble.combine(own, ensemble.gather(validation, None), validation)
    np.testing.assert_array_equal(loaded.combine(own, loaded.gather(validation, None), validation), expected)
    alone = loaded.predict_member(recipe.ensemble[1], validation, None)
    assert alone is not None
    assert alone.threshold == ensemble.offsets[1][0]
    with pytest.raises(CorruptAdapter, match=r"calibration\.widths has 2 numbers, and 3 are needed"):
        load_ensemble(tmp_path, recipe, None, replace(LAYOUT, channels=("a", "b", "c")))


def test_the_mean_of_several_steps_shows_what_lasts() -> None:
    """A shift of two standard deviations of a step is four of the mean of four steps."""
    fit = seasonal_zscore(draw_rows(1440 * 3, 0, anomalies=False), None, "anomaly", 0, None, minutes=1440, steps=4)
    shifted = np.tile([80.0, 50.0], (5, 1))

    (score,) = fit.predict([Example("x", values=shifted[:4], target=shifted[4:], time="2024-02-01T00:00:00")], None).values

    assert score == pytest.approx(4.0, rel=0.05)


def test_detectors_give_the_score_zero_to_what_was_never_measured() -> None:
    rows = [replace(row, target=np.array([[row.target[0, 0], np.nan]])) for row in draw_rows(50, 0, anomalies=False)]
    fitted = SeasonalScore.from_arrays(seasonal_zscore(rows, None, "anomaly", 0, None).to_arrays())
    usual = fitted.mean[0, 0]

    scores = fitted.predict([replace(rows[0], target=np.array([[usual, value]])) for value in (np.nan, 1e9)], None).values

    assert scores == pytest.approx([0.0, 0.0])
    nothing = replace(rows[0], values=np.full((4, 2), np.nan), target=np.full((1, 2), np.nan))
    assert zscore(rows, None, "anomaly", 0, None).predict([nothing], None).values.tolist() == [0.0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda arrays: arrays | {"mean": np.zeros((23, 2))}, "mean must be floats of the shape"),
        (lambda arrays: arrays | {"std": -arrays["std"]}, "std contains a number below 0"),
        (lambda arrays: arrays | {"std": np.ones((24, 3))}, "std must be floats of the shape"),
        (lambda arrays: arrays | {"settings": encode_json({"minutes": 0, "steps": 1})}, "minutes must be 1 to 1440"),
        (lambda arrays: arrays | {"settings": encode_json({"minutes": 60, "steps": True})}, "steps at least 1"),
    ],
)
def test_arrays_of_no_detector_are_refused(change: Callable[[Any], Any], problem: str) -> None:
    arrays = seasonal_zscore(draw_rows(50, 0, anomalies=False), None, "anomaly", 0, None).to_arrays()
    with pytest.raises(ValueError, match=problem):
        SeasonalScore.from_arrays(change(arrays))


def test_rows_of_other_channels_are_refused() -> None:
    fitted = seasonal_zscore(draw_rows(50, 0, anomalies=False), None, "anomaly", 0, None)
    with pytest.raises(DataError, match="the rows have 1 channels, and the training rows had 2"):
        fitted.predict([Example("x", values=np.zeros((4, 1)), target=np.zeros((1, 1)))], None)
