"""How answers are written, beside what they say: their length, repetition, copying, and facts that their source does not contain.

Except for faithfulness, words are those of `metrics.text.tokens`. The source of an answer is its prompt without the instruction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from vertical_sdk.catalog import POSITIVE, SHARE, metrics
from vertical_sdk.metrics.facts import find_figures, find_names, find_numbers, find_words
from vertical_sdk.metrics.measure import UNDEFINED
from vertical_sdk.metrics.text import tokens
from vertical_sdk.outputs import source_of
from vertical_sdk.types import Example

__all__ = ["copying", "faithfulness", "length_ratio", "longest_copy", "repetition"]

SIZE = 3
"""Words of the sequences that repetition and copying count."""


@metrics.register(
    "length_ratio",
    within=POSITIVE,
    tasks=("generation",),
    title="Length ratio",
    meaning="Words of the answers for each word of the references; 1 is best.",
)
def length_ratio(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Words of all answers over words of all references; undefined if the references have none. Above 1 the answers are too long."""
    written, wanted = (sum(len(tokens(text)) for text in texts) for texts in (predictions, references))
    return written / wanted if wanted else UNDEFINED


@metrics.register(
    "repetition",
    within=SHARE,
    tasks=("generation",),
    higher_is_better=False,
    title="Repetition",
    meaning="Share of three words in a row that the same answer has written before.",
)
def repetition(predictions: Sequence[str]) -> float:
    """Share of the sequences of three words that repeat one of the same answer; undefined if no answer has three words."""
    return _share(map(_count_repeated, predictions))


@metrics.register(
    "copying",
    within=SHARE,
    tasks=("generation",),
    higher_is_better=False,
    title="Copying",
    meaning="Share of three words in a row of the answers that their sources contain.",
)
def copying(predictions: Sequence[str], rows: Sequence[Example]) -> float:
    """Share of the sequences of three words in all answers that their sources contain; undefined if no answer has three words.

    Copying is not always a fault: a quotation is faithful. It says how far a summary is written in words of its own.
    """
    return _share(map(_count_copied, predictions, map(source_of, rows)))


@metrics.register(
    "longest_copy",
    within=POSITIVE,
    tasks=("generation",),
    higher_is_better=False,
    title="Longest copy",
    meaning="Words of the longest sequence that answer and source share, on average.",
)
def longest_copy(predictions: Sequence[str], rows: Sequence[Example]) -> float:
    """Words in the longest sequence of an answer that its source contains, the mean over the answers."""
    lengths = list(map(_longest_run, predictions, map(source_of, rows)))
    return sum(lengths) / len(lengths) if lengths else UNDEFINED


@metrics.register(
    "faithfulness",
    within=SHARE,
    tasks=("generation",),
    title="Faithfulness",
    meaning="Share of the numbers and names in the answers that their sources contain.",
)
def faithfulness(predictions: Sequence[str], rows: Sequence[Example]) -> float:
    """Share of the numbers in figures and of the names in all answers that their sources contain; undefined if they have none.

    A source may write a number in figures or in English words, and a name in any case. Names are known by their capitals, so answers
    in small letters, and scripts without capitals, have only numbers. A number or a name may still be at the wrong place.
    """
    return _share(map(_count_supported, predictions, map(source_of, rows)))


def _share(counts: Iterator[tuple[int, int]]) -> float:
    """The counted over the total, summed over the answers; undefined if the total is 0."""
    counted, totals = zip(*counts, strict=True)
    return sum(counted) / sum(totals) if sum(totals) else UNDEFINED


def _list_sequences(text: str, size: int = SIZE) -> list[tuple[str, ...]]:
    words = tokens(text)
    return [words[start : start + size] for start in range(len(words) - size + 1)]


# A bootstrap counts the same pairs a thousand times, so the counts are cached.


@lru_cache(maxsize=1 << 16)
def _count_repeated(answer: str) -> tuple[int, int]:
    sequences = _list_sequences(answer)
    return len(sequences) - len(set(sequences)), len(sequences)


@lru_cache(maxsize=1 << 16)
def _count_copied(answer: str, source: str) -> tuple[int, int]:
    sequences, known = _list_sequences(answer), set(_list_sequences(source))
    return sum(sequence in known for sequence in sequences), len(sequences)


@lru_cache(maxsize=1 << 16)
def _longest_run(answer: str, source: str) -> int:
    """The longest of these sequences contains shorter ones, so the first length without a common one is one too long."""
    size = 1
    while not set(_list_sequences(answer, size)).isdisjoint(_list_sequences(source, size)):
        size += 1
    return size - 1


@lru_cache(maxsize=1 << 16)
def _count_supported(answer: str, source: str) -> tuple[int, int]:
    numbers, names = find_figures(answer), find_names(answer)
    return len(numbers & find_numbers(source)) + len(names & find_words(source)), len(numbers) + len(names)
