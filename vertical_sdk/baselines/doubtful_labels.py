"""Labels that may be wrong: rows that a model, which never saw them, is sure to be of another label.

Confident learning (Northcutt, Jiang and Chuang, 2021). With p_i(k), the probability of label k for row i, predicted out of fold:

    t_k = the mean of p_i(k) over the rows that are labelled k
    row i, labelled y, is doubtful if some label k ≠ y has p_i(k) ≥ t_k, and among all labels that reach their t the largest p_i

So a label that is hard to predict needs less to be believed than one that is easy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.baselines.tfidf import tfidf
from vertical_sdk.data.labels import count_labels
from vertical_sdk.data.texts import stable_hash
from vertical_sdk.outputs import join_outputs
from vertical_sdk.types import Example, LabelSpace

__all__ = ["Doubt", "choose_doubtful", "find_doubtful_labels"]

FOLDS = 5


@dataclass(frozen=True)
class Doubt:
    """A row whose label may be wrong.

    id       of the row
    label    that it has
    likelier the label that the other rows speak for
    given    the probability of its label, from 0 to 1
    other    the probability of the likelier one
    """

    id: str
    label: str
    likelier: str
    given: float
    other: float


def choose_doubtful(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> list[tuple[int, int]]:
    """Choose the rows with a doubtful label, the most doubtful first.

    probabilities  (rows, k), predicted out of fold
    labels         (rows,) the position of each row's label; each of the k labels has a row

    returns  (row, position of the likelier label)
    """
    truth = np.eye(probabilities.shape[1], dtype=bool)[labels]
    thresholds = (probabilities * truth).sum(axis=0) / truth.sum(axis=0)
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    likelier = reached.argmax(axis=1)
    doubtful = np.flatnonzero((reached.max(axis=1) >= 0) & (likelier != labels))
    lead = probabilities[doubtful, likelier[doubtful]] - probabilities[doubtful, labels[doubtful]]
    return [(int(row), int(likelier[row])) for row in doubtful[np.argsort(-lead, kind="stable")]]


def find_doubtful_labels(rows: Sequence[Example], seed: int = 0) -> tuple[list[Doubt], float]:
    """Find the rows of a labelled file whose label may be wrong, the most doubtful first. TF-IDF predicts each of 5 folds from the others.

    rows     with a text and one label each; the rows of a group are in one fold

    returns  also the share of rows whose label is predicted, out of fold; if it is low, a doubt says little

    Rows of a label with fewer than 5 rows are not looked at. Raises DataError if the texts have no words.
    """
    known = LabelSpace(tuple(label for label, count in count_labels(rows).items() if count >= FOLDS))
    rows = [row for row in rows if str(row.target) in known.labels]
    folds = np.array([stable_hash(seed, row.group or row.id) % FOLDS for row in rows])
    if len(known) < 2 or len(set(folds.tolist())) < 2:  # one label, or one group
        return [], 1.0
    parts = []
    for fold in sorted(set(folds.tolist())):
        inside = np.flatnonzero(folds == fold).tolist()
        fitted = tfidf([rows[place] for place in np.flatnonzero(folds != fold)], known, "classification", seed, None)
        parts.append((inside, fitted.predict([rows[place] for place in inside], None)))
    probabilities = join_outputs(parts).probabilities
    assert probabilities is not None
    labels = np.array([known.index(str(row.target)) for row in rows])
    doubts = [
        Doubt(
            rows[row].id,
            str(rows[row].target),
            known.labels[other],
            round(float(probabilities[row, labels[row]]), 3),
            round(float(probabilities[row, other]), 3),
        )
        for row, other in choose_doubtful(probabilities, labels)
    ]
    return doubts, float((probabilities.argmax(axis=1) == labels).mean())
