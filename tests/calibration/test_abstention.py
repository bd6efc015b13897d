from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vertical_sdk.calibration.abstention import compute_share, fit_promise, select_independent
from vertical_sdk.card import Promise
from vertical_sdk.recipe import Abstention, Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace

SURE = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
WRONG = np.array([0, 0, 1, 0, 0, 0, 1, 1], dtype=bool)


def promise(
    confidence: NDArray[np.float64],
    wrong: NDArray[np.bool_],
    alpha: float,
    delta: float,
    groups: list[str | None] | None = None,
) -> Promise:
    return fit_promise(confidence, wrong, groups or [None] * len(wrong), Abstention(alpha=alpha, delta=delta))


@pytest.mark.parametrize(
    ("delta", "answered", "wrong", "above"),
    [
        # P(at most 1 of 5 heads) = 6/32, 1 of 6: 7/64, 2 of 7: 29/128 = .227, 3 of 8: 93/256 = .363
        (0.25, 7, 2, 0.2),
        (0.2, 6, 1, 0.3),
        (0.4, 8, 3, None),
    ],
)
def test_the_threshold_is_where_the_exact_tail_first_exceeds_delta(
    delta: float, answered: int, wrong: int, above: float | None
) -> None:
    fitted = promise(SURE, WRONG, 0.5, delta)

    assert (fitted.rows, fitted.answered, fitted.wrong) == (8, answered, wrong)
    assert fitted.threshold == (0.0 if above is None else np.nextafter(above, 1))
    assert fitted.coverage == answered / 8


def test_testing_stops_at_the_first_threshold_that_is_not_rejected() -> None:
    # 5 right answers, 5 wrong ones, 20 right ones: 1 of 6 is rejected (7/64), 2 of 7 is not (29/128), and 5 of 30 would be again
    confidence = np.linspace(0.99, 0.01, 30)
    wrong = (np.arange(30) >= 5) & (np.arange(30) < 10)

    assert promise(confidence, wrong, 0.5, 0.2).answered == 6


def test_a_row_at_the_threshold_is_not_answered_but_the_rows_above_it_are() -> None:
    fitted = promise(SURE, WRONG, 0.5, 0.25)

    assert fitted.threshold is not None
    assert np.greater_equal(SURE, fitted.threshold).sum() == 7


def test_no_threshold_means_that_nothing_is_answered() -> None:
    fitted = promise(SURE, np.ones(8, dtype=bool), 0.5, 0.25)

    assert (fitted.threshold, fitted.answered, fitted.coverage, fitted.low) == (None, 0, 0.0, 0.0)


@pytest.mark.parametrize("rows", [1, 92, 93])
def test_too_few_rows_promise_nothing_even_if_all_answers_are_right(rows: int) -> None:
    # at most one wrong: .95^n + n .05 .95^(n - 1) is .052 for n = 92 and .0499 for n = 93
    confidence = np.linspace(0.9, 0.1, rows)

    assert promise(confidence, np.zeros(rows, dtype=bool), 0.05, 0.05).threshold == (None if rows < 93 else 0.0)


def test_equally_sure_rows_are_answered_all_or_not_at_all() -> None:
    confidence = np.repeat([1.0, 0.5], [40, 60])
    wrong = np.repeat([False, True], [40, 60])

    fitted = promise(confidence, wrong, 0.2, 0.05)

    assert fitted.answered == 40
    assert fitted.threshold == np.nextafter(0.5, 1)


def test_a_larger_alpha_answers_no_fewer_rows() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.beta(4, 0.6, 500)
    wrong = rng.random(500) > confidence

    answered = [promise(confidence, wrong, alpha, 0.05).answered for alpha in (0.02, 0.05, 0.1, 0.2, 0.4)]

    assert answered == sorted(answered)
    assert answered[0] < answered[2] < answered[-1] == 500


@pytest.mark.parametrize("shape", ["rising", "flat"])
def test_the_promise_is_kept_as_often_as_it_says(shape: str) -> None:
    """Draw rows with a known risk at each confidence, and count the thresholds above which more than alpha is wrong."""
    rng, alpha, delta, draws = np.random.default_rng(1), 0.1, 0.05, 400
    broken, answered = 0, 0.0
    for _ in range(draws):
        confidence = rng.random(250)
        # rising: a row of confidence c is wrong with (1 - c) / 2, so the rows above t with (1 - t) / 4: at most .1 from t = .6 on
        risk = (1 - confidence) / 2 if shape == "rising" else np.full(250, 0.1001)
        threshold = promise(confidence, rng.random(250) < risk, alpha, delta).threshold
        answered += 0 if threshold is None else (1 - threshold) / draws
        broken += threshold is not None and (shape == "flat" or (1 - threshold) / 4 > alpha)

    # 400 draws of a share of .05 are above .08 with a probability of .005
    assert broken / draws <= 0.08
    assert answered > (0.05 if shape == "rising" else 0.005)


def test_one_row_of_each_group_is_drawn_the_same_each_time() -> None:
    groups = ["a", "b", None, "a", "b", None, "b"]

    chosen = select_independent(groups).tolist()

    assert {2, 5} < set(chosen)
    assert sorted(str(groups[at]) for at in chosen) == ["None", "None", "a", "b"]
    assert chosen == select_independent(groups).tolist()


def test_rows_of_one_group_count_as_one_row() -> None:
    # 400 rows, all right, of 40 groups: as 40 independent rows they promise nothing at alpha = .05
    confidence, groups = np.linspace(0.9, 0.1, 400), [str(row % 40) for row in range(400)]
    right = np.zeros(400, dtype=bool)

    alone, grouped = promise(confidence, right, 0.05, 0.05), promise(confidence, right, 0.05, 0.05, list(groups))

    assert (alone.rows, alone.groups, alone.threshold) == (400, False, 0.0)
    assert (grouped.rows, grouped.groups, grouped.threshold) == (40, True, None)


def test_exact_intervals_are_those_of_hand() -> None:
    """Clopper and Pearson: the low end has P(this many or more) = .025, the high end P(this many or fewer) = .025."""
    none, all_, half = compute_share(0, 10), compute_share(10, 10), compute_share(1, 2)

    assert (none.value, none.low, none.high) == (0, 0, pytest.approx(1 - 0.025**0.1))
    assert (all_.value, all_.low, all_.high) == (1, pytest.approx(0.025**0.1), 1)
    assert (half.low, half.high) == (pytest.approx(1 - 0.975**0.5), pytest.approx(0.975**0.5))
    assert np.isnan(compute_share(0, 0).value)


def test_a_classifier_answers_what_its_promise_allows() -> None:
    labels = LabelSpace(("a", "b"))
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(600, 2)) * 3
    truth = (rng.random(600) < 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))).astype(int)
    rows = [Example(str(n), target="ab"[label]) for n, label in enumerate(truth)]
    recipe = Recipe.model_validate(
        {"name": "t", "task": "classification", "data": {"source": "x"}, "evaluate": {"abstention": {"alpha": 0.05}}}
    )
    task = get_task("classification")

    calibration = task.calibrate(logits, rows, labels, recipe)
    outputs = task.decode(logits, calibration)

    assert calibration.promise is not None
    assert outputs.answered is not None
    assert outputs.probabilities is not None
    assert 0.3 < calibration.promise.coverage < 0.9
    assert outputs.answered.sum() == calibration.promise.answered
    assert outputs.probabilities.max(axis=1)[outputs.answered].min() >= calibration.promise.threshold  # type: ignore[operator]
    predictions = task.to_predictions(outputs, labels, [0] * 600, "t")
    assert [prediction.abstained for prediction in predictions] == (~outputs.answered).tolist()


def test_nothing_is_marked_without_a_promise() -> None:
    task, labels = get_task("classification"), LabelSpace(("a", "b"))

    (prediction,) = task.to_predictions(task.decode(np.array([[2.0, 0.0]])), labels, [0], "t")

    assert prediction.abstained is None
