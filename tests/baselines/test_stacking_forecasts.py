"""Forecasts of several systems as one."""

from __future__ import annotations

import numpy as np

from vertical_sdk.calibration.stacking import fit_shares
from vertical_sdk.tasks import get_task


def test_weights_of_a_mean_find_what_the_truth_was_mixed_of() -> None:
    rng = np.random.default_rng(0)
    one, other, noise = (rng.normal(size=(50, 4, 3)) for _ in range(3))
    truth = 0.7 * one + 0.3 * other
    truth[0] = np.nan

    weights = fit_shares([one, other, noise], truth)

    assert abs(weights.sum() - 1) < 1e-9
    np.testing.assert_allclose(weights, [0.7, 0.3, 0.0], atol=0.01)


def test_quantiles_move_with_the_median() -> None:
    own = np.array([[[[1.0, 0.0, 3.0]]]])
    assert get_task("forecasting").pooled_raw(own, np.array([[[5.0]]])).tolist() == [[[[5.0, 4.0, 7.0]]]]
