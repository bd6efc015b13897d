"""Abstention with a guarantee: of what is answered, at most a share alpha is wrong, with confidence 1 - delta.

Learn Then Test (Angelopoulos, Bates, Candès, Jordan and Lei, 2021) on the validation rows. For each threshold on the confidence of the
chosen label, the hypothesis is that more than alpha of the answers above it are wrong. Its p-value is the exact binomial tail: how
probable so few errors are among so many answers if alpha of them are wrong. The hypotheses are tested from the strictest threshold
down, each at the level delta, until one is not rejected (fixed-sequence testing), so the probability that any of the thresholds
before it breaks the promise is at most delta.

The thresholds are confidences of the rows themselves, at shares of the rows that are fixed before, and are chosen without the labels.
The row at the threshold is not answered: the rows above it are then independent draws of what is answered, so the binomial tail is
exact at each threshold. The level of the whole sequence is exact if a less confident answer is not more often right.

Rows of one group (a patient, a contract) resemble each other, which the binomial tail does not know. Only one row of each group is
tested then, and the promise is about such rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.card import Promise
from vertical_sdk.recipe import Abstention
from vertical_sdk.types import Interval

__all__ = ["compute_share", "fit_promise", "select_independent"]

STEPS = 100
"""Thresholds are tested at each hundredth of the rows."""
FEW_WRONG = 1
"""The strictest threshold has enough answers that so many wrong ones do not end the test."""


def fit_promise(
    confidence: NDArray[np.float64], wrong: NDArray[np.bool_], groups: Sequence[Hashable | None], settings: Abstention
) -> Promise:
    """Fit the lowest threshold that keeps the promise; a promise without a threshold if none does.

    confidence  (rows,) calibrated probability of the chosen label
    wrong       (rows,) whether the chosen label is wrong
    groups      the group of each row; None for a row that resembles no other
    """
    from scipy.stats import binom

    alpha, delta, at = settings.alpha, settings.delta, select_independent(groups)
    order = at[np.argsort(-confidence[at], kind="stable")]
    ranked, errors = confidence[order], np.append(0, np.cumsum(wrong[order]))
    thresholds = _list_thresholds(ranked)
    answered = np.searchsorted(-ranked, -thresholds, side="right")
    enough = binom.cdf(FEW_WRONG, answered, alpha) <= delta
    thresholds, answered = thresholds[enough], answered[enough]
    rejected = binom.cdf(errors[answered], answered, alpha) <= delta
    passed = len(rejected) if rejected.all() else int(rejected.argmin())
    count = int(answered[passed - 1]) if passed else 0
    share = compute_share(count, len(ranked))
    return Promise(
        alpha=alpha,
        delta=delta,
        threshold=float(thresholds[passed - 1]) if passed else None,
        rows=len(ranked),
        groups=any(group is not None for group in groups),
        answered=count,
        wrong=int(errors[count]),
        low=share.low,
        high=share.high,
    )


def _list_thresholds(ranked: NDArray[np.float64]) -> NDArray[np.float64]:
    """The thresholds to test, from the strictest down: the next number above a row's confidence; the last one, 0, answers all rows.

    ranked  (rows,) confidences, the highest first
    """
    counts = np.unique(np.ceil(len(ranked) * np.arange(1, STEPS + 1) / STEPS).astype(np.int64))
    return np.append(np.nextafter(ranked[counts[counts < len(ranked)]], np.inf), 0.0)


def compute_share(count: int, of: int, confidence: float = 0.95) -> Interval:
    """Compute a share with its exact interval (Clopper and Pearson, 1934); 0 to 1, with the value NaN, of no rows."""
    from scipy.stats import beta

    if not of:
        return Interval(float("nan"), 0.0, 1.0)
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, count, of - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, of - count)) if count < of else 1.0
    return Interval(count / of, low, high)


def select_independent(groups: Sequence[Hashable | None]) -> NDArray[np.int64]:
    """Select one row of each group, drawn at random but the same each time, and the rows without a group: their positions in order.

    groups  (rows,) the group of each row; None for a row without one
    """
    chosen: dict[Hashable, int] = {}
    for position in np.random.default_rng(0).permutation(len(groups)).tolist():
        group = groups[position]
        chosen.setdefault((position,) if group is None else group, position)
    return np.array(sorted(chosen.values()), dtype=np.int64)
