"""The log of a name in a store that can only create keys: its lines, and the versions, aliases and tags that follow from them.

A line is JSON: {"before": the seal of the previous line, "line": the change, "seal": SHA-256 of both}. A change is a publish
(digest, record, tags), an alias that moved, or tags that were set, with its event and a token that no other line has.
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
from vertical_sdk.json_text import parse_json
from vertical_sdk.registry.references import Reference, check_alias
from vertical_sdk.registry.store import (
    Entry,
    Event,
    check_expected_version,
    check_not_purged,
    log_first_tags,
    log_tags,
)

__all__ = ["EventLog", "build_alias_line", "build_publish_line", "build_tag_line"]

DIGEST = re.compile(r"[0-9a-f]{64}")


class EventLog:
    """The lines of a log that were read so far, and the state they lead to. Hold `lock` while you read or append lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.length = 0
        self.aliases: dict[str, int] = {}
        self.events: list[Event] = []
        self.lock = threading.RLock()
        self._entries: list[Entry] = []
        self._numbers: dict[str, int] = {}
        self._seal = ""

    def encode_next(self, change: Mapping[str, Any]) -> bytes:
        """Encode a change as the line that follows the lines read so far."""
        change = {**change, "token": uuid.uuid4().hex}
        return _encode({"before": self._seal, "line": change, "seal": _seal(self._seal, change)})

    def append(self, content: bytes) -> None:
        """Read the next line. Raises RegistryError if it is not a valid line, or if its seal or the previous seal is wrong."""
        try:
            line = parse_json(content)
            change, event = line["line"], Event(**line["line"]["event"])
            if line["before"] != self._seal or line["seal"] != _seal(self._seal, change) or event.name != self.name:
                raise ValueError("its seal is wrong")
            {"publish": self._publish, "alias": self._move_alias, "tag": self._set_tags}[change["kind"]](event, change)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RegistryError) as error:
            raise RegistryError(
                f"the log of {self.name}: line {self.length + 1} was changed, or an earlier line was removed ({error}). "
                "Run `vertical registry verify`, and restore a copy of the log."
            ) from None
        self._seal = line["seal"]
        self.length += 1

    def _publish(self, event: Event, change: Mapping[str, Any]) -> None:
        number, digest = len(self._entries) + 1, change["digest"]
        if event.after != number or digest in self._numbers or not DIGEST.fullmatch(digest):
            raise ValueError("its number or digest is wrong")
        entry = Entry(self.name, number, digest, event.at, event.who, dict(change["record"]), (), _check_tags(change["tags"]))
        self._entries.append(entry)
        self._numbers[digest] = number
        self.events.append(event)

    def _move_alias(self, event: Event, _: Mapping[str, Any]) -> None:
        alias = check_alias(event.alias or "", self.name)
        if event.after is None:
            del self.aliases[alias]
        else:
            self._get_version(event.after)
            self.aliases[alias] = event.after
        self.events.append(event)

    def _set_tags(self, event: Event, change: Mapping[str, Any]) -> None:
        entry = self._get_version(event.after)
        tags = {key: value for key, value in {**entry.tags, **change["tags"]}.items() if value is not None}
        self._entries[entry.number - 1] = replace(entry, tags=_check_tags(tags))
        self.events.append(event)

    def _get_version(self, number: int | None) -> Entry:
        if type(number) is not int or not 0 < number <= len(self._entries):
            raise ValueError(f"there is no version {number}")
        return self._entries[number - 1]

    @property
    def newest(self) -> int:
        """The number of the newest version; 0 if there are no versions."""
        return len(self._entries)

    def entries(self, below: int | None = None, limit: int | None = None) -> list[Entry]:
        """List the versions, oldest first: the `limit` newest versions with a number below `below`."""
        with self.lock:
            end = len(self._entries) if below is None else min(max(below - 1, 0), len(self._entries))
            start = 0 if limit is None else max(end - limit, 0)
            return self._add_aliases(self._entries[start:end])

    def find(self, reference: Reference) -> list[Entry]:
        """Find the versions that a reference may mean."""
        with self.lock:
            if reference.digest is not None:
                number = self._numbers.get(reference.digest)
                if number is not None:
                    return self._add_aliases([self._entries[number - 1]])
                return self._add_aliases([entry for entry in self._entries if entry.digest.startswith(reference.digest)])
            number = self.aliases.get(reference.alias, 0) if reference.alias is not None else reference.version
            number = len(self._entries) if number is None else number
            return self._add_aliases(self._entries[number - 1 : number] if number else [])

    def _add_aliases(self, entries: Sequence[Entry]) -> list[Entry]:
        aliases: dict[int, list[str]] = {}
        for alias, number in sorted(self.aliases.items()):
            aliases.setdefault(number, []).append(alias)
        return [replace(e, aliases=tuple(aliases[e.number])) if e.number in aliases else e for e in entries]


def build_publish_line(
    log: EventLog, digest: str, record: Mapping[str, Any], tags: Mapping[str, str], event: Event
) -> dict[str, Any] | None:
    """Build the line that makes content the next version. None means that the name has this content already."""
    existing = log.find(Reference(log.name, digest=digest))
    if existing:
        check_not_purged(existing[0])
        return None
    published = asdict(replace(log_first_tags(event, tags), name=log.name, after=log.newest + 1))
    return {"kind": "publish", "event": published, "digest": digest, "record": record, "tags": dict(tags)}


def build_alias_line(
    log: EventLog, alias: str, number: int | None, expected: int | None, event: Event
) -> dict[str, Any] | None:
    """Build the line that moves an alias. None means that the alias is at this version already.

    Raises RegistryError if the alias is not at the expected version.
    """
    before = log.aliases.get(alias)
    check_expected_version(log.name, alias, before, expected)
    if before == number:
        return None
    return {"kind": "alias", "event": asdict(replace(event, name=log.name, alias=alias, before=before, after=number))}


def build_tag_line(log: EventLog, number: int, tags: Mapping[str, str | None], event: Event) -> dict[str, Any]:
    """Build the line that sets a version's tags, or removes those that are None."""
    event = log_tags(event, tags)
    return {"kind": "tag", "event": asdict(replace(event, name=log.name, before=number, after=number)), "tags": dict(tags)}


def _check_tags(tags: Any) -> dict[str, str]:
    if not all(isinstance(word, str) for pair in tags.items() for word in pair):
        raise ValueError("its tags are not strings")
    return dict(tags)


def _seal(before: str, change: Mapping[str, Any]) -> str:
    """Seal a line against a changed byte, a lost line or an edit by hand. It does not protect against an attacker with write access."""
    return hashlib.sha256(_encode([before, change])).hexdigest()


def _encode(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
