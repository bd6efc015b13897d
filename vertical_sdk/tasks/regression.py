"""One number for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.calibration.intervals import fit_number_interval
from vertical_sdk.calibration.stacking import fit_likeliest
from vertical_sdk.card import Calibration
from vertical_sdk.errors import DataError
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks.task import UNCALIBRATED, Floats, Task
from vertical_sdk.types import Example, LabelSpace, Prediction, SeriesLayout, Target

__all__ = ["REGRESSION", "Regression"]


@dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """One number for each row, with a conformal interval."""

    numeric: bool = True

    def encode_target(self, target: Target, labels: LabelSpace | None) -> float:
        """The number."""
        if not isinstance(target, int | float):
            raise DataError(f"a {self.name} target must be a number, not {target!r}.")
        return float(target)

    def references(self, rows: Sequence[Example], labels: LabelSpace | None) -> Floats:
        """Numbers (rows,)."""
        for row in rows:
            if not isinstance(row.target, int | float):
                raise DataError(f"row {row.id}: the target must be a number, not {row.target!r}.")
        return np.array([row.target for row in rows], dtype=np.float64)

    def decode(self, raw: NDArray[Any], calibration: Calibration = UNCALIBRATED, rows: Sequence[Example] = ()) -> Outputs:
        """Numbers (rows,), and quantiles (rows, 3) with the interval if it was fitted; raw (rows, 1)."""
        values = np.asarray(raw[:, 0], dtype=np.float64)
        bounds = [values, *(values + sign * width for width in calibration.widths for sign in (-1, 1))]
        return Outputs(values=values, quantiles=np.stack(bounds, axis=1) if calibration.widths else None)

    def predictions(self, outputs: Outputs) -> Floats:
        """Numbers (rows,)."""
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
        """The width of the interval."""
        return fit_number_interval(raw[:, 0], self.references(rows, labels))

    def evidence(self, outputs: Outputs) -> Floats:
        """Numbers (rows, 1)."""
        return self.predictions(outputs)[:, None].astype(np.float64)

    def raw_evidence(self, raw: NDArray[Any], rows: Sequence[Example] = (), calibration: Calibration = UNCALIBRATED) -> Floats:
        """The raw numbers (rows, 1)."""
        return np.asarray(raw, dtype=np.float64)

    def stack(self, systems: Sequence[Floats], truth: Any) -> tuple[Floats, Floats]:
        """The weights of the least squared error, and one bias."""
        spread = float(np.std(truth)) or 1.0

        def surprise(pooled: Floats) -> float:
            return 0.5 * float((((pooled[:, 0] - truth) / spread) ** 2).mean())

        return fit_likeliest(systems, surprise, 1, lambda free: free * spread)

    def to_predictions(self, outputs: Outputs, labels: LabelSpace | None, cut: Sequence[int], adapter: str) -> list[Prediction]:
        """The number and its interval."""
        values = self.predictions(outputs)
        bounds = [None] * len(values) if outputs.quantiles is None else [(float(b[1]), float(b[2])) for b in outputs.quantiles]
        return [
            Prediction(label=float(value), truncated=tokens, adapter=adapter, interval=bound)
            for value, tokens, bound in zip(values, cut, bounds, strict=True)
        ]


REGRESSION = Regression(name="regression", default_loss="squared_error", default_metrics=("mae", "rmse", "r2"))
