"""Copying versions between two registries of any kind, byte for byte, with publisher, time and metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from vertical_sdk.card import read_card
from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.registry.policy import check_licenses
from vertical_sdk.registry.references import Reference, check_name
from vertical_sdk.registry.registry import REVOKED, SIGNATURE, Registry
from vertical_sdk.registry.store import Entry, Manifest
from vertical_sdk.registry.tree import tree_problems
from vertical_sdk.types import Progress, silent

__all__ = ["CopiedAlias", "CopiedVersion", "CopyReport", "Origin", "copy_from", "copy_versions"]

USER = re.compile(r"//[^/@]*@")
"""User and password in an address, which are kept out of the log."""


class Origin(Protocol):
    """A source of versions: a store, or a bundle (`registry.bundle`)."""

    def names(self) -> Sequence[str]:
        """All names, sorted."""

    def versions(self, name: str) -> Sequence[Entry]:
        """The versions of a name, oldest first."""

    def manifest(self, digest: str) -> Manifest:
        """The manifest with this digest. Raises CorruptAdapter."""

    def folder(self, digest: str) -> Path:
        """A folder with its files, which exists until the next call; the caller checks them."""


@dataclass(frozen=True, slots=True)
class CopiedVersion:
    """A version that was copied: its number in the source and in the target, and whether it is new in the target."""

    name: str
    before: int
    after: int
    digest: str
    new: bool

    def __str__(self) -> str:
        return f"{self.name}@{self.before}" + (f" → {self.after}" if self.after != self.before else "")


@dataclass(frozen=True, slots=True)
class CopiedAlias:
    """An alias that was copied.

    version   the number in the target of the version that the alias points at in the source
    outcome   "set", "moved", "unchanged", or "conflict": the alias points at another version in the target and was not moved
    previous  the version that it pointed at in the target before; None if it did not exist
    """

    name: str
    alias: str
    version: int
    outcome: Literal["set", "moved", "unchanged", "conflict"]
    previous: int | None = None


@dataclass(frozen=True, slots=True)
class CopyReport:
    """The versions and aliases that were copied, in order."""

    versions: tuple[CopiedVersion, ...] = ()
    aliases: tuple[CopiedAlias, ...] = ()

    @property
    def conflicts(self) -> tuple[CopiedAlias, ...]:
        """The aliases that point at other versions in the target and were not moved."""
        return tuple(alias for alias in self.aliases if alias.outcome == "conflict")


@dataclass
class _Work:
    origin: Origin
    title: str
    """The name of the origin in the log."""
    target: Registry
    numbers: dict[tuple[str, int], int] = field(default_factory=dict)
    """Name and number in the source → number in the target."""


def copy_versions(
    source: Registry,
    target: Registry,
    names: Sequence[str] = (),
    *,
    overwrite_aliases: bool = False,
    progress: Progress = silent,
) -> CopyReport:
    """Copy versions with their aliases, tags, signatures and revocations from one registry to another.

    names              only these; all if empty
    overwrite_aliases  move aliases that point at other versions in the target; otherwise they are not moved and reported

    Versions are copied oldest first, so they get the same numbers in an empty target; if the target already has versions of the name,
    they get the next numbers. A version that the target already has only gets its missing tags, so an interrupted copy can simply be
    run again. Both registries must be trusted: the metadata of a version (its gate result, whether it was forced) is copied
    unchanged. A bundle from an untrusted source gets the checks of a publish (`registry.bundle.unbundle`).

    Raises RegistryError if a name is not in the source, if both are the same registry, or if the target's policy refuses a licence;
    CorruptAdapter if a file in the source has changed; RunError or SourceError if one of them cannot be reached.
    """
    if source.location == target.location:
        raise RegistryError("a registry cannot be copied to itself. Choose another target.", where=source.location)
    return copy_from(source.store, source.location, target, names, overwrite_aliases=overwrite_aliases, progress=progress)


def copy_from(
    origin: Origin,
    title: str,
    target: Registry,
    names: Sequence[str] = (),
    *,
    overwrite_aliases: bool = False,
    progress: Progress = silent,
) -> CopyReport:
    """Copy versions as `copy_versions` does, from any origin; `title` is its name in the log."""
    known = list(origin.names())
    missing = sorted({check_name(name) for name in names} - set(known))
    if missing:
        available = (", ".join(known[:10]) + (", …" if len(known) > 10 else "")) or "no adapters"
        raise RegistryError(f"{title}: has no adapter called {', '.join(missing)}. It has {available}.")
    work = _Work(origin, USER.sub("//", title), target)
    versions: list[CopiedVersion] = []
    aliases: list[CopiedAlias] = []
    for name in [name for name in known if name in names or not names]:
        entries = origin.versions(name)
        for place, entry in enumerate(entries):
            progress(f"copying {name}", place / len(entries))
            versions.append(_copy_version(work, entry))
        for entry in entries:
            aliases += [_copy_alias(work, entry, alias, overwrite=overwrite_aliases) for alias in entry.aliases]
    return CopyReport(tuple(versions), tuple(aliases))


def _copy_version(work: _Work, entry: Entry) -> CopiedVersion:
    """Copy a version. If the target has it, copy only the tags set since then, such as a signature or a revocation."""
    name, store = entry.name, work.target.store
    existing = store.find(Reference(name, digest=entry.digest))
    copied = existing[0] if existing else _put(work, entry)
    missing = {key: value for key, value in entry.tags.items() if key not in copied.tags}
    if missing:
        action = "revoke" if REVOKED in missing else "tag"
        evidence = json.dumps({key: value for key, value in missing.items() if not key.startswith(SIGNATURE)}, sort_keys=True)
        why = f"{missing.get(REVOKED, '')} ({_describe_origin(work, entry)})".strip()
        store.tag(name, copied.number, missing, work.target.new_event(name, action, why=why, evidence=evidence))
    work.numbers[name, entry.number] = copied.number
    return CopiedVersion(name, entry.number, copied.number, entry.digest, new=not existing)


def _put(work: _Work, entry: Entry) -> Entry:
    """Publish a version in the target as it was published in the source, and log that it is a copy."""
    manifest, folder = work.origin.manifest(entry.digest), work.origin.folder(entry.digest)
    problems = tree_problems(folder, manifest)
    if problems:
        raise CorruptAdapter(
            f"{work.title}: {entry.name}@{entry.number}: {'; '.join(problems)}. Repair it in the source, then copy it again."
        )
    if work.target.policy.licenses:
        check_licenses(read_card(folder), work.target.policy.licenses)
    now = work.target.new_event(entry.name, "publish by force" if entry.record.get("forced") else "publish")
    copied = {"from": work.title, "version": entry.number, "at": now.at, "by": now.who}
    reason = entry.record.get("reason")
    event = replace(
        now,
        at=entry.created,
        who=entry.who,
        why=f"{_describe_origin(work, entry)} by {now.who}, {now.at[:19]}" + (f": {reason}" if reason else ""),
        evidence=json.dumps({"copied": copied}, sort_keys=True),
    )
    files = {path: folder / path for path in manifest}
    return work.target.store.put(entry.name, files, manifest, record=entry.record, tags=entry.tags, event=event)


def _copy_alias(work: _Work, entry: Entry, alias: str, *, overwrite: bool) -> CopiedAlias:
    """Point an alias of the target at the copied version, unless it points at another one and may not be moved."""
    number = work.numbers[entry.name, entry.number]
    existing = work.target.store.find(Reference(entry.name, alias=alias))
    previous = existing[0].number if existing else None
    if previous == number:
        return CopiedAlias(entry.name, alias, number, "unchanged", previous)
    if previous is not None and not overwrite:
        return CopiedAlias(entry.name, alias, number, "conflict", previous)
    forced = work.target.policy.needs_force(alias, entry.record.get("gate", ""))  # in the source too, whose log says why
    work.target.set_alias(entry.name, alias, number, expected=previous or 0, force=forced, why=_describe_origin(work, entry))
    return CopiedAlias(entry.name, alias, number, "set" if previous is None else "moved", previous)


def _describe_origin(work: _Work, entry: Entry) -> str:
    return f"copied from {work.title} ({entry.name}@{entry.number})"
