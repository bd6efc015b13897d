"""The reader of road sensors: speeds of many at once, and how near they are to each other on the road."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vertical_sdk.catalog import readers
from vertical_sdk.data.formats import FileOptions, read_file
from vertical_sdk.data.read import Missing, Table
from vertical_sdk.data.series import Count, Resampling, Seconds, build_series
from vertical_sdk.errors import DataError, did_you_mean
from vertical_sdk.types import TaskName

__all__ = ["sensors"]


@readers.register("traffic.sensors", tasks=("forecasting", "anomaly"))
def sensors(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
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
    """The general reader `series` for the layout of METR-LA in the T-GCN repository: a header of sensors' names, then a line a step.

    columns        time: the file's column of times, if it has one
    speeds         the file inside the source, if that is a folder; adjacency: the matrix beside it
    seconds, start length of a step, and the time of the first one, as the file has no times
    block          two hours

    All others are as the general reader has them. A speed of exactly 0 means that nothing was measured. Raises DataError, with file
    and line, for a cell that is not a number, a matrix of another size, or too few steps.
    """
    readers.require("traffic.sensors", task, "data.reader")
    file = path / speeds if path.is_dir() else path
    if not file.is_file():
        there = sorted(p.name for p in path.iterdir() if p.is_file())
        raise DataError(
            f"{path}: has no {speeds!r}.{did_you_mean(speeds, there)} It has {', '.join(there[:10]) or 'no files'}."
        )
    resampling = Resampling(
        history=history,
        horizon=horizon,
        stride=stride,
        seconds=seconds,
        start=start,
        zero_is_missing=zero_is_missing,
        block=block,
        adjacency=adjacency,
    )
    return build_series(read_file(file, FileOptions(header=1)), columns, task, missing, resampling, reader="traffic.sensors")
