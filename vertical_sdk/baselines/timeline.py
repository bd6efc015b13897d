"""Shared parts of the forecasting baselines: the layout of the rows, and all rows joined on one timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vertical_sdk.baselines.fitted import Arrays, take_array
from vertical_sdk.errors import DataError
from vertical_sdk.families import clock
from vertical_sdk.families.clock import seconds_since_monday
from vertical_sdk.types import Example, SeriesLayout, check_layout

__all__ = [
    "Timeline",
    "build_timeline",
    "fill_gaps",
    "layout_from_settings",
    "layout_settings",
    "read_histories",
    "read_layout",
    "read_moments",
    "take_neighbours",
]

Floats = NDArray[np.float64]
LONGEST = 1 << 28
"""Largest number of values in a timeline."""


def read_layout(base: Any, rows: Sequence[Example]) -> SeriesLayout:
    """Return the layout of the specialist in `base`, or the layout that the rows show, without a graph.

    Raises DataError for rows that do not contain series, or do not show the time between two steps.
    """
    known = getattr(getattr(base, "specialist", None), "layout", None)
    if isinstance(known, SeriesLayout):
        return known
    if not rows:
        raise DataError("The baseline cannot be fitted: there are no training rows. Check the split in the recipe.")
    values, target = rows[0].values, rows[0].target
    if values is None or not isinstance(target, np.ndarray):
        raise DataError(f"Row {rows[0].id} has no series, or no steps after it to forecast. This baseline is for forecasting.")
    steps = np.diff(np.unique(read_moments(rows)))
    if not len(steps):
        raise DataError("All rows have the same time, so the time between two steps is not known. Check data.columns.")
    channels = tuple(str(i) for i in range(target.shape[1]))
    return SeriesLayout(channels, float(steps.min()), len(values), len(target))


def layout_settings(layout: SeriesLayout) -> dict[str, Any]:
    """Return what a stored baseline needs of the layout to read rows. The graph is stored by the baselines that use it."""
    return {"channels": layout.channels, "seconds": layout.seconds, "history": layout.history, "horizon": layout.horizon}


def layout_from_settings(settings: dict[str, Any]) -> SeriesLayout:
    """Restore a layout from `layout_settings`.

    Raises ValueError for one that no series has.
    """
    layout = SeriesLayout(tuple(settings["channels"]), settings["seconds"], settings["history"], settings["horizon"])
    check_layout(layout)
    return layout


def take_neighbours(arrays: Arrays, channels: int) -> Floats:
    """Take the weights of the neighbour channels from a stored baseline: (channels, channels), or (0, 0) without a graph."""
    size = channels if arrays["neighbours"].size else 0
    return take_array(arrays, "neighbours", size, size, least=0)


def read_moments(rows: Sequence[Example]) -> Floats:
    """Read the time of each row, in seconds since a Monday 0:00 in the clock of the rows: (rows,).

    Raises DataError for a row without a time.
    """
    return np.array([_read_moment(row) for row in rows])


def _read_moment(row: Example) -> float:
    try:
        return seconds_since_monday(row.time or "")
    except ValueError:
        raise DataError(
            f"Row {row.id} has the time {row.time!r}, which is not in ISO 8601. Write it as 2024-01-31T08:05:00."
        ) from None


def read_histories(rows: Sequence[Example], layout: SeriesLayout) -> Floats:
    """Read the series of each row: (rows, history, channels), NaN if unknown.

    Raises DataError for a series of another shape.
    """
    shape = (layout.history, len(layout.channels))
    histories = np.empty((len(rows), *shape))
    for i, row in enumerate(rows):
        values = None if row.values is None else np.asarray(row.values)
        values = values[:, None] if values is not None and values.ndim == 1 else values
        if values is None or values.shape != shape:
            actual = "no series" if values is None else f"a series of {' x '.join(map(str, values.shape))}"
            raise DataError(f"Row {row.id} has {actual}; {shape[0]} steps of {shape[1]} channels are needed.")
        histories[i] = values
    return histories


@dataclass(frozen=True, eq=False)
class Timeline:
    """The values of all rows, joined by their times.

    values  (steps, channels), NaN for values that no row contains
    first   moment of the first step, see `read_moments`
    """

    values: Floats
    first: float

    def mean_and_spread(self) -> tuple[Floats, Floats]:
        """Compute means and standard deviations of the channels: (channels,) each.

        A spread is never quite 0. A channel without any measurement has mean 0 and a small spread.
        """
        known = ~np.isnan(self.values)
        count = known.sum(axis=0).clip(1)
        mean = np.nan_to_num(self.values).sum(axis=0) / count
        spread = np.sqrt(np.square(np.where(known, self.values - mean, 0.0)).sum(axis=0) / count)
        return mean, np.maximum(spread, 1e-6 + 1e-3 * spread.mean())


def build_timeline(rows: Sequence[Example], layout: SeriesLayout) -> Timeline:
    """Join rows on one timeline.

    Raises DataError for rows without a target, or rows too far apart.
    """
    ends = read_moments(rows)
    first = ends.min() - (layout.history - 1) * layout.seconds
    last_steps = np.rint((ends - first) / layout.seconds).astype(np.int64)
    steps = int(last_steps.max()) + layout.horizon + 1
    if steps * len(layout.channels) > LONGEST:
        raise DataError(f"The rows span {steps} steps of {layout.seconds:g} seconds, which is too many. Check their times.")
    values = np.full((steps, len(layout.channels)), np.nan)
    histories = read_histories(rows, layout)
    for row, last_step, history in zip(rows, last_steps, histories, strict=True):
        if not isinstance(row.target, np.ndarray) or row.target.shape != (layout.horizon, len(layout.channels)):
            raise DataError(
                f"Row {row.id} does not have {layout.horizon} steps of {len(layout.channels)} channels as its target."
            )
        row_values = np.concatenate([history, row.target])
        part = values[last_step - layout.history + 1 : last_step + layout.horizon + 1]
        np.copyto(part, row_values, where=~np.isnan(row_values))
    return Timeline(values, float(first))


def fill_gaps(values: Floats, default: Floats) -> Floats:
    """Fill each gap in (rows, steps, channels) with the value before it; at the start with the first value, or the default."""
    filled: Floats = clock.fill_gaps(torch.tensor(values), torch.tensor(default)).numpy()
    return filled
