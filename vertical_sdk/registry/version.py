"""What a registry answers with: a version, and a line of its list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vertical_sdk.card import Card, read_card

__all__ = ["Summary", "Version"]


@dataclass(frozen=True)
class Version:
    """A published version. Only its aliases and tags may be others the next time."""

    name: str
    number: int
    digest: str
    """SHA-256 of its manifest: equal digests are equal files."""
    path: Path
    """A folder to load from (`PeftModel.from_pretrained(model, version.path)`) and never to write to."""
    created: str
    who: str = ""
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    gate: str = "no gate"
    """What the gate said when it was published: "passed", "no gate", or, if forced, "failed" or "not evaluated"."""
    forced: bool = False
    """It was published against its gate."""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"

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
