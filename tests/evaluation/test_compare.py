from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TOPICS, topic_recipe, topic_rows, write_csv
from sklearn.metrics import f1_score

from vertical_sdk import VerticalModel, evaluate, train
from vertical_sdk.card import read_card, write_card
from vertical_sdk.errors import CorruptAdapter, DataError, GateFailed
from vertical_sdk.evaluation.report import render
from vertical_sdk.evaluation.result import Evaluation
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
    assert plain == json.loads(json.dumps(evaluation.to_dict()))
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
    assert set(card.metrics) == {"rows", "systems", "tests", "confidence", "baseline", "warnings"}
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
    with pytest.raises(CorruptAdapter, match=r"evaluation\.json is malformed \('metrics'\)\. Run `vertical evaluate`"):
        registry.publish(changed, force=True, reason="a test")

    assert registry.list_adapters() == []


def test_publishing_a_run_without_evaluation_is_refused(run: Path, tmp_path: Path) -> None:
    evaluate(run)
    plain = tmp_path / "run"
    shutil.copytree(run, plain)
    (plain / "evaluation.json").unlink()

    with pytest.raises(
        GateFailed, match=r"topics has not been evaluated, so it did not pass its gate\. Run `vertical evaluate`"
    ):
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
    assert all(system["metrics"]["macro_f1"]["value"] is None for system in plain["systems"].values())
    assert all(test["p_value"] is None for test in plain["tests"] if test["metric"] == "macro_f1")
    assert plain["gate"]["passed"] is False
    page = render(Evaluation.from_dict(plain))
    assert "&#39;heart&#39;, &#39;lung&#39; have no row in the test part" in page
    compared = page.partition("Is the difference significant?")[2].partition("</section>")[0].split("<tr>")
    assert {"undefined" in row for row in compared if "<td>Macro F1</td>" in row} == {True}
    assert "nan" not in re.sub(r"<[^>]*>|&\w+;", " ", page).lower().split()


def test_a_specialist_that_repeats_one_label_is_a_warning_and_fails_the_gate(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classification, "answers", lambda self, outputs: np.zeros(18, dtype=np.int64))

    evaluation = evaluate(run)

    assert evaluation.warnings == ["The specialist gives one label to every row: 'heart'."]
    assert evaluation.gate is not None
    assert evaluation.gate.reasons[0] == "Fails: the specialist gives one label to every row: 'heart'."
    assert not evaluation.gate.passed
