from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import save_causal, topic_recipe, topic_rows, write_csv

pytest.importorskip("optuna")

from vertical_sdk import VerticalModel, load_recipe, train, tune
from vertical_sdk.cli import main
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import DataError, MissingExtra, RecipeError, RunError
from vertical_sdk.tuning import study

RATES = {"train.learning_rate": {"low": 1e-3, "high": 3e-2, "log": True}}
QUICK: dict[str, Any] = {"train__num_train_epochs": 1, "train__eval_steps": 0.5}
POOR: dict[str, Any] = {**QUICK, "train__learning_rate": 1e-7, "head__init": "random"}
"""A head with random weights that learns nothing; the linear probe is far better."""
CHILD = "import sys, torch; torch.set_num_threads(1); from vertical_sdk.cli import main; sys.exit(main(sys.argv[1:]))"


def in_three_files(folder: Path, test_rows: list[tuple[str, str]]) -> dict[str, Any]:
    """The keys of a recipe with 90 training and 60 validation rows, and these test rows."""
    rows = topic_rows(150)
    parts = {"train": rows[:90], "validation": rows[90:], "test": test_rows}
    source = {split: str(write_csv(folder / f"{split}.csv", part)) for split, part in parts.items()}
    return {"data__source": source, "data__split": "given"}


def test_better_settings_become_a_recipe_that_extends_the_first(encoder: Path, tmp_path: Path) -> None:
    files = in_three_files(tmp_path, topic_rows(24, seed=3))
    path = topic_recipe(tmp_path, encoder, **POOR, **files, tune={"head.init": ["random", "probe"], "adapter.r": [2, 4]})

    tuned = tune(path, budget=300, trials=4, out=tmp_path / "more" / ".." / "found.yaml")

    assert tuned.trials[0].settings == {}
    assert tuned.repeats is not None
    assert len(tuned.repeats.own) == len(tuned.repeats.best) == 3
    assert tuned.settings["head.init"] == "probe"
    assert tuned.recipe is not None
    written = yaml.safe_load(tuned.recipe.read_text())
    assert written["extends"] == "topics.yaml"
    assert written.keys() == {"extends", "head", "adapter"}
    assert written["head"] == {"init": "probe"}
    assert load_recipe(tuned.recipe) == load_recipe(path).replace(tuned.settings)
    page = tuned.page.read_text()
    assert "Better settings" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert not list(tuned.page.parent.glob("trial-*"))


def test_settings_that_are_not_better_give_no_recipe(encoder: Path, tmp_path: Path) -> None:
    path = topic_recipe(tmp_path, encoder, **POOR | {"head__init": "probe"}, tune={"head.init": ["random", "probe"]})

    tuned = tune(path, budget=300, trials=5)

    assert [row.state for row in tuned.trials] == ["finished", "finished"]
    assert tuned.text.endswith("Keep the recipe as it is.")
    assert tuned.settings == {}
    assert tuned.recipe is None
    assert not Path("topics-tuned.yaml").exists()
    assert tuned.page.is_file()


def test_values_do_not_depend_on_test_rows(encoder: Path, tmp_path: Path) -> None:
    rows = topic_rows(24, seed=3)
    other = [(f"pulse {text} heart heart", "skin" if label == "lung" else "lung") for text, label in topic_rows(24, seed=7)]
    values = []
    for name, test_rows in (("one", rows), ("other", other)):
        folder = tmp_path / name
        folder.mkdir()
        path = topic_recipe(folder, encoder, **QUICK, name=name, tune=RATES, **in_three_files(folder, test_rows))
        values.append([(row.settings, row.value) for row in tune(path, budget=300, trials=3).trials])

    assert values[0] == values[1]
    assert len({value for _, value in values[0]}) > 1


def test_first_value_is_that_of_a_plain_training(encoder: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "ages.csv", [(text, str(10 * len(text))) for text, _ in topic_rows(120)])
    settings: dict[str, Any] = {
        "task": "regression",
        "data__source": str(data),
        "evaluate": {"metrics": ["mae"], "baselines": ["majority"], "gate": {"metric": "mae", "beats": ["majority"]}},
    }
    path = topic_recipe(tmp_path, encoder, **QUICK, **settings, tune=RATES)

    tuned = tune(path, budget=300, trials=1)

    model = VerticalModel.from_pretrained(train(path, out=tmp_path / "run").path)
    rows = prepare(load_recipe(path)).validation
    answers = np.array([answer.label for answer in model.predict([row.text for row in rows])], float)
    expected = np.abs(answers - np.array([row.target for row in rows], float)).mean()
    assert tuned.trials[0].value == pytest.approx(float(expected), rel=1e-4)
    assert not tuned.higher_is_better


@pytest.mark.slow
def test_interrupted_and_killed_study_continues(encoder: Path, tmp_path: Path) -> None:
    path = topic_recipe(tmp_path, encoder, tune=RATES, train__num_train_epochs=6)
    command = [sys.executable, "-c", CHILD, "tune", str(path), "--budget", "5m", "--trials", "6"]
    database = Path("runs/tune-topics/study.db")

    def run_until(finished: int, number: int) -> tuple[int, str]:
        """Send a signal to a search as soon as so many trials have ended."""
        with (tmp_path / "said.txt").open("w+") as said:
            child = subprocess.Popen(command, stderr=said, stdout=said)
            try:
                deadline = time.monotonic() + 120
                while len(read_times(database)) < finished:
                    assert child.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                child.send_signal(number)
                code = child.wait(timeout=60)
            finally:
                child.kill()
                child.wait()
        return code, (tmp_path / "said.txt").read_text()

    stopped, said = run_until(1, signal.SIGINT)
    killed, _ = run_until(2, signal.SIGKILL)
    begun = read_times(database)
    tuned = tune(path, budget=300, trials=4)

    assert stopped == 130
    assert "Continue with: vertical tune" in said
    assert killed == -signal.SIGKILL
    assert len(tuned.trials) == 4
    assert [row.seconds for row in tuned.trials[:2]] == begun[:2]
    assert len({json.dumps(dict(row.settings)) for row in tuned.trials}) == 4
    assert not list(database.parent.glob("trial-*"))


def read_times(database: Path) -> list[float]:
    """The seconds of the trials that have ended; [] if there is no study yet."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            rows = connection.execute("select value_json from trial_user_attributes where key = 'seconds' order by trial_id")
            return [json.loads(value) for (value,) in rows]
    except sqlite3.OperationalError:
        return []


@pytest.mark.slow
def test_long_trial_is_stopped_when_the_time_is_over(encoder: Path, tmp_path: Path) -> None:
    path = topic_recipe(tmp_path, encoder, **QUICK, tune={"train.num_train_epochs": [3000, 4000]})

    started = time.monotonic()
    tuned = tune(path, budget=20)

    assert time.monotonic() - started < 25
    assert [row.state for row in tuned.trials] == ["finished", "stopped"]
    assert "No trial but the recipe's own settings finished" in tuned.text


def test_own_settings_that_take_longer_than_the_budget_have_no_value(encoder: Path, tmp_path: Path) -> None:
    path = topic_recipe(tmp_path, encoder, train__num_train_epochs=3000)

    tuned = tune(path, budget=8)

    assert [(row.settings, row.state) for row in tuned.trials] == [({}, "stopped")]
    assert tuned.text.startswith("The time was over before the recipe's own settings")


def test_poor_trial_is_pruned(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "FIRST", 1)
    path = topic_recipe(tmp_path, encoder, **POOR | {"head__init": "probe"}, tune={"head.init": ["random", "probe"]})

    tuned = tune(path, budget=300, trials=2)

    assert [row.state for row in tuned.trials] == ["finished", "pruned"]
    assert tuned.trials[1].value is None


def test_written_answers_are_scored(tmp_path: Path) -> None:
    base = save_causal(tmp_path / "base")
    data = write_csv(tmp_path / "pairs.csv", [(text, label) for text, label in topic_rows(45)])
    settings: dict[str, Any] = {
        "task": "generation",
        "data__source": str(data),
        "data__max_length": 200,
        "evaluate": {"metrics": ["token_f1"], "baselines": ["base"], "resamples": 100},
        "train__learning_rate": 0.02,
    }
    path = topic_recipe(tmp_path, base, **settings, tune={"train.num_train_epochs": [1, 2]})

    tuned = tune(path, budget=300, trials=2)

    assert [row.state for row in tuned.trials] == ["finished", "finished"]
    assert all(row.value is not None and 0 <= row.value <= 1 for row in tuned.trials)


def test_changed_range_begins_a_new_study(encoder: Path, tmp_path: Path) -> None:
    first = tune(topic_recipe(tmp_path, encoder, **QUICK, tune={"adapter.r": [2, 4]}), budget=300, trials=2)
    again = tune(topic_recipe(tmp_path, encoder, **QUICK, tune={"adapter.r": [2, 4]}), budget=300, trials=2)
    other = tune(topic_recipe(tmp_path, encoder, **QUICK, tune={"adapter.r": [4, 8]}), budget=300, trials=2)

    assert again.trials == first.trials
    assert other.trials[1].settings == {"adapter.r": 8}


@pytest.mark.parametrize(
    ("searched", "message"),
    [
        ({"data.max_length": [32, 64]}, "data.max_length cannot be searched"),
        ({"train.seed": [1, 2]}, "train.seed cannot be searched"),
        ({"train.learning_rte": [1, 2]}, "unknown key 'learning_rte'. Did you mean 'learning_rate'"),
        ({"adapter.r": [8]}, "fewer than two different values"),
        ({"adapter.r": {"low": 8, "high": 4}}, "should have a low below its high"),
        ({"train.learning_rate": {"low": 0, "high": 1e-3, "log": True}}, "a low above 0"),
        ({"train.learning_rate": {"low": -1e-3, "high": 1e-3}}, "learning_rate = -0.001 is wrong"),
        ({"adapter.r": {"low": 8, "hgh": 4}}, "hgh"),
    ],
)
def test_wrong_ranges_are_refused(encoder: Path, tmp_path: Path, searched: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace(".", r"\.")):
        tune(topic_recipe(tmp_path, encoder, tune=searched), budget=60)


def test_file_of_somebody_else_is_not_replaced(encoder: Path, tmp_path: Path) -> None:
    path = topic_recipe(tmp_path, encoder)

    with pytest.raises(RunError, match="did not write it"):
        tune(path, budget=60, out=path)


def test_recipe_without_validation_rows_is_refused(encoder: Path, tmp_path: Path) -> None:
    path = topic_recipe(tmp_path, encoder, data__split={"use": "stratified", "validation": 0.0})

    with pytest.raises(DataError, match=r"there are 0. Split off some in data\.split"):
        tune(path, budget=60)


def test_missing_optuna_names_its_extra(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)

    with pytest.raises(MissingExtra, match=r"needs the extra 'tune': pip install .*\[tune\]"):
        tune(topic_recipe(tmp_path, encoder), budget=60)


def test_command_writes_one_document(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = topic_recipe(tmp_path, encoder, **QUICK)

    code = main(["tune", str(path), "--budget", "2m", "--trials", "1", "--json"])
    document = json.loads(capsys.readouterr().out)
    wrong = main(["tune", str(path), "--budget", "30"])

    assert code == 0
    assert document["trials"][0]["state"] == "finished"
    assert document["space"].keys() == {
        "train.learning_rate", "train.num_train_epochs", "adapter.r", "adapter.lora_dropout"
    }  # fmt: skip
    assert wrong == 2
    assert "90s, 30m or 2h" in capsys.readouterr().err
