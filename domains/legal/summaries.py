"""Passages of contracts and terms with a summary in plain English, in the layout of Manor and Li."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vertical_sdk.catalog import readers
from vertical_sdk.cells import normalize_key
from vertical_sdk.data.account import Tally
from vertical_sdk.data.nested import parse_json
from vertical_sdk.data.read import Missing, Table, find_missing_part, read_table
from vertical_sdk.errors import DataError
from vertical_sdk.types import Example, Message, TaskName

__all__ = ["plain_summaries"]

TEXT, SUMMARY = "original_text", "reference_summary"
DOCUMENT = ("doc", "name")
"""Keys of the document: of both sources of the corpus, and of its first version."""


@readers.register("legal.plain_summaries", tasks=("generation",))
def plain_summaries(path: Path, columns: Mapping[str, str], task: TaskName, missing: Missing = "drop") -> Table:
    """Passages of contracts and terms of service, each to its summary in plain English (Manor and Li, 2019).

    path     a published file, one JSON object whose values have original_text, reference_summary and doc; or a table with the columns
             text, summary and doc
    columns  other names, if a table has such

    The group is the document. Raises DataError with file and row; RecipeError for another task.
    """
    readers.require("legal.plain_summaries", task, "data.reader")
    if path.suffix.lower() != ".json":
        return read_table(path, columns or _choose_columns, task, missing=missing)
    passages = _read_passages(path)
    answered = missing != "keep"
    tally = Tally("read")
    examples: list[Example] = []
    for name, passage in passages.items():
        example = _build_example(name, passage, answered=answered)
        problem = find_missing_part(example, task, need_label=answered)
        if not problem or not answered:
            examples.append(example)
        elif missing == "refuse":
            raise DataError(f"{problem}. Every passage needs both {TEXT} and {SUMMARY} here.", where=f"{path}: {name}")
        else:
            tally.drop(name, problem)
    detected = f"JSON, {len(passages)} passages and their summaries"
    return Table(tuple(examples), detected, account=tally.close(len(passages), len(examples)))


def _choose_columns(there: Sequence[str]) -> dict[str, str]:
    usual = {"text": "text", "label": "summary", "group": "doc"}
    return {key: name for key, name in usual.items() if name in there}


def _read_passages(path: Path) -> dict[str, Mapping[str, Any]]:
    """The passages by their names. Raises DataError for another layout."""
    whole = parse_json(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(whole, dict) or not whole or not all(map(_is_passage, whole.values())):
        raise DataError(
            f"this is not the corpus of plain summaries: one object is needed, whose values are objects with {TEXT} and {SUMMARY}.",
            where=path,
        )
    return whole


def _is_passage(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get(TEXT), str) and isinstance(value.get(SUMMARY), str | None)


def _build_example(name: str, passage: Mapping[str, Any], *, answered: bool) -> Example:
    turns = [Message("user", passage[TEXT].strip())]
    if answered and passage.get(SUMMARY):
        turns.append(Message("assistant", passage[SUMMARY].strip()))
    document = next((passage[key] for key in DOCUMENT if passage.get(key)), None)
    return Example(name, messages=tuple(turns), group=normalize_key(document))
