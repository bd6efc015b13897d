from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from vertical_sdk.metrics import bind

RNG = np.random.default_rng(5)


def measured(second: np.ndarray, references: np.ndarray, specificity: float) -> float:
    both = np.stack([1 - second, second], axis=1)
    return bind("sensitivity_at_specificity", arguments={"specificity": specificity})(None, references, both)


def test_it_is_what_is_found_while_enough_of_the_others_are_left_alone() -> None:
    second = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    truth = np.array([1, 0, 1, 1, 0, 0])

    # of 3 others wrong after each row: 0, 1, 1, 1, 2, 3; found of 3: 1, 1, 2, 3, 3, 3
    assert measured(second, truth, 1.0) == pytest.approx(1 / 3)
    assert measured(second, truth, 2 / 3) == pytest.approx(1.0)
    assert measured(second, truth, 0.0) == pytest.approx(1.0)


def test_rows_with_equal_scores_share_one_threshold() -> None:
    assert measured(np.full(4, 0.5), np.array([1, 0, 1, 0]), 0.9) == 0.0
    assert np.isnan(measured(np.full(4, 0.5), np.array([1, 1, 1, 1]), 0.9))


@pytest.mark.parametrize("specificity", [0.5, 0.9, 0.95])
def test_it_is_that_of_scikit_learns_curve(specificity: float) -> None:
    second, truth = RNG.random(300).round(2), RNG.integers(0, 2, 300)

    wrong, found, _ = roc_curve(truth, second, drop_intermediate=False)

    assert measured(second, truth, specificity) == pytest.approx(found[wrong <= 1 - specificity + 1e-9].max())
