"""Taking an alias back to where it stood before."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.references import check_alias
from vertical_sdk.registry.store import Event

if TYPE_CHECKING:
    from vertical_sdk.registry.registry import Registry

__all__ = ["ROLLBACK", "Move", "rollback"]

ROLLBACK = "rollback"
"""What the log calls it."""


@dataclass(frozen=True)
class Move:
    """An alias that was moved: from version `before` to version `after`, past versions that were revoked."""

    name: str
    alias: str
    before: int
    after: int
    skipped: tuple[int, ...] = ()


def rollback(registry: Registry, name: str, alias: str, *, why: str = "") -> Move:
    """Point an alias at the version that held it before the present one was put there, as the log tells.

    A rollback after a rollback goes one further back and never forward, as what was rolled back from was bad: after 1, 2, 3 the
    first leads to 2, the second to 1. To go forward, promote again. Versions that were revoked since are passed over.

    The alias moves only if it still stands where it stood when the log was read. Raises RegistryError where there is no such alias,
    nothing is left to go back to, the version there is not signed as the policy asks, or somebody moved the alias meanwhile;
    CorruptAdapter where that version's files have changed.
    """
    check_alias(alias, name)
    here = registry.resolve(f"{name}@{alias}", check=False).number
    line = _line(registry.history(name), alias)
    if line and line[-1] != here:
        raise RegistryError(
            f"{name}@{alias} stood at version {here}, and the log leaves it at {line[-1]}. Somebody moved it just now: look at its "
            "history, then try again. If nobody did, run `vertical registry verify`."
        )
    skipped: list[int] = []
    for number in reversed(line[:-1]):
        if number == here or number in skipped:
            continue
        if registry.resolve(f"{name}@{number}", check=False).revoked is not None:
            skipped.append(number)
            continue
        registry.resolve(f"{name}@{number}")  # what cannot be loaded is no place to go back to
        evidence = json.dumps({"from": here, "to": number, "skipped_as_revoked": skipped})
        registry.set_alias(name, alias, number, expected=here, why=why, evidence=evidence, action=ROLLBACK)
        return Move(name, alias, here, number, tuple(skipped))
    but = f" but at {', '.join(map(str, skipped))}, revoked since" if skipped else ""
    raise RegistryError(
        f"{name}@{alias} cannot go back: before version {here} it stood nowhere{but}. Point it at a version with "
        "`vertical registry alias`."
    )


def _line(events: Iterable[Event], alias: str) -> list[int]:
    """Where an alias came to stand one after the other, without what was rolled back; where it stands now is the last."""
    line: list[int] = []
    for event in events:
        if event.alias != alias or event.after is None:
            continue
        if event.action == ROLLBACK and event.after in line:
            while line[-1] != event.after:
                line.pop()
        elif not line or line[-1] != event.after:
            line.append(event.after)
    return line
