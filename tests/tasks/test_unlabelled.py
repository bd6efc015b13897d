"""The tasks that learn from texts without labels, and what prepares their rows."""

from __future__ import annotations

import numpy as np
import pytest

from vertical_sdk.data.clean import halves
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.metrics.unlabelled import bits_per_character, mean_reciprocal_rank, recall_at_1
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks import get_task, measured_baselines
from vertical_sdk.types import Example

CONTRASTIVE = get_task("contrastive")


def rows(*keys: int | None) -> list[Example]:
    return [Example(id=str(number), text="a", target=key) for number, key in enumerate(keys)]


def test_rank_counts_rows_that_are_as_near_as_the_nearest_counterpart() -> None:
    angles = np.deg2rad([0, 10, 30, 60, 60])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [5], [2], [1], [1]]

    outputs = CONTRASTIVE.decode(features, rows=rows(1, 2, 1, 2, None))

    # Row 0 has one nearer row than its counterpart at 30°; row 1 has three that are nearer than or as near as its own at 60°; row 2 has three
    # before 0°; row 3 has two before 10°; row 4 has no counterpart.
    assert CONTRASTIVE.predictions(outputs).tolist() == [2, 4, 4, 3, 0]
    assert recall_at_1(np.array([1.0, 1, 4, 2, 0])) == 0.5
    assert mean_reciprocal_rank(np.array([1.0, 1, 4, 2, 0])) == pytest.approx((1 + 1 + 1 / 4 + 1 / 2) / 4)
    assert np.isnan(recall_at_1(np.zeros(2)))


def test_perfect_ranks_are_not_taken_for_one_answer() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])

    outputs = CONTRASTIVE.decode(features, rows=rows(5, 5, 6, 6))

    assert CONTRASTIVE.predictions(outputs).tolist() == [1, 1, 1, 1]
    assert len(set(CONTRASTIVE.answers(outputs).tolist())) == 4
    assert CONTRASTIVE.format(CONTRASTIVE.predictions(outputs), None) == CONTRASTIVE.format(np.array([5, 5, 6, 6]), None)


def test_row_without_key_is_refused_with_the_cleaner_that_gives_one() -> None:
    with pytest.raises(DataError, match=r"row 1 has no key.*Add halves to data.clean"):
        CONTRASTIVE.references(rows(3, None), None)


def test_texts_count_by_their_characters() -> None:
    assert bits_per_character(np.array([1.0, 4.0]), np.array([30.0, 10.0])) == pytest.approx((30 + 40) / 40)


def test_halves_are_divided_at_sentence_end_and_stay_together() -> None:
    texts = [
        Example(id="a", text="One two three. Four five six. Seven eight nine.", group="g", target="label"),
        Example(id="b", text="one two three four five six"),
        Example(id="c", text="One two. Three four five."),
        Example(id="d", text="One. Two three four five six."),
    ]

    parts, account = halves(texts, min_words=3)

    assert [(part.id, part.text, part.group) for part in parts] == [
        ("a/1", "One two three. Four five six.", "g"),
        ("a/2", "Seven eight nine.", "g"),
        ("b/1", "one two three", "b"),
        ("b/2", "four five six", "b"),
        ("d/1", "One. Two three", "d"),
        ("d/2", "four five six.", "d"),
    ]
    keys = [part.target for part in parts]
    assert keys[::2] == keys[1::2]
    assert len(set(keys)) == 3
    assert account.set_aside == {"shorter than two halves of 3 words": 1}
    assert account.adds_up


def test_base_is_the_baseline_of_a_recipe_that_names_none() -> None:
    for baselines in ([], ["base"]):
        recipe = Recipe.model_validate(
            {"name": "x", "task": "contrastive", "data": {"source": "x"}, "evaluate": {"baselines": baselines}}
        )
        assert [part.use for part in measured_baselines(recipe)] == ["base"]


def test_training_without_labels_is_not_searched() -> None:
    from vertical_sdk.checking import check_recipe

    recipe = Recipe.model_validate(
        {
            "name": "x",
            "task": "contrastive",
            "data": {"source": "x"},
            "evaluate": {"baselines": ["base"]},
            "tune": {"adapter.r": [4, 8]},
        }
    )
    with pytest.raises(RecipeError, match="a contrastive training is not searched"):
        check_recipe(recipe)
