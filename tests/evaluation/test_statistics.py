from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vertical_sdk.evaluation.statistics import bootstrap_interval, mcnemar, paired_bootstrap, resampled_rows
from vertical_sdk.types import Interval


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, size=400)

    found = bootstrap_interval(lambda rows: float(values[rows].mean()), 400, resamples=4000)

    reach = 1.96 * values.std() / 20
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - reach, abs=0.02)
    assert found.high == pytest.approx(values.mean() + reach, abs=0.02)


def test_a_95_percent_interval_holds_the_truth_about_19_times_in_20() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        right = rng.random(150) < 0.7
        found = bootstrap_interval(lambda rows, right=right: float(right[rows].mean()), 150, resamples=200)
        held += found.low <= 0.7 <= found.high

    assert 180 <= held <= 198


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(2).random(50)
    one, again, other = (
        bootstrap_interval(lambda rows: float(values[rows].mean()), 50, resamples=100, seed=s) for s in (1, 1, 2)
    )

    assert one == again != other


def test_an_interval_holds_its_own_value_even_where_resampling_is_biased() -> None:
    values = np.arange(30.0)

    # the number of different rows is 30 in the sample and never in a resample
    found = bootstrap_interval(lambda rows: float(len(set(values[rows]))), 30, resamples=100)

    assert found.high == found.value == 30


def test_groups_are_drawn_whole() -> None:
    groups = ["a", "b", None, "a", None, "b", "a"]

    for rows in resampled_rows(7, 50, 0, groups):
        drawn = np.bincount(rows, minlength=7)
        assert drawn[0] == drawn[3] == drawn[6]
        assert drawn[1] == drawn[5]
        assert (drawn > 0).sum() <= 7


def test_rows_of_a_group_that_are_all_alike_count_as_one_row() -> None:
    patients = np.random.default_rng(3).random(40)
    visits = np.repeat(patients, 5)
    names = np.repeat(np.arange(40), 5).tolist()

    by_group = bootstrap_interval(lambda rows: float(visits[rows].mean()), 200, groups=names)
    one_each = bootstrap_interval(lambda rows: float(patients[rows].mean()), 40)
    careless = bootstrap_interval(lambda rows: float(visits[rows].mean()), 200)

    assert by_group.low == pytest.approx(one_each.low)
    assert by_group.high == pytest.approx(one_each.high)
    assert careless.high - careless.low < 0.6 * (by_group.high - by_group.low)


def test_systems_that_say_the_same_do_not_differ() -> None:
    right = np.random.default_rng(4).random(100) < 0.5

    found = paired_bootstrap(lambda rows: float(right[rows].mean()), lambda rows: float(right[rows].mean()), 100)

    assert found.difference == Interval(0.0, 0.0, 0.0)
    assert found.p_value == 1.0


def test_the_p_value_of_a_paired_difference_is_near_that_of_the_t_test() -> None:
    rng = np.random.default_rng(5)
    hard = rng.normal(size=200)
    first, second = hard + rng.normal(0.06, 0.3, size=200), hard + rng.normal(0, 0.3, size=200)

    found = paired_bootstrap(lambda r: float(first[r].mean()), lambda r: float(second[r].mean()), 200, resamples=4000)

    assert found.difference.value == pytest.approx((first - second).mean())
    assert found.p_value == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.02)


def test_a_sure_difference_has_the_least_p_value_and_never_zero() -> None:
    found = paired_bootstrap(lambda rows: 1.0, lambda rows: 0.0, 10, resamples=999)

    assert found.p_value == pytest.approx(0.002)


def test_mcnemar_on_few_rows_is_the_binomial_test() -> None:
    first = np.array([True] * 10 + [False] * 2 + [True] * 30)
    second = np.array([False] * 10 + [True] * 2 + [True] * 30)

    assert mcnemar(first, second) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_mcnemar_on_many_rows_is_chi_squared_with_correction() -> None:
    first = np.array([True] * 150 + [False] * 86)

    assert mcnemar(first, ~first) == pytest.approx(stats.chi2.sf((150 - 86 - 1) ** 2 / 236, df=1))


def test_mcnemar_of_systems_that_are_right_on_the_same_rows_is_one() -> None:
    assert mcnemar(np.array([True, False]), np.array([True, False])) == 1.0


def test_no_rows_and_groups_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        next(resampled_rows(0, 1, 0))
    with pytest.raises(ValueError, match="2 groups were given for 3 rows"):
        next(resampled_rows(3, 1, 0, ["a", "b"]))
