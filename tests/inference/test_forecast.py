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
from vertical_sdk.registry import Registry
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


def series_recipe(tmp_path: Path, task: str = "forecasting", zone: str | None = None, **keys: object) -> Recipe:
    frame = table(14).tz_localize(zone)
    folder = tmp_path / "data"
    folder.mkdir()
    frame.rename_axis("time").to_csv(folder / "los_speed.csv", date_format="%Y-%m-%dT%H:%M:%S%z")
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


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that forecasts three hours, trained on times without a zone."""
    folder = tmp_path_factory.mktemp("forecaster")
    return train(series_recipe(folder), out=folder / "run").path


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> VerticalModel:
    """A specialist that scores the next hour, trained on times without a zone."""
    folder = tmp_path_factory.mktemp("watch")
    keys = {"data.reader": {"use": "traffic.sensors", "history": 8, "horizon": 1, "seconds": 3600}, "series.quantiles": []}
    keys |= {"loss": "masked_mae", "series.alarms": 0.2, "evaluate": {"metrics": [], "baselines": ["zscore"]}}
    return VerticalModel.from_pretrained(train(series_recipe(folder, "anomaly", **keys), out=folder / "run").path)


def test_members_forecast_alone_without_the_adapter(tmp_path: Path) -> None:
    """One member: its share of the pooled mean is 1, so the version forecasts what the linear model alone does."""
    keys = {"ensemble": ["linear"], "series.tokens": "channels", "train.num_train_epochs": 1}
    run = train(series_recipe(tmp_path, **keys), out=tmp_path / "run").path
    judged = evaluate(run)
    registry = Registry(tmp_path / "registry")

    version = registry.publish(run, members_only=True, force=True, reason="a test")
    model = VerticalModel.from_registry("speeds@1", registry)
    history = table(14).iloc[:200]
    forecast = model.forecast(history)

    ensemble = model.adapter.ensemble
    assert ensemble is not None
    row, _, _ = as_history(history, model.card.layout, "speeds")  # type: ignore[arg-type]
    expected = ensemble.members[0].predict([row], None).values
    assert expected is not None
    np.testing.assert_allclose(forecast.mean.to_numpy(), expected[0], rtol=1e-6)
    assert dict(forecast.quantiles) == {}
    members = judged.systems["members"].metrics
    assert members["forecast_mae"].value == pytest.approx(judged.systems["linear"].metrics["forecast_mae"].value)
    assert "adapter_model.safetensors" not in version.manifest


def test_a_forecaster_is_trained_judged_kept_and_asked(forecaster: Path) -> None:
    judged = evaluate(forecaster)
    mae = {name: system.metrics["forecast_mae"].value for name, system in judged.systems.items()}
    assert mae["adapter"] < mae["persistence"]
    assert 0.7 < judged.systems["adapter"].metrics["coverage"].value <= 1
    assert "hours ahead, and truth" in (forecaster / "report.html").read_text()

    model = VerticalModel.from_pretrained(forecaster)
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
    row, last, _ = as_history(frame.drop(frame.index[3]), PANEL, "speeds")
    assert row.values is not None
    assert np.isnan(row.values[:, 0]).tolist() == [False, True, False, False]
    assert (last, row.time) == (frame.index[5], "2024-01-01T05:00:00")
    short, _, _ = as_history(frame.iloc[:2], PANEL, "speeds")
    assert short.values is not None
    assert np.isnan(short.values[:, 1]).tolist() == [True, True, False, False]


def test_a_watch_is_quiet_where_all_is_usual_and_speaks_where_it_is_not(watch: VerticalModel) -> None:
    model = watch
    frame = table(14).iloc[-72:]
    monitor = model.monitor()

    said = [monitor.update(row.to_numpy(), time) for time, row in zip(frame.index, frame.iloc, strict=True)]
    odd = monitor.update(frame.iloc[-1].to_numpy() - 40, frame.index[-1] + HOUR)

    assert all(np.isnan(one.score) and not one.alarm for one in said[:8])
    assert sum(one.alarm for one in said) <= 6
    assert odd.alarm
    assert odd.score > 3 * max(one.score for one in said[8:])
    with pytest.raises(DataError, match="is not a whole number of steps"):
        monitor.update([1.0, 2.0], frame.index[-1])
    with pytest.raises(DataError, match="3 values were given"):
        monitor.update([1.0, 2.0, 3.0])
    with pytest.raises(AdapterError, match="cannot forecast"):
        model.forecast(frame)


def test_times_of_the_other_kind_are_refused(forecaster: Path) -> None:
    model = VerticalModel.from_pretrained(forecaster)
    history = table(14).iloc[:200]

    for zone in ("UTC", "Europe/Berlin", "Asia/Shanghai", "America/Los_Angeles"):
        with pytest.raises(DataError, match="was trained on times without a zone"):
            model.forecast(history.tz_localize(zone))
    assert model.card.layout is not None
    assert model.card.layout.zone == "none"


def test_a_zone_of_the_training_keeps_its_clock_whatever_zone_asks(forecaster: Path, tmp_path: Path) -> None:
    """The same counts by the same clock, once without a zone and once with one, give the same forecasts."""
    zoned = VerticalModel.from_pretrained(train(series_recipe(tmp_path, zone="Asia/Shanghai"), out=tmp_path / "run").path)
    history = table(14).iloc[:200]
    expected = VerticalModel.from_pretrained(forecaster).forecast(history).mean.to_numpy()
    local = history.tz_localize("Asia/Shanghai")

    assert zoned.card.layout is not None
    assert zoned.card.layout.zone == "+08:00"
    for asked in (local, local.tz_convert("UTC"), local.tz_convert("America/Los_Angeles")):
        forecast = zoned.forecast(asked)
        np.testing.assert_allclose(forecast.mean.to_numpy(), expected, rtol=1e-4)
        assert forecast.index[0] == local.index[-1] + HOUR
        assert str(forecast.index.tz) == str(asked.index.tz)
    with pytest.raises(DataError, match=r"without a zone, and this specialist was trained on times with one \(\+08:00\)"):
        zoned.forecast(history)


@pytest.mark.parametrize("horizon", ["3", 2.5, 0, -1, 4, True, float("nan"), [2]])
def test_a_horizon_that_is_not_a_whole_number_of_steps_is_refused(forecaster: Path, horizon: object) -> None:
    with pytest.raises(DataError, match="this specialist forecasts 1 to 3 steps ahead"):
        VerticalModel.from_pretrained(forecaster).forecast(table(14), horizon)  # type: ignore[arg-type]


def test_a_horizon_of_numpy_is_a_whole_number(forecaster: Path) -> None:
    assert len(VerticalModel.from_pretrained(forecaster).forecast(table(14), np.int64(2)).mean) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1e30, -3.4e38, 1e39, 1e300, 1e12])
def test_a_reading_that_is_far_too_large_changes_a_forecast_as_a_missing_one(forecaster: Path, value: float) -> None:
    model = VerticalModel.from_pretrained(forecaster)
    history = table(14).iloc[:200]
    missing, large = history.copy(), history.copy()
    missing.iloc[-3, 0] = np.nan
    large.iloc[-3, 0] = value

    forecast = model.forecast(large)

    assert forecast.set_aside == 1
    assert model.forecast(history).set_aside == 0
    pd.testing.assert_frame_equal(forecast.mean, model.forecast(missing).mean)
    pd.testing.assert_frame_equal(model.forecast(large.to_numpy()).mean, model.forecast(missing.to_numpy()).mean)


def test_a_history_that_holds_no_finite_numbers_is_refused(forecaster: Path) -> None:
    model = VerticalModel.from_pretrained(forecaster)
    infinite = table(14).iloc[:200]
    infinite.iloc[-3, 1] = -np.inf

    for history in (infinite, infinite.to_numpy()):
        with pytest.raises(DataError, match="contains an infinite value of south"):
            model.forecast(history)
    for odd in (
        table(14).astype(object).replace({}, None).assign(north="many"),
        [["a", "b"]],
        None,
        {"north": [1.0]},
        "history",
    ):
        with pytest.raises(DataError):
            model.forecast(odd)
    late = table(14).iloc[:20]
    with pytest.raises(DataError, match="without a time"):
        model.forecast(late.set_axis([*late.index[:-1], pd.NaT]))


FAULT = -40.0


@pytest.mark.parametrize("value", [1e30, -3.4e38, 1e39, 1e300])
def test_a_reading_that_is_far_too_large_does_not_hide_a_fault_after_it(watch: VerticalModel, value: float) -> None:
    frame = table(14).iloc[-72:]
    frame.iloc[-1] += FAULT
    spoilt = frame.copy()
    spoilt.iloc[-7, 0] = value

    alone, after = watch.monitor(), watch.monitor()
    expected = [alone.update(row, time) for time, row in frame.iterrows()]
    results = [after.update(row, time) for time, row in spoilt.iterrows()]

    assert expected[-1].alarm
    assert results[-1].alarm
    assert results[-1].score == pytest.approx(expected[-1].score, rel=0.5)
    assert results[-7].alarm  # the reading itself
    assert after.set_aside == 1
    assert [one.score for one in results[:-7]] == pytest.approx([one.score for one in expected[:-7]], nan_ok=True)
    assert all(np.isfinite(one.score) for one in results[8:])


def test_an_infinite_reading_is_refused_and_leaves_the_monitor_as_it_was(watch: VerticalModel) -> None:
    frame = table(14).iloc[-20:]
    monitor, other = watch.monitor(), watch.monitor()
    for time, row in frame.iloc[:-1].iterrows():
        monitor.update(row, time)
        other.update(row, time)

    for odd in (np.inf, -np.inf):
        with pytest.raises(DataError, match="infinite value of south"):
            monitor.update([50.0, odd], frame.index[-1])

    assert monitor.update(frame.iloc[-1], frame.index[-1]) == other.update(frame.iloc[-1], frame.index[-1])


def test_a_monitor_reads_times_of_every_kind(watch: VerticalModel) -> None:
    first = pd.Timestamp("2024-01-01")
    times = [first, (first + HOUR).to_datetime64(), (first + 2 * HOUR).isoformat(), (first + 3 * HOUR).to_pydatetime()]
    monitor = watch.monitor()

    for time in times:
        monitor.update([50.0, 50.0], time)
    with pytest.raises(DataError, match="is not a whole number of steps"):
        monitor.update([50.0, 50.0], times[1])


@pytest.mark.parametrize(
    "time",
    ["yesterday", 1_700_000_000, 1.5, True, pd.NaT, np.datetime64("NaT"), "", [1], np.datetime64("300000-01-01")],
)
def test_a_monitor_refuses_what_is_not_a_time(watch: VerticalModel, time: object) -> None:
    monitor = watch.monitor()
    monitor.update([50.0, 50.0], "2024-01-01")

    with pytest.raises(DataError, match="is not a time"):
        monitor.update([50.0, 50.0], time)
    assert not monitor.update([50.0, 50.0], "2024-01-01T01:00:00").alarm


def test_a_monitor_refuses_times_of_another_kind_than_the_training_s(watch: VerticalModel) -> None:
    monitor = watch.monitor()
    monitor.update([50.0, 50.0], "2024-01-01")

    for odd in ("2024-01-01T01:00:00Z", pd.Timestamp("2024-01-01 01:00", tz="Asia/Shanghai")):
        with pytest.raises(DataError, match="was trained on times without a zone"):
            monitor.update([50.0, 50.0], odd)
    with pytest.raises(DataError, match="this value has no time, and the values before it had one"):
        monitor.update([50.0, 50.0])


def test_values_with_names_are_read_by_name(watch: VerticalModel) -> None:
    by_place, by_name = watch.monitor(), watch.monitor()
    frame = table(14).iloc[-12:]

    expected = [by_place.update(row.to_numpy(), time) for time, row in frame.iterrows()]
    turned = [by_name.update(row[["south", "north"]], time) for time, row in frame.iterrows()]

    assert [one.score for one in turned] == pytest.approx([one.score for one in expected], nan_ok=True)
    for odd in ({"north": 1.0}, {"north": 1.0, "south": 2.0, "west": 3.0}, ["a", 2.0], None, "50"):
        with pytest.raises(DataError):
            by_name.update(odd, frame.index[-1] + HOUR)
