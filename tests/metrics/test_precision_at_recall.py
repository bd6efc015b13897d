from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from vertical_sdk.metrics import bind

RNG = np.random.default_rng(4)


def measured(probabilities: np.ndarray, references: np.ndarray, recall: float = 0.8) -> float:
    return bind("precision_at_recall", arguments={"recall": recall})(None, references, probabilities)


def test_it_is_the_best_precision_of_a_threshold_that_finds_enough() -> None:
    second = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    truth = np.array([1, 0, 1, 1, 0, 1])
    both = np.stack([1 - second, second], axis=1)

    # found of 4 after each row: 1, 1, 2, 3, 3, 4; precision 1, 1/2, 2/3, 3/4, 3/5, 4/6
    assert measured(both, truth, 0.25) == pytest.approx(1.0)
    assert measured(both, truth, 0.5) == pytest.approx(3 / 4)
    assert measured(both, truth, 0.8) == pytest.approx(4 / 6)


def test_rows_of_the_same_score_are_taken_together() -> None:
    second = np.array([0.9, 0.5, 0.5, 0.5])
    truth = np.array([0, 1, 0, 0])

    assert measured(np.stack([1 - second, second], axis=1), truth, 0.1) == pytest.approx(1 / 4)


@pytest.mark.parametrize("recall", [0.3, 0.8, 1.0])
def test_it_is_that_of_scikit_learns_curve_averaged_over_labels(recall: float) -> None:
    shares = RNG.dirichlet(np.ones(4), 200).round(1)
    truth = RNG.integers(0, 3, 200)  # no row has the last label, which is left out

    expected = []
    for label in range(3):
        precision, found, _ = precision_recall_curve(truth == label, shares[:, label])
        expected.append(precision[found >= recall - 1e-12].max())
    assert measured(shares, truth, recall) == pytest.approx(np.mean(expected))


def test_each_label_of_several_is_judged_by_itself() -> None:
    shares = np.array([[0.9, 0.1], [0.8, 0.9], [0.1, 0.2]])
    truth = np.array([[0, 0], [1, 1], [1, 0]])

    assert measured(shares, truth, 1.0) == pytest.approx((2 / 3 + 1) / 2)


def test_without_any_reference_it_is_undefined() -> None:
    assert np.isnan(measured(np.array([[0.5, 0.5]]), np.array([[0, 0]])))
