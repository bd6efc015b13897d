"""Metrics of tasks without labels: ranks of counterparts (rows,), and bits a character (rows,)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.catalog import POSITIVE, SHARE, metrics
from vertical_sdk.metrics.measure import UNDEFINED

__all__ = ["bits_per_character", "mean_reciprocal_rank", "recall_at_1"]

Floats = NDArray[np.float64]


@metrics.register(
    "recall_at_1",
    within=SHARE,
    tasks=("contrastive",),
    title="Recall@1",
    meaning="Share of texts whose nearest text is one that belongs to it.",
)
def recall_at_1(predictions: Floats) -> float:
    """Share of rows with rank 1; rows without a counterpart (rank 0) do not count."""
    ranks = predictions[predictions > 0]
    return float((ranks == 1).mean()) if len(ranks) else UNDEFINED


@metrics.register(
    "mean_reciprocal_rank",
    within=SHARE,
    tasks=("contrastive",),
    title="Mean reciprocal rank",
    meaning="Average of 1 / rank of the nearest text that belongs to a text.",
)
def mean_reciprocal_rank(predictions: Floats) -> float:
    """Mean of 1 / rank (Voorhees, 1999); rows without a counterpart (rank 0) do not count."""
    ranks = predictions[predictions > 0]
    return float((1 / ranks).mean()) if len(ranks) else UNDEFINED


@metrics.register(
    "bits_per_character",
    within=POSITIVE,
    tasks=("language",),
    higher_is_better=False,
    title="Bits per character",
    meaning="How many bits a character of a text needs: how badly it is predicted.",
)
def bits_per_character(predictions: Floats, references: Floats) -> float:
    """Bits a character, each text weighted by its characters (the references)."""
    return float((predictions * references).sum() / references.sum()) if references.sum() > 0 else UNDEFINED
