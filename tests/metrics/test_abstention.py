from __future__ import annotations

import numpy as np
import pytest

from vertical_sdk.errors import RecipeError
from vertical_sdk.metrics import bind
from vertical_sdk.metrics.abstention import MOST_POINTS, abstention_curve, accuracy_at_coverage, aurc

SURE = np.array([0.9, 0.8, 0.7, 0.6])
SCORES = np.stack([SURE, 1 - SURE], axis=1)
TRUTH = np.array([0, 0, 1, 0])  # only the third is wrong


def test_the_area_is_the_mean_risk_over_all_coverages() -> None:
    assert aurc(SCORES, TRUTH) == pytest.approx((0 / 1 + 0 / 2 + 1 / 3 + 1 / 4) / 4)


def test_the_surest_rows_are_answered_first() -> None:
    assert accuracy_at_coverage(SCORES, TRUTH, coverage=0.5) == 1.0
    assert accuracy_at_coverage(SCORES, TRUTH, coverage=0.6) == pytest.approx(2 / 3)  # three of four rows
    assert accuracy_at_coverage(SCORES, TRUTH, coverage=1.0) == 0.75


def test_rows_that_are_equally_sure_count_the_same_in_any_order() -> None:
    scores = np.full((4, 2), 0.5)

    for seed in range(5):
        truth = np.random.default_rng(seed).permutation([0, 0, 0, 1])
        assert aurc(scores, truth) == pytest.approx(0.25)
        assert accuracy_at_coverage(scores, truth, coverage=0.25) == pytest.approx(0.75)


def test_a_confidence_that_orders_rows_by_whether_they_are_right_has_the_least_area() -> None:
    rng = np.random.default_rng(0)
    sure = np.sort(rng.uniform(0.5, 1, 200))[::-1]
    scores = np.stack([sure, 1 - sure], axis=1)
    wrong = np.arange(200) >= 150

    areas = [aurc(scores, rng.permutation(wrong).astype(int)) for _ in range(20)]

    # 50 errors after 150 right rows: mean over k > 150 of (k - 150) / k
    assert aurc(scores, wrong.astype(int)) == pytest.approx(sum((k - 150) / k for k in range(151, 201)) / 200)
    assert aurc(scores, wrong.astype(int)) < min(areas)
    assert np.mean(areas) == pytest.approx(0.25, abs=0.05)


def test_a_row_without_an_answer_comes_last_and_is_wrong() -> None:
    scores = np.array([[0.0, 0.0], [0.6, 0.4]])

    assert accuracy_at_coverage(scores, np.array([0, 0]), coverage=0.5) == 1.0
    assert accuracy_at_coverage(scores, np.array([0, 0]), coverage=1.0) == 0.5


def test_the_curve_says_what_each_threshold_gives() -> None:
    assert abstention_curve(SCORES, TRUTH) == [
        (0.25, 1.0, 0.9),
        (0.5, 1.0, 0.8),
        (0.75, pytest.approx(2 / 3), 0.7),
        (1.0, 0.75, 0.6),
    ]


def test_every_point_of_a_long_curve_is_what_answering_from_its_threshold_gives() -> None:
    rng = np.random.default_rng(3)
    scores = np.round(rng.dirichlet([1, 1, 1], size=997), 2)  # many ties
    truth = rng.integers(0, 3, 997)

    curve = abstention_curve(scores, truth)

    assert 20 < len(curve) <= MOST_POINTS
    assert curve[-1][0] == 1.0
    for coverage, accuracy, threshold in curve:
        answered = scores.max(axis=1) >= threshold
        assert coverage == pytest.approx(answered.mean())
        assert accuracy == pytest.approx((scores.argmax(axis=1) == truth)[answered].mean())


def test_a_coverage_of_nothing_is_refused() -> None:
    assert bind("accuracy_at_coverage", arguments={"coverage": 0.5})(TRUTH, TRUTH, SCORES) == 1.0
    with pytest.raises(RecipeError, match="coverage"):
        bind("accuracy_at_coverage", arguments={"coverage": 0})
