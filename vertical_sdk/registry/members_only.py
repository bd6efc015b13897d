"""A version without an adapter: the members of an ensemble, their stacker, calibration and decision rule, from a run with an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.card import Card
from vertical_sdk.catalog import baselines
from vertical_sdk.errors import RegistryError
from vertical_sdk.evaluation_record import EvaluationRecord
from vertical_sdk.members import ENSEMBLE, read_members
from vertical_sdk.recipe import Recipe
from vertical_sdk.record_index import RECORD_INDEX

__all__ = ["leave_out_adapter"]


def leave_out_adapter(folder: Path, card: Card, evaluation: EvaluationRecord | None) -> tuple[Card, EvaluationRecord | None]:
    """Return the card of the members alone, which lists only their files, and what the evaluation says about them.

    Raises RegistryError if there are no members, one of them needs the base, or an earlier version trained them.
    """
    if ENSEMBLE not in card.files:
        raise RegistryError(
            "there are no members to publish without the adapter. Name some in the recipe: ensemble.", where=folder
        )
    parts = Recipe.model_validate(card.recipe).ensemble
    if readers := [part.use for part in parts if baselines.part(part.use).reads_base]:
        raise RegistryError(
            f"{', '.join(readers)} reads the base, so the members cannot answer without it. Leave it out of the ensemble, and train again.",
            where=folder,
        )
    stored = read_members((folder / ENSEMBLE).read_bytes(), folder / ENSEMBLE, parts)
    if stored.without is None or not all(test.members for test in card.self_tests):
        raise RegistryError(
            "an earlier version trained these members, and did not fit them without the adapter. Train again.", where=folder
        )
    weights = {part.use: round(float(weight), 4) for part, weight in zip(parts, stored.without.weights, strict=True)}
    changes: dict[str, Any] = {
        "members_only": True,
        "calibration": stored.without.calibration,
        "self_tests": tuple(test.model_copy(update={"base": (), "adapter": (), "whole": ()}) for test in card.self_tests),
        "training": {**card.training, "ensemble": weights},
        "parent": None,
        "files": {path: digest for path, digest in card.files.items() if path in {ENSEMBLE, RECORD_INDEX}},
    }
    record = evaluation and EvaluationRecord(evaluation.adapter, None, _about_members(evaluation.results, card.name))
    return card.model_copy(update=changes), record


def _about_members(results: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The results of an evaluation with the members in the place of the specialist.

    Raises RegistryError if they were not measured.
    """
    members = results.get("members")
    if not members:
        raise RegistryError(
            f"{name}: its evaluation did not measure the members alone. Run `vertical evaluate` on the run again."
        )
    systems = results["systems"]
    own = systems["members"]
    titled = {**own, "title": own["title"].replace("its members alone", "specialist without an adapter", 1)}
    others = {key: system for key, system in systems.items() if key not in {"adapter", "alone", "members"}}
    return {**results, **members, "systems": {"adapter": titled, **others}, "contribution": None}
