"""Files into plain rows: CSV, TSV, JSONL, JSON, Parquet and ARFF, each row with the line that it stands on."""

from __future__ import annotations

import codecs
import csv
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vertical_sdk.errors import DataError

__all__ = ["BROKEN_ZIP", "LINE_LIMIT", "SUFFIXES", "Rows", "file_format", "read_file"]

LINE_LIMIT = 16 << 20
"""Bytes of the longest line; a longer one is a broken file, and would only fill the memory."""
JSON_LIMIT = 512 << 20
SUFFIXES = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".tab": "TSV",
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".json": "JSON",
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".arff": "ARFF",
}
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError)
"""What zipfile raises for an archive that is cut, damaged, encrypted or packed in a way that it does not know."""
DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}


@dataclass(frozen=True)
class Rows:
    """A file's rows.

    places   where each row begins: the line in a text file, the row's number in JSON and Parquet, both from 1
    unit     "line" or "row", for messages
    names    column → names of its classes, where a Parquet file says what its numbers stand for, or an ARFF file which values there are
    """

    path: Path
    format: str
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    places: list[int]
    unit: str = "line"
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def at(self, index: int) -> str:
        """`file:line` of a row, for messages."""
        return f"{self.path}:{self.places[index]}" if self.unit == "line" else f"{self.path}: row {self.places[index]}"


def read_file(path: Path, *, delimiter: str | None = None) -> Rows:
    """All rows of a file.

    Raises DataError, with file and line, for what is not such a file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty.")
    kind = file_format(path)
    if kind == "Parquet":
        rows = _read_parquet(path)
    elif kind in {"JSON", "JSONL"}:
        rows = _read_json(path, kind)
    elif kind == "ARFF":
        rows = _read_arff_file(path)
    else:
        rows = _read_csv(path, delimiter)
    if not rows.rows:
        raise DataError(f"{path}: has no rows{' below its header' if kind in {'CSV', 'TSV', 'ARFF'} else ''}.")
    return rows


def file_format(path: Path) -> str:
    """CSV, TSV, JSONL, JSON, Parquet or ARFF: by the first bytes where they tell, else by the name's ending.

    Raises DataError for any other file.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"PAR1"):
        return "Parquet"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}: is UTF-16. Save it as UTF-8.")
    if b"\0" in head:
        raise DataError(f"{path}: is no text (it has zero bytes). {_list_suffixes()}")
    named = SUFFIXES.get(path.suffix.lower())
    if named == "Parquet":
        raise DataError(f"{path}: is called Parquet but does not begin as such a file does; it may be cut. Take it anew.")
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if named in {"JSON", "JSONL"} or (named is None and start[:1] in {b"{", b"["}):
        return "JSON" if start.startswith(b"[") or (named == "JSON" and not _first_line_is_whole(path)) else "JSONL"
    if named:
        return named
    if start[:9].lower() == b"@relation":
        return "ARFF"
    first = start.splitlines()[0] if start else b""
    if b"\t" in first:
        return "TSV"
    if b"," in first:
        return "CSV"
    raise DataError(f"{path}: cannot tell what this file is. {_list_suffixes()}")


def _list_suffixes() -> str:
    return f"Readable are files ending in {', '.join(SUFFIXES)}."


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and the lines, decoded."""
    offset = 0
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LINE_LIMIT + 1):
            number += 1
            if len(raw) > LINE_LIMIT:
                raise DataError(
                    f"{path}:{number}: the line is longer than {LINE_LIMIT >> 20} MB. "
                    "A row stands on one line; this file has lost its line ends, or is no text."
                )
            start = offset
            offset += len(raw)
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: byte 0x{raw[error.start]:02x} at offset {start + error.start} is not UTF-8. "
                    "Save the file as UTF-8."
                ) from None


def _read_csv(path: Path, delimiter: str | None) -> Rows:
    """RFC 4180, with whatever delimiter the header shows."""
    lines = _read_lines(path)
    seen = 0

    def feed() -> Iterator[str]:
        nonlocal seen
        for number, line in lines:
            seen = number
            yield line

    stream = feed()
    first = next(stream)
    while not first.strip():
        first = next(stream, "")
        if not first:
            raise DataError(f"{path}: has nothing but empty lines.")
    delimiter = delimiter or _find_delimiter(path, first)

    def all_lines() -> Iterator[str]:
        yield first
        yield from stream

    limit = csv.field_size_limit(LINE_LIMIT)
    try:
        return _read_csv_rows(path, csv.reader(all_lines(), delimiter=delimiter, strict=True), delimiter, lambda: seen)
    finally:
        csv.field_size_limit(limit)


def _read_csv_rows(path: Path, reader: Any, delimiter: str, line: Callable[[], int]) -> Rows:
    records = _read_records(path, reader, line)
    header = [name.strip() for name in next(records)[1]]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}:1: the header names {', '.join(map(repr, twice))} twice.")
    rows, places = [], []
    for begins, cells in records:
        if cells and (len(cells) > 1 or cells[0].strip() or len(header) == 1):
            if len(cells) != len(header):
                raise DataError(
                    f"{path}:{begins}: {len(cells)} fields where the header has {len(header)} ({', '.join(header)}). "
                    "A text with the delimiter in it must stand in quotes."
                )
            rows.append(dict(zip(header, cells, strict=True)))
            places.append(begins)
    kind = "TSV" if delimiter == "\t" else "CSV" if delimiter == "," else f"CSV ({DELIMITERS.get(delimiter, repr(delimiter))})"
    return Rows(path, kind, tuple(header), rows, places)


def _read_records(path: Path, reader: Any, line: Callable[[], int]) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line that it begins on; `line` tells which one was read last."""
    begins = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{begins}: broken CSV: {error}. A quote inside a quoted field is written twice.") from None
        if cells is None:
            return
        yield begins, cells
        begins = line() + 1


def _find_delimiter(path: Path, header: str) -> str:
    """The delimiter that stands most often in the header; one column has none."""
    if path.suffix.lower() in {".tsv", ".tab"}:
        return "\t"
    counts = {d: header.count(d) for d in DELIMITERS}
    best = max(counts, key=lambda d: counts[d])
    return best if counts[best] else ","


def _read_arff_file(path: Path) -> Rows:
    from vertical_sdk.data.arff import read_arff

    found = read_arff(path, _read_lines(path))
    return Rows(path, "ARFF", found.columns, found.rows, found.places, names=found.names)


def _read_json(path: Path, kind: str) -> Rows:
    if kind == "JSONL":
        rows, places = [], []
        for number, line in _read_lines(path):
            if line.strip():
                rows.append(_require_object(_parse_json(line, f"{path}:{number}"), f"{path}:{number}"))
                places.append(number)
        return Rows(path, "JSONL", _list_columns(rows), rows, places)
    if path.stat().st_size > JSON_LIMIT:
        raise DataError(f"{path}: is over {JSON_LIMIT >> 20} MB as one JSON value. Write it as JSONL, one object a line.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte at offset {error.start} is not UTF-8. Save the file as UTF-8.") from None
    whole = _parse_json(text, str(path))
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = lists[0] if len(lists) == 1 else [whole]
    if not isinstance(whole, list):
        raise DataError(f"{path}: holds a {type(whole).__name__}; a list of objects is needed.")
    rows = [_require_object(row, f"{path}: row {number}") for number, row in enumerate(whole, 1)]
    return Rows(path, "JSON", _list_columns(rows), rows, list(range(1, len(rows) + 1)), unit="row")


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f" line {error.lineno}" if error.lineno > 1 else ""
        raise DataError(f"{where}:{line} column {error.colno}: not JSON: {error.msg}.") from None
    except RecursionError:
        raise DataError(f"{where}: JSON nested too deep.") from None
    except ValueError as error:
        raise DataError(f"{where}: not JSON that can be read: {error}.") from None


def _require_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: holds a {type(value).__name__}; an object with the columns as keys is needed.")
    return value


def _list_columns(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for row in rows for key in row))


def _first_line_is_whole(path: Path) -> bool:
    """Whether a file called .json is really one object a line."""
    lines = _read_lines(path)
    try:
        isinstance(json.loads(next(lines)[1]), dict)
        return any(line.strip() for _, line in lines)
    except (ValueError, RecursionError, StopIteration):
        return False


def _read_parquet(path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = _class_names(file.schema_arrow.metadata)
            columns = tuple(file.schema_arrow.names)
            rows = [row for batch in file.iter_batches(10_000) for row in batch.to_pylist()]
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: broken Parquet: {str(error).splitlines()[0]}. Take the file anew.") from None
    return Rows(path, "Parquet", columns, rows, list(range(1, len(rows) + 1)), unit="row", names=names)


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """The class names that the `datasets` library writes into a file's schema."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: tuple(str(name) for name in feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError):
        return {}
