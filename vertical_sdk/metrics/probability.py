"""Metrics of probabilities (rows, labels): are they calibrated, and do they rank the right rows first?

References are label positions (rows,), or (rows, labels) of 0 and 1, with each label judged by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import POSITIVE, SHARE, metrics
from vertical_sdk.metrics.classification import Ints
from vertical_sdk.metrics.measure import LABELLED, UNDEFINED

__all__ = [
    "auc",
    "average_precision",
    "calibration_bins",
    "ece",
    "log_loss",
    "precision_at_recall",
    "sensitivity_at_specificity",
]

Floats = NDArray[np.float64]
SMALL = float(np.finfo(np.float64).eps)


def calibration_bins(probabilities: Floats, references: Ints, bins: int) -> tuple[Floats, Floats, Floats]:
    """Group rows by their confidence into equal bins (0, 1/bins], (1/bins, 2/bins], …

    One label a row: confidence is the top label's probability, and a row is correct if that label is. Several: every
    (row, label) decision counts, its confidence is the label's probability, and it is correct if the row has the label.

    returns  counts, sums of confidence, numbers of correct ones: each (bins,)
    """
    if references.ndim == 2:
        confidence, right = probabilities.ravel(), references.ravel()
    else:
        top = probabilities.argmax(axis=1)
        confidence = np.take_along_axis(probabilities, top[:, None], axis=1)[:, 0]
        right = (top == references) & (confidence > 0)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return (
        np.bincount(place, minlength=bins).astype(np.float64),
        np.bincount(place, weights=confidence, minlength=bins).astype(np.float64),
        np.bincount(place, weights=right, minlength=bins).astype(np.float64),
    )


@metrics.register(
    "ece",
    within=SHARE,
    tasks=LABELLED,
    higher_is_better=False,
    title="ECE",
    meaning="Distance between confidence and the share that is right.",
)
def ece(probabilities: Floats, references: Ints, *, bins: Annotated[int, Field(ge=1)] = 15) -> float:
    """Expected calibration error: the mean distance of confidence from accuracy over equal bins (Guo et al., 2017, equation 3)."""
    counts, confidence, right = calibration_bins(probabilities, references, bins)
    return float(np.abs(confidence - right).sum() / counts.sum())


@metrics.register(
    "log_loss",
    within=POSITIVE,
    tasks=LABELLED,
    higher_is_better=False,
    title="Log loss",
    meaning="Penalty for a low probability of the true label.",
)
def log_loss(probabilities: Floats, references: Ints) -> float:
    """Mean negative log-likelihood in nats, a row (one label) or a decision (multilabel); a probability of 0 costs 36."""
    if references.ndim == 2:
        given = np.where(references != 0, probabilities, 1 - probabilities)
    else:
        given = np.take_along_axis(probabilities, references[:, None], axis=1)
    return float(-np.log(np.clip(given, SMALL, 1.0)).mean())


def draw_roc(probabilities: Floats | None, references: Ints) -> dict[str, Any] | None:
    """The ROC curve of the second of two labels."""
    if probabilities is None or probabilities.ndim != 2 or probabilities.shape[1] != 2 or len(set(references.tolist())) < 2:
        return None
    hits, taken = _steps(probabilities[:, 1], references == 1)
    wrong = taken - hits
    points = zip((wrong / max(1, wrong[-1])).tolist(), (hits / max(1, hits[-1])).tolist(), strict=True)
    return {
        "title": "ROC curve",
        "x": "false positive rate",
        "y": "true positive rate",
        "lines": {"": [(0.0, 0.0), *points]},
    }


@metrics.register(
    "auc",
    within=SHARE,
    tasks=(*LABELLED, "anomaly"),
    curve=draw_roc,
    title="AUC",
    meaning="How often a row with the label ranks above a row without it.",
    each_label=True,
)
def auc(probabilities: Floats, references: Ints) -> float:
    """Area under the ROC curve: how often a row with the label gets more probability than one without (ties count half).

    Two labels: of the second label. More, or multilabel: the average over the labels that some references have and others
    have not (one against the rest); undefined without such a label.
    """
    return _each_label(_auc, probabilities, references)


@metrics.register(
    "average_precision",
    within=SHARE,
    tasks=(*LABELLED, "anomaly"),
    title="Average precision",
    meaning="Precision averaged over the ranking.",
    each_label=True,
)
def average_precision(probabilities: Floats, references: Ints) -> float:
    """Area under the precision-recall curve as a sum of steps, averaged over labels as `auc` is."""
    return _each_label(_average_precision, probabilities, references)


@metrics.register("precision_at_recall", within=SHARE, tasks=LABELLED, each_label=True)
def precision_at_recall(probabilities: Floats, references: Ints, *, recall: Annotated[float, Field(gt=0, le=1)] = 0.8) -> float:
    """The best precision at a threshold that finds at least this share of the rows with the label.

    It is averaged over labels as `auc` is, each with a threshold of its own.
    """
    return _each_label(functools.partial(_precision_at_recall, recall=recall), probabilities, references)


@metrics.register("sensitivity_at_specificity", within=SHARE, tasks=LABELLED, each_label=True)
def sensitivity_at_specificity(
    probabilities: Floats, references: Ints, *, specificity: Annotated[float, Field(ge=0, le=1)] = 0.9
) -> float:
    """Sensitivity at the best threshold whose specificity is at least this.

    Screening tests are judged by it. It is averaged over labels as `auc` is, each with a threshold of its own.
    """
    return _each_label(functools.partial(_sensitivity, specificity=specificity), probabilities, references)


def _each_label(measure: Callable[[Floats, NDArray[np.bool_]], float], probabilities: Floats, references: Ints) -> float:
    """The mean over the labels that some references have and others have not; undefined without such a label."""
    size = probabilities.shape[1]
    has = references != 0 if references.ndim == 2 else references[:, None] == np.arange(size)
    judged = [1] if references.ndim == 1 and size == 2 else range(size)
    values = [measure(probabilities[:, k], has[:, k]) for k in judged if 0 < np.count_nonzero(has[:, k]) < len(has)]
    return float(np.mean(values)) if values else UNDEFINED


def _auc(scores: Floats, has: NDArray[np.bool_]) -> float:
    """Mann-Whitney's U over its largest value: for each row with the label, the rows without it that rank below."""
    others = np.sort(scores[~has])
    own = scores[has]
    below = np.searchsorted(others, own, side="left")
    not_above = np.searchsorted(others, own, side="right")
    return float((below + not_above).sum() / (2 * len(own) * len(others)))


def _average_precision(scores: Floats, has: NDArray[np.bool_]) -> float:
    hits, taken = _steps(scores, has)
    return float((np.diff(hits, prepend=0) * hits / taken).sum() / hits[-1])


def _precision_at_recall(scores: Floats, has: NDArray[np.bool_], recall: float) -> float:
    hits, taken = _steps(scores, has)
    enough = hits >= recall * hits[-1] * (1 - 1e-12)
    return float((hits / taken)[enough].max())


def _sensitivity(scores: Floats, has: NDArray[np.bool_], specificity: float) -> float:
    hits, taken = _steps(scores, has)
    wrong = taken - hits
    allowed = wrong <= (1 - specificity) * wrong[-1] * (1 + 1e-12)
    return float(hits[allowed].max(initial=0) / hits[-1])


def _steps(scores: Floats, has: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At each threshold, from the highest score down: how many rows with the label are found, and how many rows taken."""
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    return np.cumsum(has[order])[last_of_tie], last_of_tie + 1
