import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vertical_sdk.card import Contract
from vertical_sdk.catalog import readers
from vertical_sdk.data.read import Table, find_missing_part, read_table, table
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
        "any_size",
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


def write_table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_ids_and_groups_have_one_form(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "rows.csv",
        "who,id,text,label\n p7,1,a,x\np7\u00a0,2.0,b,x\n7,,c,x\n7.0,NA,d,x\nnan,5,e,x\ncafe\u0301,6,f,x\n",
    )

    found = table(path, {"group": "who", "id": "id"}, "classification")

    assert [e.group for e in found.examples] == ["p7", "p7", "7", "7", None, "caf\u00e9"]
    assert [e.record_id for e in found.examples] == ["1", "2", None, None, "5", "6"]
    assert [e.id for e in found.examples] == ["1", "2", "line 4", "line 5", "5", "6"]
    assert found.account is not None
    assert found.account.notes["rows without an id in 'id'"] == 2
    assert found.account.notes["cells 'nan' of 'who' that mean missing"] == 1


def test_an_empty_id_is_never_the_id_of_another_row(tmp_path: Path) -> None:
    path = write_table(tmp_path / "rows.csv", "id,text,label\n3,a,x\n,b,x\n2,c,x\n")

    assert [e.id for e in table(path, {"id": "id"}, "classification").examples] == ["3", "line 3", "2"]


def test_ids_that_are_one_number_are_used_twice(tmp_path: Path) -> None:
    path = write_table(tmp_path / "rows.csv", "id,text,label\n100,a,x\n100.0,b,x\n")

    with pytest.raises(DataError, match=r"rows\.csv:3: the id '100' is already used on line 2"):
        table(path, {"id": "id"}, "classification")


def test_labels_in_another_form_are_one_label_and_counted(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "rows.csv", "text,label\na,caf\u00e9\nb,cafe\u0301\nc,caf\u00e9\u200b\nd,caf\u00e9 \ne,Caf\u00e9\n"
    )

    found = table(path, {}, "classification")

    assert [e.target for e in found.examples] == ["caf\u00e9"] * 4 + ["Caf\u00e9"]
    assert found.account is not None
    (changed,) = (count for note, count in found.account.notes.items() if "another Unicode form" in note)
    assert changed == 3


@pytest.mark.parametrize("word", ["NA", "None", "null", "N/A", "nan", ""])
def test_a_word_for_a_missing_cell_means_the_same_in_every_column(tmp_path: Path, word: str) -> None:
    rows = [
        {"text": "a", "label": word, "who": "p", "n": 1.0, "x": "u"},
        {"text": "b", "label": "x", "who": word, "n": word, "x": word},
        {"text": word, "label": "x", "who": "p", "n": 3.0, "x": "v"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    found = table(path, {"text": "text", "label": "label", "group": "who"}, "classification")
    record = table(path, {"label": "label"}, "classification", record={"n": "n", "x": "x"})

    assert found.account is not None
    assert found.account.dropped == {"no label": 1, "no text": 1}
    assert [e.group for e in found.examples] == [None]
    assert [e.text for e in record.examples if e.id == "3"] == ["n: 3; x: v"]
    assert [dict(e.record) for e in record.examples if e.id == "3"] == [{"n": 3, "x": "v"}]
    assert (f"cells {word!r} of 'label' that mean missing" in found.account.notes) == bool(word)


def test_a_declared_label_is_never_a_missing_cell(tmp_path: Path) -> None:
    path = write_table(tmp_path / "rows.csv", "text,label\na,None\nb,mild\nc,none\n")

    declared = table(path, {}, "classification", contract=Contract(labels=("None", "mild")))
    others = table(path, {}, "classification", missing_words=["?"])

    assert [e.target for e in declared.examples] == ["None", "mild"]
    assert [e.target for e in others.examples] == ["None", "mild", "none"]


NAN = float("nan")


def test_nan_is_never_a_word_of_a_text(tmp_path: Path) -> None:
    joined = read(tmp_path, [{"a": "x", "b": NAN, "label": "l"}], text="a + b", label="label")
    alpaca = read(tmp_path, [{"system": NAN, "instruction": "hi", "input": NAN, "output": "hello"}], "generation")
    unanswered = [{"prompt": "hi", "completion": NAN}, {"prompt": "hi", "completion": "hello"}]

    assert [e.text for e in joined.examples] == ["x"]
    assert [e.messages for e in alpaca.examples] == [TURNS]
    answered = read(tmp_path, unanswered, "generation")
    assert [e.messages for e in answered.examples] == [TURNS]
    assert answered.account is not None
    assert answered.account.dropped == {"no answer": 1}


def test_the_word_none_can_be_an_answer(tmp_path: Path) -> None:
    found = read(tmp_path, [{"prompt": "Which drugs?", "completion": "None"}], "generation")

    assert found.examples[0].messages[-1] == Message("assistant", "None")


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        (
            [{"role": "user", "content": [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {}}]}],
            "a turn with a part that is not text, such as an image",
        ),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}, {"role": "user", "content": "b"}],
            "a turn without text",
        ),
    ],
)
def test_a_conversation_that_cannot_be_learned_whole_is_dropped_and_counted(
    tmp_path: Path, turns: list[dict[str, Any]], reason: str
) -> None:
    answer = {"role": "assistant", "content": "hello"}
    whole = [{"role": "user", "content": "hi"}, answer]

    found = read(tmp_path, [{"messages": [*turns, answer]}, {"messages": whole}], "generation")

    assert [e.messages for e in found.examples] == [TURNS]
    assert found.account is not None
    assert found.account.dropped == {reason: 1}


def test_a_comma_between_labels_is_counted(tmp_path: Path) -> None:
    path = write_table(tmp_path / "rows.csv", 'text,label\na,"x,y"\nb,x;y\n')

    found = table(path, {}, "multilabel")

    assert [e.target for e in found.examples] == [("x,y",), ("x", "y")]
    assert found.account is not None
    assert [count for note, count in found.account.notes.items() if "with a comma" in note] == [1]


def test_an_underscore_makes_no_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'1_5', which is not a number"):
        read(tmp_path, [{"text": "a", "label": "1_5"}], "regression")


RECORD = "patient,age,year,zip,code,sex,risk\np1,48,2015,90210,007,m,good\np2,,2016,90211,012,f,bad\n"


def test_whole_numbers_and_codes_keep_all_their_digits(tmp_path: Path) -> None:
    path = write_table(tmp_path / "rows.csv", RECORD)

    found = table(path, {"label": "risk", "group": "patient"}, "classification", record="all")

    assert [e.text for e in found.examples] == [
        "age: 48; year: 2015; zip: 90210; code: 007; sex: m",
        "age: unknown; year: 2016; zip: 90211; code: 012; sex: f",
    ]
    assert [field.kind for field in found.fields] == ["whole", "whole", "whole", "words", "words"]
    assert found.types["year"] == "whole numbers"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("age,year,zip,code,sex\n30,2020,1,005,f\n", "age: 30; year: 2020; zip: 1; code: 005; sex: f"),
        ("sex,code,zip,year,age,patient,risk\nf,005,1,2020,30,p9,odd\n", "age: 30; year: 2020; zip: 1; code: 005; sex: f"),
        ("age,year,zip,code\n30.0,2020.0,1,005\n", "age: 30; year: 2020; zip: 1; code: 005; sex: unknown"),
    ],
)
def test_a_file_is_held_to_the_fields_of_the_training(tmp_path: Path, text: str, told: str) -> None:
    columns = {"label": "risk", "group": "patient"}
    trained = table(write_table(tmp_path / "rows.csv", RECORD), columns, "classification", record="all")
    contract = Contract(labels=("good", "bad"), fields=trained.fields)

    found = read_table(
        write_table(tmp_path / "new.csv", text), columns, "classification", contract, record="all", missing="keep"
    )

    assert [(e.text, e.target) for e in found.examples] == [(told, None)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age,year,comment\n30,2020,x\n", "unknown columns 'comment'"),
        ("agee,year\n30,2020\n", "unknown columns 'agee'. Did you mean 'age'"),
        ("comment\nx\n", "none of the columns that this specialist reads: age, year, zip, code, sex"),
    ],
)
def test_a_file_with_other_fields_is_refused(tmp_path: Path, text: str, said: str) -> None:
    columns = {"label": "risk", "group": "patient"}
    trained = table(write_table(tmp_path / "rows.csv", RECORD), columns, "classification", record="all")
    contract = Contract(fields=trained.fields)

    with pytest.raises(DataError, match=said):
        read_table(write_table(tmp_path / "new.csv", text), columns, "classification", contract, record="all", missing="keep")


def test_a_wrong_value_refuses_a_row_to_predict_and_a_file_to_evaluate(tmp_path: Path) -> None:
    columns = {"label": "risk", "group": "patient"}
    trained = table(write_table(tmp_path / "rows.csv", RECORD), columns, "classification", record="all")
    new = write_table(tmp_path / "new.csv", "age,year,risk\nold,2020,good\n30,2020,good\n")

    asked = read_table(new, columns, "classification", Contract(fields=trained.fields), record="all", missing="keep")

    assert [find_missing_part(e, "classification", need_label=False) for e in asked.examples] == [
        "a wrong value (age = 'old' is wrong: it should be a number)",
        None,
    ]
    with pytest.raises(DataError, match=r"new\.csv:2: age = 'old' is wrong: it should be a number"):
        read_table(new, columns, "classification", Contract(fields=trained.fields), record="all", missing="refuse")


def test_numbers_are_read_by_name_in_the_order_of_the_training(tmp_path: Path) -> None:
    columns = {"label": "kind", "group": "who"}
    trained = table(write_table(tmp_path / "rows.csv", "who,a,b,kind\n9,1,2,up\n"), columns, "classification", values="all")
    new = write_table(tmp_path / "new.csv", "b,who,a\n4,9,3\n,9,5\n")

    found = read_table(new, columns, "classification", Contract(values=trained.values), values="all", missing="keep")

    assert trained.values == ("a", "b")
    assert found.examples[0].values is not None
    assert found.examples[0].values.tolist() == [3.0, 4.0]
    assert str(found.examples[1].values) == "[ 5. nan]"
    with pytest.raises(DataError, match="unknown columns 'c'"):
        read_table(
            write_table(tmp_path / "more.csv", "a,b,c\n1,2,3\n"),
            columns,
            "classification",
            Contract(values=trained.values),
            values="all",
            missing="keep",
        )


def test_the_training_file_decides_how_the_test_file_is_read(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", "code,year,label\n007,2015,x\n")
    write_table(tmp_path / "test.csv", "year,code,label\n2016,8,x\n")

    found = table(tmp_path, {}, "classification", record="all")

    assert {e.split: e.text for e in found.examples} == {"train": "code: 007; year: 2015", "test": "code: 8; year: 2016"}


def test_rows_to_predict_never_have_a_label(tmp_path: Path) -> None:
    path = write_table(tmp_path / "rows.csv", "id,text,label\n5,a,TBD\n5,b,\n")

    found = read_table(path, {"text": "text", "label": "label", "id": "id"}, "classification", missing="keep")
    numbers = read_table(path, {"text": "text", "label": "label"}, "regression", missing="keep")

    assert [(e.id, e.target) for e in found.examples] == [("5", None), ("5", None)]
    assert [e.target for e in numbers.examples] == [None, None]
