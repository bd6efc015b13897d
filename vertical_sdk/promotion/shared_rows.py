"""Compare two specialists of the same task on the same rows: the rows as each reads them, without those it was trained on."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from vertical_sdk.card import Card
from vertical_sdk.data.clean import normalize_texts
from vertical_sdk.data.records import build_record_example
from vertical_sdk.data.texts import apply_prompt, fold_text
from vertical_sdk.errors import RegistryError
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Prompt, Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, Message, SeriesLayout

__all__ = ["Party", "find_overlap", "have_same_rows", "reorder_labels", "require_comparable", "rewrite_rows"]

IGNORED_KEYS = ("source", "sha256", "license", "limits", "max_length", "augment", "copies", "remember_ids")
"""Keys of `data` that change neither the rows nor their split. The digest of a source identifies its content."""


@dataclass(frozen=True, eq=False)
class Party:
    """One of the two specialists: its name in messages, its card, and the recipe in the card."""

    name: str
    card: Card

    @cached_property
    def recipe(self) -> Recipe:
        """The card's recipe, parsed once."""
        return Recipe.model_validate(self.card.recipe)


def require_comparable(challenger: Party, champion: Party) -> None:
    """Check that the champion answers the same question about the same rows as the challenger.

    Raises RegistryError; the message names the difference.
    """
    if difference := _find_difference(challenger, champion):
        raise RegistryError(
            f"the champion {difference}, so the two cannot be compared on the same rows. To move the alias without a comparison, "
            "use `vertical registry alias` and give a reason.",
            where=champion.name,
        )


def _find_difference(challenger: Party, champion: Party) -> str:
    """What the champion does differently; "" if the two can be compared."""
    own, other = challenger.card, champion.card
    difference = ""
    if own.task != other.task:
        difference = f"was trained for {other.task}, and the challenger for {own.task}"
    elif own.labels is not None and other.labels is not None and set(own.labels.labels) != set(other.labels.labels):
        lacks = sorted(set(own.labels.labels) - set(other.labels.labels))
        extra = sorted(set(other.labels.labels) - set(own.labels.labels))
        changes = [f"{verb} {', '.join(map(repr, some[:5]))}" for verb, some in (("lacks", lacks), ("also has", extra)) if some]
        difference = f"has other labels than the challenger: it {' and '.join(changes)}"
    elif get_task(own.task).ordered and own.labels != other.labels and own.labels and other.labels:
        if own.labels.labels != other.labels.labels:
            difference = f"has its labels in another order: {', '.join(other.labels.labels)}"
    elif own.layout != other.layout:
        difference = f"reads other series than the challenger: {_describe(other.layout)} instead of {_describe(own.layout)}"
    elif challenger.recipe.data.modality != champion.recipe.data.modality or bool(own.fields) != bool(other.fields):
        difference = "reads rows of another kind than the challenger"
    elif lacks := sorted({field.name for field in other.fields} - {field.name for field in own.fields}):
        difference = f"reads fields that the challenger's rows do not have: {', '.join(lacks)}"
    return difference


def have_same_rows(first: Party, second: Party) -> bool:
    """Whether both were trained on the same bytes, prepared in the same way: then neither was trained on the other's test rows."""
    return _describe_preparation(first) == _describe_preparation(second)


def rewrite_rows(rows: Sequence[Example], own: Party, other: Party) -> list[Example]:
    """Write rows of one specialist as another reads them: with its fields, its prompt, and its cleaners that normalize texts.

    own    the specialist that the rows were prepared for
    other  the specialist that reads them
    """
    rewritten = list(rows)
    fields = other.card.fields
    if own.card.fields != fields:
        names = {field.name for field in fields}
        cells = [{name: cell for name, cell in row.record if name in names} for row in rows]
        records = [
            build_record_example(record, other.card.contract, f"row {row.id}") for record, row in zip(cells, rows, strict=True)
        ]
        rewritten = [replace(row, text=new.text, record=new.record) for new, row in zip(records, rows, strict=True)]
    if other.recipe.prompt != own.recipe.prompt:
        rewritten = [apply_prompt(_remove_prompt(row, own.recipe.prompt), other.recipe.prompt) for row in rewritten]
    return normalize_texts(rewritten, other.recipe)[0]


def reorder_labels(outputs: Outputs, other: Card, own: Card) -> Outputs:
    """Return the other specialist's outputs with its labels in the order of `own`."""
    if own.labels is None or other.labels is None or own.labels.labels == other.labels.labels or outputs.probabilities is None:
        return outputs
    places = [other.labels.index(label) for label in own.labels.labels]
    offsets = outputs.offsets[places] if outputs.offsets is not None else None
    return replace(outputs, probabilities=outputs.probabilities[:, places], offsets=offsets)


def find_overlap(rows: Sequence[Example], own: Party, learned: Iterable[Example], other: Party) -> set[int]:
    """Find the positions of rows whose content the other specialist was trained on, ignoring case, white space, prompt and label.

    For series: the rows whose target overlaps in time with a learned target. Rows that are only similar, such as other rows of the
    same patient, are not found.

    own      the specialist that `rows` were prepared for
    learned  the training and validation rows of `other`
    """
    learned = list(learned)
    digests = {_digest(row, other.recipe.prompt) for row in learned}
    positions = {position for position, row in enumerate(rows) if _digest(row, own.recipe.prompt) in digests}
    if other.card.layout is not None:
        positions |= _find_overlap_in_time(rows, learned, other.card.layout)
    return positions


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
    """A digest of the row's input: its words without the recipe's prompt, or its numbers if it has no words."""
    turns = [turn for turn in _remove_prompt(row, prompt).messages if turn.role != "system"]
    if turns and turns[-1].role == "assistant":
        turns.pop()
    words = fold_text("\n".join(turn.content for turn in turns) if row.messages else row.text)
    digest = hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16)
    if not words and row.values is not None:
        digest.update(repr(row.values.shape).encode() + row.values.tobytes())
    return digest.digest()


def _remove_prompt(row: Example, prompt: Prompt) -> Example:
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


def _describe_preparation(party: Party) -> tuple[Any, ...]:
    """Everything that decides which rows a specialist was trained on."""
    recipe, card = party.recipe, party.card
    plain = recipe.to_dict()
    data = {key: value for key, value in plain["data"].items() if key not in IGNORED_KEYS}
    splits = None if isinstance(recipe.data.source, str) else tuple(recipe.data.source)
    digests = [source.sha256 for source in card.sources]
    return data, plain["task"], plain["labels"], plain["prompt"], recipe.train.get("seed", 0), splits, digests


def _describe(layout: SeriesLayout | None) -> str:
    if layout is None:
        return "none"
    return f"{layout.history} + {layout.horizon} steps of {layout.seconds:g} s in {len(layout.channels)} channels"
