"""The reader of investors' questions and companies' answers on Chinese stock exchanges (Xu et al., FinTruthQA, 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from vertical_sdk.catalog import readers
from vertical_sdk.data.read import Missing, Table, read_table
from vertical_sdk.errors import DataError
from vertical_sdk.types import TaskName

__all__ = ["disclosure"]

QUESTION, ANSWER = ("QUES", "question"), ("ANS", "answer")
LABELS = {"relevance": ("ANS_RELEVANCE", "relevance"), "readability": ("ANS_READABILITY", "readability")}


@readers.register("finance.disclosure", tasks=("ordinal", "classification"))
def disclosure(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    label: Literal["relevance", "readability"] = "relevance",
) -> Table:
    """An investor's question and the company's answer, joined, with a grade of the answer.

    path     a table with FinTruthQA's columns QUES, ANS, ANS_RELEVANCE and ANS_READABILITY, or with question, answer, relevance and
             readability
    columns  other names, if a copy has such; "question + answer" joins two columns
    label    the grade: relevance from 1 (does not answer the question) to 3 (answers it), or readability from 1 to 4

    Raises DataError with file and line.
    """
    readers.require("finance.disclosure", task, "data.reader")

    def choose(there: Sequence[str]) -> dict[str, str]:
        names = [next((name for name in usual if name in there), None) for usual in (QUESTION, ANSWER, LABELS[label])]
        question, answer, grade = names
        if question is None or answer is None or (grade is None and missing != "keep"):
            raise DataError(
                f"needs the columns QUES, ANS and {LABELS[label][0]}, or question, answer and {label}; it has {', '.join(there)}.",
                where=path,
            )
        return {"text": f"{question} + {answer}", **({"label": grade} if grade else {})}

    return read_table(path, columns or choose, task, missing=missing)
