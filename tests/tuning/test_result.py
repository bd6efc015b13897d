from __future__ import annotations

import random

import pytest
from scipy.stats import ttest_ind

from vertical_sdk import load_recipe
from vertical_sdk.ranges import Range
from vertical_sdk.tuning.result import TrialRow, compare_repeats, describe
from vertical_sdk.tuning.space import choose_space, read_own_settings

PLAIN = {"name": "topics", "task": "classification", "data": {"source": "rows.csv"}}


@pytest.mark.parametrize("higher", [True, False])
def test_gain_is_shown_if_the_test_of_students_says_so(higher: bool) -> None:
    rng = random.Random(0)
    shown = []
    for _ in range(200):
        own, best = ([rng.gauss(mean, 0.02) for _ in range(3)] for mean in (0.5, 0.53 if higher else 0.47))
        result = compare_repeats(own, best, higher=higher)
        expected = ttest_ind(best, own, alternative="greater" if higher else "less").pvalue < 0.05
        assert result is not None
        assert result.shown == expected
        shown.append(expected)

    assert {True, False} == set(shown)


def test_one_value_shows_nothing() -> None:
    assert compare_repeats([0.5], [0.9], higher=True) is None


def test_result_without_repetition_says_that_it_may_be_chance() -> None:
    own, best = TrialRow(0, {}, 0.5, "finished", 1.0), TrialRow(1, {"adapter.r": 4}, 0.9, "finished", 1.0)

    assert "may be chance" in describe("macro_f1", own, best, None, higher=True)
    assert "Keep the recipe as it is" in describe("mae", own, best, None, higher=False)


def test_recipe_without_ranges_has_no_key_for_them() -> None:
    plain, ranged = load_recipe(PLAIN), load_recipe({**PLAIN, "tune": {"adapter.r": [4, 8]}})

    assert "tune" not in plain.to_dict()
    assert ranged.to_dict()["tune"] == {"adapter.r": [4, 8]}
    assert ranged.replace({"tune": {}}).digest == plain.digest


def test_default_ranges_are_around_the_own_settings() -> None:
    recipe = load_recipe(PLAIN, {"train.learning_rate": 1e-3, "adapter.r": 4})

    space = choose_space(recipe)

    assert space == {
        "train.learning_rate": Range(low=2e-4, high=5e-3, log=True),
        "train.num_train_epochs": (1, 3, 6),
        "adapter.r": (2, 4, 8),
        "adapter.lora_dropout": (0.0, 0.05, 0.1),
    }
    assert read_own_settings(recipe, space)["train.learning_rate"] == 1e-3


def test_number_of_steps_leaves_the_epochs_out() -> None:
    assert "train.num_train_epochs" not in choose_space(load_recipe(PLAIN, {"train.max_steps": 10}))
