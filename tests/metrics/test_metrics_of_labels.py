from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn import metrics as sk

from vertical_sdk.metrics import NO_ANSWER, bind
from vertical_sdk.types import LabelSpace

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 6, 500)
TRUTH[TRUTH == 4] = 3  # label 4 is predicted, but no row has it
SAID = np.where(RNG.random(500) < 0.6, TRUTH, RNG.integers(0, 6, 500))
PRESENT = [0, 1, 2, 3, 5]
MANY_TRUTH = (RNG.random((200, 5)) < 0.3).astype(np.int64)
MANY_SAID = np.where(RNG.random((200, 5)) < 0.8, MANY_TRUTH, 1 - MANY_TRUTH)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", sk.accuracy_score(TRUTH, SAID)),
        ("macro_f1", sk.f1_score(TRUTH, SAID, average="macro", labels=PRESENT)),
        ("weighted_f1", sk.f1_score(TRUTH, SAID, average="weighted")),
        ("micro_f1", sk.f1_score(TRUTH, SAID, average="micro")),
        ("balanced_accuracy", sk.recall_score(TRUTH, SAID, average="macro", labels=PRESENT)),
        ("mcc", sk.matthews_corrcoef(TRUTH, SAID)),
        ("quadratic_kappa", sk.cohen_kappa_score(TRUTH, SAID, weights="quadratic")),
        ("rank_mae", sk.mean_absolute_error(TRUTH, SAID)),
    ],
)
def test_metrics_of_one_label_a_row_are_those_of_scikit_learn(name: str, expected: float) -> None:
    assert bind(name)(SAID, TRUTH) == pytest.approx(expected)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_f1_of_several_labels_a_row_is_that_of_scikit_learn(average: str) -> None:
    expected = sk.f1_score(MANY_TRUTH, MANY_SAID, average=average)

    assert bind(f"{average}_f1")(MANY_SAID, MANY_TRUTH) == pytest.approx(expected)


def test_accuracy_of_several_labels_wants_every_label_right() -> None:
    truth = np.array([[1, 0], [1, 1]])
    said = np.array([[1, 0], [1, 0]])

    assert bind("accuracy")(said, truth) == 0.5


def test_a_label_that_no_row_has_is_not_averaged_into_macro_f1() -> None:
    truth = np.array([0, 0, 1, 1])
    said = np.array([0, 0, 1, 2])

    # F1 of label 0 is 1, of label 1 is 2·1/(1+2); label 2 is left out
    assert bind("macro_f1")(said, truth) == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 0.5),
        ("macro_f1", (2 / 3 + 2 / 3) / 2),  # each label: one right, one said, two true
        ("micro_f1", 2 * 2 / (2 + 4)),
        ("rank_mae", (2 + 0 + 2 + 0) / 4),  # the farthest of the ranks 0, 1, 2
    ],
)
def test_a_missing_answer_is_never_right(name: str, expected: float) -> None:
    truth = np.array([0, 0, 2, 2])
    said = np.array([NO_ANSWER, 0, NO_ANSWER, 2])

    assert bind(name, LabelSpace(("low", "middle", "high")))(said, truth) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["mcc", "quadratic_kappa", "macro_f1", "weighted_f1", "balanced_accuracy"])
def test_metrics_that_tell_labels_apart_are_undefined_for_rows_of_one_label(name: str) -> None:
    same = np.zeros(5, dtype=np.int64)

    assert np.isnan(bind(name)(same, same))


def test_macro_f1_of_2000_rows_is_quick_enough_for_a_bootstrap() -> None:
    truth = RNG.integers(0, 22, 2000)
    measure = bind("macro_f1")

    started = time.perf_counter()
    for _ in range(200):
        measure(truth, truth)

    assert (time.perf_counter() - started) / 200 < 1e-3  # 20 µs on an idle machine
