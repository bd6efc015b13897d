"""Cells of a file as numbers, and a file that is a matrix of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.data.formats import Rows
from vertical_sdk.errors import DataError

__all__ = ["is_missing", "is_number", "parse_number", "parse_numbers", "read_adjacency"]

NOTHING = frozenset({"", "na", "nan", "none", "null"})
"""What a cell says, in small letters, where nothing was measured."""


def parse_number(text: str, where: str, column: str) -> float:
    """A cell's text as a number.

    Raises DataError, with its place, for what is none or not finite.
    """
    try:
        number = float(text)
    except ValueError:
        raise DataError(f"{where}: column {column!r} holds {text[:40]!r}; a number is needed.") from None
    if not math.isfinite(number):
        raise DataError(f"{where}: column {column!r} holds {text!r}; a finite number is needed.")
    return number


def parse_numbers(rows: Rows, names: Sequence[str]) -> NDArray[np.float32]:
    """(rows, names) of a file's cells; NaN for those that say that nothing was measured.

    Raises DataError for a cell that is no finite number.
    """
    found = np.empty((len(rows.rows), len(names)), dtype=np.float32)
    for index, row in enumerate(rows.rows):
        cells = [row.get(name) for name in names]
        try:
            found[index] = [float(cell) if cell not in (None, "") else math.nan for cell in cells]
        except (TypeError, ValueError):
            found[index] = [
                math.nan if is_missing(cell) else parse_number(str(cell).strip(), rows.at(index), name)
                for cell, name in zip(cells, names, strict=True)
            ]
        if np.isinf(found[index]).any():
            name = names[int(np.isinf(found[index]).argmax())]
            raise DataError(f"{rows.at(index)}: column {name!r} holds {row[name]!r}; a finite number is needed.")
    return found


def is_number(cell: object) -> bool:
    """Whether a cell is one, or says one."""
    try:
        float(str(cell).strip())
    except ValueError:
        return False
    return True


def is_missing(cell: Any) -> bool:
    """Whether a cell says that nothing was measured."""
    return cell is None or str(cell).strip().lower() in NOTHING


def read_adjacency(path: Path, channels: Sequence[str], beside: Path) -> NDArray[np.float32]:
    """How near channels are to each other: a line a channel of as many numbers from 0, without a header, in the order of the channels.

    beside  the file that has the channels, for messages

    Raises DataError for another size, or a cell that is no such number.
    """
    size = len(channels)
    try:
        lines = [line for line in path.read_bytes().decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte at offset {error.start} is not UTF-8. Save the file as UTF-8.") from None
    if len(lines) != size:
        raise DataError(f"{path}: has {len(lines)} lines, and {beside.name} has {size} channels; one line for each is needed.")
    matrix = np.empty((size, size), dtype=np.float32)
    for number, line in enumerate(lines, 1):
        cells = line.split(",")
        if len(cells) != size:
            raise DataError(f"{path}:{number}: {len(cells)} fields; {size} are needed, one for each channel of {beside.name}.")
        matrix[number - 1] = [parse_number(cell.strip(), f"{path}:{number}", str(k)) for k, cell in enumerate(cells, 1)]
        if (matrix[number - 1] < 0).any():
            raise DataError(f"{path}:{number}: holds {matrix[number - 1].min():g}; how near channels are is a number from 0.")
    return matrix
