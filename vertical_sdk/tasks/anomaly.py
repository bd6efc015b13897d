"""An alarm if a value is far from its forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.calibration.alarms import compute_scores, fit_alarms, fit_threshold
from vertical_sdk.card import Calibration
from vertical_sdk.outputs import Outputs, alarm_outputs
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks.forecasting import encode_steps
from vertical_sdk.tasks.task import UNCALIBRATED, Predict, Task, Tuning, Verb
from vertical_sdk.types import Example, LabelSpace, Modality, Numbers, SeriesLayout, Target

__all__ = ["ANOMALY", "Anomaly", "is_anomaly"]


def is_anomaly(row: Example) -> bool:
    """Whether the row is marked as an anomaly."""
    return dict(row.record).get("anomaly") == 1


@dataclass(frozen=True, kw_only=True)
class Anomaly(Task):
    """An alarm if the next value is further from its forecast than normal rows are."""

    modalities: tuple[Modality, ...] = ("series",)
    verb: Verb = "monitor"

    def encode_target(self, target: Target, labels: LabelSpace | None) -> Numbers:
        """The step that follows, (1, channels)."""
        return encode_steps(target, self.name)

    def references(self, rows: Sequence[Example], labels: LabelSpace | None) -> NDArray[np.int64]:
        """1 for an anomaly, else 0, (rows,)."""
        return np.array([is_anomaly(row) for row in rows], dtype=np.int64)

    def decode(self, raw: NDArray[Any], calibration: Calibration = UNCALIBRATED, rows: Sequence[Example] = ()) -> Outputs:
        """Scores (rows,), and alarms from the threshold on."""
        widths = calibration.widths or (1.0,) * raw.shape[2]
        return alarm_outputs(compute_scores(raw, rows, widths), calibration.threshold)

    def predictions(self, outputs: Outputs) -> NDArray[np.int64]:
        """1 for an alarm, else 0, (rows,)."""
        if outputs.values is None or outputs.threshold is None:
            raise ValueError(f"these outputs are not those of {self.name}")
        return (outputs.values >= outputs.threshold).astype(np.int64)

    def answers(self, outputs: Outputs) -> Any:
        """Scores (rows,): no alarm at all may be right."""
        return outputs.values

    def calibrate(
        self,
        raw: NDArray[Any],
        rows: Sequence[Example],
        labels: LabelSpace | None,
        recipe: Recipe,
        layout: SeriesLayout | None = None,
    ) -> Calibration:
        """Usual errors and the threshold, from the rows without an anomaly."""
        assert layout is not None
        normal = self.references(rows, None) == 0
        chosen = [row for row, kept in zip(rows, normal, strict=True) if kept]
        return fit_alarms(raw[normal], chosen, layout.seconds, len(layout.channels), recipe.series.alarms)

    def tune(
        self, outputs: Outputs, predict: Predict, validation: Sequence[Example], labels: LabelSpace | None, settings: Tuning
    ) -> Outputs:
        """The threshold that gives a baseline the allowed number of false alarms."""
        assert settings.layout is not None
        assert outputs.values is not None
        normal = predict([row for row in validation if not is_anomaly(row)]).values
        assert normal is not None
        layout, allowed = settings.layout, settings.recipe.series.alarms
        return alarm_outputs(outputs.values, fit_threshold(normal, layout.seconds, len(layout.channels), allowed))

    def format(self, values: Any, labels: LabelSpace | None) -> list[str]:
        """ "alarm" or "usual"."""
        return ["alarm" if value else "usual" for value in values]


ANOMALY = Anomaly(
    name="anomaly",
    default_loss="masked_mae",
    default_metrics=("average_precision", "alarm_f1", "alarm_recall", "alarm_precision"),
    cheap_baseline="zscore",
)
