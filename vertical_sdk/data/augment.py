"""Augmentations: other ways to write the same training row.

Every augmentation is `augmentation(example, rng, *, p=...) -> Example`, pure: its only randomness is `rng`. Labels never
change, nor does the answer of a conversation. A vertical's own stand in its `augment.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

from vertical_sdk.catalog import Share, augmentations
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.records import find_fields_in_text, format_record
from vertical_sdk.data.texts import comparable_values, replace_texts, stable_hash
from vertical_sdk.types import Cell, Example

__all__ = [
    "Augmentation",
    "augment",
    "change_text",
    "drop_fields",
    "drop_words",
    "letter_case",
    "replace_record",
    "shuffle_fields",
    "shuffle_sentences",
    "typos",
]

Augmentation = Callable[[Example, random.Random], Example]
NEGATIONS = frozenset(
    {
        "no",
        "not",
        "nor",
        "non",
        "never",
        "none",
        "neither",
        "nobody",
        "nothing",
        "without",
        "cannot",
        "denies",
        "denied",
        "deny",
        "negative",
        "absent",
        "lacks",
        "lack",
        "except",
        "unless",
    }
)
"""Words that turn a meaning round; no augmentation touches them."""


def change_text(example: Example, change: Callable[[str], str]) -> Example:
    """Change the text, or the user's turns; what the system or the assistant says stays."""
    if not example.messages:
        return replace_texts(example, [change(example.text)])
    return replace_texts(example, [change(t.content) if t.role == "user" else t.content for t in example.messages])


def replace_record(example: Example, record: Iterable[tuple[str, Cell]]) -> Example:
    """The example with other cells or another order of its record, in a text that tells the same fields as before.

    A text that is not what the record's fields say (words of its own, or fields that were masked) stays, and so does the record.
    """
    fields = tuple(record)
    told = find_fields_in_text(example)
    if not told:
        return example
    return replace(example, record=fields, text=format_record(field for field in fields if field[0] in told))


def augment(
    train: Sequence[Example], parts: Sequence[Augmentation], copies: int, seed: int
) -> tuple[list[Example], StepAccount]:
    """The training rows, and up to `copies` augmented ones after each; all parts run on each copy, in order.

    A copy's randomness comes from the seed, the row's id and the copy's number alone. A copy that came out as its row, or as
    another copy, is not added.
    """
    tally = Tally("augment")
    rows: list[Example] = []
    for example in train:
        rows.append(example)
        seen = {_comparable_content(example)}
        for copy in range(1, copies + 1):
            rng = random.Random(stable_hash(seed, example.id, copy))  # noqa: S311
            made = example
            for part in parts:
                made = part(made, rng)
            if _comparable_content(made) not in seen:
                seen.add(_comparable_content(made))
                rows.append(replace(made, id=f"{example.id}+{copy}", copy_of=example.id))
                tally.add(rows[-1].id, "augmented copy")
            else:
                tally.note("copies that came out unchanged")
    return rows, tally.close(len(train), len(rows))


@augmentations.register("drop_words")
def drop_words(example: Example, rng: random.Random, *, p: float = 0.1) -> Example:
    """Leave out each word with probability p, but no negation, no number, and never all of them. The label never changes."""

    def change(text: str) -> str:
        pieces = re.split(r"(\s+)", text)
        words = [i for i in range(0, len(pieces), 2) if pieces[i]]
        gone = {i for i in words if rng.random() < p and not _is_protected(pieces[i])}
        if len(gone) == len(words):
            gone.discard(rng.choice(words) if words else -1)
        return "".join(_remove_words(pieces, gone)).strip() if gone else text

    return change_text(example, change)


@augmentations.register("typos")
def typos(example: Example, rng: random.Random, *, p: float = 0.05) -> Example:
    """Swap two letters inside a word, or lose one, with probability p a word of four letters or more; the label stays."""

    def slip(match: re.Match[str]) -> str:
        word = match.group()
        if rng.random() >= p or _is_protected(word):
            return word
        at = rng.randrange(1, len(word) - 2)
        if rng.random() < 0.5:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return word[:at] + word[at + 1 :]

    return change_text(example, lambda text: re.sub(r"[^\W\d_]{4,}", slip, text))


@augmentations.register("letter_case")
def letter_case(example: Example, rng: random.Random, *, p: float = 0.3) -> Example:
    """Write the whole text in small letters with probability p, or in capitals with a fifth of that. The label stays."""
    draw = rng.random()
    if draw < p:
        return change_text(example, str.lower)
    return change_text(example, str.upper) if draw < 1.2 * p else example


@augmentations.register("shuffle_sentences")
def shuffle_sentences(example: Example, rng: random.Random, *, p: float = 0.5) -> Example:
    """With probability p put the sentences of the text in another order. The label never changes."""
    if rng.random() >= p:
        return example

    def change(text: str) -> str:
        sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z\"'(])", text)
        rng.shuffle(sentences)
        return " ".join(sentences)

    return change_text(example, change)


@augmentations.register("shuffle_fields")
def shuffle_fields(example: Example, rng: random.Random, *, p: Share = 0.5) -> Example:
    """With probability p tell a record's fields in another order. No cell and no label changes.

    A row without a record, or whose text does not tell it, stays as it is.
    """
    if len(example.record) < 2 or rng.random() >= p:
        return example
    return replace_record(example, rng.sample(example.record, len(example.record)))


@augmentations.register("drop_fields")
def drop_fields(example: Example, rng: random.Random, *, p: Share = 0.1) -> Example:
    """Forget each known cell of a record with probability p, as if the source had not had it, but never all. The label stays.

    A row without a record, or whose text does not tell it, stays as it is.
    """
    known = [name for name, value in example.record if value is not None]
    gone = {name for name in known if rng.random() < p}
    if known and len(gone) == len(known):
        gone.discard(rng.choice(known))
    return (
        replace_record(example, [(name, None if name in gone else value) for name, value in example.record])
        if gone
        else example
    )


def _comparable_content(example: Example) -> Hashable:
    """What an augmentation may change."""
    return example.text, example.messages, example.record, example.time, comparable_values(example)


def _is_protected(word: str) -> bool:
    bare = word.strip('.,;:!?()[]"').casefold()
    return bare in NEGATIONS or bare.endswith(("n't", "n’t")) or any(c.isdigit() for c in bare)


def _remove_words(pieces: list[str], gone: set[int]) -> list[str]:
    """The pieces without the words at these positions and the space after each."""
    left = {i for at in gone for i in (at, at + 1)}
    return [piece for i, piece in enumerate(pieces) if i not in left]
