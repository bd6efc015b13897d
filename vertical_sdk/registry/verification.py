"""Checking everything in a registry: each problem is a sentence, and none ends the check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec, Protocol, TypeVar

from vertical_sdk.errors import VerticalError
from vertical_sdk.registry.checks import build_record
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.revocations import read_revocation
from vertical_sdk.registry.store import REVOCATION, Store
from vertical_sdk.registry.tree import tree_problems
from vertical_sdk.registry.version import Version

__all__ = ["read_all", "version_problems"]

P = ParamSpec("P")
T = TypeVar("T")
MANY = 100_000
"""The most versions of a name that are read one by one."""


class Readable(Protocol):
    """What is checked: a Registry."""

    store: Store

    def versions(self, name: str) -> Sequence[Version]:
        """List the versions of a name."""

    def resolve(self, reference: str, *, check: bool = True) -> Version:
        """Find the version of a reference."""


def read_all(registry: Readable) -> tuple[list[Version], list[str]]:
    """Read all versions of all names, and list what is wrong with those that cannot be read."""
    versions: list[Version] = []
    problems: list[str] = []
    for name in registry.store.names():
        of_name, error = _attempt(registry.versions, name)
        if error is not None:
            of_name, lines = _read_one_by_one(registry, name)
            problems += lines
        versions += of_name or ()
    return versions, problems


def _read_one_by_one(registry: Readable, name: str) -> tuple[list[Version], list[str]]:
    """Read the versions of a name past those that cannot be read."""
    versions: list[Version] = []
    problems: list[str] = []
    for number in range(1, MANY):
        entries, error = _attempt(registry.store.find, Reference(name, version=number))
        if error is None and not entries:
            break
        version, refused = _attempt(registry.resolve, f"{name}@{number}", check=False)
        line = str(error or refused or "")
        if line and line in problems:  # not one version, but the whole name cannot be read
            break
        problems += [line] if line else []
        versions += [version] if version is not None else []
    return versions, problems


def version_problems(registry: Readable, version: Version) -> list[str]:
    """List the problems of one version. Every file is read again."""
    problems = _revocation_problems(registry, version)
    if version.purged is None:
        found, error = _attempt(_file_problems, registry, version)
        problems += [str(error)] if error is not None else found or []
    return [f"{version}: {line}" for line in problems]


def _file_problems(registry: Readable, version: Version) -> list[str]:
    manifest = registry.store.manifest(version.digest)
    return tree_problems(version.path, manifest, reread=True) or _record_problems(version)


def _record_problems(version: Version) -> list[str]:
    """List the searchable facts and metrics that differ from the card."""
    record = build_record(version.card, gate=version.gate, forced=version.forced, reason=version.reason)
    facts = {key: tuple(values) for key, values in record["facts"].items() if key != "language"}  # needs the vertical
    pairs = [("fact", version.facts, facts), ("metric", version.metrics, record["metrics"])]
    return [
        f"its {kind} {name} differs from its card"
        for kind, stored, expected in pairs
        for name in sorted(expected)
        if stored.get(name) != expected[name]
    ]


def _revocation_problems(registry: Readable, version: Version) -> list[str]:
    """List what is wrong with its signed revocations."""
    entries, _ = _attempt(registry.store.find, Reference(version.name, version=version.number))
    texts = [text for entry in entries or () for key, text in sorted(entry.tags.items()) if key.startswith(REVOCATION)]
    errors = [_attempt(read_revocation, text, version.digest)[1] for text in texts]
    return [error.message for error in errors if error is not None]


def _attempt(action: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> tuple[T | None, VerticalError | None]:
    """The result of an action, or its error."""
    try:
        return action(*arguments, **options), None
    except VerticalError as error:
        return None, error
