"""Turn the cells of a CSV file or of a sheet into rows: find the header, name the columns, and refuse other layouts.

A header is not guessed: the first line is the header, unless `data.reader.header` says otherwise. A first line that cannot be one
(a title, or numbers that continue below it) is an error, which says what to set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from vertical_sdk.cells import is_empty, to_number
from vertical_sdk.data.rows import FileOptions, Rows, check_columns, take_parts
from vertical_sdk.errors import DataError

__all__ = ["Record", "build_parts", "build_rows"]

Record = tuple[int, list[Any]]
"""The number of a line, from 1, and its cells."""
NEAR_TOP = 50
"""Lines within which the header is looked for."""


def build_rows(
    path: Path, kind: str, records: Sequence[Record], options: FileOptions, *, unit: str, details: dict[str, str]
) -> Rows:
    """Build the rows of a file from its records, of which the first is the header.

    Raises DataError, with the line, for a header that is a title, a row, or has a name twice, and for a record of another width.
    """
    return next(build_parts(path, kind, lambda: records, options, unit=unit, details=details, size=None))


def build_parts(
    path: Path,
    kind: str,
    records: Callable[[], Iterable[Record]],
    options: FileOptions,
    *,
    unit: str,
    details: dict[str, str],
    size: int | None,
) -> Iterator[Rows]:
    """Build the rows of a file in parts of so many records, one part at least; see `build_rows`.

    records  reads them from the first one
    size     None: all records in one part
    """
    near = list(islice(records(), NEAR_TOP + 1))
    if not near:
        raise DataError("the file has only empty lines.", where=path)
    first, below = near[0], near[1:]
    check_columns(len(first[1]), options, path)
    header: list[str | None]
    if options.header == "none":
        header, below = [f"column_{number}" for number in range(1, len(first[1]) + 1)], near[:NEAR_TOP]
    else:
        place = f"{path}:{first[0]}" if unit == "line" else f"{path}: row {first[0]}"
        if options.header is None:
            _refuse_title(first, below[: NEAR_TOP - 1], place)
        header = _name_columns(first[1], lambda: islice(records(), 1, None), place)
        if options.header is None:
            _refuse_numbers(header, below, place)
    details = {**details, "header": "none" if options.header == "none" else f"{unit} {first[0]}"}
    columns = tuple(name for name in header if name is not None)
    for part in take_parts(islice(records(), options.header != "none", None), size):
        rows, places = [], []
        for begins, cells in part:
            if not cells or (len(cells) == 1 and len(header) > 1 and is_empty(cells[0])):
                continue
            if len(cells) != len(header):
                where = f"{path}:{begins}" if unit == "line" else f"{path}: row {begins}"
                raise DataError(_describe_width(len(cells), header, options, below), where=where)
            rows.append({name: cell for name, cell in zip(header, cells, strict=True) if name is not None})
            places.append(begins)
        yield Rows(path, kind, columns, rows, places, unit=unit, details=details)


def _name_columns(cells: Sequence[Any], body: Callable[[], Iterable[Record]], where: str) -> list[str | None]:
    """Name the columns. A column without a name is called by its number; without any value too, it is left out: None."""
    names: list[str | None] = [None if is_empty(cell) else str(cell).strip() for cell in cells]
    nameless = {column for column, name in enumerate(names) if name is None}
    for _, row in body() if nameless else ():
        filled = {column for column in nameless if column < len(row) and not is_empty(row[column])}
        for column in filled:
            names[column] = f"column_{column + 1}"
        nameless -= filled
        if not nameless:
            break
    if not any(names):
        raise DataError("the header is empty. Set data.reader.header to the line of the header, or to none.", where=where)
    twice = [name for name, count in Counter(name for name in names if name).items() if count > 1]
    if twice:
        shown = ", ".join(map(repr, sorted(twice)[:5]))
        raise DataError(
            f"the header names {shown} twice. Rename one of them; or set data.reader.header: none if this line is a row.",
            where=where,
        )
    return names


def _refuse_title(header: Record, below: Sequence[Record], where: str) -> None:
    """Refuse a first line that is a title over the table: narrower than the lines below, or with one cell of many filled."""
    filled = sum(not is_empty(cell) for cell in header[1])
    near = [(line, cells) for line, cells in below if not all(map(is_empty, cells))]
    widths = Counter(len(cells) for _, cells in near if len(cells) > 1)
    if not widths:
        return
    width = max(widths, key=lambda w: (widths[w], w))
    first = next(line for line, cells in near if len(cells) == width)
    own = header[1]
    narrower = len(own) <= width // 2 and 2 * widths[width] > len(near)
    fuller = next((line for line, cells in near if sum(not is_empty(cell) for cell in cells) > 1), None)
    sparse = len(own) == width and filled == 1 and not is_empty(own[0]) and fuller is not None
    first = fuller if sparse and fuller else first
    if narrower or sparse:
        raise DataError(
            f"this line has {filled} field{'' if filled == 1 else 's'}, but the lines from {first} on have {width}. If it is a "
            f"title above the table, set data.reader.header: {first}. If it is the header, put texts that contain the "
            "delimiter in quotes.",
            where=where,
        )


def _refuse_numbers(header: Sequence[str | None], body: Sequence[Record], where: str) -> None:
    """Refuse a header of numbers that seems to be the first row. Ids of sensors and 0, 1, 2, … are names."""
    numbers = [to_number(name) for name in header if name is not None]
    if len(numbers) < 2 or any(number is None for number in numbers) or not body:
        return
    names = [number for number in numbers if number is not None]
    if all(later - earlier == 1 for earlier, later in pairwise(names)):
        return
    below = [number for _, cells in body for cell in cells if (number := to_number(cell)) is not None]
    whole = all(number.is_integer() for number in names)
    if below and (not whole or (all(n.is_integer() for n in below) and min(names) <= max(below) and max(names) >= min(below))):
        raise DataError(
            "this line has only numbers, as the lines below it have. Set data.reader.header: none if it is a row, or 1 if it is "
            "the header.",
            where=where,
        )


def _describe_width(width: int, header: Sequence[str | None], options: FileOptions, body: Sequence[Record]) -> str:
    """Describe a record of another width than the header."""
    names = [name or "" for name in header]
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    if options.header == "none":
        return f"{width} fields, but the first line has {len(names)}. Put a text that contains the delimiter in quotes."
    hint = ""
    common = Counter(len(cells) for _, cells in body if cells).most_common(1)
    if options.header is None and common and common[0][0] == width:
        hint = " If the header is on another line, set data.reader.header to its number."
    return f"{width} fields, but the header has {len(names)} ({shown}). Put a text that contains the delimiter in quotes.{hint}"
