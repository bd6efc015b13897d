"""Rows of tokens, and how they are put together so that little of a batch is padding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vertical_sdk.types import Cell, Numbers

__all__ = ["Encoded", "even_batches", "micro_batches", "pad"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row as a backbone reads it: token ids, numbers, or the fields of a record.

    ids     the tokens that fit
    learn   generation and language only: for each token whether it is to be learned, as it belongs to an answer or a text
    target  the position of the label (classification, ordinal), k numbers 0 or 1 (multilabel), a number (regression), an
            array (steps, channels) of what came next (forecasting, anomaly), or a key that counterparts share (contrastive)
    cut     how many tokens did not fit
    unknown how many tokens of the text, cut or not, are [UNK]: the base's vocabulary does not have what is written; of a record, how
            many words no training row has in their field
    tokens  how many tokens the text has; counted only if some are unknown. Of a record, its fields
    control how many control tokens are written in the text; they are read as characters
    avoid   generation only: for each token to be learned, in order, ids of tokens to avoid in its place; see losses.get_token_finder
    values  series, as (steps, channels) float32, or an image, as bytes; None for text
    record  the fields of a record; () for other rows
    at      series: when it ends, in seconds since Monday 0:00; 0 if that is not known
    size    tokens that the numbers or fields become; 0 for text, whose ids are counted
    windows the tokens of each window, one after another in `ids`; () for a row in one piece
    """

    ids: tuple[int, ...] = ()
    learn: tuple[bool, ...] = ()
    target: int | float | tuple[float, ...] | Numbers | None = None
    cut: int = 0
    unknown: int = 0
    tokens: int = 0
    control: int = 0
    avoid: tuple[tuple[int, ...], ...] = ()
    values: Numbers | None = field(default=None, compare=False)
    record: tuple[tuple[str, Cell], ...] = ()
    at: float = 0.0
    size: int = 0
    windows: tuple[int, ...] = ()

    @property
    def pieces(self) -> list[tuple[int, ...]]:
        """The tokens of each window; of a row in one piece, all."""
        ends = itertools.accumulate(self.windows or (len(self.ids),))
        return [self.ids[end - length : end] for end, length in zip(ends, self.windows or (len(self.ids),), strict=True)]

    @property
    def length(self) -> int:
        """How many tokens the row is in the backbone."""
        return self.size or len(self.ids)

    @property
    def unknown_share(self) -> float:
        """The share of the text's tokens that are unknown."""
        return self.unknown / self.tokens if self.unknown else 0.0

    @property
    def units(self) -> int:
        """How many things there are to learn: the answer's tokens that have one before them, or one target."""
        return sum(self.learn[1:]) if self.learn else int(self.target is not None)


def micro_batches(lengths: Sequence[int], budget: int, most: int | None = None) -> Iterator[list[int]]:
    """Positions of rows in groups of similar length, so that rows × longest row ≤ budget tokens, or one row.

    most  rows of a group at most; None: only the budget limits them

    The groups together are the rows, once each: what is summed over them does not depend on the budget.
    """
    group: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda p: (lengths[p], p)):
        if group and (lengths[position] * (len(group) + 1) > budget or len(group) == most):
            yield group
            group = []
        group.append(position)
    if group:
        yield group


def even_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Positions of rows in groups of similar length, with about as many tokens in each, and at most `budget` or one row.

    For rows that are not padded: short ones of a group cost nothing. The groups together are the rows, once each.
    """
    order = sorted(range(len(lengths)), key=lambda p: (lengths[p], p))
    whole = sum(lengths)
    share = whole / max(1, -(-whole // budget))
    groups: list[list[int]] = []
    tokens = 0
    for position in order:
        length = lengths[position]
        if not groups or tokens + length > budget or tokens + length / 2 > share:
            groups.append([])
            tokens = 0
        groups[-1].append(position)
        tokens += length
    return groups


def pad(rows: Sequence[Sequence[int]], value: int) -> tuple[Tensor, Tensor]:
    """Rows of ids as two tensors, padded on the right.

    returns  ids (rows, longest) int64, mask (rows, longest) int64 with 1 for tokens and 0 for padding
    """
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), value, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[number, : len(row)] = 1
    return ids, mask
