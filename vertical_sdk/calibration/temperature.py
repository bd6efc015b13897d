"""Making a model's confidence honest: temperature scaling, and how to see whether it worked.

Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.card import Calibration
from vertical_sdk.errors import DataError
from vertical_sdk.metrics.probability import calibration_bins, ece

__all__ = ["fit_calibration", "fit_temperature", "reliability", "to_probabilities"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BOUNDS = (0.05, 20.0)
"""The temperatures that are tried; a few rows that are all right would otherwise send it to 0."""


def to_probabilities(logits: NDArray[np.floating[Any]], *, temperature: float = 1.0, multilabel: bool = False) -> Floats:
    """Probabilities (rows, labels): softmax over a row, or the sigmoid of each label for multilabel."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if multilabel:
        return 0.5 * (1 + np.tanh(scaled / 2))
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(logits: NDArray[np.floating[Any]], labels: Ints) -> float:
    """The temperature T for which logits / T are most likely, between 0.05 and 20.

    logits  (rows, labels) float
    labels  (rows,) positions; or (rows, labels) of 0 and 1 for multilabel, where each label has its own sigmoid

    Raises DataError for no rows, or logits that are not finite.
    """
    from scipy.optimize import minimize_scalar

    if len(logits) == 0 or not np.isfinite(logits).all():
        raise DataError(f"calibration: needs finite logits of at least one row, and was given {len(logits)} rows.")
    wide = np.asarray(logits, dtype=np.float64)

    def surprise(log_temperature: float) -> float:
        scaled = wide / np.exp(log_temperature)
        if labels.ndim == 2:
            return float((np.logaddexp(0, scaled) - labels * scaled).mean())
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((total - scaled[np.arange(len(labels)), labels]).mean())

    found = minimize_scalar(surprise, bounds=tuple(np.log(BOUNDS)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def reliability(probabilities: Floats, references: Ints, bins: int = 15) -> list[tuple[float, float, float, float, int]]:
    """The bins of a reliability diagram that hold rows: (low, high, mean confidence, accuracy, rows)."""
    counts, confidence, right = calibration_bins(probabilities, references, bins)
    return [
        (i / bins, (i + 1) / bins, float(confidence[i] / counts[i]), float(right[i] / counts[i]), int(counts[i]))
        for i in np.flatnonzero(counts)
    ]


def fit_calibration(logits: NDArray[np.floating[Any]], truth: Any, *, multilabel: bool = False) -> Calibration:
    """Fit the temperature on the validation rows, and measure the calibration error before and after.

    logits  (rows, labels)
    truth   (rows,) positions, or (rows, labels) of 0 and 1 for multilabel

    Raises DataError as `fit_temperature` does.
    """
    temperature = fit_temperature(logits, truth)
    return Calibration(
        temperature=temperature,
        ece_before=ece(to_probabilities(logits, multilabel=multilabel), truth),
        ece_after=ece(to_probabilities(logits, temperature=temperature, multilabel=multilabel), truth),
        rows=len(logits),
    )
