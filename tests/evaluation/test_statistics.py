from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vertical_sdk.evaluation.statistics import Bootstrap, bootstrap_interval, mcnemar, paired_bootstrap, resampled_rows
from vertical_sdk.types import Interval


def test_interval_of_a_mean_equals_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, size=400)

    result = bootstrap_interval(lambda rows: float(values[rows].mean()), 400, Bootstrap(4000))

    reach = 1.96 * values.std() / 20
    assert result.value == values.mean()
    assert result.low == pytest.approx(values.mean() - reach, abs=0.02)
    assert result.high == pytest.approx(values.mean() + reach, abs=0.02)


def test_95_percent_interval_contains_the_truth_about_19_times_in_20() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        right = rng.random(150) < 0.7
        result = bootstrap_interval(lambda rows, right=right: float(right[rows].mean()), 150, Bootstrap(200))
        covered += result.low <= 0.7 <= result.high

    assert 180 <= covered <= 198


def test_interval_depends_on_the_seed_only() -> None:
    values = np.random.default_rng(2).random(50)
    first, repeated, other = (
        bootstrap_interval(lambda rows: float(values[rows].mean()), 50, Bootstrap(100, seed=s)) for s in (1, 1, 2)
    )

    assert first == repeated != other


def test_interval_contains_its_value_even_if_resampling_is_biased() -> None:
    values = np.arange(30.0)

    # the number of different rows is 30 in the sample and never in a resample
    result = bootstrap_interval(lambda rows: float(len(set(values[rows]))), 30, Bootstrap(100))

    assert result.high == result.value == 30


def test_groups_are_resampled_whole() -> None:
    groups = ["a", "b", None, "a", None, "b", "a"]

    for rows in resampled_rows(7, Bootstrap(50, groups=groups)):
        drawn = np.bincount(rows, minlength=7)
        assert drawn[0] == drawn[3] == drawn[6]
        assert drawn[1] == drawn[5]
        assert (drawn > 0).sum() <= 7


def test_identical_rows_of_a_group_count_as_one_row() -> None:
    patients = np.random.default_rng(3).random(40)
    visits = np.repeat(patients, 5)
    names = np.repeat(np.arange(40), 5).tolist()

    by_group = bootstrap_interval(lambda rows: float(visits[rows].mean()), 200, Bootstrap(groups=names))
    one_row_each = bootstrap_interval(lambda rows: float(patients[rows].mean()), 40)
    ungrouped = bootstrap_interval(lambda rows: float(visits[rows].mean()), 200)

    assert by_group.low == pytest.approx(one_row_each.low)
    assert by_group.high == pytest.approx(one_row_each.high)
    assert ungrouped.high - ungrouped.low < 0.6 * (by_group.high - by_group.low)


def test_equal_systems_have_no_difference() -> None:
    right = np.random.default_rng(4).random(100) < 0.5

    result = paired_bootstrap(lambda rows: float(right[rows].mean()), lambda rows: float(right[rows].mean()), 100)

    assert result.difference == Interval(0.0, 0.0, 0.0)
    assert result.p_value == 1.0


def test_p_value_of_a_paired_difference_is_near_that_of_the_t_test() -> None:
    rng = np.random.default_rng(5)
    hard = rng.normal(size=200)
    first, second = hard + rng.normal(0.06, 0.3, size=200), hard + rng.normal(0, 0.3, size=200)

    result = paired_bootstrap(lambda r: float(first[r].mean()), lambda r: float(second[r].mean()), 200, Bootstrap(4000))

    assert result.difference.value == pytest.approx((first - second).mean())
    assert result.p_value == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.02)


def test_largest_difference_has_the_smallest_p_value_above_zero() -> None:
    result = paired_bootstrap(lambda rows: 1.0, lambda rows: 0.0, 10, Bootstrap(999))

    assert result.p_value == pytest.approx(0.002)


def test_mcnemar_on_few_rows_equals_the_binomial_test() -> None:
    first = np.array([True] * 10 + [False] * 2 + [True] * 30)
    second = np.array([False] * 10 + [True] * 2 + [True] * 30)

    assert mcnemar(first, second) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_mcnemar_on_many_rows_equals_corrected_chi_squared() -> None:
    first = np.array([True] * 150 + [False] * 86)

    assert mcnemar(first, ~first) == pytest.approx(stats.chi2.sf((150 - 86 - 1) ** 2 / 236, df=1))


def test_mcnemar_is_one_if_both_are_right_on_the_same_rows() -> None:
    assert mcnemar(np.array([True, False]), np.array([True, False])) == 1.0


def test_no_rows_and_groups_of_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        next(resampled_rows(0, Bootstrap(1)))
    with pytest.raises(ValueError, match="2 groups were given for 3 rows"):
        next(resampled_rows(3, Bootstrap(1, groups=["a", "b"])))
