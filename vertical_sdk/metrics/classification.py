"""Metrics of labels: classification, several labels a row, and labels in order.

Multilabel arrays are (rows, labels) of 0 and 1; all others (rows,) of label positions. An average over labels is undefined
(NaN) if all references have the same one label: a system that always answers it would be perfect, and tells nothing apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.catalog import CORRELATION, POSITIVE, SHARE, metrics
from vertical_sdk.metrics.measure import LABELLED, NO_ANSWER, UNDEFINED
from vertical_sdk.types import LabelSpace

__all__ = [
    "Ints",
    "accuracy",
    "balanced_accuracy",
    "hierarchical_f1",
    "label_counts",
    "macro_f1",
    "mcc",
    "micro_f1",
    "quadratic_kappa",
    "rank_mae",
    "weighted_f1",
]

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]


def label_counts(predictions: Ints, references: Ints, size: int | None = None) -> tuple[Floats, Floats, Floats]:
    """Count for each label the rows with it predicted correctly, with it predicted, and with it in the reference.

    size     number of labels; None means as many as occur
    returns  three arrays (labels,) float64
    """
    if references.ndim == 2:
        yes, true = predictions != 0, references != 0
        return (
            np.count_nonzero(yes & true, axis=0).astype(np.float64),
            np.count_nonzero(yes, axis=0).astype(np.float64),
            np.count_nonzero(true, axis=0).astype(np.float64),
        )
    if size is None:
        size = 1 + max(int(predictions.max(initial=NO_ANSWER)), int(references.max(initial=NO_ANSWER)))
    right = np.bincount(references[predictions == references], minlength=size)
    predicted = np.bincount(predictions - NO_ANSWER, minlength=size + 1)[1:]
    return right.astype(np.float64), predicted.astype(np.float64), np.bincount(references, minlength=size).astype(np.float64)


@metrics.register("accuracy", within=SHARE, tasks=LABELLED, title="Accuracy", meaning="Share of rows that are right.")
def accuracy(predictions: Ints, references: Ints) -> float:
    """Share of correct rows; for multilabel, of rows with every label correct."""
    right = predictions == references
    return float((right if right.ndim == 1 else right.all(axis=1)).mean())


@metrics.register(
    "macro_f1",
    within=SHARE,
    tasks=LABELLED,
    title="Macro F1",
    meaning="F1 averaged over labels; every label counts the same.",
    each_label=True,
)
def macro_f1(predictions: Ints, references: Ints) -> float:
    """F1 of each label, averaged over the labels that occur in the references.

    A label that no reference has is not averaged in (it would always count as 0); predicting it
    still costs the label that was missed. This is scikit-learn's macro F1 with `labels=` those of the references. Undefined if
    there is only one label to find, or for multilabel none.
    """
    right, predicted, true = label_counts(predictions, references)
    here = true > 0
    return float((2 * right[here] / (predicted[here] + true[here])).mean()) if _tells_apart(references, true) else UNDEFINED


@metrics.register(
    "weighted_f1",
    within=SHARE,
    tasks=LABELLED,
    title="Weighted F1",
    meaning="F1 averaged over labels; frequent labels count more.",
)
def weighted_f1(predictions: Ints, references: Ints) -> float:
    """F1 of each label, weighted by how many references have it; undefined as `macro_f1` is."""
    right, predicted, true = label_counts(predictions, references)
    here = true > 0
    f1 = 2 * right[here] / (predicted[here] + true[here])
    return float((true[here] * f1).sum() / true.sum()) if _tells_apart(references, true) else UNDEFINED


@metrics.register(
    "micro_f1", within=SHARE, tasks=LABELLED, title="Micro F1", meaning="F1 over all decisions; every decision counts the same."
)
def micro_f1(predictions: Ints, references: Ints) -> float:
    """F1 over all decisions together; with one label a row and no answer missing, this is the accuracy.

    Undefined if no reference and no prediction has a label.
    """
    right, predicted, true = label_counts(predictions, references)
    total = predicted.sum() + true.sum()
    return float(2 * right.sum() / total) if total else UNDEFINED


@metrics.register(
    "balanced_accuracy",
    within=SHARE,
    tasks=LABELLED,
    title="Balanced accuracy",
    meaning="Share of each label's rows that are right, averaged over labels.",
    each_label=True,
)
def balanced_accuracy(predictions: Ints, references: Ints) -> float:
    """Recall of each label, averaged over the labels that occur in the references; undefined as `macro_f1` is."""
    right, _, true = label_counts(predictions, references)
    here = true > 0
    return float((right[here] / true[here]).mean()) if _tells_apart(references, true) else UNDEFINED


@metrics.register("hierarchical_f1", within=SHARE, tasks=("classification", "ordinal"))
def hierarchical_f1(predictions: Ints, references: Ints, labels: LabelSpace | None = None) -> float:
    """F1 over labels and their parents together: the right family earns half (Kiritchenko et al., 2006).

    Each side's labels are joined by their parents, the root left out; precision and recall are those of the joined sets over
    all rows. A label without a parent counts once; if no label has a parent, this is the micro F1.
    """
    size = len(labels) if labels else 1 + max(int(predictions.max(initial=0)), int(references.max(initial=0)))
    names = list(labels.labels) if labels else [str(i) for i in range(size)]
    parents = [labels.parent(name) for name in names] if labels else names
    family = np.unique(parents, return_inverse=True)[1]
    nodes = np.array([1 + (parent != name) for name, parent in zip(names, parents, strict=True)])
    answered = predictions != NO_ANSWER
    p, r = predictions[answered], references[answered]
    both = np.where(p == r, nodes[p], family[p] == family[r]).sum()
    total = nodes[p].sum() + nodes[references].sum()
    return float(2 * both / total) if total else UNDEFINED


@metrics.register(
    "mcc",
    within=CORRELATION,
    tasks=("classification", "ordinal"),
    title="MCC",
    meaning="Agreement with the truth beyond chance; 1 is perfect, 0 is chance.",
)
def mcc(predictions: Ints, references: Ints) -> float:
    """Matthews correlation coefficient, for any number of labels (Gorodkin, 2004).

    0 if the predictions never vary; undefined if the references never vary. A missing answer is counted as a label of its own. For
    multilabel it is taken over all (row, label) decisions.
    """
    predictions, references = predictions.ravel(), references.ravel()
    rows = float(len(references))
    size = 1 + max(int(predictions.max(initial=NO_ANSWER)), int(references.max(initial=NO_ANSWER)))
    right = float(np.count_nonzero(predictions == references))
    predicted = np.bincount(predictions - NO_ANSWER, minlength=size + 1).astype(np.float64)
    true = np.bincount(references - NO_ANSWER, minlength=size + 1).astype(np.float64)
    if true.max() == rows:
        return UNDEFINED
    spread = (rows * rows - predicted @ predicted) * (rows * rows - true @ true)
    return float((right * rows - predicted @ true) / np.sqrt(spread)) if spread > 0 else 0.0


@metrics.register(
    "quadratic_kappa",
    within=CORRELATION,
    tasks=("ordinal",),
    title="Quadratic kappa",
    meaning="Agreement in rank beyond chance; large errors cost more.",
)
def quadratic_kappa(predictions: Ints, references: Ints, labels: LabelSpace | None = None) -> float:
    """Cohen's kappa with quadratic weights (Cohen, 1968): agreement of two rankings beyond chance.

    With these weights kappa = 1 - mean((p - r)²) / (var p + var r + (mean p - mean r)²), which needs no table. A missing
    answer counts as the rank farthest from the truth. Undefined if both sides are the same rank throughout.
    """
    p, r = _ranks(predictions, references, labels)
    by_chance = p.var() + r.var() + (p.mean() - r.mean()) ** 2
    return float(1 - np.square(p - r).mean() / by_chance) if by_chance > 0 else UNDEFINED


@metrics.register(
    "rank_mae",
    within=POSITIVE,
    tasks=("ordinal",),
    higher_is_better=False,
    title="Ranks off",
    meaning="Average error in ranks.",
)
def rank_mae(predictions: Ints, references: Ints, labels: LabelSpace | None = None) -> float:
    """How many ranks a prediction is off, on average. A missing answer counts as the rank farthest from the truth."""
    p, r = _ranks(predictions, references, labels)
    return float(np.abs(p - r).mean())


def _tells_apart(references: Ints, true: Floats) -> bool:
    """Whether the references ask to tell something apart: several labels; for multilabel, at least one label of some row.

    true  (labels,) how many references have each label
    """
    return bool(np.count_nonzero(true) >= (1 if references.ndim == 2 else 2))


def _ranks(predictions: Ints, references: Ints, labels: LabelSpace | None) -> tuple[Floats, Floats]:
    last = len(labels) - 1 if labels else max(int(predictions.max()), int(references.max()))
    farthest = np.where(2 * references >= last, 0, last)
    return np.where(predictions == NO_ANSWER, farthest, predictions).astype(np.float64), references.astype(np.float64)
