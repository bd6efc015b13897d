"""Numbers and names in an English text, so that what an answer states can be compared with what it was written from."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence

__all__ = ["find_figures", "find_names", "find_numbers", "find_words"]


def _list_words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DIGITS = re.compile(r"\d+")
NUMBER = re.compile(r"\d+(?:,\d{3})+(?!\d)|\d+")
WORDS = re.compile(r"[^\W\d_]+")
ONES = {
    word: value
    for value, word in enumerate(
        _list_words(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
            "eighteen nineteen"
        )
    )
}
TENS = {word: 10 * value for value, word in enumerate(_list_words("twenty thirty forty fifty sixty seventy eighty ninety"), 2)}
ORDINALS = {
    word: value
    for value, word in enumerate(
        _list_words(
            "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
            "sixteenth seventeenth eighteenth nineteenth twentieth"
        ),
        1,
    )
} | {"thirtieth": 30}
OTHERS = {"once": 1, "twice": 2, "thrice": 3, "half": 2, "dozen": 12, "single": 1, "both": 2, "couple": 2}
MONTHS = dict(
    zip(
        _list_words("january february march april may june july august september october november december"),
        range(1, 13),
        strict=True,
    )
)
TOKEN = re.compile(r"[^\W_]+")
"""Letters and digits: a word, a number or both together."""
SENTENCE_START = (".", "!", "?", ":", ";", "\n", "\u2022")
"""Characters before the first word of a sentence or of an item of a list."""
TITLES = re.compile(r"\b(Dr|Mr|Mrs|Ms|Prof|St)\.$")
"""Words whose point ends no sentence."""
OPENING = " \t\"'([\u201c\u2018"
"""Characters that may be between."""


@functools.lru_cache(maxsize=4096)
def find_numbers(text: str) -> frozenset[str]:
    """The whole numbers of a text as digits without leading zeros, in figures or in words.

    "98.6" is 98 and 6; "1,200" is 1200; "seventy six" is 76, and, as it may mean two things, 70 and 6; "two thousand eight" is
    2008; "twenty ten" is 2010 as well; a month has its number.
    """
    numbers = {_write_plain(m.group()) for m in NUMBER.finditer(text)}
    numbers |= {_write_plain(m.group()) for m in DIGITS.finditer(text)}
    run: list[str] = []
    for word in [*(w.lower() for w in WORDS.findall(text)), ""]:
        if (
            word in ONES
            or word in TENS
            or word in ORDINALS
            or word in {"hundred", "thousand", "oh", "o"}
            or (run and word == "and")
        ):
            run.append(word)
            continue
        numbers |= set(_combine_number_words(run))
        run = []
        for table in (OTHERS, MONTHS):
            if word in table:
                numbers.add(str(table[word]))
    return frozenset(numbers)


def _combine_number_words(run: Sequence[str]) -> Iterator[str]:
    """List what a run of number words may mean: each value, their sum by the rules, and two halves side by side (a year)."""
    values = {**ONES, **TENS, **ORDINALS, "oh": 0, "o": 0}
    pieces: list[int] = []
    total = current = 0
    last = 0
    for word in run:
        if word == "and":
            continue
        if word in {"hundred", "thousand"}:
            scale = 100 if word == "hundred" else 1000
            yield str(scale)
            yield str((current or 1) * scale)
            if scale == 1000:
                total += (current or 1) * 1000
                current = last = 0
            else:
                current = (current or 1) * 100
                last = 100
            continue
        value = values[word]
        yield str(value)
        if (20 <= last < 100 and value < 10) or (last >= 100 and value < 100) or (not current and total):
            current += value
        else:
            pieces.append(total + current) if total + current else None
            total, current = 0, value
        last = value
        yield str(total + current)
    pieces.append(total + current)
    for first, second in itertools.pairwise(pieces):
        if first and first < 100 and second < 100:
            yield f"{first}{second:02d}"
    if len(pieces) > 2 and all(piece < 10 for piece in pieces):
        yield "".join(map(str, pieces)).lstrip("0") or "0"


@functools.lru_cache(maxsize=4096)
def find_figures(text: str) -> frozenset[str]:
    """The whole numbers that a text writes in figures, without leading zeros."""
    return frozenset(_write_plain(m.group()) for m in NUMBER.finditer(text))


def _write_plain(figures: str) -> str:
    """A whole number without separators and leading zeros."""
    return figures.replace(",", "").lstrip("0") or "0"


@functools.lru_cache(maxsize=4096)
def find_words(text: str) -> frozenset[str]:
    """The words of a text in small letters."""
    return frozenset(match.group().casefold() for match in TOKEN.finditer(text))


@functools.lru_cache(maxsize=4096)
def find_names(text: str) -> frozenset[str]:
    """The names of a text in small letters, known by their capitals: words with one, if they do not begin a sentence or have two.

    A single letter is not a name. A text in small letters has none.
    """
    names = set()
    for match in TOKEN.finditer(text):
        word, before = match.group(), text[: match.start()].rstrip(OPENING)
        capitals = sum(character.isupper() for character in word)
        first = not before or (before.endswith(SENTENCE_START) and TITLES.search(before) is None)
        if len(word) > 1 and (capitals > 1 or (capitals == 1 and not first)):
            names.add(word.casefold())
    return frozenset(names)
