"""What cross-fitting decides from the rows of the other folds alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import topic_recipe

from vertical_sdk.calibration.stacking import pool
from vertical_sdk.data.prepare import prepare
from vertical_sdk.evaluation.out_of_fold import Folds
from vertical_sdk.outputs import Outputs, join_outputs, select_outputs
from vertical_sdk.recipe import load_recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example


@pytest.fixture
def folds(tmp_path: Path) -> Folds:
    """Three folds of 120 rows; no adapter, as the answers are given."""
    recipe = load_recipe(topic_recipe(tmp_path, tmp_path, evaluate__use="crossfit", evaluate__folds=3))
    prepared = prepare(recipe)
    places = np.repeat(np.arange(3), [len(fold.test) for fold in prepared.folds])
    engine: Any = None
    return Folds(recipe, prepared, engine, (), (), prepared.judged, places)


def draw_answers(folds: Folds, *, sure: float) -> Any:
    """Logits of an answerer that is surer than it should be, and more so in later folds."""
    labels = folds.prepared.labels
    assert labels is not None
    truth = get_task("classification").references(folds.rows, labels)
    logits = np.random.default_rng(int(sure)).normal(size=(len(truth), len(labels)))
    logits[np.arange(len(truth)), truth] += 1.0
    return (sure * (1 + folds.places[:, None]) * logits).astype(np.float32)


def test_answer_does_not_depend_on_the_labels_of_its_fold(folds: Folds) -> None:
    raw, other = draw_answers(folds, sure=2), draw_answers(folds, sure=1)
    task = get_task("classification")
    systems = [task.raw_evidence(raw), task.raw_evidence(other)]
    first = folds.places == 0

    def relabel(row: Example, place: int) -> Example:
        return replace(row, target="skin" if row.target != "skin" else "lung") if place == 0 else row

    turned = replace(folds, rows=[relabel(row, place) for row, place in zip(folds.rows, folds.places, strict=True)])

    for decide in (
        lambda of: of.calibrate(raw),
        lambda of: of.pool(systems, raw),
        lambda of: of.tune(task.decode(raw)),
    ):
        before, after = decide(folds), decide(turned)
        np.testing.assert_array_equal(before.probabilities[first], after.probabilities[first])
        np.testing.assert_array_equal(task.predictions(before)[first], task.predictions(after)[first])
    assert not np.array_equal(folds.calibrate(raw).probabilities, turned.calibrate(raw).probabilities)


def test_each_fold_is_pooled_and_calibrated_by_the_others(folds: Folds) -> None:
    raw, other = draw_answers(folds, sure=2), draw_answers(folds, sure=1)
    task, labels = get_task("classification"), folds.prepared.labels
    systems = [task.raw_evidence(raw), task.raw_evidence(other)]
    pooled = folds.pool(systems, raw).probabilities

    for number in range(3):
        rest = np.flatnonzero(folds.places != number)
        rows = [folds.rows[place] for place in rest]
        weights = task.stack([system[rest] for system in systems], task.references(rows, labels))
        logits = pool(systems, *weights)
        temperature = task.calibrate(logits[rest].astype(np.float32), rows, labels, folds.recipe).temperature
        expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum(axis=1, keepdims=True)
        own = folds.places == number
        assert pooled is not None
        np.testing.assert_allclose(pooled[own], expected[own], rtol=1e-4)


def test_joined_outputs_keep_the_rule_of_each_part() -> None:
    task = get_task("classification")
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.3, 0.7]])
    parts = [([2, 0], Outputs(probabilities=probabilities[[2, 0]], offsets=np.array([2.0, 0.0]), unparsed=1)),
             ([1], Outputs(probabilities=probabilities[[1]]))]  # fmt: skip

    joined = join_outputs(parts)

    np.testing.assert_array_equal(joined.probabilities, probabilities)
    assert joined.unparsed == 1
    assert task.predictions(joined).tolist() == [0, 0, 0]  # row 2: 0.3 · e² > 0.7
    assert task.predictions(select_outputs(joined, np.array([False, True, True]))).tolist() == [0, 0]
    numbers = join_outputs([([1], Outputs(values=np.array([5.0]))), ([0], Outputs(values=np.array([4.0])))])
    assert numbers.values is not None
    assert numbers.values.tolist() == [4.0, 5.0]
