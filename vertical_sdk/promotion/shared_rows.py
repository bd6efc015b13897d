"""The rows of one specialist, put to another of the same task: written as the other reads them, without those it learned from."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
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

__all__ = ["in_order", "overlap", "require_comparable", "reread", "same_rows"]

NO_MATTER = ("source", "sha256", "license", "limits", "max_length", "augment", "copies", "remember_ids")
"""Keys of `data` that change neither which rows there are nor where they are split; what a source holds, its digest says."""


def require_comparable(own: Card, other: Card, who: str) -> None:
    """See that another specialist, called `who`, answers the same question about the same rows.

    Raises RegistryError that says what differs.
    """
    differs = ""
    if own.task != other.task:
        differs = f"is made for {other.task}, and the challenger for {own.task}"
    elif own.labels is not None and other.labels is not None and set(own.labels.labels) != set(other.labels.labels):
        lacks = sorted(set(own.labels.labels) - set(other.labels.labels))
        extra = sorted(set(other.labels.labels) - set(own.labels.labels))
        told = [f"{what} {', '.join(map(repr, some[:5]))}" for what, some in (("lacks", lacks), ("also has", extra)) if some]
        differs = f"has other labels than the challenger: it {' and '.join(told)}"
    elif get_task(own.task).ordered and own.labels != other.labels and own.labels and other.labels:
        if own.labels.labels != other.labels.labels:
            differs = f"has its labels in another order: {', '.join(other.labels.labels)}"
    elif own.layout != other.layout:
        differs = f"reads other series than the challenger: {_told(other.layout)}, and not {_told(own.layout)}"
    elif _modality(own) != _modality(other) or bool(own.fields) != bool(other.fields):
        differs = "reads rows of another kind than the challenger"
    elif lacks := sorted({field.name for field in other.fields} - {field.name for field in own.fields}):
        differs = f"reads fields that the challenger's rows do not have: {', '.join(lacks)}"
    if differs:
        raise RegistryError(
            f"{who} {differs}, so the two cannot be compared on the same rows. To move the alias without a comparison, use "
            "`vertical registry alias` and say why."
        )


def same_rows(first: Card, second: Card) -> bool:
    """Whether both were trained on the same bytes, prepared in the same way: then neither learned from the other's test rows."""
    return _prepared_as(first) == _prepared_as(second)


def reread(rows: Sequence[Example], own: Card, other: Card) -> list[Example]:
    """The rows as the other specialist would be asked about them: its fields, its prompt, its cleaners that mend."""
    recipe, prompt = Recipe.model_validate(other.recipe), Recipe.model_validate(own.recipe).prompt
    told = list(rows)
    if own.fields != other.fields:
        names = {field.name for field in other.fields}
        kept = [{name: cell for name, cell in row.record if name in names} for row in rows]
        asked = [build_record_example(cells, other.fields, f"row {row.id}") for cells, row in zip(kept, rows, strict=True)]
        told = [replace(row, text=one.text, record=one.record) for one, row in zip(asked, rows, strict=True)]
    if recipe.prompt != prompt:
        told = [apply_prompt(_bare(row, prompt), recipe.prompt) for row in told]
    return normalize_texts(told, recipe)[0]


def in_order(outputs: Outputs, other: Card, own: Card) -> Outputs:
    """What the other specialist said, with its labels in the order of the own ones."""
    if own.labels is None or other.labels is None or own.labels.labels == other.labels.labels or outputs.probabilities is None:
        return outputs
    places = [other.labels.index(label) for label in own.labels.labels]
    offsets = outputs.offsets[places] if outputs.offsets is not None else None
    return replace(outputs, probabilities=outputs.probabilities[:, places], offsets=offsets)


def overlap(rows: Sequence[Example], own: Card, learned: Iterable[Example], other: Card) -> set[int]:
    """The positions of rows that say the same as one that the other specialist learned from, whatever their case, white space, prompt
    and label; of series those whose answer overlaps in time with an answer that was learned.

    Rows that are merely alike, such as other rows of the same patient, are not found.
    """
    asked, taught = (Recipe.model_validate(card.recipe).prompt for card in (own, other))
    learned = list(learned)
    marks = {_mark(row, taught) for row in learned}
    found = {place for place, row in enumerate(rows) if _mark(row, asked) in marks}
    if other.layout is not None:
        found |= _overlapping(rows, learned, other.layout)
    return found


def _overlapping(rows: Sequence[Example], learned: Iterable[Example], layout: SeriesLayout) -> set[int]:
    """The rows whose steps ahead hold a step that was ahead of a learned row of the same series."""
    reach = timedelta(seconds=layout.seconds * layout.horizon)
    moments: dict[object, list[datetime]] = defaultdict(list)
    for row in learned:
        if row.time:
            moments[_series(row)].append(datetime.fromisoformat(row.time))
    for several in moments.values():
        several.sort()
    found = set()
    for place, row in enumerate(rows):
        known = moments.get(_series(row))
        if not row.time or not known:
            continue
        moment = datetime.fromisoformat(row.time)
        next_ = bisect_right(known, moment - reach)
        if next_ < len(known) and known[next_] < moment + reach:
            found.add(place)
    return found


def _series(row: Example) -> object:
    """Which of several series a row is of."""
    return dict(row.record).get("series")


def _mark(row: Example, prompt: Prompt) -> bytes:
    """A digest of what is asked: the row's words without the recipe's prompt, or its numbers where it has no words."""
    turns = [turn for turn in _bare(row, prompt).messages if turn.role != "system"]
    if turns and turns[-1].role == "assistant":
        turns.pop()
    words = fold_text("\n".join(turn.content for turn in turns) if row.messages else row.text)
    found = hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16)
    if not words and row.values is not None:
        found.update(repr(row.values.shape).encode() + row.values.tobytes())
    return found.digest()


def _bare(row: Example, prompt: Prompt) -> Example:
    """A row of one question without what `data.texts.prompted` put around it."""
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


def _prepared_as(card: Card) -> tuple[Any, ...]:
    recipe = Recipe.model_validate(card.recipe)
    plain = recipe.to_dict()
    data = {key: value for key, value in plain["data"].items() if key not in NO_MATTER}
    splits = None if isinstance(recipe.data.source, str) else tuple(recipe.data.source)
    digests = [source.sha256 for source in card.sources]
    return data, plain["task"], plain["labels"], plain["prompt"], recipe.train.get("seed", 0), splits, digests


def _modality(card: Card) -> str:
    return Recipe.model_validate(card.recipe).data.modality


def _told(layout: SeriesLayout | None) -> str:
    if layout is None:
        return "none"
    return f"{layout.history} + {layout.horizon} steps of {layout.seconds:g} s in {len(layout.channels)} channels"
