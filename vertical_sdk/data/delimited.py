"""Read CSV and TSV: RFC 4180, with the delimiter and the habits that the file shows."""

from __future__ import annotations

import csv
import functools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from vertical_sdk.data.encodings import encoding_title
from vertical_sdk.data.grid import Record, build_parts
from vertical_sdk.data.rows import LINE_LIMIT, FileOptions, Rows, read_lines
from vertical_sdk.errors import DataError

__all__ = ["DELIMITERS", "count_fields", "iterate_delimited"]

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
SAMPLE = 40
"""Lines from which the delimiter is found."""
SPACED_QUOTE = re.compile(r'\s+"')
NAMED_DELIMITER = re.compile(r'"?sep=(.)"?\s*')
"""The first line by which Excel names the delimiter."""


def iterate_delimited(path: Path, encoding: str, options: FileOptions, size: int | None) -> Iterator[Rows]:
    """Read all rows, in parts of so many records; None: in one part. Several parts take a pass over the file before them.

    The delimiter is the one that gives the header and the lines below it the same number of fields.

    Raises DataError with file and line.
    """
    first, lines = _find_first_line(path, encoding, options)
    named = NAMED_DELIMITER.fullmatch(lines[0]) if lines else None
    if named and options.header is None:
        first, lines = first + 1, lines[1:]
    if not any(line.strip() for line in lines):
        raise DataError("the file has only empty lines.", where=path)
    delimiter = options.delimiter or (named[1] if named else _find_delimiter(path, lines))
    parse = functools.partial(_parse_records, path, encoding, first, delimiter)
    if size is None:
        whole = _read_records(parse)
        records: Callable[[], Iterable[Record]] = lambda: whole  # noqa: E731
    else:
        records = functools.partial(parse, spaces=_has_spaced_quotes(parse))
    kind = "TSV" if delimiter == "\t" else "CSV" if delimiter == "," else f"CSV ({DELIMITERS.get(delimiter, repr(delimiter))})"
    title = encoding_title(encoding)
    yield from build_parts(
        path,
        kind if title == "UTF-8" else f"{kind}, {title}",
        records,
        options,
        unit="line",
        details={"encoding": title, "delimiter": DELIMITERS.get(delimiter, repr(delimiter))},
        size=size,
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


def _read_records(parse: Callable[..., Iterator[Record]]) -> list[Record]:
    """Read all records. Spaces before quotes are skipped if the file has them, as in `a, "b"`."""
    records: list[Record] = []
    _has_spaced_quotes(parse, records)
    return records


def _has_spaced_quotes(parse: Callable[..., Iterator[Record]], kept: list[Record] | None = None) -> bool:
    """Whether the records have spaces before quotes, and can be read without these.

    kept  gets the records, without these spaces if they can be read so

    Raises DataError for a file that cannot be read either way.
    """
    spaced, problem = False, None
    try:
        for record in parse(spaces=False):
            spaced = spaced or any(SPACED_QUOTE.match(cell) for cell in record[1])
            if kept is not None:
                kept.append(record)
    except DataError as error:  # what was read before it counts
        problem = error
    if spaced:
        try:
            if kept is None:
                deque(parse(spaces=True), maxlen=0)
            else:
                kept[:] = parse(spaces=True)  # unchanged if this raises
        except DataError as error:
            problem = problem and error
        else:
            return True
    if problem is not None:
        raise problem
    return False


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
        limit = csv.field_size_limit(LINE_LIMIT)  # of the whole process
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"broken CSV: {_explain(error)}", where=f"{path}:{begins}") from None
        finally:
            csv.field_size_limit(limit)
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
