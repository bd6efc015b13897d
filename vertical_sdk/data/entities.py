"""Describe the kinds of personal data that a vertical adds to the general ones.

An Entity is plain data. `data.deidentify` builds a Presidio recogniser from it, so Presidio computes scores, context words and
overlaps.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Entity", "match_after_label"]

GLUE = r"(?:\s+(?i:is|was))?[\s:#=]{0,3}"


@dataclass(frozen=True)
class Entity:
    """A kind of personal data.

    name       in capitals, as the kinds of Presidio: "UK_NHS"
    patterns   regular expression → confidence of a match, 0 to 1. Case matters (write `(?i:...)` to ignore it), and a pattern may
               look back by any length
    context    words before such a value; near one of them the confidence rises by 0.35
    valid      a check, for example of a check digit: a match that fails it is ignored
    hint       a pattern that every text with this kind contains; other texts are skipped
    surrogate  invents a value of the same form from the value and a rng; None draws new letters and digits
    names      if set, the value is a name of several words. Each word is also found elsewhere in the document and replaced by
               itself, as for a person; these words (in small letters) stay the same
    """

    name: str
    patterns: tuple[tuple[str, float], ...]
    context: tuple[str, ...] = ()
    valid: Callable[[str], bool] | None = None
    hint: str = r"\d"
    surrogate: Callable[[str, random.Random], str] | None = None
    names: frozenset[str] | None = None


def match_after_label(labels: str, value: str) -> str:
    """Build a pattern for a value after its label: "MRN: 123", "account number is 123". Only the value is the match."""
    return rf"(?<=(?<![A-Za-z])(?:{labels})\.?{GLUE})(?<![\w-])(?:{value})(?![\w])"
