"""Spans of a text that do not overlap, and the parts of a long one: in time that grows with the length and not with its square."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

__all__ = ["LONGEST", "Taken", "cut_text"]

CORE, AROUND = 1500, 500
"""Characters of a part, and those before and after it that are read with it."""
LONGEST = CORE + 2 * AROUND
"""The most characters that are read at once."""


class Taken:
    """Spans of a text of which no two overlap."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def is_free(self, start: int, end: int) -> bool:
        """Whether a span overlaps none."""
        at = bisect_right(self._starts, start)
        before = at == 0 or self._ends[at - 1] <= start
        return before and (at == len(self._starts) or end <= self._starts[at])

    def take(self, start: int, end: int) -> bool:
        """Add a span if it is free. Return whether it was."""
        if not self.is_free(start, end):
            return False
        at = bisect_right(self._starts, start)
        self._starts.insert(at, start)
        self._ends.insert(at, end)
        return True


def cut_text(text: str) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Cut a text, at white space if possible, into parts that overlap.

    Yields start, end, and the core (start and end): each character is in the core of one part. What begins in a core and has at most
    AROUND characters is in its part, with what comes before it. A text of at most LONGEST characters is one part.
    """
    if len(text) <= LONGEST:
        yield 0, len(text), (0, len(text))
        return
    core = 0
    while core < len(text):
        end = _find_space(text, core + CORE - AROUND // 2, core + CORE)
        yield (
            _find_space(text, core - AROUND, core - AROUND // 2),
            _find_space(text, end + AROUND // 2, end + AROUND),
            (core, end),
        )
        core = end


def _find_space(text: str, first: int, last: int) -> int:
    """The last white space between two places, or the second place; inside the text."""
    if last >= len(text) or last <= 0:
        return max(0, min(last, len(text)))
    return next((at for at in range(last, max(first, 0), -1) if text[at].isspace()), last)
