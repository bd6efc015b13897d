"""Small files and short recipes that would fill the memory or take for ever are refused; an honest file close to each is read."""

from __future__ import annotations

import time
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from vertical_sdk.bases.base import pull_base
from vertical_sdk.data.formats import read_columns, read_file
from vertical_sdk.data.rows import FileOptions
from vertical_sdk.data.windows import place_on_grid
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.families.lora import with_lora
from vertical_sdk.recipe import load_recipe
from vertical_sdk.yaml_file import yaml_value

ANY_SIZE = "data.reader.any_size: true"


@pytest.fixture(autouse=True)
def _within_seconds() -> Any:
    started = time.process_time()
    yield
    assert time.process_time() - started < 15


def write_parquet(path: Path, texts: list[str], repeat: int) -> Path:
    indices = pyarrow.array(np.tile(np.arange(len(texts), dtype=np.int32), repeat))
    table = pyarrow.table({"text": pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array(texts)).cast(pyarrow.string())})
    pyarrow.parquet.write_table(table, path, compression="zstd")
    return path


def test_a_parquet_file_of_one_text_many_times_is_refused(tmp_path: Path) -> None:
    bomb = write_parquet(tmp_path / "bomb.parquet", ["a" * 300_000], 2000)

    assert bomb.stat().st_size < 100_000
    with pytest.raises(DataError, match=rf"become more than 256 MB of rows.*{ANY_SIZE}"):
        read_file(bomb)


def test_a_parquet_file_of_very_many_empty_rows_is_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": pyarrow.nulls(5_000_000, pyarrow.int8())}), bomb)

    with pytest.raises(DataError, match="become more than 256 MB of rows"):
        read_file(bomb)


def test_an_honest_parquet_file_with_repeated_texts_is_read(tmp_path: Path) -> None:
    rows = read_file(write_parquet(tmp_path / "rows.parquet", ["good", "bad", "neither good nor bad"], 10_000))

    assert [row["text"] for row in rows.rows[:4]] == ["good", "bad", "neither good nor bad", "good"]
    assert len(rows.rows) == 30_000


@pytest.mark.parametrize("name", ["wide.csv", "wide.jsonl", "wide.json", "wide.arff", "wide.parquet"])
def test_a_table_of_fifty_thousand_columns_is_refused(tmp_path: Path, name: str) -> None:
    names = [f"c{number}" for number in range(50_000)]
    path = tmp_path / name
    row = "{" + ",".join(f'"{column}": 1' for column in names) + "}"
    if name.endswith("csv"):
        path.write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n", encoding="utf-8")
    elif name.endswith("arff"):
        path.write_text(
            "".join(f"@attribute {column} numeric\n" for column in names) + "@data\n" + ",".join("1" for _ in names)
        )
    elif name.endswith("parquet"):
        pyarrow.parquet.write_table(pyarrow.table({column: [1] for column in names[:11_000]}), path)
    else:
        path.write_text(row if name.endswith("jsonl") else f"[{row}]", encoding="utf-8")

    with pytest.raises(DataError, match=rf"columns, and at most 10,000 are read.*{ANY_SIZE}"):
        read_file(path)
    if name == "wide.csv":
        assert len(read_file(path, FileOptions(any_size=True)).columns) == 50_000


def test_a_table_of_two_thousand_columns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(",".join(f"{prefix}{n}" for n in range(2000)) for prefix in ("c", "1")), encoding="utf-8")

    assert len(read_columns(path).columns) == 2000


def test_a_sheet_with_one_far_cell_in_each_row_is_refused(tmp_path: Path) -> None:
    import openpyxl

    path = tmp_path / "rows.xlsx"
    book = openpyxl.Workbook()
    book.active.append(["a"])
    book.save(path)
    cells = "".join(f'<row r="{n}"><c r="XFD{n}"><v>1</v></c></row>' for n in range(1, 20_000))
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    head, tail = parts["xl/worksheets/sheet1.xml"].split(b"<sheetData>")[0], b"</sheetData></worksheet>"
    parts["xl/worksheets/sheet1.xml"] = head + b"<sheetData>" + cells.encode() + tail
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)

    with pytest.raises(DataError, match="become more than 256 MB of rows"):
        read_file(path)


def test_an_attribute_of_three_hundred_thousand_classes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.arff"
    classes = ",".join(f"k{number}" for number in range(300_000))
    path.write_text(f"@relation r\n@attribute a {{{classes}}}\n@data\nk1\n", encoding="utf-8")

    with pytest.raises(DataError, match=rf"'a' has 300,000 classes, and at most 10,000 are read.*{ANY_SIZE}"):
        read_file(path)
    path.write_text("@relation r\n@attribute a {k1, k2}\n@data\nk1\n", encoding="utf-8")
    assert read_file(path).names == {"a": ("k1", "k2")}


def test_merged_keys_that_multiply_are_read_once_each() -> None:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], k{n}: {n}}}" for n in range(1, 12)]

    assert yaml_value("\n".join(lines), "recipe")["a11"]["x"] == 1


def test_merged_keys_keep_the_meaning_of_yaml() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc: &c {<<: [*a, *b], z: 3}\nd: {<<: *c, y: 4}"

    assert yaml_value(text, "recipe") == {
        "a": {"x": 1, "y": 1},
        "b": {"x": 2, "z": 2},
        "c": {"x": 1, "y": 1, "z": 3},
        "d": {"x": 1, "y": 4, "z": 3},
    }


def test_very_many_merged_keys_are_refused() -> None:
    wide = "a: &a {" + ", ".join(f"k{n}: 1" for n in range(2000)) + "}\n"

    with pytest.raises(RecipeError, match="merges more than"):
        yaml_value(wide + "\n".join(f"b{n}: {{<<: *a}}" for n in range(200)), "recipe")


@pytest.mark.parametrize("seconds", [1e-6, 1e-300, 1e-3])
def test_steps_that_are_far_too_short_are_refused(seconds: float) -> None:
    first = datetime(2024, 1, 1)
    times = [first + timedelta(hours=number) for number in range(24)]

    with pytest.raises(DataError, match=r"steps of .* seconds after .*set seconds to a larger number"):
        place_on_grid(times, np.zeros((24, 1), np.float32), seconds, [f"rows.csv:{n}" for n in range(24)])
    assert len(place_on_grid(times, np.zeros((24, 1), np.float32), 60, [""] * 24)[1]) == 23 * 60 + 1


def test_a_rank_that_no_weight_has_is_refused(encoder: Path) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(pull_base(str(encoder)).path)

    with pytest.raises(RecipeError, match=r"r = 1,000,000,000, but the weights of this base have at most the rank"):
        with_lora(model, {"r": 10**9}, "FEATURE_EXTRACTION", "recipe")
    assert with_lora(model, {"r": 8}, "FEATURE_EXTRACTION", "recipe") is not None


def test_one_long_text_under_many_aliases_is_refused() -> None:
    text = f"a: &a '{'x' * 500_000}'\nb: [{', '.join(['*a'] * 50_000)}]"

    with pytest.raises(RecipeError, match="its aliases expand to more than"):
        yaml_value(text, "recipe")
    assert len(yaml_value(f"a: &a '{'x' * 500_000}'\nb: *a", "recipe")["b"]) == 500_000


def test_very_many_unknown_keys_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("".join(f"k{number}: 1\n" for number in range(30_000)))

    with pytest.raises(RecipeError, match="unknown key 'k1'") as raised:
        load_recipe(path)
    assert len(str(raised.value)) < 20_000


@pytest.mark.parametrize("part", ["xl/worksheets/sheet1.xml", "xl/styles.xml", "docProps/core.xml"])
def test_a_workbook_with_very_many_elements_is_refused(tmp_path: Path, part: str) -> None:
    import openpyxl

    path = tmp_path / "rows.xlsx"
    book = openpyxl.Workbook()
    book.active.append(["a"])
    book.active.append(["x"])
    book.save(path)
    assert read_file(path).rows == [{"a": "x"}]
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[part] = b"<a>" + b"<x>" * 3_000_000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)

    with pytest.raises(DataError, match="become more than 256 MB of rows"):
        read_file(path)
