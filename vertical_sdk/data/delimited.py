"""Read CSV and TSV: RFC 4180, with the delimiter and the habits that the file shows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vertical_sdk.data.encodings import encoding_title
from vertical_sdk.data.grid import Record, build_rows
from vertical_sdk.data.rows import LINE_LIMIT, FileOptions, Rows, read_lines
from vertical_sdk.errors import DataError

__all__ = ["DELIMITERS", "count_fields", "read_delimited"]

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
SAMPLE = 40
"""Lines from which the delimiter is found."""
SPACED_QUOTE = re.compile(r'\s+"')
NAMED_DELIMITER = re.compile(r'"?sep=(.)"?\s*')
"""The first line by which Excel names the delimiter."""


def read_delimited(path: Path, encoding: str, options: FileOptions) -> Rows:
    """Read all rows. The delimiter is the one that gives the header and the lines below it the same number of fields.

    Raises DataError with file and line.
    """
    first, lines = _find_first_line(path, encoding, options)
    named = NAMED_DELIMITER.fullmatch(lines[0]) if lines else None
    if named and options.header is None:
        first, lines = first + 1, lines[1:]
    if not any(line.strip() for line in lines):
        raise DataError("the file has only empty lines.", where=path)
    delimiter = options.delimiter or (named[1] if named else _find_delimiter(path, lines))
    limit = csv.field_size_limit(LINE_LIMIT)
    try:
        records = _read_records(path, encoding, first, delimiter)
    finally:
        csv.field_size_limit(limit)
    kind = "TSV" if delimiter == "\t" else "CSV" if delimiter == "," else f"CSV ({DELIMITERS.get(delimiter, repr(delimiter))})"
    title = encoding_title(encoding)
    return build_rows(
        path,
        kind if title == "UTF-8" else f"{kind}, {title}",
        records,
        options,
        unit="line",
        details={"encoding": title, "delimiter": DELIMITERS.get(delimiter, repr(delimiter))},
    )


def count_fields(line: str, delimiter: str) -> int:
    """Count the fields of a line. A delimiter inside quotes is a part of its field."""
    try:
        return len(next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []))
    except csv.Error:
        return line.count(delimiter) + 1


def _find_first_line(path: Path, encoding: str, options: FileOptions) -> tuple[int, list[str]]:
    """Return the number of the line that the table begins on, and some lines from there."""
    header = options.header if isinstance(options.header, int) else None
    lines = list(islice(read_lines(path, encoding), (header or 1) - 1, (header or 1) - 1 + SAMPLE))
    if header is not None:
        if header < 1 or not lines or not lines[0][1].strip():
            raise DataError(f"no header on line {header}. Set data.reader.header to a line of the file, from 1.", where=path)
        return header, [line for _, line in lines]
    while lines and not lines[0][1].strip():
        del lines[0]
    return (lines[0][0] if lines else 1), [line for _, line in lines]


def _find_delimiter(path: Path, lines: list[str]) -> str:
    """Find the delimiter by the first line; by the lines below it, if the first has two that could be it, or none."""
    if path.suffix.lower() in {".tsv", ".tab"} and "\t" in lines[0]:
        return "\t"
    widths = {delimiter: _list_widths(lines, delimiter) for delimiter in DELIMITERS}
    candidates = [delimiter for delimiter in DELIMITERS if widths[delimiter][0] > 1]
    if len(candidates) > 1:
        regular = {d: sum(width == widths[d][0] for width in widths[d]) for d in candidates}
        return max(candidates, key=lambda d: (regular[d], widths[d][0]))
    if candidates:
        return candidates[0]
    below = {d: widths[d][1:] for d in DELIMITERS}
    wide = {d: max((below[d].count(w) for w in set(below[d]) if w > 1), default=0) for d in DELIMITERS}
    best = max(DELIMITERS, key=lambda d: wide[d])
    enough = 0.5 if best in {",", "\t"} else 0.7  # texts of one column may contain a semicolon
    return best if wide[best] > enough * len(below[best]) else ","


def _list_widths(lines: list[str], delimiter: str) -> list[int]:
    """List the number of fields of the records in some lines, at least one number."""
    try:
        records = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        widths = [len(cells) for cells in records if cells]
    except csv.Error:
        widths = [count_fields(line, delimiter) for line in lines if line.strip()]
    return widths or [1]


def _read_records(path: Path, encoding: str, first: int, delimiter: str) -> list[Record]:
    """Read the records from a line on. Spaces before quotes are skipped if the file has them, as in `a, "b"`."""
    records: list[Record] = []
    problem: DataError | None = None
    try:
        for record in _parse_records(path, encoding, first, delimiter, spaces=False):
            records.append(record)  # noqa: PERF402  (what was read before an error counts)
    except DataError as error:
        problem = error
    if any(SPACED_QUOTE.match(cell) for _, cells in records for cell in cells):
        try:
            return list(_parse_records(path, encoding, first, delimiter, spaces=True))
        except DataError as error:
            problem = problem and error
    if problem is not None:
        raise problem
    return records


def _parse_records(path: Path, encoding: str, first: int, delimiter: str, *, spaces: bool) -> Iterator[Record]:
    """Yield each record with its first line."""
    last = first - 1

    def feed() -> Iterator[str]:
        nonlocal last
        for number, line in read_lines(path, encoding):
            if number >= first:
                last = number
                yield line

    reader = csv.reader(feed(), delimiter=delimiter, strict=True, skipinitialspace=spaces)
    while True:
        begins = last + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"broken CSV: {_explain(error)}", where=f"{path}:{begins}") from None
        if cells is None:
            return
        yield begins, cells


def _explain(error: csv.Error) -> str:
    """Explain an error of the csv module, and what to do."""
    text = str(error)
    if "new-line character" in text:
        return "a line ends with CR alone, others with LF. Save the file with one kind of line end."
    if "unexpected end of data" in text:
        return "a quote is opened and never closed. A quote inside a quoted field is written twice."
    if "expected after" in text:
        return "text follows a closing quote. A quote inside a quoted field is written twice."
    return f"{text}. A quote inside a quoted field is written twice."
