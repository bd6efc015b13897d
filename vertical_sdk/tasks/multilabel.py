"""Any number of labels for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.calibration.label_offsets import fit_offsets, shift_offsets
from vertical_sdk.calibration.stacking import fit_likeliest
from vertical_sdk.calibration.temperature import fit_calibration, to_probabilities
from vertical_sdk.card import Calibration
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks.labels import (
    clip_probabilities,
    encode_labels,
    label_position,
    label_positions,
    require_labels,
    require_probabilities,
)
from vertical_sdk.tasks.task import UNCALIBRATED, Floats, Task, main_metric
from vertical_sdk.types import Example, LabelSpace, Prediction, SeriesLayout, Target

__all__ = ["MULTILABEL", "Multilabel"]


@dataclass(frozen=True, kw_only=True)
class Multilabel(Task):
    """Any number of labels for each row, each decided by itself."""

    labelled: bool = True

    def encode_target(self, target: Target, labels: LabelSpace | None) -> tuple[float, ...]:
        """0 or 1 for each label."""
        space = require_labels(labels, self.name)
        chosen = set(encode_labels(target, space))
        return tuple(float(position in chosen) for position in range(len(space)))

    def references(self, rows: Sequence[Example], labels: LabelSpace | None) -> NDArray[np.int64]:
        """0 or 1, (rows, labels)."""
        positions = label_positions(require_labels(labels, self.name))
        table = np.zeros((len(rows), len(positions)), dtype=np.int64)
        for number, row in enumerate(rows):
            for label in row.target if isinstance(row.target, tuple) else (row.target,):
                table[number, label_position(row, label, positions)] = 1
        return table

    def decode(self, raw: NDArray[Any], calibration: Calibration = UNCALIBRATED, rows: Sequence[Example] = ()) -> Outputs:
        """A sigmoid for each label with the calibrated temperature; raw (rows, labels) logits."""
        probabilities = to_probabilities(raw, temperature=calibration.temperature, multilabel=True)
        return Outputs(probabilities=probabilities, offsets=np.array(calibration.offsets) if calibration.offsets else None)

    def predictions(self, outputs: Outputs) -> NDArray[np.int64]:
        """0 or 1, (rows, labels): 1 if the log-odds plus the offset are at least 0."""
        least = 0.5 if outputs.offsets is None else 1 / (1 + np.exp(outputs.offsets))
        return np.asarray((require_probabilities(outputs, self.name) >= least).astype(np.int64))

    def calibrate(
        self,
        raw: NDArray[Any],
        rows: Sequence[Example],
        labels: LabelSpace | None,
        recipe: Recipe,
        layout: SeriesLayout | None = None,
    ) -> Calibration:
        """A temperature, then label offsets."""
        # the loss's own targets are float32; the temperature is fitted on the same numbers
        truth = np.array([self.encode_target(row.target, labels) for row in rows], dtype=np.float32)
        fitted = fit_calibration(raw, truth, multilabel=True)
        offsets = self.fit_rule(self.decode(raw, fitted), rows, labels, recipe)
        return fitted.model_copy(update={"offsets": offsets})

    def fit_rule(
        self,
        outputs: Outputs,
        rows: Sequence[Example],
        labels: LabelSpace | None,
        recipe: Recipe,
        layout: SeriesLayout | None = None,
    ) -> tuple[float, ...]:
        """The same shift of the log-odds for all labels."""
        if labels is None or outputs.probabilities is None or not len(rows):
            return ()
        return fit_offsets(self, outputs, rows, labels, main_metric(recipe), *shift_offsets(labels))

    def evidence(self, outputs: Outputs) -> Floats:
        """Log-odds (rows, labels)."""
        probabilities = clip_probabilities(outputs, self.name)
        return np.asarray(np.log(probabilities) - np.log1p(-probabilities))

    def stack(self, systems: Sequence[Floats], truth: Any) -> tuple[Floats, Floats]:
        """The likeliest weights, and a bias for each label."""

        def surprise(pooled: Floats) -> float:
            return float((np.logaddexp(0, pooled) - truth * pooled).mean(axis=0).sum())

        return fit_likeliest(systems, surprise, systems[0].shape[1], lambda free: free)

    def to_predictions(self, outputs: Outputs, labels: LabelSpace | None, cut: Sequence[int], adapter: str) -> list[Prediction]:
        """The chosen labels, and every label's probability."""
        names = require_labels(labels, self.name).labels
        return [
            Prediction(
                label=tuple(names[position] for position in np.flatnonzero(chosen)),
                probabilities=dict(zip(names, map(float, row), strict=True)),
                truncated=tokens,
                adapter=adapter,
            )
            for chosen, row, tokens in zip(
                self.predictions(outputs), require_probabilities(outputs, self.name), cut, strict=True
            )
        ]

    def format(self, values: Any, labels: LabelSpace | None) -> list[str]:
        """The labels' names, or "none"."""
        names = require_labels(labels, self.name).labels
        return [", ".join(names[position] for position in np.flatnonzero(row)) or "none" for row in values]


MULTILABEL = Multilabel(
    name="multilabel",
    default_loss="binary_cross_entropy",
    default_metrics=("micro_f1", "macro_f1", "average_precision", "accuracy", "log_loss", "ece"),
)
