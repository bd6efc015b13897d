from __future__ import annotations

import numpy as np
import pytest

from vertical_sdk.calibration.temperature import fit_calibration, fit_temperature, reliability, to_probabilities
from vertical_sdk.errors import DataError
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example

RNG = np.random.default_rng(0)
HONEST = RNG.normal(size=(4000, 3)) * 2
LABELS = np.array([RNG.choice(3, p=row) for row in to_probabilities(HONEST)])


@pytest.mark.parametrize("spoilt", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoilt_the_logits_is_found_again(spoilt: float) -> None:
    assert fit_temperature(HONEST * spoilt, LABELS) == pytest.approx(spoilt, rel=0.08)


def test_the_temperature_of_several_labels_is_found_again() -> None:
    has = (RNG.random(HONEST.shape) < to_probabilities(HONEST, multilabel=True)).astype(np.int64)

    assert fit_temperature(HONEST * 2.5, has) == pytest.approx(2.5, rel=0.08)


def test_calibration_lowers_the_error_of_a_model_that_is_too_sure() -> None:
    found = fit_calibration(HONEST * 3, LABELS)

    assert found.ece_before is not None
    assert found.ece_after is not None
    assert found.ece_before > 0.1
    assert found.ece_after < 0.03
    assert found.rows == 4000


def test_rows_that_are_all_right_do_not_send_the_temperature_to_zero() -> None:
    assert fit_temperature(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])) == pytest.approx(0.05, rel=0.01)


def test_a_number_gets_no_temperature() -> None:
    rows = [Example(str(n), target=0.0) for n in range(3)]
    recipe = Recipe.model_validate({"name": "t", "task": "regression", "data": {"source": "x"}})

    assert get_task("regression").calibrate(np.zeros((3, 1)), rows, None, recipe).temperature == 1.0


@pytest.mark.parametrize("logits", [np.zeros((0, 2)), np.array([[np.nan, 0.0]])])
def test_logits_that_cannot_be_calibrated_are_refused(logits: np.ndarray) -> None:
    with pytest.raises(DataError, match="calibration"):
        fit_temperature(logits, np.zeros(len(logits), dtype=np.int64))


def test_probabilities_of_large_logits_are_finite() -> None:
    assert to_probabilities(np.array([[1e4, -1e4]])).tolist() == [[1.0, 0.0]]
    assert to_probabilities(np.array([[1e4, -1e4]]), multilabel=True).tolist() == [[1.0, 0.0]]


def test_reliability_leaves_empty_bins_out() -> None:
    shares = np.array([[0.95, 0.05], [0.85, 0.15], [0.85, 0.15]])

    found = reliability(shares, np.array([0, 0, 1]), bins=10)

    assert found == [(0.8, 0.9, pytest.approx(0.85), 0.5, 2), (0.9, 1.0, pytest.approx(0.95), 1.0, 1)]
