"""The promise of `evaluate.abstention` from the recipe to the answers: fitted, stored, checked on test rows, marked."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from conftest import topic_recipe, topic_rows, write_csv

from vertical_sdk import evaluate, train
from vertical_sdk.card import Calibration, Promise, read_card
from vertical_sdk.checking import check_recipe
from vertical_sdk.cli.app import main
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.evaluation.report import render
from vertical_sdk.evaluation.result import Evaluation, System
from vertical_sdk.inference import VerticalModel
from vertical_sdk.recipe import Recipe, Report, load_recipe

PLAIN = {"name": "x", "task": "classification", "data": {"source": "rows.csv"}}


def test_only_a_recipe_with_a_promise_has_the_key() -> None:
    plain = load_recipe(PLAIN)

    promising = plain.replace({"evaluate.abstention.alpha": 0.05})

    assert "abstention" not in plain.to_dict()["evaluate"]
    assert promising.to_dict()["evaluate"]["abstention"] == {"alpha": 0.05, "delta": 0.05}
    assert promising.replace({"evaluate.abstention": None}).digest == plain.digest
    assert Recipe.model_validate(promising.to_dict()) == promising


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_a_task_without_one_label_a_row_cannot_promise(task: str) -> None:
    recipe = load_recipe({**PLAIN, "task": task, "evaluate": {"abstention": {"alpha": 0.1}, "baselines": ["majority"]}})

    with pytest.raises(RecipeError, match=rf"evaluate.abstention: abstention needs one label a row .* {task}"):
        check_recipe(recipe)


@pytest.mark.parametrize("alpha", [0, 0.6])
def test_a_share_that_promises_nothing_is_refused(alpha: float) -> None:
    with pytest.raises(RecipeError, match=r"abstention\.alpha"):
        load_recipe({**PLAIN, "evaluate": {"abstention": {"alpha": alpha}}})


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="3 wrong of 2 answered of 9 rows cannot be"):
        Promise(alpha=0.1, delta=0.05, rows=9, answered=2, wrong=3)
    with pytest.raises(ValueError, match="is about labels"):
        Calibration(promise=Promise(alpha=0.1, delta=0.05)).require_fit(None, None)


def test_a_promise_without_validation_rows_stops_before_training(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(
        tmp_path, encoder, evaluate__abstention={"alpha": 0.1}, data__split={"use": "stratified", "validation": 0}
    )

    with pytest.raises(DataError, match=r"evaluate\.abstention: its threshold is fitted on validation rows"):
        train(recipe, out=tmp_path / "run")


@pytest.fixture(scope="module")
def run(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation, list[str]]:
    """A run that promises that half of its answers are right, which a few validation rows can show."""
    folder = tmp_path_factory.mktemp("promise")
    said: list[str] = []
    recipe = topic_recipe(folder, encoder, evaluate__abstention={"alpha": 0.5, "delta": 0.3}, evaluate__gate=False)
    trained = train(recipe, out=folder / "run", progress=lambda what, _share=None: said.append(what))
    return folder / "run", evaluate(trained.path, memory=trained.memory), said


def test_training_stores_the_promise_and_says_it(run: tuple[Path, Evaluation, list[str]]) -> None:
    folder, _, said = run
    promise = read_card(folder / "adapter").calibration.promise

    assert promise is not None
    assert (promise.alpha, promise.delta, promise.groups) == (0.5, 0.3, False)
    assert promise.threshold is not None
    assert promise.low < promise.coverage <= promise.high
    sentence = next(line for line in said if "abstains if its confidence is below" in line)
    assert sentence in (folder / "adapter" / "README.md").read_text("utf-8")


def test_evaluation_counts_the_answers_of_the_test_rows(run: tuple[Path, Evaluation, list[str]]) -> None:
    folder, evaluation, _ = run
    found = json.loads((folder / "evaluation.json").read_text("utf-8"))["promise"]

    assert evaluation.promise is not None
    assert found["rows"] == evaluation.rows
    assert found["coverage"]["value"] == found["answered"] / found["rows"]
    assert found["errors"]["value"] == found["wrong"] / found["answered"]
    assert found["outcome"] == ("kept" if found["wrong"] <= found["answered"] / 2 else "open")
    assert found["text"] in evaluation.promise["text"]
    assert "The specialist abstains if its confidence is below" in (folder / "report.html").read_text("utf-8")


def test_answers_are_marked_and_keep_their_label(run: tuple[Path, Evaluation, list[str]]) -> None:
    model = VerticalModel.from_pretrained(run[0])
    promise = model.card.calibration.promise
    assert promise is not None
    assert promise.threshold is not None

    for prediction in model.predict([text for text, _ in topic_rows(30)] + ["a word that says nothing"]):
        assert prediction.confidence is not None
        assert prediction.abstained == (prediction.confidence < promise.threshold)
        assert prediction.label in model.labels
        assert prediction.to_dict()["abstained"] is prediction.abstained


def test_the_command_marks_answers_and_counts_them(
    run: tuple[Path, Evaluation, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = read_card(run[0] / "adapter")
    never = card.calibration.model_copy(update={"promise": Promise(alpha=0.5, delta=0.3, rows=9)})
    (run[0] / "adapter" / "vertical.json").write_text(card.model_copy(update={"calibration": never}).model_dump_json(), "utf-8")
    rows = write_csv(tmp_path / "rows.csv", topic_rows(4))
    try:
        main(["predict", str(run[0]), "--data", str(rows), "--out", str(tmp_path / "out.csv")])
    finally:
        (run[0] / "adapter" / "vertical.json").write_text(card.model_dump_json(), "utf-8")

    answers = list(csv.DictReader((tmp_path / "out.csv").read_text("utf-8").splitlines()))
    assert [answer["abstained"] for answer in answers] == ["true"] * 4
    assert all(answer["label"] for answer in answers)
    assert "The specialist abstained from 4 of 4 answers" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("language", "outcome", "sentence"),
    [
        (
            "en",
            "kept",
            "The promise is kept: of 200 test rows it answers 50.0% [43.0%, 57.0%], and 2.0% [0.2%, 7.0%] of these answers",
        ),
        ("en", "broken", "The promise is broken: of 200 test rows"),
        ("zh", "open", "无法判断承诺是否得到遵守：在 200 条测试样本中"),
    ],
)
def test_the_report_says_whether_the_promise_is_kept(language: str, outcome: str, sentence: str) -> None:
    shares = {
        "coverage": {"value": 0.5, "low": 0.43, "high": 0.57},
        "errors": {"value": 0.02, "low": 0.002, "high": 0.07},
    }
    evaluation = Evaluation(
        name="x",
        task="classification",
        rows=200,
        systems={"adapter": System("specialist")},
        calibration=Calibration(promise=Promise(alpha=0.05, delta=0.05, threshold=0.8, rows=300, answered=150, wrong=2)),
        abstention={"adapter": [(0.5, 0.96, 0.875), (1.0, 0.72, 0.31)]},
        promise={"rows": 200, "answered": 100, "wrong": 2, **shares, "outcome": outcome, "text": ""},
    )

    assert sentence in render(evaluation, Report.model_validate({"language": language}))


def test_a_calibration_without_a_promise_is_stored_as_in_earlier_versions() -> None:
    calibration = Calibration.model_validate({"temperature": 1.5, "rows": 10})
    promising = calibration.model_copy(update={"promise": Promise(alpha=0.1, delta=0.05)})

    assert calibration.promise is None
    assert "promise" not in calibration.model_dump()
    assert Calibration.model_validate_json(promising.model_dump_json()) == promising
