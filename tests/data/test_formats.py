import csv
import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vertical_sdk.data.formats import LINE_LIMIT, read_file
from vertical_sdk.errors import DataError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.csv", "text,label\nx y,1\n", "CSV"),
        ("a.csv", "\ufefftext;label\r\nx y;1\r\n", "CSV (semicolon)"),
        ("a.tsv", "text\tlabel\nx y\t1\n", "TSV"),
        ("a.jsonl", '{"text": "x y", "label": "1"}\n\n', "JSONL"),
        ("a.json", '[{"text": "x y", "label": "1"}]', "JSON"),
        ("a.json", '{"data": [{"text": "x y", "label": "1"}], "version": 2}', "JSON"),
        ("a.json", '{"text": "x y", "label": "1"}\n{"text": "x y", "label": "1"}', "JSONL"),
        ("a.data", '{"text": "x y", "label": "1"}\n', "JSONL"),
        ("a.data", "text\tlabel\nx y\t1\n", "TSV"),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, content: str, form: str) -> None:
    rows = read_file(write(tmp_path / name, content))

    assert rows.format == form
    assert rows.columns == ("text", "label")
    assert rows.rows[0] == {"text": "x y", "label": "1"}


def test_parquet_is_known_by_its_bytes_and_brings_its_class_names(tmp_path: Path) -> None:
    features = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["bad", "good"]}}}}
    schema = pa.schema([("text", pa.string()), ("label", pa.int64())], metadata={"huggingface": json.dumps(features)})
    pq.write_table(pa.table({"text": ["x"], "label": [1]}, schema=schema), tmp_path / "rows")

    rows = read_file(tmp_path / "rows")

    assert rows.format == "Parquet"
    assert rows.names == {"label": ("bad", "good")}
    assert rows.at(0).endswith("rows: row 1")


def test_a_row_knows_the_line_that_it_begins_on(tmp_path: Path) -> None:
    rows = read_file(write(tmp_path / "a.csv", 'text,label\n"two\nlines",a\n\nlast,b\n'))

    assert rows.places == [2, 5]
    assert rows.rows[0]["text"] == "two\nlines"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"a\.csv: the file is empty"),
        ("a.csv", "\n\n", "the file has only empty lines"),
        ("a.csv", "text,label\n", "has no rows below its header"),
        ("a.csv", "text,text\nx,y\n", "names 'text' twice"),
        ("a.csv", "text,label\nx,a\nhello, world,b\n", r"a\.csv:3: 3 fields, but the header has 2"),
        ("a.csv", 'text,label\nx,a\n"open,b\n', r"a\.csv:3: broken CSV"),
        ("a.csv", b"text,label\nx,a\ncaf\xe9,b\n", r"a\.csv:3: byte 0xe9 at offset 18 is not UTF-8"),
        ("a.csv", "text,label\nx,a\n".encode("utf-16-le"), "UTF-16 without a byte order mark. Set .*encoding: utf-16-le"),
        ("a.csv", b"\x7fELF\0\0", "zero bytes"),
        ("a.jsonl", '{"text": "x"}\n{"text": \n', r"a\.jsonl:2: .*column \d+: not JSON"),
        ("a.jsonl", '{"text": "x"}\n["y"]\n', r"a\.jsonl:2: contains a list"),
        ("a.json", '[{"text": "x"}, 3]', r"a\.json: row 2: contains a int"),
        ("a.json", "[" * 100_000, "nested too deep|not JSON"),
        ("a.jsonl", '{"n": ' + "9" * 5000 + "}\n", r"a\.jsonl:1: JSON that cannot be read"),
        ("a.parquet", "hello", "the name says Parquet, but the first bytes do not"),
        ("a.parquet", b"PAR1 and then nothing of use", "broken Parquet"),
        ("a.bin", "just a word\n", "the format of the file is unknown"),
    ],
)
def test_a_broken_file_is_refused_with_file_and_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_file(write(tmp_path / name, content))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_an_endless_line_is_refused_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b'text,label\n"' if name == "a.csv" else b'{"text": "')
        file.write(b"x" * 10)
        file.truncate(100 << 20)
        file.seek(20)
        file.write(b"x" * (LINE_LIMIT + 10))
    began = time.perf_counter()

    with pytest.raises(DataError, match=rf"{name}:\d: the line is longer than 16 MB"):
        read_file(path)

    assert time.perf_counter() - began < 5


def test_a_long_field_is_read_and_the_csv_modules_limit_left_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()

    rows = read_file(write(tmp_path / "a.csv", f"text,label\n{'x' * 500_000},a\n"))

    assert len(rows.rows[0]["text"]) == 500_000
    assert csv.field_size_limit() == before
