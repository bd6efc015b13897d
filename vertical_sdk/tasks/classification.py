"""One label for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.calibration.abstention import fit_promise
from vertical_sdk.calibration.label_offsets import fit_offsets, prior_offsets
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
from vertical_sdk.types import NO_ANSWER, Example, LabelSpace, Prediction, SeriesLayout, Target

__all__ = ["CLASSIFICATION", "Classification"]


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """One label for each row; `ordered` labels rise in the order of the label space."""

    labelled: bool = True
    single_label: bool = True

    def encode_target(self, target: Target, labels: LabelSpace | None) -> int:
        """The position of the label."""
        return encode_labels(target, require_labels(labels, self.name))[0]

    def references(self, rows: Sequence[Example], labels: LabelSpace | None) -> NDArray[np.int64]:
        """Positions (rows,)."""
        positions = label_positions(require_labels(labels, self.name))
        return np.array([label_position(row, row.target, positions) for row in rows], dtype=np.int64)

    def decode(self, raw: NDArray[Any], calibration: Calibration = UNCALIBRATED, rows: Sequence[Example] = ()) -> Outputs:
        """Softmax with the calibrated temperature, and which rows the promise answers; raw (rows, labels) logits."""
        probabilities = to_probabilities(raw, temperature=calibration.temperature)
        outputs = Outputs(probabilities=probabilities, offsets=np.array(calibration.offsets) if calibration.offsets else None)
        if (promise := calibration.promise) is None:
            return outputs
        least = np.inf if promise.threshold is None else promise.threshold
        return replace(outputs, answered=self.confidence(outputs) >= least)

    def predictions(self, outputs: Outputs) -> NDArray[np.int64]:
        """Positions (rows,) of the likeliest labels after the offsets; NO_ANSWER for a row of zeros."""
        probabilities = require_probabilities(outputs, self.name)
        scores = probabilities if outputs.offsets is None else np.log(probabilities.clip(1e-300)) + outputs.offsets
        return np.where(probabilities.max(axis=1) > 0, scores.argmax(axis=1), NO_ANSWER).astype(np.int64)

    def confidence(self, outputs: Outputs) -> Floats:
        """The probability of the chosen label, (rows,); 0 for a row of zeros."""
        chosen = self.predictions(outputs)
        return np.take_along_axis(require_probabilities(outputs, self.name), chosen[:, None], axis=1)[:, 0]

    def calibrate(
        self,
        raw: NDArray[Any],
        rows: Sequence[Example],
        labels: LabelSpace | None,
        recipe: Recipe,
        layout: SeriesLayout | None = None,
    ) -> Calibration:
        """A temperature, then label offsets, then the promise of `evaluate.abstention`."""
        fitted = fit_calibration(raw, self.references(rows, labels))
        offsets = self.fit_rule(self.decode(raw, fitted), rows, labels, recipe)
        fitted = fitted.model_copy(update={"offsets": offsets})
        if (settings := recipe.evaluate.abstention) is None:
            return fitted
        outputs = self.decode(raw, fitted)
        wrong = self.predictions(outputs) != self.references(rows, labels)
        promise = fit_promise(self.confidence(outputs), wrong, [row.group for row in rows], settings)
        return fitted.model_copy(update={"promise": promise})

    def fit_rule(
        self,
        outputs: Outputs,
        rows: Sequence[Example],
        labels: LabelSpace | None,
        recipe: Recipe,
        layout: SeriesLayout | None = None,
    ) -> tuple[float, ...]:
        """Offsets along the logarithm of the labels' shares in training."""
        if labels is None or outputs.probabilities is None or not len(rows):
            return ()
        return fit_offsets(self, outputs, rows, labels, main_metric(recipe), *prior_offsets(labels))

    def evidence(self, outputs: Outputs) -> Floats:
        """Log-probabilities (rows, labels)."""
        return np.asarray(np.log(clip_probabilities(outputs, self.name)))

    def stack(self, systems: Sequence[Floats], truth: Any) -> tuple[Floats, Floats]:
        """The likeliest weights, and one bias if there are two labels."""

        def surprise(pooled: Floats) -> float:
            top = pooled.max(axis=1)
            total = top + np.log(np.exp(pooled - top[:, None]).sum(axis=1))
            return float((total - pooled[np.arange(len(pooled)), truth]).mean())

        two = systems[0].shape[1] == 2
        return fit_likeliest(systems, surprise, int(two), lambda free: np.array([-free[0], free[0]]) / 2)

    def to_predictions(self, outputs: Outputs, labels: LabelSpace | None, cut: Sequence[int], adapter: str) -> list[Prediction]:
        """The chosen label and every label's probability."""
        names = require_labels(labels, self.name).labels
        probabilities = require_probabilities(outputs, self.name)
        abstained = [None] * len(cut) if outputs.answered is None else (~outputs.answered).tolist()
        return [
            Prediction(
                label=names[int(position)],
                probabilities=dict(zip(names, map(float, row), strict=True)),
                truncated=tokens,
                adapter=adapter,
                abstained=abstains,
            )
            for position, row, tokens, abstains in zip(self.predictions(outputs), probabilities, cut, abstained, strict=True)
        ]

    def format(self, values: Any, labels: LabelSpace | None) -> list[str]:
        """The label's name, or "no answer"."""
        names = require_labels(labels, self.name).labels
        return [names[value] if value >= 0 else "no answer" for value in values]


CLASSIFICATION = Classification(
    name="classification",
    default_loss="cross_entropy",
    default_metrics=("accuracy", "macro_f1", "weighted_f1", "mcc", "log_loss", "ece"),
)
