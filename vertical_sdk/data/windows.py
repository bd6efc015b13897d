"""Series into rows: a row is a moment, with what was measured before it and what came after it, of all channels at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.data.account import Tally
from vertical_sdk.data.read import Missing
from vertical_sdk.errors import DataError
from vertical_sdk.types import Example, SeriesLayout

__all__ = ["DENSEST", "OFF", "Numbers", "add_seconds", "cut_windows", "find_pace", "parse_time", "place_on_grid"]

Numbers = NDArray[np.float32]
DENSEST = 1 << 27
"""Values that a series may have once its missing steps are filled in."""
OFF = 0.01
"""Share of a step that a time may lie beside the grid."""


def parse_time(text: object, where: str, column: str) -> datetime:
    """A cell as a time without a zone; one with a zone as the time in UTC.

    Raises DataError for what is no ISO 8601.
    """
    try:
        moment = datetime.fromisoformat(str(text).strip().replace("Z", "+00:00"))
    except ValueError:
        raise DataError(
            f"{where}: column {column!r} holds {str(text)[:40]!r}; a time such as 2016-10-01 07:00:00 is needed."
        ) from None
    return moment if moment.tzinfo is None else moment.astimezone(timezone.utc).replace(tzinfo=None)


def find_pace(several: Iterable[Sequence[datetime]]) -> float | None:
    """Seconds between two steps that most neighbours in time have, the shortest where two are as common; None for single times."""
    apart = Counter((later - earlier).total_seconds() for times in several for earlier, later in pairwise(sorted(set(times))))
    return min(apart, key=lambda seconds: (-apart[seconds], seconds), default=None)


def place_on_grid(
    times: Sequence[datetime], values: Numbers, seconds: float, places: Sequence[str]
) -> tuple[datetime, Numbers, dict[str, int]]:
    """Steps at even distances from times that may be missing, double or out of order.

    values  (rows, channels), places where each row stands, for messages

    Returns the first time, (steps, channels) with NaN where nothing was measured, and counts of what was mended: of rows of the same
    time the mean is taken. Raises DataError for a time between two steps.
    """
    first = min(times)
    steps = np.array([(time - first).total_seconds() / seconds for time in times])
    at = np.rint(steps).astype(np.int64)
    odd = np.flatnonzero(np.abs(steps - at) > OFF)
    if len(odd):
        raise DataError(
            f"{places[odd[0]]}: {times[odd[0]].isoformat()} is no whole number of steps of {seconds:g} seconds after "
            f"{first.isoformat()}. Series must be measured at even distances: resample them, or set seconds to their pace."
        )
    if (int(at.max()) + 1) * values.shape[1] > DENSEST:
        raise DataError(
            f"{places[int(at.argmax())]}: {times[int(at.argmax())].isoformat()} is too far after {first.isoformat()} for steps of "
            f"{seconds:g} seconds."
        )
    total = np.zeros((int(at.max()) + 1, values.shape[1]))
    count = np.zeros_like(total)
    known = ~np.isnan(values)
    np.add.at(total, at, np.where(known, values, 0.0))
    np.add.at(count, at, known)
    grid = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0).astype(np.float32)
    different = len(set(at.tolist()))
    return first, grid, {"steps missing": len(grid) - different, "rows of the same time merged": len(times) - different}


def cut_windows(
    values: Numbers,
    start: datetime,
    layout: SeriesLayout,
    missing: Missing,
    tally: Tally,
    *,
    stride: int = 1,
    block: float | None = None,
    series: str | None = None,
    marks: NDArray[np.bool_] | None = None,
) -> tuple[list[Example], int]:
    """Rows whose values and targets are views of `values` (steps, channels), and how many there would be if all were measured.

    start    the time of the first step
    missing  "keep": rows up to the last step, whose target is NaN where the future is not known, or nothing; else only rows of
             which something is known before and after. `tally` counts the others
    stride   steps from one row to the next
    block    seconds that a group spans; None where the whole series is one
    series   its name, where there are several; stands in ids, in the groups and in the record
    marks    (steps,) anomalies: the record says whether the step ahead is one; rows with one in sight are not learned from
    """
    history, horizon = layout.history, layout.horizon
    ends = range(history - 1, len(values) - horizon, stride)
    if missing == "keep":
        ends = range((len(values) - history) % stride + history - 1, len(values), stride)
    dark = np.asarray(np.isnan(values).all(axis=1))
    rows = []
    for end in ends:
        moment = start + timedelta(seconds=end * layout.seconds)
        time = moment.isoformat()
        name = time if series is None else f"{series} {time}"
        behind, before = slice(end - history + 1, end + 1), slice(end + 1, end + 1 + horizon)
        nothing_behind, nothing_ahead = dark[behind].all(), dark[before].all()
        if missing != "keep" and (nothing_behind or nothing_ahead):
            tally.drop(name, "nothing measured before it" if nothing_behind else "nothing measured after it")
            continue
        ahead = values[before]
        if 0 < len(ahead) < horizon:
            ahead = np.pad(ahead, ((0, horizon - len(ahead)), (0, 0)), constant_values=np.nan)
        record: tuple[tuple[str, str | float], ...] = () if series is None else (("series", series),)
        marked = False
        if marks is not None:
            marked = bool(marks[behind.start : before.stop].any())
            record += (("anomaly", float(marks[before].any())),)
        rows.append(
            Example(
                id=name,
                values=values[behind],
                target=None if nothing_ahead else ahead,
                time=time,
                group=" ".join(part for part in (series, _find_block(moment, block)) if part) or None,
                only="evaluate" if marked else None,
                record=record,
            )
        )
    return rows, len(ends)


def add_seconds(time: str, seconds: float) -> str:
    """An ISO time and so many seconds."""
    return (datetime.fromisoformat(time) + timedelta(seconds=seconds)).isoformat()


def _find_block(moment: datetime, seconds: float | None) -> str | None:
    """The block of time that a moment is in; rows of one block are alike, and the bootstrap draws them together."""
    if seconds is None:
        return None
    year = datetime(moment.year, 1, 1)
    number = (moment - year).total_seconds() // seconds
    return (year + timedelta(seconds=number * seconds)).isoformat()
