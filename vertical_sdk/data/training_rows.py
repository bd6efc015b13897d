"""The reader of another recipe's training rows, for tasks without labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vertical_sdk.card import Card
from vertical_sdk.catalog import readers
from vertical_sdk.data.account import StepAccount
from vertical_sdk.data.prepare import Prepared, prepare
from vertical_sdk.data.read import Table
from vertical_sdk.data.texts import fold_text, full_text
from vertical_sdk.errors import RecipeError
from vertical_sdk.recipe import load_recipe
from vertical_sdk.types import TaskName

__all__ = ["knows_rows", "training_rows"]

NOTE = "rows that were not read"
"""The note of the account that tells a recipe and a digest of its validation and test rows."""


@readers.register("training_rows", tasks=("contrastive", "language"))
def training_rows(path: Path, columns: Mapping[str, str], task: TaskName, *, recipe: str, seed: int = 0) -> Table:
    """Read the texts of the training rows of another recipe, without their labels.

    The recipe reads, cleans, de-identifies, splits and decontaminates the rows as it does for its own training. Its validation and test
    rows are set aside, so an adapter that learns from these texts has read none of them. The account tells a digest of those rows, by
    which a start from the adapter is checked.

    path     the source of the recipe
    columns  must be empty: the recipe names its own
    recipe   the name of the recipe, or the path of its file
    seed     of the training whose split is used: `train.seed` of the recipe that will start from the adapter

    Raises RecipeError, and what `prepare` raises.
    """
    readers.require("training_rows", task, "data.reader")
    if columns:
        raise RecipeError(f"training_rows reads the columns that {recipe} names. Leave it out.", where="data.columns")
    origin = load_recipe(recipe, {"data.source": str(path), "data.file": None, "data.sha256": None, "train.seed": seed})
    prepared = prepare(origin.replace({"data.augment": []}))
    examples = tuple(
        replace(row, text=full_text(row), messages=(), target=None, split=None, only=None, values=None)
        for row in prepared.train
    )
    evaluated = len(prepared.validation) + len(prepared.test)
    aside = {
        f"validation and test rows of {origin.name}": evaluated,
        f"not used by {origin.name}": prepared.account.read - evaluated - len(examples),
    }
    account = StepAccount(
        "read",
        prepared.account.read,
        len(examples),
        set_aside={why: count for why, count in aside.items() if count},
        notes={NOTE: _describe_evaluation(origin.name, prepared)},
    )
    return Table(examples, f"training rows of {origin.name}: {prepared.detected}", account=account)


def knows_rows(card: Card, name: str, prepared: Prepared) -> bool | None:
    """Whether an adapter read the training rows of a recipe alone, and none of its validation and test rows.

    card            of the adapter
    name, prepared  of the recipe, and its rows

    Returns None for an adapter that did not read this recipe's training rows: what it read is then unknown here. False if the rows that it
    left out are not the validation and test rows of `prepared`, as another seed, split or source makes them.
    """
    steps = card.account.get("steps") or [{}]
    note = (steps[0].get("notes") or {}).get(NOTE)
    if not isinstance(note, str) or note.rpartition(" ")[0] != name:
        return None
    return note == _describe_evaluation(name, prepared)


def _describe_evaluation(name: str, prepared: Prepared) -> str:
    """The recipe's name, and a digest of its validation and test texts in any order."""
    texts = sorted(fold_text(full_text(row)) for row in (*prepared.validation, *prepared.test))
    return f"{name} {hashlib.sha256(json.dumps(texts).encode()).hexdigest()}"
