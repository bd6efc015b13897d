"""Copying versions between two places of any kind, byte for byte: who published them, when, and what was noted go along."""

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

__all__ = ["CopyReport", "CopiedVersion", "Origin", "CopiedAlias", "copy", "copy_from"]

USER = re.compile(r"//[^/@]*@")
"""Who asks, in an address; the log need not know a password."""


class Origin(Protocol):
    """Where versions are copied from: a store, or a file that holds some (`registry.bundle`)."""

    def names(self) -> Sequence[str]:
        """The names that there are, sorted."""

    def versions(self, name: str) -> Sequence[Entry]:
        """The versions of a name, oldest first."""

    def manifest(self, digest: str) -> Manifest:
        """The manifest with this digest. Raises CorruptAdapter."""

    def folder(self, digest: str) -> Path:
        """A folder with its files, which stands until the next one is asked for; the caller checks them."""


@dataclass(frozen=True, slots=True)
class CopiedVersion:
    """What became of a version: its number there and here, and whether it was new here."""

    name: str
    before: int
    after: int
    digest: str
    new: bool

    def __str__(self) -> str:
        return f"{self.name}@{self.before}" + (f" → {self.after}" if self.after != self.before else "")


@dataclass(frozen=True, slots=True)
class CopiedAlias:
    """What became of an alias.

    version  the version here that its version there was copied to
    became   "set" or "moved" to it, or "unchanged", or "conflict": it stands at another version here, and was left there
    stood    the version that it stood at here before; None where there was none
    """

    name: str
    alias: str
    version: int
    outcome: Literal["set", "moved", "unchanged", "conflict"]
    stood: int | None = None


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What was copied, in this order."""

    versions: tuple[CopiedVersion, ...] = ()
    aliases: tuple[CopiedAlias, ...] = ()

    @property
    def conflicts(self) -> tuple[CopiedAlias, ...]:
        """The aliases that stand at other versions here, and were left there."""
        return tuple(alias for alias in self.aliases if alias.outcome == "conflict")


@dataclass
class _Work:
    origin: Origin
    where: str
    """What the origin is called in the log."""
    target: Registry
    numbers: dict[tuple[str, int], int] = field(default_factory=dict)
    """Name and number there → number here."""


def copy(
    source: Registry,
    target: Registry,
    names: Sequence[str] = (),
    *,
    overwrite_aliases: bool = False,
    progress: Progress = silent,
) -> CopyReport:
    """Copy versions with their aliases, tags, signatures and revocations from one registry to another.

    names              only these; all, where there are none
    overwrite_aliases  move aliases that stand at other versions in the target, which are otherwise left alone and told

    Versions go oldest first, so that in an empty target they have the same numbers; where it has others of the name, they get the
    next ones. What the target has already is only given the tags that it lacks, so what was killed half way is simply run again.
    Both registries must be trusted: what is noted of a version (its gate, that it was forced) is copied as it stands. A bundle from
    somebody else is checked as a publish is (`registry.bundle.unbundle`).

    Raises RegistryError where a name is not in the source, both are the same place, or the target's policy refuses a licence;
    CorruptAdapter where a file in the source has changed; RunError, SourceError where one of them cannot be reached.
    """
    if source.location == target.location:
        raise RegistryError(f"{source.location}: cannot be copied to itself. Give another target.")
    return copy_from(source.store, source.location, target, names, overwrite_aliases=overwrite_aliases, progress=progress)


def copy_from(
    origin: Origin,
    where: str,
    target: Registry,
    names: Sequence[str] = (),
    *,
    overwrite_aliases: bool = False,
    progress: Progress = silent,
) -> CopyReport:
    """As `copy`, from anything that holds versions; `where` is what the log calls it."""
    known = list(origin.names())
    missing = sorted({check_name(name) for name in names} - set(known))
    if missing:
        has = (", ".join(known[:10]) + (", …" if len(known) > 10 else "")) or "nothing"
        raise RegistryError(f"{where}: has no adapter called {', '.join(missing)}. It has {has}.")
    work = _Work(origin, USER.sub("//", where), target)
    versions: list[CopiedVersion] = []
    aliases: list[CopiedAlias] = []
    for name in [name for name in known if name in names or not names]:
        entries = origin.versions(name)
        for place, entry in enumerate(entries):
            progress(f"copying {name}", place / len(entries))
            versions.append(_version(work, entry))
        for entry in entries:
            aliases += [_alias(work, entry, alias, overwrite=overwrite_aliases) for alias in entry.aliases]
    return CopyReport(tuple(versions), tuple(aliases))


def _version(work: _Work, entry: Entry) -> CopiedVersion:
    """Copy a version, unless it is here; then only what it was tagged with since, such as a signature or why it was revoked."""
    name, store = entry.name, work.target.store
    here = store.find(Reference(name, digest=entry.digest))
    made = here[0] if here else _put(work, entry)
    lacking = {key: value for key, value in entry.tags.items() if key not in made.tags}
    if lacking:
        action = "revoke" if REVOKED in lacking else "tag"
        told = json.dumps({key: value for key, value in lacking.items() if not key.startswith(SIGNATURE)}, sort_keys=True)
        why = f"{lacking.get(REVOKED, '')} ({_from(work, entry)})".strip()
        store.tag(name, made.number, lacking, work.target.event(name, action, why=why, evidence=told))
    work.numbers[name, entry.number] = made.number
    return CopiedVersion(name, entry.number, made.number, entry.digest, new=not here)


def _put(work: _Work, entry: Entry) -> Entry:
    """Publish it here as it was published there; that it is a copy is added to the log line."""
    manifest, folder = work.origin.manifest(entry.digest), work.origin.folder(entry.digest)
    wrong = tree_problems(folder, manifest)
    if wrong:
        raise CorruptAdapter(
            f"{work.where}: {entry.name}@{entry.number}: {'; '.join(wrong)}. Mend it there, then copy it again."
        )
    if work.target.policy.licenses:
        check_licenses(read_card(folder), work.target.policy.licenses)
    now = work.target.event(entry.name, "publish by force" if entry.record.get("forced") else "publish")
    copied = {"from": work.where, "version": entry.number, "at": now.at, "by": now.who}
    reason = entry.record.get("reason")
    event = replace(
        now,
        at=entry.created,
        who=entry.who,
        why=f"{_from(work, entry)} by {now.who}, {now.at[:19]}" + (f": {reason}" if reason else ""),
        evidence=json.dumps({"copied": copied}, sort_keys=True),
    )
    files = {path: folder / path for path in manifest}
    return work.target.store.put(entry.name, files, manifest, record=entry.record, tags=entry.tags, event=event)


def _alias(work: _Work, entry: Entry, alias: str, *, overwrite: bool) -> CopiedAlias:
    """Point an alias at the version here that it stands at there, if it stands nowhere here, or may be moved."""
    number = work.numbers[entry.name, entry.number]
    here = work.target.store.find(Reference(entry.name, alias=alias))
    stood = here[0].number if here else None
    if stood == number:
        return CopiedAlias(entry.name, alias, number, "unchanged", stood)
    if stood is not None and not overwrite:
        return CopiedAlias(entry.name, alias, number, "conflict", stood)
    work.target.set_alias(entry.name, alias, number, expected=stood or 0, why=_from(work, entry))
    return CopiedAlias(entry.name, alias, number, "set" if stood is None else "moved", stood)


def _from(work: _Work, entry: Entry) -> str:
    return f"copied from {work.where} ({entry.name}@{entry.number})"
