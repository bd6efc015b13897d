"""The persistence forecast: the last value, repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.baselines.fitted import Arrays, decode_json, encode_json, take_array
from vertical_sdk.baselines.timeline import (
    build_timeline,
    fill_gaps,
    layout_from_settings,
    layout_settings,
    read_histories,
    read_layout,
)
from vertical_sdk.catalog import baselines
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Example, LabelSpace, SeriesLayout, TaskName

__all__ = ["Persistence", "persistence"]


@dataclass(frozen=True, eq=False)
class Persistence:
    """Forecasts the last measured value; `mean` (channels,) for a channel without any in the history."""

    layout: SeriesLayout
    mean: NDArray[np.float64]

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Repeat the last value for all steps: (rows, horizon, channels)."""
        last = fill_gaps(read_histories(rows, self.layout), self.mean[None, None])[:, -1]
        return Outputs(values=np.repeat(last[:, None], self.layout.horizon, axis=1))

    def to_arrays(self) -> Arrays:
        """Return the means and the layout."""
        return {"settings": encode_json(layout_settings(self.layout)), "mean": self.mean}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Persistence:
        """Restore the baseline from `to_arrays`."""
        layout = layout_from_settings(decode_json(arrays["settings"]))
        return cls(layout, take_array(arrays, "mean", len(layout.channels)))


@baselines.register("persistence", tasks=("forecasting",), title="the last value", saves_as=Persistence)
def persistence(train: Sequence[Example], labels: LabelSpace | None, task: TaskName, seed: int, base: Any) -> Persistence:
    """Forecast that nothing changes: the last measured value, for all steps.

    Raises DataError if there are no training rows.
    """
    layout = read_layout(base, train)
    return Persistence(layout, build_timeline(train, layout).mean_and_spread()[0])
