"""Augmentations of series: what sensors do to measurements, and holidays to the calendar. The target is never touched.

Values are changed in a copy; the row's own are views of the whole series.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import NotNegative, Share, augmentations
from vertical_sdk.types import Example, Numbers

from .routes import demand_scaling

__all__ = ["calendar_shift", "demand_scaling", "drop_sensors", "jitter", "missing_block"]


@augmentations.register("traffic.drop_sensors")
def drop_sensors(example: Example, rng: random.Random, *, p: Share = 0.1) -> Example:
    """Forget all of a sensor's history with probability p, as if it were down, but never all of them. What comes next stays."""
    values = _values_table(example)
    if values is None or values.shape[1] < 2:
        return example
    gone = np.asarray(_make_generator(rng).random(values.shape[1]) < p)
    if gone.all():
        gone[rng.randrange(len(gone))] = False
    return _replace_values(example, values, np.broadcast_to(gone, values.shape))


@augmentations.register("traffic.jitter")
def jitter(example: Example, rng: random.Random, *, share: NotNegative = 0.05) -> Example:
    """Add noise to what was measured, as sensors do. What comes next stays.

    share  standard deviation of the noise, in that of the sensor's own history in this row; a sensor that does not vary gets none
    """
    values = _values_table(example)
    if values is None or not share:
        return example
    known = ~np.isnan(values)
    count = known.sum(axis=0).clip(1)
    mean = np.nan_to_num(values).sum(axis=0) / count
    spread = np.sqrt(np.square(np.where(known, values - mean, 0.0)).sum(axis=0) / count)
    noise = _make_generator(rng).standard_normal(values.shape) * spread * share
    return replace(example, values=(values + noise).astype(values.dtype).reshape(_shape(example)))


@augmentations.register("traffic.missing_block")
def missing_block(
    example: Example, rng: random.Random, *, p: Share = 0.3, longest: Annotated[float, Field(gt=0, lt=1)] = 0.5
) -> Example:
    """With probability p forget some steps in a row of all sensors, as if the line were down. What comes next stays.

    longest  share of the history that may go; never all that was measured
    """
    values = _values_table(example)
    most = 0 if values is None else int(len(values) * longest)
    if values is None or most < 1 or rng.random() >= p:
        return example
    length = rng.randint(1, most)
    begin = rng.randint(0, len(values) - length)
    gone = np.zeros(values.shape, dtype=bool)
    gone[begin : begin + length] = True
    return _replace_values(example, values, gone)


@augmentations.register("traffic.calendar_shift")
def calendar_shift(
    example: Example, rng: random.Random, *, p: Share = 0.1, days: Annotated[int, Field(ge=1, le=3)] = 1
) -> Example:
    """With probability p say that the row was up to so many days earlier or later. Its values and what comes next stay.

    A holiday is a Monday that runs like a Sunday: a model that has seen wrong calendars learns to believe its history where the two
    contradict. The hour stays right. The row's group stays too, so copies do not wander into other blocks.
    """
    if example.time is None or rng.random() >= p:
        return example
    try:
        moment = datetime.fromisoformat(example.time.replace("Z", "+00:00"))
    except ValueError:
        return example
    moved = moment + timedelta(days=rng.choice((-1, 1)) * rng.randint(1, days))
    return replace(example, time=moved.isoformat())


def _values_table(example: Example) -> Numbers | None:
    """A series as (steps, channels); None for a row without one."""
    if (
        example.values is None
        or not np.issubdtype(np.asarray(example.values).dtype, np.floating)
        or np.ndim(example.values) > 2
    ):
        return None
    values = np.asarray(example.values)
    return values[:, None] if values.ndim == 1 else values


def _shape(example: Example) -> tuple[int, ...]:
    return () if example.values is None else example.values.shape


def _replace_values(example: Example, values: Numbers, gone: NDArray[np.bool_]) -> Example:
    """Replace the removed values by NaN; unchanged if nothing is removed or nothing would be left."""
    if not gone.any() or np.isnan(values[~gone]).all():
        return example
    return replace(example, values=np.where(gone, np.nan, values).astype(values.dtype).reshape(_shape(example)))


def _make_generator(rng: random.Random) -> np.random.Generator:
    return np.random.default_rng(rng.getrandbits(64))
