"""Red lines fail every gate; gaps of the test rows are named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vertical_sdk.card import Card, Fingerprint
from vertical_sdk.evaluation.red_lines import describe_gaps, find_faults
from vertical_sdk.evaluation.test_set import Benchmark, create_benchmark
from vertical_sdk.gate import decide
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Gate, Recipe
from vertical_sdk.types import Example, Interval, LabelSpace, Message, PairedTest, Target

LABELS = LabelSpace(("ok", "fraud", "spam"))
BASE = Fingerprint(name="tiny", architecture="BertModel", weights="0" * 64, tokenizer="1" * 64, vocab_size=10)


def benchmark(task: Any, targets: list[Target], labels: LabelSpace | None = LABELS, metric: str | None = None) -> Benchmark:
    plain = {"name": "t", "task": task, "data": {"source": "t.csv"}, "labels": labels and labels.labels}
    recipe = Recipe.model_validate({**plain, "evaluate": {"metrics": [metric] if metric else []}})
    card = Card(
        name="t", task=task, family="encoder", base=BASE, recipe=recipe.to_dict(), recipe_digest=recipe.digest, labels=labels
    )
    rows = [Example(id=str(n), text=f"row {n}", target=target) for n, target in enumerate(targets)]
    return create_benchmark(card, recipe, rows)


def labels_of(*positions: int) -> Outputs:
    return Outputs(probabilities=np.eye(3)[list(positions)])


def test_a_specialist_that_gives_one_label_to_every_row_has_a_fault() -> None:
    rows = benchmark("classification", ["ok", "fraud", "spam"])

    assert find_faults(rows, labels_of(1, 1, 1)) == ["The specialist gives one label to every row: 'fraud'."]
    assert find_faults(rows, labels_of(1, 1, 0)) == []


def test_a_test_part_with_one_label_has_a_fault_and_names_the_labels_without_rows() -> None:
    rows = benchmark("classification", ["ok"] * 5)

    assert find_faults(rows, labels_of(0, 0, 0, 0, 0)) == [
        "All 5 test rows have the same answer, 'ok', so they cannot show that the specialist tells anything apart."
    ]
    assert describe_gaps(rows) == [
        "'fraud', 'spam' have no row in the test part, so nothing shows how well they are found. "
        "Add rows, or enlarge data.split.test."
    ]


def test_a_missing_label_is_a_fault_only_for_a_metric_that_averages_over_labels() -> None:
    said = labels_of(0, 1, 0)

    assert find_faults(benchmark("classification", ["ok", "fraud", "ok"], metric="accuracy"), said) == []
    assert find_faults(benchmark("classification", ["ok", "fraud", "ok"], metric="macro_f1"), said) == [
        "macro_f1 averages over labels, and no test row has 'spam'."
    ]
    assert find_faults(benchmark("classification", ["ok", "fraud", "spam"], metric="macro_f1"), said) == []


@pytest.mark.parametrize(("rows_of_spam", "rare"), [(9, True), (10, False)])
def test_a_label_with_less_than_a_hundredth_of_the_training_rows_is_only_a_gap(rows_of_spam: int, rare: bool) -> None:
    counted = replace(LABELS, counts={"ok": 500, "fraud": 500 - rows_of_spam, "spam": rows_of_spam})
    rows = benchmark("classification", ["ok", "fraud", "ok"], counted, metric="macro_f1")

    assert (find_faults(rows, labels_of(0, 1, 0)) == []) is rare
    assert "'spam' has no row in the test part" in describe_gaps(rows)[0]


def test_a_test_part_with_every_label_has_no_gap() -> None:
    assert describe_gaps(benchmark("classification", ["ok", "fraud", "spam"])) == []
    assert describe_gaps(benchmark("regression", [1.0, 2.0], None)) == []


def test_the_same_labels_or_number_for_every_row_are_a_fault() -> None:
    many = benchmark("multilabel", [("ok",), ("fraud", "spam"), ()])
    assert find_faults(many, Outputs(probabilities=np.tile([0.9, 0.1, 0.1], (3, 1)))) == [
        "The specialist gives the same labels to every row: 'ok'."
    ]
    numbers = benchmark("regression", [1.0, 2.0, 4.0], None)
    assert find_faults(numbers, Outputs(values=np.full(3, 2.5))) == [
        "The specialist gives the same number to every row: '2.5'."
    ]
    assert len(find_faults(numbers, Outputs(values=np.array([2.5, 2.5000001, 2.4999999])))) == 1
    assert find_faults(numbers, Outputs(values=np.array([2.5, 2.5, 2.501]))) == []
    assert find_faults(numbers, Outputs(values=np.full(3, np.nan))) == [
        "The specialist gives the same number to every row: 'nan'."
    ]
    same = benchmark("regression", [2.0, 2.0], None)
    assert find_faults(same, Outputs(values=np.array([1.0, 2.0])))[0].startswith("All 2 test rows have the same answer, '2'")


def test_the_same_text_for_every_row_is_a_fault() -> None:
    recipe = Recipe.model_validate({"name": "t", "task": "generation", "data": {"source": "t.jsonl"}})
    card = Card(name="t", task="generation", family="causal", base=BASE, recipe=recipe.to_dict(), recipe_digest="2" * 64)
    rows = [Example(id=text, messages=(Message("user", "hi"), Message("assistant", text))) for text in ("yes", "no")]

    assert find_faults(create_benchmark(card, recipe, rows), Outputs(texts=["yes", "yes"])) == [
        "The specialist gives the same answer to every row: 'yes'."
    ]


def test_a_fault_fails_the_gate_whatever_the_comparison_shows() -> None:
    lead = {"majority": PairedTest(Interval(0.5, 0.4, 0.6), 0.01)}
    gate = Gate(metric="accuracy", beats=("majority",))

    assert decide(gate, lead).passed
    verdict = decide(gate, lead, ["The specialist gives one label to every row: 'ok'."])
    assert not verdict.passed
    assert verdict.reasons[-1] == "Fails: the specialist gives one label to every row: 'ok'."


@pytest.mark.parametrize("difference", [Interval(0.5, float("nan"), float("nan")), Interval(float("nan"), 0.1, 0.9)])
def test_a_gate_never_passes_on_an_undefined_metric(difference: Interval) -> None:
    verdict = decide(Gate(metric="auc", beats=("base",)), {"base": PairedTest(difference, float("nan"))})

    assert not verdict.passed
    assert "undefined" in verdict.reasons[0]


def test_a_gate_that_names_no_baseline_does_not_pass() -> None:
    assert not decide(Gate(metric="accuracy", beats=()), {}).passed
