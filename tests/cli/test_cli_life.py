"""A specialist on the command line, with a base of a few thousand weights: train, evaluate, publish, predict."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import topic_recipe, topic_rows, write_csv

from vertical_sdk.cli import given_rows, main
from vertical_sdk.cli.answers import Answered, list_answers
from vertical_sdk.types import Example, Prediction


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    """The one JSON document on stdout."""
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def failed(trained: Path, tmp_path: Path) -> Path:
    """The same run, as if its gate had failed."""
    run = tmp_path / "failed"
    shutil.copytree(trained, run)
    path = run / "evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation["gate"] = {"passed": False, "reasons": ["Fails: it is not better than the base."]}
    path.write_text(json.dumps(evaluation))
    return run


def test_training_writes_one_document_with_its_results(
    tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = topic_recipe(tmp_path, encoder)
    words = ["train", str(recipe), "--set", "train.num_train_epochs=1", "--base", str(encoder), "--json"]

    assert main(words) == 0

    found = document(capsys)
    assert Path(found["run"]).parts[:2] == ("runs", Path(found["run"]).name)
    assert Path(found["report"]).is_file()
    assert (Path(found["adapter"]) / "adapter_model.safetensors").is_file()
    assert {"adapter", "base", "probe", "tfidf"} == set(found["evaluation"]["systems"])
    assert found["gate"]["reasons"]


def test_training_shows_systems_tests_and_the_gate(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(trained)]) == 0

    said = capsys.readouterr()
    shown = " ".join(said.out.split())
    assert "specialist" in shown
    assert "TF-IDF" in shown
    assert "Gate: passed" in shown
    assert str(trained / "report.html") in said.err


def test_an_existing_run_is_not_overwritten(trained: Path, encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(trained.parent / "topics.yaml"), "--out", str(trained), "--json"]) == 9
    assert "--resume" in document(capsys)["error"]["message"]


def test_evaluating_on_own_rows_scores_every_row(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_csv(tmp_path / "new.csv", topic_rows(12, seed=5))

    assert main(["evaluate", str(trained), "--data", str(data), "--json"]) == 0
    assert document(capsys)["rows"] == 12


def test_predicting_writes_a_line_for_each_row_in_order(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "new.csv", [(text,) for text, _ in topic_rows(300, seed=5)], ("text",))

    assert main(["predict", str(trained), "--data", str(data), "--json"]) == 0

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == [text for text, _ in topic_rows(300, seed=5)]
    assert set(lines[0]["probabilities"]) == {"skin", "lung", "heart"}
    assert all(abs(sum(line["probabilities"].values()) - 1) < 1e-6 for line in lines)
    assert all(line["label"] == max(line["probabilities"], key=line["probabilities"].get) for line in lines)


def test_predicting_shows_a_table_to_people(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(trained), "red [bold]itch[/bold] skin", "--", "-dash"]) == 0

    shown = capsys.readouterr().out
    assert "red [bold]itch[/bold] skin" in shown
    assert "-dash" in shown


ROWS = [("rash on skin", "a"), ("  ", "b"), ("cough and lung", "c"), ("\u200b", "d")]
"""Two texts, and two rows without one, on the lines 3 and 5."""


def test_a_row_without_text_has_a_reason_in_the_place_of_its_answer(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "new.csv", ROWS, ("text", "note"))

    assert main(["predict", str(trained), "--data", str(data), "--json"]) == 0
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]

    assert [(line["id"], line["label"] is None, line.get("error")) for line in lines] == [
        ("2", False, None),
        ("3", True, "no text"),
        ("4", False, None),
        ("5", True, "no text"),
    ]
    assert "2 of 4 rows were not answered: no text (rows 3, 5)." in captured.err
    assert main(["predict", str(trained), "rash on skin", "cough and lung", "--json"]) == 0
    alone = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [lines[0]["label"], lines[2]["label"]] == [line["label"] for line in alone]


def test_rows_without_text_are_named_if_one_may_not_be_skipped(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "new.csv", ROWS, ("text", "note"))

    assert main(["predict", str(trained), "--data", str(data), "--json", "--on-error", "fail"]) == 3
    assert "2 rows have no text: 3, 5" in document(capsys)["error"]["message"]


def test_a_file_without_any_text_is_refused(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_csv(tmp_path / "new.csv", [("  ", "a"), ("\u200b", "b")], ("text", "note"))

    assert main(["predict", str(trained), "--data", str(data), "--json"]) == 3
    assert "2 rows have no text: 2, 3" in document(capsys)["error"]["message"]


def test_answers_are_written_to_a_file_with_one_row_for_each_row(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "new.csv", ROWS, ("text", "note"))
    ask = ["predict", str(trained), "--data", str(data), "--top-k", "2"]

    assert main([*ask, "--out", str(tmp_path / "answers.csv")]) == 0
    assert f"{tmp_path / 'answers.csv'}: 4 rows" in capsys.readouterr().out
    assert main([*ask, "--out", str(tmp_path / "answers.jsonl"), "--json"]) == 0
    assert document(capsys) == {"out": str(tmp_path / "answers.jsonl"), "rows": 4, "not_answered": 2}

    with (tmp_path / "answers.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in table] == [line["text"] for line in lines] == [text.strip(" \u200b") for text, _ in ROWS]
    assert [row["error"] for row in table] == ["", "no text", "", "no text"]
    for row, line in zip(table[::2], lines[::2], strict=True):
        assert row["label"] == line["label"]
        assert float(row["confidence"]) == line["probabilities"][line["label"]]
        assert [row["likeliest_1"], row["likeliest_2"]] == sorted(
            line["probabilities"], key=lambda x: -line["probabilities"][x]
        )[:2]
        assert len(line["probabilities"]) == 2


def test_a_file_in_parts_has_the_answers_and_errors_of_the_whole_file(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*((text, "NA") for text, _ in topic_rows(9)), ("  ", "NA"), ("cough and lung", "x"), ("\u200b", "NA")]
    data = write_csv(tmp_path / "new.csv", rows, ("text", "note"))
    broken = write_csv(tmp_path / "broken.csv", [*rows, ("a", "b", "c")], ("text", "note"))
    results = []

    for size in (1024, 5):
        monkeypatch.setattr(given_rows, "PART", size)
        for more in ([str(data)], [str(data), "--on-error", "fail"], [str(broken)]):
            code = main(["predict", str(trained), "--data", *more, "--json"])
            results.append((code, capsys.readouterr()))

    whole, parts = results[:3], results[3:]
    assert [code for code, _ in parts] == [0, 3, 3]
    assert parts[1:] == whole[1:]
    assert "2 of 12 rows were not answered: no text (rows 11, 13)." in parts[0][1].err
    assert parts[0][1].err == whole[0][1].err
    for one, other in zip(parts[0][1].out.splitlines(), whole[0][1].out.splitlines(), strict=True):
        own, expected = json.loads(one), json.loads(other)
        assert own.pop("probabilities") == pytest.approx(expected.pop("probabilities"), abs=1e-6)
        assert own == expected


def test_the_answers_of_a_failed_command_leave_the_old_file(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "new.csv", ROWS, ("text", "note"))
    out = tmp_path / "answers.csv"
    out.write_text("old")

    assert main(["predict", str(trained), "--data", str(data), "--out", str(out), "--on-error", "fail"]) == 3
    assert out.read_text() == "old"
    assert main(["predict", str(trained), "rash", "--out", str(tmp_path / "answers.xlsx")]) == 3
    assert "the ending should be .csv or .jsonl, not '.xlsx'" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("answers*")) == ["answers.csv"]


@pytest.mark.parametrize("out", ["new.csv", "../rows/new.csv", "link.csv"])
def test_answers_never_overwrite_the_rows_that_they_answer(
    trained: Path, tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    data = write_csv(folder / "new.csv", ROWS, ("text", "note"))
    (folder / "link.csv").symlink_to(data)
    before = data.read_bytes()

    assert main(["predict", str(trained), "--data", str(data), "--out", str(folder / out)]) == 3
    assert "this is the file with the rows" in capsys.readouterr().err
    assert data.read_bytes() == before


def test_the_table_lists_the_likeliest_labels(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(trained), "red itch on skin", "--top-k", "2"]) == 0
    shown = capsys.readouterr().out

    assert len(re.findall(r"(skin|lung|heart) [01]\.\d{3}", shown)) == 2


@pytest.mark.parametrize(
    ("prediction", "task", "columns"),
    [
        (Prediction(label="a", probabilities={"a": 0.9}), "classification", ["text", "answer", "probability"]),
        (Prediction(label=2.5, interval=(2.0, 3.0)), "regression", ["text", "answer"]),
        (Prediction(label=None, text="yes"), "generation", ["text", "answer"]),
    ],
)
def test_a_table_has_probabilities_only_for_labels(prediction: Prediction, task: str, columns: list[str]) -> None:
    card: Any = SimpleNamespace(task=task)

    shown = list_answers([Answered(Example(id="1", text="x"), prediction)], card, top_k=None)

    assert [column.header for column in shown.columns] == columns


@pytest.mark.parametrize("words", [[], ["text", "--data", "x.csv"]])
def test_predicting_takes_texts_or_a_file(trained: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(trained), *words]) == 2


def test_a_published_version_is_listed_shown_tagged_and_used(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "publish", str(trained), "--alias", "production", "--tag", "team=a", "--json"]) == 0
    published = document(capsys)
    assert published["reference"] == "topics@1"
    assert published["aliases"] == ["production"]
    assert main(["registry", "list", "--json"]) == 0
    assert document(capsys)[0]["aliases"] == {"production": 1}
    assert main(["registry", "show", "topics@production", "--json"]) == 0
    assert document(capsys)["card"]["name"] == "topics"
    assert main(["registry", "tag", "topics", "1", "team=", "site=b", "--json"]) == 0
    assert document(capsys)["tags"] == {"site": "b"}
    assert main(["registry", "alias", "topics", "canary", "1", "--expected", "0", "--json"]) == 0
    assert document(capsys) == {"name": "topics", "alias": "canary", "version": 1}
    assert main(["registry", "alias", "topics", "canary", "1", "--expected", "0", "--json"]) == 7
    assert "error" in document(capsys)
    assert main(["registry", "alias", "topics", "canary", "--delete"]) == 0
    capsys.readouterr()
    assert main(["registry", "history", "topics", "--json"]) == 0
    assert [event["action"] for event in document(capsys)] == ["publish", "alias", "tag", "alias", "delete alias"]
    assert main(["registry", "history", "topics", "--limit", "2", "--json"]) == 0
    assert [event["action"] for event in document(capsys)] == ["alias", "delete alias"]
    assert main(["predict", "topics@production", "itch", "--json"]) == 0
    assert document(capsys)["adapter"] == "topics@production"
    assert main(["registry", "verify", "--json"]) == 0
    assert document(capsys) == {"ok": True, "problems": []}
    assert main(["registry", "gc", "--json"]) == 0
    assert document(capsys) == {"freed_bytes": 0}


@pytest.mark.parametrize("words", [["list"], ["show", "topics"], ["history", "topics"], ["verify"], ["gc"]])
def test_registry_verbs_print_tables(
    words: list[str], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--registry", str(tmp_path / "store")]
    assert main(["registry", "publish", str(trained), "--alias", "production", *where]) == 0

    assert main(["registry", *words, *where]) == 0
    assert capsys.readouterr().out.strip()


def test_a_failed_gate_stops_publishing_unless_forced(failed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "publish", str(failed), "--json"]) == 8
    assert document(capsys)["error"]["type"] == "GateFailed"
    assert main(["registry", "publish", str(failed), "--force", "--reason", "a trial", "--json"]) == 0
    assert document(capsys)["forced"] is True


def test_a_changed_file_in_the_registry_is_found(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--registry", str(tmp_path / "store")]
    assert main(["registry", "publish", str(trained), *where, "--json"]) == 0
    assert main(["registry", "show", document(capsys)["reference"], *where, "--json"]) == 0
    file = Path(document(capsys)["path"]) / "adapter_model.safetensors"
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    assert main(["registry", "verify", *where, "--json"]) == 6
    assert "adapter_model.safetensors" in document(capsys)["problems"][0]
    assert main(["predict", "topics", "itch", *where, "--json"]) == 6


def test_the_rows_of_a_recipe_are_shown_with_the_account_of_each_step(
    tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = topic_recipe(tmp_path, encoder)

    assert main(["data", "show", str(recipe), "--rows", "2", "--json"]) == 0

    shown = document(capsys)
    assert sum(part["count"] for part in shown["rows"].values()) == 120
    assert all(len(part["first"]) == 2 for part in shown["rows"].values())
    assert shown["account"]["read"] == 120
    assert main(["data", "show", str(recipe)]) == 0
    assert "120" in capsys.readouterr().out


def test_a_typed_text_is_cleaned_as_in_training(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(trained), "red   itch\u200b rash", "red itch rash", "--json"]) == 0
    untidy, tidy = (json.loads(line) for line in capsys.readouterr().out.splitlines())

    assert untidy["text"] == tidy["text"] == "red itch rash"
    assert untidy["probabilities"] == pytest.approx(tidy["probabilities"])
