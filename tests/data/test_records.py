from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from vertical_sdk.card import Contract
from vertical_sdk.data.read import table
from vertical_sdk.data.records import build_record_example, format_record, list_record_fields, parse_cell, set_record
from vertical_sdk.errors import DataError
from vertical_sdk.types import Example

RECORD = (("credit limit", 123456.0), ("share used", 0.01234), ("sex", "female"), ("age", None))


def test_a_record_is_written_in_its_order_with_three_digits() -> None:
    assert format_record(RECORD) == "credit limit: 123000; share used: 0.0123; sex: female; age: unknown"
    assert format_record([("a", 0.0), ("b", -3913.0), ("c", 24.0), ("d", 2.5)]) == "a: 0; b: -3910; c: 24; d: 2.5"


def test_cells_are_numbers_words_or_nothing() -> None:
    assert [parse_cell(v) for v in ("12", " a  b ", "", None, "nan", 3)] == [12.0, "a b", None, None, None, 3.0]
    with pytest.raises(ValueError, match="is not a finite number"):
        parse_cell(float("inf"))


def test_a_record_of_a_user_is_read_as_training_rows() -> None:
    contract = Contract(fields=list_record_fields([set_record(Example("1"), RECORD)]))

    row = build_record_example({"sex": "male", "credit limit": "5000"}, contract, "record 0")

    assert row.text == "credit limit: 5000; share used: unknown; sex: male; age: unknown"
    assert dict(row.record) == {"credit limit": 5000.0, "share used": None, "sex": "male", "age": None}


@pytest.mark.parametrize(
    ("given", "said"),
    [({"sexx": "male"}, "unknown field 'sexx'.*sex"), ({"age": "old"}, "should be a number"), ({}, "no field has a value")],
)
def test_a_record_that_cannot_be_read_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        build_record_example(given, Contract(fields=list_record_fields([set_record(Example("1"), RECORD)])), "record 0")


def test_facts_beside_a_text_are_no_fields() -> None:
    assert list_record_fields([Example("1", "shares rise", record=(("return", 0.01),))]) == ()


def test_a_table_is_read_as_records(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("age,job,label\n30,nurse,good\n,clerk,bad\n")

    every = table(file, {}, "classification", record="all").examples
    some = table(file, {"label": "label"}, "classification", record={"job": "profession"}).examples

    assert [e.text for e in every] == ["age: 30; job: nurse", "age: unknown; job: clerk"]
    assert [e.target for e in every] == ["good", "bad"]
    assert some[0].record == (("profession", "nurse"),)
    with pytest.raises(DataError, match="no column 'jbo'"):
        table(file, {}, "classification", record={"jbo": "job"})


@pytest.mark.parametrize("name", ["rows.csv", "again.csv", "rows.parquet", "rows.xlsx"])
@pytest.mark.parametrize("chosen", ["record", "values"])
def test_the_index_of_a_data_frame_is_not_read_as_a_column(tmp_path: Path, name: str, chosen: str) -> None:
    frame = pd.DataFrame({"age": [41, 52], "dose": [2, 3], "label": ["x", "y"]}, index=[5, 9])
    frame.to_csv(tmp_path / "rows.csv")
    pd.read_csv(tmp_path / "rows.csv").to_csv(tmp_path / "again.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    frame.to_excel(tmp_path / "rows.xlsx")

    read = table(tmp_path / name, {"label": "label"}, "classification", **{chosen: "all"})

    if chosen == "record":
        assert [row.text for row in read.examples] == ["age: 41; dose: 2", "age: 52; dose: 3"]
    else:
        assert read.values == ("age", "dose")
    assert read.account is not None
    assert [count for note, count in read.account.notes.items() if note.endswith("which is not read")] == [2]


def test_a_first_column_without_a_name_is_read_if_it_does_not_number_the_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(",age,label\n1,41,x\n1,52,y\n")

    read = table(tmp_path / "rows.csv", {"label": "label"}, "classification", record="all")

    assert [row.text for row in read.examples] == ["column_1: 1; age: 41", "column_1: 1; age: 52"]
