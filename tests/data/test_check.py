import json
from pathlib import Path

import pytest

from vertical_sdk.data import check_file
from vertical_sdk.errors import DataError


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def problems(report: dict[str, object]) -> str:
    found = report["problems"]
    assert isinstance(found, list)
    return "\n".join(f"{p['severity']}: {p['problem']}" for p in found)


def test_a_report_says_what_the_file_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label", "one two,x", "three,y", "four five six,y", ",y")

    report = check_file(path)

    assert (report["format"], report["rows"], report["usable"]) == ("CSV", 4, 3)
    assert report["columns"] == ["text", "label"]
    assert report["labels"] == {"x": 1, "y": 2}
    assert report["words"] == {"min": 1.0, "p25": 1.0, "p50": 2.0, "p75": 3.0, "p95": 3.0, "p99": 3.0, "max": 3.0}
    assert report["not_usable"] == {"no text": 1}
    json.dumps(report)


def test_each_column_has_the_kind_that_training_reads(tmp_path: Path) -> None:
    header = "title,body,topic,patient,code,age,size,ward,smoker,gone,split"
    path = write(
        tmp_path / "a.csv",
        header,
        "t,one two,x,p1,007,41,1.5,a1,true,,train",
        "u,three,y,p2,012,NA,2,7,false,,train",
        "v,four,y,p3,100,63,,b,TRUE,NA,test",
    )

    report = check_file(path, columns={"text": "title + body", "label": "topic", "group": "patient"})

    assert report["types"] == {
        "title": "text",
        "body": "text",
        "topic": "label",
        "patient": "group",
        "code": "words",
        "age": "whole numbers",
        "size": "numbers, written to three digits",
        "ward": "words",
        "smoker": "true or false",
        "gone": "empty",
        "split": "split",
    }
    assert list(report["types"]) == header.split(",")
    assert "read_as" not in report


def test_duplicates_contradictions_and_personal_data_are_found(tmp_path: Path) -> None:
    long = "the quick brown fox jumps over the lazy dog on a bright and very long summer day"
    path = write(
        tmp_path / "a.csv", "text,label", f"{long},x", f"{long.upper()},x", f"{long}!,x", "so so,x", "so so,y", "a@mayo.org,y"
    )

    report = check_file(path)

    assert report["duplicates"] == {"count": 2, "rows": ["3", "6"]}
    assert report["near_duplicates"] == {"count": 1, "rows": [["4", "2"]]}
    assert report["contradictions"] == {"count": 2, "rows": ["5", "6"]}
    assert report["personal_data"] == {"EMAIL_ADDRESS": 1}
    assert "warning: personal data: EMAIL_ADDRESS 1. Set data.deidentify." in problems(report)


def test_leakage_between_the_files_own_parts_is_an_error(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv", "text,label,split", "what a day,x,train", "other,y,train", "What a  day,x,test", "new,y,test"
    )

    report = check_file(path)

    assert report["leakage"] == {"train/test": {"rows": 1, "groups": 0, "examples": [["2", "4"]]}}
    assert problems(report).startswith("error: train/test: 1 rows and 0 groups are in both splits")


def test_one_label_only_is_an_error(tmp_path: Path) -> None:
    report = check_file(write(tmp_path / "a.csv", "text,label", "one,x", "two,x"))

    assert "error: only 1 label" in problems(report)


def test_without_the_extra_personal_data_is_said_to_be_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "presidio_analyzer", None)

    report = check_file(write(tmp_path / "a.csv", "text,label", "one,x", "two,y"))

    assert str(report["personal_data"]).startswith("not checked: ")


def test_conversations_and_numbers_are_checked_too(tmp_path: Path) -> None:
    talk = write(tmp_path / "a.jsonl", '{"prompt": "hi", "completion": "hello"}', '{"prompt": "you", "completion": "me"}')
    numbers = write(tmp_path / "b.csv", "text,label", "one,1.5", "two,3")

    assert check_file(talk, task="generation")["detected"].startswith("JSONL, prompt/completion")
    assert check_file(numbers, task="regression")["targets"]["max"] == 3.0


def test_a_broken_file_is_the_same_error_as_in_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv:2: 3 fields"):
        check_file(write(tmp_path / "a.csv", "text,label", "a,b,c"))
