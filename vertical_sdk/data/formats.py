"""Read files into plain rows: CSV, TSV, JSONL, JSON, Parquet and ARFF, each row with its line number."""

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
"""Bytes of the longest line. A longer line is a sign of a broken file, and would fill the memory."""
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
"""The errors of zipfile for an archive that is cut, damaged, encrypted or packed by an unknown method."""
DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}


@dataclass(frozen=True)
class Rows:
    """The rows of a file.

    places   the place of each row: its first line in a text file, its number in JSON and Parquet, both from 1
    unit     "line" or "row", for messages
    names    column → names of its classes, from a Parquet file that names its class numbers, or from an ARFF file
    """

    path: Path
    format: str
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    places: list[int]
    unit: str = "line"
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def at(self, index: int) -> str:
        """Return `file:line` of a row, for messages."""
        return f"{self.path}:{self.places[index]}" if self.unit == "line" else f"{self.path}: row {self.places[index]}"


def read_file(path: Path, *, delimiter: str | None = None) -> Rows:
    """Read all rows of a file.

    Raises DataError, with file and line, for a file that cannot be read.
    """
    if not path.is_file():
        raise DataError("no such file.", where=path)
    if path.stat().st_size == 0:
        raise DataError("the file is empty.", where=path)
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
        raise DataError(f"the file has no rows{' below its header' if kind in {'CSV', 'TSV', 'ARFF'} else ''}.", where=path)
    return rows


def file_format(path: Path) -> str:
    """Recognize CSV, TSV, JSONL, JSON, Parquet or ARFF by the first bytes, else by the ending of the name.

    Raises DataError for any other file.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"PAR1"):
        return "Parquet"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError("the file is UTF-16. Save it as UTF-8.", where=path)
    if b"\0" in head:
        raise DataError(f"the file is not text, it contains zero bytes. {_list_suffixes()}", where=path)
    named = SUFFIXES.get(path.suffix.lower())
    if named == "Parquet":
        raise DataError(
            "the name says Parquet, but the first bytes do not. The file may be cut: download it again.", where=path
        )
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
    raise DataError(f"the format of the file is unknown. {_list_suffixes()}", where=path)


def _list_suffixes() -> str:
    return f"Supported endings are {', '.join(SUFFIXES)}."


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line numbers from 1 and the decoded lines."""
    offset = 0
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LINE_LIMIT + 1):
            number += 1
            if len(raw) > LINE_LIMIT:
                raise DataError(
                    f"the line is longer than {LINE_LIMIT >> 20} MB. The file has lost its line ends, or is not text. Write each "
                    "row on one line.",
                    where=f"{path}:{number}",
                )
            start = offset
            offset += len(raw)
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"byte 0x{raw[error.start]:02x} at offset {start + error.start} is not UTF-8. Save the file as UTF-8.",
                    where=f"{path}:{number}",
                ) from None


def _read_csv(path: Path, delimiter: str | None) -> Rows:
    """Read RFC 4180, with the delimiter of the header."""
    lines = _read_lines(path)
    last_line = 0

    def feed() -> Iterator[str]:
        nonlocal last_line
        for number, line in lines:
            last_line = number
            yield line

    stream = feed()
    first = next(stream)
    while not first.strip():
        first = next(stream, "")
        if not first:
            raise DataError("the file has only empty lines.", where=path)
    delimiter = delimiter or _find_delimiter(path, first)

    def all_lines() -> Iterator[str]:
        yield first
        yield from stream

    limit = csv.field_size_limit(LINE_LIMIT)
    try:
        return _read_csv_rows(path, csv.reader(all_lines(), delimiter=delimiter, strict=True), delimiter, lambda: last_line)
    finally:
        csv.field_size_limit(limit)


def _read_csv_rows(path: Path, reader: Any, delimiter: str, line: Callable[[], int]) -> Rows:
    records = _read_records(path, reader, line)
    header = [name.strip() for name in next(records)[1]]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"the header names {', '.join(map(repr, twice))} twice. Rename one of them.", where=f"{path}:1")
    rows, places = [], []
    for begins, cells in records:
        if cells and (len(cells) > 1 or cells[0].strip() or len(header) == 1):
            if len(cells) != len(header):
                raise DataError(
                    f"{len(cells)} fields, but the header has {len(header)} ({', '.join(header)}). "
                    "Put a text that contains the delimiter in quotes.",
                    where=f"{path}:{begins}",
                )
            rows.append(dict(zip(header, cells, strict=True)))
            places.append(begins)
    kind = "TSV" if delimiter == "\t" else "CSV" if delimiter == "," else f"CSV ({DELIMITERS.get(delimiter, repr(delimiter))})"
    return Rows(path, kind, tuple(header), rows, places)


def _read_records(path: Path, reader: Any, line: Callable[[], int]) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with its first line. `line` returns the number of the line read last."""
    begins = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"broken CSV: {error}. Write a quote inside a quoted field twice.", where=f"{path}:{begins}"
            ) from None
        if cells is None:
            return
        yield begins, cells
        begins = line() + 1


def _find_delimiter(path: Path, header: str) -> str:
    """Find the most frequent delimiter of the header; a header of one column has none."""
    if path.suffix.lower() in {".tsv", ".tab"}:
        return "\t"
    counts = {d: header.count(d) for d in DELIMITERS}
    best = max(counts, key=lambda d: counts[d])
    return best if counts[best] else ","


def _read_arff_file(path: Path) -> Rows:
    from vertical_sdk.data.arff import read_arff

    arff = read_arff(path, _read_lines(path))
    return Rows(path, "ARFF", arff.columns, arff.rows, arff.places, names=arff.names)


def _read_json(path: Path, kind: str) -> Rows:
    if kind == "JSONL":
        rows, places = [], []
        for number, line in _read_lines(path):
            if line.strip():
                rows.append(_require_object(_parse_json(line, f"{path}:{number}"), f"{path}:{number}"))
                places.append(number)
        return Rows(path, "JSONL", _list_columns(rows), rows, places)
    if path.stat().st_size > JSON_LIMIT:
        raise DataError(f"one JSON value of over {JSON_LIMIT >> 20} MB. Write JSONL, with one object on each line.", where=path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"the byte at offset {error.start} is not UTF-8. Save the file as UTF-8.", where=path) from None
    whole = _parse_json(text, str(path))
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = lists[0] if len(lists) == 1 else [whole]
    if not isinstance(whole, list):
        raise DataError(f"contains a {type(whole).__name__}. Write a list of objects.", where=path)
    rows = [_require_object(row, f"{path}: row {number}") for number, row in enumerate(whole, 1)]
    return Rows(path, "JSON", _list_columns(rows), rows, list(range(1, len(rows) + 1)), unit="row")


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f" line {error.lineno}" if error.lineno > 1 else ""
        raise DataError(f"not JSON: {error.msg}.", where=f"{where}:{line} column {error.colno}") from None
    except RecursionError:
        raise DataError("JSON nested too deep.", where=where) from None
    except ValueError as error:
        raise DataError(f"JSON that cannot be read: {error}.", where=where) from None


def _require_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"contains a {type(value).__name__}. Write an object with the columns as keys.", where=where)
    return value


def _list_columns(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for row in rows for key in row))


def _first_line_is_whole(path: Path) -> bool:
    """Whether a file called .json has one object on each line."""
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
        raise DataError(f"broken Parquet: {str(error).splitlines()[0]}. Download the file again.", where=path) from None
    return Rows(path, "Parquet", columns, rows, list(range(1, len(rows) + 1)), unit="row", names=names)


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Read the class names that the `datasets` library writes into the schema of a file."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: tuple(str(name) for name in feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError):
        return {}
