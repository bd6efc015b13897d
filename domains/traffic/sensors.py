"""The reader of road sensors: speeds of many at once, and how near they are to each other on the road."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import readers
from vertical_sdk.data.formats import Rows, read_file
from vertical_sdk.data.read import Missing, Table, number_in
from vertical_sdk.errors import DataError, RecipeError, did_you_mean
from vertical_sdk.types import Panel, Task

from .windows import Numbers, moment_in, on_grid, windows

__all__ = ["adjacency_in", "numbers_in", "sensors"]

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
FORECASTS: tuple[Task, ...] = ("forecasting", "anomaly")


@readers.register("traffic.sensors")
def sensors(
    path: Path,
    columns: Mapping[str, str],
    task: Task,
    missing: Missing = "drop",
    *,
    speeds: str = "los_speed.csv",
    adjacency: str | None = "los_adj.csv",
    history: Count = 12,
    horizon: Count = 12,
    stride: Count = 1,
    zero_is_missing: bool = True,
    seconds: Seconds = 300.0,
    start: str = "2012-03-01T00:00:00",
    block: Seconds = 7200.0,
) -> Table:
    """Sensors side by side: a header of their names, then one line a step, oldest first; and a matrix of how near they are.

    The layout is that of METR-LA in the T-GCN repository. Each row is a moment, with `history` steps of all sensors before it and
    `horizon` after it.

    columns          time: the file's column of times, where it has one; steps that are missing are then counted and left unknown
    speeds           the file inside the source, where that is a folder
    adjacency        the matrix beside it: as many lines and columns as there are sensors, no header, 0 where two are not connected;
                     None where there is none. Rows to predict are read without it
    stride           steps from one row to the next
    zero_is_missing  a speed of exactly 0 means that nothing was measured, as in METR-LA
    seconds, start   of a step, and the time of the first one; not used where the file has times
    block            seconds of a group: rows near in time are alike, so they are resampled together

    Raises DataError, with file and line, for a cell that is no number, a matrix of another size, or too few steps.
    """
    if task not in FORECASTS:
        raise RecipeError(f"traffic.sensors: its rows are for {' and '.join(FORECASTS)}, not for {task}.")
    if set(columns) - {"time"}:
        raise RecipeError("traffic.sensors: of data.columns it knows only time; all others are sensors.")
    file = path / speeds if path.is_dir() else path
    if not file.is_file():
        there = sorted(p.name for p in path.iterdir() if p.is_file())
        raise DataError(
            f"{path}: has no {speeds!r}.{did_you_mean(speeds, there)} It has {', '.join(there[:10]) or 'no files'}."
        )
    rows = read_file(file)
    names = tuple(name for name in rows.columns if name != columns.get("time"))
    if all(_is_decimal(name) for name in names):
        raise DataError(
            f"{file}:1: the header {', '.join(names[:3])}, ... is a line of measurements; sensors' names are needed."
        )
    values = numbers_in(rows, names)
    notes = {"zeros taken as missing": int((values == 0).sum()) if zero_is_missing else 0}
    if zero_is_missing:
        values[values == 0] = np.nan
    if "time" in columns:
        if columns["time"] not in rows.columns:
            raise DataError(f"{file}: no column {columns['time']!r}.{did_you_mean(columns['time'], rows.columns)}")
        places = [rows.at(i) for i in range(len(rows.rows))]
        times = [moment_in(row[columns["time"]], at, columns["time"]) for row, at in zip(rows.rows, places, strict=True)]
        begin, values, mended = on_grid(times, values, seconds, places)
        notes |= mended
    else:
        begin = moment_in(start, "data.reader", "start")
    notes["cells without a number"] = int(np.isnan(values).sum())
    panel = Panel(names, seconds, history, horizon)
    if adjacency is not None:
        graph = file.parent / adjacency
        if graph.is_file():
            panel = replace(panel, graph=adjacency_in(graph, len(names), file))
        elif missing == "drop":
            raise DataError(
                f"{graph}: no such file; it tells how near the sensors of {file.name} are. Set data.reader.adjacency to its name, or to "
                "null to do without."
            )
    kept, account = windows(values, begin, panel, file, missing, stride=stride, block=block, notes=notes)
    said = f"{rows.format}: {len(values)} steps of {len(names)} sensors{'' if panel.graph is None else ' with their graph'}"
    return Table(kept, said, account=account, panel=panel)


def numbers_in(rows: Rows, names: Sequence[str]) -> Numbers:
    """(rows, names) of a file's cells; NaN for empty ones.

    Raises DataError for a cell that is no finite number.
    """
    found = np.empty((len(rows.rows), len(names)), dtype=np.float32)
    for index, row in enumerate(rows.rows):
        cells = [row.get(name) for name in names]
        try:
            found[index] = [float(cell) if cell not in {None, ""} else math.nan for cell in cells]
        except (TypeError, ValueError):
            found[index] = [_cell(cell, rows.at(index), name) for cell, name in zip(cells, names, strict=True)]
        if np.isinf(found[index]).any():
            name = names[int(np.isinf(found[index]).argmax())]
            raise DataError(f"{rows.at(index)}: column {name!r} holds {row[name]!r}; a finite number is needed.")
    return found


def adjacency_in(path: Path, size: int, beside: Path) -> NDArray[np.float32]:
    """A square matrix of numbers from 0, without a header.

    Raises DataError for another size, or a cell that is no such number.
    """
    try:
        lines = [line for line in path.read_bytes().decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte at offset {error.start} is not UTF-8. Save the file as UTF-8.") from None
    if len(lines) != size:
        raise DataError(f"{path}: has {len(lines)} lines, and {beside.name} has {size} sensors; one line for each is needed.")
    matrix = np.empty((size, size), dtype=np.float32)
    for number, line in enumerate(lines, 1):
        cells = line.split(",")
        if len(cells) != size:
            raise DataError(f"{path}:{number}: {len(cells)} fields; {size} are needed, one for each sensor of {beside.name}.")
        matrix[number - 1] = [number_in(cell.strip(), f"{path}:{number}", str(k)) for k, cell in enumerate(cells, 1)]
        if (matrix[number - 1] < 0).any():
            raise DataError(f"{path}:{number}: holds {matrix[number - 1].min():g}; how near sensors are is a number from 0.")
    return matrix


def _cell(cell: Any, where: str, column: str) -> float:
    text = "" if cell is None else str(cell).strip()
    return math.nan if text.lower() in {"", "na", "nan", "null"} else number_in(text, where, column)


def _is_decimal(name: str) -> bool:
    try:
        return not float(name).is_integer()
    except (ValueError, OverflowError):
        return False
