"""A loss may avoid tokens; the encoder assigns each to the position that it was found for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from conftest import topic_recipe

from vertical_sdk.bases.base import pull_base
from vertical_sdk.families.specialist import create_specialist
from vertical_sdk.recipe import load_recipe
from vertical_sdk.training.encode import encode_rows
from vertical_sdk.types import Example, Message

ROWS = [
    Example("1", messages=(Message("user", "cells grow"), Message("assistant", "biology"))),
    Example("2", messages=(Message("user", "a longer question about law"), Message("assistant", "law courts and law"))),
]
QUESTIONS: list[str] = []


def repeat_token(_tokenizer: Any) -> Callable[[str, Sequence[int]], list[tuple[int, ...]]]:
    """For each token of the answer, return one copy more than the answer has before it."""

    def find(question: str, answer: Sequence[int]) -> list[tuple[int, ...]]:
        QUESTIONS.append(question)
        return [(token,) * (answer[:at].count(token) + 1) for at, token in enumerate(answer)]

    return find


def test_avoided_tokens_are_assigned_to_their_positions(causal: Path, tmp_path: Path) -> None:
    recipe = load_recipe(topic_recipe(tmp_path, causal), {"task": "generation", "loss": None})
    specialist = create_specialist(pull_base(str(causal)), recipe, None)
    QUESTIONS.clear()

    rows = encode_rows(specialist, ROWS, learn=True, avoid=repeat_token)
    batch = specialist.collate(rows)
    outputs, targets = specialist(batch)

    assert QUESTIONS == ["cells grow", "a longer question about law"]
    assert targets is not None
    assert len(batch["avoid"]) == len(outputs) == len(targets)
    torch.testing.assert_close(batch["avoid"][:, 0], targets)
    assert all(((row == target) | (row == -1)).all() for row, target in zip(batch["avoid"], targets, strict=True))


def test_batch_without_finder_has_no_avoided_tokens(causal: Path, tmp_path: Path) -> None:
    recipe = load_recipe(topic_recipe(tmp_path, causal), {"task": "generation", "loss": None})
    specialist = create_specialist(pull_base(str(causal)), recipe, None)

    assert "avoid" not in specialist.collate(encode_rows(specialist, ROWS, learn=True))
