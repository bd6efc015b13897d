"""Tables about labels: the metrics of each label, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.evaluation.result import LabelRow
from vertical_sdk.metrics.classification import label_counts

__all__ = ["confusion_matrix", "per_label_table"]

Ints = NDArray[np.integer[Any]]


def per_label_table(adapter: Ints, base: Ints | None, references: Ints, labels: Sequence[str]) -> list[LabelRow]:
    """Compute precision, recall and F1 of each label, for specialist and base. Labels without test rows are left out.

    adapter, base, references  (rows,) positions in `labels`; multilabel (rows, labels) of 0 and 1
    """
    own, others = (
        _shares(adapter, references, len(labels)),
        _shares(base, references, len(labels)) if base is not None else None,
    )
    true = label_counts(adapter, references, len(labels))[2]
    return [
        LabelRow(
            labels[i],
            int(true[i]),
            *(float(v) for v in own[:, i]),
            *(float(v) for v in others[:, i]) if others is not None else (),
        )
        for i in np.flatnonzero(true).tolist()
    ]


def confusion_matrix(predictions: Ints, references: Ints, size: int) -> list[list[int]]:
    """Count rows by [reference][prediction]; rows without an answer are in no cell.

    predictions, references  (rows,) label positions below `size`
    """
    answered = predictions >= 0
    cells = np.bincount(references[answered] * size + predictions[answered], minlength=size * size)
    plain: list[list[int]] = cells.reshape(size, size).tolist()
    return plain


def _shares(predictions: Ints, references: Ints, size: int) -> NDArray[np.float64]:
    """Precision, recall, F1: (3, labels); 0 if the denominator is 0."""
    right, predicted, true = label_counts(predictions, references, size)
    return np.stack([right / predicted.clip(1), right / true.clip(1), 2 * right / (predicted + true).clip(1)])
