"""Heart beats of an electrocardiogram as series of numbers: their reader, and augmentations of series."""

from __future__ import annotations

import math
import random
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import NotNegative, Share, augmentations, readers
from vertical_sdk.cells import is_missing
from vertical_sdk.data.account import Tally
from vertical_sdk.data.formats import BROKEN_ZIP, read_file
from vertical_sdk.data.numbers import parse_number
from vertical_sdk.data.read import Missing, Table
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example, TaskName

__all__ = ["BEATS", "ecg_beats", "scale_amplitude", "time_warp"]

BEATS = {
    "normal": "A normal beat.",
    "R-on-T": "A premature ventricular contraction that falls on the T wave of the beat before.",
    "PVC": "A premature ventricular contraction.",
    "supraventricular": "A premature or ectopic beat from above the ventricles.",
    "unclassified": "A beat that those who annotated the recording could not classify.",
}
"""The meaning of 1 to 5 in ECG5000, in order."""
NAMES = tuple(BEATS)
LABELS = ("label", "target", "class")
LEAST = 8
"""Steps that a beat has at least."""
LARGEST = 64 << 20
"""Bytes that one table may have; that of ECG5000's 5,000 beats has some 11 MB."""
BETWEEN = re.compile(r"[\s,;]+")
MEMBER = re.compile(r"\w+_(TRAIN|TEST)\.(txt|tsv)")
Knots = Annotated[int, Field(ge=1)]
Line = tuple[str, str, str | None, Sequence[str]]
"""The place of a beat, its id, its label if it has one, and its numbers."""


@readers.register("medical.ecg_beats", tasks=("classification",))
def ecg_beats(
    path: Path, columns: Mapping[str, str], task: TaskName, missing: Missing = "drop", *, member: str | None = None
) -> Table:
    """Beats of an electrocardiogram, all of one length, with one of 5 kinds: UCR's ECG5000 (Dau et al., 2019).

    path    a table with a header, of which one column is called label (or target, or class) and all others are the steps in order; or
            one as the UCR archive has it, without a header, the label in front, between blanks, tabs or commas; or the archive's zip or
            folder with ECG5000_TRAIN.txt and ECG5000_TEST.txt
    member  the file to read in a zip or folder; the training and the test file together where None

    Labels are 1 to 5 or their names. A row has `values` (steps,) float32, NaN for an empty cell, and no text. Raises DataError with
    file and line for a cell that is not a number, another label, or rows of several lengths.
    """
    if columns:
        raise RecipeError("medical.ecg_beats reads a fixed layout. Leave data.columns out.")
    readers.require("medical.ecg_beats", task, "data.reader")
    tally = Tally("read")
    examples: list[Example] = []
    count = 0
    for where, name, cell, cells in _read_lines(path, member):
        count += 1
        label = None if missing == "keep" else _parse_label(cell, where)
        values = np.array([_parse_number(cell, where, step) for step, cell in enumerate(cells)], dtype=np.float32)
        if len(values) < LEAST or (examples and examples[0].values is not None and len(values) != len(examples[0].values)):
            wanted = len(examples[0].values) if examples and examples[0].values is not None else f"at least {LEAST}"
            raise DataError(f"{where}: has {len(values)} steps; {wanted} are needed, as all beats have the same number.")
        lacks = "nothing measured" if np.isnan(values).all() else "no label" if label is None else None
        if lacks and (missing == "refuse" or (missing == "keep" and lacks != "no label")):
            raise DataError(
                f"{where}: {lacks}. Here every row needs {'numbers' if missing == 'keep' else 'numbers and a label'}."
            )
        if lacks and missing == "drop":
            tally.drop(name, lacks)
        else:
            examples.append(Example(name, target=label, values=values))
    account = tally.close(count, len(examples))
    if not examples:
        raise DataError(f"{path}: none of its {count} rows can be used: {dict(account.dropped)}.")
    summary = f"{len(examples)} beats of {len(examples[0].values if examples[0].values is not None else ())} steps"
    return Table(tuple(examples), summary, descriptions=BEATS, labels=NAMES, account=account)


def _read_lines(path: Path, member: str | None) -> Iterator[Line]:
    if zipfile.is_zipfile(path):
        yield from _extract_member(path, member)
    elif path.is_dir():
        inside = {file.name: file for file in sorted(path.rglob("*")) if file.is_file()}
        for name in _list_members(path, list(inside), member):
            yield from _check_plain_file(
                _decode_file(inside[name].read_bytes(), inside[name]), str(inside[name]), f"{_find_split(name)}:"
            )
    elif path.suffix.lower() in {".txt", ".tsv", ".csv"} and path.is_file() and path.stat().st_size <= LARGEST:
        text = _decode_file(path.read_bytes(), path)
        first = next((line for line in text.splitlines() if line.strip()), "")
        if _are_all_numbers(BETWEEN.split(first.strip())):
            yield from _check_plain_file(text, str(path), "")
        else:
            yield from _add_header(path)
    else:
        yield from _add_header(path)


def _add_header(path: Path) -> Iterator[Line]:
    rows = read_file(path)
    label = next((column for column in rows.columns if column.casefold() in LABELS), None)
    steps = [column for column in rows.columns if column != label]
    for index, row in enumerate(rows.rows):
        cell = row.get(label) if label else None
        yield rows.at(index), str(rows.places[index]), _cell_text(cell) or None, [_cell_text(row.get(step)) for step in steps]


def _check_plain_file(text: str, shown: str, prefix: str) -> Iterator[Line]:
    """Lines of numbers without a header, the label in front."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            label, *cells = BETWEEN.split(line.strip())
            yield f"{shown}:{number}", f"{prefix}{number}", label, cells


def _extract_member(path: Path, member: str | None) -> Iterator[Line]:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = {entry.filename.rpartition("/")[2]: entry for entry in archive.infolist()}
            for name in _list_members(path, list(inside), member):
                if inside[name].file_size > LARGEST:
                    raise DataError(f"{path}: {name} is over {LARGEST >> 20} MB, far more than such tables have.")
                text = _decode_file(archive.read(inside[name]), f"{path}: {name}")
                yield from _check_plain_file(text, f"{path}: {name}", f"{_find_split(name)}:")
    except BROKEN_ZIP as error:
        raise DataError(f"{path}: the archive is cut or damaged ({error}). Download it again.") from None


def _list_members(path: Path, names: Sequence[str], member: str | None) -> list[str]:
    """The files to read: that one, or the training and the test file."""
    members = [name for name in names if (name == member if member else MEMBER.fullmatch(name))]
    if not members:
        wanted = repr(member) if member else "..._TRAIN.txt or ..._TEST.txt"
        raise DataError(f"{path}: has no {wanted}; it has {', '.join(sorted(names)[:10]) or 'nothing'}.")
    return sorted(members, reverse=True)


def _find_split(name: str) -> str:
    return name.rpartition(".")[0].rpartition("_")[2].lower()


def _decode_file(content: bytes, shown: Path | str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown}: byte at offset {error.start} is not UTF-8. Save the file as UTF-8.") from None


def _are_all_numbers(cells: Sequence[str]) -> bool:
    try:
        return bool([float(cell) for cell in cells])
    except ValueError:
        return False


def _cell_text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _parse_number(cell: str, where: str, step: int) -> float:
    """Parse a step; NaN for an empty cell."""
    return math.nan if cell == "?" or is_missing(cell) else parse_number(cell, where, f"step {step}")


def _parse_label(cell: str | None, where: str) -> str | None:
    if cell is None or cell == "?" or is_missing(cell):
        return None
    if cell in NAMES:
        return cell
    try:
        kind = float(cell)
    except ValueError:
        kind = 0.0
    if kind not in range(1, len(NAMES) + 1):
        raise DataError(f"{where}: the label {cell!r} is not one of 1 to {len(NAMES)} or {', '.join(NAMES)}.")
    return NAMES[int(kind) - 1]


@augmentations.register("medical.time_warp")
def time_warp(
    example: Example, rng: random.Random, *, p: Share = 0.5, strength: NotNegative = 0.1, knots: Knots = 4
) -> Example:
    """With probability p let a series run faster here and slower there; beginning, end and length stay (Um et al., 2017).

    strength  standard deviation of the logarithm of the speed
    knots     places, evenly spaced, that the speed is drawn for; between them it changes evenly

    Time never runs backwards, so waves keep their order. The label never changes; a row without values stays as it is.
    """
    values = example.values
    if values is None or rng.random() >= p or len(values) < 3:
        return example
    pace = _draw_curve(rng, strength, knots, len(values) - 1)
    moments = np.concatenate([[0.0], np.cumsum(pace)]) * (len(values) - 1) / pace.sum()
    return replace(example, values=_interpolate(values, moments))


@augmentations.register("medical.scale_amplitude")
def scale_amplitude(
    example: Example, rng: random.Random, *, p: Share = 0.5, strength: NotNegative = 0.1, knots: Knots = 4
) -> Example:
    """With probability p make a series higher here and flatter there, by a smooth positive factor (Um et al., 2017).

    strength  standard deviation of the factor's logarithm
    knots     places, evenly spaced, that the factor is drawn for; 1: the same for the whole, which a model that brings each series to
              the same height does not see

    Zero stays zero, and no wave changes its sign. The label never changes; a row without values stays as it is.
    """
    values = example.values
    if values is None or rng.random() >= p:
        return example
    factor = _draw_curve(rng, strength, knots, len(values)).reshape(-1, *[1] * (values.ndim - 1))
    return replace(example, values=(values * factor).astype(values.dtype))


def _draw_curve(rng: random.Random, strength: float, knots: int, steps: int) -> NDArray[np.float64]:
    """A positive number for each step, around 1."""
    drawn = [math.exp(rng.gauss(0, strength)) for _ in range(knots)]
    return np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, knots), drawn)


def _interpolate(values: NDArray[Any], moments: NDArray[np.float64]) -> NDArray[Any]:
    """What the series, or each of its channels, is at these moments, in steps."""
    flat = values.reshape(len(values), -1)
    steps = np.arange(len(values))
    return np.stack([np.interp(moments, steps, column) for column in flat.T], axis=1).reshape(values.shape).astype(values.dtype)
