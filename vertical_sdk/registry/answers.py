"""Comparing the answers of a store with the question: a server may be wrong or hostile, and a folder may be damaged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vertical_sdk.errors import RegistryError, SourceError
from vertical_sdk.registry.query import Condition
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.store import Entry, Event, matches

__all__ = ["check_entry", "check_found", "check_history", "check_matching", "check_newest", "check_versions"]


def check_entry(entry: Entry, where: str) -> Entry:
    """Return a version of a store, if each of its values has the right type. Raises RegistryError."""
    record = entry.record
    try:
        right = (
            _are_texts([entry.name, entry.created, entry.who, *entry.aliases, *entry.tags, *entry.tags.values()])
            and type(entry.number) is int
            and _are_texts([record["gate"], record["reason"], record["task"], record["base"], *record["metrics"]])
            and all(_are_texts([key, *values]) and not isinstance(values, str) for key, values in record["facts"].items())
            and all(_is_number(value) for value in record["metrics"].values())
            and (record["metric"] is None or isinstance(record["metric"], str))
            and (record["value"] is None or _is_number(record["value"]))
            and type(record["forced"]) is bool
        )
    except (KeyError, TypeError, AttributeError):
        right = False
    if not right:
        message = f"the metadata of {entry.name}@{entry.number} are malformed. Run `vertical registry verify` on its machine."
        raise RegistryError(message, where=where)
    return entry


def check_found(wanted: Reference, entries: Sequence[Entry], where: str) -> Sequence[Entry]:
    """Return the entries that a store found for a reference. Raises SourceError if one has another name, number, digest or alias."""
    for entry in entries:
        check_entry(entry, where)
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
        check_entry(entry, where)
        if entry.name != name or entry.number <= last or (before is not None and entry.number >= before):
            raise _wrong(f"versions of {name} were requested, and", f"{entry.name}@{entry.number}", where)
        last = entry.number
    if limit is not None and len(entries) > limit:
        raise _wrong(f"{limit} versions of {name} were requested, and", f"{len(entries)}", where)
    return entries


def check_newest(newest: Iterable[tuple[Entry, Mapping[str, int]]], prefix: str, after: str, where: str) -> None:
    """Check a list of names with their newest versions. Raises SourceError for a name without the prefix, or in a wrong order."""
    last = after
    for entry, aliases in newest:
        check_entry(entry, where)
        if not _are_texts([*aliases]) or not all(type(number) is int for number in aliases.values()):
            raise RegistryError(
                f"the aliases of {entry.name} are malformed. Run `vertical registry verify` on its machine.", where=where
            )
        if not entry.name.startswith(prefix) or entry.name <= last:
            raise _wrong(f"names with the prefix {prefix!r} after {last!r} were requested, and", entry.name, where)
        last = entry.name


def check_matching(
    conditions: Sequence[Condition], entries: Sequence[Entry], where: str, *, after: tuple[str, int] | None = None
) -> Sequence[Entry]:
    """Return the versions that a store found for conditions. Raises SourceError for one that does not meet them, or a wrong order."""
    last = after or ("", 0)
    for entry in entries:
        check_entry(entry, where)
        if (entry.name, entry.number) <= last or not matches(entry, conditions):
            asked = ", ".join(f"{condition.key}{condition.test}{condition.value}" for condition in conditions) or "all versions"
            raise _wrong(f"{asked} after {last[0]}@{last[1]} was searched, and", f"{entry.name}@{entry.number}", where)
        last = entry.name, entry.number
    return entries


def check_history(name: str, events: Sequence[Event], where: str) -> Sequence[Event]:
    """Return the lines that a store read from the log of a name. Raises SourceError for a line of another name."""
    for event in events:
        texts = [event.at, event.who, event.name, event.action, event.why, event.evidence, event.alias or ""]
        if not _are_texts(texts) or not all(type(number or 0) is int for number in (event.before, event.after)):
            raise RegistryError(f"the log of {name} is malformed. Run `vertical registry verify` on its machine.", where=where)
        if event.name != name:
            raise _wrong(f"the log of {name} was requested, and", f"a line of {event.name}", where)
    return events


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_number(value: Any) -> bool:
    return type(value) in {int, float} and math.isfinite(value)


def _wrong(asked: str, answer: str, where: str) -> SourceError:
    return SourceError(
        f"{asked} the registry answered with {answer}. Do not use it: check the address, and run `vertical registry verify` on its machine.",
        where=where,
    )
