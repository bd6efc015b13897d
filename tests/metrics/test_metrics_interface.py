from __future__ import annotations

import evaluate
import pytest

from vertical_sdk.errors import DataError
from vertical_sdk.metrics.interface import as_evaluate
from vertical_sdk.types import LabelSpace

LABELS = LabelSpace(("benign", "malignant"))


def test_a_metric_computes_through_the_interface_of_evaluate() -> None:
    assert as_evaluate("accuracy").compute(predictions=[0, 1, 1], references=[0, 1, 0]) == {"accuracy": pytest.approx(2 / 3)}


def test_batches_add_up() -> None:
    metric = as_evaluate("accuracy")

    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add_batch(predictions=[1, 1], references=[1, 1])
    metric.add(predictions=0, references=0)

    assert metric.compute() == {"accuracy": 0.8}


def test_our_metrics_combine() -> None:
    both = evaluate.combine([as_evaluate("accuracy"), as_evaluate("ece", bins=10)])

    found = both.compute(predictions=[0, 1], references=[0, 0], probabilities=[[0.95, 0.05], [0.35, 0.65]])

    # ECE: half the rows right at 0.95, half wrong at 0.65
    assert found == {"accuracy": 0.5, "ece": pytest.approx((0.05 + 0.65) / 2)}


def test_label_names_do_where_the_labels_are_given() -> None:
    one = as_evaluate("accuracy", LABELS).compute(predictions=["benign", "malignant"], references=["benign", "benign"])
    many = as_evaluate("micro_f1", LABELS).compute(predictions=[[], ["benign", "malignant"]], references=[[], ["benign"]])

    assert one == {"accuracy": 0.5}
    assert many == {"micro_f1": pytest.approx(2 * 1 / (2 + 1))}


def test_an_unknown_label_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match="Did you mean 'benign'"):
        as_evaluate("accuracy", LABELS).compute(predictions=["begnin"], references=["benign"])


def test_texts_and_numbers_are_taken_as_they_are() -> None:
    assert as_evaluate("exact_match").compute(predictions=["Yes."], references=["yes"]) == {"exact_match": 1.0}
    assert as_evaluate("exact_match").compute(predictions=["42", "no"], references=["42.0", "no"]) == {"exact_match": 0.5}
    assert as_evaluate("mae").compute(predictions=[0.5, 2.0], references=[1.0, 2.0]) == {"mae": 0.25}
    assert as_evaluate("mae").compute(predictions=[1, 2.5], references=[1, 2]) == {"mae": 0.25}
