"""Self-tests of members that answer without their adapter: recorded in training, replayed when a version without an adapter loads.

No base is needed: a row is made from the text of a self-test, with what the members and the task read besides.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.adapters.folder import Adapter
from vertical_sdk.adapters.self_test import SHARE, compare_answer, complete_row, list_numbers, thin
from vertical_sdk.baselines.stacking import Ensemble
from vertical_sdk.card import Calibration, Card
from vertical_sdk.catalog import baselines
from vertical_sdk.data.texts import stable_hash
from vertical_sdk.errors import CorruptAdapter, DataError
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example

__all__ = ["record_members", "replay_members"]


def record_members(card: Card, ensemble: Ensemble | None) -> Card:
    """Return the card with the answers of the members to its self-tests; the same card if they do not answer without a base."""
    if ensemble is None or ensemble.without is None or any(baselines.part(part.use).reads_base for part in ensemble.parts):
        return card
    try:
        answers = _answer(card, ensemble, ensemble.without.calibration)
    except DataError:  # a member from outside that needs more than the row of a self-test has
        return card
    tests = zip(card.self_tests, answers.tolist(), strict=True)
    return card.model_copy(update={"self_tests": tuple(t.model_copy(update={"members": tuple(a)}) for t, a in tests)})


def replay_members(adapter: Adapter) -> None:
    """Check that the members give the answers that were recorded in training.

    Raises IdleAdapter if they do not, CorruptAdapter if the card has no members or no such answers.
    """
    card, where = adapter.card, str(adapter.folder)
    if adapter.ensemble is None or not card.self_tests or not all(test.members for test in card.self_tests):
        raise CorruptAdapter(
            "the card says that members answer alone, and has no members or no self-tests of them.", where=where
        )
    adapter.files.check()
    answers = _answer(card, adapter.ensemble, card.calibration)
    for test, answer in zip(card.self_tests, answers, strict=True):
        what = "The members or library versions"
        compare_answer(test.text, np.array(test.members), answer, SHARE, where, who="the members", what=what)


def _answer(card: Card, ensemble: Ensemble, calibration: Calibration) -> NDArray[np.float64]:
    """Answer the self-tests of the card by the members: (tests, numbers)."""
    rows = [_build_row(card, ensemble, test.text) for test in card.self_tests]
    raw = ensemble.combine_without(ensemble.gather(rows, None))
    return thin(list_numbers(get_task(card.task).decode(raw, calibration, rows)))


def _build_row(card: Card, ensemble: Ensemble, text: str) -> Example:
    """The row of a self-test: the text itself; random numbers that depend on it alone, in the shape of the rows; or such an image."""
    modality, rng = card.recipe["data"].get("modality", "text"), np.random.default_rng(stable_hash(text) % 2**32)
    row = Example(id=text, text=text)
    if modality == "series":
        shape = (card.layout.history, len(card.layout.channels)) if card.layout is not None else (8, 1)
        row = Example(id=text, values=rng.normal(size=shape).astype(np.float32))
    elif modality == "image":
        row = replace(row, values=rng.integers(0, 256, (32, 32)).astype(np.uint8))
    return complete_row(row, card.task, ensemble, card.fields)
