"""Metrics of generated text, each the average over rows of a score between 0 and 1.

Texts are compared as SQuAD does it (Rajpurkar et al., 2016): lower case, no punctuation, no English articles, single
spaces. In scripts that are written without spaces every character is a token.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from vertical_sdk.catalog import SHARE, metrics
from vertical_sdk.metrics.measure import UNDEFINED

__all__ = ["exact_match", "mean_of_pairs", "rouge_l", "token_f1", "tokens"]

ARTICLES = re.compile(r"\b(a|an|the)\b")
UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1780-\u17ff\U00020000-\U0003ffff"
TOKEN = re.compile(f"[{UNSPACED}]|[^\\s{UNSPACED}]+")


@lru_cache(maxsize=1 << 16)
def tokens(text: str) -> tuple[str, ...]:
    """The words of a text, after SQuAD's normalisation."""
    plain = unicodedata.normalize("NFKC", text).lower()
    plain = "".join(c for c in plain if not unicodedata.category(c).startswith("P"))
    return tuple(TOKEN.findall(ARTICLES.sub(" ", plain)))


@metrics.register(
    "exact_match",
    within=SHARE,
    tasks=("generation",),
    title="Exact match",
    meaning="Share of answers with exactly the right words.",
)
def exact_match(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of answers with the same words in the same order as the reference."""
    return mean_of_pairs(_exact, predictions, references)


@metrics.register(
    "token_f1", within=SHARE, tasks=("generation",), title="Token F1", meaning="Overlap of words between answer and reference."
)
def token_f1(predictions: Sequence[str], references: Sequence[str]) -> float:
    """F1 of the words that answer and reference share, in any order (Rajpurkar et al., 2016)."""
    return mean_of_pairs(_shared, predictions, references)


@metrics.register(
    "rouge_l",
    within=SHARE,
    tasks=("generation",),
    title="ROUGE-L",
    meaning="Overlap of words between answer and reference, in order.",
)
def rouge_l(predictions: Sequence[str], references: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words (ROUGE-L; Lin, 2004), a row at a time, without stemming."""
    return mean_of_pairs(_in_order, predictions, references)


def mean_of_pairs(score: Callable[[str, str], float], predictions: Sequence[str], references: Sequence[str]) -> float:
    """The mean score of the pairs of an answer and a reference; undefined without rows."""
    return sum(map(score, predictions, references)) / len(references) if len(references) else UNDEFINED


# A bootstrap scores the same pairs a thousand times, so their scores are cached.


@lru_cache(maxsize=1 << 16)
def _exact(prediction: str, reference: str) -> float:
    return float(tokens(prediction) == tokens(reference))


@lru_cache(maxsize=1 << 16)
def _shared(prediction: str, reference: str) -> float:
    a, b = tokens(prediction), tokens(reference)
    return _f1((Counter(a) & Counter(b)).total(), len(a), len(b))


@lru_cache(maxsize=1 << 16)
def _in_order(prediction: str, reference: str) -> float:
    a, b = tokens(prediction), tokens(reference)
    return _f1(_longest_common_subsequence(a, b), len(a), len(b))


def _f1(common: int, first: int, second: int) -> float:
    return 2 * common / (first + second) if first and second else float(first == second)


def _longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Its length, by Hyyrö's bit-parallel recurrence (2004): bit i of `row` is 0 where the table's row steps up at a[i]."""
    places: dict[str, int] = {}
    for i, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for token in b:
        match = row & places.get(token, 0)
        row = ((row + match) | (row - match)) & full
    return len(a) - row.bit_count()
