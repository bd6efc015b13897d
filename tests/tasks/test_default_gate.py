"""A recipe that names no gate has its task's, and a recipe can only say openly that it has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from vertical_sdk.alternatives import name_alternatives
from vertical_sdk.checking import check_recipe
from vertical_sdk.errors import RecipeError
from vertical_sdk.recipe import Recipe
from vertical_sdk.tables import TASKS
from vertical_sdk.tasks import get_gate, get_task, measured_baselines


def recipe(task: str = "classification", ensemble: Sequence[str] = (), **evaluate: Any) -> Recipe:
    modality = get_task(task).modalities[0]
    labels = ("low", "high") if get_task(task).ordered else None
    return Recipe.model_validate(
        {
            "name": "my-task",
            "task": task,
            "data": {"source": "rows.csv", "modality": modality},
            "labels": labels,
            "ensemble": list(ensemble),
            "evaluate": evaluate,
        }
    )


@pytest.mark.parametrize(
    ("task", "baselines", "ensemble", "metric", "alternatives"),
    [
        ("classification", ["base", "tfidf"], [], "accuracy", ("base", "tfidf")),
        ("classification", ["base"], [], "accuracy", ("base", "majority")),
        ("classification", [], [], "accuracy", ("majority",)),
        ("classification", ["probe"], ["tfidf"], "accuracy", ("probe", "tfidf", "members")),
        ("classification", ["tfidf"], ["tfidf", "boosted_trees"], "accuracy", ("tfidf", "boosted_trees", "members")),
        ("ordinal", ["base"], [], "accuracy", ("base", "majority")),
        ("regression", ["base", "tfidf"], [], "mae", ("tfidf",)),
        ("multilabel", ["base", "probe"], [], "micro_f1", ("probe",)),
        ("generation", ["base"], [], "exact_match", ("base", "majority")),
        ("forecasting", ["persistence", "linear"], [], "forecast_mae", ("persistence", "linear")),
        ("forecasting", [], [], "forecast_mae", ("persistence",)),
        ("anomaly", ["seasonal_zscore"], [], "average_precision", ("seasonal_zscore",)),
        ("anomaly", [], [], "average_precision", ("zscore",)),
    ],
)
def test_the_default_gate_compares_with_every_system_without_a_score(
    task: str, baselines: list[str], ensemble: list[str], metric: str, alternatives: tuple[str, ...]
) -> None:
    tested = recipe(task, baselines=baselines, ensemble=ensemble)
    gate = get_gate(tested)

    assert gate is not None
    assert (gate.metric, gate.beats, gate.margin, gate.confidence) == (metric, None, 0.0, 0.95)
    assert name_alternatives(tested, gate, {}).beats == alternatives


def test_the_default_gate_compares_in_the_first_metric_of_the_recipe() -> None:
    gate = get_gate(recipe(metrics=["macro_f1", "accuracy"]))

    assert gate is not None
    assert gate.metric == "macro_f1"


@pytest.mark.parametrize("task", list(TASKS))
def test_every_task_has_a_baseline_for_its_default_gate(task: str) -> None:
    check_recipe(recipe(task, baselines=[get_task(task).cheap_baseline], metrics=[get_task(task).default_metrics[0]]))


def test_a_baseline_of_the_default_gate_is_measured_without_being_named() -> None:
    assert [part.use for part in measured_baselines(recipe(baselines=["base"]))] == ["base", "majority"]
    assert [part.use for part in measured_baselines(recipe(baselines=["tfidf"]))] == ["tfidf"]
    assert [part.use for part in measured_baselines(recipe(baselines=["base"], gate=False))] == ["base"]
    assert [part.use for part in measured_baselines(recipe(ensemble=["tfidf"], baselines=["probe"], gate=False))] == [
        "probe",
        "tfidf",
    ]


def test_a_gate_is_left_out_only_on_purpose() -> None:
    ungated = recipe(gate=False)

    assert get_gate(ungated) is None
    assert ungated.to_dict()["evaluate"]["gate"] is False
    assert Recipe.model_validate(ungated.to_dict()) == ungated
    assert recipe().to_dict()["evaluate"]["gate"] is None  # the digest of a recipe without a gate is what it was


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_a_gate_with_a_base_that_cannot_do_the_task_untrained_is_refused(task: str) -> None:
    metric = get_task(task).default_metrics[0]

    check_recipe(recipe(task))  # the default gate leaves the base out
    with pytest.raises(
        RecipeError, match=rf"evaluate\.gate\.beats: this gate can never pass: the untrained base cannot do {task}"
    ):
        check_recipe(recipe(task, gate={"metric": metric, "beats": ["base", "tfidf"]}))


def test_a_gate_that_compares_with_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"evaluate\.gate\.beats: a gate that compares with no baseline lets everything pass"):
        check_recipe(recipe(gate={"metric": "accuracy", "beats": []}))
    with pytest.raises(RecipeError, match=r"'members' is not measured"):
        check_recipe(recipe(gate={"metric": "accuracy", "beats": ["members"]}))
    check_recipe(recipe(ensemble=["tfidf"], gate={"metric": "accuracy", "beats": ["members"]}))
    with pytest.raises(RecipeError, match=r"'linear' is not measured\. Name it in evaluate\.baselines too"):
        check_recipe(recipe(gate={"metric": "accuracy", "beats": ["linear"]}))
