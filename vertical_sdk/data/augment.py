"""Augmentations: other ways to write the same training row.

Every augmentation is `augmentation(example, rng, *, p=...) -> Example`, pure: its only randomness is `rng`. Labels never
change, nor does the answer of a conversation. The augmentations of a vertical are in its `augment.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

from vertical_sdk.catalog import Share, augmentations
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.records import find_fields_in_text, format_record
from vertical_sdk.data.scripts import CJK
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
"""Words that reverse a meaning. No augmentation changes them."""
WITHOUT_SPACES = re.compile(f"[{CJK}]")
"""In such a run of letters the words are not known, so it may contain a negation."""


def change_text(example: Example, change: Callable[[str], str]) -> Example:
    """Change the text, or the turns of the user. The turns of the system and the assistant stay the same."""
    if not example.messages:
        return replace_texts(example, [change(example.text)])
    return replace_texts(example, [change(t.content) if t.role == "user" else t.content for t in example.messages])


def replace_record(example: Example, record: Iterable[tuple[str, Cell]]) -> Example:
    """Replace the record of an example, and write its text from the same fields as before.

    The example stays the same if its text was not written from its record, for example if fields were masked.
    """
    fields = tuple(record)
    in_text = find_fields_in_text(example)
    if not in_text:
        return example
    return replace(example, record=fields, text=format_record(field for field in fields if field[0] in in_text))


def augment(
    train: Sequence[Example], parts: Sequence[Augmentation], copies: int, seed: int
) -> tuple[list[Example], StepAccount]:
    """Add up to `copies` augmented copies after each training row. All parts run on each copy, in order.

    The randomness of a copy depends only on the seed, the id of the row and the number of the copy. A copy that equals its
    row or another copy is not added.
    """
    tally = Tally("augment")
    rows: list[Example] = []
    for example in train:
        rows.append(example)
        seen = {_comparable_content(example)}
        for copy in range(1, copies + 1):
            rng = random.Random(stable_hash(seed, example.id, copy))  # noqa: S311
            changed = example
            for part in parts:
                changed = part(changed, rng)
            if _comparable_content(changed) not in seen:
                seen.add(_comparable_content(changed))
                rows.append(replace(changed, id=f"{example.id}+{copy}", copy_of=example.id))
                tally.add(rows[-1].id, "augmented copy")
            else:
                tally.note("copies that came out unchanged")
    return rows, tally.close(len(train), len(rows))


@augmentations.register("drop_words")
def drop_words(example: Example, rng: random.Random, *, p: float = 0.1) -> Example:
    """Remove each word with probability p, but no negation, no number, and never all words. The label never changes.

    Han, Kana and Hangul stay the same.
    """

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
    """Swap two letters of a word, or remove one, with probability p for each word of four or more letters. The label never changes.

    Han, Kana and Hangul stay the same.
    """

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
    """Write the whole text in small letters with probability p, or in capitals with probability p / 5. The label never changes."""
    draw = rng.random()
    if draw < p:
        return change_text(example, str.lower)
    return change_text(example, str.upper) if draw < 1.2 * p else example


@augmentations.register("shuffle_sentences")
def shuffle_sentences(example: Example, rng: random.Random, *, p: float = 0.5) -> Example:
    """Shuffle the sentences of the text with probability p. The label never changes."""
    if rng.random() >= p:
        return example

    def change(text: str) -> str:
        sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z\"'(])|(?<=[。！？])\s*(?=[^\s。！？”’」』])", text)
        rng.shuffle(sentences)
        return "".join(s if s.endswith(("。", "！", "？")) else f"{s} " for s in sentences).removesuffix(" ")

    return change_text(example, change)


@augmentations.register("shuffle_fields")
def shuffle_fields(example: Example, rng: random.Random, *, p: Share = 0.5) -> Example:
    """Shuffle the fields of a record with probability p. No cell and no label changes.

    A row whose text is not written from a record stays the same.
    """
    if len(example.record) < 2 or rng.random() >= p:
        return example
    return replace_record(example, rng.sample(example.record, len(example.record)))


@augmentations.register("drop_fields")
def drop_fields(example: Example, rng: random.Random, *, p: Share = 0.1) -> Example:
    """Set each known cell of a record to unknown with probability p, but never all cells. The label never changes.

    A row whose text is not written from a record stays the same.
    """
    known = [name for name, value in example.record if value is not None]
    removed = {name for name in known if rng.random() < p}
    if known and len(removed) == len(known):
        removed.discard(rng.choice(known))
    return (
        replace_record(example, [(name, None if name in removed else value) for name, value in example.record])
        if removed
        else example
    )


def _comparable_content(example: Example) -> Hashable:
    """Return what an augmentation may change, in a form that can be compared."""
    return example.text, example.messages, example.record, example.time, comparable_values(example)


def _is_protected(word: str) -> bool:
    bare = word.strip('.,;:!?()[]"').casefold()
    if WITHOUT_SPACES.search(bare):
        return True
    return bare in NEGATIONS or bare.endswith(("n't", "n’t")) or any(c.isdigit() for c in bare)


def _remove_words(pieces: list[str], words: set[int]) -> list[str]:
    """Remove the words at these positions and the space after each."""
    removed = {i for word in words for i in (word, word + 1)}
    return [piece for i, piece in enumerate(pieces) if i not in removed]
