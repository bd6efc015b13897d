"""A forecaster and a watch, from training to use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import save_encoder

from vertical_sdk.errors import AdapterError, DataError
from vertical_sdk.evaluation import evaluate
from vertical_sdk.inference import VerticalModel
from vertical_sdk.inference.forecast import as_history
from vertical_sdk.recipe import Recipe
from vertical_sdk.training import train
from vertical_sdk.types import SeriesLayout

HOUR = pd.Timedelta(hours=1)


def table(days: int, seed: int = 0) -> pd.DataFrame:
    """Two channels with a daily wave; the second follows the first by an hour."""
    hours = np.arange(24 * days)
    rng = np.random.default_rng(seed)
    first = 50 + 10 * np.sin(hours / 24 * 2 * np.pi) + rng.normal(0, 0.5, len(hours))
    second = np.roll(first, 1) + rng.normal(0, 0.3, len(hours))
    index = pd.date_range("2024-01-01", periods=len(hours), freq="h")
    return pd.DataFrame({"north": first, "south": second}, index=index)


def series_recipe(tmp_path: Path, task: str = "forecasting", **keys: object) -> Recipe:
    frame = table(14)
    folder = tmp_path / "data"
    folder.mkdir()
    frame.rename_axis("time").to_csv(folder / "los_speed.csv", date_format="%Y-%m-%dT%H:%M:%S")
    (folder / "los_adj.csv").write_text("1,1\n1,1\n")
    plain = {
        "name": "speeds",
        "domain": "traffic",
        "task": task,
        "base": str(save_encoder(tmp_path / "base")),
        "data": {
            "source": str(folder),
            "modality": "series",
            "reader": {"use": "traffic.sensors", "history": 8, "horizon": 3, "seconds": 3600, "block": 86400},
            "columns": {"time": "time"},
            "clean": [],
            "split": {"use": "time", "test": 0.2, "validation": 0.2, "gap": 3},
            "decontaminate": None,
        },
        "series": {"tokens": "channels", "quantiles": [0.05, 0.95]},
        "loss": "quantile",
        "train": {"num_train_epochs": 2, "learning_rate": 1e-3, "seed": 0},
        "evaluate": {
            "metrics": ["forecast_mae", "coverage"],
            "baselines": ["persistence"],
            "gate": {"metric": "forecast_mae", "beats": ["persistence"]},
            "resamples": 100,
            "resample": "groups",
        },
    }
    return Recipe.model_validate(plain).replace(keys)


def test_a_forecaster_is_trained_judged_kept_and_asked(tmp_path: Path) -> None:
    run = train(series_recipe(tmp_path), out=tmp_path / "run")
    judged = evaluate(run.path)
    mae = {name: system.metrics["forecast_mae"].value for name, system in judged.systems.items()}
    assert mae["adapter"] < mae["persistence"]
    assert 0.7 < judged.systems["adapter"].metrics["coverage"].value <= 1
    assert " ahead, and truth" in (run.path / "report.html").read_text()

    model = VerticalModel.from_pretrained(run.path)
    history = table(14).iloc[:200]
    forecast = model.forecast(history)

    assert forecast.index.tolist() == [history.index[-1] + k * HOUR for k in (1, 2, 3)]
    assert forecast.mean.columns.tolist() == ["north", "south"]
    assert set(forecast.quantiles) == {0.05, 0.95}
    assert (forecast.quantiles[0.05] <= forecast.mean).all().all()
    assert (forecast.mean <= forecast.quantiles[0.95]).all().all()
    assert len(model.forecast(history, 2).mean) == 2
    turned = model.forecast(history[["south", "north"]])
    pd.testing.assert_frame_equal(turned.mean, forecast.mean)
    holed = history.drop(history.index[-3])
    assert model.forecast(holed).mean.notna().all().all()
    with pytest.raises(AdapterError, match=r"Call forecast\(\) instead"):
        model.predict(["hello"])
    with pytest.raises(DataError, match="1 to 3 steps"):
        model.forecast(history, 4)
    with pytest.raises(AdapterError, match="cannot monitor"):
        model.monitor()


PANEL = SeriesLayout(("north", "south"), 3600.0, 4, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f[["north"]], "lacks south"),
        (lambda f: f.assign(west=1.0), "has the unknown columns west"),
        (lambda f: f.rename(columns={"south": "sout"}), "lacks south"),
        (lambda f: f.iloc[::-1], "is not in order"),
        (lambda f: pd.concat([f, f.iloc[-1:]]), "appears twice"),
        (lambda f: f.set_axis([*f.index[:-1], f.index[-1] + HOUR / 3]), "is not on the grid of 3600 s"),
        (lambda f: f.reset_index(drop=True).set_axis(list("abcdef")), "should hold times"),
        (lambda f: f * np.nan, "the last 4 steps of the history contain no measured value"),
        (lambda f: f.iloc[:0], "is empty"),
        (lambda f: f.to_numpy()[:, :1], r"shape \(6, 1\)"),
    ],
)
def test_a_history_that_cannot_be_read_is_refused(change: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        as_history(change(table(1).iloc[:6]), PANEL, "speeds")  # type: ignore[operator]


def test_steps_that_are_left_out_count_as_not_measured() -> None:
    frame = table(1).iloc[:6]
    row, last = as_history(frame.drop(frame.index[3]), PANEL, "speeds")
    assert row.values is not None
    assert np.isnan(row.values[:, 0]).tolist() == [False, True, False, False]
    assert (last, row.time) == (frame.index[5], "2024-01-01T05:00:00")
    short, _ = as_history(frame.iloc[:2], PANEL, "speeds")
    assert short.values is not None
    assert np.isnan(short.values[:, 1]).tolist() == [True, True, False, False]


def test_a_watch_is_quiet_where_all_is_usual_and_speaks_where_it_is_not(tmp_path: Path) -> None:
    keys = {"data.reader": {"use": "traffic.sensors", "history": 8, "horizon": 1, "seconds": 3600}, "series.quantiles": []}
    keys |= {"loss": "masked_mae", "series.alarms": 0.2, "evaluate": {"metrics": [], "baselines": ["zscore"]}}
    run = train(series_recipe(tmp_path, "anomaly", **keys), out=tmp_path / "run")
    model = VerticalModel.from_pretrained(run.path)
    frame = table(14).iloc[-72:]
    watch = model.monitor()

    said = [watch.update(row.to_numpy(), time) for time, row in zip(frame.index, frame.iloc, strict=True)]
    odd = watch.update(frame.iloc[-1].to_numpy() - 40, frame.index[-1] + HOUR)

    assert all(np.isnan(one.score) and not one.alarm for one in said[:8])
    assert sum(one.alarm for one in said) <= 6
    assert odd.alarm
    assert odd.score > 3 * max(one.score for one in said[8:])
    with pytest.raises(DataError, match="is not a whole number of steps"):
        watch.update([1.0, 2.0], frame.index[-1])
    with pytest.raises(DataError, match="3 values were given"):
        watch.update([1.0, 2.0, 3.0])
    with pytest.raises(AdapterError, match="cannot forecast"):
        model.forecast(frame)
