"""Copying versions between two registries of any kind, byte for byte, with publisher, time, metadata and the log of aliases."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from vertical_sdk.card import read_card
from vertical_sdk.errors import CorruptAdapter, MissingExtra, RegistryError, VerticalError
from vertical_sdk.json_text import parse_json
from vertical_sdk.paths import hide_addresses
from vertical_sdk.registry.answers import check_found, check_versions
from vertical_sdk.registry.checks import check_text_sizes
from vertical_sdk.registry.policy import check_licenses
from vertical_sdk.registry.references import Reference, check_name
from vertical_sdk.registry.registry import Registry
from vertical_sdk.registry.revocations import read_revocation
from vertical_sdk.registry.signature_check import MOST, check_new_signature, find_invalid
from vertical_sdk.registry.store import BY_FORCE, PURGED, REPLAYED, REVOCATION, REVOKED, SIGNATURE, Entry, Event, Manifest
from vertical_sdk.registry.tree import tree_problems
from vertical_sdk.registry.version import Version
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

    def history(self, name: str) -> Sequence[Event]:
        """The log of a name, oldest first; empty if it has none, as a bundle."""


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
    """The versions and aliases that were copied, in order, and notes: what was left out and why, and what was purged."""

    versions: tuple[CopiedVersion, ...] = ()
    aliases: tuple[CopiedAlias, ...] = ()
    notes: tuple[str, ...] = ()

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
    believe: bool = True
    """Whether the users and times that the origin states go into the log as facts."""
    overwrite: bool = False
    """Whether aliases that point at other versions in the target are moved."""
    notes: list[str] = field(default_factory=list)


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

    The log of an alias is copied as well: every move, with its author, time and reason. An alias that exists in the target gets the
    moves since the last copy if `overwrite_aliases` is set and no one else moved it there.

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
    believe: bool = True,
    overwrite_aliases: bool = False,
    progress: Progress = silent,
) -> CopyReport:
    """Copy versions as `copy_versions` does, from any origin.

    title    its name in the log
    believe  log its users and times as facts; otherwise the user of the target publishes now, and the log says whom the origin names
    """
    known = list(origin.names())
    missing = sorted({check_name(name) for name in names} - set(known))
    if missing:
        available = (", ".join(known[:10]) + (", …" if len(known) > 10 else "")) or "no adapters"
        raise RegistryError(f"{title}: has no adapter called {', '.join(missing)}. It has {available}.")
    work = _Work(origin, hide_addresses(USER.sub("//", title)), target, believe=believe, overwrite=overwrite_aliases)
    versions: list[CopiedVersion] = []
    aliases: list[CopiedAlias] = []
    for name in [name for name in known if name in names or not names]:
        entries = check_versions(name, origin.versions(name), work.title)
        for place, entry in enumerate(entries):
            progress(f"copying {name}", place / len(entries))
            copied = _copy_version(work, entry)
            versions += [copied] if copied is not None else []
        aliases += _copy_aliases(work, name, entries)
    return CopyReport(tuple(versions), tuple(aliases), tuple(work.notes))


def _copy_version(work: _Work, entry: Entry) -> CopiedVersion | None:
    """Copy a version. If the target has it, copy only the tags set since then, such as a signature or a revocation.

    None means that it was purged in the source, and now in the target; or in the target, which then does not get it again.
    """
    name, store = entry.name, work.target.store
    entry = replace(entry, tags={key: value for key, value in entry.tags.items() if key != REPLAYED})  # not replayed there
    wanted = Reference(name, digest=entry.digest)
    existing = check_found(wanted, store.find(wanted), work.target.location)
    if PURGED in entry.tags:
        _copy_purge(work, entry, existing)
        return None
    if existing and PURGED in existing[0].tags:
        reason = existing[0].tags[PURGED]
        work.notes.append(f"{entry.name}@{entry.number} was not copied, because the target purged its content: {reason}.")
        return None
    copied = existing[0] if existing else _put(work, entry)
    missing = _select_tags(work, entry, copied.tags) if existing else {}
    if missing:
        action = "revoke" if any(key.startswith((REVOKED, REVOCATION)) for key in missing) else "tag"
        why = f"{missing.get(REVOKED, '')} ({_describe_origin(work, entry)})".strip()
        store.tag(name, copied.number, missing, work.target.new_event(name, action, why=why))
    work.numbers[name, entry.number] = copied.number
    return CopiedVersion(name, entry.number, copied.number, entry.digest, new=not existing)


def _copy_purge(work: _Work, entry: Entry, existing: Sequence[Entry]) -> None:
    """Purge a version in the target that was purged in the source."""
    for version in existing:
        if PURGED in version.tags:
            continue
        reference = f"{version.name}@{version.number}"
        try:
            work.target.purge(reference, f"{entry.tags[PURGED]} ({_describe_origin(work, entry)})")
        except VerticalError as error:
            work.notes.append(f"{reference} was purged in the source, but not in the target: {error.message}")
        else:
            work.notes.append(f"{reference} was purged, as in the source: {entry.tags[PURGED]}.")


def _select_tags(work: _Work, entry: Entry, existing: Mapping[str, str]) -> dict[str, str]:
    """Select the tags that the target does not have. Signatures and signed revocations that are not valid are left out, with a note."""
    tags = {key: value for key, value in entry.tags.items() if key not in existing}
    changed = {k: v for k, v in entry.tags.items() if k.startswith(SIGNATURE) and existing.get(k, v) != v}
    manifest = work.origin.manifest(entry.digest) if any(key.startswith(SIGNATURE) for key in [*tags, *changed]) else {}
    tags |= {key: value for key, value in changed.items() if _is_invalid(existing[key], key, manifest)}
    refused = {key: problem for key in sorted(tags) if (problem := _signed_tag_problem(work, entry, key, manifest))}
    spare = sum(key.startswith(SIGNATURE) for key in {*existing, *(tags.keys() - refused.keys())}) - MOST
    new = sorted(key for key in tags.keys() - refused.keys() if key.startswith(SIGNATURE) and key not in existing)
    refused |= dict.fromkeys(new[: max(spare, 0)], f"at most {MOST} signatures are stored.")
    work.notes += [f"{entry.name}@{entry.number}: its tag {key} was left out: {problem}" for key, problem in refused.items()]
    return {key: value for key, value in tags.items() if key not in refused}


def _signed_tag_problem(work: _Work, entry: Entry, key: str, manifest: Manifest) -> str:
    """What is wrong with a signature or a signed revocation; "" for a valid one, and for any other tag."""
    text, made_by = entry.tags[key], key.rpartition(".")[2]
    try:
        if key.startswith(SIGNATURE):
            folder = partial(work.origin.folder, entry.digest)
            version = Version(entry.name, entry.number, entry.digest, entry.created, folder=folder)
            check_new_signature(version, made_by, text, manifest, work.target.policy)
        elif key.startswith(REVOCATION) and read_revocation(text, entry.digest)[0] != made_by:
            return "another key signed it."
    except VerticalError as error:
        return error.message
    return ""


def _is_invalid(text: str, key: str, manifest: Manifest) -> bool:
    """Whether the signature that the target has is one that a valid one may replace."""
    try:
        return bool(find_invalid(text, key.removeprefix(SIGNATURE), manifest))
    except MissingExtra:
        return False


def _put(work: _Work, entry: Entry) -> Entry:
    """Publish a version in the target as it was published in the source, and log that it is a copy."""
    manifest, folder = work.origin.manifest(entry.digest), work.origin.folder(entry.digest)
    problems = tree_problems(folder, manifest)
    if problems:
        raise CorruptAdapter(
            f"{work.title}: {entry.name}@{entry.number}: {'; '.join(problems)}. Repair it in the source, then copy it again."
        )
    check_text_sizes(manifest, work.title)
    if work.target.policy.licenses:
        check_licenses(read_card(folder), work.target.policy.licenses)
    now = work.target.new_event(entry.name, "publish by force" if entry.record.get("forced") else "publish")
    copied: dict[str, Any] = {"from": work.title, "version": entry.number, "at": now.at, "by": now.who}
    reason = entry.record.get("reason")
    if work.believe:
        now = replace(now, at=entry.created, who=entry.who)
        how = f" by {copied['by']}, {copied['at'][:19]}"
    else:
        how = f", which says: published by {entry.who}, {entry.created[:19]}"
    event = replace(
        now,
        why=f"{_describe_origin(work, entry)}{how}" + (f": {reason}" if reason else ""),
        evidence=json.dumps({"copied": copied}, sort_keys=True),
    )
    tags = _select_tags(work, entry, {})
    folder = work.origin.folder(entry.digest)  # a bundle's folder exists until the next one
    files = {path: folder / path for path in manifest}
    return work.target.store.put(entry.name, files, manifest, record=entry.record, tags=tags, event=event)


def _copy_aliases(work: _Work, name: str, entries: Sequence[Entry]) -> list[CopiedAlias]:
    """Copy the log of the aliases of a name, and point them at the copied versions."""
    before = {alias: entry.number for entry in work.target.store.versions(name) for alias in entry.aliases}
    _copy_moves(work, name, {entry.number: entry.record.get("gate", "") for entry in entries}, before)
    copied = [entry for entry in entries if (name, entry.number) in work.numbers]
    return [_copy_alias(work, entry, alias, before.get(alias)) for entry in copied for alias in entry.aliases]


def _copy_moves(work: _Work, name: str, gates: Mapping[int, str], existing: Mapping[str, int]) -> None:
    """Repeat the moves of aliases in the target, as far as its log of an alias is the beginning of the source's.

    gates     version in the source → its gate result
    existing  alias → the version that it points at in the target
    """
    theirs = [event for event in work.origin.history(name) if event.alias and event.before != event.after]
    ends = [(event.alias, number) for event in theirs for number in (event.before, event.after) if number is not None]
    broken = {alias for alias, number in ends if (name, number) not in work.numbers}  # a version of its path was purged
    theirs = [event for event in theirs if event.alias not in broken]
    ours = [event for event in work.target.store.history(name) if event.alias and event.before != event.after]
    done: dict[str | None, int] = {}
    for alias in {event.alias for event in theirs}:
        known = [(_identify(event), event.after) for event in ours if event.alias == alias]
        wanted = [(_identify(event), _number(work, event.after, name)) for event in theirs if event.alias == alias]
        if known == wanted[: len(known)] and (work.overwrite or alias not in existing):
            done[alias] = len(known)
    places: Counter[str | None] = Counter()
    for event in theirs:
        places[event.alias] += 1
        if event.alias is not None and places[event.alias] > done.get(event.alias, len(theirs)):
            number = _number(work, event.after, name)
            expected = _number(work, event.before, name) or 0
            work.target.store.move_alias(name, event.alias, number, expected, _describe_move(work, event, gates))


def _copy_alias(work: _Work, entry: Entry, alias: str, previous: int | None) -> CopiedAlias:
    """Point an alias of the target at the copied version, unless it points at another one and may not be moved.

    previous  the version that it pointed at before the copy
    """
    number = work.numbers[entry.name, entry.number]
    existing = work.target.store.find(Reference(entry.name, alias=alias))
    current = existing[0].number if existing else None
    if current != number:
        if current is not None and not work.overwrite:
            return CopiedAlias(entry.name, alias, number, "conflict", current)
        forced = work.target.policy.needs_force(alias, entry.record.get("gate", ""))  # in the source too, whose log says why
        why = _describe_origin(work, entry)
        work.target.set_alias(entry.name, alias, number, expected=current or 0, force=forced, why=why)
    outcome: Literal["set", "moved", "unchanged"] = (
        "unchanged" if previous == number else "set" if previous is None else "moved"
    )
    return CopiedAlias(entry.name, alias, number, outcome, previous)


def _number(work: _Work, number: int | None, name: str) -> int | None:
    """The number in the target of a version of the source."""
    return None if number is None else work.numbers[name, number]


def _describe_move(work: _Work, event: Event, gates: Mapping[int, str]) -> Event:
    """A line of the log for a move that was made in the source: by its author and at its time, with a note that it is a copy."""
    now = work.target.new_event(event.name, event.action)
    at, who = _identify(event)
    evidence = {
        **_read_evidence(event),
        "copied": {"from": work.title, "at": now.at, "by": now.who, "moved_at": at, "moved_by": who},
    }
    why = f"copied from {work.title} by {now.who}, {now.at[:19]}" + (f": {event.why}" if event.why else "")
    action = event.action
    if event.after is not None and work.target.policy.needs_force(event.alias or "", gates[event.after]):
        action = action.removesuffix(BY_FORCE) + BY_FORCE
    return replace(event, action=action, before=None, after=None, why=why, evidence=json.dumps(evidence, sort_keys=True))


def _identify(event: Event) -> tuple[str, str]:
    """The time and the author of a move, also in a copy and in a copy of a copy."""
    copied = _read_evidence(event).get("copied")
    if isinstance(copied, dict) and {"moved_at", "moved_by"} <= copied.keys():
        return str(copied["moved_at"]), str(copied["moved_by"])
    return event.at, event.who


def _read_evidence(event: Event) -> dict[str, Any]:
    try:
        evidence = parse_json(event.evidence or "{}")
    except ValueError:
        evidence = event.evidence
    return evidence if isinstance(evidence, dict) else {"evidence": evidence}


def _describe_origin(work: _Work, entry: Entry) -> str:
    return f"copied from {work.title} ({entry.name}@{entry.number})"
