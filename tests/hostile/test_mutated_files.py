"""Files, recipes, references and dates that are cut, flipped or filled with nonsense raise errors of the library, and no others."""

from __future__ import annotations

import contextlib
import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from conftest import write_workbook

from vertical_sdk.bases.weights import read_json, read_tensors
from vertical_sdk.data.dates import shift_dates
from vertical_sdk.data.formats import read_columns
from vertical_sdk.data.rows import FileOptions
from vertical_sdk.errors import BaseModelError, DataError, RecipeError, SourceError, VerticalError
from vertical_sdk.overrides import apply_settings
from vertical_sdk.recipe import load_recipe, parse_setting
from vertical_sdk.registry.references import parse_reference
from vertical_sdk.sources import fetch, hub, pypi
from vertical_sdk.sources.unpack import unpack
from vertical_sdk.yaml_file import yaml_value

CASES = 40
"""Mutations of each file. They are the same in each run."""
RECIPE = """name: topics
task: classification
data: {source: rows.csv, columns: {text: text, label: label}}
base: minilm-l6
adapter: {r: 8}
train: {num_train_epochs: 2}
"""


def write_csv(path: Path) -> None:
    path.write_text('text,label\n"a ""good"" one",good\nbad,bad\n', encoding="utf-8")


def write_jsonl(path: Path) -> None:
    path.write_text('{"text": "a", "label": {"name": "x", "n": 1.5}}\n{"text": "b", "label": null}\n', encoding="utf-8")


def write_json(path: Path) -> None:
    path.write_text('{"rows": [{"text": "a", "tags": ["x", "y"]}, {"text": "b", "tags": []}]}', encoding="utf-8")


def write_arff(path: Path) -> None:
    path.write_text("@relation r\n@attribute 'a b' numeric\n@attribute c {x, 'y z'}\n@data\n1.5,x\n?,'y z'\n", encoding="utf-8")


def write_parquet(path: Path) -> None:
    moments = pyarrow.array([datetime(2024, 1, 1), None], pyarrow.timestamp("us"))
    table = pyarrow.table({"text": ["a", "bé"], "n": [1, 2], "tags": [["x"], []], "at": moments})
    pyarrow.parquet.write_table(table, path)


def write_excel(path: Path) -> None:
    write_workbook(path, {"rows": [("text", "label"), ("a", 1), ("b", datetime(2024, 1, 1))]})


WRITERS: dict[str, Callable[[Path], None]] = {
    "rows.csv": write_csv,
    "rows.jsonl": write_jsonl,
    "rows.json": write_json,
    "rows.arff": write_arff,
    "rows.parquet": write_parquet,
    "rows.xlsx": write_excel,
}


def mutate(content: bytes, seed: str, cases: int = CASES) -> Iterator[bytes]:
    """Cut, flip, repeat and overwrite parts of a file."""
    rng = random.Random(seed)
    for _ in range(cases):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 5))):
            at, end = sorted((rng.randrange(len(changed) + 1), rng.randrange(len(changed) + 1)))
            way = rng.randrange(5)
            if way == 0:
                del changed[at:end]
            elif way == 1 and at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            elif way == 2:
                changed[at:at] = changed[at:end] * rng.randrange(3)
            elif way == 3:
                changed[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"9999", b"\"'{[", b"\r\n,;", b"<<: "))
            else:
                changed[at:at] = rng.choice(("\u202e\ud7ff", "[" * 300, "1e999", "NaN", "-0", "*a", "!!timestamp ")).encode()
        yield bytes(changed)


def only_own_errors(work: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(VerticalError):
            work()


@pytest.mark.parametrize("name", WRITERS)
def test_a_mutated_file_of_rows_raises_only_errors_of_the_library(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    assert len(read_columns(path).rows) == 2
    for content in mutate(path.read_bytes(), name, CASES // (2 if name.endswith("parquet") else 1)):
        path.write_bytes(content)
        only_own_errors(lambda: read_columns(path))


def test_a_mutated_recipe_raises_only_errors_of_the_library(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    for content in mutate(RECIPE.encode(), "recipe"):
        path.write_bytes(content)
        only_own_errors(lambda: load_recipe(path))


@pytest.mark.parametrize(
    "text",
    [
        "a: !!timestamp nonsense",
        "a: !!timestamp 2001-99-99",
        "a: !!int x",
        "a: !!int ''",
        "a: !!bool x",
        "a: !!float x",
        "a: !!omap x",
        "a: !!binary é",
        "a: !!python/object/apply:os.system [x]",
        "a: " + "[" * 500,
        "a: &a [*a]",
        "? {a: 1}\n: 1",
        "a: .inf",
        "a: " + "9" * 5000,
        "<<: 3",
    ],
    ids=range(15),
)
def test_yaml_that_is_nonsense_raises_a_recipe_error_or_is_text(text: str) -> None:
    with contextlib.suppress(RecipeError):
        yaml_value(text, "recipe")


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"9" * 5000, b"null"]
)
def test_json_of_a_base_that_is_nonsense_is_an_error_of_the_base(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(BaseModelError, match="JSON"):
        read_json(path)

    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(content)) + content)
    with pytest.raises(BaseModelError, match="is cut, changed or not safetensors"):
        read_tensors(tmp_path)


def test_a_mutated_safetensors_file_raises_only_errors_of_the_library(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    for content in mutate(struct.pack("<Q", len(header)) + header + bytes(8), "safetensors"):
        (tmp_path / "model.safetensors").write_bytes(content)
        only_own_errors(lambda: read_tensors(tmp_path))


@pytest.mark.parametrize(
    ("parse", "honest"),
    [
        (parse_reference, "legal/clauses@production"),
        (parse_reference, "legal/clauses@sha256:" + "ab" * 32),
        (pypi.parse, "pypi:simple-icd-10-cm==1.5.0"),
        (hub.parse, "hf:owner/name:config@main"),
        (lambda text: shift_dates(text, 10**9), "on 2021-03-04 and 二〇二四年三月四日, 31.12.9999"),
        (lambda text: apply_settings({"train": {"a": 1}}, dict([parse_setting(text)])), "train.a=2"),
        (fetch, "file:///no/such/file.csv"),
    ],
    ids=["name", "digest", "pypi", "hub", "dates", "override", "source"],
)
def test_a_mutated_text_raises_only_errors_of_the_library(parse: Callable[[str], object], honest: str) -> None:
    for content in mutate(honest.encode(), honest):
        text = content.decode("utf-8", errors="surrogateescape")
        if not text.startswith(("pypi:", "hf:")) or parse is not fetch:
            only_own_errors(lambda text=text: parse(text))


def test_a_time_beyond_the_years_of_python_is_an_error_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    far = pyarrow.array([60_000 * 365 * 86_400_000_000], pyarrow.int64()).cast(pyarrow.timestamp("us"))
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"at": far}), content)
    path.write_bytes(content.getvalue())

    with pytest.raises(VerticalError, match="broken Parquet"):
        read_columns(path)


@pytest.mark.parametrize("name", ["a" * 300, "é" * 200, "/".join(["folder"] * 300)])
def test_a_wheel_with_a_name_that_is_too_long_is_refused(tmp_path: Path, name: str) -> None:
    wheel = tmp_path / "wheel.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, "x")

    with pytest.raises(SourceError, match="has a name that is too long"):
        unpack(wheel, tmp_path / "files", "pypi:wheel==1")


@pytest.mark.parametrize(
    "source",
    [
        "pypi:" + "a" * 300 + "==1",
        "pypi:a==" + "1" * 5000,
        "pypi:a==1!" + "9" * 1500,
        "package:medical/" + "a" * 500,
        "hf:" + "a" * 5000,
        "file:///" + "a" * 5000,
    ],
)
def test_a_source_with_a_part_that_is_too_long_is_refused(source: str) -> None:
    with pytest.raises(SourceError) as raised:
        fetch(source)
    assert len(str(raised.value)) < 3000


@pytest.mark.parametrize("name", ["punycode", "idna"])
def test_a_codec_of_host_names_is_refused_as_an_encoding(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "a" * 2000 + "-9" * 2000, encoding="utf-8")

    with pytest.raises(DataError, match=f"no encoding is called '{name}'"):
        read_columns(path, FileOptions(encoding=name))
