"""Metrics of the medical vertical."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.catalog import SHARE, metrics
from vertical_sdk.data.texts import prompt_text
from vertical_sdk.metrics.facts import find_figures, find_numbers
from vertical_sdk.metrics.measure import UNDEFINED
from vertical_sdk.types import Example

from .faithfulness import find_entities

Ints = NDArray[np.int64]


@metrics.register("medical.number_faithfulness", within=SHARE, tasks=("generation",))
def number_faithfulness(predictions: Sequence[str], rows: Sequence[Example]) -> float:
    """Share of the numbers in figures in all answers that their questions contain, in figures or in words.

    Undefined if the answers have no numbers.

    Only digits are compared: 98.6 is 98 and 6, and a dose may belong to another drug. Numbers that are counted or computed
    from the question (an age from a birthday, "1." before a list) count as unsupported.
    """
    return _supported_share(_count_numbers, predictions, rows)


@metrics.register("medical.entity_faithfulness", within=SHARE, tasks=("generation",))
def entity_faithfulness(predictions: Sequence[str], rows: Sequence[Example]) -> float:
    """Share of the drugs and diseases of all answers that their questions name by the same word.

    Undefined if the answers name none.

    Known are a list of our own and endings such as -itis and -pril. A clinical name for plain words in the question
    (hypertension for high blood pressure) counts as unsupported, as does a synonym; so this is a lower bound.
    """
    return _supported_share(_count_entities, predictions, rows)


def _supported_share(
    count: Callable[[str, str], tuple[int, int]], predictions: Sequence[str], rows: Sequence[Example]
) -> float:
    """The number of supported items over the number of written items, in all answers; undefined if none were written."""
    counts = [count(answer, prompt_text(row)) for answer, row in zip(predictions, rows, strict=True)]
    written = sum(total for _, total in counts)
    return sum(supported for supported, _ in counts) / written if written else UNDEFINED


# A bootstrap counts the same pairs a thousand times, so the counts are cached.


@functools.lru_cache(maxsize=1 << 16)
def _count_numbers(answer: str, question: str) -> tuple[int, int]:
    written = find_figures(answer)
    return len(written & find_numbers(question)), len(written)


@functools.lru_cache(maxsize=1 << 16)
def _count_entities(answer: str, question: str) -> tuple[int, int]:
    written = find_entities(answer)
    return len(written & find_entities(question)), len(written)
