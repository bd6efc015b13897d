"""What a registry needs of the place that it keeps adapters in.

A backend is one file in `stores/` with a class that has these methods, and one line in the table there. A store knows files,
numbers and aliases; it knows nothing of cards and gates, which are the Registry's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.query import Condition
from vertical_sdk.registry.references import Reference

__all__ = ["Entry", "Event", "Manifest", "Store", "Stored", "canonical", "manifest_digest", "part_of", "check_expected_version"]


@dataclass(frozen=True, slots=True)
class Stored:
    """One file of a version: SHA-256 in hex, size in bytes."""

    sha256: str
    size: int


Manifest: TypeAlias = Mapping[str, Stored]
"""Path in the folder, with forward slashes → the file. Its digest names a version's content."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A version as a store keeps it. All but `aliases` and `tags` stays as it was published."""

    name: str
    number: int
    digest: str
    created: str
    who: str
    record: Mapping[str, Any] = field(default_factory=dict)
    """What the Registry noted when it was published."""
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit log: who did what, when, and why. `before` and `after` are version numbers.

    `evidence` is JSON, or nothing: what an alias was moved on (the gate's tests), or the tags that were set.
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


class Store(Protocol):
    """A backend. Every method raises RunError where the place cannot be read or written."""

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
        """Keep files as the name's next version, whole or not at all.

        files     path in the manifest → where the file is now
        manifest  what the files must be
        record    kept with the version for ever

        Content that the name has already gets no new version: its entry is returned. `event` is logged with the number that
        the version got. Raises CorruptAdapter where a file's bytes are not those of the manifest.
        """

    def find(self, reference: Reference) -> Sequence[Entry]:
        """The versions that a reference may mean: none, one, or several where a digest's first digits are shared."""

    def names(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Sequence[str]:
        """The names that begin so, sorted; at most `limit` of those that stand behind `after`."""

    def newest(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> Sequence[tuple[Entry, Mapping[str, int]]]:
        """The newest version of each of these names, with all aliases of the name and where they stand."""

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> Sequence[Entry]:
        """The versions of a name, from the first to the newest; the `limit` newest of those below number `before`."""

    def search(
        self, conditions: Sequence[Condition], *, after: tuple[str, int] | None = None, limit: int | None = None
    ) -> Sequence[Entry]:
        """The versions that meet all conditions, by name and number; at most `limit` of those behind (name, number)."""

    def manifest(self, digest: str) -> Manifest:
        """The manifest with this digest. Raises CorruptAdapter where it is missing or changed."""

    def folder(self, digest: str) -> Path:
        """A local folder with the files of a manifest, to be read and never written; the caller checks them.

        A store that is elsewhere downloads what is not here yet (`blobs.BlobStore.tree`). Raises SourceError where it cannot.
        """

    def move_alias(self, name: str, alias: str, number: int | None, expected: int | None, event: Event) -> None:
        """Point an alias at a version, or take it away (None).

        `expected` is where it must stand now (0: nowhere, None: anywhere). Raises RegistryError where it does not.
        """

    def tag(self, name: str, number: int, tags: Mapping[str, str | None], event: Event) -> None:
        """Set a version's tags, or take away those that are None."""

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> Sequence[Event]:
        """The audit log of a name; at most `limit` lines of those behind the first `skip`."""

    def problems(self) -> Sequence[str]:
        """What is wrong with the store itself, apart from the versions' folders; a sentence each."""

    def gc(self) -> int:
        """Remove what no version uses, such as what a killed publish left; the bytes that were freed."""

    def close(self) -> None:
        """Let go of what this thread holds open; the next use opens it again."""


def check_expected_version(name: str, alias: str, before: int | None, expected: int | None) -> None:
    """The comparison of compare-and-swap.

    before    the version that the alias stands at; None where it does not exist
    expected  where it must stand (0: nowhere, None: anywhere)

    Raises RegistryError that says where it stands.
    """
    if expected is None or (before or 0) == expected:
        return
    now = f"stands at version {before}" if before else "does not exist"
    was = f"at version {expected}" if expected else "not to exist"
    raise RegistryError(
        f"{name}@{alias} {now}; it was expected {was}. Somebody else moved it: look at its history, then try again."
    )


def part_of(log: Sequence[Event], skip: int, limit: int | None, newest_first: bool) -> list[Event]:
    """What `Store.history` gives, of a log that was read whole, oldest first."""
    lines = log[::-1] if newest_first else log
    return list(lines[skip : None if limit is None else skip + limit])


def canonical_json(manifest: Manifest) -> bytes:
    """The manifest as canonical JSON: sorted keys, no spaces, ASCII."""
    plain = {path: {"sha256": file.sha256, "size": file.size} for path, file in manifest.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def manifest_digest(manifest: Manifest) -> str:
    """SHA-256 of the canonical JSON, in hex: the digest of a version."""
    return hashlib.sha256(canonical_json(manifest)).hexdigest()
