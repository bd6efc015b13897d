"""Selective prediction: a model may abstain. Rows are answered from the most confident down; the share answered is the coverage.

Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, 2017; the area under the risk-coverage curve as in
Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, 2019.

Confidence is the top label's probability. Each of several equally confident rows counts with their mean, so that the order of rows
does not matter.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import SHARE, metrics
from vertical_sdk.metrics.classification import Ints

__all__ = ["MOST_POINTS", "abstention_curve", "accuracy_at_coverage", "aurc"]

Floats = NDArray[np.float64]
MOST_POINTS = 40
"""The most points of an abstention curve."""


@metrics.register(
    "aurc",
    within=SHARE,
    tasks=("classification", "ordinal"),
    higher_is_better=False,
    title="AURC",
    meaning="Share that is wrong among the surest rows, averaged over the share of rows answered.",
)
def aurc(probabilities: Floats, references: Ints) -> float:
    """Area under the risk-coverage curve: the share of errors among the k most confident rows, averaged over all k."""
    ends, errors, _ = _steps(probabilities, references)
    answered = np.arange(1, len(references) + 1)
    return float((np.interp(answered, ends, errors) / answered).mean())


@metrics.register(
    "accuracy_at_coverage",
    within=SHARE,
    tasks=("classification", "ordinal"),
    title="Accuracy at coverage",
    meaning="Share that is right if only the surest rows are answered.",
)
def accuracy_at_coverage(
    probabilities: Floats, references: Ints, *, coverage: Annotated[float, Field(gt=0, le=1)] = 0.8
) -> float:
    """Accuracy on the most confident rows, a share `coverage` of all (rounded up to a row)."""
    ends, errors, _ = _steps(probabilities, references)
    answered = np.ceil(round(coverage * len(references), 6))
    return float(1 - np.interp(answered, ends, errors) / answered)


def abstention_curve(scores: Floats, truth: Ints) -> list[tuple[float, float, float]]:
    """Compute points of coverage, accuracy on the answered rows, and the lowest confidence among them; most confident first.

    scores   (rows, labels) probabilities
    truth    (rows,) positions of labels
    returns  at most 40 points, evenly over coverage; the last one covers all rows
    """
    ends, errors, least = _steps(scores, truth)
    n = len(truth)
    wanted = np.linspace(0, n, MOST_POINTS + 1)[1:]
    positions = np.unique(np.searchsorted(ends, wanted - 1e-9)).tolist()
    return [(float(ends[i] / n), float(1 - errors[i] / ends[i]), float(least[i])) for i in positions if ends[i]]


def _steps(probabilities: Floats, references: Ints) -> tuple[Floats, Floats, Floats]:
    """At each confidence, from the highest down: rows with at least this confidence, errors among them, the confidence.

    A first step of no rows and no errors comes before them.
    """
    if not len(references):
        raise ValueError("there are no rows to answer")
    top = probabilities.argmax(axis=1)
    confidence = np.take_along_axis(probabilities, top[:, None], axis=1)[:, 0]
    wrong = (top != references) | (confidence <= 0)
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    errors = np.cumsum(wrong[order])[last_of_tie]
    return np.append(0.0, last_of_tie + 1.0), np.append(0.0, errors), np.append(np.inf, ranked[last_of_tie])
