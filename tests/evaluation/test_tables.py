from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from vertical_sdk.evaluation.result import LabelRow
from vertical_sdk.evaluation.tables import confusion_matrix, per_label_table

RNG = np.random.default_rng(0)
TRUTH, PREDICTED, BASE = (RNG.integers(0, 4, 200) for _ in range(3))


def test_label_table_equals_scikit_learn() -> None:
    precision, recall, f1, n = sk.precision_recall_fscore_support(TRUTH, PREDICTED)
    base_f1 = sk.f1_score(TRUTH, BASE, average=None)

    rows = per_label_table(PREDICTED, BASE, TRUTH, "abcd")

    assert [row.label for row in rows] == ["a", "b", "c", "d"]
    assert [row.n for row in rows] == n.tolist()
    assert [row.precision for row in rows] == pytest.approx(precision)
    assert [row.recall for row in rows] == pytest.approx(recall)
    assert [row.f1 for row in rows] == pytest.approx(f1)
    assert [row.base_f1 for row in rows] == pytest.approx(base_f1)


def test_table_leaves_out_labels_without_rows_and_missing_base() -> None:
    rows = per_label_table(np.array([0, 2]), None, np.array([0, 0]), ["a", "b", "c"])

    assert rows == [LabelRow("a", 2, 1.0, 0.5, pytest.approx(2 / 3))]


def test_labels_of_multilabel_rows_are_counted_separately() -> None:
    rows = per_label_table(np.array([[1, 1], [0, 1]]), None, np.array([[1, 0], [1, 1]]), ["a", "b"])

    assert [(row.n, row.precision, row.recall) for row in rows] == [(2, 1.0, 0.5), (1, 0.5, 1.0)]


def test_confusion_matrix_equals_scikit_learn() -> None:
    assert confusion_matrix(PREDICTED, TRUTH, 4) == sk.confusion_matrix(TRUTH, PREDICTED).tolist()


def test_confusion_matrix_leaves_out_missing_answers() -> None:
    assert confusion_matrix(np.array([-1, 1]), np.array([0, 0]), 2) == [[0, 1], [0, 0]]
