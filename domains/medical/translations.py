"""Sentences with their translations, as texts that belong together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vertical_sdk.catalog import readers
from vertical_sdk.cells import is_missing, normalize_key
from vertical_sdk.data.account import Tally
from vertical_sdk.data.formats import read_file
from vertical_sdk.data.read import Table
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example, TaskName

__all__ = ["translations"]

LAYOUTS = (("sourceString", "targetString", "stringID"), ("en", "zh", "doc"))
"""Columns of a sentence, its translation and its document: of TICO-19, and of plain copies."""


@readers.register("medical.translations", tasks=("contrastive",))
def translations(path: Path, columns: Mapping[str, str], task: TaskName) -> Table:
    """TICO-19: English sentences about COVID-19 and their translations (Anastasopoulos et al., 2020).

    path  a published file with the columns sourceString, targetString and stringID (such as PubMed_7:12, whose document is PubMed_7),
          or a table with the columns en, zh and doc

    A sentence and its translation are two rows that have the same key as target. The group is the document. Raises DataError for a file
    without these columns; RecipeError for another task, and if columns are named.
    """
    readers.require("medical.translations", task, "data.reader")
    if columns:
        raise RecipeError("medical.translations reads a fixed layout. Leave data.columns out.")
    rows = read_file(path)
    layout = next((names for names in LAYOUTS if set(names) <= set(rows.columns)), None)
    if layout is None:
        either = " or ".join(", ".join(names) for names in LAYOUTS)
        raise DataError(f"the columns are {', '.join(rows.columns)}, and {either} are needed.", where=path)
    tally = Tally("read")
    examples: list[Example] = []
    for key, row in enumerate(rows.rows):
        name = str(rows.places[key])
        texts = [row.get(column) for column in layout[:2]]
        if any(map(is_missing, texts)):
            tally.drop(name, "no sentence or no translation")
            continue
        tally.add(name, "translations")
        document = normalize_key(row.get(layout[2]))
        group = document.partition(":")[0] if document else None
        examples += (
            Example(f"{name}/{side}", str(text).strip(), key, group=group)
            for side, text in zip(("text", "translation"), texts, strict=True)
        )
    return Table(
        tuple(examples), f"{rows.format}, sentences and translations", account=tally.close(len(rows.rows), len(examples))
    )
