"""A relative path in a recipe's file starts beside the file, and the adapter's card keeps it absolute."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from conftest import save_encoder, topic_rows, write_csv

from vertical_sdk import evaluate, load_recipe, train
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import SourceError
from vertical_sdk.recipe import Recipe


def write_recipe(path: Path, **keys: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"name": "topics", "task": "classification", **keys}), encoding="utf-8")
    return path


def test_source_starts_beside_the_recipe_and_not_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "rows.csv", topic_rows(9))
    path = write_recipe(tmp_path / "deep" / "topics.yaml", data={"source": "../data/rows.csv"})
    (tmp_path / "data").mkdir()
    rows = write_csv(tmp_path / "data" / "rows.csv", topic_rows(60))
    monkeypatch.chdir(tmp_path)

    recipe = load_recipe(Path("deep/topics.yaml"))

    assert recipe.data.source == str(rows)
    assert recipe == load_recipe(path)
    assert prepare(recipe).account.read == 60


def test_each_split_and_the_general_text_start_beside_the_recipe(tmp_path: Path) -> None:
    path = write_recipe(
        tmp_path / "topics.yaml",
        data={"source": {"train": "a.csv", "test": "hf:owner/name"}},
        evaluate={"forgetting": {"source": "prose.txt", "budget": 0.1}},
        base="./base",
    )

    recipe = load_recipe(path)

    assert recipe.data.source == {"train": str(tmp_path / "a.csv"), "test": "hf:owner/name"}
    assert recipe.evaluate.forgetting is not None
    assert recipe.evaluate.forgetting.source == str(tmp_path / "prose.txt")
    assert recipe.base == str(tmp_path / "base")


@pytest.mark.parametrize(
    "source",
    [
        "pypi:simple-icd-10-cm==1.5.0",
        "hf:owner/name",
        "s3://bucket/rows.csv",
        "package:medical/x.csv",
        "/abs/rows.csv",
        "pypy:x",
    ],
)
def test_other_sources_stay_unchanged(source: str, tmp_path: Path) -> None:
    assert load_recipe(write_recipe(tmp_path / "topics.yaml", data={"source": source})).data.source == source


def test_file_with_a_colon_in_its_name_is_found(tmp_path: Path) -> None:
    write_csv(tmp_path / "day:1.csv", topic_rows(3))

    assert load_recipe(write_recipe(tmp_path / "t.yaml", data={"source": "day:1.csv"})).data.source == str(
        tmp_path / "day:1.csv"
    )


def test_source_of_an_extended_recipe_starts_beside_that_recipe(tmp_path: Path) -> None:
    write_recipe(tmp_path / "parents" / "parent.yaml", data={"source": "rows.csv"})
    child = tmp_path / "child.yaml"
    child.write_text("extends: parents/parent.yaml\nsummary: mine\n")

    assert load_recipe(child).data.source == str(tmp_path / "parents" / "rows.csv")


def test_missing_file_is_named_with_the_path_and_the_recipe(tmp_path: Path) -> None:
    write_csv(tmp_path / "tickets.csv", topic_rows(3))
    recipe = load_recipe(write_recipe(tmp_path / "topics.yaml", data={"source": "tikets.csv"}))

    with pytest.raises(SourceError) as caught:
        prepare(recipe)

    assert str(caught.value).startswith(f"{tmp_path / 'tikets.csv'}: no such file or folder.")
    assert "tickets.csv" in str(caught.value).replace("tikets.csv", "")
    assert str(caught.value).endswith("It is data.source of the recipe topics.")


@pytest.mark.parametrize("way", ["file", "setting", "recipe object"])
def test_trained_recipe_is_evaluated_from_another_folder(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    elsewhere.mkdir()
    keys = {
        "base": "./base",
        "data": {"source": "rows.csv", "max_length": 48, "decontaminate": None},
        "train": {"max_steps": 3, "learning_rate": 0.01, "bf16": False, "per_device_train_batch_size": 8},
        "evaluate": {"baselines": ["majority"], "resamples": 100},
    }
    path = write_recipe(project / "topics.yaml", **keys)
    save_encoder(project / "base")
    write_csv(project / "rows.csv", topic_rows(60))
    monkeypatch.chdir(project if way != "file" else tmp_path)
    if way == "file":
        run = train(path, out=project / "run")
    elif way == "setting":
        shutil.move("rows.csv", "moved.csv")
        run = train(path, out=project / "run", settings={"data.source": "moved.csv"})
    else:
        run = train(Recipe.model_validate({"name": "topics", "task": "classification", **keys}), out=project / "run")
    monkeypatch.chdir(elsewhere)

    assert evaluate(run.path).systems["adapter"].metrics
    assert run.card.sources[0].source == str(project / ("moved.csv" if way == "setting" else "rows.csv"))
