"""What personal data looks like, for the kinds that a vertical adds to the general ones.

An Entity is plain data; `data.deidentify` makes a Presidio recogniser of it, so that scores, context words and overlaps are Presidio's.
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

    name       in capitals, as Presidio names its own: "UK_NHS"
    patterns   regular expression → how sure it is where it matches, 0 to 1. They heed case (write `(?i:...)` where it should not
               matter), and may look back by any length
    context    words that stand before such a value; near one of them it is surer by 0.35
    valid      a check, such as of a check digit: what does not pass it is none
    hint       what a text must have for the kind to be in it at all
    surrogate  makes up a value of the same look from the value and a rng; letters and digits are drawn anew where None
    names      where set, the value is a name of words, each of which is found again all over the document and made up word by
               word, as a person's is; these words (in small letters) stay as they are
    """

    name: str
    patterns: tuple[tuple[str, float], ...]
    context: tuple[str, ...] = ()
    valid: Callable[[str], bool] | None = None
    hint: str = r"\d"
    surrogate: Callable[[str, random.Random], str] | None = None
    names: frozenset[str] | None = None


def match_after_label(labels: str, value: str) -> str:
    """A pattern of a value behind its label: "MRN: 123", "account number is 123"; only the value is the match."""
    return rf"(?<=(?<![A-Za-z])(?:{labels})\.?{GLUE})(?<![\w-])(?:{value})(?![\w])"
