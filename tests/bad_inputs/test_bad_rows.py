"""Rows that cannot be learned from: each file is refused with its name, its line, and what to do; no run is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bad_inputs.refusal import Refused, refused
from conftest import topic_recipe, topic_rows, write_csv

from vertical_sdk.cli.app import main

__all__ = ["refused"]


def recipe_of(folder: Path, base: Path, data: Path, **settings: Any) -> Path:
    """The topics' recipe on another file."""
    return topic_recipe(folder, base, **{"data__source": str(data), **settings})


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    data = write_csv(tmp_path / "rows.csv", topic_rows(30), ("text", "labels"))

    said = refused(["train", str(recipe_of(tmp_path, encoder, data))], 3)

    assert said.startswith(f"{data}: data.columns.label: no column 'label'. Did you mean 'labels'?")
    assert "'text', 'labels'" in said


def test_an_empty_file_is_refused(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    data = tmp_path / "rows.csv"
    data.touch()

    assert refused(["train", str(recipe_of(tmp_path, encoder, data))], 3) == f"{data}: the file is empty."


def test_a_file_with_only_a_header_is_refused(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    data = write_csv(tmp_path / "rows.csv", [])

    assert "has no rows below its header" in refused(["train", str(recipe_of(tmp_path, encoder, data))], 3)


def test_a_file_that_is_not_there_is_refused_with_those_near_it(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    said = refused(["train", str(recipe_of(tmp_path, encoder, tmp_path / "topic.csv"))], 4)

    assert str(tmp_path / "topic.csv") in said
    assert "topics.csv" in said.replace(str(tmp_path / "topic.csv"), "")


def test_rows_of_one_label_only_are_refused(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    data = write_csv(tmp_path / "rows.csv", [(text, "skin") for text, _ in topic_rows(60)])

    said = refused(["train", str(recipe_of(tmp_path, encoder, data))], 3)

    assert "all rows have the label 'skin'" in said
    assert "Add rows of at least 2 labels" in said


def test_a_label_that_the_recipe_does_not_list_is_refused_with_its_row(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    data = write_csv(tmp_path / "rows.csv", [*topic_rows(60), ("red itch", "skn")])

    said = refused(["train", str(recipe_of(tmp_path, encoder, data, labels=["skin", "lung", "heart"]))], 3)

    assert "'skn' in 1 rows (first: 62). Did you mean 'skin'?" in said
    assert said.startswith("topics: 1 labels are not among those that the recipe lists")


def test_a_line_of_100_megabytes_is_refused_before_it_fills_the_memory(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    data = tmp_path / "rows.csv"
    with data.open("wb") as file:
        file.write(b"text,label\nrash,skin\n")
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b",skin\n")

    said = refused(["train", str(recipe_of(tmp_path, encoder, data))], 3)

    assert said.startswith(f"{data}:3: the line is longer than 16 MB.")
    data.unlink()


def test_bytes_that_are_not_utf_8_are_refused_with_line_and_place(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    data = tmp_path / "rows.csv"
    data.write_bytes(b"text,label\nrash,skin\n" + "fièvre,lung\n".encode("latin-1"))

    said = refused(["train", str(recipe_of(tmp_path, encoder, data))], 3)

    assert said.startswith(f"{data}:3: byte 0xe8 at offset {len(b'text,label') + 1 + len(b'rash,skin') + 1 + 2} is not UTF-8")
    assert "Save the file as UTF-8" in said


def test_a_file_of_another_kind_is_refused_with_those_that_can_be_read(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    data = tmp_path / "rows.bin"
    data.write_bytes(b"\x93NUMPY\x01\x00v\x00\x00\x00")

    said = refused(["train", str(recipe_of(tmp_path, encoder, data))], 3)

    assert str(data) in said
    assert ".csv" in said


def test_an_excel_file_that_is_cut_is_refused(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    data = tmp_path / "rows.xlsx"
    data.write_bytes(b"PK\x03\x04\x14\x00\x00\x00")

    said = refused(["train", str(recipe_of(tmp_path, encoder, data))], 3)

    assert said == f"{data}: the file is a broken zip archive or Excel file. Download it again."


def test_labels_that_are_nan_are_no_labels_and_too_many_stop_the_run(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    rows = [(text, "NaN" if number % 4 == 0 else label) for number, (text, label) in enumerate(topic_rows(120))]
    data = write_csv(tmp_path / "rows.csv", rows)

    said = refused(["train", str(recipe_of(tmp_path, encoder, data))], 3)

    assert "25.0% of the 120 rows read were dropped; data.limits.lost allows 20.0%" in said
    assert "read: 30 no label (rows 2, 6, 10, 14, 18, ...)" in said


def test_numbers_that_are_nan_stop_a_regression_and_infinite_ones_are_named(
    tmp_path: Path, encoder: Path, refused: Refused
) -> None:
    rows = [(text, "nan" if number % 4 == 0 else str(number)) for number, (text, _) in enumerate(topic_rows(120))]
    data = write_csv(tmp_path / "rows.csv", rows)
    recipe = recipe_of(tmp_path, encoder, data, task="regression", evaluate={"resamples": 100})
    assert "30 no label" in refused(["train", str(recipe)], 3)

    write_csv(data, [("rash", "1.5"), ("cough", "inf")])
    said = refused(["train", str(recipe)], 3)

    assert said == f"{data}:3: column 'label' contains 'inf', which is not a finite number."


def test_rows_that_all_say_the_same_stop_the_run_with_the_count(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    data = write_csv(tmp_path / "rows.csv", [("red itch on skin", "skin")] * 40 + [("cough in chest", "lung")] * 40)

    said = refused(["train", str(recipe_of(tmp_path, encoder, data))], 3)

    assert "97.5% of the 80 rows read were dropped" in said
    assert "drop_duplicates: 78 duplicate" in said
    assert "data.limits.lost" in said


def test_a_test_part_without_rows_is_refused_with_the_parts_there_are(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    rows = [(text, label, "train") for text, label in topic_rows(60)]
    data = write_csv(tmp_path / "rows.csv", rows, ("text", "label", "part"))
    recipe = recipe_of(tmp_path, encoder, data, data__split="given", data__columns__split="part")

    said = refused(["train", str(recipe)], 3)

    assert "split: given: no row is in the test part" in said
    assert "'train': 54" in said


def test_rows_without_a_validation_part_give_an_adapter_that_answers_as_it_was_made(tmp_path: Path, encoder: Path) -> None:
    recipe = topic_recipe(tmp_path, encoder, data__split={"use": "stratified", "validation": 0.0})

    assert main(["train", str(recipe), "--out", "run"]) == 0
    assert main(["predict", "./run", "red itch"]) == 0


def test_too_few_rows_for_a_test_part_are_refused(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    data = write_csv(tmp_path / "rows.csv", topic_rows(4))

    said = refused(["train", str(recipe_of(tmp_path, encoder, data))], 3)

    assert "no row is in the test part" in said
    assert "Add rows or groups" in said


def test_a_ragged_csv_is_refused_with_the_line_that_has_too_many_fields(
    tmp_path: Path, encoder: Path, refused: Refused
) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("text,label\nrash,skin\ncough, with fever,lung\n", encoding="utf-8")

    said = refused(["train", str(recipe_of(tmp_path, encoder, data))], 3)

    assert said.startswith(f"{data}:3: 3 fields, but the header has 2 (text, label).")
    assert "Put a text that contains the delimiter in quotes" in said


def test_a_quote_that_never_ends_is_refused_with_the_line_where_it_begins(
    tmp_path: Path, encoder: Path, refused: Refused
) -> None:
    data = tmp_path / "rows.csv"
    data.write_text('text,label\nrash,skin\n"cough,lung\nfever,lung\n', encoding="utf-8")

    assert f"{data}:3: broken CSV" in refused(["train", str(recipe_of(tmp_path, encoder, data))], 3)


def test_an_ordinal_task_without_an_order_of_labels_is_refused(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    recipe = topic_recipe(tmp_path, encoder, task="ordinal")

    said = refused(["train", str(recipe)], 3)

    assert "topics: the task ordinal needs its labels in order" in said
    assert 'Set labels: ["heart", "lung", "skin"], from low to high.' in said


def test_rows_that_are_longer_than_the_model_reads_stop_the_run_and_leave_nothing(
    tmp_path: Path, encoder: Path, refused: Refused
) -> None:
    recipe = topic_recipe(tmp_path, encoder, data__max_length=8)

    said = refused(["train", str(recipe)], 3)

    assert said.startswith("90 of 90 training rows are longer than 8 tokens (the longest has 9) and would be cut at their end;")
    assert "Set data.max_length: 16;" in said


def test_data_check_names_the_same_faults_as_training(tmp_path: Path, refused: Refused) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("text,label\nrash,skin,more\n", encoding="utf-8")

    assert f"{data}:2: 3 fields" in refused(["data", "check", str(data)], 3)
    assert "no column 'txt'" in refused(["data", "check", str(write_csv(data, topic_rows(3))), "--text", "txt"], 3)


def test_data_show_of_a_recipe_with_a_wrong_seed_is_refused(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    said = refused(["data", "show", str(topic_recipe(tmp_path, encoder)), "--set", "train.seed=x"], 2)

    assert "topics: train: seed = 'x' is wrong" in said


@pytest.mark.parametrize("task", ["clasification", "Classification"])
def test_data_check_for_a_task_that_is_none_is_refused(tmp_path: Path, refused: Refused, task: str) -> None:
    data = write_csv(tmp_path / "rows.csv", topic_rows(3))

    said = refused(["data", "check", str(data), "--task", task], 2)

    assert "classification" in said.replace(task, "")
