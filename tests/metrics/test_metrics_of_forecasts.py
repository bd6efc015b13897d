from __future__ import annotations

import numpy as np
import pytest

from vertical_sdk.catalog import metrics
from vertical_sdk.errors import RecipeError
from vertical_sdk.metrics.measure import bind, higher_is_better
from vertical_sdk.tasks import get_task

NAN = float("nan")
TRUTH = np.array([[[10.0, 20.0], [0.5, NAN]], [[40.0, 50.0], [60.0, 70.0]]])  # 2 rows, 2 steps, 2 channels
SAID = np.array([[[11.0, 18.0], [1.0, 99.0]], [[40.0, 54.0], [63.0, 70.0]]])


def test_errors_of_unknown_truths_do_not_count() -> None:
    assert bind("forecast_mae")(SAID, TRUTH) == pytest.approx((1 + 2 + 0.5 + 0 + 4 + 3 + 0) / 7)
    assert bind("forecast_rmse")(SAID, TRUTH) == pytest.approx(((1 + 4 + 0.25 + 0 + 16 + 9 + 0) / 7) ** 0.5)


def test_one_step_is_measured_alone() -> None:
    assert bind("forecast_mae", arguments={"step": 1})(SAID, TRUTH) == pytest.approx((1 + 2 + 0 + 4) / 4)
    assert bind("forecast_rmse", arguments={"step": 2})(SAID, TRUTH) == pytest.approx(((0.25 + 9) / 3) ** 0.5)


def test_shares_leave_out_what_is_nearly_nothing() -> None:
    expected = (1 / 10 + 2 / 20 + 0 + 4 / 50 + 3 / 60 + 0) / 6

    assert bind("forecast_mape")(SAID, TRUTH) == pytest.approx(expected)
    assert bind("forecast_mape", arguments={"least": 0.1})(SAID, TRUTH) == pytest.approx((expected * 6 + 1) / 7)


def test_a_step_that_is_not_forecast_is_refused() -> None:
    with pytest.raises(RecipeError, match="step = 3, but the forecasts have 2 steps"):
        bind("forecast_mae", arguments={"step": 3})(SAID, TRUTH)


@pytest.mark.parametrize("name", ["forecast_mae", "forecast_rmse", "forecast_mape"])
def test_errors_are_undefined_if_no_truth_is_known(name: str) -> None:
    assert np.isnan(bind(name)(SAID, np.full_like(TRUTH, NAN)))


def test_shares_are_undefined_if_every_truth_is_nearly_nothing() -> None:
    small = TRUTH / 1000  # 0.07 at most

    assert np.isnan(bind("forecast_mape")(SAID, small))
    # of one truth that counts, 0.07, the error is 1
    assert bind("forecast_mape", arguments={"least": 0.065})(small + 0.07, small) == pytest.approx(1.0)


def test_coverage_counts_truths_within_the_outer_quantiles() -> None:
    bounds = np.stack([SAID, SAID - 2, SAID + 1], axis=-1)

    # |10-11|, |20-18|: 20 > 19, no; .5 in [-1, 2]; 40 yes; 50 < 52 no; 60 < 61 no; 70 yes
    assert bind("coverage")(SAID, TRUTH, quantiles=bounds) == pytest.approx(4 / 7)
    assert bind("coverage_gap", arguments={"level": 0.9})(SAID, TRUTH, quantiles=bounds) == pytest.approx(0.9 - 4 / 7)
    assert bind("interval_width")(SAID, TRUTH, quantiles=bounds) == pytest.approx(3.0)


def test_coverage_serves_numbers_too() -> None:
    bounds = np.array([[1.0, 0.0, 2.0], [5.0, 4.0, 6.0]])

    assert bind("coverage")(bounds[:, 0], np.array([1.5, 9.0]), quantiles=bounds) == 0.5


def test_pinball_loss_is_scikit_learns() -> None:
    from sklearn.metrics import mean_pinball_loss

    rng = np.random.default_rng(0)
    truth = rng.normal(size=(5, 3, 2))
    bounds = np.sort(rng.normal(size=(5, 3, 2, 3)), axis=-1)[..., [1, 0, 2]]
    each = [mean_pinball_loss(truth.ravel(), bounds[..., i].ravel(), alpha=a) for i, a in enumerate((0.5, 0.1, 0.8))]

    measured = bind("pinball_loss", arguments={"levels": [0.8, 0.1]})(bounds[..., 0], truth, quantiles=bounds)

    assert measured == pytest.approx(2 * np.mean(each))


def test_pinball_loss_needs_the_levels_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match="Set levels to the recipe's series"):
        bind("pinball_loss", arguments={"levels": [0.5, 0.7, 0.9]})(SAID, TRUTH, quantiles=np.stack([SAID] * 3, axis=-1))


def test_a_system_without_quantiles_has_no_coverage() -> None:
    with pytest.raises(TypeError, match="needs quantiles"):
        bind("coverage")(SAID, TRUTH)


def test_errors_are_better_when_lower() -> None:
    assert not any(
        higher_is_better(name) for name in (*get_task("forecasting").default_metrics, "coverage_gap", "pinball_loss")
    )
    assert higher_is_better("coverage")
    metrics.require("coverage", "regression")
