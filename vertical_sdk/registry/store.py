"""The interface of a registry backend, and its data.

A backend is one file in `stores/` with a class that has these methods, and one line in the table there. A store handles files,
numbers and aliases; the Registry handles cards and gates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from vertical_sdk.errors import RegistryError
from vertical_sdk.json_text import parse_json
from vertical_sdk.registry.query import Condition
from vertical_sdk.registry.references import Reference

__all__ = [
    "BY_FORCE",
    "OURS",
    "PURGED",
    "REPLAYED",
    "REVOCATION",
    "REVOKED",
    "SIGNATURE",
    "Entry",
    "Erased",
    "Event",
    "Manifest",
    "MoveAction",
    "Store",
    "Stored",
    "canonical_json",
    "check_expected_version",
    "check_not_purged",
    "log_first_tags",
    "log_tags",
    "manifest_digest",
    "matches",
    "replay_tags",
    "slice_log",
    "tag_problems",
]

OURS = "vertical."
"""The prefix of internal tags, which only the registry sets."""
REVOKED = f"{OURS}revoked"
"""Why a version was revoked."""
REVOCATION = f"{OURS}revocation."
"""Before a key's fingerprint: its signed revocation (`registry.revocations`)."""
SIGNATURE = f"{OURS}signature."
"""Before a signer's fingerprint: its signature (`registry.signing`)."""
REPLAYED = f"{OURS}replayed"
"""The tag that says who replayed the self-tests of a version, and when."""
PURGED = f"{OURS}purged"
"""Why the files of a version were removed."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One file of a version: SHA-256 in hex, size in bytes."""

    sha256: str
    size: int


Manifest: TypeAlias = Mapping[str, Stored]
"""Path in the folder, with forward slashes → the file. Its digest names a version's content."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A version in a store. Only `aliases` and `tags` can change after it was published."""

    name: str
    number: int
    digest: str
    created: str
    who: str
    record: Mapping[str, Any] = field(default_factory=dict)
    """The metadata that the Registry computed when it was published."""
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit log: who did what, when, and why. `before` and `after` are version numbers.

    `evidence` is JSON or "": why an alias was moved (the gate's tests), or the tags that were set.
    """

    at: str
    who: str
    name: str
    action: str
    alias: str | None = None
    before: int | None = None
    after: int | None = None
    why: str = ""
    evidence: str = ""


MoveAction: TypeAlias = Literal["alias", "promote", "rollback"]
"""The actions in the log that point an alias at a version."""
BY_FORCE = " by force"
"""The end of an action in the log that overrode a gate or a verdict."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What removing the files of a version did.

    freed    bytes
    shared   paths of files that remain because other versions have them too, with one of these versions
    remains  where copies remain that this store cannot remove, as sentences; "" if there are none
    """

    freed: int
    shared: Mapping[str, str] = field(default_factory=dict)
    remains: str = ""


class Store(Protocol):
    """A backend. Every method raises RunError if its place cannot be read or written."""

    def put(
        self,
        name: str,
        files: Mapping[str, Path],
        manifest: Manifest,
        *,
        record: Mapping[str, Any],
        tags: Mapping[str, str],
        event: Event,
    ) -> Entry:
        """Store files as the name's next version, whole or not at all.

        files     path in the manifest → path of the file on this machine
        manifest  the digests and sizes that the files must have
        record    metadata, stored permanently with the version

        If the name already has a version with this content, its entry is returned. `event` is logged with the number of the
        version. Raises CorruptAdapter if a file differs from the manifest, RegistryError if the version with this content was purged.
        """

    def find(self, reference: Reference) -> Sequence[Entry]:
        """Find the versions that a reference may mean: zero, one, or several if they share the first digits of a digest."""

    def names(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Sequence[str]:
        """List the names with a prefix, sorted: at most `limit` names after `after`."""

    def newest(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> Sequence[tuple[Entry, Mapping[str, int]]]:
        """List the newest version of each of these names, with all aliases of the name and their versions."""

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> Sequence[Entry]:
        """List versions of a name, oldest first: the `limit` newest with a number below `before`."""

    def search(
        self, conditions: Sequence[Condition], *, after: tuple[str, int] | None = None, limit: int | None = None
    ) -> Sequence[Entry]:
        """Find the versions that meet all conditions, by name and number: at most `limit` versions after (name, number)."""

    def manifest(self, digest: str) -> Manifest:
        """Read the manifest with this digest. Raises CorruptAdapter if it is missing or changed."""

    def folder(self, digest: str) -> Path:
        """Return a local folder with the files of a manifest, for reading only; the caller checks them.

        A remote store downloads missing files (`blob_store.BlobStore.fetch_tree`). Raises SourceError if it cannot.
        """

    def move_alias(self, name: str, alias: str, number: int | None, expected: int | None, event: Event) -> None:
        """Point an alias at a version, or delete it (None).

        `expected` is the version that it must point at now (0: it must not exist, None: any). Raises RegistryError otherwise.
        """

    def tag(self, name: str, number: int, tags: Mapping[str, str | None], event: Event) -> None:
        """Set a version's tags; the value None removes a tag."""

    def erase(self, name: str, number: int) -> Erased:
        """Remove the files of a version with the tag PURGED that no other version has. Its manifest stays.

        A second call finishes what an interrupted one left. Raises RegistryError if the version is not purged, or if this store
        cannot remove files.
        """

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> Sequence[Event]:
        """Read the audit log of a name: at most `limit` lines after the first `skip`."""

    def problems(self) -> Sequence[str]:
        """List the problems of the store itself, without the versions' folders, a sentence each."""

    def gc(self) -> int:
        """Remove files that no version uses, such as those of an interrupted publish, and return the number of freed bytes."""

    def close(self) -> None:
        """Close what this thread has open; the next use opens it again."""


def check_expected_version(name: str, alias: str, before: int | None, expected: int | None) -> None:
    """Compare an alias with its expected version (the comparison of compare-and-swap).

    before    the version that the alias points at; None if it does not exist
    expected  the version that it must point at (0: it must not exist, None: any)

    Raises RegistryError with the version that it points at.
    """
    if expected is None or (before or 0) == expected:
        return
    current = f"points at version {before}" if before else "does not exist"
    wanted = f"to point at version {expected}" if expected else "not to exist"
    raise RegistryError(
        f"{name}@{alias} {current}, but it was expected {wanted}. Someone else moved it: read its history, then try again."
    )


def check_not_purged(entry: Entry) -> None:
    """Raise RegistryError if the files of a version were removed: its content cannot become a version of this name again."""
    if PURGED in entry.tags:
        raise RegistryError(
            f"{entry.name}@{entry.number}, which has exactly these files, was purged: {entry.tags[PURGED]}. A purged version cannot be "
            "published again under its name. Publish an adapter that was trained without what had to be removed."
        )


def log_tags(event: Event, tags: Mapping[str, str | None]) -> Event:
    """Return the log line of a change of tags, with the tags as its evidence."""
    return replace(event, evidence=json.dumps(_shorten_tags(tags), sort_keys=True))


def log_first_tags(event: Event, tags: Mapping[str, str]) -> Event:
    """Return the log line of a publish, with the version's first tags in its evidence."""
    if not tags:
        return event
    evidence = {**json.loads(event.evidence or "{}"), "tags": _shorten_tags(tags)}
    return replace(event, evidence=json.dumps(evidence, sort_keys=True))


def replay_tags(events: Iterable[Event]) -> dict[int, dict[str, str]]:
    """Read from the lines of a name's log which tags each version must have; a signature is its SHA-256, as in the log."""
    tags: dict[int, dict[str, str]] = {}
    for event in events:
        if event.after is None or event.alias is not None:
            continue
        changes = _read_object(event.evidence)
        if event.action.startswith("publish"):
            first = changes.get("tags")
            changes = first if isinstance(first, dict) else {}
        of_version = tags.setdefault(event.after, {})
        for key, value in changes.items():
            if value is None:
                of_version.pop(key, None)
            else:
                of_version[key] = str(value)
    return tags


def tag_problems(entry: Entry, logged: Mapping[str, str], *, complete: bool = True) -> list[str]:
    """List the tags of a version that differ from the log, a sentence each.

    complete  whether the log has every tag; logs of earlier versions of vertical_sdk have neither first tags nor signatures
    """
    actual = _shorten_tags(entry.tags)
    problems = []
    for key in sorted(actual.keys() | logged.keys()):
        if actual.get(key) == logged.get(key) or (key not in logged and not complete):
            continue
        what = (
            "is missing, but the log has it"
            if key not in actual
            else "differs from the log"
            if key in logged
            else "is not in the log"
        )
        problems.append(f"{entry.name}@{entry.number}: its tag {key} {what}")
    return problems


def _shorten_tags(tags: Mapping[str, str | None]) -> dict[str, str | None]:
    """Replace signatures, which are long, by their SHA-256."""
    return {
        key: f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
        if value is not None and key.startswith((SIGNATURE, REVOCATION))
        else value
        for key, value in tags.items()
    }


def _read_object(text: str) -> dict[str, Any]:
    """Read a JSON object; anything else is an empty one."""
    try:
        value = parse_json(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def matches(entry: Entry, conditions: Sequence[Condition]) -> bool:
    """Whether a version meets all conditions."""
    return all(_matches_one(entry, condition) for condition in conditions)


def _matches_one(entry: Entry, condition: Condition) -> bool:
    if condition.metric:
        value = entry.record.get("metrics", {}).get(condition.key)
        return value is not None and condition.accepts(value)
    if condition.key == "name":
        return entry.name == condition.value
    if condition.key.startswith("tag."):
        return entry.tags.get(condition.key.removeprefix("tag.")) == condition.value
    return condition.value in entry.record.get("facts", {}).get(condition.key, ())


def slice_log(log: Sequence[Event], skip: int, limit: int | None, newest_first: bool) -> list[Event]:
    """Select the lines that `Store.history` returns from a complete log, oldest first."""
    lines = log[::-1] if newest_first else log
    return list(lines[skip : None if limit is None else skip + limit])


def canonical_json(manifest: Manifest) -> bytes:
    """Encode a manifest as canonical JSON: sorted keys, no spaces, ASCII."""
    plain = {path: {"sha256": file.sha256, "size": file.size} for path, file in manifest.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def manifest_digest(manifest: Manifest) -> str:
    """Compute the digest of a version: SHA-256 of the manifest's canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(manifest)).hexdigest()
