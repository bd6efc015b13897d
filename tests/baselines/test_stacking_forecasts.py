"""Stacking the forecasts of several systems."""

from __future__ import annotations

import numpy as np

from vertical_sdk.calibration.stacking import fit_shares
from vertical_sdk.tasks import get_task


def test_fit_shares_finds_the_mixture_that_made_the_truth() -> None:
    rng = np.random.default_rng(0)
    first, second, noise = (rng.normal(size=(50, 4, 3)) for _ in range(3))
    truth = 0.7 * first + 0.3 * second
    truth[0] = np.nan

    weights = fit_shares([first, second, noise], truth)

    assert abs(weights.sum() - 1) < 1e-9
    np.testing.assert_allclose(weights, [0.7, 0.3, 0.0], atol=0.01)


def test_quantiles_move_with_the_median() -> None:
    own = np.array([[[[1.0, 0.0, 3.0]]]])
    assert get_task("forecasting").pooled_raw(own, np.array([[[5.0]]])).tolist() == [[[[5.0, 4.0, 7.0]]]]
