"""Which systems a specialist is compared with, and what its adapter adds to the best of them."""

from __future__ import annotations

from typing import Any

import pytest

from vertical_sdk.alternatives import choose_alternatives, describe_choice, name_alternatives, weigh_adapter
from vertical_sdk.recipe import Gate, Recipe
from vertical_sdk.types import Interval, PairedTest

TITLES = {"members": "its members alone (boosted trees)", "probe": "general base, linear probe", "tfidf": "TF-IDF + linear"}


def recipe(metric: str = "auc", ensemble: tuple[str, ...] = ("boosted_trees",), **evaluate: Any) -> Recipe:
    evaluate = {"metrics": [metric], "baselines": ["base", "probe", "tfidf"], **evaluate}
    task = "regression" if metric == "mae" else "classification"
    return Recipe.model_validate(
        {"name": "x", "task": task, "data": {"source": "x.csv"}, "ensemble": list(ensemble), "evaluate": evaluate}
    )


def test_the_best_on_validation_rows_is_chosen_with_all_that_have_no_value_there() -> None:
    scores = {"probe": 0.70, "tfidf": 0.69, "boosted_trees": 0.81}

    assert choose_alternatives(recipe(), scores) == ("base", "boosted_trees", "members")
    assert choose_alternatives(recipe(), {"probe": 0.7, "boosted_trees": 0.6}) == ("base", "probe", "tfidf", "members")


def test_the_lowest_value_is_chosen_if_lower_is_better() -> None:
    scores = {"probe": 0.70, "tfidf": 0.69, "boosted_trees": 0.81}

    assert choose_alternatives(recipe("mae"), scores) == ("tfidf", "members")  # the untrained base cannot do regression


def test_a_gate_that_names_its_baselines_keeps_them() -> None:
    gate = Gate(metric="auc", beats=("probe",))

    assert name_alternatives(recipe(), gate, {"boosted_trees": 0.9}) == gate
    assert describe_choice(recipe(), gate, {"boosted_trees": 0.9}) == ""


def test_the_choice_is_said_with_all_values_on_validation_rows() -> None:
    scores = {"probe": 0.70, "tfidf": 0.69, "boosted_trees": 0.81}

    assert describe_choice(recipe(), Gate(metric="auc"), scores) == (
        "Compared with boosted_trees, the best system without an adapter on the validation rows (auc: boosted_trees 0.810, "
        "probe 0.700, tfidf 0.690). Also compared with base, members (without the adapter)."
    )
    assert describe_choice(recipe(ensemble=(), baselines=["base"]), Gate(metric="auc"), {}) == (
        "Compared with each system without an adapter, as none has a value on validation rows: base, majority."
    )


def difference(value: float, low: float, high: float) -> PairedTest:
    return PairedTest(Interval(value, low, high), 0.25, 0.95)


def test_an_adapter_that_beats_the_strongest_rival_adds_something() -> None:
    tests = {"base": difference(0.4, 0.3, 0.5), "members": difference(0.03, 0.01, 0.05), "probe": difference(0.1, 0.08, 0.12)}

    found = weigh_adapter(recipe(), tests, {"probe": 0.7, "tfidf": 0.6, "boosted_trees": 0.6}, TITLES, 0.4)

    assert found is not None
    assert (found.alternative, found.outcome) == ("members", "adds")
    assert found.text == (
        "The adapter adds 0.030 to what boosted trees alone reached (auc, 95% interval +0.010 to +0.050, p 0.250)."
    )


@pytest.mark.parametrize(
    ("test", "outcome", "said"),
    [
        (
            difference(0.02, -0.01, 0.05),
            "nothing",
            "TF-IDF + linear alone did as well, as far as these rows show; an adapter is not worth it here",
        ),
        (
            difference(0.02, 0.0, 0.05),
            "nothing",
            "TF-IDF + linear alone did as well, as far as these rows show; an adapter is not worth it here",
        ),
        (difference(-0.2, -0.3, -0.1), "worse", "TF-IDF + linear alone did better; an adapter is not worth it here"),
    ],
)
def test_an_adapter_that_is_not_surely_better_is_not_worth_it(test: PairedTest, outcome: str, said: str) -> None:
    tests = {"base": difference(0.4, 0.3, 0.5), "tfidf": test}

    found = weigh_adapter(recipe(ensemble=()), tests, {"tfidf": 0.7, "probe": 0.6}, TITLES, None)

    assert found is not None
    assert (found.alternative, found.outcome) == ("tfidf", outcome)
    assert found.text.startswith(said)


def test_lower_errors_are_an_advantage() -> None:
    tests = {"tfidf": difference(-0.2, -0.3, -0.1)}

    found = weigh_adapter(recipe("mae", ensemble=()), tests, {"tfidf": 0.7, "probe": 0.9}, TITLES, None)

    assert found is not None
    assert found.outcome == "adds"
    assert "+0.100 to +0.300" in found.text


def test_an_adapter_without_weight_adds_nothing_whatever_the_interval_says() -> None:
    tests = {"members": difference(0.001, 0.0005, 0.002), "base": difference(-0.4, -0.5, -0.3)}

    found = weigh_adapter(recipe(), tests, {}, TITLES, 0.0)

    assert found is not None
    assert (found.alternative, found.outcome) == ("members", "nothing")
    assert found.text == (
        "Boosted trees alone did as well, as far as these rows show; an adapter is not worth it here (advantage of the specialist "
        "+0.001 in auc, 95% interval +0.001 to +0.002, p 0.250; the ensemble gives the adapter the weight 0)."
    )


def test_nothing_is_said_without_a_defined_difference() -> None:
    nan = float("nan")

    assert weigh_adapter(recipe(), {"members": PairedTest(Interval(nan, nan, nan), nan)}, {}, TITLES, 0.5) is None
