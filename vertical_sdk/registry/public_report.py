"""The report of a version: what its publisher's report shows without rows of data, unless the recipe publishes them."""

from __future__ import annotations

from pathlib import Path

from vertical_sdk.card import Card
from vertical_sdk.evaluation_record import EvaluationRecord
from vertical_sdk.report_rows import has_rows, is_report, remove_rows

__all__ = ["describe_report", "public_report"]


def public_report(report: Path, card: Card, evaluation: EvaluationRecord | None) -> str | None:
    """The report that is published; None if a report has rows that cannot be found in it, so it stays in the run.

    A page that was not written by `vertical evaluate` is published as it is.
    """
    page = report.read_text(encoding="utf-8", errors="replace")
    if publishes_rows(card):
        return page
    if not is_report(page) and evaluation is not None and evaluation.results.get("examples"):
        return None
    return remove_rows(page)


def publishes_rows(card: Card) -> bool:
    """Whether the recipe says that rows are published with the report."""
    settings = card.recipe.get("report")
    return isinstance(settings, dict) and settings.get("rows") is True


def describe_report(report: Path | None, card: Card, evaluation: EvaluationRecord | None) -> str:
    """Say for the publisher whether the published report shows rows of data; "" without a report."""
    if report is None:
        return ""
    page = public_report(report, card, evaluation)
    if page is None:
        return "The report was not published: it was written by another version of vertical_sdk. Run `vertical evaluate` again."
    if not is_report(page):
        return "The report was published as it is: it was not written by `vertical evaluate`."
    if has_rows(page):
        return "The published report shows test rows to everyone who may read this registry (report.rows of the recipe)."
    return "The published report shows no rows of data."
