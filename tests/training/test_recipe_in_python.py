"""A recipe as a dict, rows as a DataFrame, and progress in the log: training without any file of one's own."""

from __future__ import annotations

import logging
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from conftest import topic_recipe, topic_rows

import vertical_sdk
from vertical_sdk import VerticalModel, evaluate, load_recipe, train
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.paths import file_digest
from vertical_sdk.types import log_progress


def as_dict(source: Any, base: Path = Path("base")) -> dict[str, Any]:
    return {
        "name": "topics",
        "task": "classification",
        "base": str(base),
        "data": {"source": source, "columns": {"text": "note", "label": "kind"}, "decontaminate": None, "max_length": 48},
        "train": {"max_steps": 2, "per_device_train_batch_size": 8, "bf16": False},
        "evaluate": {"baselines": ["base"], "resamples": 100},
    }


def frame() -> pd.DataFrame:
    """120 rows whose index does not begin at 0."""
    return pd.DataFrame(topic_rows(130), columns=["note", "kind"])[10:]


def test_a_dict_is_the_recipe_that_its_file_would_be(tmp_path: Path, encoder: Path) -> None:
    path = topic_recipe(tmp_path, encoder)
    keys = yaml.safe_load(path.read_text())
    keys["data"]["source"] = Path(keys["data"]["source"])

    assert load_recipe(keys).digest == load_recipe(path).digest
    assert load_recipe(keys, {"train.seed": 3}).train["seed"] == 3
    assert load_recipe({"extends": str(path), "name": "other"}).data == load_recipe(path).data


@pytest.mark.parametrize(
    "keys",
    [
        {"name": "a", "task": "clasification", "data": {"source": "x.csv"}},
        {"name": "a", "task": "classification", "data": {"sorce": "x.csv"}},
        {"name": "a", "data": {"source": "x.csv"}},
        {"name": "a", "task": "classification", "data": {"source": 3}},
        {"name": "a", "extends": "medical/icd-chaptr"},
        {"name": "a", "extends": 3},
    ],
    ids=str,
)
def test_a_dict_has_the_errors_of_its_file(keys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(keys))

    with pytest.raises(RecipeError) as by_file:
        load_recipe(tmp_path / "a.yaml")
    with pytest.raises(RecipeError) as by_dict:
        train(keys)

    assert str(by_dict.value) == str(by_file.value).replace(str(tmp_path / "a.yaml"), "a")


@pytest.mark.parametrize("recipe", [3, None, ["medical/icd-chapter"]], ids=repr)
def test_train_refuses_other_types_than_recipes(recipe: Any) -> None:
    with pytest.raises(RecipeError, match="a recipe is a name, the path of a YAML file, or a dict of its keys, not a"):
        train(recipe)


def test_a_table_is_trained_on_and_kept_for_evaluation(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="vertical_sdk"):
        run = train(as_dict(frame(), encoder), out=tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    evaluation = evaluate(run.path)

    (source,) = run.card.sources
    kept = Path(source.source)
    assert source.sha256 == file_digest(kept)
    assert kept.is_relative_to(tmp_path / "home" / "rows")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert pd.read_parquet(kept).equals(frame().reset_index(drop=True))
    assert run.card.account["read"] == 120
    assert evaluation.systems["adapter"].metrics
    assert f"loading {encoder}" in [record.message for record in caplog.records if record.name == "vertical_sdk"]
    assert VerticalModel.from_pretrained(run.path).labels == ("heart", "lung", "skin")


def test_the_same_rows_are_kept_once_and_arrow_tables_too(home: Path) -> None:
    for table in (frame(), frame().reset_index(drop=True), pa.Table.from_pandas(frame(), preserve_index=False)):
        with pytest.raises(RecipeError, match="loss"):
            train({**as_dict(table), "loss": "no-such-loss"})

    assert len(list((home / "rows").iterdir())) == 1


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (frame().iloc[:0], "the table has no rows"),
        (pd.concat([frame(), frame()], axis=1), "the column 'note' twice"),
        (frame().assign(other=[1, "a"] * 60), "the table cannot be kept: .*other"),
        (frame().assign(other=[object()] * 120), "the table cannot be kept: .*other"),
    ],
)
def test_a_table_that_cannot_be_kept_is_refused(table: pd.DataFrame, problem: str, home: Path) -> None:
    with pytest.raises(DataError, match=rf"^data\.source: .*{problem}"):
        train(as_dict(table))
    assert not (home / "rows").exists()


def test_a_table_in_the_place_of_a_recipe_is_refused_with_the_right_form() -> None:
    with pytest.raises(RecipeError, match=r"a table is not a recipe\. Name it as the source of one: train\(\{"):
        train(frame())  # type: ignore[arg-type]


def test_a_setting_may_be_a_table(tmp_path: Path, encoder: Path) -> None:
    path = topic_recipe(tmp_path, encoder, loss="no-such-loss")

    with pytest.raises(RecipeError, match="no-such-loss"):
        train(path, settings={"data.source": frame()})
    with pytest.raises(DataError, match="the table has no rows"):
        train(path, settings={"data.source": {"train": frame(), "test": frame()[:0]}})


def test_an_array_as_source_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"topics\.data\.source is a ndarray"):
        train(as_dict(np.zeros(3)))


def test_the_library_logs_to_one_logger_without_a_handler(caplog: pytest.LogCaptureFixture) -> None:
    (handler,) = logging.getLogger(vertical_sdk.__name__).handlers

    with caplog.at_level(logging.DEBUG, logger="vertical_sdk"):
        log_progress("loading the base")
        log_progress("writing", 0.5)
        log_progress("warning: 3 rows are odd")

    assert isinstance(handler, logging.NullHandler)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "loading the base"),
        ("DEBUG", "writing (50%)"),
        ("WARNING", "3 rows are odd"),
    ]
