import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vertical_sdk.catalog import readers
from vertical_sdk.data.read import Table, table
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Message, TaskName


def read(tmp_path: Path, rows: list[dict[str, Any]], task: TaskName = "classification", **columns: str) -> Table:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return table(path, columns, task)


def test_the_general_reader_is_in_the_catalog() -> None:
    assert readers.get("table") is table
    assert set(readers.options("table")) == {
        "separator",
        "delimiter",
        "encoding",
        "header",
        "sheet",
        "rows",
        "record",
        "values",
        "missing_words",
    }


def test_text_and_label_are_found_by_their_names_and_it_says_so(tmp_path: Path) -> None:
    found = read(tmp_path, [{"sentence": "a", "category": "x"}, {"sentence": "b", "category": "y"}])

    assert [(e.id, e.text, e.target) for e in found.examples] == [("1", "a", "x"), ("2", "b", "y")]
    assert found.detected == "JSONL, text from 'sentence', label from 'category'"


def test_two_columns_that_could_be_the_text_are_never_chosen_between(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'text' and 'sentence' could both be the text.*'label'.*Set data\.columns\.text"):
        read(tmp_path, [{"text": "a", "sentence": "b", "label": "x"}])


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'lable'\. Did you mean 'label'\? The columns are 'text', 'label'"):
        read(tmp_path, [{"text": "a", "label": "x"}], label="lable")


def test_an_unknown_key_of_columns_is_a_wrong_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'grup'\. Did you mean 'group'"):
        read(tmp_path, [{"text": "a", "label": "x"}], grup="text")


def test_no_text_column_at_all_lists_the_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no text column\. The columns are 'foo', 'label'\. Set data\.columns\.text"):
        read(tmp_path, [{"foo": "a", "label": "x"}])


def test_all_named_columns_are_taken(tmp_path: Path) -> None:
    row = {"n": 7, "q": "why", "c": "so", "y": 1, "patient": 12.0, "when": "2021-03-04T10:00:00+02:00", "part": "dev"}

    found = read(tmp_path, [row], id="n", text="q + c", label="y", group="patient", time="when", split="part")

    example = found.examples[0]
    assert (example.id, example.text, example.target) == ("7", "why\n\nso", "1")
    assert (example.group, example.time, example.split) == ("12", "2021-03-04T08:00:00", "validation")


def test_rows_without_text_or_label_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "label": "x"},
        {"text": "b", "label": None},
        {"text": "c", "label": " "},
        {"text": "d", "label": float("nan")},
        {"text": " ", "label": "x"},
    ]

    found = read(tmp_path, rows)

    assert [e.text for e in found.examples] == ["a"]
    assert found.account is not None
    assert found.account.dropped == {"no label": 3, "no text": 1}
    assert found.account.rows["no label"] == ("2", "3", "4")


def test_no_label_anywhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 1 rows can be used: \{'no label': 1\}"):
        read(tmp_path, [{"text": "a", "label": ""}])


def test_an_id_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:2: the id '5' is already used on line 1"):
        read(tmp_path, [{"id": 5, "text": "a", "label": "x"}, {"id": 5, "text": "b", "label": "x"}], id="id")


@pytest.mark.parametrize("value", ["high", "inf", "-Infinity", float("inf")])
def test_a_number_that_is_none_is_refused_with_its_place(tmp_path: Path, value: Any) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:2: column 'label' contains .*, which is not a (finite )?number"):
        read(tmp_path, [{"text": "a", "label": 1}, {"text": "b", "label": value}], "regression")


def test_numbers_are_numbers(tmp_path: Path) -> None:
    found = read(
        tmp_path, [{"text": "a", "label": "-1.5e2"}, {"text": "b", "label": 2}, {"text": "c", "label": "nan"}], "regression"
    )

    assert [e.target for e in found.examples] == [-150.0, 2.0]


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ("a;b", ("a", "b")),
        ("a | b|a", ("a", "b")),
        ('["a;b", "c"]', ("a;b", "c")),
        (["a", "b"], ("a", "b")),
        ("", ()),
        (None, ()),
        ([], ()),
    ],
)
def test_a_cell_of_labels(tmp_path: Path, value: Any, labels: tuple[str, ...]) -> None:
    found = read(tmp_path, [{"text": "x", "label": value}], "multilabel")

    assert found.examples[0].target == labels


def test_the_separator_of_labels_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\nx,"a;1,b"\n', encoding="utf-8")

    found = table(path, {}, "multilabel", separator=",")

    assert found.examples[0].target == ("a;1", "b")


@pytest.mark.parametrize("value", ["3/4/2021", "yesterday", "2021-13-01T00:00"])
def test_a_time_that_does_not_sort_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:1: the time"):
        read(tmp_path, [{"text": "a", "label": "x", "time": value}], time="time")


def test_numbers_for_times_sort_as_numbers(tmp_path: Path) -> None:
    found = read(tmp_path, [{"text": t, "label": "x", "time": t} for t in ("9", "10", "1000.5")], time="time")

    assert sorted(found.examples, key=lambda e: e.time or "") == list(found.examples)


TURNS = (Message("user", "hi"), Message("assistant", "hello"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
            "messages in 'messages'",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                    {"role": "assistant", "content": "hello"},
                ]
            },
            "messages",
        ),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
            "sharegpt in 'conversations'",
        ),
        ({"instruction": "hi", "input": "", "output": "hello"}, "alpaca in 'instruction' + 'input' + 'output'"),
        ({"prompt": "hi", "completion": "hello"}, "prompt/completion in 'prompt' + 'completion'"),
    ],
)
def test_layouts_of_conversations_are_recognised(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    found = read(tmp_path, [row], "generation")

    assert found.examples[0].messages == TURNS
    assert said in found.detected


def test_alpacas_input_follows_the_instruction(tmp_path: Path) -> None:
    found = read(tmp_path, [{"instruction": "Sum up.", "input": "Long.", "output": "Short."}], "generation")

    assert found.examples[0].messages == (Message("user", "Sum up.\n\nLong."), Message("assistant", "Short."))


def test_a_dialogue_and_its_note_by_columns(tmp_path: Path) -> None:
    found = read(tmp_path, [{"dialogue": "hi", "note": "hello", "x": 1}], "generation", text="dialogue", label="note")

    assert found.examples[0].messages == TURNS


def test_two_layouts_at_once_are_never_chosen_between(tmp_path: Path) -> None:
    row = {"messages": [], "prompt": "hi", "completion": "hello"}

    with pytest.raises(DataError, match="are both possible"):
        read(tmp_path, [row], "generation")


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([{"role": "tool", "content": "x"}], "turn 1 has the role 'tool'"),
        (["x"], "turn 1 is a str"),
        ([{"role": "user", "content": 3}], "turn 1 has a int for content"),
        ("x", "a list of turns is needed"),
    ],
)
def test_a_broken_conversation_is_refused_with_its_place(tmp_path: Path, turns: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"rows\.jsonl:1: .*{message}"):
        read(tmp_path, [{"messages": turns}], "generation")


def test_a_conversation_without_an_answer_teaches_nothing(tmp_path: Path) -> None:
    rows = [{"prompt": "hi", "completion": "hello"}, {"prompt": "hi", "completion": ""}, {"prompt": "", "completion": "x"}]

    found = read(tmp_path, rows, "generation")

    assert found.account is not None
    assert found.account.dropped == {"no answer": 1, "no text": 1}


def test_a_folder_of_splits_sets_the_split(tmp_path: Path) -> None:
    names = json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}}}})
    schema = pa.schema([("text", pa.string()), ("label", pa.int64())], metadata={"huggingface": names})
    for split, texts in {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}.items():
        rows = pa.table({"text": texts, "label": [1] * len(texts)}, schema=schema)
        pq.write_table(rows, tmp_path / f"{split}.parquet")

    found = table(tmp_path, {}, "classification")

    assert {(e.id, e.split, e.target) for e in found.examples} == {
        ("train:1", "train", "yes"),
        ("train:2", "train", "yes"),
        ("validation:1", "validation", "yes"),
        ("test:1", "test", "yes"),
    }
    assert found.labels == ("no", "yes")
    assert found.account is not None
    assert (found.account.rows_in, found.account.rows_out) == (4, 4)


def test_shards_of_one_split_are_joined(tmp_path: Path) -> None:
    for shard in range(2):
        (tmp_path / f"train-0000{shard}-of-00002.csv").write_text("text,label\na,x\n,x\n", encoding="utf-8")
    (tmp_path / "test.csv").write_text("text,label\nb,x\n", encoding="utf-8")

    found = table(tmp_path, {}, "classification")

    assert [e.split for e in found.examples].count("train") == 2
    assert len({e.id for e in found.examples}) == 3
    assert found.account is not None
    assert (found.account.rows_in, found.account.dropped) == (5, {"no text": 2})


def test_a_folder_with_several_files_wants_one_named(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text,label\na,x\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"Set data\.file to one of: a\.csv, b\.csv"):
        table(tmp_path, {}, "classification")
