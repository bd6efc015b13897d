"""The reader of hourly traffic volumes of one road, in the layouts of the Metro Interstate data."""

from __future__ import annotations

import gzip
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vertical_sdk.catalog import readers
from vertical_sdk.data.formats import BROKEN_ZIP, read_file
from vertical_sdk.data.read import Missing, Table
from vertical_sdk.data.series import Count, Resampling, build_series
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import TaskName

__all__ = ["interstate"]

HOUR = 3600.0
TIMES = ("date_time", "datetime")
VOLUME = "traffic_volume"
LARGEST = 64 << 20
"""Bytes that the table inside an archive may have."""


@readers.register("traffic.interstate", tasks=("forecasting", "anomaly"))
def interstate(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    history: Count = 168,
    horizon: Count = 24,
    stride: Count = 1,
) -> Table:
    """Vehicles an hour on Interstate 94 between Minneapolis and St Paul: columns date_time (or datetime) and traffic_volume.

    path     a CSV, as UCI has it or as the autots wheel does; or that CSV in a zip or gzip file
    history  hours before a row's moment; horizon: hours after it
    stride   hours from one row to the next

    Hours that are missing are left unknown; of an hour that appears several times, as for each kind of weather, the mean is
    taken; both are counted. Weather and holidays are not read. Rows of one day are one group. Raises DataError, with file and line, for
    another header, or a cell that is not a number or time.
    """
    readers.require("traffic.interstate", task, "data.reader")
    if columns:
        raise RecipeError("traffic.interstate reads a fixed layout. Leave data.columns out.")
    with tempfile.TemporaryDirectory() as folder:
        table = _unpack_file(path, Path(folder))
        try:
            rows = replace(read_file(table), path=path)
        except DataError as error:
            raise DataError(str(error).replace(str(table), str(path))) from None
    time = next((name for name in TIMES if name in rows.columns), None)
    if time is None or VOLUME not in rows.columns:
        raise DataError(
            f"{path}: its columns are {', '.join(rows.columns[:12])}; {' or '.join(TIMES)} and {VOLUME} are needed."
        )
    resampling = Resampling(history=history, horizon=horizon, channels=(VOLUME,), stride=stride, seconds=HOUR)
    return build_series(rows, {"time": time}, task, missing, resampling, reader="traffic.interstate")


def _unpack_file(path: Path, folder: Path) -> Path:
    """The table itself, or a copy of what is packed in it.

    Raises DataError for an archive that is damaged, or has several tables.
    """
    inner = path
    for depth in range(2):  # UCI's zip has a gzip file in it
        with inner.open("rb") as file:
            head = file.read(4)
        if not (head == b"PK\x03\x04" or head.startswith(b"\x1f\x8b")):
            break
        content = _find_member(inner, path) if head == b"PK\x03\x04" else _gunzip(inner, path)
        inner = folder / f"table{depth}.csv"
        inner.write_bytes(content)
    return inner


def _find_member(archive: Path, shown: Path) -> bytes:
    try:
        with zipfile.ZipFile(archive) as file:
            entries = [entry for entry in file.infolist() if not entry.is_dir() and not entry.filename.startswith("__MACOSX")]
            if len(entries) != 1:
                raise DataError(f"{shown}: has {len(entries)} files inside; one table is needed. Unpack it and name the file.")
            if entries[0].file_size > LARGEST:
                raise DataError(f"{shown}: its table is over {LARGEST >> 20} MB, far more than these data have.")
            return file.read(entries[0])
    except BROKEN_ZIP as error:
        raise DataError(f"{shown}: the archive is cut or damaged ({error}). Download it again.") from None


def _gunzip(packed: Path, shown: Path) -> bytes:
    try:
        with gzip.open(packed) as file:
            content = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{shown}: the archive is cut or damaged ({error}). Download it again.") from None
    if len(content) > LARGEST:
        raise DataError(f"{shown}: its table is over {LARGEST >> 20} MB, far more than these data have.")
    return content
