"""The fields of records as numbers that a network reads: bins of numbers, words, and missing values, learned from the training rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.errors import DataError
from vertical_sdk.members import Arrays, decode_json, encode_json, take_array
from vertical_sdk.types import Cell

__all__ = ["FIRST_WORD", "MISSING", "UNSEEN", "FieldCoding", "Record"]

Record: TypeAlias = tuple[tuple[str, Cell], ...]
MISSING, UNSEEN, FIRST_WORD = 0, 1, 2
"""Slots of a field: its value is missing; it is a word that too few training rows have; it is the first word. Bins come after MISSING."""
LEAST_ROWS = 5
"""A word that fewer training rows have counts as unseen, so that this value is learned too."""
MOST_WORDS, MOST_FIELDS, MOST_BINS = 256, 1024, 256
"""The most frequent words of a field are kept; a recipe and a file have at most so many fields and bins."""


@dataclass(frozen=True, eq=False)
class FieldCoding:
    """How each field of a record becomes `slots` numbers from 0 to 1.

    fields  name → the words of the field, or None for a field of numbers; a field is of words if any training row has a word in it
    edges   (fields, bins + 1) rising, where a number's bins begin and end; of a field of words they are not used

    A number fills the bins below it, and its own bin by the share that it has passed (piecewise-linear encoding, Gorishniy, Rubachev and
    Babenko, On Embeddings for Numerical Features in Tabular Deep Learning, 2022, section 3.2; here limited to 0 to 1 in the outer bins
    too, so that an extreme value counts as the largest one in training). Bins have about the same number of training rows.
    """

    fields: Mapping[str, tuple[str, ...] | None]
    edges: NDArray[np.float64]

    @property
    def slots(self) -> int:
        """Numbers that a field becomes."""
        words = max((FIRST_WORD + len(words) for words in self.fields.values() if words is not None), default=0)
        return max(words, int(self.edges.shape[1]))

    @classmethod
    def fit(cls, records: Sequence[Record], bins: int) -> FieldCoding:
        """Learn words and bins from the training rows.

        Raises DataError for more fields than MOST_FIELDS.
        """
        columns: dict[str, list[Cell]] = {}
        for record in records:
            for name, value in record:
                columns.setdefault(name, []).append(value)
        if len(columns) > MOST_FIELDS:
            raise DataError(
                f"records of {len(columns)} fields are too wide; at most {MOST_FIELDS} are read. Choose some in data.reader.record."
            )
        fields: dict[str, tuple[str, ...] | None] = {}
        edges = np.zeros((len(columns), bins + 1))
        for row, (name, values) in enumerate(columns.items()):
            if any(isinstance(value, str) for value in values):
                counts = Counter(_to_word(value) for value in values if value is not None)
                words = [word for word, count in counts.most_common(MOST_WORDS) if count >= LEAST_ROWS]
                fields[name] = tuple(sorted(words))
            else:
                fields[name] = None
                edges[row] = _find_edges(np.array([value for value in values if value is not None], dtype=np.float64), bins)
        return cls(fields, edges)

    def read(self, records: Sequence[Record]) -> NDArray[np.float64]:
        """Read records as (rows, fields): a number itself, the slot of a word, NaN for a missing value.

        A word in a field of numbers counts as missing, as does a field that the record lacks; other fields are not read.
        """
        table = np.full((len(records), len(self.fields)), np.nan)
        columns = {
            name: (column, None if words is None else {word: FIRST_WORD + n for n, word in enumerate(words)})
            for column, (name, words) in enumerate(self.fields.items())
        }
        for row, record in enumerate(records):
            for name, value in record:
                column, slots = columns.get(name, (None, None))
                if column is None or value is None:
                    continue
                if slots is not None:
                    table[row, column] = slots.get(_to_word(value), UNSEEN)
                elif not isinstance(value, str):
                    table[row, column] = value
        return table

    def encode(self, table: NDArray[np.float64]) -> NDArray[np.float32]:
        """Turn what `read` returns into (rows, fields, slots)."""
        encoded = np.zeros((*table.shape, self.slots), dtype=np.float32)
        missing = np.isnan(table)
        encoded[..., MISSING] = missing
        words = np.array([words is not None for words in self.fields.values()])
        numbers = ~words
        if numbers.any():
            low, width = self.edges[numbers, :-1], np.diff(self.edges[numbers])
            passed = (table[:, numbers, None] - low) / np.where(width > 0, width, 1.0)
            filled = np.where(missing[:, numbers, None] | (width <= 0), 0.0, np.clip(passed, 0.0, 1.0))
            encoded[:, numbers, 1 : self.edges.shape[1]] = filled
        rows, columns = np.nonzero(words & ~missing)
        encoded[rows, columns, table[rows, columns].astype(np.int64)] = 1.0
        return encoded

    def count_unseen(self, record: Record) -> int:
        """Count the words of a record that are not among the words of their field."""
        return sum(
            value is not None
            and name in self.fields
            and (isinstance(value, str) if (words := self.fields[name]) is None else _to_word(value) not in words)
            for name, value in record
        )

    def draw(self, rng: np.random.Generator) -> Record:
        """Draw a record of known words, and of numbers between those of the training rows."""
        return tuple(
            (name, float(rng.uniform(row[0], row[-1])) if words is None else _draw_word(words, rng))
            for (name, words), row in zip(self.fields.items(), self.edges, strict=True)
        )

    def to_arrays(self) -> Arrays:
        """Return fields and edges as arrays."""
        return {"fields": encode_json(list(self.fields.items())), "edges": self.edges}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> FieldCoding:
        """Restore what `to_arrays` returned, which somebody may have changed.

        Raises KeyError, TypeError or ValueError that names what is missing, too large or out of order.
        """
        listed = decode_json(arrays["fields"])
        if not isinstance(listed, list) or not 0 < len(listed) <= MOST_FIELDS:
            raise ValueError(f"fields must be a list of 1 to {MOST_FIELDS} fields")
        fields = {}
        for name, words in listed:
            known = words is None or (
                isinstance(words, list) and len(words) <= MOST_WORDS and all(isinstance(word, str) for word in words)
            )
            if not isinstance(name, str) or not known or (words is not None and len(set(words)) < len(words)):
                raise ValueError(f"fields must have names, and at most {MOST_WORDS} different words, or null for numbers")
            fields[name] = None if words is None else tuple(words)
        edges = take_array(arrays, "edges", len(listed), None)
        if len(fields) < len(listed):
            raise ValueError("fields has a name twice")
        if not 3 <= edges.shape[1] <= MOST_BINS + 1 or (np.diff(edges) < 0).any():
            raise ValueError(f"edges must rise, in 2 to {MOST_BINS} bins, and have the shape {edges.shape}")
        return cls(fields, edges.astype(np.float64))


def _to_word(value: Cell) -> str:
    """A cell of a field of words; a number among words is the word that tells it."""
    return value if isinstance(value, str) else f"{value:g}"


def _draw_word(words: Sequence[str], rng: np.random.Generator) -> str | None:
    """One of the words; None if there are none."""
    return words[int(len(words) * rng.random())] if words else None


def _find_edges(known: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Find edges between which there are about as many numbers; each different number is one if there are few. (bins + 1,)

    Edges that are not needed repeat the last one. A field without numbers, or with the same one everywhere, has one bin around it.

    Raises DataError for a number that is not finite, or beyond 1e100.
    """
    if not (np.abs(known) <= 1e100).all():
        raise DataError("a field has a number that is infinite, or beyond 1e100. Leave the cell empty if nothing was measured.")
    different = np.unique(known)
    found = different if len(different) <= bins + 1 else np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)))
    if len(found) < 2:
        middle = float(found[0]) if len(found) else 0.0
        around = max(1.0, math.ulp(middle))
        found = np.array([middle - around, middle + around])
    return np.concatenate([found, np.full(bins + 1 - len(found), found[-1])])
