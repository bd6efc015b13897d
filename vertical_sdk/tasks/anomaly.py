"""An alarm if a value is far from its forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.calibration.alarms import compute_scores, fit_alarms, fit_threshold
from vertical_sdk.calibration.stacking import fit_likeliest, fit_tails
from vertical_sdk.card import Calibration
from vertical_sdk.outputs import Outputs, alarm_outputs
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks.forecasting import encode_steps
from vertical_sdk.tasks.task import UNCALIBRATED, Floats, Task, Verb
from vertical_sdk.types import Example, LabelSpace, Modality, Numbers, SeriesLayout, Target

__all__ = ["ANOMALY", "Anomaly", "is_anomaly"]

LARGEST_EVIDENCE = 700.0
"""Its score, 1e304, is still finite."""


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
        """Scores (rows,), and alarms from the threshold on.

        raw  forecasts of the rows, (rows, 1, channels, 1), or the pooled evidence of several systems, (rows, 1)
        """
        if raw.ndim == 2:
            return alarm_outputs(np.expm1(raw[:, 0].astype(np.float64).clip(0, LARGEST_EVIDENCE)), calibration.threshold)
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
        """Usual errors, if the outputs are forecasts, and the threshold, from the rows without an anomaly."""
        assert layout is not None
        normal = self.references(rows, None) == 0
        chosen = [row for row, kept in zip(rows, normal, strict=True) if kept]
        if raw.ndim == 2:
            (threshold,) = self.fit_rule(self.decode(raw), rows, labels, recipe, layout)
            return Calibration(threshold=threshold, rows=len(chosen))
        return fit_alarms(raw[normal], chosen, layout.seconds, len(layout.channels), recipe.series.alarms)

    def calibrate_alone(
        self,
        raw: NDArray[Any],
        rows: Sequence[Example],
        labels: LabelSpace | None,
        recipe: Recipe,
        layout: SeriesLayout | None = None,
    ) -> Calibration:
        """The usual errors, which make scores of forecasts, and the adapter's own threshold."""
        return self.calibrate(raw, rows, labels, recipe, layout)

    def fit_rule(
        self,
        outputs: Outputs,
        rows: Sequence[Example],
        labels: LabelSpace | None,
        recipe: Recipe,
        layout: SeriesLayout | None = None,
    ) -> tuple[float, ...]:
        """The threshold that gives the allowed number of false alarms on the rows without an anomaly."""
        assert layout is not None
        assert outputs.values is not None
        normal = outputs.values[self.references(rows, None) == 0]
        return (fit_threshold(normal, layout.seconds, len(layout.channels), recipe.series.alarms),)

    def apply_rule(self, outputs: Outputs, rule: Sequence[float]) -> Outputs:
        """Alarms from the threshold on."""
        assert outputs.values is not None
        return alarm_outputs(outputs.values, rule[0] if rule else None)

    def rule_size(self, labels: LabelSpace | None) -> int:
        """The threshold."""
        return 1

    def evidence(self, outputs: Outputs) -> Floats:
        """log(1 + score), (rows, 1): scores have no upper bound, and one system must not outvote all others."""
        assert outputs.values is not None
        return np.log1p(outputs.values)[:, None]

    def stack(self, systems: Sequence[Floats], truth: Any) -> tuple[Floats, Floats]:
        """Weights that sum to 1: the likeliest ones if the rows contain anomalies, else those by which all systems count alike.

        The pooled score of systems with the same score is then this score.
        """
        marked = np.asarray(truth)

        def surprise(pooled: Floats) -> float:
            return float((np.logaddexp(0, pooled[:, 0]) - marked * pooled[:, 0]).mean())

        if 0 < marked.sum() < len(marked):
            weights, _ = fit_likeliest(systems, surprise, 1, lambda free: free)
        else:
            weights = fit_tails([system[marked == 0] for system in systems])
        total = weights.sum()
        shares = weights / total if total > 0 else np.full(len(systems), 1 / len(systems))
        return shares, np.zeros(1)

    def format(self, values: Any, labels: LabelSpace | None) -> list[str]:
        """ "alarm" or "usual"."""
        return ["alarm" if value else "usual" for value in values]


ANOMALY = Anomaly(
    name="anomaly",
    default_loss="masked_mae",
    default_metrics=("average_precision", "alarm_f1", "alarm_recall", "alarm_precision"),
    cheap_baseline="zscore",
)
