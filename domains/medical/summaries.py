"""Questions of patients with a short question that says the same, in the layout of MeQSum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vertical_sdk.catalog import readers
from vertical_sdk.data.read import Missing, Table, read_table
from vertical_sdk.types import TaskName

__all__ = ["question_summaries"]

LAYOUTS = (("CHQ", "Summary"), ("question", "summary"))
"""Columns of the question and of its summary: of MeQSum's workbook, and of plain copies."""


@readers.register("medical.question_summaries", tasks=("generation",))
def question_summaries(path: Path, columns: Mapping[str, str], task: TaskName, missing: Missing = "drop") -> Table:
    """MeQSum: a consumer's health question to its summary, a short question (Ben Abacha and Demner-Fushman, 2019).

    path     the published workbook with the columns CHQ and Summary, a table with the columns question and summary, or another table
             of texts and answers that the reader `table` knows
    columns  other names, if a copy has such

    Raises DataError with file and row; RecipeError for another task.
    """
    readers.require("medical.question_summaries", task, "data.reader")
    return read_table(path, columns or _choose_columns, task, missing=missing)


def _choose_columns(there: Sequence[str]) -> dict[str, str]:
    for question, summary in LAYOUTS:
        if question in there:
            return {"text": question, **({"label": summary} if summary in there else {})}
    return {}
