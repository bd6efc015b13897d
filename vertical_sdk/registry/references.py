"""References: how a version in a registry is named.

    medical/icd-chapter                 the newest version
    medical/icd-chapter@3               version 3, which never changes
    medical/icd-chapter@production      the version that the alias points at now
    medical/icd-chapter@sha256:9f86d081 the version with this digest: its 64 hex digits, or at least the first 8

A name is `task` or `domain/task`. Its parts are ASCII lower-case letters, digits, `_`, `.` and `-`; they start with a letter
or a digit and do not end in a dot or a dash. An alias is one such part that starts with a letter. "latest" and "v3" are not
aliases: a bare name is already the newest version, and a version is written as its number.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from vertical_sdk.errors import RegistryError

__all__ = ["RUNS", "Reference", "check_alias", "check_name", "check_new_name", "check_text", "parse_reference"]

PART = re.compile(r"[a-z0-9](?:[a-z0-9_.-]*[a-z0-9_])?")
LONGEST = 64
"""Characters of one part of a name, and of an alias."""
LONGEST_TEXT = 32_000
"""Characters of a reason, or of the evidence for a move."""
NUMBER = re.compile(r"[1-9][0-9]{0,17}")
DIGITS = re.compile(r"[0-9]+")
VERSION_LIKE = re.compile(r"v[0-9]+")
DIGEST = re.compile(r"[0-9a-f]{8,64}")
SCHEME = "sha256:"
RUNS = "runs/"
"""Where training writes runs if it is given no folder. A text that starts so names a folder, so nothing is published under it."""
GRAMMAR = "a reference is NAME, NAME@3, NAME@ALIAS or NAME@sha256:DIGEST, such as medical/icd-chapter@production"


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference. At most one of `version`, `alias` and `digest` is set; without them it means the newest version."""

    name: str
    version: int | None = None
    alias: str | None = None
    digest: str | None = None
    """8 to 64 hex digits, without "sha256:"."""

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name}@{self.version}"
        if self.digest is not None:
            return f"{self.name}@{SCHEME}{self.digest}"
        return f"{self.name}@{self.alias}" if self.alias is not None else self.name


@functools.lru_cache(maxsize=4096)
def parse_reference(text: str) -> Reference:
    """Parse a reference.

    Raises RegistryError with the mistake and the syntax of a reference.
    """
    name, at, rest = text.partition("@")
    check_name(name)
    if not at:
        return Reference(name)
    if rest.startswith(SCHEME):
        digest = rest[len(SCHEME) :]
        if not DIGEST.fullmatch(digest):
            raise RegistryError(f"{text!r}: write 8 to 64 of the digits 0-9 and a-f after 'sha256:', not {digest!r}.")
        return Reference(name, digest=digest)
    if NUMBER.fullmatch(rest):
        return Reference(name, version=int(rest))
    if DIGITS.fullmatch(rest):
        raise RegistryError(f"{text!r}: {rest!r} is not a version. Versions are 1, 2, 3 and so on.")
    if not rest or "@" in rest:
        raise RegistryError(f"{text!r}: {'nothing follows the @' if not rest else 'it has more than one @'}; {GRAMMAR}.")
    check_alias(rest, name)
    return Reference(name, alias=rest)


def check_text(text: str, what: str) -> str:
    """Return a text that a user gives, if every store can keep it.

    what  its name in the error: "the reason"

    Raises RegistryError if it is too long, or is not Unicode: a byte of a command line or a file that is not UTF-8 is half a
    character (U+DC80 to U+DCFF).
    """
    if len(text) > LONGEST_TEXT:
        raise RegistryError(f"{what} has {len(text)} characters, and at most {LONGEST_TEXT} are kept. Write less.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = ascii(text[error.start])
        raise RegistryError(
            f"{what} is not Unicode text: it has {shown} at character {error.start + 1}. Write UTF-8."
        ) from None
    return text


def check_name(name: str) -> str:
    """Return the name if it is valid.

    Raises RegistryError.
    """
    parts = name.split("/")
    problem = "is empty" if not name else f"has {len(parts)} parts" if len(parts) > 2 else ""
    for part in parts:
        problem = problem or _part_problem(part)
    if problem:
        raise RegistryError(
            f"{name!r} is not a valid adapter name: it {problem}. A name is task or domain/task, of a-z, 0-9, '_', '.' and '-', "
            f"at most {LONGEST} characters a part, such as medical/icd-chapter."
        )
    return name


def check_new_name(name: str) -> str:
    """Return the name if something may be published under it.

    Raises RegistryError.
    """
    if check_name(name).startswith(RUNS):
        raise RegistryError(
            f"{name!r} cannot be published: texts that start with {RUNS!r} name folders. Choose another domain."
        )
    return name


def check_alias(alias: str, name: str = "NAME") -> str:
    """Return the alias if it is valid.

    Raises RegistryError.
    """
    if alias == "latest":
        raise RegistryError(f"'latest' is not an alias. Write {name}, which is the newest version.")
    if VERSION_LIKE.fullmatch(alias):
        raise RegistryError(f"{alias!r} is not an alias, because it looks like a version. Write {name}@{alias[1:]}.")
    problem = _part_problem(alias) or ("does not start with a letter" if not alias[0].isalpha() else "")
    if problem:
        raise RegistryError(
            f"{alias!r} is not a valid alias: it {problem}. An alias is a letter a-z, then a-z, 0-9, '_', '.' and '-', "
            f"at most {LONGEST} characters, such as production."
        )
    return alias


def _part_problem(part: str) -> str:
    """What is wrong with a part, as text after "it"; "" if it is valid."""
    if not part:
        return "has an empty part"
    if len(part) > LONGEST:
        return f"has a part of {len(part)} characters"
    odd = sorted({c for c in part if not re.fullmatch(r"[a-z0-9_.-]", c)})
    if odd:
        return "has " + ", ".join(f"{c!r} (U+{ord(c):04X})" if not c.isascii() else repr(c) for c in odd)
    if ".." in part:
        return "has '..'"
    if not PART.fullmatch(part):
        return "starts with '.', '-' or '_', or ends in '.' or '-'"
    return ""
