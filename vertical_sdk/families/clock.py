"""What the specialist of series and the forecasting baselines share: the clock, gaps, and which channels are near."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vertical_sdk.types import DAY, WEEK, SeriesLayout

__all__ = ["DAY", "SMOOTH", "STEADY", "WEEK", "carried", "neighbours", "since_monday"]

STEADY = 4
"""Weeks of rows from which the usual course is one of the week, not of the day."""
SMOOTH = 1_800.0
"""Seconds to both sides over which what is usual at a time is averaged, as single steps have few rows."""


def since_monday(time: str) -> float:
    """Seconds since 0:00 of a Monday, in the clock that the time was written in, or in UTC where it has a zone.

    Raises ValueError for what is no ISO 8601.
    """
    moment = datetime.fromisoformat(time.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() + 3 * DAY


def neighbours(layout: SeriesLayout) -> NDArray[np.float64] | None:
    """(channels, channels) weights of the channels near by, without a channel itself; rows sum to 1, or 0. None without a graph."""
    if layout.graph is None:
        return None
    near = np.array(layout.graph, dtype=np.float64).clip(0)
    np.fill_diagonal(near, 0)
    total = near.sum(axis=1, keepdims=True)
    return np.divide(near, total, out=np.zeros_like(near), where=total > 0) if total.any() else None


def carried(values: Tensor, usual: Tensor) -> Tensor:
    """Each gap in (rows, steps, channels) filled with what stood before it; in front, with what comes first, or is usual."""
    known = ~values.isnan()
    steps = torch.arange(values.shape[1], device=values.device)[None, :, None]
    before = torch.where(known, steps, -1).cummax(dim=1).values
    after = torch.where(known, steps, values.shape[1]).flip(1).cummin(dim=1).values.flip(1)
    source = torch.where(before >= 0, before, after.clamp_max(values.shape[1] - 1))
    filled: Tensor = torch.where(known.any(dim=1, keepdim=True), values.nan_to_num().gather(1, source), usual)
    return filled
