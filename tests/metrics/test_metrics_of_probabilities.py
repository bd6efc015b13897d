from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from vertical_sdk.metrics import bind

RNG = np.random.default_rng(1)
SHARES = RNG.dirichlet(np.ones(4), 300).round(1) + 0.01  # rounded, so that there are ties
SHARES /= SHARES.sum(axis=1, keepdims=True)
TRUTH = RNG.integers(0, 4, 300)
ONE_HOT = TRUTH[:, None] == np.arange(4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("log_loss", sk.log_loss(TRUTH, SHARES)),
        ("auc", sk.roc_auc_score(TRUTH, SHARES, multi_class="ovr", average="macro")),
        ("average_precision", sk.average_precision_score(ONE_HOT, SHARES, average="macro")),
    ],
)
def test_metrics_of_probabilities_are_those_of_scikit_learn(name: str, expected: float) -> None:
    assert bind(name)(SHARES.argmax(axis=1), TRUTH, SHARES) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("name", "of"), [("auc", sk.roc_auc_score), ("average_precision", sk.average_precision_score)])
def test_two_labels_are_judged_by_the_second(name: str, of: object) -> None:
    second = RNG.random(200).round(1)
    truth = RNG.integers(0, 2, 200)

    measured = bind(name)(None, truth, np.stack([1 - second, second], axis=1))

    assert measured == pytest.approx(of(truth, second))  # type: ignore[operator]


def test_calibration_error_is_worked_out_by_hand() -> None:
    # Two bins of equal width: (0, 0.5] and (0.5, 1]
    shares = np.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    truth = np.array([1, 0, 1, 1])

    # first bin: one row, confidence 0.5, right 0; second: three rows, confidence 0.8, right 2/3
    expected = 1 / 4 * abs(0 - 0.5) + 3 / 4 * abs(2 / 3 - 0.8)
    assert bind("ece", arguments={"bins": 2})(None, truth, shares) == pytest.approx(expected)


def test_calibration_error_of_several_labels_counts_every_decision() -> None:
    shares = np.array([[0.9, 0.1], [0.9, 0.1]])
    truth = np.array([[1, 0], [0, 0]])

    # decisions at 0.9: half have the label; at 0.1: none has
    assert bind("ece")(None, truth, shares) == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)


def test_log_loss_of_several_labels_is_the_mean_over_decisions() -> None:
    shares = np.array([[0.8, 0.4]])
    truth = np.array([[1, 0]])

    assert bind("log_loss")(None, truth, shares) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)


def test_a_metric_of_probabilities_says_when_there_are_none() -> None:
    with pytest.raises(TypeError, match="'ece' needs probabilities"):
        bind("ece")(TRUTH, TRUTH)
