"""Every metric on rows at the edge of its definition: it equals the library's value, or it is undefined (NaN).

The expected values are those of scikit-learn and scipy, computed here, or worked out in a comment.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from vertical_sdk.catalog import metrics
from vertical_sdk.evaluation.statistics import Bootstrap, bootstrap_interval, mcnemar, paired_bootstrap
from vertical_sdk.metrics import UNDEFINED, bind
from vertical_sdk.types import LabelSpace

NAN = math.nan
OK = np.zeros(6, dtype=np.int64)
BOTH = np.array([0, 1, 0, 1, 0, 0])
THREE = np.array([0, 1, 2, 2, 1, 0])
LABELS = LabelSpace(("ok", "fraud", "spam"))
TIED = np.full((6, 2), 0.5)
SURE = np.array([[0.9, 0.1]] * 6)
RANKED = np.stack([1 - np.linspace(0.1, 0.9, 6), np.linspace(0.1, 0.9, 6)], axis=1)
NONE_OF_TWO = np.zeros((4, 2), dtype=np.int64)
ALL_OF_TWO = np.ones((4, 2), dtype=np.int64)
ONE_OF_TWO = np.array([[1, 0], [0, 0], [1, 0], [0, 0]])
ONE_TRUTH = np.full((3, 2, 1), 4.0)
QUANTILES = np.stack([ONE_TRUTH, ONE_TRUTH - 1, ONE_TRUTH + 1], axis=-1)


def library(function: Any, *arguments: Any, **options: Any) -> float:
    """The library's value; undefined if it warns or raises that there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return float(function(*arguments, **options))
        except (ValueError, Warning):
            return UNDEFINED


LABEL_CASES = [
    ("accuracy", OK, OK, 1.0),
    ("accuracy", 1 - OK, OK, 0.0),
    ("accuracy", NONE_OF_TWO, ALL_OF_TWO, 0.0),
    ("micro_f1", OK, OK, 1.0),
    ("micro_f1", NONE_OF_TWO, NONE_OF_TWO, library(sk.f1_score, NONE_OF_TWO, NONE_OF_TWO, average="micro")),
    ("micro_f1", ALL_OF_TWO, NONE_OF_TWO, library(sk.f1_score, NONE_OF_TWO, ALL_OF_TWO, average="micro")),
    ("macro_f1", OK, OK, UNDEFINED),  # a system that always answers "ok" would have 1
    ("macro_f1", OK, BOTH, library(sk.f1_score, BOTH, OK, average="macro")),
    ("macro_f1", NONE_OF_TWO, NONE_OF_TWO, library(sk.f1_score, NONE_OF_TWO, NONE_OF_TWO, average="macro")),
    ("macro_f1", NONE_OF_TWO, ONE_OF_TWO, 0.0),
    ("macro_f1", ONE_OF_TWO, ONE_OF_TWO, 1.0),  # of the one label that some rows have and others have not
    ("weighted_f1", OK, OK, UNDEFINED),
    ("weighted_f1", OK, BOTH, library(sk.f1_score, BOTH, OK, average="weighted")),
    ("weighted_f1", NONE_OF_TWO, NONE_OF_TWO, library(sk.f1_score, NONE_OF_TWO, NONE_OF_TWO, average="weighted")),
    ("balanced_accuracy", OK, OK, UNDEFINED),
    ("balanced_accuracy", OK, BOTH, library(sk.balanced_accuracy_score, BOTH, OK)),
    ("hierarchical_f1", OK, OK, 1.0),
    ("mcc", OK, OK, UNDEFINED),
    ("mcc", BOTH, OK, UNDEFINED),
    ("mcc", OK, BOTH, library(sk.matthews_corrcoef, BOTH, OK)),
    ("mcc", 1 - BOTH, BOTH, library(sk.matthews_corrcoef, BOTH, 1 - BOTH)),
    ("quadratic_kappa", OK, OK, UNDEFINED),  # 0 / 0
    ("quadratic_kappa", OK, THREE, library(sk.cohen_kappa_score, THREE, OK, weights="quadratic")),
    ("quadratic_kappa", THREE, THREE, library(sk.cohen_kappa_score, THREE, THREE, weights="quadratic")),
    ("rank_mae", OK, THREE, library(sk.mean_absolute_error, THREE, OK)),
    ("alarm_precision", OK, BOTH, library(sk.precision_score, BOTH, OK)),
    ("alarm_precision", BOTH, OK, library(sk.precision_score, OK, BOTH)),
    ("alarm_recall", BOTH, OK, library(sk.recall_score, OK, BOTH)),
    ("alarm_f1", OK, OK, library(sk.f1_score, OK, OK)),
    ("alarm_f1", BOTH, OK, 0.0),  # no alarm is right: precision is 0
    ("mae", np.array([2.0]), np.array([2.0]), 0.0),
    ("rmse", np.array([1.0, 3.0]), np.array([2.0, 2.0]), library(sk.root_mean_squared_error, [2.0, 2.0], [1.0, 3.0])),
    ("r2", np.array([2.0]), np.array([2.0]), library(sk.r2_score, [2.0], [2.0])),
    ("r2", np.array([1.0, 3.0]), np.array([2.0, 2.0]), UNDEFINED),  # nothing varies, so nothing can be explained
    ("r2", np.array([2.0, 2.0]), np.array([1.0, 3.0]), library(sk.r2_score, [1.0, 3.0], [2.0, 2.0])),
    ("r2", np.zeros(3), np.array([1.0, 2.0, 6.0]), library(sk.r2_score, [1.0, 2.0, 6.0], np.zeros(3))),
    ("exact_match", [""], [""], 1.0),
    ("token_f1", ["", "yes"], ["yes", ""], 0.0),
    ("rouge_l", [""], ["yes"], 0.0),
    ("forecast_mae", ONE_TRUTH, np.full_like(ONE_TRUTH, NAN), UNDEFINED),
    ("forecast_rmse", ONE_TRUTH, np.full_like(ONE_TRUTH, NAN), UNDEFINED),
    ("forecast_mape", np.zeros_like(ONE_TRUTH), ONE_TRUTH / 5, UNDEFINED),  # truths of 0.8 are below 1
    ("forecast_mape", np.zeros_like(ONE_TRUTH), np.zeros_like(ONE_TRUTH), UNDEFINED),
    ("forecast_mape", np.zeros_like(ONE_TRUTH), ONE_TRUTH, library(sk.mean_absolute_percentage_error, [4.0], [0.0])),
]
PROBABILITY_CASES = [
    ("auc", RANKED, OK, library(sk.roc_auc_score, OK, RANKED[:, 1])),
    ("auc", TIED, BOTH, library(sk.roc_auc_score, BOTH, TIED[:, 1])),
    ("average_precision", RANKED, OK, library(sk.average_precision_score, OK, RANKED[:, 1])),
    ("average_precision", RANKED, OK + 1, UNDEFINED),  # scikit-learn's 1 holds for any ranking
    ("average_precision", TIED, BOTH, library(sk.average_precision_score, BOTH, TIED[:, 1])),
    ("precision_at_recall", RANKED, OK, UNDEFINED),
    ("sensitivity_at_specificity", RANKED, OK, UNDEFINED),
    ("log_loss", SURE, OK, library(sk.log_loss, OK, SURE, labels=[0, 1])),
    ("log_loss", TIED, BOTH, library(sk.log_loss, BOTH, TIED)),
    ("ece", SURE, OK, 0.1),  # all right, at a confidence of 0.9
    ("ece", TIED, BOTH, abs(0.5 - 4 / 6)),  # of ties the first label is chosen, which 4 of 6 rows have
    ("aurc", SURE, OK, 0.0),
    ("accuracy_at_coverage", TIED, BOTH, 4 / 6),
]


def assert_same(actual: float, expected: float) -> None:
    assert actual == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("name", "answers", "truth", "expected"), LABEL_CASES)
def test_a_metric_at_its_edge_is_the_librarys_or_undefined(name: str, answers: Any, truth: Any, expected: float) -> None:
    assert_same(bind(name, LABELS if name == "quadratic_kappa" else None)(answers, truth), expected)


@pytest.mark.parametrize(("name", "shares", "truth", "expected"), PROBABILITY_CASES)
def test_a_metric_of_probabilities_at_its_edge_is_the_librarys_or_undefined(
    name: str, shares: Any, truth: Any, expected: float
) -> None:
    assert_same(bind(name)(shares.argmax(axis=1), truth, shares), expected)


@pytest.mark.parametrize("name", ["coverage", "coverage_gap", "interval_width", "pinball_loss"])
def test_a_metric_of_quantiles_is_undefined_if_no_truth_is_known(name: str) -> None:
    assert math.isnan(bind(name)(ONE_TRUTH, np.full_like(ONE_TRUTH, NAN), quantiles=QUANTILES))


@pytest.mark.parametrize("name", [name for name in metrics.names() if "rows" not in bind(name).takes])
def test_every_metric_is_undefined_without_rows(name: str) -> None:
    tasks = metrics.part(name).tasks
    if "generation" in tasks:
        assert math.isnan(bind(name)([], []))
        return
    ahead = "forecasting" in tasks
    none = np.zeros((0, 2, 1)) if ahead else np.zeros(0, dtype=np.float64 if "regression" in tasks else np.int64)

    assert math.isnan(bind(name)(none, none, np.zeros((0, 2)), quantiles=np.zeros((*none.shape, 3))))


@pytest.mark.parametrize("name", ["auc", "average_precision", "ece", "log_loss", "aurc", "accuracy_at_coverage"])
def test_a_probability_that_is_not_a_number_makes_a_metric_undefined(name: str) -> None:
    shares = RANKED.copy()
    shares[2] = NAN

    assert math.isnan(bind(name)(BOTH, BOTH, shares))


@pytest.mark.parametrize("name", ["mae", "rmse", "r2"])
def test_a_prediction_that_is_not_a_number_makes_a_metric_undefined(name: str) -> None:
    assert math.isnan(bind(name)(np.array([1.0, NAN, 2.0]), np.array([1.0, 2.0, 3.0])))


@pytest.mark.parametrize("name", ["forecast_mae", "forecast_rmse", "forecast_mape", "coverage", "pinball_loss"])
def test_a_missing_forecast_counts_only_where_the_truth_is_known(name: str) -> None:
    truth, said, bounds = ONE_TRUTH.copy(), ONE_TRUTH.copy(), QUANTILES.copy()
    said[0, 0, 0] = bounds[0, 0, 0, :] = NAN

    assert math.isnan(bind(name)(said, truth, quantiles=bounds))
    truth[0, 0, 0] = NAN
    assert bind(name)(said, truth, quantiles=bounds) == bind(name)(said[1:], truth[1:], quantiles=bounds[1:])


def test_an_interval_leaves_out_the_resamples_without_a_value() -> None:
    values = iter([0.5, NAN, 0.5, 0.7])  # the last is of all rows
    few = Bootstrap(resamples=3)
    assert bootstrap_interval(lambda rows: next(values), 4, few).low == pytest.approx(0.5)

    values = iter([NAN, NAN, 0.5, 0.7])
    interval = bootstrap_interval(lambda rows: next(values), 4, few)
    assert (interval.value, math.isnan(interval.low), math.isnan(interval.high)) == (0.7, True, True)


def test_a_comparison_with_an_undefined_value_has_no_p_value() -> None:
    test = paired_bootstrap(lambda rows: 1.0, lambda rows: NAN, 4, Bootstrap(resamples=100))

    assert math.isnan(test.p_value)
    assert all(map(math.isnan, (test.difference.value, test.difference.low, test.difference.high)))


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 0), (5, 12), (24, 0)])
def test_mcnemars_test_is_the_binomial_test_of_few_differences(first: int, second: int) -> None:
    right = np.array([True] * first + [False] * second + [True] * 4)
    other = np.array([False] * first + [True] * second + [True] * 4)

    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(right, other) == pytest.approx(expected)
