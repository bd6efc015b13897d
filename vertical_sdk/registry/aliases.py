"""Rolling an alias back to the version that it pointed at before."""

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
"""The action in the log."""


@dataclass(frozen=True)
class Move:
    """An alias that was moved from version `before` to version `after`. `skipped` are revoked and purged versions between them."""

    name: str
    alias: str
    before: int
    after: int
    skipped: tuple[int, ...] = ()


def rollback(registry: Registry, name: str, alias: str, *, force: bool = False, why: str = "") -> Move:
    """Point an alias at the version that it pointed at before the current one, as recorded in the log.

    A second rollback goes one version further back and never forward, because the version rolled back from was bad: after 1, 2, 3
    the first rollback leads to 2, the second to 1. To go forward, promote again. Versions revoked or purged since then are skipped.

    force  roll back to a version that did not pass its gate; `why` must then say why

    The alias moves only if no one else moved it after the log was read. Raises GateFailed if that version did not pass its gate;
    RegistryError if there is no such alias, if there
    is no earlier version, if that version lacks a signature that the policy requires, or if the alias was moved in the meantime;
    CorruptAdapter if that version's files have changed.
    """
    check_alias(alias, name)
    current = registry.resolve(f"{name}@{alias}", check=False).number
    path = _alias_path(registry.history(name), alias)
    if path and path[-1] != current:
        raise RegistryError(
            f"{name}@{alias} points at version {current}, but the log says {path[-1]}. Another process may have moved it just now: "
            "read its history, then try again. If no one moved it, run `vertical registry verify`."
        )
    skipped: list[int] = []
    for number in reversed(path[:-1]):
        if number == current or number in skipped:
            continue
        version = registry.resolve(f"{name}@{number}", check=False)
        if version.revoked is not None or version.purged is not None:
            skipped.append(number)
            continue
        registry.resolve(f"{name}@{number}")  # raises if that version cannot be loaded
        evidence = json.dumps({"from": current, "to": number, "skipped_as_revoked": skipped})
        registry.set_alias(name, alias, number, expected=current, force=force, why=why, evidence=evidence, action=ROLLBACK)
        return Move(name, alias, current, number, tuple(skipped))
    revoked = (
        f" except {', '.join(map(str, skipped))}, which {'was' if len(skipped) == 1 else 'were'} revoked" if skipped else ""
    )
    raise RegistryError(
        f"{name}@{alias} cannot be rolled back: it pointed at no version before {current}{revoked}. Choose a version with "
        "`vertical registry alias`."
    )


def _alias_path(events: Iterable[Event], alias: str) -> list[int]:
    """The versions that an alias pointed at, in order and without those rolled back from; the last is the current one."""
    path: list[int] = []
    for event in events:
        if event.alias != alias or event.after is None:
            continue
        if event.action.startswith(ROLLBACK) and event.after in path:
            while path[-1] != event.after:
                path.pop()
        elif not path or path[-1] != event.after:
            path.append(event.after)
    return path
