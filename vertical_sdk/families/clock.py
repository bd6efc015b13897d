"""Shared parts of the series specialist and the forecasting baselines: the clock, gaps, and neighbour channels."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vertical_sdk.types import DAY, SeriesLayout

__all__ = ["SMOOTHING_SECONDS", "WEEKLY_FROM", "fill_gaps", "neighbour_weights", "seconds_since_monday"]

WEEKLY_FROM = 4
"""Weeks of rows from which the seasonal mean has the period of a week, not of a day."""
SMOOTHING_SECONDS = 1_800.0
"""Seconds on both sides over which the seasonal mean of a time is averaged, as single steps have few rows."""


def seconds_since_monday(time: str) -> float:
    """Convert a time to seconds since 0:00 of a Monday, in the clock of the time itself: its zone is not converted.

    Raises ValueError for a time that is not in ISO 8601.
    """
    moment = datetime.fromisoformat(time.replace("Z", "+00:00"))
    return moment.replace(tzinfo=timezone.utc).timestamp() + 3 * DAY


def neighbour_weights(layout: SeriesLayout) -> NDArray[np.float64] | None:
    """Compute the weights of each channel's neighbours in the graph: (channels, channels). None means there is no graph.

    A channel is not its own neighbour. Rows sum to 1, or to 0 for a channel without neighbours.
    """
    if layout.graph is None:
        return None
    weights = np.array(layout.graph, dtype=np.float64).clip(0)
    np.fill_diagonal(weights, 0)
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0) if total.any() else None


def fill_gaps(values: Tensor, default: Tensor) -> Tensor:
    """Fill each gap in (rows, steps, channels) with the value before it; at the start with the first value, or the default."""
    known = ~values.isnan()
    steps = torch.arange(values.shape[1], device=values.device)[None, :, None]
    before = torch.where(known, steps, -1).cummax(dim=1).values
    after = torch.where(known, steps, values.shape[1]).flip(1).cummin(dim=1).values.flip(1)
    source = torch.where(before >= 0, before, after.clamp_max(values.shape[1] - 1))
    filled: Tensor = torch.where(known.any(dim=1, keepdim=True), values.nan_to_num().gather(1, source), default)
    return filled
