from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vertical_sdk.bases.base import load_tokenizer, pull_base
from vertical_sdk.errors import RecipeError
from vertical_sdk.families.label_words import plan_choices
from vertical_sdk.families.specialist import create_specialist
from vertical_sdk.recipe import load_recipe
from vertical_sdk.types import Example, LabelSpace

END = 99


def test_labels_that_differ_in_their_first_token_need_only_the_prompt() -> None:
    choices = plan_choices(["x", "y"], [[1, 2], [3, 2]], END)

    assert choices.tokens == ()
    assert choices.edges == (((0, 1),), ((0, 3),))


def test_the_end_token_separates_a_label_from_a_longer_one() -> None:
    choices = plan_choices(["ear", "early"], [[1], [1, 5]], END)

    assert choices.tokens == (1,)
    assert choices.edges == (((0, 1), (1, END)), ((0, 1), (1, 5)))


def test_two_labels_with_the_same_words_are_refused() -> None:
    with pytest.raises(RecipeError, match="'same'"):
        plan_choices(["same", "same"], [[1], [1]], END)


def test_the_tree_scores_are_the_likelihoods_of_the_words_one_by_one(causal: Path, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, causal)
    labels = LabelSpace(("skin", "skull", "sky", "lung"))
    specialist = create_specialist(pull_base(str(causal)), recipe, labels)
    rows = [specialist.encode(Example("1", text), learn=False) for text in ("red itch", "a long cough that lasts")]

    with torch.inference_mode():
        scores, _ = specialist(specialist.collate(rows))
        expected = torch.tensor([[_log_likelihood(specialist, row.ids, label) for label in labels.labels] for row in rows])

    # the tree compares words only as far as needed to tell them apart
    torch.testing.assert_close(scores.softmax(-1), expected.softmax(-1), atol=1e-5, rtol=1e-4)


def _log_likelihood(specialist: object, ids: tuple[int, ...], label: str) -> float:
    needed = {"skin": "ski", "skull": "sku", "sky": "sky", "lung": "l"}[label]
    tokens = specialist.tokenizer(needed, add_special_tokens=False)["input_ids"]  # type: ignore[attr-defined]
    model = specialist.backbone.get_base_model()  # type: ignore[attr-defined]
    whole = torch.tensor([[*ids, *tokens]])
    logp = model(whole).logits.log_softmax(-1)[0]
    return float(sum(logp[len(ids) - 1 + n, token] for n, token in enumerate(tokens)))


def _recipe(folder: Path, base: Path) -> object:
    from conftest import topic_recipe

    return load_recipe(topic_recipe(folder, base))


def test_the_tokenizer_of_the_tiny_model_spells(causal: Path) -> None:
    assert len(load_tokenizer(pull_base(str(causal)))("skin", add_special_tokens=False)["input_ids"]) == 4
