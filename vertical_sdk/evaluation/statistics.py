"""Confidence intervals, and paired tests of two systems on the same rows.

Rows are drawn with replacement (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). If rows belong to groups whose
rows resemble each other (a patient, a contract), whole groups are drawn (the cluster bootstrap; Davison and Hinkley, Bootstrap
Methods and their Application, 1997, section 3.8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.types import Interval, PairedTest

__all__ = [
    "Bootstrap",
    "Ints",
    "OfRows",
    "Resampled",
    "bootstrap_interval",
    "compare_resampled",
    "mcnemar",
    "paired_bootstrap",
    "percentile_interval",
    "resample",
    "resampled_rows",
]

Ints = NDArray[np.int64]
OfRows = Callable[[Ints], float]
"""A metric of the rows at these positions; a position may occur more than once."""


@dataclass(frozen=True)
class Bootstrap:
    """How rows are drawn for intervals.

    resamples   how often rows are drawn
    confidence  of the intervals
    seed        of the draws
    groups      the group of each row, which is drawn whole; None for a row: it is drawn by itself. None: no row has a group
    """

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    groups: Sequence[Hashable | None] | None = None

    def select(self, rows: Ints) -> Bootstrap:
        """The same for the rows at these positions only."""
        groups = self.groups
        return self if groups is None else replace(self, groups=[groups[row] for row in rows.tolist()])


DEFAULT = Bootstrap()


@dataclass(frozen=True, eq=False)
class Resampled:
    """A metric of all rows, and of each resample of them.

    values  (resamples,)
    """

    value: float
    values: NDArray[np.float64]

    def interval(self, confidence: float) -> Interval:
        """The percentile interval; see `bootstrap_interval`."""
        return percentile_interval(self.value, self.values, confidence)


def resample(metric: OfRows, n: int, resampling: Bootstrap = DEFAULT) -> Resampled:
    """Measure a metric over n rows and over each resample of them."""
    values = np.array([metric(rows) for rows in resampled_rows(n, resampling)])
    return Resampled(metric(np.arange(n)), values)


def bootstrap_interval(metric: OfRows, n: int, resampling: Bootstrap = DEFAULT) -> Interval:
    """Measure a metric over n rows with its percentile interval (Efron and Tibshirani, 1993, chapter 13).

    If needed, the interval is widened to contain the value itself: a metric that grows with noise (ECE) is larger in resamples than
    in the sample.
    """
    return resample(metric, n, resampling).interval(resampling.confidence)


def paired_bootstrap(first: OfRows, second: OfRows, n: int, resampling: Bootstrap = DEFAULT) -> PairedTest:
    """Measure how much better the first system is than the second on the same resampled rows (Koehn, 2004)."""
    return compare_resampled(resample(first, n, resampling), resample(second, n, resampling), resampling.confidence)


def compare_resampled(first: Resampled, second: Resampled, confidence: float) -> PairedTest:
    """Compare two systems that were measured on the same resamples: first minus second.

    The p-value is twice the smaller share of resamples on one side of zero, each share counted with one more resample on
    that side (Davison and Hinkley, 1997, section 4.2.5), so that it is never 0: with 1,000 resamples the least is 0.002.
    """
    differences = first.values - second.values
    interval = percentile_interval(first.value - second.value, differences, confidence)
    known = differences[~np.isnan(differences)]
    tail = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    p_value = math.nan if math.isnan(interval.low) else min(1.0, 2 * (tail + 1) / (len(known) + 1))
    return PairedTest(interval, p_value, confidence)


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> float:
    """Compute the two-sided p-value of McNemar's test (1947) on the rows that only one of two systems has right.

    Below 25 such rows, this is the exact binomial test; from 25 on, chi-squared with one degree of freedom and Edwards' (1948)
    continuity correction.

    first_right, second_right  (rows,) bool, the same rows in the same order
    """
    only_first = int(np.count_nonzero(first_right & ~second_right))
    only_second = int(np.count_nonzero(~first_right & second_right))
    n = only_first + only_second
    if n == 0:
        return 1.0
    if n < 25:
        tail = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1))
        return min(1.0, float(2 * tail / 2**n))
    chi_squared = max(0, abs(only_first - only_second) - 1) ** 2 / n
    return math.erfc(math.sqrt(chi_squared / 2))


def resampled_rows(n: int, resampling: Bootstrap = DEFAULT) -> Iterator[Ints]:
    """Draw positions of rows with replacement; the same ones for the same n and resampling, whatever is measured on them."""
    if n < 1:
        raise ValueError("there are no rows to draw from")
    rng, groups = np.random.default_rng(resampling.seed), resampling.groups
    if groups is None:
        for _ in range(resampling.resamples):
            yield rng.integers(0, n, size=n)
        return
    if len(groups) != n:
        raise ValueError(f"{len(groups)} groups were given for {n} rows")
    members = _group_rows(groups)
    for _ in range(resampling.resamples):
        yield np.concatenate([members[i] for i in rng.integers(0, len(members), size=len(members))])


def _group_rows(groups: Sequence[Hashable | None]) -> list[Ints]:
    """The rows of each group, in order of first appearance; a row without a group is a group of its own."""
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(("row", row) if group is None else ("group", group), []).append(row)
    return [np.array(rows, dtype=np.int64) for rows in members.values()]


def percentile_interval(value: float, resampled: NDArray[np.float64], confidence: float) -> Interval:
    """The value with the interval that contains this share of the resampled values, widened to contain the value.

    Resamples in which the metric is undefined (NaN), such as the AUC of rows of one label, are left out. If that are more than half,
    or the value itself is undefined, the interval is undefined.
    """
    known = resampled[~np.isnan(resampled)]
    if math.isnan(value) or 2 * len(known) < len(resampled):
        return Interval(float(value), math.nan, math.nan)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(min(low, value)), float(max(high, value)))
