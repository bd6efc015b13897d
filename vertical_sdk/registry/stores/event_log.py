"""The log of a name, as a store keeps it that can only create keys: one line after the other, and what follows from them.

A line is JSON: {"before": the seal of the line before, "line": what was done, "seal": SHA-256 of both}. What was done is a publish
(digest, record, tags), an alias that moved or tags that were set, with its event and a token that no other line has.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.references import Reference, check_alias
from vertical_sdk.registry.store import Entry, Event, check_expected_version

__all__ = ["Book", "alias_line", "publish_line", "tag_line"]

DIGEST = re.compile(r"[0-9a-f]{64}")


class Book:
    """What the lines of a log that were read so far come to. `lock` is held while they are read or added to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.length = 0
        self.aliases: dict[str, int] = {}
        self.events: list[Event] = []
        self.lock = threading.RLock()
        self._entries: list[Entry] = []
        self._numbers: dict[str, int] = {}
        self._seal = ""

    def next(self, line: Mapping[str, Any]) -> bytes:
        """The bytes of a line that is to stand behind those that were read."""
        line = {**line, "token": uuid.uuid4().hex}
        return _plain({"before": self._seal, "line": line, "seal": _seal(self._seal, line)})

    def add(self, content: bytes) -> None:
        """Read the next line. Raises RegistryError where it is none, or the seal before it or its own is not right."""
        try:
            read = json.loads(content)
            line, event = read["line"], Event(**read["line"]["event"])
            if read["before"] != self._seal or read["seal"] != _seal(self._seal, line) or event.name != self.name:
                raise ValueError("its seal is wrong")
            {"publish": self._publish, "alias": self._alias, "tag": self._tag}[line["kind"]](event, line)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RegistryError) as error:
            raise RegistryError(
                f"the log of {self.name}: line {self.length + 1} was changed, or one before it taken out ({error}). "
                "Run `vertical registry verify`, and put back a copy."
            ) from None
        self._seal = read["seal"]
        self.length += 1

    def _publish(self, event: Event, line: Mapping[str, Any]) -> None:
        number, digest = len(self._entries) + 1, line["digest"]
        if event.after != number or digest in self._numbers or not DIGEST.fullmatch(digest):
            raise ValueError("its number or digest is wrong")
        entry = Entry(self.name, number, digest, event.at, event.who, dict(line["record"]), (), _tags(line["tags"]))
        self._entries.append(entry)
        self._numbers[digest] = number
        self.events.append(event)

    def _alias(self, event: Event, _: Mapping[str, Any]) -> None:
        alias = check_alias(event.alias or "", self.name)
        if event.after is None:
            del self.aliases[alias]
        else:
            self._at(event.after)
            self.aliases[alias] = event.after
        self.events.append(event)

    def _tag(self, event: Event, line: Mapping[str, Any]) -> None:
        entry = self._at(event.after)
        tags = {key: value for key, value in {**entry.tags, **line["tags"]}.items() if value is not None}
        self._entries[entry.number - 1] = replace(entry, tags=_tags(tags))
        self.events.append(event)

    def _at(self, number: int | None) -> Entry:
        if type(number) is not int or not 0 < number <= len(self._entries):
            raise ValueError(f"there is no version {number}")
        return self._entries[number - 1]

    @property
    def newest(self) -> int:
        """The number of the newest version; 0 where there is none."""
        return len(self._entries)

    def entries(self, below: int | None = None, limit: int | None = None) -> list[Entry]:
        """The versions, oldest first: the `limit` newest of those below a number."""
        with self.lock:
            behind = len(self._entries) if below is None else min(max(below - 1, 0), len(self._entries))
            first = 0 if limit is None else max(behind - limit, 0)
            return self._with_aliases(self._entries[first:behind])

    def find(self, reference: Reference) -> list[Entry]:
        """The versions that a reference may mean."""
        with self.lock:
            if reference.digest is not None:
                number = self._numbers.get(reference.digest)
                if number is not None:
                    return self._with_aliases([self._entries[number - 1]])
                return self._with_aliases([entry for entry in self._entries if entry.digest.startswith(reference.digest)])
            number = self.aliases.get(reference.alias, 0) if reference.alias is not None else reference.version
            number = len(self._entries) if number is None else number
            return self._with_aliases(self._entries[number - 1 : number] if number else [])

    def _with_aliases(self, entries: Sequence[Entry]) -> list[Entry]:
        stand: dict[int, list[str]] = {}
        for alias, number in sorted(self.aliases.items()):
            stand.setdefault(number, []).append(alias)
        return [replace(e, aliases=tuple(stand[e.number])) if e.number in stand else e for e in entries]


def publish_line(
    book: Book, digest: str, record: Mapping[str, Any], tags: Mapping[str, str], event: Event
) -> dict[str, Any] | None:
    """The line that makes content the next version; none where the name has it already."""
    if book.find(Reference(book.name, digest=digest)):
        return None
    told = asdict(replace(event, name=book.name, after=book.newest + 1))
    return {"kind": "publish", "event": told, "digest": digest, "record": record, "tags": dict(tags)}


def alias_line(book: Book, alias: str, number: int | None, expected: int | None, event: Event) -> dict[str, Any] | None:
    """The line that moves an alias; none where it stands there already. Raises RegistryError where it is not where it was expected."""
    before = book.aliases.get(alias)
    check_expected_version(book.name, alias, before, expected)
    if before == number:
        return None
    return {"kind": "alias", "event": asdict(replace(event, name=book.name, alias=alias, before=before, after=number))}


def tag_line(book: Book, number: int, tags: Mapping[str, str | None], event: Event) -> dict[str, Any]:
    """The line that sets a version's tags, or takes away those that are None."""
    return {"kind": "tag", "event": asdict(replace(event, name=book.name, before=number, after=number)), "tags": dict(tags)}


def _tags(tags: Any) -> dict[str, str]:
    if not all(isinstance(word, str) for pair in tags.items() for word in pair):
        raise ValueError("its tags are no words")
    return dict(tags)


def _seal(before: str, line: Mapping[str, Any]) -> str:
    """Not against an enemy who may write here, but against a changed byte, a lost line and a hand that "mends" one."""
    return hashlib.sha256(_plain([before, line])).hexdigest()


def _plain(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
