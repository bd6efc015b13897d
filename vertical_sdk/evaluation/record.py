"""Write an evaluation beside the adapter: `evaluation.json` and `report.html` in the run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vertical_sdk.bases.reading import read_texts
from vertical_sdk.card import Card, hide_paths
from vertical_sdk.data.texts import full_text
from vertical_sdk.errors import RunError
from vertical_sdk.evaluation.report import write_report
from vertical_sdk.evaluation.result import Evaluation
from vertical_sdk.evaluation_record import find_run, write_evaluation
from vertical_sdk.model_card import CROSSFIT
from vertical_sdk.recipe import Report
from vertical_sdk.types import Example

__all__ = ["describe_provenance", "record_evaluation"]

NOT_A_WORD = re.compile(r"[^\w.-]+")


def record_evaluation(
    folder: Path, evaluation: Evaluation, hub_id: str | None, data: Path | None, settings: Report
) -> Evaluation:
    """Write an evaluation into the adapter's run. Outside a run, as for a published adapter, write nothing.

    folder    of the adapter, which is not changed
    hub_id    the base's name on the Hugging Face hub; None if it has none
    data      the file of rows, for which only a report is written; None: the recipe's own test rows
    settings  of the report

    returns  the evaluation with the path of its report, or with the reason why it could not be written
    """
    run = find_run(folder)
    if run is None:
        return evaluation
    report = run / ("report.html" if data is None else f"report-{NOT_A_WORD.sub('-', data.stem)}.html")
    results = {key: value for key, value in evaluation.to_dict().items() if key not in {"report", "unwritten"}}
    try:
        if data is None:
            write_evaluation(run, results, hub_id)
        write_report(report, results, settings)
    except RunError as error:
        return replace(evaluation, unwritten=str(error))
    return replace(evaluation, report=str(report))


def describe_provenance(card: Card, data: Path | None, specialist: Any = None, rows: Sequence[Example] = ()) -> dict[str, Any]:
    """Describe what the specialist was made from, and which rows it was evaluated on.

    data              the file of rows; None: the recipe's own test rows
    specialist, rows  how much of these rows the base cannot read is measured, if it reads texts
    """
    card = hide_paths(card)
    unknown = dict(card.training.get("unknown_share") or {})
    own_rows = "all rows of the recipe, fold by fold" if CROSSFIT in card.training else "the recipe's own test rows"
    tokenizer = getattr(specialist, "text_tokenizer", None)
    if tokenizer is not None and data is not None:
        unknown["rows evaluated"] = read_texts(tokenizer, map(full_text, rows)).unknown_share
    return {
        "base": card.base.model_dump(mode="json"),
        "recipe": card.recipe["name"],
        "recipe_digest": card.recipe_digest,
        "sources": [source.model_dump(mode="json") for source in card.sources],
        "rows_from": data.name if data else own_rows,
        "versions": card.versions,
        "unknown_tokens": {split: f"{share:.1%}" for split, share in unknown.items()} or None,
        "rows_with_control_tokens": card.training.get("control_rows"),
        "training": card.training,
        "seed": card.training.get("seed"),
        "seconds": card.training.get("seconds"),
        "created": card.created,
        "evaluated": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
