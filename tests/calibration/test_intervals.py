"""Intervals and alarms that hold what they promise."""

from __future__ import annotations

import numpy as np

from vertical_sdk.calibration.alarms import compute_scores, fit_alarms, fit_threshold
from vertical_sdk.calibration.intervals import fit_forecast_intervals, fit_number_interval, widen_quantiles
from vertical_sdk.types import Example


def test_the_width_around_numbers_is_the_right_order_statistic() -> None:
    errors = np.arange(1.0, 20.0)  # 19 of them: ceil(20 · 0.9) = the 18th
    found = fit_number_interval(np.zeros(19), errors)
    assert (found.level, found.widths) == (0.9, (18.0,))


def test_too_few_rows_give_no_interval_rather_than_a_wrong_one() -> None:
    assert fit_number_interval(np.zeros(5), np.ones(5)).widths == ()


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    fitted, judged = rng.normal(size=2000), rng.normal(size=5000)
    width = fit_number_interval(np.zeros(2000), fitted).widths[0]
    assert abs(np.mean(np.abs(judged) <= width) - 0.9) < 0.015


def test_quantiles_that_are_too_narrow_are_widened_until_they_hold() -> None:
    rng = np.random.default_rng(0)

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
        truth = rng.normal(size=(n, 2, 3))
        raw = np.zeros((n, 2, 3, 3))
        raw[..., 1], raw[..., 2] = -0.5, 0.5
        return raw, truth

    raw, truth = drawn(1000)
    truth[:10] = np.nan
    found = fit_forecast_intervals(raw, truth, (0.05, 0.95))
    raw, truth = drawn(2000)
    wide = widen_quantiles(raw, found.widths)
    inside = (wide[..., 1] <= truth) & (truth <= wide[..., 2])
    assert found.level is not None
    assert abs(found.level - 0.9) < 1e-9
    assert abs(inside.mean() - 0.9) < 0.02


def test_intervals_of_a_small_channel_do_not_depend_on_a_large_one() -> None:
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 100.0, 5.0])

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((n, 2, 3, 3)), rng.normal(size=(n, 2, 3)) * scale

    raw, truth = drawn(2000)
    truth[4:, 1, 2] = np.nan  # four known values: too few for 90%
    found = fit_forecast_intervals(raw, truth, (0.05, 0.95))
    raw, truth = drawn(5000)
    wide = widen_quantiles(raw, found.widths)
    inside = ((wide[..., 1] <= truth) & (truth <= wide[..., 2])).mean(axis=0)

    np.testing.assert_allclose(inside[0], 0.9, atol=0.02)
    np.testing.assert_allclose(inside[1, :2], 0.9, atol=0.02)
    assert inside[1, 2] > 0.98  # it has the errors of all channels
    np.testing.assert_allclose(found.widths[:3], 1.645 * scale, rtol=0.1)  # 90% of a normal distribution


def test_widths_of_earlier_cards_move_all_channels_of_a_step() -> None:
    quantiles = np.zeros((1, 2, 3, 3))
    assert widen_quantiles(quantiles, (1.0, 2.0))[0, :, :, 2].tolist() == [[1.0] * 3, [2.0] * 3]


def test_a_lower_bound_is_never_above_the_forecast() -> None:
    crossed = np.array([[[[0.0, 2.0, -1.0]]]])  # the median, and bounds the wrong way round
    assert widen_quantiles(crossed, (0.5,)).tolist() == [[[[0.0, -1.5, 2.5]]]]
    assert widen_quantiles(crossed, (-3.0,)).tolist() == [[[[0.0, 0.0, 0.0]]]]


def row(value: float) -> Example:
    return Example(id="x", target=np.array([[value, np.nan]]))


def test_a_score_is_the_worst_error_in_units_of_what_is_usual() -> None:
    raw = np.zeros((2, 1, 2, 1))
    assert compute_scores(raw, [row(3.0), row(-1.0)], (2.0, 1.0)).tolist() == [1.5, 0.5]


def test_the_threshold_lets_as_many_false_alarms_pass_as_are_allowed() -> None:
    rng = np.random.default_rng(0)
    normal, later = rng.exponential(size=20_000), rng.exponential(size=100_000)
    threshold = fit_threshold(normal, seconds=60, channels=1, allowed=14.4)  # 1% of the 1,440 minutes of a day
    assert abs((later >= threshold).mean() - 0.01) < 0.002
    assert (normal >= fit_threshold(normal, seconds=60, channels=1, allowed=1e-9)).sum() == 0


def test_usual_errors_are_learned_for_each_channel() -> None:
    rows = [Example(id=str(n), target=np.array([[float(n % 3), 10.0 * (n % 3)]])) for n in range(30)]
    found = fit_alarms(np.zeros((30, 1, 2, 1)), rows, 60.0, 2, 1.0)
    assert found.widths == (1.0, 10.0)
    assert found.threshold is not None
    assert found.threshold > 1
