"""Forecasts and alarms on the command line, with a base of a few thousand weights."""

from __future__ import annotations

import csv
import io
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import topic_recipe

from vertical_sdk.cli import main
from vertical_sdk.recipe import Recipe
from vertical_sdk.training import train

HISTORY = 6


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    """The one JSON document on stdout."""
    return json.loads(capsys.readouterr().out)


def lines(count: int, *, time: str = "time", names: str = "north,south") -> list[str]:
    """Two waves of a day, an hour a line."""
    rng = np.random.default_rng(0)
    first = datetime(2024, 1, 1)
    rows = [f"{time},{names}"]
    for n in range(count):
        wave = 50 + 10 * np.sin(n / 24 * 2 * np.pi)
        rows.append(f"{first + timedelta(hours=n)},{wave + rng.normal(0, 0.5):.2f},{wave + 5 + rng.normal(0, 0.5):.2f}")
    return rows


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def train_series(folder: Path, encoder: Path, task: str) -> Path:
    ahead = task == "forecasting"
    recipe = {
        "name": "waves",
        "task": task,
        "base": str(encoder),
        "data": {
            "source": str(write(folder / "waves.csv", lines(24 * 12))),
            "modality": "series",
            "reader": {"use": "series", "history": HISTORY, "horizon": 3 if ahead else 1, "block": 3600},
            "clean": [],
            "split": {"use": "time", "test": 0.2, "validation": 0.2, "gap": 4},
            "decontaminate": None,
        },
        "series": {"tokens": "channels", "quantiles": [0.05, 0.95] if ahead else [], "alarms": 0.1},
        "loss": "quantile" if ahead else "masked_mae",
        "train": {"num_train_epochs": 1, "learning_rate": 1e-3, "bf16": False},
        "evaluate": {"baselines": ["persistence" if ahead else "zscore"]},
    }
    return train(Recipe.model_validate(recipe), out=folder / "run").path


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A run that forecasts three hours."""
    return train_series(tmp_path_factory.mktemp("forecaster"), encoder, "forecasting")


@pytest.fixture(scope="module")
def watcher(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A run that scores the next hour."""
    return train_series(tmp_path_factory.mktemp("watcher"), encoder, "anomaly")


def test_a_forecast_is_a_document_with_steps_channels_and_bounds(
    forecaster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "now.csv", lines(48))

    assert main(["forecast", str(forecaster), "--data", str(data), "--json"]) == 0

    found = document(capsys)
    assert found["level"] == pytest.approx(0.9)
    steps = [(line["time"], line["channel"]) for line in found["forecasts"]]
    assert steps == [(f"2024-01-03T0{h}:00:00", name) for h in (0, 1, 2) for name in ("north", "south")]
    assert all(line["lower"] <= line["forecast"] <= line["upper"] for line in found["forecasts"])
    assert abs(found["forecasts"][0]["forecast"] - 50) < 10


def test_a_forecast_is_printed_as_a_table_or_written_to_a_file(
    forecaster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write(tmp_path / "now.csv", lines(48, time="when")), tmp_path / "new" / "next.csv"
    words = ["forecast", str(forecaster), "--data", str(data), "--time", "when", "--horizon", "1"]

    assert main(words) == 0
    shown = capsys.readouterr()
    assert "2024-01-03T00:00:00" in shown.out
    assert "90%" in shown.err
    assert main([*words, "--out", str(out)]) == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["channel"] for row in rows] == ["north", "south"]
    assert list(rows[0]) == ["time", "channel", "forecast", "lower", "upper"]
    assert str(out) in capsys.readouterr().out


def test_columns_may_have_another_order_and_extra_ones_are_ignored(
    forecaster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = lines(48)
    turned = ["south,mood,time,north"]
    turned += [f"{south},7,{time},{north}" for time, north, south in (line.split(",") for line in plain[1:])]
    words = ["--horizon", "1", "--json"]

    assert main(["forecast", str(forecaster), "--data", str(write(tmp_path / "a.csv", plain)), *words]) == 0
    straight = document(capsys)
    assert main(["forecast", str(forecaster), "--data", str(write(tmp_path / "b.csv", turned)), *words]) == 0

    assert document(capsys)["forecasts"] == straight["forecasts"]


def test_each_of_several_series_is_forecast(tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = lines(24 * 12, names="a,b")
    pumps = write(tmp_path / "pumps.csv", [f"{rows[0]},pump", *(f"{row},p{n}" for n in (1, 2) for row in rows[1:])])
    recipe = {
        "name": "pumps",
        "task": "forecasting",
        "base": str(encoder),
        "data": {
            "source": str(pumps),
            "modality": "series",
            "columns": {"group": "pump"},
            "reader": {"use": "series", "history": 4, "horizon": 1, "block": 3600},
            "clean": [],
            "split": {"use": "time"},
            "decontaminate": None,
        },
        "train": {"max_steps": 3, "bf16": False},
        "evaluate": {"baselines": ["persistence"]},
    }
    run = train(Recipe.model_validate(recipe), out=tmp_path / "run").path
    out = tmp_path / "next.csv"

    assert main(["forecast", str(run), "--data", str(pumps), "--out", str(out), "--json"]) == 0

    found = document(capsys)["forecasts"]
    assert [(one["series"], one["channel"]) for one in found] == [("p1", "a"), ("p1", "b"), ("p2", "a"), ("p2", "b")]
    assert all(one["lower"] is None for one in found)
    assert out.read_text().splitlines()[0] == "series,time,channel,forecast,lower,upper"


@pytest.mark.parametrize(
    ("change", "more", "code", "said"),
    [
        (lambda rows: rows, ["--time", "when"], 3, "data.columns.time: no column 'when'"),
        (lambda rows: [line.partition(",")[2] for line in rows], [], 3, "no column of times. The columns are 'north', 'south'"),
        (lambda rows: [rows[0].replace("south", "east"), *rows[1:]], [], 3, "no column 'south'"),
        (lambda rows: [rows[0], *(line.replace(":00:00,", ":30:00,") if n == 9 else line for n, line in enumerate(rows[1:]))],
         [], 3, "is not a whole number of steps of 3600 seconds"),
        (lambda rows: rows[:4], [], 3, "3 steps are too few: one row needs 6"),
        (lambda rows: [*rows[:-HISTORY], *(line.split(",")[0] + ",," for line in rows[-HISTORY:])], [], 3, "contain no measured value"),
        (lambda rows: rows, ["--horizon", "4"], 3, "1 to 3 steps ahead"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_forecast_is_refused(
    forecaster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, more: list[str], code: int, said: str
) -> None:
    data = write(tmp_path / "now.csv", change(lines(30)))

    assert main(["forecast", str(forecaster), "--data", str(data), *more, "--json"]) == code
    assert said in document(capsys)["error"]["message"]


def test_a_specialist_of_another_task_is_refused_and_its_verb_named(
    forecaster: Path, watcher: Path, tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(write(tmp_path / "now.csv", lines(30)))
    texts = train(topic_recipe(tmp_path, encoder, train__max_steps=3), out=tmp_path / "texts").path
    asked = [
        (["forecast", str(texts), "--data", data], "this is a classification specialist: use `vertical predict`"),
        (["monitor", str(texts), "--data", data], "this is a classification specialist: use `vertical predict`"),
        (["monitor", str(forecaster), "--data", data], "this is a forecasting specialist: use `vertical forecast`"),
        (["predict", str(forecaster), "hello"], "use `vertical forecast`"),
        (["predict", str(watcher), "--data", data], "use `vertical monitor`"),
    ]

    for words, said in asked:
        assert main([*words, "--json"]) == 6
        assert said in document(capsys)["error"]["message"]


def with_outlier(count: int, at: int) -> list[str]:
    """Lines with one outlier in the south."""
    rows = lines(count)
    rows[at + 1] = rows[at + 1].rpartition(",")[0] + ",5.0"
    return rows


def test_an_alarm_is_a_line_with_the_expected_value(watcher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "now.csv", with_outlier(60, 40))

    assert main(["monitor", str(watcher), "--data", str(data), "--json"]) == 0
    said = capsys.readouterr()
    alarms = [json.loads(line) for line in said.out.splitlines()]
    hit = next(one for one in alarms if one["time"] == "2024-01-02T16:00:00")
    assert (hit["channel"], hit["value"]) == ("south", 5.0)
    assert abs(hit["expected"] - 45) < 10
    assert f"{len(alarms)} alarms in {60 - HISTORY} steps" in said.err
    assert main(["monitor", str(watcher), "--data", str(data)]) == 0
    assert "south: expected" in capsys.readouterr().out


def test_lines_from_stdin_raise_the_same_alarms_as_a_file(
    watcher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = with_outlier(60, 40)
    assert main(["monitor", str(watcher), "--data", str(write(tmp_path / "now.csv", rows)), "--json"]) == 0
    at_once = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    turned = [f"{time},{south},{north}" for time, north, south in (line.split(",") for line in rows)]

    marked = ["\ufeff" + rows[1], *rows[2:]]  # the byte order mark, without a header to carry it

    for come in (rows, rows[1:], turned, marked):
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(come) + "\n"))
        assert main(["monitor", str(watcher), "--follow", "--json"]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["time"] for one in found] == [one["time"] for one in at_once]
        assert [one["score"] for one in found] == pytest.approx([one["score"] for one in at_once], rel=1e-3)


@pytest.mark.parametrize(
    ("come", "said"),
    [
        ("2024-01-01 00:00:00,1\n", "stdin:1: 2 fields; 3 are needed"),
        ("2024-01-01 00:00:00,1,2\nsoon,1,2\n", "stdin:2: column 'time' contains 'soon'"),
        ("2024-01-01 00:00:00,1,two\n", "stdin:1: column 'south' contains 'two'"),
        (
            "2024-01-01 00:00:00,1,2\n2024-01-01 01:00:00+01:00,1,2\n",
            "stdin:2: 2024-01-01T01:00:00+01:00 is a time with a zone",
        ),
        ("2024-01-01 00:00:00,1,inf\n", "stdin:1: column 'south' contains 'inf', which is not a finite number"),
        ("2024-01-01 00:00:00,1,2\n2024-01-01 00:00:00,1,2\n", "stdin:2: the time 2024-01-01 00:00:00 is not a whole number"),
    ],
)
def test_an_invalid_line_is_refused_with_its_number(
    watcher: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, come: str, said: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(come))

    assert main(["monitor", str(watcher), "--follow", "--json"]) == 3
    assert said in document(capsys)["error"]["message"]


@pytest.mark.parametrize("value", ["1e30", "-3.4e38", "1e300"])
def test_a_reading_far_too_large_raises_its_alarm_and_hides_no_later_one(
    watcher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    rows = with_outlier(60, 40)
    rows[39] = rows[39].rpartition(",")[0] + f",{value}"  # two hours before

    assert main(["monitor", str(watcher), "--data", str(write(tmp_path / "now.csv", rows)), "--json"]) == 0
    of_file = capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(rows) + "\n"))
    assert main(["monitor", str(watcher), "--follow", "--json"]) == 0
    of_stream = capsys.readouterr()

    for said in (of_file, of_stream):
        alarms = {one["time"]: one["score"] for one in map(json.loads, said.out.splitlines())}
        assert {"2024-01-02T14:00:00", "2024-01-02T16:00:00"} <= set(alarms)
        assert "too large to be measurements" in said.err


@pytest.mark.parametrize("words", [["forecast"], ["monitor"]])
def test_a_file_of_times_with_a_zone_is_refused_after_a_training_without(
    forecaster: Path, watcher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    rows = lines(30)
    zoned = [rows[0], *(row.replace(",", "+08:00,", 1) for row in rows[1:])]
    mixed = [*rows[:9], *zoned[9:]]
    run = forecaster if words == ["forecast"] else watcher

    for table, problem in ((zoned, "was trained on times without a zone"), (mixed, "now.csv:10: ")):
        data = write(tmp_path / "now.csv", table)
        assert main([*words, str(run), "--data", str(data), "--json"]) == 3
        assert problem in document(capsys)["error"]["message"]
    if words == ["forecast"]:
        data = write(tmp_path / "waves.csv", [f"{zoned[0]}", *zoned[1:]])
        assert main(["evaluate", str(run), "--data", str(data), "--json"]) == 3
        assert "was trained on times without a zone" in document(capsys)["error"]["message"]


@pytest.mark.parametrize("words", [[], ["--data", "x.csv", "--follow"], ["--follow", "--time", "when"]])
def test_monitoring_needs_either_a_file_or_stdin(watcher: Path, words: list[str]) -> None:
    assert main(["monitor", str(watcher), *words]) == 2


def recipe_file(folder: Path, recipe: dict[str, Any]) -> Path:
    return write(folder / "recipe.yaml", [json.dumps(recipe)])  # JSON is YAML


def test_rows_of_a_series_are_described_by_shape_and_range(
    forecaster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = json.loads((forecaster / "recipe.json").read_text())
    own = str(recipe_file(tmp_path, recipe.get("recipe", recipe)))

    assert main(["data", "show", own, "--rows", "1", "--json"]) == 0
    first = document(capsys)["rows"]["train"]["first"][0]
    assert first["text"].startswith("6 × 2 numbers, ")
    assert first["target"].startswith("3 × 2 numbers, ")
    assert main(["data", "check", "waves.csv", "--recipe", own, "--json"]) == 2
    assert "vertical data show" in document(capsys)["error"]["message"]


def test_rows_of_numbers_are_predicted_from_a_file_and_from_json(
    tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    rows = ["s1,s2,s3,s4,kind"]
    rows += [",".join(f"{v:.3f}" for v in rng.normal(n % 2, 0.1, 4)) + f",{'xy'[n % 2]}" for n in range(60)]
    recipe = {
        "name": "beats",
        "task": "classification",
        "base": str(encoder),
        "data": {
            "source": str(write(tmp_path / "beats.csv", rows)),
            "modality": "series",
            "reader": {"use": "table", "values": "all"},
            "columns": {"label": "kind"},
        },
        "series": {"patch": 2},
        "train": {"max_steps": 2, "bf16": False},
        "evaluate": {"baselines": ["probe"]},
    }
    run = train(Recipe.model_validate(recipe), out=tmp_path / "run").path
    new = write(tmp_path / "new.csv", ["s1,s2,s3,s4", "0.1,0,,0", "1,1,1,1"])

    assert main(["predict", str(run), "--data", str(new), "--json"]) == 0
    filed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["predict", str(run), "[0.1, 0, null, 0]", "[1, 1, 1, 1]", "--json"]) == 0
    typed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [line["id"] for line in filed] == ["2", "3"]
    assert [line["probabilities"] for line in typed] == [pytest.approx(line["probabilities"]) for line in filed]
    assert "text" not in typed[0]
    assert main(["data", "check", str(tmp_path / "beats.csv"), "--recipe", str(recipe_file(tmp_path, recipe)), "--json"]) == 0
    assert document(capsys)["duplicates"]["count"] == 0
    for number in ("1e30", "1e300", "-3.4e38"):
        assert main(["predict", str(run), f"[0.1, {number}, 0, 0]", "--json"]) == 3
        assert "too large" in document(capsys)["error"]["message"]
    assert main(["predict", str(run), "red rash", "--json"]) == 3
    assert "reads series" in document(capsys)["error"]["message"]
