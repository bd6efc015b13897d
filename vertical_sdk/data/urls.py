"""Addresses of the web in a text, and words that only look like one: "condition.surgery", for want of a space after a full stop."""

from __future__ import annotations

import re

__all__ = ["URL_PATTERNS", "is_url"]

COMMON = (
    "com org net edu gov mil int info biz io dev xyz cn uk de fr jp kr ru br au ch nl eu tw hk sg es pl dk nz za il ua cz hu pt"
    " ro vn be se no fi at it us ca in ie me co tv cc ai ly gl"
)
"""Endings of a host that counts without a scheme, "www." or a path."""
WORDS = "be no at it us ca in me co pt se es ie tv cc ai net int mil"
"""Those that are also words or abbreviations: "pain.no fever", "seen.pt denies"."""
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*+(?<!-))?"
_START, _END = r"(?<![\w@.-])", r"(?![\w@-]|\.[a-z0-9])"
_REST = r"(?:[^\s()<>\"'“”‘’]*[^\s()<>\"'“”‘’.,;:!?])"
URL_PATTERNS = (
    rf"(?<![A-Za-z])(?i:https?|ftp)://{_REST}",
    rf"{_START}(?i:www)\d{{0,3}}\.(?:{_LABEL}\.)+[A-Za-z]{{2,24}}{_END}(?::\d{{2,5}})?(?:[/?#]{_REST}?)?",
    rf"{_START}(?:{_LABEL}\.)+(?i:{'|'.join(COMMON.split())}){_END}(?::\d{{2,5}})?(?:[/?#]{_REST}?)?",
    rf"{_START}(?:{_LABEL}\.)+[A-Za-z]{{2,24}}{_END}(?::\d{{2,5}})?/{_REST}?",
)
"""Scheme, "www.", a well-known ending, any ending and a path. Case matters: a capital after a full stop begins a sentence."""


def is_url(text: str) -> bool:
    """Whether a match of URL_PATTERNS is an address, and not two words with a full stop between them."""
    if "://" in text[:9] or text[:3].casefold() == "www":
        return True
    host, slash, path = re.split(r"[:/?#]", text, maxsplit=1)[0], "/" in text, text.partition("/")[2]
    *names, ending = host.split(".")
    if ending != ending.lower() and ending != ending.upper() and ending.casefold() not in {"com", "org", "edu", "gov"}:
        return False
    ending = ending.casefold()
    is_name = len(names) > 1 and all(len(name) > 1 for name in names)
    is_name = is_name or any("-" in name or (re.search(r"\d", name) and not name.isdigit()) for name in names)
    if slash and (re.search(r"[\dA-Z/_-]", path) or path == "" or is_name):
        return True
    if ending not in COMMON.split():
        return False
    if ending in WORDS.split():
        return is_name
    return (len(names[-1]) > 1 or len(ending) > 2) and names not in (["co"], ["com"], ["ac"])
