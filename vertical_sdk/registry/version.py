"""A published version, and the summary of a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from vertical_sdk.card import Card, read_card
from vertical_sdk.registry.store import Manifest
from vertical_sdk.types import REPORTED

__all__ = ["Summary", "Version"]


@dataclass(frozen=True)
class Version:
    """A published version. Only its aliases and tags can change."""

    name: str
    number: int
    digest: str
    """SHA-256 of its manifest. Equal digests mean equal files."""
    created: str
    who: str = ""
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The searchable facts: task, base, domain, language, license, source, ... (`registry.query.FACTS`)."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The values of the specialist, members included, on the test rows."""
    metric: str | None = None
    """The metric of the gate, or the first metric of the recipe."""
    gate: str = "ungated"
    """The gate result at publishing: "passed", "non-inferior", "ungated" (`gate: false`), or, if forced, "failed" or "not evaluated"."""
    forced: bool = False
    """Whether it was published against its gate."""
    reason: str = ""
    revoked: str | None = None
    """Why it was revoked; None if it was not."""
    purged: str | None = None
    """Why its files were removed; None if they were not. It cannot be loaded."""
    replayed: str | None = None
    """Who loaded it with its base and replayed its self-tests, and when; None if no user has. Until then, all results are reported by
    the publisher."""
    signatures: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Fingerprint of a key → the signature, as `model-signing` writes it."""
    folder: Callable[[], Path] = field(default=Path, repr=False, compare=False)
    read_manifest: Callable[[], Manifest] = field(default=dict, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"

    @property
    def vouched(self) -> str:
        """Who vouches for its results, in words."""
        return REPORTED if self.replayed is None else f"{REPORTED}; self-tests replayed by {self.replayed}"

    @cached_property
    def path(self) -> Path:
        """A folder to load from (`PeftModel.from_pretrained(model, version.path)`). Never write to it.

        A remote registry downloads missing files. Raises SourceError if it cannot.
        """
        return self.folder()

    @cached_property
    def manifest(self) -> Manifest:
        """Path → SHA-256 and size of each of its files. Its own digest is `digest`. Raises CorruptAdapter."""
        return self.read_manifest()

    def to_dict(self) -> dict[str, Any]:
        """All fields except the files, as plain data."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in {"folder", "read_manifest", "signatures"}}
        return {"reference": str(self), **shown, "signed_by": sorted(self.signatures)}

    @property
    def card(self) -> Card:
        """Read the adapter's card. Raises CorruptAdapter."""
        return read_card(self.path)


@dataclass(frozen=True)
class Summary:
    """A name in a registry and its newest version."""

    name: str
    newest: int
    aliases: Mapping[str, int]
    """Alias → the version that it points at."""
    task: str
    base: str
    metric: str | None
    """The metric of the gate; `value` is the adapter's value, None if it was not evaluated."""
    value: float | None
    created: str
    gate: str = "ungated"
    """The gate result of the newest version, as in `Version`."""
    forced: bool = False
    revoked: str | None = None
    """Why the newest version was revoked; None if it was not."""
