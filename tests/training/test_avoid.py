"""A loss may be told which tokens should not stand in an answer; each must come to the place that it was found for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from conftest import topic_recipe

from vertical_sdk.bases.base import pull_base
from vertical_sdk.families.specialist import fresh_specialist
from vertical_sdk.recipe import load_recipe
from vertical_sdk.training.encode import encode_rows
from vertical_sdk.types import Example, Message

ROWS = [
    Example("1", messages=(Message("user", "cells grow"), Message("assistant", "biology"))),
    Example("2", messages=(Message("user", "a longer question about law"), Message("assistant", "law courts and law"))),
]
ASKED: list[str] = []


def itself(_tokenizer: Any) -> Callable[[str, Sequence[int]], list[tuple[int, ...]]]:
    """Finds, for each token of the answer, as many copies of it as stand before it, and one more."""

    def find(question: str, answer: Sequence[int]) -> list[tuple[int, ...]]:
        ASKED.append(question)
        return [(token,) * (answer[:at].count(token) + 1) for at, token in enumerate(answer)]

    return find


def test_tokens_to_avoid_come_to_the_places_that_they_were_found_for(causal: Path, tmp_path: Path) -> None:
    recipe = load_recipe(topic_recipe(tmp_path, causal), {"task": "generation", "loss": None})
    specialist = fresh_specialist(pull_base(str(causal)), recipe, None)
    ASKED.clear()

    rows = encode_rows(specialist, ROWS, learn=True, avoid=itself)
    batch = specialist.collate(rows)
    outputs, targets = specialist(batch)

    assert ASKED == ["cells grow", "a longer question about law"]
    assert targets is not None
    assert len(batch["avoid"]) == len(outputs) == len(targets)
    torch.testing.assert_close(batch["avoid"][:, 0], targets)
    assert all(((row == target) | (row == -1)).all() for row, target in zip(batch["avoid"], targets, strict=True))


def test_without_a_finder_nothing_is_avoided(causal: Path, tmp_path: Path) -> None:
    recipe = load_recipe(topic_recipe(tmp_path, causal), {"task": "generation", "loss": None})
    specialist = fresh_specialist(pull_base(str(causal)), recipe, None)

    assert "avoid" not in specialist.collate(encode_rows(specialist, ROWS, learn=True))
