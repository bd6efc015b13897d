"""Series into rows: a row is a moment, with what was measured before it and what came after it, of all channels at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.read import Missing
from vertical_sdk.errors import DataError
from vertical_sdk.types import Example, Panel

__all__ = ["DENSEST", "Numbers", "moment_in", "on_grid", "windows"]

Numbers = NDArray[np.float32]
DENSEST = 1 << 27
"""Values that a series may have once its missing steps are filled in."""


def moment_in(text: object, where: str, column: str) -> datetime:
    """A cell as a time without a zone.

    Raises DataError for what is no ISO 8601.
    """
    try:
        return datetime.fromisoformat(str(text).strip().replace("Z", "+00:00")).replace(tzinfo=None)
    except ValueError:
        raise DataError(
            f"{where}: column {column!r} holds {str(text)[:40]!r}; a time such as 2016-10-01 07:00:00 is needed."
        ) from None


def on_grid(
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
    odd = np.flatnonzero(np.abs(steps - at) > 1e-6)
    if len(odd):
        raise DataError(
            f"{places[odd[0]]}: {times[odd[0]].isoformat()} is no whole number of steps of {seconds:g} seconds after "
            f"{first.isoformat()}. Series must be measured at even distances."
        )
    if (int(at.max()) + 1) * values.shape[1] > DENSEST:
        raise DataError(
            f"{places[int(at.argmax())]}: {times[int(at.argmax())].isoformat()} is too far after {first.isoformat()}."
        )
    total = np.zeros((int(at.max()) + 1, values.shape[1]))
    count = np.zeros_like(total)
    known = ~np.isnan(values)
    np.add.at(total, at, np.where(known, values, 0.0))
    np.add.at(count, at, known)
    grid = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0).astype(np.float32)
    different = len(set(at.tolist()))
    return first, grid, {"steps missing": len(grid) - different, "rows of the same time merged": len(times) - different}


def windows(
    values: Numbers,
    start: datetime,
    panel: Panel,
    path: Path,
    missing: Missing,
    *,
    stride: int,
    block: float,
    notes: Mapping[str, int],
) -> tuple[tuple[Example, ...], StepAccount]:
    """Rows whose values and targets are views of `values` (steps, channels).

    missing  "keep": rows up to the last step, whose target is NaN where the future is not known, or nothing; else only rows of
             which something is known before and after
    stride   steps from one row to the next; block: seconds that a group spans

    Raises DataError where there are too few steps.
    """
    history, horizon = panel.history, panel.horizon
    needed = history + (0 if missing == "keep" else horizon)
    if len(values) < needed:
        raise DataError(
            f"{path}: has {len(values)} steps; {needed} are needed for one row ({history} before"
            f"{'' if missing == 'keep' else f' and {horizon} after'} its moment). Take a longer series, or shorter history and horizon."
        )
    tally = Tally("read")
    ends = range((len(values) - history) % stride + history - 1, len(values), stride)
    if missing != "keep":
        ends = range(history - 1, len(values) - horizon, stride)
    dark = np.asarray(np.isnan(values).all(axis=1))
    rows = []
    for end in ends:
        moment = start + timedelta(seconds=end * panel.seconds)
        name = moment.isoformat()
        nothing_behind = dark[end - history + 1 : end + 1].all()
        nothing_ahead = dark[end + 1 : end + 1 + horizon].all()
        if nothing_behind or (nothing_ahead and missing != "keep"):
            tally.drop(name, "nothing measured before it" if nothing_behind else "nothing measured after it")
            continue
        ahead = values[end + 1 : end + 1 + horizon]
        if 0 < len(ahead) < horizon:
            ahead = np.pad(ahead, ((0, horizon - len(ahead)), (0, 0)), constant_values=np.nan)
        rows.append(
            Example(
                id=name,
                values=values[end - history + 1 : end + 1],
                target=None if nothing_ahead else ahead,
                time=name,
                group=_block(moment, block),
            )
        )
    if not rows:
        raise DataError(f"{path}: in none of its {len(ends)} rows anything is measured both before and after.")
    tally.notes = {name: count for name, count in notes.items() if count}
    return tuple(rows), tally.close(len(ends), len(rows))


def _block(moment: datetime, seconds: float) -> str:
    """The block of time that a moment is in; rows of one block are alike, and the bootstrap draws them together."""
    day = datetime(moment.year, 1, 1)
    number = (moment - day).total_seconds() // seconds
    return (day + timedelta(seconds=number * seconds)).isoformat()
