"""Cleaners: steps that run on the rows before anything is learned from them.

Every cleaner is `cleaner(examples, *, ...) -> (examples, account)`, pure, in the order of the rows. One that only writes texts in
another way, each by itself, is registered with `text_normalizer=True`: it also runs on the inputs of a specialist, so
that it never reads what it was not trained on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from vertical_sdk.catalog import cleaners
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.dedup import near_repeats
from vertical_sdk.data.texts import (
    comparable_values,
    fold_text,
    full_text,
    list_texts,
    replace_texts,
    split_paragraph,
    stable_hash,
)
from vertical_sdk.errors import RecipeError
from vertical_sdk.recipe import Recipe
from vertical_sdk.types import Example

__all__ = ["drop_duplicates", "halves", "normalize", "normalize_texts"]

CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb]"
)
SPACES = re.compile(r"[^\S\n]+")
AROUND_BREAK = re.compile(r" ?\n ?")
MANY_BREAKS = re.compile(r"\n{3,}")


def normalize_texts(examples: Sequence[Example], recipe: Recipe) -> tuple[list[Example], StepAccount]:
    """Normalize the texts of input rows as the cleaners of the recipe did in training. No row is dropped.

    A row that a cleaner drops in training because it is empty has an empty text afterwards. The counts of all cleaners are added
    up in one account.
    """
    tally = Tally("clean")
    rows = list(examples)
    for number, part in enumerate(recipe.data.clean):
        cleaner = cleaners.part(part.use)
        if not cleaner.text_normalizer:
            continue
        arguments = cleaners.check(part.use, part.arguments, f"{recipe.name}: data.clean.{number}")
        numbered = [replace(row, id=str(place)) for place, row in enumerate(rows)]
        found, account = cleaner.function(numbered, **arguments)
        for row in found:
            rows[int(row.id)] = replace(row, id=rows[int(row.id)].id)
        for place in account.rows.get("empty", ()):
            rows[int(place)] = replace(rows[int(place)], text="")
        for reason, places in account.rows.items():
            if reason in account.changed:
                for place in places:
                    tally.change(rows[int(place)].id, reason)
    return rows, tally.close(len(rows), len(rows))


@cleaners.register("normalize", text_normalizer=True)
def normalize(
    examples: Sequence[Example], *, min_characters: int = 1, max_characters: int | None = None
) -> tuple[list[Example], StepAccount]:
    """Repair wrongly decoded characters, remove control characters, and replace every run of white space by one space.

    Line ends stay, at most two in a row. A row is dropped if its text is then shorter than `min_characters` or longer than
    `max_characters`, or if its question or answer is empty. Rows of numbers without a text stay. Labels never change.
    """
    tally = Tally("normalize")
    kept = []
    for example in examples:
        old = list_texts(example)
        new, reasons = [], set()
        for text in old:
            normalized, changes = _normalize_text(text)
            new.append(normalized)
            reasons.update(changes)
        length = sum(map(len, new))
        prompt = new[:-1] if example.messages and example.messages[-1].role == "assistant" else new
        if not any(prompt) and example.values is None:
            tally.drop(example.id, "empty")
        elif example.messages and example.messages[-1].role == "assistant" and not new[-1]:
            tally.drop(example.id, "no answer")
        elif length < min_characters and (length or example.values is None):
            tally.drop(example.id, f"shorter than {min_characters} characters")
        elif max_characters is not None and length > max_characters:
            tally.drop(example.id, f"longer than {max_characters} characters")
        else:
            for reason in sorted(reasons):
                tally.change(example.id, reason)
            kept.append(replace_texts(example, new))
    return kept, tally.close(len(examples), len(kept))


@cleaners.register("drop_duplicates")
def drop_duplicates(
    examples: Sequence[Example], *, near: float | None = None, contradictions: Literal["drop", "majority", "keep"] = "drop"
) -> tuple[list[Example], StepAccount]:
    """Keep the first of several rows with the same text and target. White space and case do not count.

    near            also drop rows with the same target if the Jaccard similarity of their shingles to an earlier row is at least
                    this
    contradictions  rows with the same text and different labels: "drop" all of them, as no one knows which label is right;
                    "majority" keeps one row with the label of more than half of them, and drops all if there is none;
                    "keep" keeps them

    Numbers and written answers do not contradict each other. Rows in different splits of the source, and rows for training or
    evaluation only, are not compared with each other here; decontamination compares them.
    """
    if near is not None and not 0 < near <= 1:
        raise RecipeError(f"near = {near} is wrong: it should be above 0 and at most 1.", where="drop_duplicates")
    tally = Tally("drop_duplicates")
    labels = _labels_by_text(examples) if contradictions != "keep" else {}
    seen: set[Hashable] = set()
    kept: list[Example] = []
    for example in examples:
        answers: Mapping[Hashable, int] = labels.get(_content_key(example), {}) if not example.messages else {}
        winner = _find_majority(answers) if contradictions == "majority" else None
        key = (_content_key(example), _kind_key(example))
        if len(answers) > 1 and _target_key(example) != winner:
            tally.drop(example.id, "contradicting label")
        elif key in seen:
            tally.drop(example.id, "duplicate")
        else:
            seen.add(key)
            kept.append(example)
    if near is not None:
        repeats = near_repeats([full_text(e) for e in kept], near, [_kind_key(e) for e in kept])
        for position in repeats:
            tally.drop(kept[position].id, "near-duplicate")
        kept = [e for position, e in enumerate(kept) if position not in repeats]
    return kept, tally.close(len(examples), len(kept))


def find_contradictions(examples: Sequence[Example]) -> list[Example]:
    """Find the rows with the same text as another row and another label."""
    labels = _labels_by_text(examples)
    return [e for e in examples if not e.messages and len(labels.get(_content_key(e), {})) > 1]


def _normalize_text(text: str) -> tuple[str, list[str]]:
    import ftfy

    reasons = []
    # ftfy changes nothing in printable ASCII without HTML entities, and takes 40 times as long to find out
    repaired = text if text.isascii() and text.isprintable() and "&" not in text else ftfy.fix_text(text)
    if repaired != text.replace("\r\n", "\n").replace("\r", "\n"):
        reasons.append("characters repaired")
    plain = CONTROL.sub("", repaired)
    if plain != repaired:
        reasons.append("control characters removed")
    spaced = MANY_BREAKS.sub("\n\n", AROUND_BREAK.sub("\n", SPACES.sub(" ", plain))).strip()
    if spaced != plain:
        reasons.append("white space")
    return spaced, reasons


def _target_key(example: Example) -> Hashable:
    if isinstance(example.target, tuple):
        return tuple(sorted(example.target))
    return example.target if isinstance(example.target, str | float | int | None) else example.target.tobytes()


def _kind_key(example: Example) -> Hashable:
    """Return a key: rows with different keys are never duplicates of each other."""
    return example.only, example.split, _target_key(example)


def _content_key(example: Example) -> Hashable:
    """Return the text of a row, or its numbers if it has no text, in a form that can be compared."""
    text = fold_text(full_text(example))
    return text if text or example.values is None else comparable_values(example)


def _labels_by_text(examples: Sequence[Example]) -> dict[Hashable, Counter[Hashable]]:
    labels: dict[Hashable, Counter[Hashable]] = {}
    for example in examples:
        if not example.messages and isinstance(example.target, (str, tuple)):
            labels.setdefault(_content_key(example), Counter())[_target_key(example)] += 1
    return labels


def _find_majority(answers: Mapping[Hashable, int]) -> Hashable:
    best = max(answers, key=lambda a: answers[a], default=None)
    return best if best is not None and 2 * answers[best] > sum(answers.values()) else None


@cleaners.register("halves")
def halves(examples: Sequence[Example], *, min_words: Annotated[int, Field(ge=2)] = 12) -> tuple[list[Example], StepAccount]:
    """Make two rows of each text, its halves, which belong together: for the task contrastive.

    A text is divided at the sentence end nearest to its middle, or else at the space nearest to it. Both halves have the key of the
    text as target, and its group, which without one is the text's id, so that no split divides them.

    min_words  of each half; a text with a shorter half is set aside
    """
    tally = Tally("halves")
    rows: list[Example] = []
    for example in examples:
        parts = split_paragraph(example.text)
        if parts is None or min(len(part.split()) for part in parts) < min_words:
            words = example.text.split()
            parts = " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
        if min(len(part.split()) for part in parts) < min_words:
            tally.set_aside(example.id, f"shorter than two halves of {min_words} words")
            continue
        tally.add(example.id, "second halves")
        key = stable_hash(example.id) >> 1  # fits into int64
        rows += (
            replace(example, id=f"{example.id}/{number}", text=part, target=key, group=example.group or example.id)
            for number, part in enumerate(parts, 1)
        )
    return rows, tally.close(len(examples), len(rows))
