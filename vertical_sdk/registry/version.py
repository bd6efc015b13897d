"""What a registry answers with: a version, and a line of its list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from vertical_sdk.card import Card, read_card

__all__ = ["Summary", "Version"]


@dataclass(frozen=True)
class Version:
    """A published version. Only its aliases and tags may be others the next time."""

    name: str
    number: int
    digest: str
    """SHA-256 of its manifest: equal digests are equal files."""
    created: str
    who: str = ""
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What can be searched: task, base, domain, language, license, source, ... (`registry.query.FACTS`)."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Its values on the test rows, as a whole."""
    metric: str | None = None
    """The one of them that its gate looks at, or that was asked for first."""
    gate: str = "no gate"
    """What the gate said when it was published: "passed", "no gate", or, if forced, "failed" or "not evaluated"."""
    forced: bool = False
    """It was published against its gate."""
    reason: str = ""
    revoked: str | None = None
    """Why it was revoked; None where it was not."""
    signatures: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Fingerprint of a key → the signature, as `model-signing` writes it."""
    folder: Callable[[], Path] = field(default=Path, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"

    @cached_property
    def path(self) -> Path:
        """A folder to load from (`PeftModel.from_pretrained(model, version.path)`) and never to write to.

        A registry that is elsewhere is asked for the files that are not here yet. Raises SourceError where they cannot be had.
        """
        return self.folder()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the files, as plain data."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in {"folder", "signatures"}}
        return {"reference": str(self), **shown, "signed_by": sorted(self.signatures)}

    @property
    def card(self) -> Card:
        """The adapter's card, read anew. Raises CorruptAdapter."""
        return read_card(self.path)


@dataclass(frozen=True)
class Summary:
    """A name in a registry, with what its newest version is."""

    name: str
    newest: int
    aliases: Mapping[str, int]
    """Alias → the version that it stands at."""
    task: str
    base: str
    metric: str | None
    """The metric that the gate looks at, and the adapter's value; None where it was not evaluated."""
    value: float | None
    created: str
    forced: bool = False
    revoked: str | None = None
    """Why the newest version was revoked; None where it was not."""
