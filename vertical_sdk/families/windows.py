"""Long texts in windows: parts of a text that overlap, each read like a text of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Windows"]

OVERLAP = 8
"""A window begins with the last eighth of the one before, so that a phrase at its end is whole in one of the two."""


@dataclass(frozen=True)
class Windows:
    """How many tokens of a text are read, and in which parts.

    size   tokens of a window, special ones included
    extra  special tokens of each window
    most   windows of a text
    """

    size: int
    extra: int
    most: int = 1

    @property
    def _step(self) -> int:
        """Tokens from a window's begin to that of the next."""
        return max(1, self.size - self.extra - self.size // OVERLAP)

    @property
    def reads(self) -> int:
        """The most tokens of a text that are read, its special ones included."""
        return self.size + (self.most - 1) * self._step

    def count(self, tokens: int) -> int:
        """The windows that a text of so many tokens needs, its special ones included."""
        return 1 + max(0, -(-(tokens - self.size) // self._step))

    def divide(self, ids: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """The windows of a text, given and returned without special tokens; what is too long for `most` is left out."""
        for number in range(min(self.most, self.count(len(ids) + self.extra))):
            yield ids[number * self._step :][: self.size - self.extra]
