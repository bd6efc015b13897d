"""The next steps of a series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.calibration.intervals import fit_forecast_intervals, widen_quantiles
from vertical_sdk.calibration.stacking import fit_shares
from vertical_sdk.card import Calibration
from vertical_sdk.errors import DataError
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks.task import UNCALIBRATED, Floats, Task, Verb
from vertical_sdk.types import Example, LabelSpace, Modality, Numbers, SeriesLayout, Target

__all__ = ["FORECASTING", "Forecasting", "encode_steps"]


def encode_steps(target: Target, task: str) -> Numbers:
    """The steps that follow, (steps, channels) float32.

    Raises DataError for a target that is not an array.
    """
    if not isinstance(target, np.ndarray):
        raise DataError(f"the target of {task} must be an array (steps, channels), not {target!r}.")
    return target.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Forecasting(Task):
    """The next steps of every channel, as quantiles with the median first."""

    modalities: tuple[Modality, ...] = ("series",)
    verb: Verb = "forecast"

    def encode_target(self, target: Target, labels: LabelSpace | None) -> Numbers:
        """The steps that follow, (steps, channels)."""
        return encode_steps(target, self.name)

    def references(self, rows: Sequence[Example], labels: LabelSpace | None) -> Floats:
        """Steps that followed, (rows, steps, channels), NaN if unknown."""
        return np.stack([np.asarray(row.target, dtype=np.float64) for row in rows])

    def decode(self, raw: NDArray[Any], calibration: Calibration = UNCALIBRATED, rows: Sequence[Example] = ()) -> Outputs:
        """Medians (rows, steps, channels), and calibrated quantiles if there are any."""
        quantiles = widen_quantiles(np.asarray(raw, dtype=np.float64), calibration.widths)
        return Outputs(values=quantiles[..., 0], quantiles=quantiles if quantiles.shape[-1] > 1 else None)

    def predictions(self, outputs: Outputs) -> Floats:
        """Medians (rows, steps, channels)."""
        if outputs.values is None:
            raise ValueError(f"these outputs are not those of {self.name}")
        return outputs.values

    def calibrate(
        self,
        raw: NDArray[Any],
        rows: Sequence[Example],
        labels: LabelSpace | None,
        recipe: Recipe,
        layout: SeriesLayout | None = None,
    ) -> Calibration:
        """How far the outer quantiles move at each step of each channel; members that answer without the adapter have none."""
        levels = recipe.series.quantiles if raw.shape[-1] > 1 else ()
        return fit_forecast_intervals(raw, self.references(rows, labels), levels)

    def evidence(self, outputs: Outputs) -> Floats:
        """Medians (rows, steps, channels)."""
        return self.predictions(outputs).astype(np.float64)

    def raw_evidence(self, raw: NDArray[Any], rows: Sequence[Example] = (), calibration: Calibration = UNCALIBRATED) -> Floats:
        """The adapter's medians."""
        return np.asarray(raw, dtype=np.float64)[..., 0]

    def pooled_raw(self, raw: NDArray[Any] | None, pooled: Floats) -> NDArray[np.float32]:
        """The adapter's quantiles, moved with the median; without the adapter the median alone."""
        if raw is None:
            return np.asarray(pooled[..., None].astype(np.float32))
        return np.asarray((raw + (pooled - raw[..., 0])[..., None]).astype(np.float32))

    def stack(self, systems: Sequence[Floats], truth: Any) -> tuple[Floats, Floats]:
        """The shares of the mean with the least absolute error."""
        return fit_shares(systems, truth), np.zeros(1)


FORECASTING = Forecasting(
    name="forecasting",
    default_loss="masked_mae",
    default_metrics=("forecast_mae", "forecast_rmse", "forecast_mape"),
    cheap_baseline="persistence",
)
