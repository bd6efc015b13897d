"""Read the cells of a file as numbers, and a file that is a matrix of numbers."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.cells import MISSING_WORDS, clean_text, is_missing, to_number
from vertical_sdk.data.formats import Rows
from vertical_sdk.errors import DataError
from vertical_sdk.types import LARGEST

__all__ = ["is_number", "parse_number", "parse_numbers", "read_adjacency"]

FLOAT32 = float(np.finfo(np.float32).max)


def parse_number(text: str, where: str, column: str) -> float:
    """Read the text of a cell as a number.

    Raises DataError, with its place, for a text that is not a finite number.
    """
    number = to_number(text)
    if number is None:
        raise DataError(f"column {column!r} contains {text[:40]!r}, which is not a number.", where=where)
    if not math.isfinite(number):
        raise DataError(f"column {column!r} contains {text!r}, which is not a finite number.", where=where)
    return number


def parse_numbers(
    rows: Rows, names: Sequence[str], words: Collection[str] = MISSING_WORDS, *, largest: float | None = LARGEST
) -> NDArray[np.float32]:
    """Read cells as an array (rows, names), with NaN for a missing value; `words` mean one too.

    largest  the largest absolute value that is allowed; None allows all finite numbers, of which the largest are cut to float32's

    Raises DataError for a cell that is not a finite number, or is too large.
    """
    numbers = np.empty((len(rows.rows), len(names)), dtype=np.float32)
    for index, row in enumerate(rows.rows):
        cells = [row.get(name) for name in names]
        found = [math.nan if cell is None or cell == "" else to_number(cell) for cell in cells]
        if None in found:
            found = [
                math.nan if is_missing(cell, words) else parse_number(clean_text(str(cell)), rows.at(index), name)
                for cell, name in zip(cells, names, strict=True)
            ]
        line = np.array(found, dtype=np.float64)
        large = np.abs(line) > largest if largest is not None else np.isinf(line)
        if large.any():
            column = int(large.argmax())
            problem = "not a finite number" if math.isinf(line[column]) else "too large to be a measurement"
            raise DataError(
                f"column {names[column]!r} contains {row[names[column]]!r}, which is {problem}. Leave the cell empty if nothing was "
                "measured.",
                where=rows.at(index),
            )
        numbers[index] = np.clip(line, -FLOAT32, FLOAT32)
    return numbers


def is_number(cell: object) -> bool:
    """Whether a cell is a number, or a text that can be read as one."""
    return to_number(clean_text(str(cell))) is not None


def read_adjacency(path: Path, channels: Sequence[str], beside: Path) -> NDArray[np.float32]:
    """Read how near channels are to each other: a square of numbers from 0, without a header, in the order of the channels.

    beside  the file with the channels, for messages

    Raises DataError for another size, or a cell that is not such a number.
    """
    size = len(channels)
    try:
        lines = [line for line in path.read_bytes().decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"the byte at offset {error.start} is not UTF-8. Save the file as UTF-8.", where=path) from None
    if len(lines) != size:
        raise DataError(
            f"{len(lines)} lines for the {size} channels of {beside.name}. Write one line for each channel.", where=path
        )
    matrix = np.empty((size, size), dtype=np.float32)
    for number, line in enumerate(lines, 1):
        cells = line.split(",")
        if len(cells) != size:
            raise DataError(
                f"{len(cells)} fields for the {size} channels of {beside.name}. Write one number for each channel.",
                where=f"{path}:{number}",
            )
        matrix[number - 1] = [parse_number(cell.strip(), f"{path}:{number}", str(k)) for k, cell in enumerate(cells, 1)]
        if (matrix[number - 1] < 0).any():
            raise DataError(
                f"contains {matrix[number - 1].min():g}. Write numbers from 0, which means not connected.",
                where=f"{path}:{number}",
            )
    return matrix
