"""What few test rows of a label can show."""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["FEW_ROWS", "describe_few", "least_difference"]

FEW_ROWS = 30
"""Fewer test rows of a label are too few to show much about it."""
MOST_NAMES = 5
"""The most labels that the sentence names."""


def least_difference(n: int, confidence: float = 0.95) -> float | None:
    """The smallest difference in a label's recall that n rows of the label can show between two systems; None if they show none.

    Two systems differ on a label only by the rows that one of them answers right and the other wrong. If all k of these favor the same
    system, the exact two-sided sign test has p = 2 (1/2)^k (McNemar, 1947; Conover, Practical Nonparametric Statistics, 1999, section
    3.5). The least k with p <= 1 - confidence, divided by n, is the difference: 6 rows at 95%. With rows that favor the other system,
    more are needed, so the difference is a lower bound.
    """
    k = math.ceil(1 - math.log2(1 - confidence) - 1e-9)
    return k / n if n >= k else None


def describe_few(counts: Mapping[str, int], confidence: float) -> str:
    """Say in a sentence which labels have fewer than FEW_ROWS test rows, and what difference these can show; "" if none has.

    counts  label → its test rows; labels without rows are left out
    """
    few = sorted(((n, label) for label, n in counts.items() if 0 < n < FEW_ROWS))
    if not few:
        return ""
    parts = []
    for n, label in few[:MOST_NAMES]:
        least = least_difference(n, confidence)
        parts.append(f"{label!r} has {n} ({'none' if least is None else f'{least:.2f} or more'})")
    more = f", and {len(few) - MOST_NAMES} more labels" if len(few) > MOST_NAMES else ""
    return (
        f"Fewer than {FEW_ROWS} test rows of a label: {', '.join(parts)}{more}. In brackets: the difference in the recall of the label "
        f"that these rows can show at {100 * confidence:g}% confidence."
    )
