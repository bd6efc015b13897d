from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TOPICS, topic_recipe, topic_rows, write_csv
from sklearn.metrics import f1_score

from vertical_sdk import VerticalModel, evaluate, train
from vertical_sdk.card import read_card, write_card
from vertical_sdk.cli import main
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import CorruptAdapter, DataError, GateFailed
from vertical_sdk.evaluation.report import render
from vertical_sdk.evaluation.result import Evaluation
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry import Registry
from vertical_sdk.tasks.classification import Classification


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return train(topic_recipe(folder, encoder), out=folder / "run").path


def test_every_system_has_every_metric_with_its_interval(run: Path) -> None:
    plain = evaluate(run).to_dict()

    assert set(plain["systems"]) == {"adapter", "base", "probe", "tfidf"}
    assert plain["baseline"] == "tfidf"
    for system in plain["systems"].values():
        assert system["error"] is None
        assert {"accuracy", "macro_f1", "ece"} <= set(system["metrics"])
        assert all(m["low"] <= m["value"] <= m["high"] for m in system["metrics"].values())
    assert {(t["baseline"], t["metric"]) for t in plain["tests"]} >= {(r, "macro_f1") for r in ("base", "probe", "tfidf")}


def test_evaluation_is_written_beside_the_unchanged_adapter(run: Path) -> None:
    before = read_files(run / "adapter")

    evaluation = evaluate(run)

    plain = json.loads((run / "evaluation.json").read_text())
    assert plain.pop("adapter") == hashlib.sha256(before["vertical.json"]).hexdigest()
    assert plain.pop("hub_id") is None
    assert plain == {key: value for key, value in evaluation.to_dict().items() if key not in {"report", "unwritten"}}
    assert (evaluation.report, evaluation.unwritten) == (str(run / "report.html"), "")
    assert "<html" in (run / "report.html").read_text()
    assert read_files(run / "adapter") == before


def test_publishing_a_run_adds_its_evaluation_to_card_and_readme(run: Path, tmp_path: Path) -> None:
    evaluation = evaluate(run)
    before = read_files(run / "adapter")

    version = Registry(tmp_path / "registry").publish(run, force=True, reason="a test")

    card = version.card
    assert (
        card.metrics["systems"]["adapter"]["metrics"]["accuracy"]["value"]
        == evaluation.systems["adapter"].metrics["accuracy"].value
    )
    assert set(card.metrics) == {"rows", "systems", "tests", "confidence", "baseline", "validation", "contribution"}
    assert card.metrics["rows"] == evaluation.rows
    assert card.gate == evaluation.gate
    assert "| specialist (adapter) |" in (version.path / "README.md").read_text()
    assert "<html" in (version.path / "report.html").read_text()
    assert VerticalModel.from_pretrained(version.path).card.gate is not None
    assert read_files(run / "adapter") == before


def test_publishing_the_adapter_folder_of_a_run_adds_its_evaluation_too(run: Path, tmp_path: Path) -> None:
    evaluation = evaluate(run)

    version = Registry(tmp_path / "registry").publish(run / "adapter", force=True, reason="a test")

    assert version.card.gate == evaluation.gate
    assert version.metrics["accuracy"] == evaluation.systems["adapter"].metrics["accuracy"].value


def test_publishing_refuses_an_evaluation_of_another_adapter(run: Path, tmp_path: Path) -> None:
    evaluate(run)
    changed = tmp_path / "run"
    shutil.copytree(run, changed)
    write_card(changed / "adapter", read_card(changed / "adapter").model_copy(update={"created": "2001-01-01"}))
    registry = Registry(tmp_path / "registry")

    with pytest.raises(
        CorruptAdapter, match=r"evaluation\.json is the evaluation of another adapter\. Run `vertical evaluate`"
    ):
        registry.publish(changed, force=True, reason="a test")
    (changed / "evaluation.json").write_text("{")
    with pytest.raises(CorruptAdapter, match=r"evaluation\.json is malformed\. Run `vertical evaluate`"):
        registry.publish(changed, force=True, reason="a test")
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["systems"]["base"] = {}
    evaluation["adapter"] = hashlib.sha256((changed / "adapter" / "vertical.json").read_bytes()).hexdigest()
    (changed / "evaluation.json").write_text(json.dumps(evaluation))
    with pytest.raises(CorruptAdapter, match=r"metrics\.tests\.0: 'macro_f1' of the specialist or of 'base' is not among"):
        registry.publish(changed, force=True, reason="a test")

    assert registry.list_adapters() == []


def test_publishing_a_run_without_evaluation_is_refused(run: Path, tmp_path: Path) -> None:
    evaluate(run)
    plain = tmp_path / "run"
    shutil.copytree(run, plain)
    (plain / "evaluation.json").unlink()

    with pytest.raises(GateFailed, match=r"topics has not been evaluated, but its recipe has a gate\. Run `vertical evaluate`"):
        Registry(tmp_path / "registry").publish(plain)


def test_evaluation_of_a_file_scores_all_rows_and_writes_nothing(run: Path, tmp_path: Path) -> None:
    rows = topic_rows(31, seed=5)
    before = (run / "adapter" / "vertical.json").read_bytes()

    evaluation = evaluate(run, data=write_csv(tmp_path / "new.csv", rows))

    predictions = [p.label for p in VerticalModel.from_pretrained(run).predict([text for text, _ in rows])]
    truth = [label for _, label in rows]
    metrics = evaluation.systems["adapter"].metrics
    assert evaluation.rows == 31
    assert metrics["accuracy"].value == pytest.approx(np.mean([a == b for a, b in zip(predictions, truth, strict=True)]))
    assert metrics["macro_f1"].value == pytest.approx(f1_score(truth, predictions, average="macro"))
    assert (run / "adapter" / "vertical.json").read_bytes() == before


def test_published_report_shows_no_rows(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = [row.text for row in evaluate(run).examples]
    local = (run / "report.html").read_text()

    code = main(["registry", "publish", str(run), "--registry", str(tmp_path / "registry")])

    printed = capsys.readouterr()
    files = read_files(Registry(tmp_path / "registry").resolve("topics@1").path)
    assert code == 0
    assert "The published report shows no rows of data." in printed.err
    assert len(shown) == 18
    assert all(text in local for text in shown)
    assert "What this means" in files["report.html"].decode()
    assert not [name for name, content in files.items() if any(text.encode() in content for text in shown)]
    assert (run / "report.html").read_text() == local


def test_report_is_published_with_rows_if_the_recipe_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    card = read_card(run / "adapter")
    recipe = Recipe.model_validate({**card.recipe, "report": {"rows": True}})
    changes = {"recipe": recipe.to_dict(), "recipe_digest": recipe.digest}
    write_card(tmp_path / "run" / "adapter", card.model_copy(update=changes))
    shown = evaluate(tmp_path / "run").examples[0].text

    code = main(["registry", "publish", str(tmp_path / "run"), "--registry", str(tmp_path / "registry"), "--json"])

    assert code == 0
    assert "shows test rows to everyone who may read this registry" in json.loads(capsys.readouterr().out)["report"]
    assert shown in (Registry(tmp_path / "registry").resolve("topics@1").path / "report.html").read_text()


def test_report_of_an_earlier_version_stays_in_the_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(run)
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "report.html").write_text("<html><h2>Some rows</h2><td>red itch rash</td></html>")

    code = main(["registry", "publish", str(tmp_path / "run"), "--registry", str(tmp_path / "registry")])

    assert code == 0
    assert "The report was not published" in capsys.readouterr().err
    assert not (Registry(tmp_path / "registry").resolve("topics@1").path / "report.html").exists()


def test_report_is_written_in_the_language_of_the_recipe(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    card = read_card(run / "adapter")
    write_card(tmp_path / "run" / "adapter", card.model_copy(update={"recipe": {**card.recipe, "report": {"language": "zh"}}}))

    evaluation = evaluate(tmp_path / "run")

    page = Path(evaluation.report).read_text(encoding="utf-8")
    right = round(1000 * evaluation.right["adapter"] / 18)
    assert f"每 1,000 例中，专科模型答对 {right:,} 例" in page
    assert evaluation.right["adapter"] == sum(evaluation.confusion[i][i] for i in range(3))


def test_training_rows_in_a_file_are_left_out_and_counted(run: Path, tmp_path: Path) -> None:
    own = Path(read_card(run / "adapter").sources[0].source)
    kept = evaluate(run).systems["adapter"].metrics

    evaluation = evaluate(run, data=own)

    # of its 120 rows, 90 are for training, 12 for validation and 18 for the test
    assert (evaluation.rows, evaluation.left_out, evaluation.tuned) == (18, 102, 12)
    assert (evaluation.repeated, evaluation.unknown) == (0, "")
    assert evaluation.systems["adapter"].metrics["macro_f1"].value == kept["macro_f1"].value
    assert evaluation.report == str(run / "report-topics.html")
    assert "102 more were left out: the specialist was trained on them" in (run / "report-topics.html").read_text()


def test_training_rows_are_recognized_in_other_case_order_and_label(run: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(read_card(run / "adapter").recipe)
    learned = [*prepare(recipe).train[:7], *prepare(recipe).validation[:4]]
    changed = [(f"\t{row.text.upper().replace(' ', '  ')} ", "skin") for row in learned]

    evaluation = evaluate(run, data=write_csv(tmp_path / "new.csv", [*topic_rows(12, seed=5), *changed[::-1]]))

    assert (evaluation.rows, evaluation.left_out) == (12, 11)


def test_file_of_training_rows_alone_is_refused(run: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(read_card(run / "adapter").recipe)
    data = write_csv(tmp_path / "known.csv", [(row.text, str(row.target)) for row in prepare(recipe).train[:5]])

    with pytest.raises(
        DataError, match=r"known\.csv: the specialist was trained on each of the 5 rows\. Name a file of new rows"
    ):
        evaluate(run, data=data)


def test_command_says_which_rows_were_left_out_and_names_their_report(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe.model_validate(read_card(run / "adapter").recipe)
    rows = [*topic_rows(6, seed=5), *((row.text, str(row.target)) for row in prepare(recipe).train[:9])]

    code = main(["evaluate", str(run), "--data", str(write_csv(tmp_path / "may rows.csv", rows))])

    printed = capsys.readouterr()
    assert code == 0
    assert "On 6 rows; 9 more were left out: the specialist was trained on them (95% intervals)" in printed.out
    assert "that the specialist was not trained on" not in printed.out
    assert f"Report: {run / 'report-may-rows.html'}" in printed.err
    assert f"Report: {run / 'report.html'}" not in printed.err


def test_numbers_are_shown_if_the_run_cannot_be_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], mount: Callable[..., None]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    mount("--bind", str(tmp_path / "run"), str(tmp_path / "run"))
    mount("-o", "remount,ro,bind", str(tmp_path / "run"))

    code = main(["evaluate", str(tmp_path / "run")])

    printed = capsys.readouterr()
    assert "On 18 rows that the specialist was not trained on" in printed.out
    assert "Gate: passed" in printed.out
    assert "The evaluation was not stored: " in printed.err
    assert "cannot be written (Read-only file system)" in printed.err
    assert code == 9
    evaluation = evaluate(tmp_path / "run")
    assert evaluation.systems["adapter"].metrics
    assert evaluation.report == ""
    assert "Read-only file system" in evaluation.unwritten
    code = main(["evaluate", str(tmp_path / "run"), "--json"])
    assert code == 9
    assert json.loads(capsys.readouterr().out)["systems"]["adapter"]["metrics"]


def test_rows_with_an_unknown_label_are_refused(run: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "new.csv", [*topic_rows(3), ("a long tooth", "teeth")])

    with pytest.raises(DataError, match="teeth"):
        evaluate(run, data=data)


def test_evaluation_does_not_change_a_published_adapter(run: Path, tmp_path: Path) -> None:
    evaluate(run)
    registry = Registry()
    version = registry.publish(run, force=True, reason="a test")

    evaluation = evaluate("topics@1", data=write_csv(tmp_path / "new.csv", topic_rows(12)), registry=registry)

    assert set(evaluation.systems) == {"adapter", "base", "probe", "tfidf"}
    assert registry.verify() == []
    assert version.card.metrics


def test_adapter_and_base_are_compared_without_training_rows(run: Path, tmp_path: Path) -> None:
    data = Path(read_card(run / "adapter").sources[0].source)
    content = data.read_bytes()
    data.unlink()
    try:
        with pytest.raises(Exception, match=data.name):
            evaluate(run)
        evaluation = evaluate(run, data=write_csv(tmp_path / "new.csv", topic_rows(12)))
    finally:
        data.write_bytes(content)

    assert "the training rows cannot be prepared" in str(evaluation.systems["tfidf"].error)
    assert "the training rows cannot be prepared" in evaluation.unknown
    assert evaluation.left_out == 0
    assert evaluation.systems["base"].metrics
    assert evaluation.systems["probe"].metrics


def test_data_that_changed_since_training_is_refused(run: Path) -> None:
    data = Path(read_card(run / "adapter").sources[0].source)
    content = data.read_bytes()
    write_csv(data, topic_rows(150, seed=9))
    try:
        with pytest.raises(DataError, match="has changed since the adapter was trained"):
            evaluate(run)
    finally:
        data.write_bytes(content)


def test_accuracy_of_untrained_base_is_near_chance(run: Path) -> None:
    evaluation = evaluate(run)

    # a base of random weights: no better than chance on three balanced labels, give or take its interval
    base = evaluation.systems["base"].metrics["accuracy"]
    assert base.low <= 1 / 3 + 0.15
    assert len(evaluation.labels) == len(TOPICS)


def test_rows_of_one_label_are_named_and_do_not_pass_the_gate(run: Path, tmp_path: Path) -> None:
    rows = [row for row in topic_rows(60, seed=5) if row[1] == "skin"]

    evaluation = evaluate(run, data=write_csv(tmp_path / "skin.csv", rows))

    plain = evaluation.to_dict()
    assert plain["warnings"][0].startswith("'heart', 'lung' have no row in the test part")
    assert plain["warnings"][1].startswith("All 20 test rows have the same answer, 'skin'")
    assert plain["warnings"][2] == "Undefined on these rows, and shown as a dash: macro_f1, weighted_f1, mcc."
    assert all(system["metrics"]["macro_f1"]["value"] is None for system in plain["systems"].values())
    assert all(test["p_value"] is None for test in plain["tests"] if test["metric"] == "macro_f1")
    assert plain["gate"]["passed"] is False
    page = render(Evaluation.from_dict(plain))
    assert "&#39;heart&#39;, &#39;lung&#39; have no row in the test part" in page
    assert "is undefined on these rows" in page
    assert "nan" not in re.sub(r"<[^>]*>|&\w+;", " ", page).lower().split()


def test_a_specialist_that_repeats_one_label_is_a_warning_and_fails_the_gate(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classification, "answers", lambda self, outputs: np.zeros(18, dtype=np.int64))

    evaluation = evaluate(run)

    assert evaluation.warnings == ["The specialist gives one label to every row: 'heart'."]
    assert evaluation.gate is not None
    assert evaluation.gate.reasons[-1] == "Fails: the specialist gives one label to every row: 'heart'."
    assert not evaluation.gate.passed
