from pathlib import Path

import pytest

from vertical_sdk.data.formats import read_file
from vertical_sdk.data.read import read_table
from vertical_sdk.errors import DataError

HEAD = """% Firms and what became of them
@RELATION 'some firms'

@attribute 'net profit / total assets' NUMERIC
@attribute "it's sales" real
@attribute note string
@attribute founded date "yyyy-MM-dd"
@attribute class {'still there', bankrupt}

@DATA
"""


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_rows_have_their_attributes_types(tmp_path: Path) -> None:
    rows = read_file(write(tmp_path / "a.arff", HEAD + "0.5,-1e3,'made, sold',2001-02-03,bankrupt\n"))

    assert rows.format == "ARFF"
    assert rows.columns == ("net profit / total assets", "it's sales", "note", "founded", "class")
    assert rows.rows == [
        {
            "net profit / total assets": 0.5,
            "it's sales": -1000.0,
            "note": "made, sold",
            "founded": "2001-02-03",
            "class": "bankrupt",
        }
    ]
    assert rows.names == {"class": ("still there", "bankrupt")}


def test_a_missing_value_is_none_and_a_quoted_question_mark_is_a_text(tmp_path: Path) -> None:
    rows = read_file(write(tmp_path / "a.arff", HEAD + "?,?,'?', ? ,?\n")).rows

    assert list(rows[0].values()) == [None, None, "?", None, None]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r"'it\'s'", "it's"),
        ('"it\'s"', "it's"),
        (r'"a \"b\" c"', 'a "b" c'),
        (r"'two\nlines'", "two\nlines"),
        (r"'back\\slash'", "back\\slash"),
        ("''", ""),
        ("two words", "two words"),
        ("'50%, or so'", "50%, or so"),
        ("{x}", "{x}"),
    ],
)
def test_quotes_and_escapes_are_read(tmp_path: Path, written: str, text: str) -> None:
    rows = read_file(write(tmp_path / "a.arff", HEAD + f"1, 2 , {written} ,2001-02-03,'still there'\n")).rows

    assert rows[0]["note"] == text
    assert rows[0]["class"] == "still there"


def test_a_row_knows_its_line_and_comments_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    rows = read_file(write(tmp_path / "a.arff", HEAD + "% none\n\n1\t2\tx\t?\tbankrupt\r\n"))

    assert rows.places == [13]
    assert rows.at(0).endswith("a.arff:13")
    assert rows.rows[0]["class"] == "bankrupt"


def test_an_arff_file_of_another_name_is_known_by_its_first_word(tmp_path: Path) -> None:
    assert read_file(write(tmp_path / "a.data", "@relation r\n@attribute x numeric\n@data\n1\n")).rows == [{"x": 1.0}]


def test_a_table_is_read_from_it(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.arff", "@relation r\n@attribute text string\n@attribute label {no,yes}\n@data\n'a b',yes\nc,?\nd,no\n"
    )

    table = read_table(path, {}, "classification")

    assert [(e.text, e.target) for e in table.examples] == [("a b", "yes"), ("d", "no")]
    assert table.account is not None
    assert table.account.dropped == {"no label": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"a\.arff: the file is empty"),
        (HEAD, "has no rows below its header"),
        ("@relation r\n@attribute x numeric\n", r"a\.arff: has no @data"),
        ("@relation r\n@data\n1\n", r"a\.arff:2: @data comes before any @attribute"),
        ("@relation r\n@attribute x numeric\n@attribute x real\n@data\n", r"a\.arff:3: the attribute 'x' is declared twice"),
        (
            "@relation r\n@attribute x relational\n",
            r"a\.arff:2: the attribute 'x' has the type 'relational'. Supported types are",
        ),
        ("@relation r\n@attribute net profit numeric\n", r"a\.arff:2: the attribute 'net' has the type 'profit numeric'"),
        ("@relation r\n@attribute\n", r"a\.arff:2: @attribute needs a name and a type"),
        ("@relation r\n@attribute 'x numeric\n", r"a\.arff:2: @attribute needs a name and a type"),
        ("@relation r\n@attribute x {a, b\n", r"a\.arff:2: the classes of 'x' lack the closing '}'"),
        ("@relation r\n@attribute x {a, a}\n", r"a\.arff:2: the attribute 'x' has a class twice"),
        ("@relation r\n1,2\n", r"a\.arff:2: '1,2' does not belong in an ARFF header"),
        (HEAD + "1,2,x,?,bankrupt\n1,2,x\n", r"a\.arff:12: 3 values for 5 attributes"),
        (HEAD + "1,2,made, sold,?,bankrupt\n", r"a\.arff:11: 6 values for 5 attributes"),
        (HEAD + "{0 1, 4 bankrupt}\n", r"a\.arff:11: a sparse row"),
        (HEAD + "1,2,'open,?,bankrupt\n", r"a\.arff:11: broken after 2 values, at \"'open,"),
        (HEAD + "1,2,'a' b,?,bankrupt\n", r"a\.arff:11: broken after 2 values"),
        (HEAD + "1,2,,?,bankrupt\n", r"a\.arff:11: value 3 is empty"),
        (HEAD + "1,two,x,?,bankrupt\n", r"a\.arff:11: \"it's sales\" contains 'two', which is not a number"),
        (HEAD + "1,nan,x,?,bankrupt\n", r"a\.arff:11: .* which is not a number"),
        (HEAD + "1,2,x,?,Bankrupt\n", r"a\.arff:11: 'Bankrupt' is not a class of 'class', which has still there, bankrupt"),
        (HEAD.encode() + b"1,2,caf\xe9,?,bankrupt\n", r"a\.arff:11: byte 0xe9 at offset \d+ is not UTF-8"),
    ],
)
def test_a_broken_file_is_refused_with_file_and_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_file(write(tmp_path / "a.arff", content))
