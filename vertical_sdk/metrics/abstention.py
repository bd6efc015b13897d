"""What if a model may say "I don't know"? Rows are answered from the surest down; the share answered is the coverage.

Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, 2017; the area under the risk-coverage curve as in
Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, 2019.

Confidence is the top label's probability. Rows that are equally sure cannot be told apart: each counts with the mean of them
all, so that nothing depends on the order of rows.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import metrics
from vertical_sdk.metrics.classification import Ints

__all__ = ["MOST_POINTS", "abstention_curve", "accuracy_at_coverage", "aurc"]

Floats = NDArray[np.float64]
MOST_POINTS = 40
"""So many points an abstention curve has at most."""


@metrics.register("aurc", tasks=("classification", "ordinal"), higher_is_better=False)
def aurc(probabilities: Floats, references: Ints) -> float:
    """Area under the risk-coverage curve: the share that is wrong among the k surest rows, averaged over all k."""
    ends, errors, _ = _steps(probabilities, references)
    answered = np.arange(1, len(references) + 1)
    return float((np.interp(answered, ends, errors) / answered).mean())


@metrics.register("accuracy_at_coverage", tasks=("classification", "ordinal"))
def accuracy_at_coverage(
    probabilities: Floats, references: Ints, *, coverage: Annotated[float, Field(gt=0, le=1)] = 0.8
) -> float:
    """Share that is right among the surest rows, of which so large a share of all (rounded up to a row) is answered."""
    ends, errors, _ = _steps(probabilities, references)
    answered = np.ceil(round(coverage * len(references), 6))
    return float(1 - np.interp(answered, ends, errors) / answered)


def abstention_curve(scores: Floats, truth: Ints) -> list[tuple[float, float, float]]:
    """Coverage, the share of the answered rows that is right, and the least confidence that is answered with: surest first.

    scores   (rows, labels) probabilities
    truth    (rows,) positions of labels
    returns  at most 40 points, evenly over coverage; the last is of all rows
    """
    ends, errors, least = _steps(scores, truth)
    n = len(truth)
    wanted = np.linspace(0, n, MOST_POINTS + 1)[1:]
    kept = np.unique(np.searchsorted(ends, wanted - 1e-9)).tolist()
    return [(float(ends[i] / n), float(1 - errors[i] / ends[i]), float(least[i])) for i in kept if ends[i]]


def _steps(probabilities: Floats, references: Ints) -> tuple[Floats, Floats, Floats]:
    """At each confidence, from the highest down: rows at least so sure, errors among them, that confidence.

    A first step of no rows and no errors stands before them.
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
