"""A watch with detectors as members: trained, judged, published without its adapter, and watching."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import save_encoder

from vertical_sdk.cli import main
from vertical_sdk.data.prepare import read_rows
from vertical_sdk.evaluation import evaluate
from vertical_sdk.inference import VerticalModel
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry import Registry
from vertical_sdk.training import train
from vertical_sdk.types import Example

MEMBERS = [{"use": "seasonal_zscore", "minutes": 120, "steps": 2}, "zscore"]


def counts() -> pd.DataFrame:
    """Two channels with a daily wave for three weeks; every 31st hour of the last ten days is marked, and its values are too large."""
    hours = np.arange(24 * 21)
    noise = np.random.default_rng(0).normal(0, 1, (len(hours), 2))
    wave = 50 + 10 * np.sin(hours / 24 * 2 * np.pi)
    frame = pd.DataFrame({"north": wave, "south": wave + 5}, index=pd.date_range("2024-01-01", periods=len(hours), freq="h"))
    frame += noise
    frame["odd"] = ((hours >= 24 * 11) & (hours % 31 == 0)).astype(int)
    frame.loc[frame["odd"] == 1, ["north", "south"]] += 12.0
    return frame.rename_axis("time")


def read_last(run: Path, model: VerticalModel) -> list[Example]:
    """The rows of the last 30 hours."""
    rows, _ = read_rows(run.parent / "counts.csv", model.adapter.recipe, model.card.contract)
    return [row for row in rows if row.target is not None][-30:]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch")
    counts().to_csv(folder / "counts.csv")
    recipe = {
        "name": "watch",
        "task": "anomaly",
        "base": str(save_encoder(folder / "base")),
        "data": {
            "source": str(folder / "counts.csv"),
            "modality": "series",
            "reader": {"use": "series", "history": 6, "labels": "odd", "block": 86400},
            "clean": [],
            "split": {"use": "time", "test": 0.25, "validation": 0.25, "gap": 7},
            "decontaminate": None,
        },
        "series": {"tokens": "channels", "alarms": 0.5},
        "ensemble": MEMBERS,
        "train": {"num_train_epochs": 1, "learning_rate": 1e-3, "seed": 0},
        "evaluate": {"baselines": ["zscore"], "resamples": 100, "resample": "groups"},
    }
    return train(Recipe.model_validate(recipe), out=folder / "run").path


def test_every_part_of_a_watch_is_measured_with_alarms_of_its_own(run: Path) -> None:
    judged = evaluate(run)

    assert set(judged.systems) == {"adapter", "alone", "members", "seasonal_zscore", "zscore"}
    for system in judged.systems.values():
        assert 0 <= system.metrics["alarm_recall"].value <= 1
    precision = {name: system.metrics["average_precision"].value for name, system in judged.systems.items()}
    assert precision["adapter"] > 0.9
    assert judged.contribution is not None
    assert set(judged.validation) == {"seasonal_zscore", "zscore"}


def test_a_watch_with_members_scores_readings_as_it_scores_a_file(run: Path) -> None:
    model = VerticalModel.from_pretrained(run)
    rows = read_last(run, model)
    frame, monitor = counts()[["north", "south"]], model.monitor()

    alarms = [monitor.update(values.to_numpy(), time) for time, values in frame.iloc[-60:].iterrows()]

    outputs = model.answer(rows).outputs
    assert [alarm.score for alarm in alarms[-30:]] == pytest.approx(outputs.values.tolist(), rel=1e-4)
    assert [alarm.alarm for alarm in alarms[-30:]] == (outputs.values >= model.card.calibration.threshold).tolist()
    assert np.isfinite([alarm.expected for alarm in alarms[6:]]).all()
    assert max(alarms[-1].distances) >= 0
    ensemble = model.adapter.ensemble
    assert ensemble is not None
    assert ensemble.weights.sum() == pytest.approx(1)


def test_detectors_watch_without_the_adapter(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(run)
    registry = Registry(tmp_path / "registry")
    registry.publish(run, members_only=True, force=True, reason="a test")

    model, whole = VerticalModel.from_registry("watch@1", registry), VerticalModel.from_pretrained(run)
    rows = read_last(run, whole)
    frame, monitor = counts()[["north", "south"]], model.monitor()
    alarms = [monitor.update(values.to_numpy(), time) for time, values in frame.iloc[-60:].iterrows()]

    expected = whole.answer(rows).without_adapter.values
    assert [alarm.score for alarm in alarms[-30:]] == pytest.approx(expected.tolist(), rel=1e-6)
    assert np.isnan([alarm.expected for alarm in alarms]).all()
    marked = counts()["odd"].iloc[-60:].to_numpy() == 1
    assert np.mean([alarm.alarm for alarm, odd in zip(alarms[6:], marked[6:], strict=True) if odd]) >= 0.5

    words = ["monitor", "watch@1", "--data", str(run.parent / "counts.csv"), "--registry", str(tmp_path / "registry")]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all("score" in line and "expected" not in line for line in lines)
