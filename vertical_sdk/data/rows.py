"""The rows of a file, the options that say how to read it, and the lines of a text file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from vertical_sdk.errors import DataError

__all__ = [
    "CELL",
    "LINE_LIMIT",
    "MOST_COLUMNS",
    "ROW",
    "Budget",
    "FileOptions",
    "Rows",
    "check_columns",
    "read_lines",
    "take_parts",
]

T = TypeVar("T")
MOST_COLUMNS = 10_000
SMALL, DENSEST = 256 << 20, 1000
"""Bytes of rows that every file may have, and how many times its size they may be otherwise."""
ROW, CELL = 100, 16
"""Bytes that a row and a cell need, about, besides the characters of texts."""
LINE_LIMIT = 16 << 20
"""Characters of the longest line. A longer line is a sign of a broken file, and would fill the memory."""


@dataclass(frozen=True)
class FileOptions:
    """What a file does not show by itself. None means: find it. A format that has no such thing ignores the option.

    delimiter  between the fields of a CSV
    encoding   of a text file, by its name in Python
    header     the line of the header, from 1, in a CSV or a sheet; "none": the columns are called column_1, column_2, …
    sheet      of an Excel file
    rows       the list of rows inside a JSON file: names, joined by dots
    any_size   read a file that has more columns than MOST_COLUMNS, or needs much more memory than its size lets expect
    """

    delimiter: str | None = None
    encoding: str | None = None
    header: int | Literal["none"] | None = None
    sheet: str | None = None
    rows: str | None = None
    any_size: bool = False


class Budget:
    """The memory that the rows of a file may need. A small file that needs much is broken, or made to fill the memory."""

    def __init__(self, path: Path, options: FileOptions) -> None:
        self._path = path
        self._left = math.inf if options.any_size else max(SMALL, DENSEST * path.stat().st_size)

    def spend(self, count: int) -> None:
        """Count some bytes. Raises DataError if they are too many in all."""
        self._left -= count
        if self._left < 0:
            raise DataError(
                f"its {self._path.stat().st_size:,} bytes become more than {max(SMALL, DENSEST * self._path.stat().st_size) >> 20} MB "
                "of rows. If the file is good, set data.reader.any_size: true.",
                where=self._path,
            )


def check_columns(count: int, options: FileOptions, where: str | Path) -> None:
    """Raise DataError for more columns than a table has."""
    if count > MOST_COLUMNS and not options.any_size:
        raise DataError(
            f"{count:,} columns, and at most {MOST_COLUMNS:,} are read. If the file is good, set data.reader.any_size: true.",
            where=where,
        )


@dataclass(frozen=True)
class Rows:
    """The rows of a file.

    format   for people: "CSV", "CSV (semicolon), GB18030", "Excel, sheet 'Notes'"
    places   the place of each row: its first line in a text file, its number in JSON and Parquet, both from 1
    unit     "line" or "row", for messages
    names    column → names of its classes, from a Parquet file that names its class numbers, or from an ARFF file
    details  what was found out about the file, for people: its encoding, delimiter, header, sheet, as far as it has them
    """

    path: Path
    format: str
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    places: list[int]
    unit: str = "line"
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def at(self, index: int) -> str:
        """Return `file:line` of a row, for messages."""
        return f"{self.path}:{self.places[index]}" if self.unit == "line" else f"{self.path}: row {self.places[index]}"


def take_parts(items: Iterable[T], size: int | None) -> Iterator[list[T]]:
    """Yield the items in lists of so many; None: all in one list. Without items, one empty list."""
    rest = iter(items)
    part = list(islice(rest, size))
    yield part
    while size is not None and len(part) == size and (part := list(islice(rest, size))):
        yield part


def read_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Yield the line numbers from 1 and the lines with their ends. A file without line feeds has lines that end with CR.

    Raises DataError for a line over LINE_LIMIT.
    """
    with path.open(encoding=encoding, newline="") as file:
        start = file.read(1 << 16)
    end = "\r" if "\r" in start and "\n" not in start else "\n"
    with path.open(encoding=encoding, newline=end) as file:
        number = 0
        while line := file.readline(LINE_LIMIT + 1):
            number += 1
            if len(line) > LINE_LIMIT:
                raise DataError(
                    f"the line is longer than {LINE_LIMIT >> 20} MB. The file has lost its line ends, or is not text. Write each "
                    "row on one line.",
                    where=f"{path}:{number}",
                )
            yield number, line
