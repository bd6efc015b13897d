"""Rows of different length in one pass without padding: their tokens one after another, and attention within each row.

Everything but attention computes a token by itself, so only attention has to know where a row begins. It runs over groups of rows of
about the same length. Rows that begin with the same tokens may share them: these tokens are computed once, and all rows attend to them.
That is exact for causal models, in which a token does not depend on those after it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["NO_TAIL", "Group", "Layout", "Tail", "common_length", "current_layout", "plan_layout", "use_layout"]

T = TypeVar("T")
SPREAD = 1.2
"""Rows share a group if the longest has at most so many times the tokens of the shortest: attention pads within a group."""
HIDDEN = -1e30


@dataclass(frozen=True)
class Tail:
    """Tokens at the end of each row, of which each attends to the row and to its own ancestors among them, in a tree.

    parents  the number of each one's parent, from 1; 0 is the row's end
    depths   how many tokens each is after the row's end
    """

    parents: tuple[int, ...]
    depths: tuple[int, ...]

    @functools.cached_property
    def sees(self) -> Tensor:
        """Which of them each attends to, (tokens, tokens)."""
        seen = torch.eye(len(self.parents), dtype=torch.bool)
        for number, parent in enumerate(self.parents):
            if parent:
                seen[number] |= seen[parent - 1]
        return seen


NO_TAIL = Tail((), ())
"""Rows without a tree."""


@dataclass(frozen=True, eq=False)
class Group:
    """Some rows of a layout, as attention pads them.

    rows    their numbers in the layout's order
    begin   the position of their first token among all tokens; theirs follow each other
    lengths their own tokens
    before  tokens before their own that they attend to as well
    tail    the last of their own tokens that are a tree
    """

    begin: int
    lengths: tuple[int, ...]
    before: int
    tail: Tail = NO_TAIL

    @property
    def even(self) -> bool:
        """Whether the rows are of one length, so that nothing is padded."""
        return self.lengths[0] == self.lengths[-1]

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return self.lengths[-1]

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(self.lengths)

    @functools.cached_property
    def queries(self) -> Tensor:
        """Positions of the rows' own tokens, (rows, longest); after a row's end, its first."""
        starts = torch.tensor([self.begin + sum(self.lengths[:n]) for n in range(len(self.lengths))])
        steps = torch.arange(self.longest)
        return starts[:, None] + steps * self.valid

    @functools.cached_property
    def valid(self) -> Tensor:
        """Which of them are tokens, (rows, longest)."""
        return torch.arange(self.longest) < torch.tensor(self.lengths)[:, None]

    @functools.cached_property
    def keys(self) -> Tensor:
        """Positions of the tokens that the rows attend to, (rows, before + longest)."""
        before = torch.arange(self.before).expand(len(self.lengths), -1)
        return torch.cat([before, self.queries], dim=1)

    def mask(self, *, causal: bool, window: int | None = None) -> Tensor | None:
        """What is added to the scores, (1 or rows, longest, before + longest): 0 where a token attends, else HIDDEN. None if all do.

        window  a token attends to so many tokens, itself included
        """
        key = (causal, window)
        if key not in self._masks:
            self._masks[key] = self._build_mask(causal, window)
        return self._masks[key]

    @functools.cached_property
    def _masks(self) -> dict[tuple[bool, int | None], Tensor | None]:
        return {}

    def _build_mask(self, causal: bool, window: int | None) -> Tensor | None:
        at = torch.arange(self.before + self.longest)
        distance = at[self.before :, None] - at
        if causal:  # the tokens after a row's end are hidden as later ones
            sees = (distance >= 0)[None]
            if window is not None:
                sees = sees & (distance < window)
            if size := len(self.tail.parents):
                if window is not None:
                    raise NotImplementedError("a tree of tokens with an attention of windows")
                sees = sees.repeat(1 if self.even else len(self.lengths), 1, 1)
                for row, length in zip(sees, self.lengths, strict=False):
                    row[length - size : length, self.before + length - size : self.before + length] = self.tail.sees
        elif self.even:
            return None
        else:
            sees = self.valid[:, None, :]
        return torch.zeros(sees.shape).masked_fill_(~sees, HIDDEN)


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of each row are among all tokens: first those that all rows share, then the rows, the shortest first.

    order   the rows, as they lie one after another
    lengths their own tokens
    shared  tokens that all rows begin with
    tail    the last of each row's own tokens that are a tree
    """

    order: tuple[int, ...]
    lengths: tuple[int, ...]
    shared: int
    tail: Tail = NO_TAIL

    @property
    def tokens(self) -> int:
        """All tokens that are computed."""
        return self.shared + sum(self.lengths)

    @functools.cached_property
    def positions(self) -> Tensor:
        """The place of each token in its row, (1, tokens)."""
        parts, depths = [torch.arange(self.shared)], torch.tensor(self.tail.depths, dtype=torch.long)
        for length in self.lengths:
            end = self.shared + length - len(depths)
            parts += [torch.arange(self.shared, end), end - 1 + depths]
        return torch.cat(parts)[None]

    @functools.cached_property
    def ends(self) -> Tensor:
        """Position of the last token of each row before its tail, in the caller's order, (rows,)."""
        return self.starts + self.counts - 1 - len(self.tail.parents)

    @functools.cached_property
    def starts(self) -> Tensor:
        """Position of the first own token of each row, in the caller's order, (rows,)."""
        found, at = [0] * len(self.order), self.shared
        for row, length in zip(self.order, self.lengths, strict=True):
            found[row] = at
            at += length
        return torch.tensor(found)

    @functools.cached_property
    def counts(self) -> Tensor:
        """Own tokens of each row, in the caller's order, (rows,)."""
        found = [0] * len(self.order)
        for row, length in zip(self.order, self.lengths, strict=True):
            found[row] = length
        return torch.tensor(found)

    @functools.cached_property
    def owners(self) -> Tensor:
        """The row of each own token, in the order of the tokens, (tokens - shared,)."""
        return torch.repeat_interleave(torch.tensor(self.order), torch.tensor(self.lengths))

    @functools.cached_property
    def groups(self) -> tuple[Group, ...]:
        """The shared tokens, which attend to themselves, and the rows in groups of similar length."""
        found = [Group(0, (self.shared,), 0)] if self.shared else []
        begin, group = self.shared, list[int]()
        for length in self.lengths:
            if group and length > SPREAD * group[0] + 1:
                found.append(Group(begin, tuple(group), self.shared, self.tail))
                begin, group = begin + sum(group), []
            group.append(length)
        return (*found, Group(begin, tuple(group), self.shared, self.tail))

    def place(self, rows: Sequence[Sequence[T]]) -> list[T]:
        """One value for each token of each row, as the tokens lie; the shared ones are those of the first row."""
        placed = list(rows[0][: self.shared])
        for row in self.order:
            placed.extend(rows[row][self.shared :])
        return placed


def plan_layout(rows: Sequence[Sequence[int]], *, share: bool, tail: Tail = NO_TAIL) -> Layout:
    """Plan how rows of tokens lie one after another.

    share  the tokens that all rows begin with lie there once; each row keeps one token at least
    tail   the tokens that follow each row; `place` takes rows with them
    """
    shared = _common(rows) if share and len(rows) > 1 else 0
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    lengths = tuple(len(rows[row]) - shared + len(tail.parents) for row in order)
    return Layout(tuple(order), lengths, shared, tail)


def _common(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with, and have one more of their own."""
    first, last = min(map(tuple, rows)), max(map(tuple, rows))  # rows in between begin alike
    return max(0, min(common_length(first, last), min(map(len, rows)) - 1))


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length


_LAYOUT: ContextVar[Layout | None] = ContextVar("layout", default=None)


def current_layout() -> Layout | None:
    """The layout of the tokens that a model reads in this thread or task; None if its rows are padded."""
    return _LAYOUT.get()


@contextlib.contextmanager
def use_layout(layout: Layout) -> Iterator[None]:
    """Within it, `kernels.attention` reads the tokens as this layout places them."""
    token = _LAYOUT.set(layout)
    try:
        yield
    finally:
        _LAYOUT.reset(token)
