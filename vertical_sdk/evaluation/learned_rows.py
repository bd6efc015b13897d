"""Which rows a specialist was trained on: they are recognized by a digest of what it reads, without case, white space and label."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from vertical_sdk.card import Card, SourceRecord
from vertical_sdk.data.prepare import Prepared
from vertical_sdk.data.records import find_fields_in_text
from vertical_sdk.data.texts import fold_text
from vertical_sdk.errors import DataError
from vertical_sdk.families.lora import ADAPTER_WEIGHTS
from vertical_sdk.recipe import Prompt, Recipe
from vertical_sdk.record_index import find_known
from vertical_sdk.types import Cell, Example, Message, SeriesLayout

__all__ = [
    "SAME_ROWS",
    "KnownRows",
    "Party",
    "continues_on_same_rows",
    "count_repeated",
    "describe_preparation",
    "explain_unknown_parent",
    "find_overlap",
    "leave_out_learned",
    "list_learned",
    "remove_prompt",
]

IGNORED_KEYS = ("source", "sha256", "license", "limits", "max_length", "augment", "copies", "remember_ids")
"""Keys of `data` that change neither the rows nor their split. The digest of a source identifies its content."""
SAME_ROWS = "same_rows_as_parent"
"""The fact of a warm start's training that says whether the adapter it continues from was trained on the same rows."""


@dataclass(frozen=True, eq=False)
class Party:
    """A specialist: its name in messages, its card, and the recipe in the card."""

    name: str
    card: Card

    @cached_property
    def recipe(self) -> Recipe:
        """The card's recipe, parsed once."""
        return Recipe.model_validate(self.card.recipe)


@dataclass(frozen=True)
class KnownRows:
    """What is known about evaluated rows.

    left_out  rows that are not evaluated because the specialist was trained on them, validation rows included
    tuned     how many of them were validation rows
    repeated  evaluated rows that it was trained on as well: the recipe's own test rows, if its splits are not apart
    unknown   why it is unknown whether it was trained on some of the evaluated rows; "" if it was trained on none of them
    """

    left_out: int = 0
    tuned: int = 0
    repeated: int = 0
    unknown: str = ""


def leave_out_learned(
    rows: Sequence[Example], own: Party, folder: Path, prepared: Prepared | None, unprepared: str, where: Path
) -> tuple[list[Example], KnownRows]:
    """Leave out the rows that a specialist was trained on (training or validation).

    folder      of the adapter
    prepared    its own rows; None if they cannot be prepared here. Its record index then still recognizes rows by their ids
    unprepared  the reason
    where       the file of the rows

    Raises DataError if it was trained on all of them.
    """
    tuned: set[int] = set()
    if prepared is not None:
        trained = find_overlap(rows, [*prepared.train, *_readable(prepared, prepared.train)], own)
        tuned = find_overlap(rows, [*prepared.validation, *_readable(prepared, prepared.validation)], own) - trained
        learned = trained | tuned
    else:
        known = find_known(folder, [row.record_id for row in rows if row.record_id is not None])
        learned = {place for place, row in enumerate(rows) if row.record_id is not None and row.record_id.strip() in known}
    if rows and len(learned) == len(rows):
        raise DataError(f"the specialist was trained on each of the {len(rows)} rows. Name a file of new rows.", where=where)
    kept = [row for place, row in enumerate(rows) if place not in learned]
    return kept, KnownRows(
        left_out=len(learned), tuned=len(tuned), unknown=unprepared if prepared is None else explain_unknown_parent(own.card)
    )


def count_repeated(prepared: Prepared, own: Party) -> KnownRows:
    """Count the recipe's own test rows that the specialist was trained on, although they are in the test part.

    Those of a fold are compared with the rows that the fold's adapter has learned.
    """
    repeated = sum(len(find_overlap(part.test, list_learned(part), own)) for part in prepared.folds or (prepared,))
    return KnownRows(repeated=repeated, unknown=explain_unknown_parent(own.card))


def list_learned(prepared: Prepared) -> list[Example]:
    """List the training and validation rows; de-identified rows also as they were before."""
    return [*prepared.train, *prepared.validation, *prepared.before]


def _readable(prepared: Prepared, rows: Sequence[Example]) -> list[Example]:
    """The rows among these that de-identification changed, as they were before."""
    ids = {row.id for row in rows}
    return [row for row in prepared.before if row.id in ids]


def find_overlap(rows: Sequence[Example], learned: Iterable[Example], reader: Party) -> set[int]:
    """Find the positions of rows that a specialist was trained on, ignoring case, white space, prompt and label.

    For series: the rows whose target overlaps in time with a learned target. Rows that are only similar, such as other rows of the
    same patient, are not found.

    rows     as the specialist reads them
    learned  its training and validation rows
    """
    learned = list(learned)
    prompt = reader.recipe.prompt
    digests = {_digest(row, prompt) for row in learned}
    positions = {position for position, row in enumerate(rows) if _digest(row, prompt) in digests}
    if reader.card.layout is not None:
        positions |= _find_overlap_in_time(rows, learned, reader.card.layout)
    return positions


def describe_preparation(recipe: Recipe, sources: Sequence[SourceRecord]) -> tuple[Any, ...]:
    """Describe everything that decides which rows a specialist is trained on."""
    plain = recipe.to_dict()
    data = {key: value for key, value in plain["data"].items() if key not in IGNORED_KEYS}
    splits = None if isinstance(recipe.data.source, str) else tuple(recipe.data.source)
    digests = [source.sha256 for source in sources]
    return data, plain["task"], plain["labels"], plain["prompt"], recipe.train.get("seed", 0), splits, digests, recipe.folds


def continues_on_same_rows(parent: Card, recipe: Recipe, sources: Sequence[SourceRecord]) -> bool:
    """Whether the adapter of a warm start, and all that it continues from, were trained on the rows of this recipe."""
    same = describe_preparation(Recipe.model_validate(parent.recipe), parent.sources) == describe_preparation(recipe, sources)
    return same and (parent.parent is None or bool(parent.training.get(SAME_ROWS)))


def remove_prompt(row: Example, prompt: Prompt) -> Example:
    """Undo `data.texts.apply_prompt` for a row of one question."""
    turns = row.messages
    if turns and prompt.system and turns[0] == Message("system", prompt.system):
        turns = turns[1:]
    before, _, after = prompt.user.partition("{text}")
    if not turns or turns[0].role != "user" or any(turn.role == "user" for turn in turns[1:]):
        return row
    content = turns[0].content
    if content.startswith(before) and content.endswith(after) and len(content) >= len(before) + len(after):
        content = content[len(before) : len(content) - len(after)]
    return replace(row, messages=(Message("user", content), *turns[1:]))


def explain_unknown_parent(card: Card, *known: Card) -> str:
    """Say why it is unknown which rows a warm start's adapter had learned before; "" if it is known, or there is no such adapter.

    known  cards of adapters whose rows are left out as well
    """
    if card.parent is None or card.training.get(SAME_ROWS):
        return ""
    if any(card.parent.weights == other.files.get(ADAPTER_WEIGHTS) for other in known):
        return ""
    return f"it continues from {card.parent.reference}, which was trained on other rows"


def _find_overlap_in_time(rows: Sequence[Example], learned: Iterable[Example], layout: SeriesLayout) -> set[int]:
    """Find the rows whose target shares a step with the target of a learned row of the same series."""
    reach = timedelta(seconds=layout.seconds * layout.horizon)
    moments: dict[object, list[datetime]] = defaultdict(list)
    for row in learned:
        if row.time:
            moments[_series(row)].append(datetime.fromisoformat(row.time))
    for times in moments.values():
        times.sort()
    positions = set()
    for position, row in enumerate(rows):
        known = moments.get(_series(row))
        if not row.time or not known:
            continue
        moment = datetime.fromisoformat(row.time)
        next_ = bisect_right(known, moment - reach)
        if next_ < len(known) and known[next_] < moment + reach:
            positions.add(position)
    return positions


def _series(row: Example) -> object:
    """The series that a row belongs to, if there are several."""
    return dict(row.record).get("series")


def _digest(row: Example, prompt: Prompt) -> bytes:
    """A digest of the row's input: its fields, its words without the recipe's prompt, or its numbers if it has no words.

    The text of a record rounds numbers, so a record is recognized by its fields.
    """
    if row.record and find_fields_in_text(row):
        fields = sorted((name, _fold_cell(cell)) for name, cell in row.record)
        return hashlib.blake2b(repr(fields).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    turns = [turn for turn in remove_prompt(row, prompt).messages if turn.role != "system"]
    if turns and turns[-1].role == "assistant":
        turns.pop()
    words = fold_text("\n".join(turn.content for turn in turns) if row.messages else row.text)
    digest = hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16)
    if not words and row.values is not None:
        digest.update(repr(row.values.shape).encode() + row.values.tobytes())
    return digest.digest()


def _fold_cell(cell: Cell) -> str:
    return fold_text(cell) if isinstance(cell, str) else repr(cell)
