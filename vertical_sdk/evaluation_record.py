"""The evaluation of a run, in `evaluation.json` beside its adapter. Evaluating writes it, publishing copies it into the card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vertical_sdk.card import CARD, Card, Verdict
from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.json_text import parse_json
from vertical_sdk.paths import file_digest, read_regular, write_whole

__all__ = ["EVALUATION", "EvaluationRecord", "add_evaluation", "find_run", "read_evaluation", "write_evaluation"]

EVALUATION = "evaluation.json"
LARGEST = 64 << 20
"""Bytes of the largest evaluation."""
IN_CARD = ("rows", "systems", "tests", "confidence", "baseline")
"""The part of an evaluation that the card keeps as its `metrics`."""
IF_SET = ("folds", "repeated", "unknown", "warnings", "validation", "contribution", "promise")
"""Further parts, which the card keeps if they say something."""


@dataclass(frozen=True)
class EvaluationRecord:
    """An evaluation on the recipe's own test rows.

    adapter  SHA-256 of the card of the evaluated adapter, which lists the digests of its other files
    hub_id   the base's name on the Hugging Face hub, for the model card; None if it has none
    results  `Evaluation.to_dict()`
    """

    adapter: str
    hub_id: str | None
    results: Mapping[str, Any]


def find_run(adapter: Path) -> Path | None:
    """The run that an adapter's folder belongs to; None if it is not in a run."""
    run = adapter.parent
    return run if adapter.name == "adapter" and (run / "recipe.json").is_file() else None


def write_evaluation(run: Path, results: Mapping[str, Any], hub_id: str | None) -> None:
    """Write the evaluation of a run's adapter beside it. The adapter is not changed.

    results  `Evaluation.to_dict()`

    Raises RunError if the run cannot be written.
    """
    record = {"adapter": file_digest(run / "adapter" / CARD), "hub_id": hub_id, **results}
    write_whole(run / EVALUATION, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def read_evaluation(run: Path) -> EvaluationRecord | None:
    """Read the evaluation of a run's adapter; None if it was not evaluated.

    Raises CorruptAdapter if the file is malformed, or is the evaluation of another adapter.
    """
    path = run / EVALUATION
    try:
        results = parse_json(read_regular(path, largest=LARGEST), largest=LARGEST)
        adapter, hub_id = results.pop("adapter"), results.pop("hub_id")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        message = f"{EVALUATION} is malformed. Run `vertical evaluate` on the run again."
        raise CorruptAdapter(message, where=run) from None
    if adapter != file_digest(run / "adapter" / CARD):
        message = f"{EVALUATION} is the evaluation of another adapter. Run `vertical evaluate` on the run again."
        raise CorruptAdapter(message, where=run)
    return EvaluationRecord(adapter, hub_id, results)


def add_evaluation(card: Card, record: EvaluationRecord) -> Card:
    """Return the card with the metrics and the gate result of its evaluation.

    Raises CorruptAdapter if they are malformed.
    """
    try:
        gate = record.results["gate"]
        verdict = None if gate is None else Verdict.model_validate(gate)
        metrics = {key: record.results[key] for key in IN_CARD}
        metrics |= {key: record.results[key] for key in IF_SET if record.results.get(key)}
    except (KeyError, ValidationError):
        raise CorruptAdapter(f"{card.name}: {EVALUATION} is malformed. Run `vertical evaluate` on the run again.") from None
    return card.model_copy(update={"metrics": metrics, "gate": verdict})
