"""Metrics of legal tasks."""

from __future__ import annotations

import numpy as np

from vertical_sdk.catalog import SHARE, metrics
from vertical_sdk.metrics.classification import Ints, macro_f1

__all__ = ["unfair_f1"]


@metrics.register("legal.unfair_f1", within=SHARE, tasks=("multilabel",))
def unfair_f1(predictions: Ints, references: Ints) -> float:
    """Macro F1 of "unfair in any way" against "fair", whichever categories it was (the detection of Lippi et al., 2019).

    predictions and references are (rows, labels) of 0 and 1; a row with any 1 is unfair. Undefined if all references are on one
    side.
    """
    predicted, true = ((table != 0).any(axis=1).astype(np.int64) for table in (predictions, references))
    return float(macro_f1(predicted, true))
