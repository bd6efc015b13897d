"""Read single cells: which ones are missing, what is a number, and the one form of every key and label.

A cell is missing if it is empty (None, NaN, NaT, pandas' NA, only white space), or if it is one of MISSING_WORDS in any case: files
write a missing cell as such a word. A recipe may name other words, and a word that is declared to be a label is a label.

Two texts are surely the same if they differ only in their Unicode form (NFC), in white space, or in characters that are not visible.
They may be the same if they differ in case, in width, or in how a number is written; such pairs are reported, never joined.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, time
from typing import Any

__all__ = [
    "MISSING_WORDS",
    "clean_text",
    "find_look_alikes",
    "fold_name",
    "is_empty",
    "is_missing",
    "normalize_key",
    "plain_text",
    "plain_value",
    "read_missing_words",
    "to_number",
]

MISSING_WORDS = frozenset({"#n/a", "<na>", "n/a", "na", "nan", "nat", "none", "null"})
"""Words, in small letters, that mean a missing cell."""
LONGEST_WORD = 64
"""Characters of a cell that may be a word for a missing value."""
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0100-\U000e01ef]"
    r"|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"  # joiners belong to some scripts, and to emoji
    r"|(?<![\U0001f3f4\U000e0020-\U000e007e])[\U000e0000-\U000e007f]+"  # tags tell the flags of England and Scotland apart
)
_WHOLE = re.compile(r"-?(?:0|[1-9]\d*)(?=\.0+$)|-0$", re.ASCII)
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(?:\.0+|(\.\d*[1-9])0*)?", re.ASCII)
_EMPTY_TYPES = frozenset({"NAType", "NaTType"})


def clean_text(text: str) -> str:
    """Write a text in NFC, with single spaces, and without invisible characters."""
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return " ".join(text.split())


def is_empty(cell: object) -> bool:
    """Whether a cell has no value: None, NaN, NaT, pandas' NA, or a text without a visible character."""
    if cell is None:
        return True
    if isinstance(cell, str):
        return not cell.strip() or (not (cell[:1].isascii() and cell[:1].isprintable()) and not clean_text(cell))
    if type(cell).__name__ in _EMPTY_TYPES:
        return True
    try:
        return bool(cell != cell)  # noqa: PLR0124  (only NaN and NaT differ from themselves)
    except (TypeError, ValueError, ArithmeticError):
        return False


def is_missing(cell: object, words: Collection[str] = MISSING_WORDS) -> bool:
    """Whether a cell means a missing value: an empty one, or one of these words in any case."""
    if not isinstance(cell, str):
        return is_empty(cell)
    return is_empty(cell) or (len(cell) <= LONGEST_WORD and clean_text(cell).lower() in words)


def read_missing_words(named: Iterable[str] | None) -> frozenset[str]:
    """Return the words that mean a missing cell, as `is_missing` compares them; None means MISSING_WORDS."""
    return MISSING_WORDS if named is None else frozenset(clean_text(word).lower() for word in named)


def normalize_key(cell: object, words: Collection[str] = MISSING_WORDS) -> str | None:
    """Return the one form of an id, a group or any other key; None for a missing one.

    A whole number has no fraction: 7.0 and "7.0" are "7", and "-0" is "0". Signs and zeros in front stay: "007" is not "7".
    """
    if is_missing(cell, words):
        return None
    text = plain_text(cell)
    whole = _WHOLE.match(text)
    return (whole[0] if whole[0] != "-0" else "0") if whole else text


def plain_text(cell: object) -> str:
    """Write a cell as text: a moment without a zone in one form in all formats of files, and only its day at midnight."""
    text = clean_text(str(plain_value(cell)))
    moment = _MOMENT.fullmatch(text)
    if not moment:
        return text
    day, minutes, seconds, fraction = moment.groups("")
    clock = f"{minutes}{seconds or ':00'}{fraction}"
    return day if clock == "00:00:00" else f"{day} {clock}"


def plain_value(cell: Any) -> Any:
    """Return the plain Python value of a numpy scalar, a whole float as an int, and midnight of a day without a zone as a date.

    Other values are unchanged. A CSV and an Excel file know a day of pandas only as a date.
    """
    if isinstance(cell, datetime):
        return cell.date() if cell.tzinfo is None and cell.time() == time() else cell
    if getattr(getattr(cell, "dtype", None), "kind", "") in {*"fiub"} and getattr(cell, "shape", None) == ():
        cell = cell.item()
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def to_number(cell: Any) -> float | None:
    """Read a cell as a number; None if it is not one. A number that is too large is infinite.

    Python also reads "1_5" as 15; here it is not a number.
    """
    if isinstance(cell, str) and "_" in cell:
        return None
    try:
        return float(cell)
    except OverflowError:
        return math.inf if cell > 0 else -math.inf
    except (TypeError, ValueError):
        return None


def find_look_alikes(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Find names that differ only in case, in the width of their characters, or in how they write a number."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        alike[fold_name(name)].append(name)
    return [tuple(sorted(group)) for group in alike.values() if len(group) > 1]


def fold_name(name: str) -> str:
    """Return a form that is equal for names which look alike: "Spam" and "spam", "1", "01" and "1.0"."""
    folded = clean_text(unicodedata.normalize("NFKC", name)).casefold()
    number = to_number(folded)
    return f"{number:.17g}" if number is not None and math.isfinite(number) else folded
