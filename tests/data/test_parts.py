"""A file that is read part by part gives the rows, columns, places and errors that it gives as a whole."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vertical_sdk.card import Contract
from vertical_sdk.data.formats import FileOptions, iterate_columns, read_columns
from vertical_sdk.data.prepare import iterate_rows, read_rows
from vertical_sdk.errors import DataError
from vertical_sdk.recipe import Recipe


def join_lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def json_lines(*rows: dict[str, Any]) -> str:
    return join_lines(*map(json.dumps, rows))


FILES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain": ("a.csv", join_lines("text,label", *(f"row {n},{n % 2}" for n in range(8))), {}),
    "empty lines and texts of two lines": ("a.csv", 'text;n\n\n"a\nb";1\n\n"c";2\n"d";3\n"e\n\nf";4\n', {}),
    "a nameless column with a late value": ("a.csv", join_lines("text,more,", *(["a,x,"] * 6), "b,x,7"), {}),
    "a nameless column without values": ("a.csv", join_lines("text,more,", *(["a,x,"] * 7)), {}),
    "spaces before a late quote": ("a.csv", join_lines("text,label", *(["a,x"] * 6), 'b, "y, z"'), {}),
    "no header": ("a.tsv", join_lines(*(f"a\t{n}" for n in range(7))), {"header": "none"}),
    "a late column": ("a.jsonl", json_lines(*({"text": "a"} for _ in range(6)), {"text": "b", "more": 1}), {}),
    "nested objects": (
        "a.jsonl",
        json_lines({"a": None, "t": "x"}, {"a": None, "t": "x"}, *({"t": "x", "a": {"b": [{"c": n}], "d": n}} for n in range(5))),
        {},
    ),
    "rows inside objects": ("a.jsonl", json_lines(*({"id": n, "rows": [{"t": "x"}, {"t": "y"}]} for n in range(4))), {"rows": "rows"}),
    "one JSON list": ("a.json", json.dumps([{"text": str(n)} for n in range(7)]), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_parts_joined_are_the_whole_file(name: str, size: int, tmp_path: Path) -> None:
    file, content, options = FILES[name]
    path = tmp_path / file
    path.write_text(content, encoding="utf-8")
    whole = read_columns(path, FileOptions(**options))

    parts = list(iterate_columns(path, FileOptions(**options), size=size))

    assert [[row.get(column) for column in whole.columns] for part in parts for row in part.rows] == [
        [row.get(column) for column in whole.columns] for row in whole.rows
    ]
    assert [place for part in parts for place in part.places] == whole.places
    assert {part.columns for part in parts} == {whole.columns}
    assert {(part.format, part.unit, *part.details.items()) for part in parts} == {
        (whole.format, whole.unit, *whole.details.items())
    }
    assert all(len(part.rows) <= size for part in parts) or file.endswith(".json")


@pytest.mark.parametrize("size", [1, 3, 100])
def test_parts_of_parquet_joined_are_the_whole_file(size: int, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"text": f"row {n}", "more": {"a": n if n > 4 else None}, "labels": ["x"] * (n % 3)} for n in range(8)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=5)
    whole = read_columns(tmp_path / "a.parquet")

    parts = list(iterate_columns(tmp_path / "a.parquet", size=size))

    assert [row for part in parts for row in part.rows] == whole.rows
    assert whole.rows[6] == {"text": "row 6", "more.a": 6, "labels": []}
    assert [place for part in parts for place in part.places] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {part.columns for part in parts} == {whole.columns}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.csv", join_lines("text,label", *(["a,x"] * 6), "a,b,c")),
        ("a.csv", join_lines("text,label", *(["a,x"] * 6), '"a,b')),
        ("a.csv", join_lines("text,label", *(["a,x"] * 6), 'c, "y"', '"a"b,c')),
        ("a.csv", join_lines("Report of May", *(["a,x"] * 6))),
        ("a.csv", join_lines("1.5,4.5", *(["1.5,3"] * 6))),
        ("a.csv", "text,label\n"),
        ("a.csv", ""),
        ("a.jsonl", json_lines(*({"a": 1} for _ in range(6))) + '{"a": 1, "a": 2}\n'),
        ("a.jsonl", json_lines(*({"a": 1} for _ in range(6)), {"a": {"b": 1}, "a.b": 2})),
        ("a.jsonl", json_lines(*({"a": 1} for _ in range(6))) + "[1]\n"),
        ("a.parquet", "PAR1 and no more"),
        ("none.csv", ""),
    ],
    ids=str,
)
def test_errors_are_those_of_the_whole_file(file: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / file
    if not file.startswith("none"):
        path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as whole:
        read_columns(path)

    with pytest.raises(DataError) as parts:
        list(iterate_columns(path, size=2))

    assert str(parts.value) == str(whole.value)


def recipe(**data: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "test",
            "task": "classification",
            "base": "x",
            "data": {"source": "x.csv", "columns": {"text": "text"}, **data},
        }
    )


@pytest.mark.parametrize(
    "lines",
    [
        ["text,id,label", *(f"  text   {n} ,{n % 3 or 'NA'},x" for n in range(9))],
        ["text,label", "a,", ",x", *(["b,y"] * 5), "NA,z"],
    ],
    ids=["ids and spaces", "missing texts"],
)
def test_rows_in_parts_are_those_of_the_whole_file(lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(join_lines(*lines))
    given = recipe(columns={"text": "text", "id": "id"}) if "id" in lines[0] else recipe()
    rows, account = read_rows(path, given, Contract())

    parts = list(iterate_rows(path, given, Contract(), size=2))

    assert [row for part, _ in parts for row in part] == rows
    assert len(parts) > 3
    notes: dict[str, int] = {}
    for _, part in parts:
        notes = {name: notes.get(name, 0) + part.notes.get(name, 0) for name in {**notes, **part.notes}}
    assert notes == account.notes


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int, read: Callable[[Path], Any]) -> int:
        path = tmp_path / f"{count}.csv"
        path.write_text(join_lines("text,label", *(f"a text of some words with the number {n},x" for n in range(count))))
        tracemalloc.start()
        read(path)
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    def in_parts(path: Path) -> int:
        return sum(len(rows) for rows, _ in iterate_rows(path, recipe(), Contract(), size=100))

    peak(500, in_parts)
    assert peak(8000, in_parts) < 1.5 * peak(1000, in_parts)
    assert peak(8000, lambda path: read_rows(path, recipe(), Contract())) > 3 * peak(8000, in_parts)
