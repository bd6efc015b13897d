"""The scripts of a text: copies of the same length in which patterns for Latin letters and ASCII digits find what they look for.

A pattern such as `\\b\\d{11}\\b` fails beside a Han character, as Python counts both as characters of a word, and `\\d` matches
full-width digits that no checksum reads. Positions in a copy are positions in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

__all__ = ["CJK", "fold_width", "isolate_latin", "main_script", "write_like"]

CJK = (
    "\u3005-\u3007\u3041-\u3096\u30a1-\u30fa\u30fc-\u30ff\u3131-\u318e\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Han, Kana and Hangul, as the inside of a character class."""
GAP = "\v"
"""Written in place of a letter of another script. It is white space, and no number, name or address contains it."""
FULL_STOPS = "\u3001\u3002\uff0c\uff1b\uff01\uff1f\u300a\u300b\u300c\u300d\u300e\u300f\u3010\u3011\uff61"
"""Punctuation of Chinese and Japanese, which ends an address as white space does."""
FEWEST = 3
"""Letters that a text needs to have a main script."""

_LATIN = tuple(
    range(first, last)
    for first, last in (
        (0, 0x250),
        (0x300, 0x370),
        (0x1D00, 0x1D80),
        (0x1E00, 0x1F00),
        (0x2C60, 0x2C80),
        (0xA720, 0xA800),
        (0xFB00, 0xFB07),
    )
)
"""The blocks of Latin letters, and of the accents over them."""
_NAMES = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana", "HANGUL": "Hangul", "HALFWIDTH": "Kana"}


class _Folded(dict[int, str]):
    """Code point → the digit or the narrow form of a character; filled when a character is first seen."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        digit = unicodedata.decimal(character, None)
        if digit is not None:
            character = str(digit)
        elif 0xFF01 <= code <= 0xFF5E:
            character = chr(code - 0xFEE0)
        elif code in {0x2010, 0x2011, 0xFE63, 0xFF0D}:
            character = "-"
        elif code in {0x3000, 0xA0}:
            character = " "
        self[code] = character
        return character


class _Isolated(_Folded):
    """Code point → the same as `_Folded`, with a gap in place of letters of other scripts and of full stops of Chinese."""

    def __missing__(self, code: int) -> str:
        character = super().__missing__(code)
        if chr(code) in FULL_STOPS or _is_foreign(ord(character)):
            character = self[code] = GAP
        return character


_FOLDED, _ISOLATED = _Folded(), _Isolated()


def fold_width(text: str) -> str:
    """Write full-width characters and the digits of all scripts in ASCII. The length stays the same."""
    return text if text.isascii() else text.translate(_FOLDED)


def isolate_latin(text: str) -> str:
    """Fold the width, and write white space in place of every letter of another script. The length stays the same."""
    return text if text.isascii() else text.translate(_ISOLATED)


def write_like(new: str, old: str) -> str:
    """Write characters in full width as the old value has them: one by one if the lengths are equal, else all digits."""
    if old.isascii():
        return new
    if len(new) == len(old):
        return "".join(_widen(c) if "\uff01" <= like <= "\uff5e" else c for c, like in zip(new, old, strict=True))
    return re.sub(r"[0-9]", lambda match: _widen(match.group()), new) if re.search("[\uff10-\uff19]", old) else new


def _widen(character: str) -> str:
    return chr(ord(character) + 0xFEE0) if "!" <= character <= "~" else character


def main_script(texts: Iterable[str]) -> str | None:
    """Name the script of most of the letters: "Latin", "Han", "Kana", "Hangul", "Cyrillic", "Thai"; None for too few letters.

    A Han, Kana or Hangul character counts as three letters, as it says about as much. Japanese counts as Kana if a fifth of its
    characters are Kana.
    """
    letters: Counter[str] = Counter()
    for text in texts:
        if text.isascii():
            letters["Latin"] += sum(map(str.isalpha, text))
            continue
        for character, count in Counter(text).items():
            if character.isalpha():
                name = _name_script(character)
                letters[name] += 3 * count if name in {"Han", "Kana", "Hangul"} else count
    if letters["Kana"] * 5 > letters["Kana"] + letters["Han"]:
        letters["Kana"] += letters.pop("Han", 0)
    script = max(letters, key=lambda name: letters[name], default=None)
    return script if letters.total() >= FEWEST else None


def _is_foreign(code: int) -> bool:
    """Whether a character is a letter, or a mark of a letter, and not Latin."""
    if any(code in group for group in _LATIN):
        return False
    category = unicodedata.category(chr(code))
    return category[0] == "L" or category in {"Mn", "Mc", "Me", "Nl"}


def _name_script(character: str) -> str:
    if not _is_foreign(ord(character)):
        return "Latin"
    first = unicodedata.name(character, "OTHER").split()[0].removeprefix("FULLWIDTH")
    return _NAMES.get(first, first.capitalize() if first else "Latin")
