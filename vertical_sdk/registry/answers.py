"""Comparing the answers of a store with the question: a server may be wrong or hostile, and a folder may be damaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vertical_sdk.errors import SourceError
from vertical_sdk.registry.query import Condition
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.store import Entry, Event, matches

__all__ = ["check_found", "check_history", "check_matching", "check_newest", "check_versions"]


def check_found(wanted: Reference, entries: Sequence[Entry], where: str) -> Sequence[Entry]:
    """Return the entries that a store found for a reference. Raises SourceError if one has another name, number, digest or alias."""
    for entry in entries:
        fits = (
            entry.name == wanted.name
            and wanted.version in {None, entry.number}
            and (wanted.digest is None or entry.digest.startswith(wanted.digest))
            and (wanted.alias is None or wanted.alias in entry.aliases)
        )
        if not fits:
            aliases = f", aliases {', '.join(entry.aliases)}" if entry.aliases else ""
            raise _wrong(
                f"{wanted} was requested, and", f"{entry.name}@{entry.number} (sha256:{entry.digest[:16]}…{aliases})", where
            )
    if len({entry.digest for entry in entries}) != len(entries):
        raise _wrong(f"{wanted} was requested, and", "the same version twice", where)
    return entries


def check_versions(
    name: str, entries: Sequence[Entry], where: str, *, before: int | None = None, limit: int | None = None
) -> Sequence[Entry]:
    """Return the versions that a store lists of a name. Raises SourceError for another name, a wrong order or a number out of range."""
    last = 0
    for entry in entries:
        if entry.name != name or entry.number <= last or (before is not None and entry.number >= before):
            raise _wrong(f"versions of {name} were requested, and", f"{entry.name}@{entry.number}", where)
        last = entry.number
    if limit is not None and len(entries) > limit:
        raise _wrong(f"{limit} versions of {name} were requested, and", f"{len(entries)}", where)
    return entries


def check_newest(entries: Iterable[Entry], prefix: str, after: str, where: str) -> None:
    """Check a list of names with their newest versions. Raises SourceError for a name without the prefix, or in a wrong order."""
    last = after
    for entry in entries:
        if not entry.name.startswith(prefix) or entry.name <= last:
            raise _wrong(f"names with the prefix {prefix!r} after {last!r} were requested, and", entry.name, where)
        last = entry.name


def check_matching(
    conditions: Sequence[Condition], entries: Sequence[Entry], where: str, *, after: tuple[str, int] | None = None
) -> Sequence[Entry]:
    """Return the versions that a store found for conditions. Raises SourceError for one that does not meet them, or a wrong order."""
    last = after or ("", 0)
    for entry in entries:
        if (entry.name, entry.number) <= last or not matches(entry, conditions):
            asked = ", ".join(f"{condition.key}{condition.test}{condition.value}" for condition in conditions) or "all versions"
            raise _wrong(f"{asked} after {last[0]}@{last[1]} was searched, and", f"{entry.name}@{entry.number}", where)
        last = entry.name, entry.number
    return entries


def check_history(name: str, events: Sequence[Event], where: str) -> Sequence[Event]:
    """Return the lines that a store read from the log of a name. Raises SourceError for a line of another name."""
    for event in events:
        if event.name != name:
            raise _wrong(f"the log of {name} was requested, and", f"a line of {event.name}", where)
    return events


def _wrong(asked: str, answer: str, where: str) -> SourceError:
    return SourceError(
        f"{asked} the registry answered with {answer}. Do not use it: check the address, and run `vertical registry verify` on its machine.",
        where=where,
    )
