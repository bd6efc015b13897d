"""Find near-duplicates: MinHash finds the candidates, the exact Jaccard similarity decides.

A text is the set of its 4-character shingles (white space and case do not count). Han, Kana and Hangul say as much in 2 characters,
so runs of them are cut into pieces of 2, and a number or a word between them is one piece. MinHash with banding (Broder, 1997; Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", ch. 3) uses bands that miss a pair at the threshold at most
once in a hundred times. Everything is seeded, so the same texts always give the same result.
"""

from __future__ import annotations

import re
import string
import unicodedata
import zlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.scripts import CJK
from vertical_sdk.data.texts import comparable_values, fold_text, prompt_text
from vertical_sdk.types import Example

__all__ = ["bands", "decontaminate", "jaccard", "near_repeats", "nearest_in", "shingles"]

PERMUTATIONS = 64
SHINGLE, DENSE_SHINGLE = 4, 2
DENSE = re.compile(f"[{CJK}]")
DENSE_OR_NOT = re.compile(f"[{CJK}]+|[^{CJK}]+")
PUNCTUATION = (
    string.punctuation
    + string.whitespace
    + "\u3001\u3002\u300a\u300b\u300c\u300d\u3010\u3011\u2018\u2019\u201c\u201d\u2026\u00b7"
)
MISSED = 0.01
LARGEST = 0xFFFFFFFF
CHUNK = 20_000
"""Pieces that are hashed at once: an array of 5 MB."""


def shingles(text: str) -> frozenset[str]:
    """Return the pieces of a text: of 4 characters, and of 2 in runs of Han, Kana and Hangul.

    A shorter run is one piece, and an empty text has none.
    """
    text = fold_text(text)
    if text.isascii() or not DENSE.search(text):
        return _cut(text, SHINGLE)
    pieces: set[str] = set()
    for run in DENSE_OR_NOT.findall(unicodedata.normalize("NFKC", text)):
        if DENSE.match(run):
            pieces |= _cut(run, DENSE_SHINGLE)
        else:
            plain = run.strip(PUNCTUATION)
            pieces |= _cut(plain, SHINGLE if " " in plain else len(plain))
    return frozenset(pieces) or _cut(text, SHINGLE)


def _cut(text: str, size: int) -> frozenset[str]:
    if len(text) <= size:
        return frozenset([text] if text else [])
    return frozenset(text[i : i + size] for i in range(len(text) - size + 1))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Divide the size of the intersection by the size of the union; 1 for two empty sets."""
    if not first and not second:
        return 1.0
    both = len(first & second)
    return both / (len(first) + len(second) - both)


def bands(threshold: float) -> tuple[int, int]:
    """Return (bands, rows of each): the most rows that still find a pair at the threshold 99 times in a hundred."""
    for rows in range(PERMUTATIONS, 1, -1):
        count = PERMUTATIONS // rows
        if (1 - threshold**rows) ** count <= MISSED:
            return count, rows
    return PERMUTATIONS, 1


def near_repeats(texts: Sequence[str], threshold: float, kinds: Sequence[Hashable] | None = None) -> dict[int, int]:
    """Map the position of a text to that of the earlier text that it nearly repeats, which is not a repeat itself.

    If `kinds` is given, only texts of the same kind are compared.
    """
    index = _Index(threshold)
    found: dict[int, int] = {}
    for position, (text, sketch) in enumerate(_sketch_texts(texts)):
        kind = kinds[position] if kinds else None
        match = index.match(text, sketch, kind)
        if match is None:
            index.add(position, text, sketch, kind)
        else:
            found[position] = match
    return found


def nearest_in(texts: Sequence[str], others: Sequence[str], threshold: float) -> dict[int, int]:
    """Map the position of a text to that of the first of the others that it nearly repeats."""
    index = _Index(threshold)
    for position, (text, sketch) in enumerate(_sketch_texts(others)):
        index.add(position, text, sketch, None)
    found = {}
    for position, (text, sketch) in enumerate(_sketch_texts(texts)):
        match = index.match(text, sketch, None)
        if match is not None:
            found[position] = match
    return found


def decontaminate(
    train: Sequence[Example], evaluation: Sequence[Example], threshold: float, step: str = "decontaminate"
) -> tuple[list[Example], StepAccount]:
    """Drop the training rows that repeat, or nearly repeat, a row of the evaluation.

    The inputs are compared, not the answers. Rows of numbers repeat each other only if all numbers are equal.
    """
    tally = Tally(step)
    with_text = [e for e in evaluation if prompt_text(e)]
    wordless = {comparable_values(e) for e in evaluation if e.values is not None and not prompt_text(e)}
    hits = nearest_in([prompt_text(e) for e in train], [prompt_text(e) for e in with_text], threshold)
    kept = []
    for position, example in enumerate(train):
        if example.values is not None and not prompt_text(example):
            if comparable_values(example) in wordless:
                tally.drop(example.id, "repeats an evaluation row")
            else:
                kept.append(example)
            continue
        if position not in hits:
            kept.append(example)
            continue
        same = fold_text(prompt_text(example)) == fold_text(prompt_text(with_text[hits[position]]))
        tally.drop(example.id, "repeats an evaluation row" if same else "nearly repeats an evaluation row")
    return kept, tally.close(len(train), len(kept))


class _Index:
    """Texts by the bands of their sketches."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._count, self._rows = bands(threshold)
        self._buckets: list[dict[Hashable, list[int]]] = [{} for _ in range(self._count)]
        self._exact: dict[Hashable, int] = {}
        self._texts: dict[int, str] = {}

    def add(self, position: int, text: str, sketch: Any, kind: Hashable) -> None:
        self._exact.setdefault((kind, fold_text(text)), position)
        self._texts[position] = text
        for buckets, key in zip(self._buckets, self._keys(sketch), strict=True):
            buckets.setdefault((kind, key), []).append(position)

    def match(self, text: str, sketch: Any, kind: Hashable) -> int | None:
        same = self._exact.get((kind, fold_text(text)))
        if same is not None or self._threshold >= 1:
            return same
        candidates: set[int] = set()
        for buckets, key in zip(self._buckets, self._keys(sketch), strict=True):
            candidates.update(buckets.get((kind, key), ()))
        own = shingles(text) if candidates else frozenset()
        for position in sorted(candidates):
            other = _cached_shingles(self._texts[position])
            fits = min(len(own), len(other)) >= self._threshold * max(len(own), len(other))
            if fits and jaccard(own, other) >= self._threshold:
                return position
        return None

    def _keys(self, sketch: Any) -> Iterator[bytes]:
        for band in range(self._count):
            yield sketch[band * self._rows : (band + 1) * self._rows].tobytes()


@lru_cache(maxsize=20_000)
def _cached_shingles(text: str) -> frozenset[str]:
    return shingles(text)


def _sketch_texts(texts: Iterable[str]) -> Iterator[tuple[str, NDArray[np.uint32]]]:
    """Yield each text with its 64 minimal hash values; those of an empty text are the largest number."""
    for chunk in _group_texts(texts):
        sketches = np.full((len(chunk), PERMUTATIONS), LARGEST, dtype=np.uint32)
        filled = [place for place, (_, pieces) in enumerate(chunk) if pieces]
        if filled:
            sketches[filled] = _minimal_hashes([chunk[place][1] for place in filled])
        for (text, _), sketch in zip(chunk, sketches, strict=True):
            yield text, sketch


def _group_texts(texts: Iterable[str]) -> Iterator[list[tuple[str, frozenset[str]]]]:
    """Put texts and their pieces into groups of about CHUNK pieces."""
    group: list[tuple[str, frozenset[str]]] = []
    size = 0
    for text in texts:
        group.append((text, shingles(text)))
        size += len(group[-1][1])
        if size >= CHUNK:
            yield group
            group, size = [], 0
    if group:
        yield group


def _minimal_hashes(texts: Sequence[frozenset[str]]) -> NDArray[np.uint32]:
    """The minimal hash values of texts, given as their pieces: (texts, PERMUTATIONS).

    A piece's hash is its CRC-32, mixed by the finalizer of MurmurHash3 (Appleby, 2011). A permutation of 32-bit numbers is
    h → a h + b modulo 2³² with an odd a.
    """
    h = np.fromiter((_hash(piece) for pieces in texts for piece in pieces), dtype=np.uint32)
    h ^= h >> 16
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> 13
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> 16
    a, b = _permutations()
    permuted = h[:, None] * a
    permuted += b
    starts = np.cumsum([0, *map(len, texts)])[:-1]
    return np.asarray(np.minimum.reduceat(permuted, starts, axis=0))


@lru_cache(maxsize=1)
def _permutations() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The numbers a and b of each permutation, (PERMUTATIONS,)."""
    rng = np.random.RandomState(1)  # its numbers stay the same in every version of numpy
    a = rng.randint(0, 1 << 31, PERMUTATIONS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return a, rng.randint(0, 1 << 32, PERMUTATIONS, dtype=np.uint32)


def _hash(piece: str) -> int:
    return zlib.crc32(piece.encode("utf-8", "surrogatepass"))
